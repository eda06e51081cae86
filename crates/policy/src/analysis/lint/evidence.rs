//! What is seen of every rule when all flows at all ends are looked at, class by class.
//!
//! Flows are of one *cell* if the same clauses match them. Every cell that has a flow is looked at once, with one of its
//! flows as the example.

use std::collections::BTreeMap;

use verdict::{Direction, Verdict};

use crate::analysis::{
    answer::{AnalysisError, Relation},
    bits::Bits,
    entries::connection,
    limits::PAIRS_MAX,
    side::{ClauseNumber, MaskNumber, Side},
    world::{Place, Role, View, World},
};

/// One flow of a cell: at which end, from where to where, by what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell {
    pub(super) direction: Direction,
    pub(super) from: Place,
    pub(super) to: Place,
    pub(super) relation: Relation,
    pub(super) service: usize,
    /// Class of the process at the end that judges.
    pub(super) class: usize,
    /// The clause that decides.
    pub(super) first: ClauseNumber,
}

/// What is seen of one clause.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// Cells that it matches.
    pub(super) cells: usize,
    /// A cell that it decides, alone or together with others of its tier that say the same.
    pub(super) has_say: Option<Cell>,
    /// A cell that it matches and has no say in.
    pub(super) unheard: Option<Cell>,
    /// A cell that it has a say in and that gets the same verdict without it, and by which clause.
    pub(super) spare: Option<(Cell, ClauseNumber)>,
    /// Whether some cell gets another verdict without it.
    pub(super) is_needed: bool,
}

/// What is seen of an allowing and a denying rule of one tier.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Met {
    /// Cells that both match.
    pub(super) cells: usize,
    /// One of them that their tier decides.
    pub(super) example: Option<Cell>,
}

/// Everything that is seen.
#[derive(Debug)]
pub(super) struct Evidence {
    pub(super) seen: Vec<Seen>,
    /// By the allowing and the denying rule.
    pub(super) met: BTreeMap<(ClauseNumber, ClauseNumber), Met>,
}

/// Ends of flows at which the same clauses speak: where they are judged, and one pair of places.
type Ends = BTreeMap<(Direction, Bits), (Place, Place, Relation)>;

impl Evidence {
    /// Looks at every cell of a world with one side.
    pub(super) fn new(world: &mut World<'_>) -> Result<Self, AnalysisError> {
        let ends = ends(world)?;
        let count = world.sides.first().map_or(0, Side::len);
        let mut evidence = Self { seen: vec![Seen::default(); count], met: BTreeMap::new() };
        for ((direction, speaking), (from, to, relation)) in &ends {
            let classes = match direction {
                Direction::Out => world.from.len(),
                Direction::In => world.to.len(),
            };
            // Sets of clauses that were looked at for these ends.
            let mut known: Vec<Bits> = Vec::new();
            for service in 0..world.services.len() {
                for class in 0..classes {
                    let Some(side) = world.sides.first() else { continue };
                    world.effort.spend(2 * speaking.words() + known.len())?;
                    let matching = side.matching(*direction, speaking, service, class);
                    if known.contains(&matching) {
                        continue;
                    }
                    let first = matching.iter().next().expect("a default always speaks");
                    let (direction, from, to) = (*direction, *from, *to);
                    let relation = *relation;
                    let cell = Cell { direction, from, to, relation, service, class, first };
                    let steps = evidence.look(side, &matching, cell)?;
                    world.effort.spend(steps)?;
                    known.push(matching);
                }
            }
        }
        Ok(evidence)
    }

    /// Takes one cell in. How many steps it took.
    fn look(
        &mut self,
        side: &Side<'_>,
        matching: &Bits,
        cell: Cell,
    ) -> Result<usize, AnalysisError> {
        let decided = side.clause(cell.first);
        let second = matching.iter().nth(1);
        let mut allowing = Vec::new();
        let mut steps = 0;
        // In a tier denying clauses come first, so allowing ones are paired with those of their tier that were met.
        let mut denying = Vec::new();
        for number in matching.iter() {
            let clause = side.clause(number);
            steps += 1;
            if !clause.is_rule {
                continue;
            }
            let Some(seen) = self.seen.get_mut(number) else { continue };
            seen.cells += 1;
            if clause.tier == decided.tier && clause.verdict == decided.verdict {
                seen.has_say.get_or_insert(cell);
                let without = if number == cell.first { second } else { Some(cell.first) };
                let without = without.filter(|&at| side.clause(at).verdict == clause.verdict);
                match without {
                    Some(other) => _ = seen.spare.get_or_insert((cell, other)),
                    None => seen.is_needed = true,
                }
            } else {
                seen.unheard.get_or_insert(cell);
            }
            match clause.verdict {
                Verdict::Allow => allowing.push(number),
                Verdict::Deny => denying.push(number),
            }
        }
        for &allow in &allowing {
            for &deny in &denying {
                steps += 1;
                let tier = side.clause(allow).tier;
                if side.clause(deny).tier != tier {
                    continue;
                }
                let met = self.met.entry((allow, deny)).or_default();
                met.cells += 1;
                if tier == decided.tier {
                    met.example.get_or_insert(cell);
                }
                steps += 16;
            }
        }
        AnalysisError::limit("pairs of rules that overlap", self.met.len(), PAIRS_MAX)?;
        Ok(steps)
    }
}

/// All ends that have a flow.
fn ends(world: &mut World<'_>) -> Result<Ends, AnalysisError> {
    let mut ends = Ends::new();
    // Pairs of masks for which a flow was found.
    let mut known: BTreeMap<(Direction, MaskNumber, MaskNumber), ()> = BTreeMap::new();
    for from in 0..world.spots.len() {
        for to in 0..world.spots.len() {
            let (Some(source), Some(target)) = (world.spots.get(from), world.spots.get(to)) else {
                continue;
            };
            let (source_role, target_role) = (source.role, target.role);
            let (Some(&near), Some(&far)) = (source.views.first(), target.views.first()) else {
                continue;
            };
            let pairs = source.places.iter().flat_map(|&from| {
                target.places.iter().map(move |&to| (from, to, Relation::Between))
            });
            let pairs: Vec<_> = pairs.collect();
            let judged = judged(source_role, target_role);
            put(world, &mut ends, &mut known, (near, far), judged, &pairs)?;
        }
    }
    let loopback: Vec<_> = world.pieces.all_loopback().collect();
    for kind in 0..world.kinds.len() {
        let own = world.own.get(kind).cloned().unwrap_or_default();
        let homes = world.kinds.get(kind).map(|kind| kind.pieces.clone()).unwrap_or_default();
        let relations = [
            (Relation::Itself, &homes, &own.places),
            (Relation::Loopback, &loopback, &own.loopback),
        ];
        for (relation, pieces, views) in relations {
            let place = |piece: usize| Place { kind: Some(kind), piece: Some(piece) };
            for (&from, source) in pieces.iter().zip(views) {
                for (&to, target) in pieces.iter().zip(views) {
                    let (Some(&near), Some(&far)) = (source.first(), target.first()) else {
                        continue;
                    };
                    let pair = [(place(from), place(to), relation)];
                    put(world, &mut ends, &mut known, (near, far), [true, true], &pair)?;
                }
            }
        }
    }
    Ok(ends)
}

/// Which ends of flows between places of these roles judge them.
fn judged(source: Role, target: Role) -> [bool; 2] {
    match (source, target) {
        (Role::Host, Role::Host) => [true, true],
        (Role::Host | Role::Homeless, Role::Outside) => [true, false],
        (Role::Outside, Role::Host | Role::Assumed) => [false, true],
        (Role::Outside, Role::Outside | Role::Homeless)
        | (Role::Host | Role::Homeless, Role::Homeless | Role::Assumed)
        | (Role::Homeless, Role::Host)
        | (Role::Assumed, _) => [false, false],
    }
}

/// Puts the ends that judge in, with the first of `pairs` that exists.
fn put(
    world: &mut World<'_>,
    ends: &mut Ends,
    known: &mut BTreeMap<(Direction, MaskNumber, MaskNumber), ()>,
    (source, target): (View, View),
    judged: [bool; 2],
    pairs: &[(Place, Place, Relation)],
) -> Result<(), AnalysisError> {
    let ([near_out, _], [far_out, _]) = (source.near, target.far);
    let ([_, near_in], [_, far_in]) = (target.near, source.far);
    let masks = [(Direction::Out, near_out, far_out), (Direction::In, near_in, far_in)];
    for (key, judged) in masks.into_iter().zip(judged) {
        world.effort.spend(1)?;
        if !judged || known.contains_key(&key) {
            continue;
        }
        let exists = |&&(from, to, relation): &&(Place, Place, Relation)| {
            connection(world, from, to, relation, 0).is_some()
        };
        let Some(&pair) = pairs.iter().find(exists) else {
            world.effort.spend(pairs.len())?;
            continue;
        };
        let (direction, near, far) = key;
        let speaking = world.sides.first().map(|side| side.speaking(near, far));
        world.effort.spend(speaking.as_ref().map_or(0, Bits::words))?;
        known.insert(key, ());
        if let Some(speaking) = speaking {
            ends.entry((direction, speaking)).or_insert(pair);
        }
    }
    Ok(())
}
