//! The file of an embedded store: made whole or not at all, recognised, read, and copied.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use redb::{
    Builder, Database, DatabaseError, Durability, ReadTransaction, ReadableDatabase, ReadableTable,
    StorageError, TableDefinition, TableHandle, backends::FileBackend,
};

use crate::store::{LEADER, Loaded, Revision, Trouble};

/// Every record.
pub(super) const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("records");
/// What is known of the store: [`FORMAT`] and [`REVISION`].
pub(super) const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("fwnet-store");
/// Which make of store it is.
const FORMAT: &str = "format";
/// The make of this program.
const FORMAT_NOW: u64 = 1;
/// The revision of the last batch.
pub(super) const REVISION: &str = "revision";

/// Memory for pages of the file.
const CACHE_BYTES: usize = 64 << 20;
/// A backup is written in portions of so many bytes: what is not on the disk yet is in memory.
const PORTION_BYTES: usize = 16 << 20;

/// Why a file cannot be used as a store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{} is in use: another controller runs on it", .0.display())]
    InUse(PathBuf),
    /// It is a file of something else.
    #[error("{} is no store of fwnet: {why}", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is seen of it.
        why: String,
    },
    /// A store, once.
    #[error("{} is damaged ({why}): put a backup in its place", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is seen of it.
        why: String,
    },
    /// Of a later program.
    #[error("{} is from a later fwnet: format {format}, and {FORMAT_NOW} is known here", .path.display())]
    Later {
        /// The file.
        path: PathBuf,
        /// Its make.
        format: u64,
    },
    /// The disk or its permissions.
    #[error("open the store {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The library.
    #[error("open the store {}", .path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<redb::Error>,
    },
    /// Its thread.
    #[error("the thread of the store {} has ended", .0.display())]
    Ended(PathBuf),
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is a file already.
    #[error("{} is there already", .0.display())]
    There(PathBuf),
    /// The disk.
    #[error("write the backup {}", .path.display())]
    File {
        /// The copy.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The library, about the copy.
    #[error("write the backup {}", .path.display())]
    Database {
        /// The copy.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<redb::Error>,
    },
    /// What should be copied.
    #[error(transparent)]
    Store(Trouble),
}

/// Opens the store in a file, or makes it.
pub(super) fn open(path: &Path) -> Result<Database, OpenError> {
    let file = |source| OpenError::File { path: path.to_owned(), source };
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(found) => existing(path, found),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let database = begin(&beside(path)).map_err(|error| named(path, error))?;
            settle(&beside(path), path).map_err(file)?;
            Ok(database)
        }
        Err(error) => Err(file(error)),
    }
}

fn existing(path: &Path, found: File) -> Result<Database, OpenError> {
    let file = |source| OpenError::File { path: path.to_owned(), source };
    if !found.metadata().map_err(file)?.is_file() {
        let why = "not a regular file".to_owned();
        return Err(OpenError::Foreign { path: path.to_owned(), why });
    }
    // A store is never empty: it gets its name when it is whole.
    if found.metadata().map_err(file)?.len() == 0 {
        return Err(OpenError::Damaged { path: path.to_owned(), why: "it is empty".to_owned() });
    }
    // Who reads it learns which hosts there are, and everything that may be guessed from it.
    found.set_permissions(Permissions::from_mode(0o600)).map_err(file)?;
    let database = opened(found, true).map_err(|error| named(path, error))?;
    recognise(path, &database)?;
    Ok(database)
}

/// Refuses another program's file and a later program's.
fn recognise(path: &Path, database: &Database) -> Result<(), OpenError> {
    let wrong = |error: redb::Error| named(path, error);
    let foreign = |why: &str| OpenError::Foreign { path: path.to_owned(), why: why.to_owned() };
    let read = database.begin_read().map_err(|error| wrong(error.into()))?;
    let mut tables = read.list_tables().map_err(|error| wrong(error.into()))?;
    if !tables.any(|table| table.name() == ABOUT.name()) {
        return Err(foreign("a redb database of another program"));
    }
    let about = read.open_table(ABOUT).map_err(|error| wrong(error.into()))?;
    let format = about.get(FORMAT).map_err(|error| wrong(error.into()))?;
    match format.map(|format| format.value()) {
        Some(FORMAT_NOW) => Ok(()),
        Some(format) => Err(OpenError::Later { path: path.to_owned(), format }),
        None => Err(foreign("it does not say which make it is")),
    }
}

/// What an error of the library means for the file at `path`.
#[expect(clippy::wildcard_enum_match_arm, reason = "a list of another crate that grows")]
pub(super) fn named(path: &Path, error: impl Into<redb::Error>) -> OpenError {
    let path = path.to_owned();
    match error.into() {
        redb::Error::DatabaseAlreadyOpen => OpenError::InUse(path),
        redb::Error::Corrupted(why) => OpenError::Damaged { path, why },
        redb::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            OpenError::Foreign { path, why: error.to_string() }
        }
        redb::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            OpenError::Damaged { path, why: "its end is missing".to_owned() }
        }
        error => OpenError::Database { path, source: Box::new(error) },
    }
}

/// Opens a file's database, or begins one in an empty file.
fn opened(file: File, checked: bool) -> Result<Database, DatabaseError> {
    Builder::new()
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(checked)
        .create_with_backend(FileBackend::new(file)?)
}

/// An empty store in a new file.
fn begin(path: &Path) -> Result<Database, redb::Error> {
    // What an attempt left that was cut short.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    let database = opened(file, false)?;
    let write = database.begin_write()?;
    {
        let mut about = write.open_table(ABOUT)?;
        about.insert(FORMAT, FORMAT_NOW)?;
        about.insert(REVISION, 0)?;
        write.open_table(RECORDS)?;
    }
    write.commit()?;
    Ok(database)
}

/// Gives a finished file its name, unless there is one of that name, for good.
fn settle(made: &Path, path: &Path) -> io::Result<()> {
    fs::hard_link(made, path)?;
    fs::remove_file(made)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

/// Where a file is made before it gets its name.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

/// The revision of the last batch that a transaction sees.
pub(super) fn revision(read: &ReadTransaction) -> Result<Revision, redb::Error> {
    let revision = read.open_table(ABOUT)?.get(REVISION)?;
    let none = || StorageError::Corrupted("no revision".to_owned());
    Ok(Revision(revision.ok_or_else(none)?.value()))
}

/// Everything that a transaction sees.
pub(super) fn load(read: &ReadTransaction) -> Result<Loaded, redb::Error> {
    let mut records = Vec::new();
    for entry in read.open_table(RECORDS)?.iter()? {
        let (key, value) = entry?;
        records.push((key.value().to_owned(), value.value().to_owned()));
    }
    Ok(Loaded { revision: revision(read)?, records })
}

/// Copies what a transaction of the store at `source` sees to a new file.
pub(super) fn backup(
    source: &Path,
    read: &ReadTransaction,
    target: &Path,
) -> Result<Revision, BackupError> {
    if target.symlink_metadata().is_ok() {
        return Err(BackupError::There(target.to_owned()));
    }
    let store = |error: redb::Error| {
        let path = source.to_owned();
        BackupError::Store(Trouble::File { path, source: Box::new(error) })
    };
    let copy = |error: redb::Error| {
        let path = target.to_owned();
        BackupError::Database { path, source: Box::new(error) }
    };
    let made = beside(target);
    let database = begin(&made).map_err(copy)?;
    let table = read.open_table(RECORDS).map_err(|error| store(error.into()))?;
    let mut entries = table.iter().map_err(|error| store(error.into()))?;
    let mut more = true;
    while more {
        let mut portion = Vec::new();
        let mut bytes = 0;
        while bytes < PORTION_BYTES {
            let Some(entry) = entries.next() else {
                more = false;
                break;
            };
            let (key, value) = entry.map_err(|error| store(error.into()))?;
            bytes += key.value().len() + value.value().len();
            // Nobody leads the copy.
            if key.value() != LEADER {
                portion.push((key.value().to_owned(), value.value().to_owned()));
            }
        }
        add(&database, &portion).map_err(copy)?;
    }
    let revision = revision(read).map_err(store)?;
    finish(&database, revision).map_err(copy)?;
    database.close().map_err(|error| copy(error.into()))?;
    settle(&made, target).map_err(|source| {
        if source.kind() == io::ErrorKind::AlreadyExists {
            BackupError::There(target.to_owned())
        } else {
            BackupError::File { path: target.to_owned(), source }
        }
    })?;
    Ok(revision)
}

fn add(database: &Database, portion: &[(String, Vec<u8>)]) -> Result<(), redb::Error> {
    let mut write = database.begin_write()?;
    // The copy has no name before all of it is on the disk.
    write.set_durability(Durability::None)?;
    {
        let mut records = write.open_table(RECORDS)?;
        for (key, value) in portion {
            records.insert(key.as_str(), value.as_slice())?;
        }
    }
    Ok(write.commit()?)
}

fn finish(database: &Database, revision: Revision) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    write.open_table(ABOUT)?.insert(REVISION, revision.0)?;
    Ok(write.commit()?)
}
