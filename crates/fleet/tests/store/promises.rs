//! What every store promises, as functions of stores that reach the same records.

use std::{
    future::Future,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use fleet::store::{
    Batch, CommitError, LEADER, Leader, Leadership, Revision, Store, Watch, WatchEnd, batch, digest,
};

/// Nothing that works takes nearly as long.
const DEADLINE: Duration = Duration::from_secs(60);

/// A key with its new value, or without one.
pub(crate) type Change = (String, Option<Vec<u8>>);

pub(crate) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work)
        .await
        .unwrap_or_else(|_late| panic!("waited {DEADLINE:?} in vain: {what}"))
}

pub(crate) fn leader(name: &str) -> Leader {
    Leader { name: name.to_owned(), endpoint: format!("{name}:8443") }
}

pub(crate) async fn lead(store: &Store, name: &str) -> Leadership {
    soon("leading", store.campaign(&leader(name))).await.unwrap()
}

pub(crate) fn put(key: &str, value: &str) -> Batch {
    Batch { put: vec![(key.to_owned(), value.into())], ..Batch::default() }
}

fn remove(key: &str) -> Batch {
    Batch { remove: vec![key.to_owned()], ..Batch::default() }
}

fn expecting(mut batch: Batch, key: &str, value: Option<&str>) -> Batch {
    batch.expect.push((key.to_owned(), value.map(|value| digest(value.as_bytes()))));
    batch
}

/// The records of a store without who leads, as text.
pub(crate) async fn records(store: &Store) -> Vec<(String, String)> {
    let loaded = soon("a load", store.load()).await.unwrap();
    assert!(loaded.records.is_sorted());
    let text = |(key, value)| (key, String::from_utf8(value).unwrap());
    loaded.records.into_iter().filter(|(key, _)| key != LEADER).map(text).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

async fn next(watch: &mut Watch) -> (Revision, Vec<Change>) {
    loop {
        let changes = soon("news", watch.next()).await.unwrap();
        // A batch that changes nothing may be told or not.
        if !changes.records.is_empty() {
            let mut records = changes.records.clone();
            records.sort();
            return (changes.revision, records);
        }
    }
}

/// The next thing that is not about who leads.
async fn next_record(watch: &mut Watch) -> (Revision, Vec<Change>) {
    loop {
        let (revision, records) = next(watch).await;
        if records.iter().all(|(key, _)| key != LEADER) {
            return (revision, records);
        }
    }
}

fn change(key: &str, value: Option<&str>) -> Change {
    (key.to_owned(), value.map(|value| value.as_bytes().to_owned()))
}

/// All or nothing, by what is expected.
pub(crate) async fn a_batch_happens_whole_or_not_at_all(store: Store) {
    let leading = lead(&store, "a").await;
    let first = leading.commit(&expecting(put("host/1", "one"), "host/1", None)).await.unwrap();
    assert!(first > leading.since());
    let both = Batch {
        pieces: vec![("piece/x/0".to_owned(), b"part".to_vec())],
        remove: vec!["host/1".to_owned(), "host/none".to_owned()],
        ..expecting(put("host/2", "two"), "host/1", Some("one"))
    };
    let second = leading.commit(&both).await.unwrap();
    assert!(second > first);
    let now = pairs(&[("host/2", "two"), ("piece/x/0", "part")]);
    assert_eq!(records(&store).await, now);
    // Each expectation that fails names its key, and nothing changes.
    let missing = expecting(put("host/2", "three"), "host/1", Some("one"));
    let present = expecting(put("host/3", "three"), "host/2", None);
    let other =
        expecting(expecting(remove("host/2"), "piece/x/0", Some("part")), "host/2", Some("TWO"));
    for (batch, key) in [(missing, "host/1"), (present, "host/2"), (other, "host/2")] {
        match leading.commit(&batch).await {
            Err(CommitError::Conflict(odd)) => assert_eq!(odd, key),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(records(&store).await, now);
    assert!(
        leading
            .commit(&put(LEADER, "me"))
            .await
            .is_err_and(|error| { matches!(error, CommitError::Batch(batch::BatchError::Key(_))) })
    );
    // What is as large as it may be fits.
    let large = "v".repeat(batch::VALUE_BYTES_MAX);
    leading.commit(&put("large/0", &large)).await.unwrap();
    let many = (0..batch::OPERATIONS_MAX).map(|number| (format!("many/{number}"), b"m".to_vec()));
    let expect = (0..batch::EXPECTATIONS_MAX).map(|number| (format!("none/{number}"), None));
    let batch = Batch { put: many.collect(), expect: expect.collect(), ..Batch::default() };
    leading.commit(&batch).await.unwrap();
    let found = records(&store).await;
    assert_eq!(found.len(), 2 + 1 + batch::OPERATIONS_MAX);
    assert!(found.contains(&("large/0".to_owned(), large)));
}

/// However much there is, and whatever happens meanwhile, a load is what there was at one moment.
pub(crate) async fn a_load_is_of_one_moment(store: Store) {
    let leading = lead(&store, "a").await;
    // Kinds whose names are each other's beginnings, many small records, and a few large ones.
    let mut expected = Vec::new();
    for kind in ["host", "host-x", "host/a", "hosts", "x"] {
        for part in 0..3_u8 {
            let key = |number: u8| format!("{kind}/{part}/{number:03}");
            let records = (0..100).map(|number| (key(number), vec![number; 20]));
            let put: Vec<_> = records.collect();
            expected.extend(put.clone());
            leading.commit(&Batch { put, ..Batch::default() }).await.unwrap();
        }
    }
    for number in 0..4 {
        let piece = (format!("piece/{number}"), vec![number; 1 << 20]);
        expected.push(piece.clone());
        leading.commit(&Batch { put: vec![piece], ..Batch::default() }).await.unwrap();
    }
    expected.sort();
    let done = AtomicBool::new(false);
    let committing = async {
        for number in 0..40_u32 {
            let value = number.to_string().into_bytes();
            let put = vec![("a".to_owned(), value.clone()), ("z/z".to_owned(), value)];
            leading.commit(&Batch { put, ..Batch::default() }).await.unwrap();
        }
        done.store(true, Ordering::Relaxed);
    };
    let loading = async {
        let mut loads = 0;
        while !done.load(Ordering::Relaxed) {
            let mut loaded = soon("a load", store.load()).await.unwrap().records;
            loaded.retain(|(key, _)| key != LEADER);
            let ends = ["a", "z/z"].map(|end| {
                let place = loaded.iter().position(|(key, _)| key == end)?;
                Some(loaded.remove(place).1)
            });
            assert_eq!(ends[0], ends[1], "half a batch");
            assert!(loaded == expected, "{} of {}", loaded.len(), expected.len());
            loads += 1;
        }
        loads
    };
    let ((), loads) = tokio::join!(committing, loading);
    assert!(loads > 0);
}

/// Pieces go beyond the limits of a batch, and are there before it is.
pub(crate) async fn pieces_come_before_what_names_them(store: Store) {
    let leading = lead(&store, "a").await;
    let mut watch = store.watch(leading.since()).await.unwrap();
    let piece = |number: u8| {
        (format!("piece/{number}"), vec![number; batch::VALUE_BYTES_MAX - usize::from(number)])
    };
    let batch = Batch { pieces: (0..5).map(piece).collect(), ..put("version/1", "all") };
    let revision = leading.commit(&batch).await.unwrap();
    let mut seen = Vec::new();
    loop {
        let (told, records) = next_record(&mut watch).await;
        let last = records.iter().any(|(key, _)| key == "version/1");
        seen.extend(records);
        if last {
            assert_eq!(told, revision);
            break;
        }
        assert!(told <= revision);
    }
    seen.sort();
    let mut expected: Vec<Change> =
        batch.pieces.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
    expected.push(change("version/1", Some("all")));
    assert_eq!(seen, expected);
}

/// A watch tells each batch once, whole, in order, whenever it begins.
pub(crate) async fn a_watch_has_no_gaps(store: Store, other: Store) {
    let begin = soon("a load", other.load()).await.unwrap().revision;
    let mut early = other.watch(begin).await.unwrap();
    let leading = lead(&store, "a").await;
    assert_eq!(next(&mut early).await.0, leading.since());
    let mut committed = Vec::new();
    for number in 0..50 {
        let value = number.to_string();
        let mut batch = put("count/now", &value);
        batch.put.push((format!("count/{number:02}"), b"x".to_vec()));
        if number > 0 {
            batch.remove.push(format!("count/{:02}", number - 1));
        }
        committed.push(leading.commit(&batch).await.unwrap());
    }
    // What removes nothing changes nothing, and whoever is told everything gets past it.
    leading.commit(&remove("nothing")).await.unwrap();
    let newest = soon("the newest", other.newest()).await.unwrap();
    assert!(newest >= committed[49]);
    let mut past = other.watch(committed[48]).await.unwrap();
    let mut told = Revision::default();
    while told < newest {
        told = soon("the newest, in a watch", past.next()).await.unwrap().revision;
    }
    committed.push(leading.commit(&put("count/end", "end")).await.unwrap());
    let expected = |number: usize| {
        let mut records = vec![change("count/now", Some(&number.to_string()))];
        records.push(change(&format!("count/{number:02}"), Some("x")));
        if number > 0 {
            records.push(change(&format!("count/{:02}", number - 1), None));
        }
        records.sort();
        records
    };
    for start in [0, 1, 17, 49] {
        let mut late = other.watch(committed[start]).await.unwrap();
        for (number, revision) in committed.iter().enumerate().take(50).skip(start + 1) {
            assert_eq!(next(&mut late).await, (*revision, expected(number)));
        }
        assert_eq!(next(&mut late).await.1, [change("count/end", Some("end"))]);
    }
    for (number, revision) in committed.iter().enumerate().take(50) {
        assert_eq!(next(&mut early).await, (*revision, expected(number)));
    }
    assert_eq!(next(&mut early).await.0, committed[50]);
    assert_eq!(soon("the newest", other.newest()).await.unwrap(), committed[50]);
    // Who leads is no batch.
    drop(leading);
    let again = lead(&store, "b").await;
    let newest = soon("the newest", other.newest()).await.unwrap();
    assert!((committed[50]..=again.since()).contains(&newest), "{newest:?}");
    // Another history, or a moment that has not been.
    let future = Revision(committed[50].0 + 1_000);
    assert!(matches!(other.watch(future).await, Err(WatchEnd::Behind)));
}

/// One leads, the next one waits, and who was deposed commits nothing.
pub(crate) async fn one_leads_and_the_next_one_waits(store: Store, other: Store) {
    assert_eq!(other.leader().await.unwrap(), None);
    let first = lead(&store, "a").await;
    assert_eq!(other.leader().await.unwrap(), Some(leader("a")));
    let named = leader("b");
    let mut waiting = Box::pin(other.campaign(&named));
    let early = tokio::time::timeout(Duration::from_millis(300), &mut waiting).await;
    assert!(early.is_err(), "two lead at once");
    // Somebody who stopped waiting is passed over.
    let third = leader("c");
    let gone = Box::pin(store.campaign(&third));
    let left = tokio::time::timeout(Duration::from_millis(300), gone).await;
    assert!(left.is_err());
    let before = first.commit(&put("x", "1")).await.unwrap();
    assert!(first.leads());
    first.resign().await.unwrap();
    soon("the end of a leadership", first.lost()).await;
    assert!(!first.leads());
    let second = soon("the next one", waiting).await.unwrap();
    assert!(second.since() > before);
    assert!(matches!(first.commit(&put("x", "2")).await, Err(CommitError::Deposed)));
    second.commit(&put("x", "3")).await.unwrap();
    // The end of a leadership that is over already ends no other.
    first.resign().await.unwrap();
    drop(first);
    second.commit(&put("y", "4")).await.unwrap();
    assert_eq!(store.leader().await.unwrap(), Some(leader("b")));
    assert_eq!(records(&store).await, pairs(&[("x", "3"), ("y", "4")]));
    drop(second);
    let fourth = lead(&store, "d").await;
    fourth.commit(&expecting(put("x", "5"), "x", Some("3"))).await.unwrap();
}
