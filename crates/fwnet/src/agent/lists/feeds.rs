//! Files that lists follow: looked at every two seconds, and read and compiled again, by a thread of their own, once they
//! have changed and stayed as they are for one look.

use std::{
    collections::BTreeMap,
    fs::{File, Metadata, OpenOptions},
    io::Read,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use ::agent::lists::{BadList, Feed, List, ListName, Plain, where_wrong};
use rustix::fs::OFlags;

use super::asked::renew;
use crate::agent::Asking;

/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Bytes of the longest file that is read.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// What is known of the files that lists follow.
#[derive(Debug, Default)]
pub(crate) struct Feeds {
    /// Who is told what was read; nothing is read before.
    asking: Option<Asking>,
    looked: Option<Instant>,
    seen: BTreeMap<ListName, Seen>,
}

/// One file.
#[derive(Debug, Default)]
struct Seen {
    /// As it was at the last look, if that is not what is in force.
    changed: Option<Feed>,
    /// As it was when it was read in vain: it is not read again until it changes.
    refused: Option<Feed>,
    /// Whether a thread reads it.
    reading: bool,
    /// Why what is in force is not what the file says.
    trouble: Option<String>,
}

impl Feeds {
    /// Knows nothing yet; what is read is told to the core by `asking`.
    pub(crate) fn new(asking: Asking) -> Self {
        Self { asking: Some(asking), ..Self::default() }
    }

    /// Looks at the files, and starts to read those that changed; [`Core::feed_was_read`](super::Core::feed_was_read)
    /// hears of it.
    pub(crate) fn look(&mut self, lists: &BTreeMap<ListName, List>) {
        let Some(asking) = &self.asking else { return };
        if self.looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY) {
            return;
        }
        self.looked = Some(Instant::now());
        self.seen.retain(|name, _| lists.contains_key(name));
        for list in lists.values() {
            let Some(in_force) = &list.feed else { continue };
            let seen = self.seen.entry(list.name.clone()).or_default();
            if !seen.reading && seen.wants_reading(in_force) {
                seen.reading = true;
                read(list.name.clone(), in_force.path.clone(), asking.clone());
            }
        }
    }

    /// Why a list is not what its file says.
    pub(crate) fn trouble(&self, name: &ListName) -> Option<String> {
        self.seen.get(name)?.trouble.clone()
    }

    /// A file has been read, in vain if there is a trouble.
    pub(crate) fn was_read(
        &mut self,
        name: &ListName,
        file: Option<Feed>,
        trouble: Option<String>,
    ) {
        let Some(seen) = self.seen.get_mut(name) else { return };
        let refused = if trouble.is_some() { file } else { None };
        *seen = Seen { changed: None, refused, reading: false, trouble };
    }

    /// What was known of a list no longer holds.
    pub(crate) fn forget(&mut self, name: &ListName) {
        self.seen.remove(name);
    }
}

impl Seen {
    /// Looks once.
    fn wants_reading(&mut self, in_force: &Feed) -> bool {
        let now = match feed(&in_force.path) {
            Ok(now) => now,
            Err(trouble) => {
                self.changed = None;
                self.trouble = Some(trouble);
                return false;
            }
        };
        if now == *in_force {
            *self = Self::default();
            return false;
        }
        if self.refused.as_ref() == Some(&now) {
            return false;
        }
        let stayed = self.changed.as_ref() == Some(&now);
        self.changed = Some(now);
        stayed
    }
}

/// A file as it is now.
///
/// # Errors
/// If it is no plain file with an absolute path, in a sentence.
pub(crate) fn feed(path: &str) -> Result<Feed, String> {
    if !Path::new(path).is_absolute() {
        return Err(format!("{path} is no absolute path"));
    }
    let metadata = std::fs::metadata(path).map_err(|error| format!("{path}: {error}"))?;
    of(path, &metadata)
}

fn of(path: &str, metadata: &Metadata) -> Result<Feed, String> {
    if !metadata.is_file() {
        return Err(format!("{path} is no plain file"));
    }
    Ok(Feed {
        path: path.to_owned(),
        modified_ns: metadata
            .mtime()
            .saturating_mul(1_000_000_000)
            .saturating_add(metadata.mtime_nsec()),
        bytes: metadata.len(),
        inode: metadata.ino(),
    })
}

fn read(name: ListName, path: String, asking: Asking) {
    let reading = move || {
        let (file, read) = parse(&path);
        let renewed = match (read, &file) {
            (Ok(plain), Some(file)) => renew(&asking, &name, plain, file.clone()),
            (Err(trouble), _) => Err(trouble),
            (Ok(_), None) => unreachable!("what was read was opened"),
        };
        // An agent that is ending needs no list.
        let _told = asking.tell(move |core| core.feed_was_read(&name, file, renewed));
    };
    if let Err(error) = thread::Builder::new().name("feed".to_owned()).spawn(reading) {
        // Nobody reads it then until the next import or the next start: better than an agent that ends.
        eprintln!("fwnet: a list is not read again: {error}");
    }
}

/// The file as it was before it was read, and what it says.
fn parse(path: &str) -> (Option<Feed>, Result<Plain, String>) {
    let opened = open(path);
    let (file, mut stream) = match opened {
        Ok(opened) => opened,
        Err(error) => return (None, Err(error)),
    };
    let mut text = Vec::new();
    let read = stream.by_ref().take(FILE_BYTES_MAX + 1).read_to_end(&mut text);
    let plain = match read {
        Err(error) => Err(format!("{path}: {error}")),
        Ok(_) if text.len() as u64 > FILE_BYTES_MAX => {
            Err(format!("{path} is longer than {FILE_BYTES_MAX} bytes"))
        }
        Ok(_) => Plain::parse(&text, |_| ()).map_err(|bad| told(path, &bad)),
    };
    (Some(file), plain)
}

fn open(path: &str) -> Result<(Feed, File), String> {
    let said = |error: std::io::Error| format!("{path}: {error}");
    // NONBLOCK: a FIFO that took the file's place must not hold the thread.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).expect("flags of open(2) are an int");
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(said)?;
    Ok((of(path, &file.metadata().map_err(said)?)?, file))
}

/// What is wrong, without a word of the file: whoever may ask the agent may not read every file that root may.
fn told(path: &str, bad: &BadList) -> String {
    match bad {
        BadList::Lines { first, count, .. } => {
            format!("{path}: {}", where_wrong(*count, first.line))
        }
        BadList::Empty | BadList::TooLong => format!("{path}: {bad}"),
    }
}
