//! Rules to image: classes first, then the tables that lead to them, then one cell for each combination.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use verdict::{
    Direction, Protocol, Verdict,
    layout::{self, LINK, facet, identity},
    limits::{CELLS_MAX, REMOTE_CLASSES_MAX, RULES_MAX},
};

use crate::{
    AddressSet, Budget, Image, Invalid, Rule, RuleSet, Service,
    anew::Anew,
    assembly::{Assembly, halves, number},
    budget::{COLUMNS_MAX, RANGES_MAX},
    classes::{Classes, Labels, sweep},
    ends::{Ends, Row},
    facets::{Facets, NearTables, NearTest, near_tables},
    matrix::{Column, Ranking, RuleBits},
    origin::{Moved, Origin, named},
    ports::{PortTables, port_tables},
    trie::{Family, Runs, Trie},
};

/// Why there is no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The rules have no meaning.
    #[error("these rules have no meaning")]
    Invalid(#[from] Invalid),
    /// The rules do not fit.
    #[error("these rules do not fit into an image")]
    Budget(#[from] Budget),
}

/// Compiles the rules of one host. Pure and deterministic: equal rules give equal bytes.
///
/// # Errors
/// [`Invalid`] where the rules have no meaning, [`Budget`] where they do not fit; nothing is built then.
pub fn compile(rules: &RuleSet) -> Result<Image, CompileError> {
    within_budget(rules)?;
    let sets = named(rules);
    let (runs, members) = remote_classes(&sets, rules)?;
    let classed = Classed::new(rules, members)?;
    Ok(classed.build(rules, |members| whole(sets, members, &runs))?)
}

/// An image that was made from another one where that could be done.
#[derive(Clone, Debug)]
pub struct Changed {
    /// The image.
    pub image: Image,
    /// Why it was compiled anew; nothing where it shares what it can with the image before.
    pub anew: Option<Anew>,
}

impl Image {
    /// Compiles the rules of the same host after a change. Where few ranges of addresses came or went with the sets that
    /// rules name, the tables of addresses are those of this image but for these ranges, and shared with it: that takes
    /// a time that does not depend on how many addresses the other sets have. Sets count as the same where they share
    /// their ranges or are small and equal. The result means what [`compile`] makes of the rules, in other bytes.
    ///
    /// # Errors
    /// As [`compile`].
    pub fn changed(&self, rules: &RuleSet) -> Result<Changed, CompileError> {
        within_budget(rules)?;
        match self.moved(rules) {
            Ok(image) => Ok(Changed { image, anew: None }),
            Err(anew) => Ok(Changed { image: compile(rules)?, anew: Some(anew) }),
        }
    }

    fn moved(&self, rules: &RuleSet) -> Result<Self, Anew> {
        let origin = self.origin().ok_or(Anew::Foreign)?;
        let Moved { lines, origin } = origin.moved(self.shared_lines(), rules)?;
        let room = |_budget| Anew::Room;
        let classed = Classed::new(rules, origin.members.clone()).map_err(room)?;
        classed.build(rules, |_members| Ok((Assembly::on(lines), origin))).map_err(room)
    }
}

fn within_budget(rules: &RuleSet) -> Result<(), CompileError> {
    rules.validate()?;
    let culprit = rules.rules.get(RULES_MAX as usize).map(|rule| rule.id.as_str());
    Ok(Budget::spend("rules", rules.rules.len(), RULES_MAX, culprit)?)
}

/// Lines of the root of a family.
const ROOT_LINES: u32 = (1 << 16) / 16;

/// What each combination of classes comes to.
struct Cells {
    cells: Vec<u32>,
    /// One bit for each row.
    closed: Vec<u32>,
    ends: Ends,
}

/// The rules with every dimension cut into classes.
struct Classed {
    /// For each remote class, the sets that hold its addresses.
    members: Vec<Labels>,
    ports: PortTables,
    near: NearTables,
    /// For each rule: which list of services, of its direction, and which near test it has.
    list_of: Vec<u32>,
    test_of: Vec<u32>,
}

impl Classed {
    fn new(rules: &RuleSet, members: Vec<Labels>) -> Result<Self, Budget> {
        let (lists, list_of) =
            distinct(&rules.rules, |rule| (rule.direction, rule.services.as_slice()));
        let (tests, test_of) = distinct(&rules.rules, |rule| (rule.local, rule.subject.clone()));
        let tests: Vec<NearTest> = tests;
        Ok(Self {
            ports: port_tables(&lists)?,
            near: near_tables(&tests, &members, &rules.cgroups)?,
            members,
            list_of,
            test_of,
        })
    }

    /// `addresses` gives lines that begin with the address tables.
    fn build(
        &self,
        rules: &RuleSet,
        addresses: impl FnOnce(&[Labels]) -> Result<(Assembly, Origin), Budget>,
    ) -> Result<Image, Budget> {
        let rows = self.near.classes.len() * self.ports.classes.len();
        Budget::spend("verdict cells", rows.saturating_mul(self.members.len()), CELLS_MAX, None)?;
        let Cells { cells, closed, ends } = self.cells(rules)?;
        let (mut tables, origin) = addresses(&self.members)?;
        self.place_ports(&mut tables)?;
        if let Some(facets) = &self.near.tables {
            place_facets(facets, &mut tables)?;
        }
        tables.place(layout::MATRIX, 0, &cells)?;
        tables.place(layout::CLOSED, 0, &closed)?;
        let nodes = match ends.tables() {
            Some((nodes, rows)) => {
                tables.place(layout::ENDS, 0, nodes.as_flattened())?;
                tables.place(layout::ROWS, 0, rows.as_flattened())?;
                nodes.len()
            }
            None => 0,
        };
        let flags: Vec<u32> = rules.rules.iter().map(|rule| rule.flags).collect();
        tables.place(layout::RULES, 0, &flags)?;
        tables.direct(layout::PORT_CLASSES, number(self.ports.classes.len()));
        tables.direct(layout::REMOTE_CLASSES, number(self.members.len()));
        tables.direct(layout::FLAGS, self.needs(rules, &closed));
        let lines = tables.end();
        #[expect(clippy::cast_possible_truncation, reason = "the two halves of the version")]
        let version = [rules.version as u32, (rules.version >> 32) as u32];
        Ok(Image::seal(
            tables.lines(),
            [
                (identity::MAGIC, layout::MAGIC),
                (identity::FORMAT, layout::FORMAT),
                (identity::LINES, lines),
                (identity::RULES, number(rules.rules.len())),
                (identity::NEARS, number(self.near.classes.len())),
                (identity::ENDS, number(nodes)),
                (identity::VERSION_LO, version[0]),
                (identity::VERSION_HI, version[1]),
            ],
            Arc::new(origin),
        ))
    }

    /// The verdict matrix, for each row whether it is denied throughout, and what changes when rules end.
    fn cells(&self, rules: &RuleSet) -> Result<Cells, Budget> {
        let mut ranking = Ranking::new(&rules.rules);
        let by =
            |list: &[u32], labels: usize| ranking.by_label(labels, |rule| list.get(rule).copied());
        let by_test = by(&self.test_of, rules.rules.len());
        let by_list = by(&self.list_of, rules.rules.len());
        let by_set = ranking
            .by_label(rules.sets.len(), |rule| rules.rules.get(rule).and_then(|rule| rule.remote));
        let nears: Vec<RuleBits> = self
            .near
            .classes
            .signatures()
            .iter()
            .map(|holding| ranking.labelled(&by_test, holding))
            .collect();
        let ports: Vec<RuleBits> = self
            .ports
            .classes
            .signatures()
            .iter()
            .map(|(_, lists)| ranking.labelled(&by_list, lists))
            .collect();
        let mut remotes: Vec<Column> = Vec::with_capacity(self.members.len());
        let mut words = 0;
        for sets in &self.members {
            let column = ranking.labelled(&by_set, sets).column();
            words += column.len();
            Budget::spend("rules about each class of remote addresses", words, COLUMNS_MAX, None)?;
            remotes.push(column);
        }
        let rows = nears.len() * ports.len();
        let mut cells = Vec::with_capacity(rows * remotes.len());
        let mut closed = vec![0u32; rows.div_ceil(32)];
        let mut ends = Ends::default();
        for (row, (near, port)) in
            nears.iter().flat_map(|near| ports.iter().map(move |port| (near, port))).enumerate()
        {
            let held = ranking.held(near.and(port));
            let mut own = Row::default();
            for remote in &remotes {
                let cell = ends.cell(&mut own, &ranking.cell(&held, remote)?, &rules.rules)?;
                cells.push(cell.0);
            }
            if ends.row(own)?
                && let Some(word) = closed.get_mut(row >> 5)
            {
                *word |= 1 << (row & 31);
            }
        }
        Ok(Cells { cells, closed, ends })
    }

    fn place_ports(&self, tables: &mut Assembly) -> Result<(), Budget> {
        for (word, starts) in (layout::PORTS..).zip(&self.ports.ports) {
            match starts.as_slice() {
                &[(_, class)] => tables.direct(word, class),
                starts => {
                    let mut classes = Vec::with_capacity(1 << 16);
                    let ends = starts
                        .iter()
                        .skip(1)
                        .map(|&(start, _)| usize::from(start))
                        .chain([1 << 16]);
                    for (&(_, class), end) in starts.iter().zip(ends) {
                        classes.resize(end, class);
                    }
                    tables.place(word, LINK, &halves(&classes))?;
                }
            }
        }
        tables.place(layout::PROTOCOLS, 0, &halves(&self.ports.protocols.concat()))
    }

    /// Which hooks this image needs.
    fn needs(&self, rules: &RuleSet, closed: &[u32]) -> u32 {
        let denies = |direction: Direction| {
            rules
                .rules
                .iter()
                .filter(move |rule| rule.verdict == Verdict::Deny && rule.direction == direction)
        };
        let datagram =
            |service: &Service| !matches!(service.protocol, Some(Protocol::TCP | Protocol::SCTP));
        let mut flags = 0;
        if rules.rules.iter().any(|rule| rule.subject.asks_for_owner()) {
            flags |= layout::FLAG_SUBJECTS;
        }
        if rules.rules.iter().any(|rule| !rule.subject.namespaces.is_empty()) {
            flags |= layout::FLAG_NAMESPACES;
        }
        if rules.rules.iter().any(|rule| rule.flags & layout::RULE_LOG != 0) {
            flags |= layout::FLAG_LOG;
        }
        if denies(Direction::Out).any(|rule| rule.services.iter().any(datagram)) {
            flags |= layout::FLAG_DATAGRAMS;
        }
        if denies(Direction::In).next().is_some() {
            flags |= layout::FLAG_INBOUND;
        }
        if rules
            .rules
            .iter()
            .any(|rule| rule.verdict == Verdict::Deny && rule.flags & layout::RULE_DEFAULT != 0)
        {
            flags |= layout::FLAG_ANSWERS | layout::FLAG_DATAGRAMS | layout::FLAG_INBOUND;
        }
        let ports = self.ports.classes.signatures();
        let numbered = self.ports.protocols.iter().flat_map(|table| (0..=u8::MAX).zip(table));
        let portless: BTreeSet<u32> = numbered
            .filter(|&(protocol, _)| ![Protocol::TCP, Protocol::UDP].contains(&Protocol(protocol)))
            .map(|(_, &class)| class)
            .collect();
        let closed_rows = (0usize..self.near.classes.len() * ports.len())
            .filter(|row| closed.get(row >> 5).is_some_and(|word| word >> (row & 31) & 1 == 1))
            .map(|row| row % ports.len());
        for port in closed_rows {
            match ports.get(port) {
                Some((Direction::In, _)) => flags |= layout::FLAG_CLOSED,
                Some((Direction::Out, _)) if portless.contains(&number(port)) => {
                    flags |= layout::FLAG_PROTOCOLS
                }
                Some((Direction::Out, _)) | None => {}
            }
        }
        flags
    }
}

/// The distinct values of a field in order of first appearance, and the index of each rule's.
fn distinct<'a, T: Ord + Clone>(
    rules: &'a [Rule],
    field: impl Fn(&'a Rule) -> T,
) -> (Vec<T>, Vec<u32>) {
    let mut numbers: BTreeMap<T, u32> = BTreeMap::new();
    let mut values = Vec::new();
    let indices = rules
        .iter()
        .map(|rule| {
            let value = field(rule);
            *numbers.entry(value.clone()).or_insert_with(|| {
                values.push(value);
                number(values.len() - 1)
            })
        })
        .collect();
    (values, indices)
}

/// Where each remote class starts, and which sets hold each class. Class 0 is in no set.
fn remote_classes(
    sets: &[(u32, AddressSet)],
    rules: &RuleSet,
) -> Result<(Runs, Vec<Labels>), Budget> {
    let count = sets.iter().map(|(_, set)| set.bit_ranges().len()).sum();
    Budget::spend("ranges of addresses", count, RANGES_MAX, None)?;
    let ranges = sets.iter().flat_map(|(label, set)| {
        set.bit_ranges().iter().map(move |&(first, last)| (first, last, *label))
    });
    let mut classes =
        Classes::starting_with(Labels::default(), "remote classes", REMOTE_CLASSES_MAX);
    let runs = sweep(ranges, |active| {
        let culprit = || {
            let named =
                |rule: &&Rule| rule.remote.is_some_and(|set| active.binary_search(&set).is_ok());
            rules.rules.iter().find(named).map(|rule| rule.id.clone())
        };
        classes.number(Labels::clone(active)).map_err(|budget| Budget { rule: culprit(), ..budget })
    })?;
    Ok((runs, classes.signatures().to_vec()))
}

/// The address tables: roots, nodes, entries. They come first, so that what follows can be made anew without them.
fn whole(
    sets: Vec<(u32, AddressSet)>,
    members: &[Labels],
    runs: &Runs,
) -> Result<(Assembly, Origin), Budget> {
    let mut tables = Assembly::new();
    let families = Family::both(runs);
    let roots = families.iter().filter(|family| family.alone().is_none()).count();
    let mut trie = Trie::at(tables.end() + ROOT_LINES * number(roots));
    for (root, family) in [layout::ROOT4, layout::ROOT6].into_iter().zip(&families) {
        match family.alone() {
            Some(class) => tables.direct(root, class),
            None => tables.place(root, LINK, &trie.root(family))?,
        }
    }
    drop(families);
    let before = tables.end();
    tables.append_trie(trie)?;
    let (trie_end, trie_lines) = (tables.end(), tables.end() - before);
    let (free, garbage_words) = (Vec::new(), 0);
    let members = members.to_vec();
    Ok((tables, Origin { sets, members, free, trie_end, trie_lines, garbage_words }))
}

fn place_facets(facets: &Facets, tables: &mut Assembly) -> Result<(), Budget> {
    let mut words = [0u32; 32];
    let mut put = |index: u32, value: u32| words.get_mut(index as usize).map(|word| *word = value);
    for (index, hashed) in (0u32..).zip(&facets.hashed) {
        if let Some(hashed) = hashed {
            put(4 * index, tables.append(hashed.lines.as_flattened())?);
            put(4 * index + 1, hashed.log2);
            put(4 * index + 2, hashed.seed);
            put(4 * index + 3, hashed.classes);
        }
    }
    if let Some((by_remote, classes)) = &facets.locals {
        put(16 + facet::LOCAL, tables.append(&halves(by_remote))?);
        put(16 + facet::LOCALS, *classes);
    }
    put(16 + facet::JOINED, tables.append(&halves(&facets.joined))?);
    tables.place(layout::FACETS, 0, &words)
}
