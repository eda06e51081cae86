//! Frames to be written: a few bytes of their own around bytes that many share.

use std::{ops::Range, sync::Arc};

use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len},
};
use wire::sync::{Down, Downward, LENGTH_BYTES, Part};

use super::Assigned;

/// A frame, length and all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What stands before the shared bytes.
    pub head: Vec<u8>,
    /// Bytes that are shared with other frames.
    pub body: Option<(Arc<[u8]>, Range<usize>)>,
    /// What stands behind them.
    pub tail: Vec<u8>,
}

/// The field of `Downward` that holds a target, and those of `Target`.
const TARGET: u32 = 1;
const MANIFEST: u32 = 1;
const ME: u32 = 2;
const BEAT: u32 = 4;
const ALONG: u32 = 5;
/// The field of `Downward` that holds a part, and that of `Part` that holds its bytes.
const PART: u32 = 2;
const BYTES: u32 = 4;

impl Frame {
    /// One message.
    pub(crate) fn of(say: Down) -> Self {
        let message = Downward { say: Some(say) }.encode_to_vec();
        let mut head = length(message.len());
        head.extend_from_slice(&message);
        Self { head, body: None, tail: Vec::new() }
    }

    /// A `Target` in full. The manifest is not copied.
    pub(crate) fn target(assigned: &Assigned, beat_ms: u32) -> Self {
        let manifest = &assigned.manifest;
        let tail = own(assigned, beat_ms);
        let inner = field_len(MANIFEST, manifest.len()) + tail.len();
        Self::around(TARGET, inner, MANIFEST, Arc::clone(manifest), 0..manifest.len(), tail)
    }

    /// The same with what [`packed`] made of its manifest, which is not copied either.
    pub(crate) fn target_along(shared: Arc<[u8]>, assigned: &Assigned, beat_ms: u32) -> Self {
        let tail = own(assigned, beat_ms);
        let inner = shared.len() + tail.len();
        let mut head = length(key_len(TARGET) + encoded_len_varint(inner as u64) + inner);
        field(TARGET, inner, &mut head);
        let all = 0..shared.len();
        Self { head, body: Some((shared, all)), tail }
    }

    /// A `Part`. The bytes are not copied.
    pub(crate) fn part(part: &Part, bytes: Arc<[u8]>, range: Range<usize>) -> Self {
        let tail = part.encode_to_vec();
        let inner = field_len(BYTES, range.len()) + tail.len();
        Self::around(PART, inner, BYTES, bytes, range, tail)
    }

    fn around(
        outer: u32,
        inner: usize,
        of: u32,
        bytes: Arc<[u8]>,
        range: Range<usize>,
        tail: Vec<u8>,
    ) -> Self {
        let outer_len = key_len(outer) + encoded_len_varint(inner as u64);
        let mut head = length(outer_len + inner);
        field(outer, inner, &mut head);
        field(of, range.len(), &mut head);
        Self { head, body: Some((bytes, range)), tail }
    }

    /// Its bytes in order, as they are to be written.
    pub fn slices(&self) -> [&[u8]; 3] {
        let body = self.body.as_ref().and_then(|(bytes, range)| bytes.get(range.clone()));
        [&self.head, body.unwrap_or_default(), &self.tail]
    }

    /// How many bytes it has.
    pub fn bytes(&self) -> usize {
        self.slices().iter().map(|slice| slice.len()).sum()
    }

    /// All of them, copied.
    pub fn to_vec(&self) -> Vec<u8> {
        self.slices().concat()
    }
}

/// The fields of a target that hosts share: the manifest, and pieces that go along.
pub(super) fn packed(manifest: &[u8], along: &[Arc<[u8]>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    field(MANIFEST, manifest.len(), &mut bytes);
    bytes.extend_from_slice(manifest);
    for piece in along {
        field(ALONG, piece.len(), &mut bytes);
        bytes.extend_from_slice(piece);
    }
    bytes
}

/// The fields of a target that are one host's own.
fn own(assigned: &Assigned, beat_ms: u32) -> Vec<u8> {
    let me = &assigned.me;
    let mut bytes = Vec::with_capacity(me.len() + 16);
    field(ME, me.len(), &mut bytes);
    bytes.extend_from_slice(me);
    encode_key(BEAT, WireType::Varint, &mut bytes);
    encode_varint(beat_ms.into(), &mut bytes);
    bytes
}

/// The length before a message.
fn length(bytes: usize) -> Vec<u8> {
    let mut head = Vec::with_capacity(LENGTH_BYTES + 16);
    let bytes = u32::try_from(bytes).expect("messages are smaller than FRAME_BYTES_MAX");
    head.extend_from_slice(&bytes.to_be_bytes());
    head
}

/// The beginning of a field of so many bytes.
fn field(number: u32, bytes: usize, to: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, to);
    encode_varint(bytes as u64, to);
}

fn field_len(number: u32, bytes: usize) -> usize {
    key_len(number) + encoded_len_varint(bytes as u64) + bytes
}

#[cfg(test)]
mod tests {
    use wire::sync::{Decoder, Target};

    use super::*;
    use crate::digest::Digest;

    fn read(frame: &Frame) -> Downward {
        let bytes = frame.to_vec();
        assert_eq!(bytes.len(), frame.bytes());
        let mut left = bytes.as_slice();
        let read = Decoder::default().next(&mut left).unwrap().unwrap();
        assert!(left.is_empty());
        read
    }

    #[test]
    fn frames_around_shared_bytes_are_messages() {
        for bytes in [1, 100, 200, 70_000] {
            let manifest: Arc<[u8]> = vec![7; bytes].into();
            let me = vec![9; bytes % 300];
            let digest = Digest::of(b"");
            let assigned = Assigned { manifest, manifest_digest: digest, me, digest };
            let target = Target {
                manifest: vec![7; bytes],
                me: vec![9; bytes % 300],
                beat_ms: 30_000,
                ..Target::default()
            };
            let said = read(&Frame::target(&assigned, 30_000));
            assert_eq!(said.say, Some(Down::Target(target.clone())));
            let along = vec![vec![3; bytes / 7], vec![4; 9]];
            let shared = along.iter().map(|it| it.as_slice().into()).collect::<Vec<_>>();
            let shared = packed(&assigned.manifest, &shared).into();
            let said = read(&Frame::target_along(shared, &assigned, 30_000));
            assert_eq!(said.say, Some(Down::Target(Target { along, ..target })));
            let part = Part { digest: vec![1; 32], offset: 3, total: 70_003, ..Part::default() };
            let said = read(&Frame::part(&part, vec![5; bytes + 9].into(), 4..bytes + 4));
            assert_eq!(said.say, Some(Down::Part(Part { bytes: vec![5; bytes], ..part })));
        }
    }
}
