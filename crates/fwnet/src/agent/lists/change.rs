//! A change of the run-time lists, in three parts: the core says what is to become of them, a thread of its own makes that
//! into images, and the core puts these in force. A list of a million lines takes seconds for the second part only.
//!
//! Where only entries change and nothing is on trial, nothing is read and compiled but what they change: the rules of the
//! policy, the lists and the tables of their addresses are those in force. Such a change is in force before it is on disk,
//! and told when it is on both: an agent that dies in between puts in force again what the disk says.
//!
//! What was made is of use where nothing else was changed meanwhile; if something was, it is made again.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use ::agent::{
    edition::Edition,
    lists::{Entries, Fronts, List, ListName, Moment},
    machine::Law,
    store::{SealedList, addresses},
};
use anyhow::Context;
use image::AddressSet;
use jiff::Timestamp;

use crate::{
    agent::{
        Asking, Core, clock,
        core::edition_of,
        disk::Directory,
        making::{Images, Known, Making},
        revoking::{Sweeping, Wish},
    },
    api::Problem,
    orders::{Bare, Ready},
    place::Place,
};

/// A change that others overtake for so long is made by the core, which does nothing else then.
const OVERTAKEN_MAX: Duration = Duration::from_secs(60);

/// What is to become of the run-time lists.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// These entries in the place of all.
    Entries(Entries),
    /// This list with its addresses, in the place of the one with its name.
    List(List, Arc<AddressSet>),
    /// The list of this name is removed.
    Without(ListName),
}

/// A change, and what is asked for existing connections.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) change: Change,
    /// Nothing but what rules say, if it is `None`.
    pub(super) wish: Option<Wish>,
}

/// What images are made of.
#[derive(Debug)]
struct Materials {
    basis: u64,
    change: Change,
    place: Place,
    controllers: Vec<SocketAddr>,
    /// What is in force, if that is what the disk says.
    known: Option<Known>,
    /// The editions that `law` names, unless their rules are known.
    editions: Vec<Edition>,
    law: Law,
    entries: Entries,
    lists: Vec<List>,
    /// Where their addresses are.
    state: PathBuf,
    now: Moment,
    ended_at: Timestamp,
}

/// What was made of them.
#[derive(Debug)]
struct Made {
    basis: u64,
    law: Law,
    now: Moment,
    images: Images,
    change: Sealed,
}

/// A change as it is written.
#[derive(Debug)]
enum Sealed {
    Entries(Entries),
    Lists(Box<Lists>),
}

/// A change of the lists as it is written.
#[derive(Debug)]
enum Lists {
    With(ListName, SealedList),
    Without(List, AddressSet),
}

/// What came of what was made.
enum Put {
    /// It is in force.
    Done(Sweeping),
    /// It is to be made again.
    Again,
}

/// A change as it would be, for those who ask beforehand.
#[derive(Debug)]
pub(super) struct Would {
    /// What would be in force now.
    pub(super) ready: Arc<Ready>,
    /// What stands in front of the policy now, and what would.
    pub(super) fronts: [Fronts; 2],
    /// When.
    pub(super) now: Moment,
}

/// Has a change made that `want` says, with what is to be told of it; `None` is that there is nothing to change. `want`
/// is asked again where something else was changed meanwhile. Blocks for as long as it takes.
///
/// # Errors
/// What `want` says, and where the change cannot be made, written or enforced: then nothing is changed.
pub(super) fn carry_out<T: Send + 'static>(
    asking: &Asking,
    want: impl Fn(&Core) -> Result<Option<(Wanted, T)>, Problem> + Clone + Send + 'static,
) -> Result<Option<(T, Sweeping)>, Problem> {
    let began = Instant::now();
    loop {
        let asked = want.clone();
        if began.elapsed() >= OVERTAKEN_MAX {
            return asking.ask_and_wait(move |core| core.change_at_once(&asked))?;
        }
        let begun = asking.ask_and_wait(move |core| {
            let Some((Wanted { change, wish }, told)) = asked(core)? else { return Ok(None) };
            Ok::<_, Problem>(Some((core.materials(change)?, wish, told)))
        })?;
        let Some((materials, wish, told)) = begun? else { return Ok(None) };
        let made = materials.make()?;
        if !made.images.share() {
            kernel::give_back();
        }
        if let Put::Done(sweeping) = asking.ask_and_wait(move |core| core.put(made, wish))?? {
            return Ok(Some((told, sweeping)));
        }
    }
}

/// What a change would put in force now, which `want` says; `None` is that there is nothing to change. Nothing is
/// changed.
///
/// # Errors
/// As [`carry_out`].
pub(super) fn try_out<T: Send + 'static>(
    asking: &Asking,
    want: impl FnOnce(&Core) -> Result<Option<(Wanted, T)>, Problem> + Send + 'static,
) -> Result<Option<(T, Would)>, Problem> {
    let begun = asking.ask_and_wait(move |core| {
        let Some((wanted, told)) = want(core)? else { return Ok(None) };
        let mut materials = core.materials(wanted.change)?;
        materials.law.then = None;
        Ok::<_, Problem>(Some((materials, told)))
    })?;
    let Some((materials, told)) = begun? else { return Ok(None) };
    Ok(Some((told, materials.would()?)))
}

impl Materials {
    fn make(self) -> anyhow::Result<Made> {
        let (before, after) = self.fronts()?;
        let images = self.images(after)?;
        let Self { basis, change, law, now, .. } = self;
        let change = match change {
            Change::Entries(entries) => Sealed::Entries(entries),
            Change::List(list, addresses) => {
                let (name, sealed) = (list.name.clone(), SealedList::of(list, &addresses));
                Sealed::Lists(Box::new(Lists::With(name, sealed)))
            }
            Change::Without(name) => {
                let mut lists = before.lists.into_iter();
                let known = lists.find(|(list, _)| list.name == name);
                let (list, addresses) =
                    known.with_context(|| format!("there is no list {name}"))?;
                Sealed::Lists(Box::new(Lists::Without(list, addresses)))
            }
        };
        Ok(Made { basis, law, now, images, change })
    }

    fn would(self) -> anyhow::Result<Would> {
        let (before, after) = self.fronts()?;
        let ready = self.images(after.clone())?.now;
        Ok(Would { ready, fronts: [before, after], now: self.now })
    }

    fn images(&self, fronts: Fronts) -> anyhow::Result<Images> {
        let edition = |version| self.editions.iter().find(|edition| edition.version == version);
        let Self { place, controllers, ended_at, .. } = self;
        let (ended_at, known) = (*ended_at, self.known.clone());
        let making = Making { place, controllers, fronts, known, ended_at, edition: &edition };
        making.images(self.law, &self.now)
    }

    /// What stands in front of the policy before the change, and after it.
    fn fronts(&self) -> anyhow::Result<(Fronts, Fronts)> {
        let mut disk = Directory::open_existing(&self.state)
            .with_context(|| self.state.display().to_string())?;
        let mut before = Fronts { entries: self.entries.clone(), lists: Vec::new() };
        for list in &self.lists {
            let known = self.known.iter().flat_map(|known| &known.now.lists);
            let mut known = known.filter(|(name, _)| *name == list.name);
            let read = match known.next() {
                Some((_, addresses)) => addresses.clone(),
                None => addresses(&mut disk, &list.name)
                    .with_context(|| format!("read the list {}", list.name))?,
            };
            before.lists.push((list.clone(), read));
        }
        let mut after = before.clone();
        match &self.change {
            Change::Entries(entries) => after.entries = entries.clone(),
            Change::List(list, addresses) => {
                after.lists.retain(|(known, _)| known.name != list.name);
                after.lists.push((list.clone(), (**addresses).clone()));
                // As the store has them.
                after.lists.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
            }
            Change::Without(name) => after.lists.retain(|(known, _)| known.name != *name),
        }
        Ok((before, after))
    }
}

impl Core {
    fn materials(&self, change: Change) -> Result<Materials, Problem> {
        let now = self.now();
        let law = self.standing().law(clock::counted(&now));
        let law = law.context("there is no policy")?;
        let state = self.kept.store.state();
        // What the core failed to put in force, or what is only for a time, is made from what the disk says.
        let in_force = &self.force.ready;
        let known = !self.behind && law.then.is_none() && in_force.rules.version == law.now;
        let known = (known && in_force.bare.is_some()).then(|| self.force.known(true));
        let versions = [Some(law.now), law.then.map(|(_, version)| version)];
        let edition = |version| edition_of(state, None, version).cloned();
        let editions = versions.into_iter().flatten().filter(|_| known.is_none());
        Ok(Materials {
            basis: self.basis,
            change,
            place: self.settled.place.clone(),
            controllers: self.controllers.clone(),
            editions: editions.filter_map(edition).collect(),
            known,
            law,
            entries: state.entries.clone(),
            lists: state.lists.values().cloned().collect(),
            state: self.paths.state.clone(),
            now,
            ended_at: self.ended_at,
        })
    }

    /// Writes a change and puts it in force, if nothing else was changed since it was made.
    fn put(&mut self, made: Made, wish: Option<Wish>) -> Result<Put, Problem> {
        let law = self.standing().law(clock::counted(&self.now()));
        if made.basis != self.basis || law != Some(made.law) {
            return Ok(Put::Again);
        }
        let Made { now, images, change, .. } = made;
        // What can be undone by what the disk says is in force first: denying does not wait for the disk.
        let (change, undo) = match change {
            Sealed::Entries(entries) => (Some(entries), None),
            Sealed::Lists(lists) => (None, Some(self.write(*lists)?)),
        };
        let before = wish.map(|wish| std::mem::replace(&mut self.revoking.wish, wish));
        let done = self.enforce_made(&images, now).map_err(Problem::from);
        let done = match change {
            Some(entries) => done.and_then(|()| {
                let written = self.kept.store.set_entries(entries);
                Ok(written.map_err(anyhow::Error::from)?)
            }),
            None => done,
        };
        let Err(error) = done else {
            self.hold_existing();
            return Ok(Put::Done(self.revoking.began()));
        };
        if let Some(before) = before {
            self.revoking.wish = before;
        }
        if let Some(undo) = undo {
            self.undo(undo)?;
        }
        self.obey();
        Err(error)
    }

    /// Puts in force what is left after rules ended, which the kernel has let end by itself.
    pub(in crate::agent) fn follow_ends(&mut self) {
        let entries = self.kept.store.state().entries.clone();
        let made_at = self.made.boottime_ns;
        let left = || -> Result<bool, Problem> {
            let materials = self.materials(Change::Entries(entries))?;
            let bare = materials.known.as_ref().and_then(|known| known.now.bare.clone());
            // Of rules of the policy that end other things follow: what is said of it, for one.
            let now = self.now().boottime_ns;
            let is_whole =
                |bare: &Arc<Bare>| bare.rules.next_end(made_at).is_none_or(|end| end > now);
            if !bare.as_ref().is_some_and(is_whole) {
                return Ok(false);
            }
            let Made { images, now, .. } = materials.make()?;
            self.enforce_made(&images, now)?;
            self.hold_existing();
            Ok(true)
        };
        if !left().unwrap_or(false) {
            self.obey();
        }
    }

    /// Makes a change while everything else waits.
    fn change_at_once<T>(
        &mut self,
        want: &impl Fn(&Self) -> Result<Option<(Wanted, T)>, Problem>,
    ) -> Result<Option<(T, Sweeping)>, Problem> {
        loop {
            let Some((Wanted { change, wish }, told)) = want(self)? else { return Ok(None) };
            let made = self.materials(change)?.make()?;
            if let Put::Done(sweeping) = self.put(made, wish)? {
                return Ok(Some((told, sweeping)));
            }
        }
    }

    /// Has a change of a list on disk. What undoes it is the value.
    fn write(&mut self, change: Lists) -> Result<Undo, Problem> {
        let store = &mut self.kept.store;
        let (written, undo) = match change {
            Lists::With(name, sealed) => {
                let undo = match store.state().lists.get(&name) {
                    Some(before) => Undo::Replaced(before.clone()),
                    None => Undo::Added(name),
                };
                (store.set_sealed_list(sealed), undo)
            }
            Lists::Without(list, addresses) => {
                (store.remove_list(&list.name), Undo::Removed(list, addresses))
            }
        };
        written.map_err(anyhow::Error::from)?;
        Ok(undo)
    }

    fn undo(&mut self, undo: Undo) -> Result<(), Problem> {
        let store = &mut self.kept.store;
        let undone = match undo {
            Undo::Added(name) => store.remove_list(&name),
            Undo::Removed(list, addresses) => store.set_list(list, &addresses),
            Undo::Replaced(list) => {
                let addresses = store.addresses_before(&list.name).map_err(anyhow::Error::from)?;
                store.set_list(list, &addresses)
            }
        };
        Ok(undone.map_err(anyhow::Error::from)?)
    }
}

/// What undoes a change on disk.
enum Undo {
    Added(ListName),
    Replaced(List),
    Removed(List, AddressSet),
}
