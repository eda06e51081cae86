//! Reading the state: which files there are, which of them are good, and what is used where one is not.
//!
//! Nothing is written here, so that a boot can read a state that lies on a disk it may not write.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize, de::DeserializeOwned, de::IgnoredAny};

use super::{
    Disk, Fault, Finding, Health, Kind, OpenError, Pending, State, Used,
    envelope::open,
    write::{NEW, last},
};
use crate::{
    edition::Edition,
    lists::{List, ListName, Ranges},
};

pub(super) const PLACE: &str = "place";
pub(super) const CURRENT: &str = "policy.current";
pub(super) const PREVIOUS: &str = "policy.previous";
pub(super) const PENDING: &str = "policy.pending";
/// What was current until the rename that is in progress: see `Store::enact`.
pub(super) const RETIRED: &str = "policy.retired";
pub(super) const ENTRIES: &str = "lists.deny";
pub(super) const STANCE: &str = "stance";
pub(super) const TRUST: &str = "trust";
const LIST: &str = "list.";

/// The file of an imported list.
pub(super) fn list_file(name: &ListName) -> String {
    format!("{LIST}{name}")
}

/// The body of an imported list.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListBody {
    pub(super) about: List,
    pub(super) addresses: Ranges,
}

/// The same, for those who do not need the addresses.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListHead {
    about: List,
    #[serde(rename = "addresses")]
    _addresses: IgnoredAny,
}

/// What there is, and what a writer has to know about it.
pub(super) struct Inspected<P> {
    pub(super) state: State<P>,
    pub(super) health: Health,
    /// Files that are whole.
    pub(super) good: BTreeSet<String>,
    /// Files that are there and cannot be used.
    pub(super) bad: BTreeSet<String>,
    /// Files of unfinished writes.
    pub(super) leftovers: Vec<String>,
}

/// Reads the state and changes nothing.
///
/// # Errors
/// If the directory cannot be listed. Whatever is wrong with the files is in the second value.
pub fn inspect<P: DeserializeOwned>(disk: &mut impl Disk) -> Result<(State<P>, Health), OpenError> {
    inspect_files(disk).map(|inspected| (inspected.state, inspected.health))
}

pub(super) fn inspect_files<P: DeserializeOwned>(
    disk: &mut impl Disk,
) -> Result<Inspected<P>, OpenError> {
    let names: BTreeSet<String> = disk.names().map_err(OpenError)?.into_iter().collect();
    let mut reader = Reader {
        disk,
        names,
        health: Health::default(),
        good: BTreeSet::new(),
        bad: BTreeSet::new(),
    };
    let (current, previous, pending) = reader.policies();
    let state = State {
        place: reader.kept(PLACE, Kind::Place),
        current,
        previous,
        pending,
        entries: reader.kept(ENTRIES, Kind::Entries).unwrap_or_default(),
        lists: reader.lists(),
        stance: reader.kept(STANCE, Kind::Stance),
        trusted: reader.kept(TRUST, Kind::Trust),
    };
    let leftovers: Vec<String> =
        reader.names.iter().filter(|name| name.ends_with(NEW)).cloned().collect();
    let Reader { mut health, good, bad, .. } = reader;
    health.unfinished.clone_from(&leftovers);
    Ok(Inspected { state, health, good, bad, leftovers })
}

/// Reads one file; `Missing` is a fault here.
pub(super) fn read<T: DeserializeOwned>(
    disk: &mut impl Disk,
    file: &str,
    kind: Kind,
) -> Result<T, Fault> {
    let bytes = disk.read(file).map_err(Fault::Unreadable)?.ok_or(Fault::Missing)?;
    open(kind, &bytes)
}

/// The version of the edition in a file, if it is whole.
pub(super) fn version(disk: &mut impl Disk, file: &str) -> Option<u64> {
    read::<Edition>(disk, file, Kind::Policy).ok().map(|edition| edition.version)
}

struct Reader<'a, D> {
    disk: &'a mut D,
    names: BTreeSet<String>,
    health: Health,
    good: BTreeSet<String>,
    bad: BTreeSet<String>,
}

impl<D: Disk> Reader<'_, D> {
    /// Reads one file. `Ok(None)` if there is none.
    fn file<T: DeserializeOwned>(&mut self, file: &str, kind: Kind) -> Result<Option<T>, Fault> {
        if !self.names.contains(file) {
            return Ok(None);
        }
        match read(self.disk, file, kind) {
            Ok(record) => {
                self.good.insert(file.to_owned());
                Ok(Some(record))
            }
            // Removed since the names were read.
            Err(Fault::Missing) => Ok(None),
            Err(fault) => {
                self.bad.insert(file.to_owned());
                Err(fault)
            }
        }
    }

    fn report(&mut self, file: &str, fault: Fault, used: Used) {
        self.health.findings.push(Finding { file: file.to_owned(), fault, used });
    }

    /// A record that has its last good one beside it.
    fn kept<T: DeserializeOwned>(&mut self, file: &str, kind: Kind) -> Option<T> {
        let before = last(file);
        let fault = match self.file(file, kind) {
            Ok(Some(record)) => return Some(record),
            Ok(None) if !self.names.contains(&before) => return None,
            Ok(None) => Fault::Missing,
            Err(fault) => fault,
        };
        let found = self.file(&before, kind).unwrap_or_default();
        let used = if found.is_some() { Used::Before(before) } else { Used::Nothing };
        self.report(file, fault, used);
        found
    }

    fn policies(&mut self) -> (Option<Edition>, Option<Edition>, Option<Pending>) {
        let current = self.file::<Edition>(CURRENT, Kind::Policy);
        let retired = self.file::<Edition>(RETIRED, Kind::Policy).unwrap_or_default();
        let in_force =
            current.as_ref().ok().and_then(Option::as_ref).map(|edition| edition.version);
        let previous = match retired.filter(|retired| Some(retired.version) != in_force) {
            Some(retired) => Some(retired),
            None => match self.file(PREVIOUS, Kind::Policy) {
                Ok(previous) => previous,
                Err(fault) => {
                    self.report(PREVIOUS, fault, Used::Nothing);
                    None
                }
            },
        };
        let current = self.current(current, previous.clone());
        let pending = match self.file::<Pending>(PENDING, Kind::Pending) {
            Ok(pending) => pending.filter(|pending| Some(pending.edition.version) > in_force),
            Err(fault) => {
                self.report(PENDING, fault, Used::Nothing);
                None
            }
        };
        (current, previous, pending)
    }

    /// The edition in force; the previous one, where the current one cannot be used.
    fn current(
        &mut self,
        read: Result<Option<Edition>, Fault>,
        previous: Option<Edition>,
    ) -> Option<Edition> {
        let fault = match (read, &previous) {
            (Ok(Some(current)), _) => return Some(current),
            (Ok(None), None) => return None,
            (Ok(None), Some(_)) => Fault::Missing,
            (Err(fault), _) => fault,
        };
        let used = match &previous {
            Some(_) => Used::Before(PREVIOUS.to_owned()),
            None => Used::Nothing,
        };
        self.report(CURRENT, fault, used);
        previous
    }

    fn lists(&mut self) -> BTreeMap<ListName, List> {
        let named = |file: &String| {
            let name = file.strip_prefix(LIST)?;
            name.strip_suffix(".last").unwrap_or(name).parse::<ListName>().ok()
        };
        let names: BTreeSet<ListName> = self.names.iter().filter_map(named).collect();
        let mut lists = BTreeMap::new();
        for name in names {
            let file = list_file(&name);
            let Some(head) = self.kept::<ListHead>(&file, Kind::List) else { continue };
            if head.about.name == name {
                lists.insert(name, head.about);
            } else {
                let fault = Fault::Misplaced { found: "another list" };
                self.good.remove(&file);
                self.bad.insert(file.clone());
                self.report(&file, fault, Used::Nothing);
            }
        }
        lists
    }
}
