//! Lines being put together: tables one behind the other, and the directory that says where they are.

use verdict::{layout::DIRECTORY, limits::LINES_MAX};

use crate::{Budget, lines::Lines, trie::Trie};

/// Lines being put together; the directory is line 1.
pub(crate) struct Assembly {
    lines: Lines,
}

impl Assembly {
    pub(crate) fn new() -> Self {
        Self::on(Lines::of(&[Default::default(); 2]))
    }

    /// Behind lines that are there, of which the first are the header.
    pub(crate) fn on(lines: Lines) -> Self {
        Self { lines }
    }

    pub(crate) fn lines(self) -> Lines {
        self.lines
    }

    /// The line behind the last one.
    pub(crate) fn end(&self) -> u32 {
        number(self.lines.len())
    }

    /// Appends whole lines, the last one filled with zeros, and says where they begin.
    pub(crate) fn append(&mut self, words: &[u32]) -> Result<u32, Budget> {
        let start = self.end();
        self.room(words.len().div_ceil(16))?;
        self.lines.extend(words);
        Ok(start)
    }

    /// Appends what stands behind the roots.
    pub(crate) fn append_trie(&mut self, trie: Trie) -> Result<(), Budget> {
        self.room(trie.line_count())?;
        trie.append(&mut self.lines);
        Ok(())
    }

    fn room(&self, lines: usize) -> Result<(), Budget> {
        Budget::spend("lines of the image", self.lines.len() + lines, LINES_MAX, None)
    }

    /// Appends a table and writes where it begins, with `mark` set, into the directory.
    pub(crate) fn place(
        &mut self,
        directory_word: u32,
        mark: u32,
        words: &[u32],
    ) -> Result<(), Budget> {
        let start = self.append(words)?;
        self.direct(directory_word, start | mark);
        Ok(())
    }

    /// Writes a word of the directory.
    pub(crate) fn direct(&mut self, directory_word: u32, value: u32) {
        self.lines.set_word((DIRECTORY << 4) + directory_word, value);
    }
}

/// Two 16-bit values in each word, the even one in the lower half.
pub(crate) fn halves(values: &[u32]) -> Vec<u32> {
    values.chunks(2).map(|pair| pair.iter().rev().fold(0, |word, half| word << 16 | half)).collect()
}

pub(crate) fn number(length: usize) -> u32 {
    u32::try_from(length).expect("counts of an image are within its budgets")
}
