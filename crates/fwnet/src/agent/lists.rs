//! Run-time lists in the core: entries and lists come, end and go, and feeds are read again.
//!
//! What is asked is done whole or not at all: the disk has it first, and the kernel follows the disk. If the kernel
//! refuses, the disk goes back.

mod feeds;
mod session;

use ::agent::{
    edition::Applied,
    lists::{End, Entries, Entry, Feed, List, ListName, Moment, Plain, Target},
    machine::Refusal,
    revoke::Existing,
};
use image::AddressSet;
use jiff::Timestamp;
use verdict::Flow;

pub(crate) use feeds::{Feeds, feed};

use super::{
    Core, clock,
    core::edition_of,
    revoking::{Revoked, Wish},
    stages::Making,
};
use crate::{
    api::{
        Peer, Problem,
        routes::{
            apply::ExistingWord,
            deny, lists,
            preview::{Ahead, Preview, Read},
        },
    },
    orders::count,
};

impl Core {
    /// The entries.
    pub(crate) fn denied(&self) -> deny::Denied {
        let entries = self.kept.store.state().entries.iter().map(deny::Entry::of).collect();
        deny::Denied { entries }
    }

    /// What stands in front of the policy now.
    ///
    /// # Errors
    /// Where a list cannot be read.
    pub(crate) fn ahead(&mut self) -> anyhow::Result<Ahead> {
        let front = self.kept.store.fronts()?.at(&self.now());
        Ok(Ahead { front, inbound: self.settled.place.inbound.into() })
    }

    /// What other entries would do, and changes nothing.
    fn preview_entries(&mut self, entries: &Entries, read: Read) -> anyhow::Result<Preview> {
        let now = self.now();
        let Some(law) = self.standing().law(clock::counted(&now)) else {
            return Ok(Preview::default());
        };
        let inbound = self.settled.place.inbound.into();
        let mut fronts = self.kept.store.fronts()?;
        let before = Ahead { front: fronts.at(&now), inbound };
        fronts.entries = entries.clone();
        let after = Ahead { front: fronts.at(&now), inbound };
        let state = self.kept.store.state();
        let edition = |version| edition_of(state, None, version);
        let making = Making { place: &self.settled.place, fronts, edition: &edition };
        let new = making.now_only(law.now, &now)?;
        Ok(read.of_lists(self, &new, before, after))
    }

    /// Existing connections can be ended only by what is in force for good.
    fn may_revoke(&self) -> Result<(), Problem> {
        if let Some(trial) = self.standing().running(clock::counted(&self.now())) {
            return Err(Problem::conflict(Refusal::TrialRuns(trial.version)));
        }
        if self.force.firewall.is_locked_down() {
            return Err(Problem::conflict("in lockdown no list is in force: fwnet resume first"));
        }
        Ok(())
    }

    /// Adds entries, all of them or none; `read` is for the preview of a dry run.
    ///
    /// # Errors
    /// Where a target is none, the session that asks would be cut off, or they cannot be written or enforced.
    pub(crate) fn deny(
        &mut self,
        add: &deny::Add,
        read: Option<Read>,
        peer: &Peer,
    ) -> Result<deny::Added, Problem> {
        let targets = targets(&add.targets)?;
        let cuts = |flow: &Flow| targets.iter().any(|&target| session::is_of(flow, target));
        self.spare(add.session.as_deref().filter(|_| !add.force), cuts)?;
        let now = self.now();
        let by = by(peer, add.session.clone());
        let mut entries = self.kept.store.state().entries.clone();
        let (mut added, mut refreshed) = (Vec::new(), Vec::new());
        for &target in &targets {
            let entry = Entry {
                target,
                end: end(add.for_ms, &now)?,
                reason: add.reason.clone(),
                by: by.clone(),
            };
            let before = entries.add(entry).map_err(Problem::conflict)?;
            let list = if before.is_some() { &mut refreshed } else { &mut added };
            list.extend(entries.find(target).map(deny::Entry::of));
        }
        if add.existing == ExistingWord::Revoke {
            self.may_revoke()?;
        }
        if let Some(read) = read {
            let preview = Some(self.preview_entries(&entries, read)?);
            let revoked = Revoked::default();
            return Ok(deny::Added { added, refreshed, applied: false, preview, revoked });
        }
        self.revoking.last = Revoked::default();
        let before = self.revoking.wish.clone();
        if add.existing == ExistingWord::Revoke {
            let session = add.session.clone();
            self.revoking.wish =
                Wish { existing: Existing::Revoke, unprotected: add.force, session };
        }
        let changed = self.change_entries(entries);
        if changed.is_err() && add.existing == ExistingWord::Revoke {
            self.revoking.wish = before;
        }
        changed?;
        let revoked = self.revoking.last;
        Ok(deny::Added { added, refreshed, applied: true, preview: None, revoked })
    }

    /// Removes entries. What is not there is told.
    ///
    /// # Errors
    /// Where a target is none, or the rest cannot be written or enforced; then all of them stay.
    pub(crate) fn deny_no_longer(
        &mut self,
        remove: &deny::Remove,
    ) -> Result<deny::Removed, Problem> {
        let targets = targets(&remove.targets)?;
        let mut entries = self.kept.store.state().entries.clone();
        let (removed, absent): (Vec<Target>, Vec<Target>) =
            targets.into_iter().partition(|&target| entries.remove(target).is_some());
        if !removed.is_empty() {
            self.change_entries(entries)?;
        }
        let texts = |targets: Vec<Target>| targets.iter().map(ToString::to_string).collect();
        Ok(deny::Removed { removed: texts(removed), absent: texts(absent) })
    }

    /// The lists.
    pub(crate) fn lists(&self) -> lists::Lists {
        let lists = self.kept.store.state().lists.values();
        lists::Lists { lists: lists.map(|list| self.list(list)).collect() }
    }

    fn list(&self, list: &List) -> lists::List {
        lists::List {
            name: list.name.to_string(),
            lines: list.lines,
            until: list.end.as_ref().map(|end| end.at),
            reason: list.reason.clone(),
            follows: list.feed.as_ref().map(|feed| feed.path.clone()),
            trouble: self.feeds.trouble(&list.name),
            uid: list.by.uid,
            imported: list.by.at,
        }
    }

    /// Puts a list in the place of the one with its name.
    ///
    /// # Errors
    /// Where the session that asks would be cut off, or it cannot be written or enforced.
    pub(crate) fn import(
        &mut self,
        name: ListName,
        plain: Plain,
        feed: Option<Feed>,
        how: &lists::How,
        peer: &Peer,
    ) -> Result<lists::Imported, Problem> {
        let cuts = |flow: &Flow| plain.addresses.contains(flow.remote.address);
        self.spare(how.session.as_deref().filter(|_| !how.force), cuts)?;
        let now = self.now();
        let list = List {
            name: name.clone(),
            lines: plain.lines,
            end: end(how.for_ms, &now)?,
            reason: how.reason.clone(),
            feed,
            by: by(peer, how.session.clone()),
        };
        let replaced = self.kept.store.state().lists.contains_key(&name);
        self.change_list(list, &plain.addresses)?;
        self.feeds.forget(&name);
        let list = self.kept.store.state().lists.get(&name).map(|list| self.list(list));
        Ok(lists::Imported { list: list.expect("it was just written"), replaced })
    }

    /// Removes a list, if there is one of this name.
    ///
    /// # Errors
    /// Where what is left cannot be written or enforced; then it stays.
    pub(crate) fn remove_list(&mut self, name: &ListName) -> Result<bool, Problem> {
        let Some(list) = self.kept.store.state().lists.get(name).cloned() else { return Ok(false) };
        let addresses = self.kept.store.addresses(name).map_err(anyhow::Error::from)?;
        self.kept.store.remove_list(name).map_err(unwritten)?;
        let Err(error) = self.follow_disk() else { return Ok(true) };
        self.kept.store.set_list(list, &addresses).map_err(unwritten)?;
        self.obey();
        Err(error.into())
    }

    /// Lets end what is over, and reads feeds again. Whether anything ended.
    pub(super) fn look_after_lists(&mut self) -> bool {
        let now = self.now();
        self.feeds.look(&self.kept.store.state().lists);
        self.end_what_is_over(&now)
    }

    /// Counts the ends of an earlier boot by the clock of this one, from now on: the clock on the wall may yet be set.
    pub(super) fn settle_lists(&mut self) {
        let now = self.now();
        let entries = &self.kept.store.state().entries;
        let settled = entries.settled(&now);
        let mut written = match settled == *entries {
            true => Ok(()),
            false => self.kept.store.set_entries(settled),
        };
        for list in self.kept.store.state().lists.values().cloned().collect::<Vec<_>>() {
            let Some(end) = list.end.as_ref().filter(|end| end.boot != now.boot) else { continue };
            let settled = List { end: Some(end.settled(&now)), ..list.clone() };
            if let Ok(addresses) = self.kept.store.addresses(&list.name) {
                written = written.and(self.kept.store.set_list(settled, &addresses));
            }
        }
        if let Err(error) = written {
            eprintln!("fwnet: {:#}", anyhow::Error::from(error));
        }
    }

    /// A file that a list follows has been read.
    pub(super) fn feed_was_read(
        &mut self,
        name: &ListName,
        file: Option<Feed>,
        read: Result<Plain, String>,
    ) {
        let renewed = match (read, file.clone()) {
            (Ok(plain), Some(file)) => self.renew(name, plain, file),
            (Err(trouble), _) => Err(trouble),
            (Ok(_), None) => unreachable!("what was read was opened"),
        };
        if let Err(trouble) = &renewed {
            eprintln!("fwnet: list {name} stays as it is: {trouble}");
        }
        self.feeds.was_read(name, file, renewed.err());
    }

    /// The kernel has let them end by itself; this is for the disk and for those who look. What is over is over whether
    /// or not the disk takes it.
    fn end_what_is_over(&mut self, now: &Moment) -> bool {
        let state = self.kept.store.state();
        let is_over = |end: &Option<End>| end.as_ref().is_some_and(|end| end.is_over(now));
        let lists = state.lists.values().filter(|list| is_over(&list.end));
        let lists: Vec<ListName> = lists.map(|list| list.name.clone()).collect();
        // Asked twice a second, and the answer is nearly always no.
        if lists.is_empty() && !state.entries.iter().any(|entry| is_over(&entry.end)) {
            return false;
        }
        let mut entries = state.entries.clone();
        let ended = entries.end(now);
        let names = ended.iter().map(|entry| entry.target.to_string());
        let names: Vec<String> = names.chain(lists.iter().map(ToString::to_string)).collect();
        let written = if ended.is_empty() { Ok(()) } else { self.kept.store.set_entries(entries) };
        let written = written
            .and_then(|()| lists.iter().try_for_each(|name| self.kept.store.remove_list(name)));
        match written {
            Ok(()) => eprintln!("fwnet: no longer denied, its time is over: {}", names.join(", ")),
            // The next look tries again, and status says what the disk says.
            Err(_told) => return false,
        }
        true
    }

    /// Puts what a file says now in force, if a list still follows it.
    fn renew(&mut self, name: &ListName, plain: Plain, file: Feed) -> Result<(), String> {
        let follows = |feed: &Feed| feed.path == file.path;
        let list = self.kept.store.state().lists.get(name);
        let Some(list) = list.filter(|list| list.feed.as_ref().is_some_and(follows)) else {
            return Ok(());
        };
        let by = Applied { at: Timestamp::now(), ..list.by.clone() };
        let renewed = List { lines: plain.lines, feed: Some(file), by, ..list.clone() };
        let lines = count(plain.lines as usize, "line", "lines");
        self.change_list(renewed, &plain.addresses).map_err(|problem| problem.to_string())?;
        eprintln!("fwnet: list {name} was read again: {lines}");
        Ok(())
    }

    fn change_entries(&mut self, entries: Entries) -> Result<(), Problem> {
        let before = self.kept.store.state().entries.clone();
        self.kept.store.set_entries(entries).map_err(unwritten)?;
        let Err(error) = self.follow_disk() else { return Ok(()) };
        self.kept.store.set_entries(before).map_err(unwritten)?;
        self.obey();
        Err(error.into())
    }

    fn change_list(&mut self, list: List, addresses: &AddressSet) -> Result<(), Problem> {
        let name = list.name.clone();
        let before = match self.kept.store.state().lists.get(&name).cloned() {
            Some(list) => {
                let addresses = self.kept.store.addresses(&name).map_err(anyhow::Error::from)?;
                Some((list, addresses))
            }
            None => None,
        };
        self.kept.store.set_list(list, addresses).map_err(unwritten)?;
        let Err(error) = self.follow_disk() else { return Ok(()) };
        let back = match before {
            Some((list, addresses)) => self.kept.store.set_list(list, &addresses),
            None => self.kept.store.remove_list(&name),
        };
        back.map_err(unwritten)?;
        self.obey();
        Err(error.into())
    }

    /// Refuses what would cut off the session that asks.
    fn spare(&self, session: Option<&str>, cuts: impl Fn(&Flow) -> bool) -> Result<(), Problem> {
        session::spare(session, &self.force.ready, cuts)
    }
}

impl deny::Entry {
    fn of(entry: &Entry) -> Self {
        Self {
            target: entry.target.to_string(),
            until: entry.end.as_ref().map(|end| end.at),
            reason: entry.reason.clone(),
            uid: entry.by.uid,
            added: entry.by.at,
        }
    }
}

fn targets(texts: &[String]) -> Result<Vec<Target>, Problem> {
    if texts.is_empty() {
        return Err(Problem::unfit("no target is named"));
    }
    texts.iter().map(|text| text.parse().map_err(Problem::unfit)).collect()
}

fn by(peer: &Peer, session: Option<String>) -> Applied {
    Applied { at: Timestamp::now(), uid: peer.uid, session }
}

fn end(for_ms: Option<u64>, now: &Moment) -> Result<Option<End>, Problem> {
    match for_ms {
        Some(0) => Err(Problem::unfit("what ends at once is not begun: for_ms is 0")),
        Some(lasts) => Ok(Some(End::after(now, lasts.saturating_mul(1_000_000)))),
        None => Ok(None),
    }
}

fn unwritten(error: ::agent::store::WriteError) -> Problem {
    anyhow::Error::from(error).into()
}
