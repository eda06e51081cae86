//! What is remembered of flows and rules, on disk: an embedded store in the state directory.
//!
//! Flows of one kind are one entry for each hour, so that a busy host takes no more room than a quiet one; when there
//! are too many entries the oldest go first. A store that cannot be read is put aside and begun anew: enforcement never
//! depends on it.

mod told;

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use ::agent::flows::{DIGEST_BYTES, Record};
use jiff::Timestamp;
use redb::{
    Builder, Database, Durability, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    TableDefinition,
};

use super::hits::Remembered;

/// Hour since 1970, big endian, and the digest of the kind: the order of the keys is that of time.
const KEY_BYTES: usize = 4 + DIGEST_BYTES;
/// Key of a recorded flow.
pub(crate) type Key = [u8; KEY_BYTES];

/// Recorded flows by hour and kind, as JSON.
const FLOWS: TableDefinition<'_, &Key, &[u8]> = TableDefinition::new("flows");
/// What is remembered of each rule, by its key, as JSON.
const RULES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("rules");

/// Entries of flows at most: some 50 MB of disk.
const RECORDS_MAX: u64 = 100_000;
/// Events and notices that are kept, unless somebody says otherwise: some 60 MB of disk.
pub(crate) const TOLD_MAX: u64 = 100_000;
/// How long an agent that ends may take to close it: what it saw last is being written.
const CLOSED_WITHIN: Duration = Duration::from_secs(2);
/// Memory for pages of the file.
const CACHE_BYTES: usize = 1 << 20;
/// How often what was written has to be on the disk, and not on its way only.
const DURABLE: Duration = Duration::from_secs(60);
/// The same by bytes: room that was given up is used again only then.
const DURABLE_BYTES: u64 = 8 << 20;

/// Why something is not remembered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The store.
    #[error("use the store of flows")]
    Store(#[from] Box<redb::Error>),
    /// Its file.
    #[error("put the store of flows at {} aside", .0.display())]
    Aside(PathBuf, #[source] io::Error),
    /// Its permissions.
    #[error("keep {} to ourselves", .0.display())]
    File(PathBuf, #[source] io::Error),
    /// An entry of another make.
    #[error("read an entry of the store of flows")]
    Entry(#[from] serde_json::Error),
}

macro_rules! from_redb {
    ($($error:ident)*) => {
        $(impl From<redb::$error> for StoreError {
            fn from(error: redb::$error) -> Self {
                Self::Store(Box::new(error.into()))
            }
        })*
    };
}

from_redb! { DatabaseError TransactionError TableError StorageError CommitError SetDurabilityError }

/// The store.
pub(crate) struct Store {
    database: Database,
    records_max: u64,
    told_max: u64,
}

/// What a writer knows of its last write.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    durable: Option<Instant>,
    /// Written since then, nearly.
    bytes: u64,
}

impl Store {
    /// Opens or begins the store at `path`, which keeps `told_max` events. The second value says what became of one that
    /// could not be read.
    ///
    /// # Errors
    /// Where there is no room, or the directory cannot be written.
    pub(crate) fn open(path: &Path, told_max: u64) -> Result<(Self, Option<String>), StoreError> {
        Self::bounded(path, RECORDS_MAX, told_max)
    }

    fn bounded(
        path: &Path,
        records_max: u64,
        told_max: u64,
    ) -> Result<(Self, Option<String>), StoreError> {
        let open = || Builder::new().set_cache_size(CACHE_BYTES).create(path);
        let start = Instant::now();
        let opened = loop {
            match open() {
                // The agent before gave its lock back, and is still closing this.
                Err(redb::DatabaseError::DatabaseAlreadyOpen)
                    if start.elapsed() < CLOSED_WITHIN =>
                {
                    thread::sleep(Duration::from_millis(5));
                }
                opened => break opened,
            }
        };
        let (database, told) = match opened {
            Ok(database) => (database, None),
            Err(redb::DatabaseError::DatabaseAlreadyOpen) => {
                return Err(redb::DatabaseError::DatabaseAlreadyOpen.into());
            }
            Err(error) => {
                let aside = path.with_extension("damaged");
                fs::rename(path, &aside)
                    .map_err(|source| StoreError::Aside(path.to_owned(), source))?;
                let told =
                    format!("{} is put aside as {}: {error}", path.display(), aside.display());
                (open()?, Some(told))
            }
        };
        // Who reads it learns who talks to whom.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))
            .map_err(|source| StoreError::File(path.to_owned(), source))?;
        let store = Self { database, records_max, told_max };
        // Readers find all tables from the beginning.
        let write = store.database.begin_write()?;
        write.open_table(FLOWS)?;
        write.open_table(RULES)?;
        write.open_table(told::TOLD)?;
        write.commit()?;
        Ok((store, told))
    }

    /// Adds flows to what is remembered of their kinds and hours; the oldest entries go where there are too many.
    ///
    /// # Errors
    /// Nothing is added then.
    pub(crate) fn add<'a>(
        &self,
        records: impl IntoIterator<Item = &'a Record>,
        pace: &mut Pace,
    ) -> Result<(), StoreError> {
        let write = self.write(pace)?;
        {
            let mut table = write.open_table(FLOWS)?;
            for record in records {
                let key = key(record);
                let mut sum = match table.get(&key)? {
                    Some(known) => serde_json::from_slice(known.value())?,
                    None => Record { count: 0, ..record.clone() },
                };
                sum.add(record);
                table.insert(&key, serde_json::to_vec(&sum)?.as_slice())?;
            }
            while table.len()? > self.records_max && table.pop_first()?.is_some() {}
        }
        write.commit()?;
        Ok(())
    }

    /// The next entries after `after` with flows at `since` or later, at most `limit`. An entry's count is that of its
    /// whole hour.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub(crate) fn page(
        &self,
        since: Timestamp,
        after: Option<Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Record)>, StoreError> {
        let mut from = [0; KEY_BYTES];
        from[..4].copy_from_slice(&hour(since).to_be_bytes());
        let table = self.database.begin_read()?.open_table(FLOWS)?;
        let mut found = Vec::new();
        for entry in table.range::<&Key>(&after.unwrap_or(from)..)? {
            let (key, value) = entry?;
            let (key, record): (Key, Record) =
                (*key.value(), serde_json::from_slice(value.value())?);
            if record.last >= since && Some(key) != after {
                found.push((key, record));
            }
            if found.len() >= limit {
                break;
            }
        }
        Ok(found)
    }

    /// Entries of flows.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub(crate) fn len(&self) -> Result<u64, StoreError> {
        Ok(self.database.begin_read()?.open_table(FLOWS)?.len()?)
    }

    /// What is remembered of rules, by key.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub(crate) fn rules(&self) -> Result<Vec<(String, Remembered)>, StoreError> {
        let table = self.database.begin_read()?.open_table(RULES)?;
        table
            .iter()?
            .map(|entry| {
                let (key, value) = entry?;
                Ok((key.value().to_owned(), serde_json::from_slice(value.value())?))
            })
            .collect()
    }

    /// Remembers rules; those that are `gone` are forgotten.
    ///
    /// # Errors
    /// Nothing is changed then.
    pub(crate) fn remember(
        &self,
        rules: &[(String, Remembered)],
        gone: &[String],
        pace: &mut Pace,
    ) -> Result<(), StoreError> {
        let write = self.write(pace)?;
        {
            let mut table = write.open_table(RULES)?;
            for (key, value) in rules {
                table.insert(key.as_str(), serde_json::to_vec(value)?.as_slice())?;
            }
            for key in gone {
                table.remove(key.as_str())?;
            }
        }
        write.commit()?;
        Ok(())
    }

    /// A transaction that waits for the disk once a minute, or once much was written.
    fn write(&self, pace: &mut Pace) -> Result<redb::WriteTransaction, StoreError> {
        let mut write = self.database.begin_write()?;
        let lately = pace.durable.is_some_and(|last| last.elapsed() < DURABLE);
        if lately && pace.bytes < DURABLE_BYTES {
            write.set_durability(Durability::None)?;
        } else {
            *pace = Pace { durable: Some(Instant::now()), bytes: 0 };
        }
        Ok(write)
    }

    /// Waits until everything is on the disk.
    ///
    /// # Errors
    /// Where it is not.
    pub(crate) fn settle(&self) -> Result<(), StoreError> {
        self.database.begin_write()?.commit()?;
        Ok(())
    }
}

fn key(record: &Record) -> Key {
    let mut key = [0; KEY_BYTES];
    key[..4].copy_from_slice(&hour(record.last).to_be_bytes());
    key[4..].copy_from_slice(&record.kind.digest());
    key
}

fn hour(time: Timestamp) -> u32 {
    u32::try_from(time.as_second().max(0) / 3600).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use ::agent::flows::{Kind, Process};
    use policy::{Way, syntax::Answer};

    use super::*;

    const NOW: i64 = 1_900_000_000;

    fn record(port: u16, second: i64, count: u64) -> Record {
        let time = Timestamp::from_second(second).unwrap();
        Record {
            kind: Kind {
                direction: Way::Out,
                protocol: 6,
                local: None,
                remote: "192.0.2.1".parse().unwrap(),
                port,
                process: Process::default(),
                verdict: Answer::Allow,
                rule: "r".to_owned(),
                would: Answer::Allow,
                would_rule: "r".to_owned(),
            },
            name: "x".to_owned(),
            pid: 1,
            count,
            first: time,
            last: time,
        }
    }

    pub(super) struct Directory(pub(super) PathBuf);

    impl Directory {
        pub(super) fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("fwnet-store-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _removed = fs::remove_dir_all(&self.0);
        }
    }

    fn all(store: &Store, since: i64) -> Vec<(u16, u64)> {
        let since = Timestamp::from_second(since).unwrap();
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = store.page(since, after, 7).unwrap();
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            found.extend(page.iter().map(|(_, record)| (record.kind.port, record.count)));
        }
        found.sort_unstable();
        found
    }

    #[test]
    fn kinds_are_summed_by_the_hour_and_survive_a_new_beginning() {
        let directory = Directory::new("hours");
        let path = directory.0.join("flows.redb");
        let mut pace = Pace::default();
        let (store, told) = Store::open(&path, TOLD_MAX).unwrap();
        assert_eq!(told, None);
        store.add(&[record(1, NOW, 3), record(2, NOW, 1)], &mut pace).unwrap();
        store.add(&[record(1, NOW + 1, 4), record(1, NOW + 7200, 5)], &mut pace).unwrap();
        assert_eq!(all(&store, NOW - 1), [(1, 5), (1, 7), (2, 1)]);
        assert_eq!(all(&store, NOW + 1), [(1, 5), (1, 7)]);
        assert_eq!(all(&store, NOW + 7201), []);
        store.settle().unwrap();
        drop(store);
        let (store, _) = Store::open(&path, TOLD_MAX).unwrap();
        assert_eq!(all(&store, NOW), [(1, 5), (1, 7), (2, 1)]);
    }

    #[test]
    fn the_oldest_go_where_there_are_too_many() {
        let directory = Directory::new("bounded");
        let path = directory.0.join("flows.redb");
        let (store, _) = Store::bounded(&path, 10, TOLD_MAX).unwrap();
        for hour in 0..25 {
            let port = u16::try_from(hour).unwrap();
            store.add(&[record(port, NOW + 3600 * hour, 1)], &mut Pace::default()).unwrap();
        }
        let ports: Vec<u16> = all(&store, 0).into_iter().map(|(port, _)| port).collect();
        assert_eq!(ports, (15..25).collect::<Vec<u16>>());
    }

    #[test]
    fn what_is_no_store_is_put_aside_and_said() {
        let directory = Directory::new("aside");
        let path = directory.0.join("flows.redb");
        fs::write(&path, b"not a store of any kind, and long enough to be looked at").unwrap();
        let (store, told) = Store::open(&path, TOLD_MAX).unwrap();
        assert!(told.unwrap().contains("flows.damaged"));
        store.add(&[record(1, NOW, 1)], &mut Pace::default()).unwrap();
        assert_eq!(all(&store, 0), [(1, 1)]);
    }
}
