//! What follows when rules end: successions of cells, and when a row is closed.

use std::collections::BTreeMap;

use verdict::{
    Cell,
    layout::end,
    limits::{ENDS_MAX, SUCCESSION_MAX},
};

use crate::{Budget, Rule, matrix::Timed};

/// A node of the table: until when, what, and which one follows.
type Node = [u32; 4];

/// The two tables of ends, being put together row by row.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    nodes: Vec<Node>,
    /// Nodes that several successions share: all but the first ones of rows.
    shared: BTreeMap<Node, u32>,
    /// Where the first nodes of a row stand: rows whose cells have the same successions share them.
    firsts: BTreeMap<Vec<Node>, u32>,
    /// Two words for each row.
    rows: Vec<[u32; 2]>,
    /// Some cell has an end.
    any: bool,
}

/// The successions of one row.
#[derive(Debug, Default)]
pub(crate) struct Row {
    /// The first node of each.
    firsts: Vec<Node>,
    numbers: BTreeMap<Node, u16>,
    /// By moment, how many more of them allow from then on than before.
    turns: BTreeMap<u64, i64>,
    /// Some cell allows for good.
    open: bool,
}

impl Ends {
    /// Adds the cell of one combination to its row, and says what stands in the matrix for it.
    pub(crate) fn cell(
        &mut self,
        row: &mut Row,
        timed: &Timed,
        rules: &[Rule],
    ) -> Result<Cell, Budget> {
        let steps = match timed {
            Timed::Always(cell) => {
                row.open |= !cell.unpack().denies();
                return Ok(*cell);
            }
            Timed::Ending(steps) => steps,
        };
        self.any = true;
        let named = |step: usize| {
            let (_, cell) = steps.get(step)?;
            let rule = rules.get(usize::from(cell.unpack().would.rule.0))?;
            Some(rule.id.as_str())
        };
        let ends = steps.len().saturating_sub(1);
        let at_limit = named(SUCCESSION_MAX as usize);
        Budget::spend("ends that follow each other in one place", ends, SUCCESSION_MAX, at_limit)?;
        let mut values = steps.iter().map(|&(until, cell)| (until, cell.0));
        let (until, value) = values.next().expect("a cell that ends has steps");
        let next = self.share(values, named(0))?;
        let first = node(until, value, next);
        if let Some(&number) = row.numbers.get(&first) {
            return Ok(Cell::of_succession(number));
        }
        let number = u16::try_from(row.firsts.len()).expect("fewer cells in a row");
        row.numbers.insert(first, number);
        row.firsts.push(first);
        row.turn(steps);
        Ok(Cell::of_succession(number))
    }

    /// Ends a row. Whether it is closed, now or at some other time.
    pub(crate) fn row(&mut self, row: Row) -> Result<bool, Budget> {
        let closed = row.closed();
        let is_closed = closed.iter().any(|&(_, closed)| closed == 1);
        let turns = closed.len().saturating_sub(1);
        Budget::spend("times that ends open or close one port", turns, SUCCESSION_MAX, None)?;
        let closed = if is_closed { self.share(closed.into_iter(), None)? } else { 0 };
        let first = match self.firsts.get(&row.firsts) {
            Some(&first) => first,
            None => {
                let first = self.next();
                self.nodes.extend(&row.firsts);
                self.firsts.insert(row.firsts, first);
                self.within_budget(None)?;
                first
            }
        };
        self.rows.push([first, closed]);
        Ok(is_closed)
    }

    /// The nodes, and the words of the rows; nothing where nothing ends.
    pub(crate) fn tables(&self) -> Option<(&[Node], &[[u32; 2]])> {
        self.any.then_some((&*self.nodes, &*self.rows))
    }

    /// The node at which these steps begin, which other successions may share.
    fn share(
        &mut self,
        steps: impl DoubleEndedIterator<Item = (u64, u32)>,
        culprit: Option<&str>,
    ) -> Result<u32, Budget> {
        let mut next = 0;
        for (until, value) in steps.rev() {
            let node = node(until, value, next);
            next = match self.shared.get(&node) {
                Some(&known) => known,
                None => {
                    let new = self.next();
                    self.nodes.push(node);
                    self.shared.insert(node, new);
                    new
                }
            };
        }
        self.within_budget(culprit)?;
        Ok(next)
    }

    fn next(&self) -> u32 {
        u32::try_from(self.nodes.len()).expect("hardly more nodes than the budget")
    }

    fn within_budget(&self, culprit: Option<&str>) -> Result<(), Budget> {
        Budget::spend("ends of rules, wherever they decide", self.nodes.len(), ENDS_MAX, culprit)
    }
}

impl Row {
    /// Takes note of when a cell allows.
    fn turn(&mut self, steps: &[(u64, Cell)]) {
        let mut since = 0;
        for &(until, cell) in steps {
            if !cell.unpack().denies() {
                *self.turns.entry(since).or_default() += 1;
                *self.turns.entry(until).or_default() -= 1;
            }
            since = until;
        }
    }

    /// Until when it is closed (1) and not (0), in order of time.
    fn closed(&self) -> Vec<(u64, u32)> {
        if self.open {
            return vec![(end::NEVER, 0)];
        }
        let mut closed: Vec<(u64, u32)> = Vec::new();
        let mut hold = |until: u64, allowing: i64| {
            let value = u32::from(allowing == 0);
            match closed.last_mut() {
                Some((end, last)) if *last == value => *end = until,
                Some(_) | None => closed.push((until, value)),
            }
        };
        let mut allowing = 0;
        for (&at, &change) in self.turns.range(..end::NEVER) {
            if at > 0 {
                hold(at, allowing);
            }
            allowing += change;
        }
        hold(end::NEVER, allowing);
        closed
    }
}

fn node(until: u64, value: u32, next: u32) -> Node {
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of the moment")]
    let [low, high] = [until as u32, (until >> 32) as u32];
    [low, high, value, next]
}
