//! Classes of processes that no clause tells apart at one end, and how to say which of them are meant.
//!
//! Each qualifier is cut into values that the same tests mention, and one for everything that no test mentions; the grid
//! of all of them is then cut into classes that pass the same tests. A test that mentions a cgroup mentions those below.

use std::collections::BTreeSet;

use image::SubjectTest;
use verdict::Subject;

use super::{
    answer::{AnalysisError, Processes},
    bits::{Bits, Numbered},
    families::families,
    limits::PROCESSES_MAX,
};
use crate::{
    facts::Identities as _,
    resolve::placed,
    symbols::Symbols,
    syntax::{QUALIFIERS, Qualifier},
};

/// A set of classes of one end.
pub(super) type ProcessSet = Bits;

/// Values of one facet that the same tests mention; `None` is every value that none mentions.
type Band = Option<Vec<u64>>;

/// The classes of one end.
#[derive(Debug)]
pub(super) struct ProcessClasses {
    bands: [Vec<Band>; QUALIFIERS],
    /// Class of each cell of the grid, the last facet counting fastest.
    grid: Vec<usize>,
    /// For each class the tests that it passes, by their number.
    passes: Vec<Bits>,
    /// One process of each class.
    subjects: Vec<Subject>,
}

impl ProcessClasses {
    pub(super) fn new(tests: &[&SubjectTest], symbols: &Symbols) -> Result<Self, AnalysisError> {
        let bands = Qualifier::ALL.map(|facet| bands(tests, facet, symbols));
        let cells = bands.iter().map(Vec::len).product();
        AnalysisError::limit("kinds of processes", cells, PROCESSES_MAX)?;
        let mut classes = Numbered::new();
        let mut grid = Vec::with_capacity(cells);
        let mut subjects = Vec::new();
        for cell in 0..cells {
            let subject = subject(&bands, cell, symbols);
            let passes = Bits::of(tests.len(), |at| {
                tests.get(at).is_some_and(|test| test.matches(&subject))
            });
            let class = classes.number(passes);
            if class == subjects.len() {
                subjects.push(subject);
            }
            grid.push(class);
        }
        Ok(Self { bands, grid, passes: classes.values().to_vec(), subjects })
    }

    pub(super) fn len(&self) -> usize {
        self.subjects.len()
    }

    /// Whether `class` passes the test of this number.
    pub(super) fn passes(&self, class: usize, test: usize) -> bool {
        self.passes.get(class).is_some_and(|passes| passes.contains(test))
    }

    /// A process of the class.
    pub(super) fn subject(&self, class: usize) -> Subject {
        self.subjects.get(class).copied().unwrap_or(Subject::UNKNOWN)
    }

    pub(super) fn all(&self) -> ProcessSet {
        Bits::of(self.len(), |_| true)
    }

    /// Says which processes are in `set`, which is not empty.
    pub(super) fn describe(&self, set: &ProcessSet, symbols: &Symbols) -> Processes {
        if *set == self.all() {
            return Processes::Any;
        }
        let only = self.boxes(set, symbols);
        let but = self.boxes(&self.all().without(set), symbols);
        if only.len() <= but.len() { Processes::Only(only) } else { Processes::AllBut(but) }
    }

    /// The qualifiers that together mean the classes of `set`.
    fn boxes(&self, set: &ProcessSet, symbols: &Symbols) -> Vec<String> {
        let meant = self.grid.iter().enumerate().filter(|(_, class)| set.contains(**class));
        let mut boxes: Vec<[BTreeSet<usize>; QUALIFIERS]> = meant
            .map(|(cell, _)| place(&self.bands, cell).map(|at| BTreeSet::from([at])))
            .collect();
        for facet in 0..QUALIFIERS {
            boxes = merged(boxes, facet);
        }
        boxes.iter().map(|sides| self.text(sides, symbols)).collect()
    }

    fn text(&self, sides: &[BTreeSet<usize>; QUALIFIERS], symbols: &Symbols) -> String {
        let mut said = Vec::new();
        for ((facet, side), bands) in Qualifier::ALL.into_iter().zip(sides).zip(&self.bands) {
            if side.len() == bands.len() {
                continue;
            }
            let rest = side.iter().any(|&at| bands.get(at).is_some_and(Option::is_none));
            // Everything but a few, or a few: those that are mentioned on the smaller side are listed.
            let listed = bands.iter().enumerate().filter(|(at, _)| side.contains(at) != rest);
            let values = listed.filter_map(|(_, band)| band.as_ref()).flatten().copied();
            let names: Vec<String> = match facet {
                Qualifier::Unit => {
                    let known: Vec<u64> = bands.iter().flatten().flatten().copied().collect();
                    unit_names(&values.collect(), &known, symbols)
                }
                Qualifier::User
                | Qualifier::Group
                | Qualifier::Exe
                | Qualifier::Container
                | Qualifier::Netns => values.map(|value| symbols.names(facet, value)).collect(),
            };
            let word = facet.word();
            said.push(match (rest, names.as_slice()) {
                (false, [one]) => format!("{word}={one}"),
                (false, names) => format!("{word} in ({})", names.join(", ")),
                (true, names) => format!("{word} not in ({})", names.join(", ")),
            });
        }
        format!("[{}]", said.join(" "))
    }
}

fn values(test: &SubjectTest, facet: Qualifier) -> Vec<u64> {
    match facet {
        Qualifier::User => test.users.iter().map(|&user| u64::from(user)).collect(),
        Qualifier::Group => test.groups.iter().map(|&group| u64::from(group)).collect(),
        Qualifier::Exe => test.exes.clone(),
        Qualifier::Unit => test.units.clone(),
        Qualifier::Container => test.containers.clone(),
        Qualifier::Netns => test.namespaces.clone(),
    }
}

/// Names of units with all that is below them: `/a`, or `/a except /a/b`.
fn unit_names(listed: &BTreeSet<u64>, known: &[u64], symbols: &Symbols) -> Vec<String> {
    let name = |unit: u64| symbols.names(Qualifier::Unit, unit);
    let families = families(listed, known, |unit| symbols.above(unit));
    let spelled = families.into_iter().map(|(unit, without)| {
        let without: Vec<String> = without.into_iter().map(name).collect();
        match without.as_slice() {
            [] => name(unit),
            [one] => format!("{} except {one}", name(unit)),
            several => format!("{} except ({})", name(unit), several.join(", ")),
        }
    });
    spelled.collect()
}

fn bands(tests: &[&SubjectTest], facet: Qualifier, symbols: &Symbols) -> Vec<Band> {
    let lists: Vec<Vec<u64>> = tests.iter().map(|test| values(test, facet)).collect();
    let mentioned: BTreeSet<u64> = lists.iter().flatten().copied().collect();
    let mut signatures = Numbered::new();
    let mut bands: Vec<Band> = vec![None];
    signatures.number(Bits::none(lists.len()));
    for value in mentioned {
        let above = if facet == Qualifier::Unit { symbols.above(value) } else { Vec::new() };
        let mentions = |at: usize| {
            let list = lists.get(at).map(Vec::as_slice).unwrap_or_default();
            list.contains(&value) || above.iter().any(|above| list.contains(above))
        };
        let band = signatures.number(Bits::of(lists.len(), mentions));
        match bands.get_mut(band) {
            Some(Some(values)) => values.push(value),
            Some(None) | None => bands.push(Some(vec![value])),
        }
    }
    bands
}

/// Which band of each facet a cell of the grid is in.
fn place(bands: &[Vec<Band>; QUALIFIERS], cell: usize) -> [usize; QUALIFIERS] {
    let mut left = cell;
    let mut place = [0; QUALIFIERS];
    for (at, bands) in place.iter_mut().zip(bands).rev() {
        *at = left % bands.len();
        left /= bands.len();
    }
    place
}

fn subject(bands: &[Vec<Band>; QUALIFIERS], cell: usize, symbols: &Symbols) -> Subject {
    let [user, group, exe, unit, container, netns] = place(bands, cell);
    let value = |facet: usize, at: usize| {
        let bands = bands.get(facet)?;
        bands.get(at)?.as_ref()?.first().copied()
    };
    let id = |facet: usize, at: usize| {
        let mentioned = |id: u64| {
            bands.get(facet).into_iter().flatten().flatten().flatten().any(|&value| value == id)
        };
        // Somebody whom no rule mentions.
        let other = || (NOBODY..).find(|&id| !mentioned(u64::from(id))).unwrap_or(u32::MAX);
        value(facet, at).and_then(|value| u32::try_from(value).ok()).unwrap_or_else(other)
    };
    let unit = value(3, unit).unwrap_or(0);
    let subject = Subject {
        uid: id(0, user),
        gid: id(1, group),
        exe: value(2, exe).unwrap_or(Subject::UNKNOWN.exe),
        netns: value(5, netns).unwrap_or(Subject::UNKNOWN.netns),
        ..Subject::UNKNOWN
    };
    placed(unit, &symbols.above(unit), value(4, container).unwrap_or(0), subject)
}

/// The user and the group whom systems give nothing to.
const NOBODY: u32 = 65_534;

/// Joins boxes that differ in one facet only.
fn merged(
    boxes: Vec<[BTreeSet<usize>; QUALIFIERS]>,
    facet: usize,
) -> Vec<[BTreeSet<usize>; QUALIFIERS]> {
    let mut joined: Vec<[BTreeSet<usize>; QUALIFIERS]> = Vec::new();
    for sides in boxes {
        let alike = |other: &&mut [BTreeSet<usize>; QUALIFIERS]| {
            let mut pairs = other.iter().zip(&sides).enumerate();
            pairs.all(|(at, (a, b))| at == facet || a == b)
        };
        match joined.iter_mut().find(alike) {
            Some(other) => {
                if let (Some(into), Some(from)) = (other.get_mut(facet), sides.get(facet)) {
                    into.extend(from);
                }
            }
            None => joined.push(sides),
        }
    }
    joined
}
