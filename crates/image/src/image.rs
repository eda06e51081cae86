//! An image: lines, with its header.

use verdict::{
    At, Line,
    layout::{self, DIRECTORY, FLAGS, identity},
};
use zerocopy::IntoBytes;

use crate::{Damage, check};

/// Compiled tables that passed [`check`], ready to be written into a slot of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    lines: Vec<Line>,
}

impl Image {
    /// Seals the tables: writes the identity line and the digest.
    pub(crate) fn seal(mut lines: Vec<Line>, identity_words: [(u32, u32); 8]) -> Self {
        let digest = digest(&lines);
        let mut header = Line::default();
        let words = identity_words.into_iter().chain((identity::DIGEST..).zip(digest));
        for (index, value) in words {
            if let Some(word) = header.0.get_mut(index as usize) {
                *word = value;
            }
        }
        if let Some(first) = lines.first_mut() {
            *first = header;
        }
        Self { lines }
    }

    /// Takes lines from elsewhere (a file, the network, a slot of the kernel).
    ///
    /// # Errors
    /// The damage, when [`check`] finds any.
    pub fn from_lines(lines: Vec<Line>) -> Result<Self, Damage> {
        check(&lines)?;
        Ok(Self { lines })
    }

    /// The lines.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// The image as it is at a moment of the clock that its rules' ends are told in, for [`verdict::decide`].
    pub fn at(&self, now_ns: u64) -> At<'_> {
        At { lines: &self.lines, now_ns }
    }

    /// The image as bytes, in the byte order of this machine.
    pub fn bytes(&self) -> &[u8] {
        self.lines.as_slice().as_bytes()
    }

    /// BLAKE3 of everything behind the first line: two images with one digest enforce the same.
    pub fn digest(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        let stored = self.lines.first().map(Line::as_bytes).unwrap_or_default();
        for (to, from) in bytes.iter_mut().zip(stored.iter().skip(4 * identity::DIGEST as usize)) {
            *to = *from;
        }
        bytes
    }

    /// `FLAG_*` of [`verdict::layout`]: which hooks the image needs.
    pub fn flags(&self) -> u32 {
        self.lines.get(DIRECTORY as usize).map_or(0, |directory| directory.word(FLAGS))
    }

    /// Rules in the image, the defaults included.
    pub fn rules(&self) -> u32 {
        self.identity(identity::RULES)
    }

    /// The policy's version.
    pub fn version(&self) -> u64 {
        u64::from(self.identity(identity::VERSION_HI)) << 32
            | u64::from(self.identity(identity::VERSION_LO))
    }

    fn identity(&self, word: u32) -> u32 {
        self.lines.first().map_or(0, |line| line.word(word))
    }
}

/// Writes into the first line what follows from the rest: magic, format, count of lines and digest. What is wrong with
/// the tables stays wrong, so [`check`] comes past the seal to it; all other counts are left as they are.
///
/// For those who change the words of an image: the fuzz target that looks for what `check` misses. An image that came
/// from elsewhere is never resealed, because its digest is how damage on the way is found. Nothing happens to no lines.
pub fn reseal(lines: &mut [Line]) {
    let digest = digest(lines);
    let count = u32::try_from(lines.len()).unwrap_or(u32::MAX);
    let known = [
        (identity::MAGIC, layout::MAGIC),
        (identity::FORMAT, layout::FORMAT),
        (identity::LINES, count),
    ];
    let Some(first) = lines.first_mut() else { return };
    for (index, value) in known.into_iter().chain((identity::DIGEST..).zip(digest)) {
        if let Some(word) = first.0.get_mut(index as usize) {
            *word = value;
        }
    }
}

/// BLAKE3 of everything behind the first line, as the words of the identity line.
pub(crate) fn digest(lines: &[Line]) -> [u32; 8] {
    let hash = blake3::hash(lines.get(1..).unwrap_or_default().as_bytes());
    let mut words = [0; 8];
    for (word, bytes) in words.iter_mut().zip(hash.as_bytes().chunks_exact(4)) {
        *word = bytes.try_into().map_or(0, u32::from_ne_bytes);
    }
    words
}
