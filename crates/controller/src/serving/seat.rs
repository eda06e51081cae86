//! What is kept of each connection and of each host: bounded, and small.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use wire::sync::{Beat, Hello, Progress, RelayAt, Stage, Stance};

use super::{Link, Peer, desk::beginning, kept::Kept};
use crate::digest::Digest;

/// A host that is connected, here or at a relay.
#[derive(Clone, Debug)]
pub(crate) struct HostState {
    pub(crate) id: Arc<str>,
    pub(crate) link: Link,
    /// The target it was told, or is to be told that it has; zeros for none.
    pub(crate) told: Digest,
    /// The manifest of that target, where it is at a relay.
    pub(crate) manifest: Option<Box<Digest>>,
    /// What it said when it came, until it is told something.
    pub(crate) hello: Option<Box<Hello>>,
    /// What it says that is no number; nothing mostly.
    pub(crate) words: Option<Box<Words>>,
    /// When its target first changed since it had what it should have, while it was connected; 0 if it has it.
    pub(crate) changed_ms: u64,
    /// The beginning of the digest of the certificate it showed, here or at a relay; 0 where another controller has judged it.
    pub(crate) shown: u64,
    /// The certificate it showed, where somebody above has to judge it.
    pub(crate) certificate: Option<Box<Digest>>,
    /// When it said something last, and when it was told.
    pub(crate) heard_ms: u64,
    pub(crate) told_ms: u64,
    /// Flows that it has denied since its agent began, and how many a second of late: by the last two beats.
    pub(crate) denied: u64,
    pub(crate) denied_per_s: f32,
    pub(crate) beat_ms: u64,
    pub(crate) stale_s: u32,
    /// How far it is with what it was told.
    pub(crate) stage: Stage,
    pub(crate) stance: Stance,
}

/// What a host says in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Words {
    /// Why it refused what it was told.
    pub(crate) why: Option<Box<str>>,
    /// Tests of what it was told that fail there, by its own judgement.
    pub(crate) failing: Option<Box<str>>,
}

/// Bytes of a reason that are kept of what a host says: what it says is its own.
const WHY_BYTES_MAX: usize = 400;

impl HostState {
    pub(crate) fn new(id: Arc<str>, link: Link, now_ms: u64) -> Self {
        Self {
            id,
            link,
            told: Digest([0; 32]),
            manifest: None,
            hello: None,
            words: None,
            changed_ms: 0,
            shown: 0,
            certificate: None,
            heard_ms: now_ms,
            told_ms: now_ms,
            denied: 0,
            denied_per_s: 0.0,
            beat_ms: 0,
            stale_s: 0,
            stage: Stage::Unknown,
            stance: Stance::Policy,
        }
    }

    /// It is told to have another target; what it said of the one before is of no interest any more.
    pub(crate) fn tell(&mut self, target: Digest, now_ms: u64) {
        if self.told != target {
            (self.told, self.told_ms) = (target, now_ms);
            self.stage = Stage::Unknown;
            self.words = None;
        }
    }

    fn set_words(&mut self, set: impl FnOnce(&mut Words)) {
        let mut words = self.words.take().map(|words| *words).unwrap_or_default();
        set(&mut words);
        self.words = (words != Words::default()).then(|| Box::new(words));
    }

    /// Why it refused what it was told.
    pub(crate) fn why(&self) -> Option<&str> {
        self.words.as_ref()?.why.as_deref()
    }

    /// Tests that fail there.
    pub(crate) fn failing(&self) -> Option<&str> {
        self.words.as_ref()?.failing.as_deref()
    }

    /// Whether it was told anything since it came.
    pub(crate) fn is_told(&self) -> bool {
        self.told != Digest([0; 32])
    }

    /// Whether it was told this target already. Where it has it, nothing has changed for it.
    pub(crate) fn has_been_told(&mut self, target: Digest) -> bool {
        let same = self.told == target;
        if same && self.stage == Stage::Enforced {
            self.changed_ms = 0;
        }
        same
    }

    /// How long ago its target changed, once after it has it.
    pub(crate) fn followed(&mut self, now_ms: u64) -> Option<u64> {
        let followed = self.stage == Stage::Enforced && self.changed_ms != 0;
        followed.then(|| now_ms.saturating_sub(std::mem::take(&mut self.changed_ms)))
    }

    /// It says how far it is. Whether that is with what it was told.
    pub(crate) fn progress(&mut self, said: &Progress, now_ms: u64) -> bool {
        self.heard_ms = now_ms;
        if said.target != self.told.0 {
            return false;
        }
        self.stage = said.stage();
        self.set_words(|words| words.why = short(&said.why));
        true
    }

    /// It is alive.
    pub(crate) fn beat(&mut self, said: &Beat, now_ms: u64) {
        let passed_ms = now_ms.saturating_sub(self.beat_ms);
        if self.beat_ms != 0 && passed_ms != 0 {
            let more = said.denied.saturating_sub(self.denied).min(u64::from(u32::MAX));
            #[expect(clippy::cast_precision_loss, reason = "a rate of connections is not exact")]
            let rate = more as f32 * 1_000.0 / passed_ms as f32;
            self.denied_per_s = rate;
        }
        (self.denied, self.beat_ms, self.heard_ms) = (said.denied, now_ms, now_ms);
        self.stale_s = u32::try_from(said.stale_s).unwrap_or(u32::MAX);
        self.stance = said.stance();
        // What it enforces is what counts: a report of it may have been lost.
        let enforced = said.target == self.told.0;
        let failing = if enforced { short(&said.failing) } else { None };
        self.set_words(|words| words.failing = failing);
        if enforced && matches!(self.stage, Stage::Unknown | Stage::Received | Stage::Verified) {
            self.stage = Stage::Enforced;
        } else if !enforced && self.stage == Stage::Enforced {
            self.stage = Stage::Unknown;
        }
    }
}

/// No text for none.
fn short(text: &str) -> Option<Box<str>> {
    let mut end = text.len().min(WHY_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    (end != 0).then(|| text.get(..end).unwrap_or_default().into())
}

/// A connection.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) who: Sitting,
    pub(super) opened_ms: u64,
    /// Bytes that the shell was given and has not written.
    pub(super) unsent: u32,
    /// Pieces that were asked for; none mostly.
    #[expect(
        clippy::box_collection,
        reason = "an empty queue costs four words in each of very many seats"
    )]
    pub(super) wants: Option<Box<VecDeque<Want>>>,
    /// A target is to be told.
    pub(super) dirty: bool,
}

impl Seat {
    pub(super) fn is_relay(&self) -> bool {
        matches!(self.who, Sitting::Relay(_))
    }
}

/// Who has a connection.
#[derive(Debug)]
pub(super) enum Sitting {
    /// A host that has not said hello yet; its number.
    Waiting(u32),
    /// A host, by its number.
    Host(u32),
    Relay(Box<Relay>),
    Controller(Box<Relay>),
    /// Somebody who is not known here, or by another certificate: perhaps not yet.
    Unjudged(Box<Unjudged>),
    /// It was told to go, and what was written last is on its way.
    Leaving,
}

/// Somebody who waits until it is known whether they may come in.
#[derive(Clone, Debug)]
pub(super) struct Unjudged {
    pub(super) peer: Peer,
    /// What a host said when it came.
    pub(super) hello: Option<Hello>,
}

/// A relay, or another controller.
#[derive(Debug, Default)]
pub(super) struct Relay {
    pub(super) name: String,
    /// The beginning of the digest of the certificate it showed; 0 for a controller.
    pub(super) shown: u64,
    /// Hosts that it carries, by number.
    pub(super) hosts: BTreeSet<u32>,
    /// Those whose assignment is to be told.
    pub(super) dirty: BTreeSet<u32>,
    /// Hosts that it must not serve, with the reason.
    pub(super) refused: BTreeMap<String, String>,
    /// Hosts that it carries which are not known here, or by another certificate; with that, and since when.
    pub(super) unjudged: BTreeMap<String, (Option<Digest>, u64)>,
    /// Manifests that it keeps: those of hosts that it carries.
    pub(super) kept: Kept,
    /// Relays that are connected to a controller, as it says.
    pub(super) relays: Vec<RelayAt>,
}

impl Relay {
    /// One that has just come.
    pub(super) fn of(name: String, certificate: Option<&Digest>) -> Self {
        Self { name, shown: certificate.map_or(0, beginning), ..Self::default() }
    }
}

/// A piece that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Want {
    pub(super) digest: Digest,
    pub(super) base: Option<Digest>,
    pub(super) offset: u64,
}
