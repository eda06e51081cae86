//! Frames: how messages stand in a stream of bytes. Four bytes of length, big endian, then the message.
//!
//! A [`Decoder`] is fed whatever came from a socket, in pieces of any size. It keeps at most one frame that is not whole
//! yet, grows with the bytes that came and not with the length that somebody claims, and holds no memory between frames:
//! a controller has one for each of very many hosts. What is wrong ends the connection; there is no way back into step.

use std::mem;

use prost::{DecodeError, Message};

use super::FRAME_BYTES_MAX;

/// Bytes of the length before a message.
pub const LENGTH_BYTES: usize = 4;

/// Why a stream of frames ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A frame is too large.
    #[error("a frame of {found} bytes, more than {max}")]
    Size {
        /// Bytes of its message.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// The bytes of a frame are no message.
    #[error("a frame that is no message: {0}")]
    Meaningless(#[from] DecodeError),
    /// The stream ends within a frame.
    #[error("the stream ends within a frame, after {0} bytes of it")]
    Cut(usize),
}

/// A message as a frame.
///
/// # Errors
/// [`FrameError::Size`] where it is larger than any reader takes.
pub fn encode(message: &impl Message) -> Result<Vec<u8>, FrameError> {
    let found = message.encoded_len();
    let length = u32::try_from(found).ok().filter(|_| found <= FRAME_BYTES_MAX);
    let Some(length) = length else {
        return Err(FrameError::Size { found, max: FRAME_BYTES_MAX });
    };
    let mut frame = Vec::with_capacity(LENGTH_BYTES + found);
    frame.extend_from_slice(&length.to_be_bytes());
    message.encode(&mut frame).expect("a vector has room for every message");
    Ok(frame)
}

/// Takes messages out of a stream.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// Bytes of a message that is taken.
    max: usize,
    /// The part of a frame that came so far, its length included; empty between frames.
    kept: Vec<u8>,
    /// What was wrong. Nothing more is read then.
    wrong: Option<FrameError>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(FRAME_BYTES_MAX)
    }
}

impl Decoder {
    /// Takes messages of up to `max` bytes, and never more than [`FRAME_BYTES_MAX`].
    pub const fn new(max: usize) -> Self {
        let max = if max < FRAME_BYTES_MAX { max } else { FRAME_BYTES_MAX };
        Self { max, kept: Vec::new(), wrong: None }
    }

    /// The next message of what came before and `bytes`, which begin behind it afterwards. `None` when all of `bytes` was
    /// taken and no further message is whole.
    ///
    /// # Errors
    /// The first thing that is wrong, and again each time after that.
    pub fn next<M: Message + Default>(
        &mut self,
        bytes: &mut &[u8],
    ) -> Result<Option<M>, FrameError> {
        if let Some(wrong) = &self.wrong {
            return Err(wrong.clone());
        }
        self.read(bytes).inspect_err(|wrong| {
            self.kept = Vec::new();
            self.wrong = Some(wrong.clone());
        })
    }

    /// The stream ends here.
    ///
    /// # Errors
    /// [`FrameError::Cut`] within a frame, and what was wrong before.
    pub fn end(&self) -> Result<(), FrameError> {
        match (&self.wrong, self.kept.len()) {
            (Some(wrong), _) => Err(wrong.clone()),
            (None, 0) => Ok(()),
            (None, some) => Err(FrameError::Cut(some)),
        }
    }

    /// Bytes that are kept of a frame which is not whole.
    pub fn kept(&self) -> usize {
        self.kept.len()
    }

    fn read<M: Message + Default>(&mut self, bytes: &mut &[u8]) -> Result<Option<M>, FrameError> {
        if self.kept.is_empty() {
            // Most often a frame comes whole: it is read where it lies.
            if let Some(whole) = self.whole(bytes)? {
                let message = message(bytes, whole)?;
                *bytes = bytes.get(whole..).unwrap_or_default();
                return Ok(Some(message));
            }
            self.keep(bytes, bytes.len());
            return Ok(None);
        }
        self.keep(bytes, LENGTH_BYTES.saturating_sub(self.kept.len()));
        let Some(whole) = self.length(&self.kept)? else { return Ok(None) };
        self.keep(bytes, whole.saturating_sub(self.kept.len()));
        if self.kept.len() < whole {
            return Ok(None);
        }
        let frame = mem::take(&mut self.kept);
        message(&frame, whole).map(Some)
    }

    /// Bytes of the frame at the beginning of `bytes`, once its length is there.
    fn length(&self, bytes: &[u8]) -> Result<Option<usize>, FrameError> {
        let Some(&length) = bytes.first_chunk() else { return Ok(None) };
        let found = u32::from_be_bytes(length) as usize;
        if found > self.max {
            return Err(FrameError::Size { found, max: self.max });
        }
        Ok(Some(LENGTH_BYTES + found))
    }

    /// The same where all of them are there.
    fn whole(&self, bytes: &[u8]) -> Result<Option<usize>, FrameError> {
        Ok(self.length(bytes)?.filter(|&whole| whole <= bytes.len()))
    }

    /// Takes up to `most` of `bytes`.
    fn keep(&mut self, bytes: &mut &[u8], most: usize) {
        let (taken, left) = bytes.split_at(most.min(bytes.len()));
        self.kept.extend_from_slice(taken);
        *bytes = left;
    }
}

/// The message of a frame of `whole` bytes at the beginning of `bytes`.
fn message<M: Message + Default>(bytes: &[u8], whole: usize) -> Result<M, FrameError> {
    Ok(M::decode(bytes.get(LENGTH_BYTES..whole).unwrap_or_default())?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sync::{Down, Downward, Part, Up, Upward, Want};

    fn want(digest: Vec<u8>) -> Upward {
        Upward { say: Some(Up::Want(Want { digest, base: Vec::new(), offset: 7 })) }
    }

    /// All messages of `bytes`, which come in pieces of the given sizes, over and over.
    fn read(bytes: &[u8], sizes: &[usize], max: usize) -> (Vec<Upward>, Result<(), FrameError>) {
        let mut decoder = Decoder::new(max);
        let (mut messages, mut rest) = (Vec::new(), bytes);
        for &size in sizes.iter().cycle() {
            let (mut piece, later) = rest.split_at(size.min(rest.len()));
            rest = later;
            loop {
                match decoder.next(&mut piece) {
                    Ok(Some(message)) => messages.push(message),
                    Ok(None) => break,
                    Err(error) => return (messages, Err(error)),
                }
            }
            assert_eq!(piece, b"");
            assert!(decoder.kept() <= LENGTH_BYTES + max.min(FRAME_BYTES_MAX));
            if rest.is_empty() {
                break;
            }
        }
        (messages, decoder.end())
    }

    #[test]
    fn a_frame_is_a_length_and_a_message() {
        let frame = encode(&want(vec![1])).unwrap();
        assert_eq!(frame, [0, 0, 0, 7, 0x12, 5, 0x0a, 1, 1, 0x18, 7]);
        assert_eq!(encode(&Upward::default()).unwrap(), [0; 4]);
        assert_eq!(read(&[0; 8], &[3], 9), (vec![Upward::default(); 2], Ok(())));
    }

    #[test]
    fn the_limit_is_held_by_both_sides() {
        // One byte past the limit: tag, length of three bytes, tag, length of three bytes, offset.
        let fits = want(vec![0; FRAME_BYTES_MAX - 10]);
        let frame = encode(&fits).unwrap();
        assert_eq!(frame.len(), LENGTH_BYTES + FRAME_BYTES_MAX);
        assert_eq!(read(&frame, &[1 << 16], usize::MAX), (vec![fits], Ok(())));
        let error =
            |found| FrameError::Size { found: FRAME_BYTES_MAX + found, max: FRAME_BYTES_MAX };
        assert_eq!(encode(&want(vec![0; FRAME_BYTES_MAX - 9])), Err(error(1)));
        let claimed = u32::try_from(FRAME_BYTES_MAX + 1).unwrap().to_be_bytes();
        assert_eq!(read(&claimed, &[1], usize::MAX), (Vec::new(), Err(error(1))));
        assert_eq!(
            read(&[255; 4], &[4], 16),
            (Vec::new(), Err(FrameError::Size { found: u32::MAX as usize, max: 16 }))
        );
        let part = Part { bytes: vec![0; super::super::PART_BYTES_MAX], ..Part::default() };
        encode(&Downward { say: Some(Down::Part(part)) }).unwrap();
    }

    #[test]
    fn a_claimed_length_takes_no_memory() {
        let mut decoder = Decoder::default();
        let mut bytes = &[0, 3, 255, 255, 1][..];
        assert_eq!(decoder.next::<Upward>(&mut bytes), Ok(None));
        assert!(decoder.kept.capacity() <= 64);
        assert_eq!(decoder.end(), Err(FrameError::Cut(5)));
    }

    #[test]
    fn after_something_wrong_nothing_more_is_read() {
        let mut decoder = Decoder::default();
        let good = encode(&want(vec![2; 32])).unwrap();
        let mut bytes = [&good, &[0, 0, 0, 1, 255][..], &good].concat();
        let bytes: &mut &[u8] = &mut &*mem::take(&mut bytes);
        assert_eq!(decoder.next(bytes), Ok(Some(want(vec![2; 32]))));
        let wrong = decoder.next::<Upward>(bytes).unwrap_err();
        assert!(matches!(wrong, FrameError::Meaningless(_)), "{wrong}");
        assert_eq!(decoder.next::<Upward>(&mut &*good), Err(wrong.clone()));
        assert_eq!(decoder.end(), Err(wrong));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_however_it_is_cut(
            digests in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 0..8),
            sizes in prop::collection::vec(1..700usize, 1..5),
        ) {
            let messages: Vec<Upward> = digests.into_iter().map(want).collect();
            let bytes: Vec<u8> =
                messages.iter().flat_map(|it| encode(it).unwrap()).collect();
            prop_assert_eq!(read(&bytes, &sizes, FRAME_BYTES_MAX), (messages.clone(), Ok(())));
            // What is cut short is noticed, and what came before it is read.
            let cut = bytes.split_last().map_or(&[][..], |(_, cut)| cut);
            let (some, end) = read(cut, &sizes, FRAME_BYTES_MAX);
            prop_assert!(messages.starts_with(&some));
            prop_assert_eq!(end.is_ok(), messages.is_empty());
        }

        #[test]
        fn any_bytes_are_answered_the_same_however_they_are_cut(
            bytes in prop::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..400),
            sizes in prop::collection::vec(1..50usize, 1..5),
            max in 0..64usize,
        ) {
            prop_assert_eq!(read(&bytes, &sizes, max), read(&bytes, &[usize::MAX], max));
        }
    }
}
