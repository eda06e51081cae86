//! Messages between agents, relays and controllers.
//!
//! What a host should have is described by a [`Target`], and every large thing in it is a *piece*: bytes that are named by
//! their BLAKE3 digest, so that they are encoded once, kept by whoever passes them on, fetched only by those who lack
//! them, and checked by whoever gets them. A host that has everything hears 32 bytes; one that is behind asks for
//! what it lacks, and may name an older piece that it has to get the difference only. A set of very many hosts is several
//! pieces and one that lists them, so that a host that changes makes one of them another, and not all. Nobody keeps a queue
//! for anybody: a slow host is told the newest target when it can hear again.
//!
//! A frame is a length (four bytes, big endian) and one message of protocol buffers ([`encode`], [`Decoder`]). Each side knows the other by its
//! certificate; no message says who its sender is.

mod frame;
mod members;
mod snapshots;

use prost::{Enumeration, Message, Oneof};

pub use frame::{Decoder, FrameError, LENGTH_BYTES, encode};
pub use members::difference;
pub use snapshots::{Lines, Sheet};

/// The protocol's name in the TLS handshake (ALPN, RFC 7301).
pub const PROTOCOL: &[u8] = b"fwnet-sync/1";

/// Bytes of one frame; pieces that are larger come in parts.
pub const FRAME_BYTES_MAX: usize = 256 << 10;

/// Bytes of one part of a piece.
pub const PART_BYTES_MAX: usize = 192 << 10;

/// Relays of one controller that others are told of.
pub const RELAYS_MAX: usize = 1_000;

/// What an agent or a relay says.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Upward {
    /// One of them.
    #[prost(oneof = "Up", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub say: Option<Up>,
}

/// What can be said upward.
#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum Up {
    /// The first message of a host's connection.
    #[prost(message, tag = "1")]
    Hello(Hello),
    /// Asks for a piece.
    #[prost(message, tag = "2")]
    Want(Want),
    /// How far a host has got with a target.
    #[prost(message, tag = "3")]
    Progress(Progress),
    /// A host is alive, and this is how it is.
    #[prost(message, tag = "4")]
    Beat(Beat),
    /// Relays and controllers only: hosts that are connected there now, or no longer.
    #[prost(message, tag = "5")]
    Carried(Carried),
    /// Relays and controllers only: what their hosts said, gathered.
    #[prost(message, tag = "6")]
    Gathered(Gathered),
    /// Controllers only: the relays that are connected there now, all of them.
    #[prost(message, tag = "7")]
    Relays(Relays),
}

/// What a controller or a relay says.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Downward {
    /// One of them.
    #[prost(oneof = "Down", tags = "1, 2, 3, 4, 5")]
    pub say: Option<Down>,
}

/// What can be said downward.
#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum Down {
    /// What the host should have from now on.
    #[prost(message, tag = "1")]
    Target(Target),
    /// A part of a piece that was asked for.
    #[prost(message, tag = "2")]
    Part(Part),
    /// Come again later, perhaps elsewhere; the connection ends.
    #[prost(message, tag = "3")]
    Later(Later),
    /// Never; the connection ends.
    #[prost(message, tag = "4")]
    Refused(Refused),
    /// Relays only: what hosts that they carry should have.
    #[prost(message, tag = "5")]
    Assigned(Assigned),
}

/// What a host has.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Hello {
    /// The version of the program, for people.
    #[prost(string, tag = "1")]
    pub program: String,
    /// The digest of the target that is enforced ([`Target::digest`]); empty for none.
    #[prost(bytes = "vec", tag = "2")]
    pub enforced: Vec<u8>,
    /// How far it has got with it, as [`Progress::stage`] says.
    #[prost(enumeration = "Stage", tag = "3")]
    pub stage: i32,
}

/// Asks for a piece, from an offset on. It is answered by one [`Part`]; whoever lacks more asks for what follows it, so that
/// nobody is sent more than they can take.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Want {
    /// Which.
    #[prost(bytes = "vec", tag = "1")]
    pub digest: Vec<u8>,
    /// An older piece of the same kind that the asker has; empty for none. The answer may then be a difference, if that
    /// fits into one part.
    #[prost(bytes = "vec", tag = "2")]
    pub base: Vec<u8>,
    /// Bytes that the asker has already.
    #[prost(uint64, tag = "3")]
    pub offset: u64,
}

/// How far a host has got.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Progress {
    /// With which target.
    #[prost(bytes = "vec", tag = "1")]
    pub target: Vec<u8>,
    /// How far.
    #[prost(enumeration = "Stage", tag = "2")]
    pub stage: i32,
    /// Why it got no further; empty unless it was refused.
    #[prost(string, tag = "3")]
    pub why: String,
    /// The version of the bundle's snapshot.
    #[prost(uint64, tag = "4")]
    pub snapshot: u64,
}

/// The stages of a target on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum Stage {
    /// Nothing is known of it yet.
    Unknown = 0,
    /// Every piece of it is there.
    Received = 1,
    /// Its signatures are right.
    Verified = 2,
    /// The kernel has it, on trial.
    Trial = 3,
    /// The kernel has it, for good.
    Enforced = 4,
    /// It cannot be enforced, and [`Progress::why`] says why. What was in force stays.
    Refused = 5,
}

/// A host is alive.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Beat {
    /// The target that is enforced.
    #[prost(bytes = "vec", tag = "1")]
    pub target: Vec<u8>,
    /// Flows denied since the host's agent began.
    #[prost(uint64, tag = "2")]
    pub denied: u64,
    /// Flows allowed since then, as far as they are counted.
    #[prost(uint64, tag = "3")]
    pub allowed: u64,
    /// What is in force.
    #[prost(enumeration = "Stance", tag = "4")]
    pub stance: i32,
    /// Seconds since what is enforced has been stale; 0 while it is fresh.
    #[prost(uint64, tag = "5")]
    pub stale_s: u64,
    /// Tests of the policy that fail on this host, by its own judgement; empty where none does.
    #[prost(string, tag = "6")]
    pub failing: String,
}

/// What is in force on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub enum Stance {
    /// Its policy.
    Policy = 0,
    /// Only the failsafe set is allowed.
    Lockdown = 1,
    /// Nothing is enforced.
    Open = 2,
}

/// What a host should have.
///
/// The same for every host that is concerned by the same things, except for `me`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Target {
    /// A [`Manifest`], encoded. Its digest and that of `me` make the target's own.
    #[prost(bytes = "vec", tag = "1")]
    pub manifest: Vec<u8>,
    /// The host itself, an encoded [`Member`]: its labels and addresses as the controller asserts them.
    #[prost(bytes = "vec", tag = "2")]
    pub me: Vec<u8>,
    /// Only the digest, where the host said in its [`Hello`] that it has this target: then the two fields above are empty.
    #[prost(bytes = "vec", tag = "3")]
    pub same: Vec<u8>,
    /// How often the host is to say that it is alive, in milliseconds.
    #[prost(uint32, tag = "4")]
    pub beat_ms: u32,
    /// Pieces of it that the host can hardly have yet, whole; each is known by its digest. The others are asked for.
    #[prost(bytes = "vec", repeated, tag = "5")]
    pub along: Vec<Vec<u8>>,
}

/// The pieces of a target.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Manifest {
    /// Envelopes of roots, oldest first.
    #[prost(message, repeated, tag = "1")]
    pub roots: Vec<Piece>,
    /// The timestamp's envelope.
    #[prost(message, optional, tag = "2")]
    pub timestamp: Option<Piece>,
    /// The snapshot's envelope.
    #[prost(message, optional, tag = "3")]
    pub snapshot: Option<Piece>,
    /// Envelopes of the documents that concern the host.
    #[prost(message, repeated, tag = "4")]
    pub documents: Vec<Piece>,
    /// The hosts that those documents speak of: encoded [`Members`], disjoint or the same where they overlap. Those with
    /// [`Piece::sections`] list further pieces, which the host needs, too.
    #[prost(message, repeated, tag = "5")]
    pub members: Vec<Piece>,
    /// On trial: the host goes back by itself unless a target without this follows within so many seconds. 0 for good.
    #[prost(uint64, tag = "6")]
    pub confirm_within_s: u64,
    /// Which rollout this belongs to, so that a second attempt is another target.
    #[prost(uint64, tag = "7")]
    pub rollout: u64,
    /// The host is shut off: only the failsafe set is to be allowed.
    #[prost(bool, tag = "8")]
    pub quarantine: bool,
    /// On trial though tests of the policy fail: an operator wants it so, and the host is not to refuse it for them.
    #[prost(bool, tag = "9")]
    pub forced: bool,
}

/// A piece, by name.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Piece {
    /// BLAKE3 of its bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub digest: Vec<u8>,
    /// Its bytes.
    #[prost(uint64, tag = "2")]
    pub bytes: u64,
    /// What it is a version of: pieces of one name follow each other, and differences lead from one to the next.
    #[prost(string, tag = "3")]
    pub name: String,
    /// How many pieces it lists itself ([`Members::sections`]); 0 for most.
    #[prost(uint32, tag = "4")]
    pub sections: u32,
}

/// A set of hosts: the hosts themselves, or, where they are many, the pieces that have them. A host that comes, goes or
/// changes makes another section of one, and none of the others.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Members {
    /// Each once, sorted by id.
    #[prost(message, repeated, tag = "1")]
    pub hosts: Vec<Member>,
    /// Encoded `Members` that have hosts and no sections, sorted by name; no host is in two of them.
    #[prost(message, repeated, tag = "2")]
    pub sections: Vec<Piece>,
}

/// A host as others need to know it: with the labels that the policies at hand ask for, and no others.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Member {
    /// Its id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Its other names.
    #[prost(string, repeated, tag = "2")]
    pub names: Vec<String>,
    /// Its addresses: four or sixteen bytes each.
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub addresses: Vec<Vec<u8>>,
    /// Its labels, sorted by key.
    #[prost(message, repeated, tag = "4")]
    pub labels: Vec<Label>,
}

/// A label.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Label {
    /// `role`
    #[prost(string, tag = "1")]
    pub key: String,
    /// `db`
    #[prost(string, tag = "2")]
    pub value: String,
}

/// What makes one [`Members`] of another, or one snapshot.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Difference {
    /// New or changed hosts, sorted by id.
    #[prost(message, repeated, tag = "1")]
    pub put: Vec<Member>,
    /// Ids of those that are gone, sorted.
    #[prost(string, repeated, tag = "2")]
    pub gone: Vec<String>,
    /// New or changed sections, sorted by name.
    #[prost(message, repeated, tag = "3")]
    pub sections: Vec<Piece>,
    /// Names of those that are gone, sorted.
    #[prost(string, repeated, tag = "4")]
    pub sections_gone: Vec<String>,
    /// Of a snapshot: its envelope without the payload. Empty where sets of hosts are meant.
    #[prost(bytes = "vec", tag = "5")]
    pub envelope: Vec<u8>,
    /// Of a snapshot: its payload.
    #[prost(message, repeated, tag = "6")]
    pub runs: Vec<Run>,
}

/// Lines of an older payload that follow each other, and what stands behind them in the newer one.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Run {
    /// The first of the lines, counted from 0.
    #[prost(uint32, tag = "1")]
    pub first: u32,
    /// How many.
    #[prost(uint32, tag = "2")]
    pub lines: u32,
    /// What follows.
    #[prost(bytes = "vec", tag = "3")]
    pub then: Vec<u8>,
}

/// A part of a piece: at most [`PART_BYTES_MAX`], and less than that at its end only.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Part {
    /// Of which piece.
    #[prost(bytes = "vec", tag = "1")]
    pub digest: Vec<u8>,
    /// Where it begins.
    #[prost(uint64, tag = "2")]
    pub offset: u64,
    /// Bytes in all: of the piece, or of the encoded [`Difference`].
    #[prost(uint64, tag = "3")]
    pub total: u64,
    /// The bytes.
    #[prost(bytes = "vec", tag = "4")]
    pub bytes: Vec<u8>,
    /// Where this is set, the bytes are those of a [`Difference`] from this piece, a whole one.
    #[prost(bytes = "vec", tag = "5")]
    pub base: Vec<u8>,
    /// Nobody here has the piece any more: a newer target is on its way.
    #[prost(bool, tag = "6")]
    pub lost: bool,
}

/// Come again later.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Later {
    /// Not before so many milliseconds have passed.
    #[prost(uint64, tag = "1")]
    pub after_ms: u64,
    /// For people.
    #[prost(string, tag = "2")]
    pub why: String,
}

/// Never.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Refused {
    /// For people.
    #[prost(string, tag = "1")]
    pub why: String,
}

/// Hosts at a relay.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Carried {
    /// Those that connected, with the fingerprints (BLAKE3 of the DER) of the certificates they showed.
    #[prost(message, repeated, tag = "1")]
    pub came: Vec<Came>,
    /// Those that are gone.
    #[prost(string, repeated, tag = "2")]
    pub gone: Vec<String>,
}

/// A host that connected to a relay.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Came {
    /// Its id.
    #[prost(string, tag = "1")]
    pub host: String,
    /// Its certificate.
    #[prost(bytes = "vec", tag = "2")]
    pub certificate: Vec<u8>,
}

/// What hosts said to a relay.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Gathered {
    /// The newest of each host.
    #[prost(message, repeated, tag = "1")]
    pub said: Vec<Said>,
}

/// What a host said to a relay.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Said {
    /// Who.
    #[prost(string, tag = "1")]
    pub host: String,
    /// How far it has got.
    #[prost(message, optional, tag = "2")]
    pub progress: Option<Progress>,
    /// How it is.
    #[prost(message, optional, tag = "3")]
    pub beat: Option<Beat>,
}

/// The relays at a controller.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Relays {
    /// Each, sorted by name; [`RELAYS_MAX`] at most.
    #[prost(message, repeated, tag = "1")]
    pub relays: Vec<RelayAt>,
}

/// A relay that is connected.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RelayAt {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Hosts that it carries.
    #[prost(uint32, tag = "2")]
    pub hosts: u32,
}

/// What hosts at a relay should have.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Assigned {
    /// For each host whose target changed.
    #[prost(message, repeated, tag = "1")]
    pub hosts: Vec<Assignment>,
    /// Manifests that the relay has not been told before; the others it has kept.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub manifests: Vec<Vec<u8>>,
    /// Pieces of those that it can hardly have yet, whole; see [`Target::along`].
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub along: Vec<Vec<u8>>,
}

/// What one host at a relay should have.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Assignment {
    /// Who.
    #[prost(string, tag = "1")]
    pub host: String,
    /// The digest of its manifest; empty where the host is refused.
    #[prost(bytes = "vec", tag = "2")]
    pub manifest: Vec<u8>,
    /// The host itself, an encoded [`Member`].
    #[prost(bytes = "vec", tag = "3")]
    pub me: Vec<u8>,
    /// Why it is refused.
    #[prost(string, tag = "4")]
    pub refused: String,
}

impl Target {
    /// The target's name: BLAKE3 of the manifest's digest and that of `me`.
    pub fn digest(&self) -> [u8; 32] {
        if let Ok(same) = <[u8; 32]>::try_from(self.same.as_slice()) {
            return same;
        }
        target_digest(&self.manifest, &self.me)
    }
}

/// The piece of at most `most` bytes that an encoded [`Difference`] makes of the piece `old`, as it was written; none if one of
/// them is not what it should be. Whether it is the piece that was asked for is known by its digest.
pub fn patched(old: &[u8], difference: &[u8], most: u64) -> Option<Vec<u8>> {
    let difference = Difference::decode(difference).ok()?;
    if difference.envelope.is_empty() {
        members::patched(old, difference).ok()
    } else {
        snapshots::patched(old, &difference.envelope, &difference.runs, most)
    }
}

/// The name of the target that is made of an encoded [`Manifest`] and an encoded [`Member`].
pub fn target_digest(manifest: &[u8], me: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(blake3::hash(manifest).as_bytes());
    hasher.update(blake3::hash(me).as_bytes());
    *hasher.finalize().as_bytes()
}
