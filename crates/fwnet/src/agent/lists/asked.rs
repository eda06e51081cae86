//! What people and feeds ask of the run-time lists. Each of these runs on a thread that may block, and asks the core for
//! what it needs.

use std::sync::Arc;

use ::agent::{
    edition::Applied,
    lists::{End, Entries, Entry, Feed, List, ListName, Moment, Plain, Target},
    revoke::Existing,
};
use image::AddressSet;
use jiff::Timestamp;
use verdict::Flow;

use super::{
    change::{Change, Wanted, Would, carry_out, try_out},
    session,
};
use crate::{
    agent::{
        Asking, Core,
        revoking::{Revoked, Sweeping, Wish},
    },
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

/// Adds entries, all of them or none, or says what they would do.
///
/// # Errors
/// Where a target is none, the session that asks would be cut off, or they cannot be written or enforced.
pub(crate) fn deny(
    asking: &Asking,
    add: deny::Add,
    peer: Peer,
) -> Result<(deny::Added, Sweeping), Problem> {
    let (dry_run, add) = (add.dry_run, Arc::new(add));
    let want = move |core: &Core| {
        let (entries, added) = core.with_entries(&add, &peer)?;
        let wish = wish(add.existing, add.force, add.session.as_ref());
        Ok(Some((Wanted { change: Change::Entries(entries), wish }, added)))
    };
    if dry_run {
        let read = read(asking)?;
        let tried = try_out(asking, want)?;
        let (added, would) = tried.expect("a change is wanted");
        let preview = Some(would.preview(asking, read)?);
        return Ok((deny::Added { applied: false, preview, ..added }, Sweeping::default()));
    }
    let done = carry_out(asking, want)?;
    Ok(done.expect("a change is wanted"))
}

/// Removes entries. What is not there is told.
///
/// # Errors
/// Where a target is none, or the rest cannot be written or enforced; then all of them stay.
pub(crate) fn deny_no_longer(
    asking: &Asking,
    remove: &deny::Remove,
) -> Result<deny::Removed, Problem> {
    let targets = targets(&remove.targets)?;
    let asked = targets.clone();
    let done = carry_out(asking, move |core: &Core| {
        let mut entries = core.kept.store.state().entries.clone();
        let (removed, absent): (Vec<Target>, Vec<Target>) =
            asked.iter().partition(|&&target| entries.remove(target).is_some());
        if removed.is_empty() {
            return Ok(None);
        }
        let removed = deny::Removed { removed: texts(&removed), absent: texts(&absent) };
        Ok(Some((Wanted { change: Change::Entries(entries), wish: None }, removed)))
    })?;
    let nothing = || deny::Removed { removed: Vec::new(), absent: texts(&targets) };
    Ok(done.map_or_else(nothing, |(removed, _sweeping)| removed))
}

/// A list that is to be imported.
#[derive(Clone, Debug)]
pub(crate) struct Import {
    name: ListName,
    addresses: Arc<AddressSet>,
    lines: u32,
    feed: Option<Feed>,
    how: lists::How,
    by: Applied,
}

impl Import {
    /// What was read, under this name.
    pub(crate) fn of(
        name: ListName,
        plain: Plain,
        feed: Option<Feed>,
        how: lists::How,
        peer: &Peer,
    ) -> Self {
        let by = by(peer, how.session.clone());
        Self { name, addresses: Arc::new(plain.addresses), lines: plain.lines, feed, how, by }
    }

    fn list(&self, now: &Moment) -> Result<List, Problem> {
        Ok(List {
            name: self.name.clone(),
            lines: self.lines,
            end: end(self.how.for_ms, now)?,
            reason: self.how.reason.clone(),
            feed: self.feed.clone(),
            by: self.by.clone(),
        })
    }
}

/// Puts a list in the place of the one with its name, or says what it would do.
///
/// # Errors
/// Where the session that asks would be cut off, or it cannot be written or enforced.
pub(crate) fn import(
    asking: &Asking,
    import: Import,
) -> Result<(lists::Imported, Sweeping), Problem> {
    let (dry_run, name) = (import.how.dry_run, import.name.clone());
    let want = move |core: &Core| {
        let (how, session) = (&import.how, import.how.session.as_ref());
        let cuts = |flow: &Flow| import.addresses.contains(flow.remote.address);
        core.spare(session.filter(|_| !how.force).map(String::as_str), cuts)?;
        if how.existing == ExistingWord::Revoke {
            core.may_revoke()?;
        }
        let list = import.list(&core.now())?;
        let imported = lists::Imported {
            list: core.list(&list),
            replaced: core.kept.store.state().lists.contains_key(&import.name),
            applied: true,
            preview: None,
            revoked: Revoked::default(),
        };
        let wish = wish(how.existing, how.force, session);
        let change = Change::List(list, Arc::clone(&import.addresses));
        Ok(Some((Wanted { change, wish }, imported)))
    };
    if dry_run {
        let read = read(asking)?;
        let tried = try_out(asking, want)?;
        let (imported, would) = tried.expect("a change is wanted");
        let preview = Some(would.preview(asking, read)?);
        return Ok((lists::Imported { applied: false, preview, ..imported }, Sweeping::default()));
    }
    let done = carry_out(asking, want)?;
    let (imported, sweeping) = done.expect("a change is wanted");
    // Whatever was known of the file that the list followed before is over.
    asking.ask_and_wait(move |core| core.feeds.forget(&name))?;
    Ok((
        lists::Imported { list: lists::List { trouble: None, ..imported.list }, ..imported },
        sweeping,
    ))
}

/// Removes a list. Whether there was one of this name.
///
/// # Errors
/// Where what is left cannot be written or enforced; then it stays.
pub(crate) fn remove_list(asking: &Asking, name: &ListName) -> Result<bool, Problem> {
    let name = name.clone();
    let done = carry_out(asking, move |core: &Core| {
        let known = core.kept.store.state().lists.contains_key(&name);
        let wanted = Wanted { change: Change::Without(name.clone()), wish: None };
        Ok(known.then_some((wanted, ())))
    })?;
    Ok(done.is_some())
}

/// Puts what a file says now in force, if a list still follows it.
///
/// # Errors
/// Why the list stays as it is, in a sentence.
pub(super) fn renew(
    asking: &Asking,
    name: &ListName,
    plain: Plain,
    file: Feed,
) -> Result<(), String> {
    let (name, addresses) = (name.clone(), Arc::new(plain.addresses));
    let said = format!(
        "fwnet: list {name} was read again: {}",
        count(plain.lines as usize, "line", "lines")
    );
    let done = carry_out(asking, move |core: &Core| {
        let follows = |feed: &Feed| feed.path == file.path;
        let list = core.kept.store.state().lists.get(&name);
        let Some(list) = list.filter(|list| list.feed.as_ref().is_some_and(follows)) else {
            return Ok(None);
        };
        let by = Applied { at: Timestamp::now(), ..list.by.clone() };
        let renewed = List { lines: plain.lines, feed: Some(file.clone()), by, ..list.clone() };
        let change = Change::List(renewed, Arc::clone(&addresses));
        Ok(Some((Wanted { change, wish: None }, ())))
    });
    if done.map_err(|problem| problem.to_string())?.is_some() {
        eprintln!("{said}");
    }
    Ok(())
}

impl Core {
    /// The entries with those that are to be added.
    fn with_entries(
        &self,
        add: &deny::Add,
        peer: &Peer,
    ) -> Result<(Entries, deny::Added), Problem> {
        let targets = targets(&add.targets)?;
        let cuts = |flow: &Flow| targets.iter().any(|&target| session::is_of(flow, target));
        self.spare(add.session.as_deref().filter(|_| !add.force), cuts)?;
        if add.existing == ExistingWord::Revoke {
            self.may_revoke()?;
        }
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
        let revoked = Revoked::default();
        Ok((entries, deny::Added { added, refreshed, applied: true, preview: None, revoked }))
    }
}

impl Would {
    /// Who would newly be denied.
    fn preview(self, asking: &Asking, read: Read) -> Result<Preview, Problem> {
        let Self { ready, fronts, now } = self;
        let known = asking.ask_and_wait(move |core| {
            let judged = core.judged(read.namespaces());
            let inbound = core.settled.place.inbound.into();
            (judged, Arc::clone(&core.force.ready), inbound, read)
        });
        let (judged, old, inbound, read) = known?;
        let ahead = fronts.map(|fronts| Ahead { front: fronts.at(&now), inbound });
        Ok(read.of_lists(&judged, &old, &ready, ahead))
    }
}

/// Reads what a preview is made of.
fn read(asking: &Asking) -> Result<Read, Problem> {
    let (store, stamps) = asking.ask_and_wait(|core| (core.seeing.store(), core.stamps()))?;
    Ok(Read::of_flows(store.as_ref(), stamps.as_ref()))
}

/// What is asked for existing connections, besides what rules say.
fn wish(existing: ExistingWord, unprotected: bool, session: Option<&String>) -> Option<Wish> {
    let session = session.cloned();
    (existing == ExistingWord::Revoke).then_some(Wish {
        existing: Existing::Revoke,
        unprotected,
        session,
    })
}

fn targets(texts: &[String]) -> Result<Vec<Target>, Problem> {
    if texts.is_empty() {
        return Err(Problem::unfit("no target is named"));
    }
    texts.iter().map(|text| text.parse().map_err(Problem::unfit)).collect()
}

fn texts(targets: &[Target]) -> Vec<String> {
    targets.iter().map(ToString::to_string).collect()
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
