//! Places in a source: half-open ranges of bytes, and the lines and columns that people count in.

/// Half-open range of bytes in one source. Sources are limited to far less than 4 GiB, so 32 bits do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// The byte after the last one.
    pub end: u32,
}

impl Span {
    /// From byte offsets.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start: narrow(start), end: narrow(end) }
    }

    /// From the start of this one to the end of `other`.
    pub fn to(self, other: Self) -> Self {
        Self { start: self.start, end: other.end.max(self.start) }
    }

    /// As a range that slices the source.
    pub fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

fn narrow(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}

/// Line and column, both counted from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// Where each line of a source begins.
#[derive(Clone, Debug)]
pub struct LineIndex {
    starts: Vec<u32>,
}

impl LineIndex {
    /// Finds the lines of `text`.
    pub fn new(text: &str) -> Self {
        let after_breaks = text
            .bytes()
            .enumerate()
            .filter(|&(_, byte)| byte == b'\n')
            .map(|(at, _)| narrow(at + 1));
        Self { starts: std::iter::once(0).chain(after_breaks).collect() }
    }

    /// The line (from 1) that `offset` lies in.
    pub fn line(&self, offset: u32) -> u32 {
        narrow(self.starts.partition_point(|&start| start <= offset))
    }

    /// Bytes of `line` (from 1) in `text`, its line break excluded; empty if there is no such line.
    pub fn line_span(&self, line: u32, text: &str) -> Span {
        let at = line.saturating_sub(1) as usize;
        let Some(&start) = self.starts.get(at) else { return Span::new(text.len(), text.len()) };
        let end = self.starts.get(at + 1).map_or(text.len(), |&next| next as usize - 1);
        Span::new(start as usize, end.max(start as usize))
    }

    /// Line and column of `offset` in `text`.
    pub fn position(&self, offset: u32, text: &str) -> Position {
        let line = self.line(offset);
        let start = self.line_span(line, text).start as usize;
        let before = text.get(start..(offset as usize).max(start)).unwrap_or_default();
        Position { line, column: narrow(before.chars().count() + 1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        let text = "a\nöb\n";
        let lines = LineIndex::new(text);
        assert_eq!(lines.position(0, text), Position { line: 1, column: 1 });
        assert_eq!(lines.position(4, text), Position { line: 2, column: 2 });
        assert_eq!(&text[lines.line_span(2, text).range()], "öb");
        assert_eq!(lines.position(6, text), Position { line: 3, column: 1 });
    }
}
