//! The store in one file.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
};

use fleet::store::{
    Embedded, Location, Store, Trouble, embedded::BackupError, embedded::OpenError,
};
use testbed::Directory;

use crate::collecting;
use crate::promises::{self, lead, put, records};

async fn open(path: &Path) -> Store {
    let location: Location = format!("redb:{}", path.display()).parse().unwrap();
    Store::open(&location).await.unwrap()
}

async fn refused(path: &Path) -> OpenError {
    Embedded::open(path).await.unwrap_err()
}

#[tokio::test]
async fn it_keeps_the_promises_of_a_store() {
    let directory = Directory::new();
    let at = |name: &str| directory.path().join(name);
    promises::a_batch_happens_whole_or_not_at_all(open(&at("a")).await).await;
    promises::pieces_come_before_what_names_them(open(&at("b")).await).await;
    promises::a_load_is_of_one_moment(open(&at("l")).await).await;
    let store = open(&at("c")).await;
    promises::a_watch_has_no_gaps(store.clone(), store).await;
    let store = open(&at("d")).await;
    promises::one_leads_and_the_next_one_waits(store.clone(), store).await;
    collecting::no_piece_of_a_version_goes_while_it_is_applied(open(&at("e")).await).await;
}

#[tokio::test]
async fn it_is_one_file_of_its_own_and_of_one_process() {
    let directory = Directory::new();
    let path = directory.path().join("store.redb");
    let store = open(&path).await;
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    let leading = lead(&store, "a").await;
    let last = leading.commit(&put("host/1", "one")).await.unwrap();
    let error = refused(&path).await;
    assert!(matches!(error, OpenError::InUse(_)), "{error}");
    // A leadership keeps it open; the end of everything closes it.
    drop(store);
    assert!(matches!(refused(&path).await, OpenError::InUse(_)));
    drop(leading);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let store = open(&path).await;
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(store.leader().await.unwrap(), None);
    assert_eq!(records(&store).await, [("host/1".to_owned(), "one".to_owned())]);
    assert!(store.load().await.unwrap().revision >= last);
}

#[tokio::test]
async fn what_is_no_store_is_refused_by_name_and_left_alone() {
    let directory = Directory::new();
    let path = directory.path().join("store.redb");
    for (foreign, why) in [
        (Vec::new(), "is damaged (it is empty)"),
        (b"SQLite format 3\0 and what follows it".to_vec(), "is no store of fwnet"),
        (vec![0; 1 << 20], "is no store of fwnet"),
    ] {
        fs::write(&path, &foreign).unwrap();
        let error = refused(&path).await.to_string();
        assert!(error.contains(why) && error.contains("store.redb"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), foreign);
    }
    fs::remove_file(&path).unwrap();
    drop(redb::Database::create(&path).unwrap());
    let error = refused(&path).await;
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let error = refused(&path).await;
    assert!(matches!(error, OpenError::File { .. }), "{error}");
}

#[tokio::test]
async fn a_torn_store_is_named_and_left_alone() {
    let directory = Directory::new();
    let whole = directory.path().join("whole.redb");
    let store = open(&whole).await;
    let leading = lead(&store, "a").await;
    for number in 0..40 {
        leading.commit(&put(&format!("host/{number}"), &"x".repeat(20_000))).await.unwrap();
    }
    drop((leading, store));
    let bytes = fs::read(&whole).unwrap();
    let torn = directory.path().join("torn.redb");
    // The end is missing, wherever it was cut.
    for part in [1, 100, 5_000, bytes.len() / 3, bytes.len() / 2, bytes.len() - 4_096] {
        fs::write(&torn, &bytes[..part]).unwrap();
        let error = refused(&torn).await;
        assert!(error.to_string().contains("torn.redb"), "cut at {part}: {error}");
        assert!(
            matches!(error, OpenError::Damaged { .. } | OpenError::Foreign { .. }),
            "cut at {part}: {error:?}"
        );
        assert_eq!(fs::metadata(&torn).unwrap().len(), part as u64);
    }
    // A bit of a value has changed on the disk.
    let mut told = 0;
    for place in (0..bytes.len() - 64).step_by(4_096) {
        if bytes[place..place + 64] != [b'x'; 64] {
            continue;
        }
        let mut changed = bytes.clone();
        changed[place] ^= 1;
        fs::write(&torn, &changed).unwrap();
        match Embedded::open(&torn).await {
            Err(error) => {
                assert!(matches!(error, OpenError::Damaged { .. }), "at {place}: {error:?}");
                told += 1;
            }
            // A page that is not in use any more.
            Ok(store) => {
                let loaded = store.load().await.unwrap();
                let whole = loaded.records.iter().filter(|(_, value)| **value == [b'x'; 20_000]);
                assert_eq!(whole.count(), 40, "at {place}");
            }
        }
    }
    assert!(told > 20, "{told}");
}

#[tokio::test]
async fn a_backup_is_a_store_as_it_was_at_one_moment() {
    let directory = Directory::new();
    let path = directory.path().join("store.redb");
    let store = Embedded::open(&path).await.unwrap();
    let leading = lead(&Store::Embedded(store.clone()), "a").await;
    let pair = |number: u32| {
        let mut batch = put("left", &number.to_string());
        batch.put.push(("right".to_owned(), number.to_string().into_bytes()));
        batch.put.push((format!("piece/{number}"), vec![b'p'; 1 << 20]));
        batch
    };
    for number in 0..20 {
        leading.commit(&pair(number)).await.unwrap();
    }
    let copy = directory.path().join("copy.redb");
    let (copied, last) = tokio::join!(store.backup(&copy), async {
        let mut last = None;
        for number in 20..40 {
            last = Some(leading.commit(&pair(number)).await.unwrap());
        }
        last.unwrap()
    });
    let copied = copied.unwrap();
    assert!(copied <= last);
    assert_eq!(fs::metadata(&copy).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    let there = store.backup(&copy).await;
    assert!(matches!(there, Err(BackupError::There(_))), "{there:?}");

    let copy = Store::Embedded(Embedded::open(&copy).await.unwrap());
    assert_eq!(copy.load().await.unwrap().revision, copied);
    let found = records(&copy).await;
    let value = |key: &str| found.iter().find(|(known, _)| known == key).unwrap().1.clone();
    assert_eq!(value("left"), value("right"));
    let count = value("left").parse::<usize>().unwrap();
    assert!(count >= 19);
    assert_eq!(found.len(), 2 + count + 1, "every piece of then and none of later");
}

#[tokio::test]
async fn a_store_without_its_disk_says_so() {
    let missing = Path::new("/proc/fwnet/store.redb");
    let error = refused(missing).await;
    assert!(error.to_string().contains("/proc/fwnet/store.redb"), "{error}");
    assert!(!matches!(error, OpenError::InUse(_)));
    let closed: Trouble = Trouble::Closed;
    assert_eq!(closed.to_string(), "the store is closed");
}
