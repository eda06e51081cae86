//! Classes of processes that no clause tells apart at one end, and how to say which of them are meant.
//!
//! Each of user, group, executable and unit is cut into values that the same tests mention, and one for everything that
//! no test mentions; the grid of all four is then cut into classes that pass the same tests.

use std::collections::BTreeSet;

use image::SubjectTest;
use verdict::Subject;

use super::{
    answer::{AnalysisError, Processes},
    bits::{Bits, Numbered},
    limits::PROCESSES_MAX,
    symbols::{Facet, Symbols},
};

/// A set of classes of one end.
pub(super) type ProcessSet = Bits;

/// Values of one facet that the same tests mention; `None` is every value that none mentions.
type Band = Option<Vec<u64>>;

/// The classes of one end.
#[derive(Debug)]
pub(super) struct ProcessClasses {
    bands: [Vec<Band>; 4],
    /// Class of each cell of the grid, the last facet counting fastest.
    grid: Vec<usize>,
    /// For each class the tests that it passes, by their number.
    passes: Vec<Bits>,
    /// One process of each class.
    subjects: Vec<Subject>,
}

impl ProcessClasses {
    pub(super) fn new(tests: &[&SubjectTest]) -> Result<Self, AnalysisError> {
        let bands = Facet::ALL.map(|facet| bands(tests, facet));
        let cells = bands.iter().map(Vec::len).product();
        AnalysisError::limit("kinds of processes", cells, PROCESSES_MAX)?;
        let mut classes = Numbered::new();
        let mut grid = Vec::with_capacity(cells);
        let mut subjects = Vec::new();
        for cell in 0..cells {
            let subject = subject(&bands, cell);
            let passes = Bits::of(tests.len(), |at| {
                tests.get(at).is_some_and(|test| passes(test, &subject))
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
        let mut boxes: Vec<[BTreeSet<usize>; 4]> = meant
            .map(|(cell, _)| place(&self.bands, cell).map(|at| BTreeSet::from([at])))
            .collect();
        for facet in 0..4 {
            boxes = merged(boxes, facet);
        }
        boxes.iter().map(|sides| self.text(sides, symbols)).collect()
    }

    fn text(&self, sides: &[BTreeSet<usize>; 4], symbols: &Symbols) -> String {
        let mut said = Vec::new();
        for ((facet, side), bands) in Facet::ALL.into_iter().zip(sides).zip(&self.bands) {
            if side.len() == bands.len() {
                continue;
            }
            let rest = side.iter().any(|&at| bands.get(at).is_some_and(Option::is_none));
            // Everything but a few, or a few: those that are mentioned on the smaller side are listed.
            let listed = bands.iter().enumerate().filter(|(at, _)| side.contains(at) != rest);
            let values = listed.filter_map(|(_, band)| band.as_ref()).flatten();
            let names: Vec<String> = values.map(|&value| symbols.names(facet, value)).collect();
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

fn values(test: &SubjectTest, facet: Facet) -> Vec<u64> {
    match facet {
        Facet::User => test.users.iter().map(|&user| u64::from(user)).collect(),
        Facet::Group => test.groups.iter().map(|&group| u64::from(group)).collect(),
        Facet::Exe => test.exes.clone(),
        Facet::Unit => test.units.clone(),
    }
}

fn bands(tests: &[&SubjectTest], facet: Facet) -> Vec<Band> {
    let lists: Vec<Vec<u64>> = tests.iter().map(|test| values(test, facet)).collect();
    let mentioned: BTreeSet<u64> = lists.iter().flatten().copied().collect();
    let mut signatures = Numbered::new();
    let mut bands: Vec<Band> = vec![None];
    signatures.number(Bits::none(lists.len()));
    for value in mentioned {
        let mentions = |at: usize| lists.get(at).is_some_and(|list| list.contains(&value));
        let band = signatures.number(Bits::of(lists.len(), mentions));
        match bands.get_mut(band) {
            Some(Some(values)) => values.push(value),
            Some(None) | None => bands.push(Some(vec![value])),
        }
    }
    bands
}

/// Which band of each facet a cell of the grid is in.
fn place(bands: &[Vec<Band>; 4], cell: usize) -> [usize; 4] {
    let mut left = cell;
    let mut place = [0; 4];
    for (at, bands) in place.iter_mut().zip(bands).rev() {
        *at = left % bands.len();
        left /= bands.len();
    }
    place
}

fn subject(bands: &[Vec<Band>; 4], cell: usize) -> Subject {
    let [user, group, exe, unit] = place(bands, cell);
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
    Subject {
        uid: id(0, user),
        gid: id(1, group),
        exe: value(2, exe).unwrap_or(Subject::UNKNOWN.exe),
        cgroup: value(3, unit).unwrap_or(Subject::UNKNOWN.cgroup),
        ..Subject::UNKNOWN
    }
}

/// The user and the group whom systems give nothing to.
const NOBODY: u32 = 65_534;

fn passes(test: &SubjectTest, subject: &Subject) -> bool {
    let SubjectTest { users, groups, exes, units, containers: _, namespaces: _ } = test;
    (users.is_empty() || users.contains(&subject.uid))
        && (groups.is_empty() || groups.contains(&subject.gid))
        && (exes.is_empty() || exes.contains(&subject.exe))
        && (units.is_empty() || units.contains(&subject.cgroup))
}

/// Joins boxes that differ in one facet only.
fn merged(boxes: Vec<[BTreeSet<usize>; 4]>, facet: usize) -> Vec<[BTreeSet<usize>; 4]> {
    let mut joined: Vec<[BTreeSet<usize>; 4]> = Vec::new();
    for sides in boxes {
        let alike = |other: &&mut [BTreeSet<usize>; 4]| {
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
