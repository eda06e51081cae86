//! Run-time lists in the core: entries and lists come, end and go, and feeds are read again.
//!
//! What is asked is done whole or not at all: the disk has it first, and the kernel follows the disk. If the kernel
//! refuses, the disk goes back.

mod asked;
mod change;
mod feeds;
mod session;

use ::agent::{
    lists::{End, Entry, Feed, List, ListName, Moment},
    machine::Refusal,
};
use verdict::Flow;

pub(crate) use asked::{Import, deny, deny_no_longer, import, remove_list};
pub(crate) use feeds::{Feeds, feed};

use super::{Core, clock};
use crate::api::{
    Problem,
    routes::{deny, lists, preview::Ahead},
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

    /// A file that a list follows has been read, in vain if there is a trouble.
    pub(super) fn feed_was_read(
        &mut self,
        name: &ListName,
        file: Option<Feed>,
        renewed: Result<(), String>,
    ) {
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
