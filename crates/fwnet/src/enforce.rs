//! Enforcing in the foreground: events out, signals in, rules read again, everything put back at the end.

use std::{
    collections::BTreeMap,
    io::Read,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use kernel::{Door, Event, Firewall, Hits, SwapError, WAKE_EVERY};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use verdict::{Direction, Verdict};

use crate::{
    accepting,
    before::Before,
    orders::{Orders, Ready},
    own::OwnAddresses,
    place::Place,
    report::Reporter,
    tripwire,
};

/// How often new network namespaces are looked for, when all of them are wanted.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Signals that have been caught and wait to be read.
#[derive(Debug)]
pub(crate) struct Signals {
    end: UnixStream,
    reload: UnixStream,
}

impl Signals {
    /// Catches SIGINT and SIGTERM (end) and SIGHUP (read again).
    ///
    /// # Errors
    /// Where there are no descriptors left.
    pub(crate) fn catch() -> anyhow::Result<Self> {
        Ok(Self { end: caught(&[SIGINT, SIGTERM])?, reload: caught(&[SIGHUP])? })
    }

    /// Poll readable once a signal came: to end, and to read again.
    pub(crate) fn sources(&self) -> [BorrowedFd<'_>; 2] {
        [self.end.as_fd(), self.reload.as_fd()]
    }

    /// Whether SIGINT or SIGTERM came since the last time this was asked.
    pub(crate) fn end_came(&self) -> bool {
        has_come(&self.end)
    }

    /// Whether SIGHUP came since the last time this was asked.
    pub(crate) fn reload_came(&self) -> bool {
        has_come(&self.reload)
    }
}

/// A descriptor that polls readable once one of `signals` came.
fn caught(signals: &[i32]) -> anyhow::Result<UnixStream> {
    let (read, write) = UnixStream::pair().context("make a pair of sockets for signals")?;
    for &signal in signals {
        signal_hook::low_level::pipe::register(signal, write.try_clone()?)
            .context("catch signals")?;
    }
    read.set_nonblocking(true)?;
    Ok(read)
}

fn has_come(mut signal: &UnixStream) -> bool {
    signal.read(&mut [0; 64]).is_ok_and(|count| count > 0)
}

/// Rules in force, and what is needed to change them.
pub(crate) struct Enforcement {
    pub(crate) firewall: Firewall,
    pub(crate) reporter: Reporter,
    pub(crate) orders: Orders,
    /// Where it is attached.
    pub(crate) place: Place,
    /// Whether allowed flows are reported too.
    pub(crate) report_allowed: bool,
    /// Addresses of this host; none where the rules do not speak of it.
    pub(crate) own: OwnAddresses,
    /// What is in force, and what was before: an event may still come from there.
    pub(crate) ready: Ready,
    pub(crate) before: Option<Ready>,
    /// Counts of rules that are no longer in force, by id and direction.
    pub(crate) counted: BTreeMap<(String, Direction), Hits>,
}

impl Enforcement {
    /// Prints events until SIGINT or SIGTERM.
    ///
    /// # Errors
    /// Where waiting itself fails.
    pub(crate) fn watch(&mut self, signals: &Signals) -> anyhow::Result<()> {
        let mut looked = Instant::now();
        loop {
            // Events that follow others are told together.
            let came = self.drain();
            let timeout = if came { Some(WAKE_EVERY) } else { self.timeout() };
            {
                let events = self.firewall.event_sources();
                let [end, reload] = signals.sources();
                let mut sources: Vec<_> = [end, reload]
                    .into_iter()
                    .chain(events.into_iter().filter(|_| !came))
                    .chain(self.own.sources())
                    .map(|source| PollFd::from_borrowed_fd(source, PollFlags::IN))
                    .collect();
                let timeout = timeout.map(Timespec::try_from).transpose()?;
                match poll(&mut sources, timeout.as_ref()) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(errno) => return Err(errno).context("wait for events"),
                }
            }
            if signals.end_came() {
                self.drain();
                return Ok(());
            }
            if signals.reload_came() {
                self.read_again();
            }
            if self.own.have_changed(&self.place) {
                self.follow("an address of this host came or went");
            }
            // Events wake this loop too, and a walk through every process is not for each of them.
            if looked.elapsed() >= LOOK_AGAIN {
                if self.ready.meant.has_changed() {
                    self.follow("a name means something else now");
                }
                self.place.join_new(&mut self.firewall);
                looked = Instant::now();
            }
        }
    }

    /// Until the next look for namespaces and names.
    fn timeout(&self) -> Option<Duration> {
        let names = self.ready.documents.is_some();
        (self.place.follows() || names).then_some(LOOK_AGAIN)
    }

    /// Tells events that have come, and whether any had.
    fn drain(&mut self) -> bool {
        let mut came = false;
        while let Some(mut event) = self.firewall.next_event() {
            came = true;
            if event.door == Door::Tripwire {
                let Some(resolved) = tripwire::resolved(event, &self.ready.now()) else {
                    continue;
                };
                event = resolved;
            }
            accepting::follow(&event);
            if self.reporter.closed() {
                continue;
            }
            let owner = if event.owner.is_none() { self.firewall.listener(&event) } else { None };
            let ready = self.judged_by(&event);
            let reason = |rule| ready.reason(rule).cloned().unwrap_or_default();
            let decision = event.decision;
            let reasons = [decision.enforced.rule, decision.would.rule].map(reason);
            let version = ready.rules.version;
            self.reporter.event(&event, owner, reasons, version);
        }
        came
    }

    /// The rules whose image judged the event.
    fn judged_by(&self, event: &Event) -> &Ready {
        let current =
            event.generation == Some(self.firewall.generation()) || event.door == Door::Tripwire;
        self.before.as_ref().filter(|_| !current).unwrap_or(&self.ready)
    }

    /// Compiles the rules anew, because a user, group, executable or unit that they name is another one by now, or `me` has
    /// other addresses.
    fn follow(&mut self, why: &str) {
        let version = self.ready.rules.version + 1;
        let again = self.orders.again(&self.ready, &self.own.seen, version);
        let done = again.and_then(|ready| match ready {
            // They say nothing of what changed.
            Some(ready) if ready.rules.is_alike(&self.ready.rules) => {
                self.ready.meant = ready.meant;
                Ok(false)
            }
            Some(ready) => self.put_in_force(ready).map(|()| true),
            None => Ok(false),
        });
        match done {
            Ok(true) => {
                eprintln!("fwnet: {why}: enforcing {} (version {version})", self.ready.summary);
                self.tell_notes();
            }
            Ok(false) => {}
            Err(error) => {
                eprintln!("fwnet: {why}, and nothing is changed: {error:#}");
                self.ready.meant.give_up();
            }
        }
    }

    /// Reads the rules again and puts them in force, or says why not and changes nothing.
    fn read_again(&mut self) {
        if matches!(self.orders, Orders::Lists { .. }) {
            eprintln!("fwnet: nothing to read again: the rules are on the command line");
            return;
        }
        let version = self.ready.rules.version + 1;
        match self.orders.read(&self.own.seen, version).and_then(|ready| self.put_in_force(ready)) {
            Ok(()) => {
                eprintln!("fwnet: now enforcing {} (version {version})", self.ready.summary);
                self.tell_notes();
            }
            Err(error) => {
                eprintln!(
                    "fwnet: nothing is changed, version {} stays in force: {error:#}",
                    version - 1
                );
            }
        }
    }

    fn put_in_force(&mut self, ready: Ready) -> anyhow::Result<()> {
        let retired = match self.firewall.swap(&ready.image) {
            Ok(retired) => retired,
            Err(SwapError::Size { .. }) => {
                // Larger tables: a second set of programs is attached beside the first, which then goes. For a moment
                // both judge, and what either denies is denied.
                let attachments = self.place.attachments(self.report_allowed)?;
                let beside = self.firewall.load_beside(&ready.image, attachments)?;
                // Whatever the first set has to tell is told while its rules are still those in force.
                self.firewall.stand_down()?;
                self.drain();
                let hits = self.firewall.hits();
                self.firewall = beside;
                hits
            }
            Err(error) => return Err(error.into()),
        };
        let before = std::mem::replace(&mut self.ready, ready);
        add(&mut self.counted, &before, &retired);
        self.before = Some(before);
        self.meet_strangers();
        // No program judges by the old image any more: what comes now is all that will ever come from it, so that an
        // event of another generation than the current one is always of the rules before.
        self.drain();
        Ok(())
    }

    /// Finds out whose sockets are that were made while no rule asked.
    pub(crate) fn meet_strangers(&mut self) {
        let before = Before::where_due(&mut self.firewall);
        if let Some(note) = before.and_then(|before| before.note()) {
            eprintln!("fwnet: note: {note}");
        }
    }

    /// Prints what whoever enforces this should know.
    pub(crate) fn tell_notes(&self) {
        for note in &self.ready.notes {
            eprintln!("fwnet: note: {note}");
        }
    }

    /// Restores, and reports what was removed and what was counted.
    pub(crate) fn finish(mut self) {
        add(&mut self.counted, &self.ready, &self.firewall.hits());
        for ((id, direction), hits) in &self.counted {
            let direction = match direction {
                Direction::Out => "out",
                Direction::In => "in",
            };
            if hits.enforced > 0 {
                eprintln!("fwnet: {id} {direction}: denied {} times", hits.enforced);
            }
            if hits.would > 0 {
                eprintln!("fwnet: {id} {direction}: would have denied {} times", hits.would);
            }
        }
        let lost = self.firewall.lost();
        if lost.limited + lost.overrun + lost.tamper > 0 {
            let (limited, overrun) = (lost.limited, lost.overrun);
            let all = limited + overrun + lost.tamper;
            eprintln!(
                "fwnet: {all} events not shown: {limited} over the rate limit, {overrun} with the buffer full"
            );
        }
        for (hook, target) in self.firewall.detach() {
            eprintln!("fwnet: removed {} from {target}", hook.name);
        }
    }
}

fn add(counted: &mut BTreeMap<(String, Direction), Hits>, ready: &Ready, hits: &[Hits]) {
    for (rule, hits) in ready.rules.rules.iter().zip(hits) {
        if rule.verdict == Verdict::Deny && hits.enforced + hits.would > 0 {
            let sum = counted.entry((rule.id.clone(), rule.direction)).or_default();
            sum.enforced += hits.enforced;
            sum.would += hits.would;
        }
    }
}
