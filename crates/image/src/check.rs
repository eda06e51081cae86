//! Guards a slot of the kernel: finds whatever [`verdict::decide`] could trip over.
//!
//! The kernel program cannot fault whatever an image holds; what a damaged one can do is deny everything or judge
//! wrongly. So every table is walked before the flip: each link lands inside the image, each path down the trie gets
//! longer, each class is below its bound, each cell names a rule that exists or a succession of such cells that gets
//! to an end.

mod ends;

use verdict::{
    Cell, Decision, Line,
    layout::{self, DIRECTORY, LINK, facet, identity, node},
    limits::{
        ENDS_MAX, LINES_MAX, NEAR_CLASSES_MAX, PORT_CLASSES_MAX, REMOTE_CLASSES_MAX, RULES_MAX,
    },
};

use crate::lines::digest;
use ends::Ends;

/// What is wrong with an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Not an image at all, or one of another format.
    #[error("not an image of format {}", layout::FORMAT)]
    Foreign,
    /// The header's count of lines is not how many there are.
    #[error("the header says {said} lines, there are {are}")]
    Length {
        /// What the header says.
        said: u32,
        /// What there is.
        are: usize,
    },
    /// The content is not what was sealed.
    #[error("the digest does not match the content")]
    Digest,
    /// A count is beyond its budget or zero.
    #[error("{what}: {count} is not a possible count")]
    Count {
        /// Of what.
        what: &'static str,
        /// The count found.
        count: u32,
    },
    /// A table reaches beyond the image.
    #[error("table {what} at line {line} reaches beyond the image")]
    Outside {
        /// Which table.
        what: &'static str,
        /// Where it starts.
        line: u32,
    },
    /// A value in a table is beyond its bound.
    #[error("{what}: {value} is beyond {bound}")]
    Value {
        /// Of which table.
        what: &'static str,
        /// The value found.
        value: u32,
        /// It had to be below this.
        bound: u32,
    },
    /// A node of a succession contradicts itself or those that follow it.
    #[error("node {node} of a succession: {what}")]
    End {
        /// The node.
        node: u32,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A node of the address trie contradicts itself or its place.
    #[error("trie node at line {line}: {what}")]
    Node {
        /// The node.
        line: u32,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// Checks an image completely, in time linear in its size.
///
/// # Errors
/// The first damage found.
pub fn check(lines: &[Line]) -> Result<(), Damage> {
    let checked = Checked::open(lines)?;
    checked.addresses()?;
    checked.ports()?;
    checked.facets()?;
    checked.matrix()
}

struct Checked<'a> {
    lines: &'a [Line],
    directory: &'a Line,
    rules: u32,
    ends: u32,
    nears: u32,
    ports: u32,
    remotes: u32,
}

impl<'a> Checked<'a> {
    fn open(lines: &'a [Line]) -> Result<Self, Damage> {
        let (Some(header), Some(directory)) = (lines.first(), lines.get(DIRECTORY as usize)) else {
            return Err(Damage::Foreign);
        };
        if header.word(identity::MAGIC) != layout::MAGIC
            || header.word(identity::FORMAT) != layout::FORMAT
        {
            return Err(Damage::Foreign);
        }
        let said = header.word(identity::LINES);
        if said as usize != lines.len() || said > LINES_MAX {
            return Err(Damage::Length { said, are: lines.len() });
        }
        if (identity::DIGEST..).zip(digest(lines)).any(|(index, word)| header.word(index) != word) {
            return Err(Damage::Digest);
        }
        let count = |what, count: u32, limit: u32| {
            if count == 0 || count > limit { Err(Damage::Count { what, count }) } else { Ok(count) }
        };
        Ok(Self {
            lines,
            directory,
            rules: count("rules", header.word(identity::RULES), RULES_MAX)?,
            ends: match header.word(identity::ENDS) {
                0 => 0,
                some => count("nodes of successions", some, ENDS_MAX)?,
            },
            nears: count("near classes", header.word(identity::NEARS), NEAR_CLASSES_MAX)?,
            ports: count("port classes", directory.word(layout::PORT_CLASSES), PORT_CLASSES_MAX)?,
            remotes: count(
                "remote classes",
                directory.word(layout::REMOTE_CLASSES),
                REMOTE_CLASSES_MAX,
            )?,
        })
    }

    /// `words` words from line `line` on, which must lie behind the header.
    fn table(
        &self,
        what: &'static str,
        line: u32,
        words: u64,
    ) -> Result<impl Iterator<Item = u32> + '_, Damage> {
        let lines = words.div_ceil(16);
        if line <= DIRECTORY || u64::from(line) + lines > self.lines.len() as u64 {
            return Err(Damage::Outside { what, line });
        }
        let from = line as usize;
        let words = usize::try_from(words).expect("within the image, so within memory");
        Ok(self.lines.iter().skip(from).flat_map(|line| line.0).take(words))
    }

    fn word(&self, index: u32) -> Option<u32> {
        Some(self.lines.get(index as usize >> 4)?.word(index))
    }

    /// A table of 16-bit values below `bound`.
    fn halves(&self, what: &'static str, line: u32, values: u64, bound: u32) -> Result<(), Damage> {
        let halves = self
            .table(what, line, values.div_ceil(2))?
            .flat_map(|word| [word & 0xffff, word >> 16]);
        for value in halves.take(usize::try_from(values).unwrap_or(usize::MAX)) {
            below(what, value, bound)?;
        }
        Ok(())
    }

    fn addresses(&self) -> Result<(), Damage> {
        let families = [(layout::ROOT4, 112), (layout::ROOT6, 16)];
        let mut open: Vec<(u32, u32)> = Vec::new();
        for (root, bits) in families {
            let found = self.directory.word(root);
            if found & LINK == 0 {
                below("class of a whole family", found, self.remotes)?;
                continue;
            }
            for entry in self.table("address root", found ^ LINK, 1 << 16)? {
                self.entry(entry, bits, &mut open)?;
            }
        }
        // A node that two links lead to would be walked twice; the builder makes none, and without this bound a crafted
        // image could make the walk exponential.
        let mut nodes = 0usize;
        while let Some((line, bits)) = open.pop() {
            nodes += 1;
            if nodes > self.lines.len() {
                return Err(Damage::Node {
                    line,
                    what: "reached by more links than there are lines",
                });
            }
            self.node(line, bits, &mut open)?;
        }
        Ok(())
    }

    fn entry(&self, entry: u32, bits: u32, open: &mut Vec<(u32, u32)>) -> Result<(), Damage> {
        if entry & LINK == 0 {
            return below("remote class in the trie", entry, self.remotes);
        }
        open.push((entry ^ LINK, bits));
        Ok(())
    }

    /// The node at `line`, reached after `bits` bits.
    fn node(&self, line: u32, bits: u32, open: &mut Vec<(u32, u32)>) -> Result<(), Damage> {
        let damage = |what| Err(Damage::Node { line, what });
        let Some(found) = self.lines.get(line as usize).filter(|_| line > DIRECTORY) else {
            return damage("outside the image");
        };
        let own = found.word(node::BITS);
        if own < bits || own > 120 || own % 8 != 0 {
            return damage("its prefix is not longer than the path to it");
        }
        let mut before = 0;
        for quarter in 0..4 {
            if found.word(node::RANKS) >> (8 * quarter) & 255 != before {
                return damage("its ranks are not those of its bitmap");
            }
            before += found.double(quarter).count_ones();
        }
        if found.word(0) & 1 == 0 {
            return damage("no run starts at value 0");
        }
        below("remote class in the trie", found.word(node::MISS), self.remotes)?;
        let first = found.word(node::ENTRIES);
        for index in 0..before {
            let entry = first.checked_add(index).filter(|index| index >> 4 > DIRECTORY);
            let Some(entry) = entry.and_then(|index| self.word(index)) else {
                return damage("its entries are outside the image");
            };
            self.entry(entry, own + 8, open)?;
        }
        Ok(())
    }

    fn ports(&self) -> Result<(), Damage> {
        for table in 0..4 {
            let found = self.directory.word(layout::PORTS + table);
            if found & LINK == 0 {
                below("class of all ports", found, self.ports)?;
            } else {
                self.halves("port classes", found ^ LINK, 1 << 16, self.ports)?;
            }
        }
        self.halves("protocol classes", self.directory.word(layout::PROTOCOLS), 512, self.ports)
    }

    fn facets(&self) -> Result<(), Damage> {
        let line = self.directory.word(layout::FACETS);
        if line == 0 {
            return Ok(());
        }
        let words: Vec<u32> = self.table("facets", line, 32)?.collect();
        let word = |index: u32| words.get(index as usize).copied().unwrap_or_default();
        let mut combinations = 1u64;
        for facet in 0..facet::HASHED {
            let (buckets, log2, classes) =
                (word(4 * facet), word(4 * facet + 1), word(4 * facet + 3));
            if buckets == 0 {
                continue;
            }
            below("log2 of buckets", log2, 32)?;
            combinations = combinations.saturating_mul(u64::from(classes.max(1)));
            let lines: Vec<u32> = self.table("buckets", buckets, 16 << log2)?.collect();
            for bucket in lines.chunks_exact(16) {
                for half in
                    bucket.iter().skip(10).take(3).flat_map(|word| [word & 0xffff, word >> 16])
                {
                    below("class in a bucket", half, classes)?;
                }
            }
        }
        let locals = word(16 + facet::LOCAL);
        if locals != 0 {
            let classes = word(16 + facet::LOCALS);
            combinations = combinations.saturating_mul(u64::from(classes.max(1)));
            self.halves("local classes", locals, u64::from(self.remotes), classes)?;
        }
        self.halves("near classes", word(16 + facet::JOINED), combinations, self.nears)
    }

    fn matrix(&self) -> Result<(), Damage> {
        let rows = u64::from(self.nears) * u64::from(self.ports);
        let matrix = self.directory.word(layout::MATRIX);
        let closed = self.directory.word(layout::CLOSED);
        let ends = Ends::of(self, rows)?;
        let mut cells = self.table("matrix", matrix, rows * u64::from(self.remotes))?.map(Cell);
        let bits = self.table("closed bits", closed, rows.div_ceil(32))?;
        let bits = bits.flat_map(|word| (0..32).map(move |bit| word >> bit & 1 == 1));
        for (row, closed) in (0..rows).zip(bits) {
            for cell in cells.by_ref().take(self.remotes as usize) {
                match cell.succession() {
                    Some(number) => ends.cells(row, number)?,
                    None => self.decision(cell)?,
                }
            }
            if closed {
                ends.closed(row)?;
            }
        }
        self.table("rules", self.directory.word(layout::RULES), u64::from(self.rules))?
            .for_each(drop);
        Ok(())
    }

    /// A cell that says what is decided, by rules that exist.
    fn decision(&self, cell: Cell) -> Result<(), Damage> {
        let Decision { enforced, would } = cell.unpack();
        if Cell::pack(Decision::MALFORMED) == cell {
            return Ok(());
        }
        for judgement in [enforced, would] {
            below("rule in the matrix", u32::from(judgement.rule.0), self.rules)?;
        }
        Ok(())
    }
}

fn below(what: &'static str, value: u32, bound: u32) -> Result<(), Damage> {
    if value < bound { Ok(()) } else { Err(Damage::Value { what, value, bound }) }
}
