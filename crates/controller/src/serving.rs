//! Serving: who is connected, what each is told, what they say back. Controllers and relays share it.
//!
//! The shell owns sockets and clocks. It says what happened, with the time, and carries out the [`Effect`]s that follow,
//! in order. Nobody has a queue: what a host should have is worked out when there is room to say it, so that a slow host
//! hears the newest, and a piece is sent a part at a time as fast as it is taken.

mod admission;
mod along;
mod contents;
mod desk;
mod frame;
mod kept;
mod reporter;
mod seat;

use std::sync::Arc;

use jiff::Timestamp;
use wire::sync::Upward;

pub use admission::Gate;
pub use frame::Frame;

pub(crate) use desk::{Desk, Find, Source, Wanted};
pub(crate) use reporter::Reporter;
pub(crate) use seat::HostState;

use crate::{digest::Digest, orders::Batch};

/// A connection, as long as it lasts: numbers are used again with another generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    pub(crate) place: u32,
    pub(crate) generation: u32,
}

/// The time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// By the clock on the wall.
    pub wall: Timestamp,
    /// Milliseconds by a clock that never goes back.
    pub ms: u64,
}

/// Who is at the other end, by its certificate: the handshake has checked whose authority signed it, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A host.
    Host {
        /// Its id.
        id: String,
        /// BLAKE3 of its certificate (DER).
        certificate: Digest,
    },
    /// A relay.
    Relay {
        /// Its name.
        name: String,
        /// BLAKE3 of its certificate (DER).
        certificate: Digest,
    },
    /// Another controller, which tells the leader of the hosts that are connected there.
    Controller {
        /// Its name.
        name: String,
    },
}

/// What the shell does.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Writes a frame, after those before it. It says with `written` when nothing is left to write.
    Send {
        /// Where.
        link: Link,
        /// What.
        frame: Frame,
    },
    /// Ends a connection once everything was written. It says nothing of it afterwards.
    Close {
        /// Which.
        link: Link,
        /// For the log.
        why: &'static str,
    },
    /// Commits, if this controller leads. What becomes of it is seen in the records; it is asked for again if nothing does.
    Commit(Batch),
    /// Says something to the controller above (a relay), or to the leader (a controller that does not lead).
    Upstream(Upward),
    /// A host that was connected when its target changed has it in force now, so many milliseconds later: for the metrics.
    Enforced {
        /// Since the first change that it had not followed.
        after_ms: u64,
    },
    /// Something for the log and for people.
    Tell(Told),
}

/// Something for the log and for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Tests of the policy may come out otherwise now: they are to be run.
    TestsDue,
    /// A rollout is to be halted, and why.
    Halting(String),
    /// The store lacks something; hosts keep what they have.
    Lost(String),
    /// The timestamp is not renewed, and why.
    Stamp(String),
}

/// How a server serves.
#[derive(Clone, Debug)]
pub struct Serve {
    /// How often hosts say that they are alive: milliseconds.
    pub beat_ms: u32,
    /// Connections at most.
    pub connections_max: usize,
    /// Milliseconds after which a connection ends that has said nothing.
    pub hello_ms: u64,
    /// Bytes that are given to the shell at most before it says that they were written.
    pub unsent_max: usize,
}

impl Default for Serve {
    fn default() -> Self {
        Self { beat_ms: 10_000, connections_max: 100_000, hello_ms: 10_000, unsent_max: 256 << 10 }
    }
}

impl Serve {
    /// Milliseconds of silence after which a host counts as lost.
    pub fn lost_ms(&self) -> u64 {
        3 * u64::from(self.beat_ms)
    }
}

/// Counts since the server began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Targets that were sent to hosts, in full.
    pub targets_sent: u64,
    /// Hosts that were told that they have what they should.
    pub same_sent: u64,
    /// Parts of pieces that were sent.
    pub parts_sent: u64,
    /// Pieces that were sent as a difference from an earlier one.
    pub differences_sent: u64,
    /// Bytes of frames.
    pub bytes_sent: u64,
    /// Connections, and hosts at relays, that were refused.
    pub refused: u64,
    /// Connections that were told to come again later.
    pub put_off: u64,
    /// Pieces that somebody asked for whom they do not concern, and did not get.
    pub foreign: u64,
    /// Messages that make no sense from whom they came, by which connections ended.
    pub nonsense: u64,
}

/// What a host should have, as it is handed around.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Assigned {
    pub(crate) manifest: Arc<[u8]>,
    pub(crate) manifest_digest: Digest,
    pub(crate) me: Vec<u8>,
    pub(crate) digest: Digest,
}
