//! An image: lines, with its header.

use std::sync::Arc;

use verdict::{
    Line, Tables,
    layout::{self, DIRECTORY, FLAGS, identity},
};
use zerocopy::IntoBytes;

use crate::{
    Damage, check,
    lines::{Chunk, Lines, digest},
    origin::Origin,
};

/// Compiled tables, ready to be written into a slot of the kernel: made by [`compile`](crate::compile), or found sound by
/// [`check`].
///
/// Copies share their lines, and so do images of which one was [made from](Image::changed) the other.
#[derive(Clone, Debug)]
pub struct Image {
    lines: Lines,
    /// What it was compiled from; nothing where it came from elsewhere.
    origin: Option<Arc<Origin>>,
}

impl PartialEq for Image {
    /// Whether every word is the same.
    fn eq(&self, other: &Self) -> bool {
        self.lines.len() == other.lines.len()
            && self.lines.line(0) == other.lines.line(0)
            && self.chunks().map(Chunk::digest).eq(other.chunks().map(Chunk::digest))
    }
}

impl Eq for Image {}

impl Image {
    /// Seals the tables: writes the identity line and the digest.
    pub(crate) fn seal(
        mut lines: Lines,
        identity_words: [(u32, u32); 8],
        origin: Arc<Origin>,
    ) -> Self {
        let digest = lines.digest();
        let mut header = Line::default();
        let words = identity_words.into_iter().chain((identity::DIGEST..).zip(digest));
        for (index, value) in words {
            if let Some(word) = header.0.get_mut(index as usize) {
                *word = value;
            }
        }
        lines.set_header(header);
        Self { lines, origin: Some(origin) }
    }

    /// Takes lines from elsewhere (a file, the network, a slot of the kernel).
    ///
    /// # Errors
    /// The damage, when [`check`] finds any.
    pub fn from_lines(lines: &[Line]) -> Result<Self, Damage> {
        check(lines)?;
        let mut lines = Lines::of(lines);
        lines.digest();
        Ok(Self { lines, origin: None })
    }

    pub(crate) fn origin(&self) -> Option<&Arc<Origin>> {
        self.origin.as_ref()
    }

    pub(crate) fn shared_lines(&self) -> &Lines {
        &self.lines
    }

    /// How many lines it has.
    pub fn line_count(&self) -> usize {
        self.lines.len()
    }

    /// The line at `index`.
    pub fn line(&self, index: u32) -> Option<&Line> {
        self.lines.line(index)
    }

    /// A copy of all lines in one piece.
    pub fn to_lines(&self) -> Vec<Line> {
        self.lines.iter().copied().collect()
    }

    /// The lines as they are shared, in order: [`layout::CHUNK_LINES`] in each but the last.
    pub fn chunks(&self) -> impl ExactSizeIterator<Item = &Chunk> {
        self.lines.chunks().iter()
    }

    /// The image as it is at a moment of the clock that its rules' ends are told in, for [`verdict::decide`].
    pub fn at(&self, now_ns: u64) -> At<'_> {
        At { lines: &self.lines, now_ns }
    }

    /// The digest of everything behind the first line: two images with one digest enforce the same.
    pub fn digest(&self) -> [u8; 32] {
        self.lines.line(0).map_or([0; 32], digest_in)
    }

    /// `FLAG_*` of [`verdict::layout`]: which hooks the image needs.
    pub fn flags(&self) -> u32 {
        self.line(DIRECTORY).map_or(0, |directory| directory.word(FLAGS))
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
        self.line(0).map_or(0, |line| line.word(word))
    }
}

/// The digest that the first line of an image tells.
fn digest_in(header: &Line) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (to, from) in
        bytes.iter_mut().zip(header.as_bytes().iter().skip(4 * identity::DIGEST as usize))
    {
        *to = *from;
    }
    bytes
}

/// An [`Image`], read at a moment.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    lines: &'a Lines,
    now_ns: u64,
}

impl Tables for At<'_> {
    #[inline(always)]
    fn line(&self, index: u32) -> Option<&Line> {
        self.lines.line(index)
    }

    #[inline(always)]
    fn now_ns(&self) -> u64 {
        self.now_ns
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
