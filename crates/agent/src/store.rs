//! What a host remembers on disk: where it enforces, the policy in force and the one before it, one that waits to be
//! confirmed, run-time lists, and the stance.
//!
//! Each record is one file. Every operation takes effect by one rename, so that whenever power is lost, what is read
//! afterwards is the state before the operation or the one after it. Files that were damaged later, or that another
//! version or program wrote, are recognised, the last good one is used instead, and [`Health`] says so.
//!
//! | file | holds | last good one |
//! |---|---|---|
//! | `place` | where the host enforces, as its shell says it | `place.last` |
//! | `policy.current` | [`Edition`] | `policy.previous` |
//! | `policy.previous` | [`Edition`] | |
//! | `policy.pending` | [`Pending`] | |
//! | `lists.deny` | [`Entries`] | `lists.deny.last` |
//! | `list.NAME` | [`List`] and its addresses | `list.NAME.last` |
//! | `stance` | [`Taken`] | `stance.last` |
//! | `trust` | [`Trusted`] | `trust.last` |
//!
//! A file that could not be used is kept as `NAME.unusable` when another one takes its place.

mod disk;
mod envelope;
mod health;
mod inspect;
mod record;
mod write;

use std::collections::BTreeMap;

use image::AddressSet;
use serde::{Serialize, de::DeserializeOwned};

pub use disk::Disk;
pub use envelope::{Fault, Kind, VERSION, VERSION_OLDEST};
pub use health::{Finding, Health, Used};
pub use inspect::inspect;
pub use record::{Pending, Stance, Taken};
pub use write::WriteError;

use crate::{
    edition::{Edition, Written},
    lists::{Entries, Fronts, List, ListName, Ranges},
    trusted::Trusted,
};
use envelope::seal;
use inspect::{CURRENT, PENDING, PLACE, PREVIOUS, RETIRED, STANCE, TRUST, list_file};
use write::{Writer, last};

/// Everything the disk says, without the addresses of imported lists, which may be many: see [`Store::addresses`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State<P> {
    /// Where the host enforces.
    pub place: Option<P>,
    /// The policy in force, once it is for good.
    pub current: Option<Edition>,
    /// The one before it.
    pub previous: Option<Edition>,
    /// One that rolls back unless it is confirmed.
    pub pending: Option<Pending>,
    /// Denied addresses and ports, one by one.
    pub entries: Entries,
    /// Imported lists, by name.
    pub lists: BTreeMap<ListName, List>,
    /// What decides; `None` is the policy.
    pub stance: Option<Taken>,
    /// Whose signatures are asked for; `None` where policy need not be signed. See [`Store::trusted`].
    pub trusted: Option<Trusted>,
}

impl<P> Default for State<P> {
    fn default() -> Self {
        Self {
            place: None,
            current: None,
            previous: None,
            pending: None,
            entries: Entries::default(),
            lists: BTreeMap::new(),
            stance: None,
            trusted: None,
        }
    }
}

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
#[error("list the files of the state")]
pub struct OpenError(#[source] std::io::Error);

/// Why the addresses of a list are not known.
#[derive(Debug, thiserror::Error)]
#[error("read the list {name}")]
pub struct ListError {
    /// The list.
    pub name: ListName,
    /// What is wrong with its file.
    #[source]
    pub fault: Fault,
}

/// Which root was trusted is not known any more: whoever asks must not take that for "none".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the file that says which root this host trusts is lost: nothing is applied until it is told again"
)]
pub struct TrustLost;

/// A list as it is written, for [`Store::set_sealed_list`]: that takes a moment for one of a million lines, and can be
/// done elsewhere.
#[derive(Clone, Debug)]
pub struct SealedList {
    list: List,
    bytes: Vec<u8>,
}

impl SealedList {
    /// This list with its addresses.
    pub fn of(list: List, addresses: &AddressSet) -> Self {
        let body = inspect::ListBody { about: list, addresses: Ranges(addresses.clone()) };
        let bytes = seal(Kind::List, &body);
        Self { list: body.about, bytes }
    }
}

/// The addresses of an imported list, for those who only read: see [`Store::addresses`].
///
/// # Errors
/// The fault of its file, when none before it can be used either.
pub fn addresses(disk: &mut impl Disk, name: &ListName) -> Result<AddressSet, Fault> {
    let file = list_file(name);
    addresses_in(disk, &file)
        .or_else(|fault| addresses_in(disk, &last(&file)).map_err(|_none| fault))
}

fn addresses_in(disk: &mut impl Disk, file: &str) -> Result<AddressSet, Fault> {
    let read = inspect::read::<inspect::ListBody>(disk, file, Kind::List);
    read.map(|body| body.addresses.0)
}

/// The state on disk. What is in memory is what is on disk: a change that cannot be written is not made.
#[derive(Debug)]
pub struct Store<D, P> {
    writer: Writer<D>,
    state: State<P>,
    health: Health,
}

impl<D: Disk, P: Serialize + DeserializeOwned> Store<D, P> {
    /// Reads the state and ends what a loss of power interrupted. A disk that cannot be written is no error here:
    /// [`Health::unwritten`] says so, and the state is as [`inspect`] reads it.
    ///
    /// # Errors
    /// If the directory cannot be listed. Whatever is wrong with the files is in [`health`](Self::health).
    pub fn open(mut disk: D) -> Result<Self, OpenError> {
        let inspected = inspect::inspect_files(&mut disk)?;
        let mut store = Self {
            writer: Writer::new(disk, &inspected),
            state: inspected.state,
            health: inspected.health,
        };
        let tidied = store.tidy(&inspected.leftovers);
        store.note(&tidied);
        Ok(store)
    }

    /// The state.
    pub fn state(&self) -> &State<P> {
        &self.state
    }

    /// What was found wrong.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Writes where the host enforces.
    ///
    /// # Errors
    /// [`WriteError`]; nothing is changed then.
    pub fn set_place(&mut self, place: P) -> Result<(), WriteError> {
        self.replace(PLACE, &seal(Kind::Place, &place))?;
        self.state.place = Some(place);
        Ok(())
    }

    /// Writes the stance.
    ///
    /// # Errors
    /// [`WriteError`]; nothing is changed then.
    pub fn set_stance(&mut self, taken: Taken) -> Result<(), WriteError> {
        self.replace(STANCE, &seal(Kind::Stance, &taken))?;
        self.state.stance = Some(taken);
        Ok(())
    }

    /// Whose signatures are asked for; `None` where policy need not be signed.
    ///
    /// # Errors
    /// If that was kept and cannot be read any more.
    pub fn trusted(&self) -> Result<Option<&Trusted>, TrustLost> {
        match &self.state.trusted {
            None if self.health.has_lost(TRUST) => Err(TrustLost),
            known => Ok(known.as_ref()),
        }
    }

    /// Writes whose signatures are asked for and what was seen. Before a policy that was verified by it comes into force
    /// this must have been done: power that is lost in between then leaves marks that are newer than the policy, and the
    /// same bundle can be applied again.
    ///
    /// # Errors
    /// [`WriteError`]; nothing is changed then.
    pub fn set_trusted(&mut self, trusted: Trusted) -> Result<(), WriteError> {
        self.replace(TRUST, &seal(Kind::Trust, &trusted))?;
        self.state.trusted = Some(trusted);
        Ok(())
    }

    /// Writes the entries.
    ///
    /// # Errors
    /// [`WriteError`]; nothing is changed then.
    pub fn set_entries(&mut self, entries: Entries) -> Result<(), WriteError> {
        self.replace(inspect::ENTRIES, &seal(Kind::Entries, &entries))?;
        self.state.entries = entries;
        Ok(())
    }

    /// Writes an imported list, in the place of the one with its name.
    ///
    /// # Errors
    /// [`WriteError`]; nothing is changed then.
    pub fn set_list(&mut self, list: List, addresses: &AddressSet) -> Result<(), WriteError> {
        self.set_sealed_list(SealedList::of(list, addresses))
    }

    /// Writes an imported list that was made ready before, in the place of the one with its name.
    ///
    /// # Errors
    /// [`WriteError`]; nothing is changed then.
    pub fn set_sealed_list(&mut self, sealed: SealedList) -> Result<(), WriteError> {
        let SealedList { list, bytes } = sealed;
        self.replace(&list_file(&list.name), &bytes)?;
        self.state.lists.insert(list.name.clone(), list);
        Ok(())
    }

    /// Removes an imported list. One that is not there is no error.
    ///
    /// # Errors
    /// [`WriteError`]; nothing is changed then.
    pub fn remove_list(&mut self, name: &ListName) -> Result<(), WriteError> {
        let file = list_file(name);
        let removed = self.remove(&file);
        self.written(&file, removed)?;
        self.state.lists.remove(name);
        Ok(())
    }

    /// The addresses of an imported list, read from disk.
    ///
    /// # Errors
    /// The fault of its file, when none before it can be used either. It was whole when the store was opened.
    pub fn addresses(&mut self, name: &ListName) -> Result<AddressSet, Fault> {
        addresses(self.writer.disk(), name)
    }

    /// The addresses that the list of this name had before it was written last.
    ///
    /// # Errors
    /// The fault of the file that keeps them.
    pub fn addresses_before(&mut self, name: &ListName) -> Result<AddressSet, Fault> {
        addresses_in(self.writer.disk(), &last(&list_file(name)))
    }

    /// The entries, and the lists with their addresses.
    ///
    /// # Errors
    /// The first list that cannot be read; all of them were whole when the store was opened.
    pub fn fronts(&mut self) -> Result<Fronts, ListError> {
        let mut lists = Vec::new();
        for list in self.state.lists.values().cloned().collect::<Vec<_>>() {
            let addresses = self.addresses(&list.name);
            let fault = |fault| ListError { name: list.name.clone(), fault };
            lists.push((list.clone(), addresses.map_err(fault)?));
        }
        Ok(Fronts { entries: self.state.entries.clone(), lists })
    }

    /// The version of the next edition.
    pub fn next_version(&self) -> u64 {
        let State { current, previous, pending, .. } = &self.state;
        let pending = pending.as_ref().map(|pending| &pending.edition);
        let known = [current.as_ref(), previous.as_ref(), pending].into_iter().flatten();
        known.map(|edition| edition.version).max().unwrap_or(0).saturating_add(1)
    }

    /// Writes an edition that rolls back unless it is confirmed. Its version is made the next one.
    ///
    /// # Errors
    /// [`WriteError`]; nothing is changed then.
    pub fn propose(&mut self, mut pending: Pending) -> Result<(), WriteError> {
        pending.edition.version = self.next_version();
        self.replace(PENDING, &seal(Kind::Pending, &pending))?;
        self.state.pending = Some(pending);
        Ok(())
    }

    /// Makes the pending edition the current one, after what is trusted with it. Without any, nothing happens.
    ///
    /// # Errors
    /// [`WriteError`]; what is trusted may be written then, and nothing else is changed.
    pub fn confirm(&mut self) -> Result<(), WriteError> {
        let Some(pending) = self.state.pending.clone() else { return Ok(()) };
        if let Some(trusted) = pending.trusted {
            self.set_trusted(trusted)?;
        }
        self.enact(pending.edition)
    }

    /// Calls the pending edition by another target of the controller. Without any, nothing happens.
    ///
    /// # Errors
    /// [`WriteError`]; nothing is changed then.
    pub fn rename_pending(&mut self, name: String) -> Result<(), WriteError> {
        let Some(mut pending) = self.state.pending.clone() else { return Ok(()) };
        if let Written::Documents { target, .. } = &mut pending.edition.rules {
            *target = Some(name);
        }
        self.replace(PENDING, &seal(Kind::Pending, &pending))?;
        self.state.pending = Some(pending);
        Ok(())
    }

    /// Gives up the pending edition: the current one stays.
    ///
    /// # Errors
    /// [`WriteError`]; nothing is changed then.
    pub fn withdraw(&mut self) -> Result<(), WriteError> {
        let removed = self.writer.remove(PENDING);
        self.written(PENDING, removed)?;
        self.state.pending = None;
        Ok(())
    }

    /// Makes an edition the current one, for good; what was current is the previous one then, and a pending one is given
    /// up. Its version is made the next one.
    ///
    /// # Errors
    /// [`WriteError`]; nothing is changed then.
    pub fn commit(&mut self, mut edition: Edition) -> Result<(), WriteError> {
        edition.version = self.next_version();
        self.enact(edition)
    }

    /// Forgets everything, as after `fwnet down`: the next start enforces nothing until it is told to.
    ///
    /// # Errors
    /// [`WriteError`]; a part may be gone then. The place goes first, without which nothing is enforced.
    pub fn forget(&mut self) -> Result<(), WriteError> {
        let lists = self.state.lists.keys().map(list_file).collect::<Vec<_>>();
        let files = [PLACE, STANCE, PENDING, RETIRED, PREVIOUS, CURRENT, inspect::ENTRIES, TRUST];
        for file in files.map(str::to_owned).into_iter().chain(lists) {
            let removed = self.remove(&file);
            self.written(&file, removed)?;
        }
        self.state = State::default();
        Ok(())
    }

    /// An edition becomes the current one: the one rename in the middle is what decides.
    fn enact(&mut self, edition: Edition) -> Result<(), WriteError> {
        let before = self.writer.is_good(CURRENT).then(|| self.state.current.clone()).flatten();
        let retired = self.settle().and_then(|()| match before {
            Some(_) => self.writer.link(CURRENT, RETIRED),
            None => Ok(()),
        });
        self.note(&retired);
        retired?;
        self.replace(CURRENT, &seal(Kind::Policy, &edition))?;
        if before.is_some() {
            self.health.findings.retain(|found| found.file != PREVIOUS);
            self.state.previous = before;
        }
        self.state.current = Some(edition);
        self.state.pending = None;
        // From here on the change is made. What is left is tidying, which the next start would do as well.
        let tidied = self.settle().and_then(|()| self.writer.remove(PENDING));
        self.note(&tidied);
        Ok(())
    }

    /// What was current before the last change becomes the previous one on disk as well.
    fn settle(&mut self) -> Result<(), WriteError> {
        let Some(retired) = inspect::version(self.writer.disk(), RETIRED) else {
            return self.writer.remove(RETIRED);
        };
        if inspect::version(self.writer.disk(), CURRENT) != Some(retired) {
            self.writer.link(RETIRED, PREVIOUS)?;
        }
        self.writer.remove(RETIRED)
    }

    /// Removes what unfinished writes left, and finishes a change of policy.
    fn tidy(&mut self, leftovers: &[String]) -> Result<(), WriteError> {
        for name in leftovers {
            self.writer.remove(name)?;
        }
        self.writer.probe()?;
        self.settle()?;
        if self.state.pending.is_none() && !self.health.has_lost(PENDING) {
            self.writer.remove(PENDING)?;
        }
        Ok(())
    }

    /// Removes a file and the one before it, which goes first: alone it would be taken for what is left of the file.
    fn remove(&mut self, file: &str) -> Result<(), WriteError> {
        self.writer.remove(&last(file))?;
        self.writer.remove(file)
    }

    fn replace(&mut self, file: &str, bytes: &[u8]) -> Result<(), WriteError> {
        let keep = file != CURRENT && file != PENDING;
        let replaced = self.writer.replace(file, bytes, keep);
        self.written(file, replaced)
    }

    /// Remembers how a write went.
    fn written(&mut self, file: &str, result: Result<(), WriteError>) -> Result<(), WriteError> {
        if result.is_ok() {
            self.health.findings.retain(|found| found.file != file);
        }
        self.note(&result);
        result
    }

    fn note(&mut self, result: &Result<(), WriteError>) {
        let failed = result.as_ref().err().map(WriteError::sentence);
        self.health.unwritten = failed.or_else(|| self.writer.uncertain().map(str::to_owned));
    }
}
