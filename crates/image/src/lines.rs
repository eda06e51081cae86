//! Lines in chunks, which images share: one that differs little from another holds only what differs.

use std::sync::Arc;

use verdict::{
    Line,
    layout::{self, CHUNK_LINES},
};
use zerocopy::IntoBytes;

/// Lines of a chunk.
const CHUNK: usize = CHUNK_LINES as usize;

/// Up to [`CHUNK_LINES`] lines of an image and their digest.
#[derive(Clone, Debug)]
pub struct Chunk {
    lines: Arc<Vec<Line>>,
    /// Nothing while they are being written.
    digest: Option<[u8; 32]>,
}

impl Chunk {
    fn new() -> Self {
        Self { lines: Arc::new(Vec::with_capacity(CHUNK)), digest: None }
    }

    /// The lines; only the last chunk of an image has fewer than [`CHUNK_LINES`].
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// BLAKE3 of the lines, of the first chunk without its first line: equal digests, equal lines.
    pub fn digest(&self) -> [u8; 32] {
        self.digest.unwrap_or_default()
    }
}

/// Lines that grow at the end and can be changed, copied where they are shared and not before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines {
    chunks: Vec<Chunk>,
}

impl Lines {
    pub(crate) fn of(lines: &[Line]) -> Self {
        let chunk = |lines: &[Line]| Chunk { lines: Arc::new(lines.to_vec()), digest: None };
        Self { chunks: lines.chunks(CHUNK).map(chunk).collect() }
    }

    pub(crate) fn len(&self) -> usize {
        let last = self.chunks.last().map_or(0, |chunk| chunk.lines.len());
        self.chunks.len().saturating_sub(1) * CHUNK + last
    }

    pub(crate) fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    #[inline(always)]
    pub(crate) fn line(&self, index: u32) -> Option<&Line> {
        let index = index as usize;
        self.chunks.get(index / CHUNK)?.lines.get(index % CHUNK)
    }

    /// The word at `index`, counted in words.
    pub(crate) fn word(&self, index: u32) -> Option<u32> {
        Some(self.line(index >> 4)?.word(index))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Line> {
        self.chunks.iter().flat_map(|chunk| chunk.lines.iter())
    }

    /// Appends whole lines, the last one filled with zeros.
    pub(crate) fn extend(&mut self, words: &[u32]) {
        let mut rest = words.chunks(16).map(line_of).peekable();
        while rest.peek().is_some() {
            if self.chunks.last().is_none_or(|chunk| chunk.lines.len() == CHUNK) {
                self.chunks.push(Chunk::new());
            }
            if let Some(last) = self.chunks.last_mut() {
                last.digest = None;
                let lines = Arc::make_mut(&mut last.lines);
                lines.extend(rest.by_ref().take(CHUNK - lines.len()));
            }
        }
    }

    /// Cuts off what stands behind the first `length` lines.
    pub(crate) fn truncate(&mut self, length: usize) {
        self.chunks.truncate(length.div_ceil(CHUNK));
        let within = length - self.chunks.len().saturating_sub(1) * CHUNK;
        if let Some(last) = self.chunks.last_mut()
            && last.lines.len() > within
        {
            last.digest = None;
            Arc::make_mut(&mut last.lines).truncate(within);
        }
    }

    /// The line at `index`, to be written.
    pub(crate) fn line_mut(&mut self, index: u32) -> Option<&mut Line> {
        let index = index as usize;
        let chunk = self.chunks.get_mut(index / CHUNK)?;
        chunk.digest = None;
        Arc::make_mut(&mut chunk.lines).get_mut(index % CHUNK)
    }

    /// The word at `index`, counted in words, is `value` now.
    pub(crate) fn set_word(&mut self, index: u32, value: u32) {
        let line = self.line_mut(index >> 4);
        if let Some(word) = line.and_then(|line| line.0.get_mut(index as usize & 15)) {
            *word = value;
        }
    }

    /// Works out the digests of chunks that were written, and of all: see [`layout::identity::DIGEST`].
    pub(crate) fn digest(&mut self) -> [u32; 8] {
        for (number, chunk) in self.chunks.iter_mut().enumerate() {
            if chunk.digest.is_none() {
                chunk.digest = Some(*digest_of(number, &chunk.lines).as_bytes());
            }
        }
        words(self.chunks.iter().map(Chunk::digest))
    }

    /// Writes the first line, which no digest covers.
    pub(crate) fn set_header(&mut self, header: Line) {
        if let Some(first) = self.chunks.first_mut()
            && let Some(line) = Arc::make_mut(&mut first.lines).first_mut()
        {
            *line = header;
        }
    }
}

fn line_of(words: &[u32]) -> Line {
    let mut line = Line::default();
    for (to, from) in line.0.iter_mut().zip(words) {
        *to = *from;
    }
    line
}

/// The digest of lines that stand in one piece.
pub(crate) fn digest(lines: &[Line]) -> [u32; 8] {
    let each = lines.chunks(CHUNK).enumerate();
    words(each.map(|(number, lines)| *digest_of(number, lines).as_bytes()))
}

fn digest_of(number: usize, lines: &[Line]) -> blake3::Hash {
    let skipped = usize::from(number == 0);
    blake3::hash(lines.get(skipped..).unwrap_or_default().as_bytes())
}

fn words(digests: impl Iterator<Item = [u8; 32]>) -> [u32; 8] {
    let mut all = blake3::Hasher::new();
    digests.for_each(|digest| {
        all.update(&digest);
    });
    let hash = all.finalize();
    let mut words = [0; 8];
    for (word, bytes) in words.iter_mut().zip(hash.as_bytes().chunks_exact(4)) {
        *word = bytes.try_into().map_or(0, u32::from_ne_bytes);
    }
    words
}

const _: () = assert!(layout::DIRECTORY < CHUNK_LINES, "the header is in the first chunk");

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: u32, mark: u32) -> Vec<Line> {
        (0..count).map(|index| Line([index ^ mark; 16])).collect()
    }

    #[test]
    fn what_is_changed_is_changed_here_only() {
        let all = lines(3 * CHUNK_LINES + 5, 0);
        let mut one = Lines::of(&all);
        let before = one.digest();
        let mut other = one.clone();
        other.set_word(2 * CHUNK_LINES * 16 + 3, 7);
        other.extend(&[0]);
        other.truncate(all.len() - 2);
        other.extend(&[9; 16]);
        assert!(one.iter().eq(&all));
        let mut expected = all.clone();
        expected[2 * CHUNK].0[3] = 7;
        expected.truncate(all.len() - 2);
        expected.push(Line([9; 16]));
        assert!(other.iter().eq(&expected));
        assert_eq!(other.len(), expected.len());
        assert_eq!(other.digest(), digest(&expected));
        assert_ne!(other.digest(), before);
        assert_eq!(one.digest(), before);
        let shared = one.chunks().iter().zip(other.chunks());
        let shared = shared.filter(|(one, other)| Arc::ptr_eq(&one.lines, &other.lines)).count();
        assert_eq!(shared, 2, "of four chunks one was written in the middle and one at the end");
    }

    #[test]
    fn the_first_line_is_in_no_digest() {
        let mut all = Lines::of(&lines(2_000, 1));
        let before = all.digest();
        all.set_header(Line([1; 16]));
        assert_eq!(all.digest(), before);
        all.set_word(16, 0xffff);
        assert_ne!(all.digest(), before);
    }

    #[test]
    fn lines_are_cut_off_at_any_place() {
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 3] {
            let mut cut = Lines::of(&lines(2 * CHUNK_LINES + 3, 0));
            cut.truncate(length);
            assert_eq!(cut.len(), length);
            assert_eq!(cut.line(u32::try_from(length).expect("few")), None);
            cut.extend(&[5; 3]);
            assert_eq!(cut.len(), length + 1);
        }
    }
}
