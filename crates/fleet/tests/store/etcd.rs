//! The store in etcd: a real cluster of three members, which are killed, stopped and started again.

use std::{
    future::Future,
    net::{IpAddr, Ipv4Addr},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use fleet::store::{Batch, CommitError, LEADER, Location, Revision, Store, Trouble, WatchEnd};
use testbed::{Host, etcd::Cluster};

use crate::promises::{self, lead, leader, put, records, soon};

fn places(host: &Host, count: u8) -> Vec<(&Host, IpAddr)> {
    (1..=count).map(|last| (host, Ipv4Addr::new(127, 0, 0, last).into())).collect()
}

/// Does something where the members can be reached: on a thread that has entered the host's namespace.
fn on<T: Send>(host: &Host, work: impl Future<Output = T> + Send) -> T {
    host.namespace.inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work)
    })
}

async fn open(cluster: &Cluster<'_>, prefix: &str) -> Store {
    let location: Location = format!("etcd://{}/{prefix}", cluster.endpoints()).parse().unwrap();
    Store::open(&location).await.unwrap()
}

#[test]
fn it_keeps_the_promises_of_a_store() {
    let host = Host::new();
    let cluster = Cluster::start(&places(&host, 3), None);
    on(&host, async {
        promises::a_batch_happens_whole_or_not_at_all(open(&cluster, "a").await).await;
        promises::pieces_come_before_what_names_them(open(&cluster, "b").await).await;
        let (one, two) = (open(&cluster, "c").await, open(&cluster, "c").await);
        promises::a_watch_has_no_gaps(one, two).await;
        let (one, two) = (open(&cluster, "d").await, open(&cluster, "d").await);
        promises::one_leads_and_the_next_one_waits(one, two).await;
        // Stores of one cluster do not see each other.
        assert_eq!(records(&open(&cluster, "e").await).await, []);
    });
}

/// A batch with its number, in a record of its own and in one that all share.
fn numbered(number: u64) -> Batch {
    let mut batch = put("last", &number.to_string());
    batch.put.push((format!("count/{number:06}"), number.to_string().into_bytes()));
    batch
}

/// Which numbered batch a change is.
fn number_of(changes: &fleet::store::Changes) -> Option<u64> {
    let (_, value) = changes.records.iter().find(|(key, _)| key == "last")?;
    assert_eq!(changes.records.len(), 2, "half a batch: {changes:?}");
    String::from_utf8(value.clone().unwrap()).unwrap().parse().ok()
}

#[test]
fn no_acknowledged_batch_is_lost_and_none_happens_twice_when_the_leading_member_is_killed() {
    const KILLS: u64 = 4;
    const END: u64 = u64::MAX;
    let host = Host::new();
    let mut cluster = Cluster::start(&places(&host, 3), None);
    let endpoints = cluster.endpoints();
    let location: Location = format!("etcd://{endpoints}/killed").parse().unwrap();
    // Batches that were begun, until END.
    let begun = AtomicU64::new(0);
    let stop = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let (begun, stop, host, location) = (&begun, &stop, &host, &location);
        let committing = scope.spawn(move || {
            on(host, async {
                let store = Store::open(location).await.unwrap();
                let from = soon("a load", store.load()).await.unwrap().revision;
                let mut watch = store.watch(from).await.unwrap();
                let watching = tokio::spawn(async move {
                    let mut seen: Vec<(u64, Revision)> = Vec::new();
                    loop {
                        let changes = soon("news", watch.next()).await.unwrap();
                        match number_of(&changes) {
                            Some(END) => return seen,
                            Some(number) => seen.push((number, changes.revision)),
                            None => assert!(changes.records.iter().all(|(key, _)| key == LEADER)),
                        }
                    }
                });
                let mut leading = lead(&store, "a").await;
                let (mut acknowledged, mut unknown) = (Vec::new(), Vec::new());
                let mut number = 0;
                while stop.load(Ordering::Relaxed) == 0 {
                    begun.store(number, Ordering::Relaxed);
                    match leading.commit(&numbered(number)).await {
                        Ok(revision) => acknowledged.push((number, revision)),
                        Err(CommitError::Unknown(_)) => unknown.push(number),
                        // The lease may end while there is no leader to renew it.
                        Err(CommitError::Deposed) => leading = lead(&store, "a").await,
                        Err(CommitError::Trouble(Trouble::Unreachable(_))) => {}
                        Err(error) => panic!("batch {number}: {error:?}"),
                    }
                    number += 1;
                }
                if !leading.leads() {
                    leading = lead(&store, "a").await;
                }
                leading.commit(&numbered(END)).await.unwrap();
                let seen = soon("the end of the watch", watching).await.unwrap();
                let found = records(&store).await;
                (acknowledged, unknown, seen, found)
            })
        });
        for kill in 0..KILLS {
            // Batches go on, and then any moment of one.
            let before = begun.load(Ordering::Relaxed);
            testbed::wait_until(Duration::from_secs(60), "batches that go on", || {
                committing.is_finished() || begun.load(Ordering::Relaxed) > before + 20 + 7 * kill
            });
            let leading = cluster.wait_for_leader();
            cluster.kill(leading);
            // Without it the others go on.
            let before = begun.load(Ordering::Relaxed);
            testbed::wait_until(Duration::from_secs(60), "batches without that member", || {
                committing.is_finished() || begun.load(Ordering::Relaxed) > before + 20
            });
            cluster.begin(leading);
            cluster.wait_for(leading);
        }
        stop.store(1, Ordering::Relaxed);
        let (acknowledged, unknown, seen, found) = committing.join().unwrap();
        assert!(acknowledged.len() > 40 * usize::try_from(KILLS).unwrap());
        // The watch told each batch once, in order, and every one that was acknowledged, at its revision.
        assert!(seen.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1), "{seen:?}");
        for one in &acknowledged {
            assert!(seen.contains(one), "{one:?} was acknowledged and is not told");
        }
        let others = seen.iter().filter(|(number, _)| !unknown.contains(number));
        assert_eq!(others.copied().collect::<Vec<_>>(), acknowledged);
        // What is there is what was told.
        let told =
            seen.iter().map(|(number, _)| (format!("count/{number:06}"), number.to_string()));
        let told: Vec<_> = told.collect();
        let counted = found
            .into_iter()
            .filter(|(key, _)| key.starts_with("count/") && *key != format!("count/{END:06}"));
        assert_eq!(counted.collect::<Vec<_>>(), told);
    });
}

#[test]
fn who_lost_the_lease_commits_nothing_and_the_next_one_leads() {
    let host = Host::new();
    let cluster = Cluster::start(&places(&host, 1), None);
    on(&host, async {
        let (one, two) = (open(&cluster, "x").await, open(&cluster, "x").await);
        let first = lead(&one, "a").await;
        first.commit(&put("k", "1")).await.unwrap();
        // An operator takes every lease away.
        let leases = cluster.post(0, "/v3/lease/leases", "{}");
        let leases: serde_json::Value = serde_json::from_str(&leases).unwrap();
        for lease in leases["leases"].as_array().unwrap() {
            cluster.post(
                0,
                "/v3/lease/revoke",
                &serde_json::json!({ "ID": lease["ID"] }).to_string(),
            );
        }
        let second = lead(&two, "b").await;
        assert!(matches!(first.commit(&put("k", "2")).await, Err(CommitError::Deposed)));
        assert!(!first.leads());
        soon("the end of a leadership", first.lost()).await;
        second.commit(&put("k", "3")).await.unwrap();
        drop(first);
        second.commit(&put("k", "4")).await.unwrap();
        // Who does not commit notices too.
        let lost = second.lost();
        let gone = cluster.post(
            0,
            "/v3/kv/deleterange",
            &format!(r#"{{"key":"{}"}}"#, base64_of("/x/records/leader")),
        );
        assert!(gone.contains(r#""deleted":"1""#), "{gone}");
        soon("the end of the other", lost).await;
        let third = lead(&one, "c").await;
        assert_eq!(two.leader().await.unwrap(), Some(leader("c")));
        assert!(third.since() > second.since());
        assert_eq!(records(&two).await, [("k".to_owned(), "4".to_owned())]);
    });
}

fn base64_of(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[test]
fn what_the_cluster_has_forgotten_is_loaded_again() {
    let host = Host::new();
    let cluster = Cluster::start(&places(&host, 1), None);
    on(&host, async {
        let store = open(&cluster, "x").await;
        let leading = lead(&store, "a").await;
        let first = leading.commit(&put("k", "1")).await.unwrap();
        let mut last = first;
        for number in 0..5 {
            last = leading.commit(&put("k", &number.to_string())).await.unwrap();
        }
        let asked = format!(r#"{{"revision":"{}","physical":true}}"#, last.0);
        cluster.post(0, "/v3/kv/compaction", &asked);
        assert!(matches!(store.watch(first).await, Err(WatchEnd::Behind)));
        let loaded = store.load().await.unwrap();
        assert!(loaded.revision >= last);
        let mut watch = store.watch(loaded.revision).await.unwrap();
        let next = leading.commit(&put("k", "new")).await.unwrap();
        assert_eq!(soon("news", watch.next()).await.unwrap().revision, next);
    });
}
