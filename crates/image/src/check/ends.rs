//! Successions: every one that is named comes to an end, in order of time, and says what its place wants to know.

use verdict::{
    Cell,
    layout::{self, end},
    limits::SUCCESSION_MAX,
};

use super::{Checked, Damage};

/// The nodes and rows, walked once.
pub(super) struct Ends {
    nodes: Vec<Succession>,
    /// Two words for each row.
    rows: Vec<u32>,
}

/// What is known of the succession that begins at a node.
#[derive(Clone, Copy)]
struct Succession {
    until: u64,
    ends: u32,
    /// Every value of it is a decision by rules that exist.
    decides: bool,
    /// Every value of it is 0 or 1.
    is_bit: bool,
}

impl Ends {
    pub(super) fn of(image: &Checked<'_>, rows: u64) -> Result<Self, Damage> {
        let (ends, own) = (image.directory.word(layout::ENDS), image.directory.word(layout::ROWS));
        let mut found = Self { nodes: Vec::new(), rows: Vec::new() };
        if image.ends == 0 {
            return match (ends, own) {
                (0, 0) => Ok(found),
                _ => Err(Damage::Count { what: "nodes of successions", count: 0 }),
            };
        }
        let words: Vec<u32> = image.table("ends", ends, u64::from(image.ends) * 4)?.collect();
        for (node, words) in (0..).zip(words.chunks_exact(4)) {
            let word = |index: u32| words.get(index as usize).copied().unwrap_or_default();
            let until = u64::from(word(end::UNTIL)) | u64::from(word(end::UNTIL + 1)) << 32;
            let value = word(end::VALUE);
            let mut own = Succession {
                until,
                ends: 0,
                decides: Cell(value).succession().is_none() && image.decision(Cell(value)).is_ok(),
                is_bit: value <= 1,
            };
            if until != end::NEVER {
                let next = found.nodes.get(word(end::NEXT) as usize);
                let Some(next) = next else {
                    return Err(Damage::End {
                        node,
                        what: "what follows does not stand before it",
                    });
                };
                if next.until <= until {
                    return Err(Damage::End { node, what: "what follows ends before it" });
                }
                own.ends = next.ends + 1;
                own.decides &= next.decides;
                own.is_bit &= next.is_bit;
            }
            if own.ends > SUCCESSION_MAX {
                return Err(Damage::End { node, what: "it has too many ends" });
            }
            found.nodes.push(own);
        }
        found.rows = image.table("rows", own, rows * 2)?.collect();
        Ok(found)
    }

    /// Whether succession `number` of a row is there, and one of decisions.
    pub(super) fn cells(&self, row: u64, number: u32) -> Result<(), Damage> {
        let node = self.word(row, 0).and_then(|first| first.checked_add(number));
        let node = node.unwrap_or(u32::MAX);
        match self.nodes.get(node as usize) {
            Some(succession) if succession.decides => Ok(()),
            Some(_) => Err(Damage::End { node, what: "it does not decide" }),
            None => Err(Damage::End { node, what: "it is not there, and a cell names it" }),
        }
    }

    /// Whether it is told when a row is closed that is not always open.
    pub(super) fn closed(&self, row: u64) -> Result<(), Damage> {
        if self.nodes.is_empty() {
            return Ok(());
        }
        let node = self.word(row, 1).unwrap_or(u32::MAX);
        match self.nodes.get(node as usize) {
            Some(succession) if succession.is_bit => Ok(()),
            Some(_) => Err(Damage::End { node, what: "it does not say what is closed" }),
            None => Err(Damage::End { node, what: "it is not there, and a row names it" }),
        }
    }

    fn word(&self, row: u64, which: u64) -> Option<u32> {
        self.rows.get(usize::try_from(row * 2 + which).ok()?).copied()
    }
}
