//! A flood of denied connects: every one is counted, and the agent has time for others meanwhile.

use std::{
    fs,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use doors::storm::{Tally, hammer};
use serde_json::Value;

use crate::{
    fixture::Bed,
    shared::{host, on},
};

/// Rain: a minute of 100,000 connects a second, from two threads.
const STEPS: u32 = 3_000;
const STEP: Duration = Duration::from_millis(20);
const EACH_STEP: u64 = 1_000;
/// Then a flood, of each thread: some seconds of all that two processors can do.
const EACH: u64 = 1_500_000;
/// While it rains an answer may take this long on a machine that has only two processors for both.
const ANSWER: Duration = Duration::from_secs(5);
/// Memory of the agent's own, at most: what it remembers is bounded.
const OWN_KIB: u64 = 24 * 1024;

fn own_kib(bed: &Bed) -> u64 {
    let path = format!("/proc/{}/status", bed.pid().as_raw_nonzero());
    let status = fs::read_to_string(path).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_storm_of_denials_is_counted_to_the_unit_and_holds_nobody_up() {
    let host = host();
    let bed = Bed::new(&host);
    let file = bed.path("events.json");
    let arguments = ["--deny", "127.0.0.2", "--events-file", file.to_str().unwrap()];
    bed.up(&arguments);
    let mut slowest = Duration::ZERO;
    let mut largest = 0;
    let tallies: Vec<Tally> = on(&host, || {
        thread::scope(|scope| {
            let target: SocketAddr = "127.0.0.2:20000".parse().unwrap();
            let storm: Vec<_> =
                (0..2).map(|_| scope.spawn(move || rain_and_flood(target))).collect();
            while storm.iter().any(|thread| !thread.is_finished()) {
                let asked = Instant::now();
                bed.get("/v1/status");
                slowest = slowest.max(asked.elapsed());
                largest = largest.max(own_kib(&bed));
                thread::sleep(Duration::from_millis(50));
            }
            storm.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        })
    });
    let all = 2 * (u64::from(STEPS) * EACH_STEP + EACH);
    for tally in &tallies {
        assert_eq!(tally.failed.get("EACCES"), Some(&tally.attempts), "{tally:?}");
    }
    assert_eq!(tallies.iter().map(|tally| tally.attempts).sum::<u64>(), all);
    let lasted = tallies.iter().map(|tally| tally.elapsed).sum::<Duration>() / 2;
    println!("{lasted:?} of denials for each thread, slowest answer {slowest:?}, {largest} KiB");
    assert!(slowest < ANSWER, "an answer took {slowest:?}");
    assert!(largest < OWN_KIB, "{largest} KiB");

    let rules: Value = serde_json::from_str(&bed.done(&["rules", "-o", "json"])).unwrap();
    let hits: u64 = rules
        .as_array()
        .unwrap()
        .iter()
        .filter(|rule| rule["direction"] == "out" && rule["verdict"] == "deny")
        .map(|rule| rule["hits"].as_u64().unwrap())
        .sum();
    assert_eq!(hits, all, "{rules:#}");
    let since = "2020-01-01T00:00:00Z";
    let flows = objects(&bed.get(&format!("/v1/flows?since={since}&fresh=true")));
    let counted: u64 = flows
        .iter()
        .filter(|flow| flow["remote"] == "127.0.0.2" && flow["verdict"] == "deny")
        .map(|flow| flow["count"].as_u64().unwrap())
        .sum();
    let metrics = bed.get("/metrics");
    let lost = |stage: &str| -> u64 {
        let name = format!("fwnet_agent_events_lost_total{{stage=\"{stage}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&name)).unwrap();
        line.parse().unwrap()
    };
    // An entry that is counted into while it is taken out loses that one count, and nothing is lost unseen.
    assert_eq!(counted + lost("flows"), all, "{flows:#?}\n{metrics}");
    assert!(lost("flows") < all / 100_000, "{metrics}");
    assert!(
        lost("limit") + lost("ringbuf") > 0,
        "two processors deny more than is told: {metrics}"
    );
}

/// One thread's share.
fn rain_and_flood(target: SocketAddr) -> Vec<Tally> {
    let begun = Instant::now();
    let mut tallies = Vec::new();
    for step in 1..=STEPS {
        tallies.push(hammer(target, EACH_STEP));
        thread::sleep((begun + STEP * step).saturating_duration_since(Instant::now()));
    }
    tallies.push(hammer(target, EACH));
    tallies
}

/// The JSON of an answer that came in chunks: everything that is a whole line.
fn objects(answer: &str) -> Vec<Value> {
    answer
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(Value::is_object)
        .collect()
}
