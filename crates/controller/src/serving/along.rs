//! Small pieces that are new go along with the target that needs them: a change is one message to a host, and not a
//! question and an answer more.
//!
//! Whoever has just been told of a piece by nobody cannot have it. So a piece is sent along for a moment after a manifest
//! first named it, to hosts that had a target before; whoever comes later, or lacks more, asks as ever. A piece that a host
//! has already is a few bytes too many, and nothing else.

use std::{collections::BTreeMap, sync::Arc};

use prost::Message;

use super::{
    Assigned,
    desk::{Find, Source},
    frame::packed,
};
use crate::digest::Digest;

/// Bytes of one piece that goes along.
const PIECE_BYTES_MAX: u64 = 8 << 10;
/// Bytes of all that go along with one target: they and the manifest fit into one record of TLS, as a rule.
const ALL_BYTES_MAX: usize = 12 << 10;
/// How long a piece is new: milliseconds.
const NEW_MS: u64 = 2_000;
/// Pieces that are remembered; then all are forgotten, and some go along once more.
const NAMED_MAX: usize = 1 << 16;

/// What is new.
#[derive(Debug, Default)]
pub(super) struct Along {
    /// When a manifest first named each piece.
    named: BTreeMap<Digest, u64>,
    /// Targets that are told now, by their manifests.
    packed: BTreeMap<Digest, Packed>,
}

/// Those of the pieces of a [`Manifest`](wire::sync::Manifest) that may go along. It has very many others, and every one
/// that is told is looked at.
#[derive(Clone, PartialEq, Message)]
struct Papers {
    #[prost(message, optional, tag = "2")]
    timestamp: Option<Paper>,
    #[prost(message, optional, tag = "3")]
    snapshot: Option<Paper>,
    #[prost(message, repeated, tag = "4")]
    documents: Vec<Paper>,
}

/// Of a [`Piece`](wire::sync::Piece), what counts here.
#[derive(Clone, PartialEq, Message)]
struct Paper {
    #[prost(bytes = "vec", tag = "1")]
    digest: Vec<u8>,
    #[prost(uint64, tag = "2")]
    bytes: u64,
}

/// Until when a target is told with what is new, and the fields that all hosts share, if anything is.
type Packed = (u64, Option<Arc<[u8]>>);

impl Along {
    /// The pieces of a manifest that are small, new, and here.
    pub(super) fn pieces(
        &mut self,
        manifest: &[u8],
        now_ms: u64,
        source: &mut impl Source,
    ) -> Vec<Arc<[u8]>> {
        let Ok(manifest) = Papers::decode(manifest) else { return Vec::new() };
        let Papers { timestamp, snapshot, documents } = manifest;
        if NAMED_MAX < self.named.len() {
            self.named.clear();
        }
        let (mut found, mut bytes) = (Vec::new(), 0);
        for piece in timestamp.into_iter().chain(snapshot).chain(documents) {
            let Some(digest) = Digest::read(&piece.digest) else { continue };
            let named = *self.named.entry(digest).or_insert(now_ms);
            if named + NEW_MS < now_ms || PIECE_BYTES_MAX < piece.bytes {
                continue;
            }
            if let Find::Here(piece) = source.piece(&digest)
                && bytes + piece.len() <= ALL_BYTES_MAX
            {
                bytes += piece.len();
                found.push(piece);
            }
        }
        found
    }

    /// What hosts share of a target, with the pieces that are new; `None` if there are none.
    pub(super) fn packed(
        &mut self,
        assigned: &Assigned,
        now_ms: u64,
        source: &mut impl Source,
    ) -> Option<Arc<[u8]>> {
        let Assigned { manifest, manifest_digest, .. } = assigned;
        if let Some((until, packed)) = self.packed.get(manifest_digest)
            && now_ms <= *until
        {
            return packed.clone();
        }
        let pieces = self.pieces(manifest, now_ms, source);
        let bytes = (!pieces.is_empty()).then(|| packed(manifest, &pieces).into());
        self.packed.insert(*manifest_digest, (now_ms + NEW_MS, bytes.clone()));
        bytes
    }

    /// Time passed: what is not new any more is not kept.
    pub(super) fn tick(&mut self, now_ms: u64) {
        self.packed.retain(|_, (until, _)| now_ms <= *until);
    }
}
