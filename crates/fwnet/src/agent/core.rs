//! The core: everything the agent has, changed by one thread only. What the API asks runs here.

use agent::edition::Edition;
use jiff::Timestamp;
use kernel::{Door, Hook};

use super::{force::Force, paths::Paths};
use crate::{seeing::Seeing, tripwire};

/// How the agent is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Nothing is enforced any more.
    Open,
}

/// Events that are told between two looks at everything else.
const EVENTS_AT_ONCE: usize = 2_048;

/// Everything the agent has.
pub(crate) struct Core {
    pub(crate) paths: Paths,
    pub(crate) started: Timestamp,
    pub(crate) force: Force,
    /// What is in force, as it was written.
    pub(crate) edition: Edition,
    /// Set once the agent was told to take everything down.
    pub(crate) ending: Option<Ending>,
    /// What was seen.
    pub(crate) seeing: Seeing,
    looked: Timestamp,
}

impl Core {
    pub(crate) fn new(paths: Paths, force: Force, edition: Edition, seeing: Seeing) -> Self {
        let now = Timestamp::now();
        Self { paths, started: now, force, edition, ending: None, seeing, looked: now }
    }

    /// Says that enforcement has begun.
    pub(crate) fn announce(&self) {
        let (summary, version) = (&self.force.ready.summary, self.edition.version);
        eprintln!("fwnet: enforcing {summary} (version {version})");
        for note in &self.force.ready.notes {
            eprintln!("fwnet: note: {note}");
        }
    }

    /// Tells events that have come. Not more than some at once: whoever asks the core something waits meanwhile.
    pub(crate) fn drain(&mut self) {
        for _ in 0..EVENTS_AT_ONCE {
            let Some(mut event) = self.force.firewall.next_event() else { return };
            if event.door == Door::Tripwire {
                let Some(tripped) = tripwire::follow(&event, self.force.ready.image.lines()) else {
                    continue;
                };
                event.local = tripped.socket.local;
                event.remote = tripped.socket.remote;
                event.decision = tripped.decision;
                if let Some(Err(error)) = tripped.ended {
                    eprintln!("fwnet: tripwire: {:#}", anyhow::Error::from(error));
                }
            }
            let listener =
                if event.owner.is_none() { self.force.firewall.listener(&event) } else { None };
            let ready = self.force.judged_by(&event);
            self.seeing.event(&event, listener, ready);
        }
    }

    /// What is due by the clock.
    pub(crate) fn look_around(&mut self) {
        let now = Timestamp::now();
        if now.duration_since(self.looked).abs() >= jiff::SignedDuration::from_secs(1) {
            self.force.join_new();
            self.looked = now;
        }
        self.report_what_is_wanted();
        self.force.show(&mut self.seeing, false);
    }

    /// Reads flows and counters now, though it is not their time yet.
    pub(crate) fn read_what_was_seen(&mut self) {
        self.force.show(&mut self.seeing, true);
    }

    /// Has allowed flows reported while somebody follows them.
    pub(crate) fn report_what_is_wanted(&mut self) {
        self.force.firewall.report_allowed(self.seeing.wants_allowed());
    }

    /// Where programs are attached.
    pub(crate) fn attached(&self) -> Vec<(&'static Hook, String)> {
        let attached = self.force.firewall.attached();
        attached.map(|(hook, target)| (hook, target.to_owned())).collect()
    }

    /// The last thing the agent does.
    pub(crate) fn finish(mut self) {
        self.drain();
        self.read_what_was_seen();
        self.seeing.finish();
        let socket = self.paths.socket.clone();
        drop(self);
        // Nobody answers there any more. Another agent may have taken the path over: it binds anew, then.
        if let Err(error) = std::fs::remove_file(&socket) {
            eprintln!("fwnet: {} stays: {error}", socket.display());
        }
    }
}
