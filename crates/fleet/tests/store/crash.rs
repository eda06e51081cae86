//! A process that commits to its file is killed at any moment: what it was told is durable is there, and no batch is half
//! there.

use std::{
    collections::BTreeMap,
    env,
    io::{Write as _, stdout},
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use fleet::store::{Batch, Embedded, LEADER, Leadership, Store};
use rustix::process::Signal;
use testbed::{Directory, Running};

use crate::promises::{lead, records};

const DEADLINE: Duration = Duration::from_secs(60);
/// Names the file, in the process that is made to be killed.
const VICTIM: &str = "FWNET_STORE_VICTIM";
const TEST: &str = "crash::what_a_killed_process_was_told_is_there";
const ROUNDS: u64 = 120;
/// Records that count the batches: the same number in each.
const COUNTS: u64 = 5;
/// Places of large records, of which each batch writes one and removes one.
const LARGE: u64 = 16;

/// How many batches were committed by what is in the store; all of each or nothing of it.
async fn counted(store: &Store) -> u64 {
    let records: BTreeMap<String, String> = records(store).await.into_iter().collect();
    let Some(count) = records.get("count/0") else {
        assert!(records.is_empty(), "half a batch: {:?}", records.keys());
        return 0;
    };
    let count: u64 = count.parse().unwrap();
    let mut expected = BTreeMap::new();
    for number in 1..=count {
        expected.insert(format!("large/{}", number % LARGE), large(number));
        expected.remove(&format!("large/{}", (number + 7) % LARGE));
    }
    expected.extend((0..COUNTS).map(|place| (format!("count/{place}"), count.to_string())));
    assert_eq!(records.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    assert!(records == expected, "a record of batch {count} is not the one that was put");
    count
}

/// From nothing to many pages.
fn large(number: u64) -> String {
    format!("{number} ").repeat(usize::try_from(number * 7_919 % 10_000).unwrap())
}

async fn commit(leading: &Leadership, number: u64) {
    let count = |place: u64| (format!("count/{place}"), number.to_string().into_bytes());
    let mut batch = Batch { put: (0..COUNTS).map(count).collect(), ..Batch::default() };
    batch.put.push((format!("large/{}", number % LARGE), large(number).into_bytes()));
    batch.remove.push(format!("large/{}", (number + 7) % LARGE));
    leading.commit(&batch).await.unwrap();
}

/// Commits until it is killed, and says after each commit which it was.
async fn commit_for_ever(path: &Path) {
    let store = Store::Embedded(Embedded::open(path).await.unwrap());
    let leading = lead(&store, "victim").await;
    let first = counted(&store).await + 1;
    for number in first.. {
        commit(&leading, number).await;
        let mut out = stdout().lock();
        writeln!(out, "\ncommitted {number}").unwrap();
        out.flush().unwrap();
    }
}

/// The last batch that the victim was told of.
fn acknowledged(victim: &Running) -> Option<u64> {
    let lines = victim.lines();
    lines.iter().rev().find_map(|line| line.strip_prefix("committed ")?.parse().ok())
}

#[tokio::test]
async fn what_a_killed_process_was_told_is_there() {
    if let Some(path) = env::var_os(VICTIM) {
        return commit_for_ever(Path::new(&path)).await;
    }
    let directory = Directory::new();
    let path = directory.path().join("store.redb");
    let mut before = 0;
    for round in 0..ROUNDS {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", TEST, "--nocapture"]).env(VICTIM, &path);
        let mut victim = Running::start(command);
        if round % 10 > 0 {
            victim.wait_for_line("committed", DEADLINE);
        }
        // Any moment of a commit, which takes some milliseconds; and in one round of ten, of the opening.
        thread::sleep(Duration::from_micros(round * 7_919 % 20_000));
        victim.signal(Signal::KILL);
        victim.wait(DEADLINE);
        let told = acknowledged(&victim).unwrap_or(before);
        let store = Store::Embedded(Embedded::open(&path).await.unwrap());
        let loaded = store.load().await.unwrap();
        assert!(loaded.records.iter().all(|(key, _)| key != LEADER), "a dead leader");
        let count = counted(&store).await;
        // The last one may have become durable just before anybody was told.
        assert!(count == told || count == told + 1, "round {round}: {count} of {told}");
        assert!(told >= before, "round {round}");
        before = count;
    }
    assert!(before > ROUNDS, "{before}");
}
