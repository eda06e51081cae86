//! Entries as answers: what several questions have in common.

use std::collections::BTreeMap;

use super::{
    answer::{AnalysisError, GroupFlows},
    bits::Numbered,
    entries::{Entry, NOTHING, Teller},
    groups::{Groups, ids},
    processes::ProcessSet,
    reach::Deciders,
    world::{Decided, World},
};

/// What is to be said of the flows of one pair by one class of services. Both sets of processes hold some.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Said {
    /// Whether they are newly denied; else they are (newly) allowed.
    pub(super) denied: bool,
    pub(super) from: ProcessSet,
    pub(super) to: ProcessSet,
    /// The deciding clauses at either end, where they are asked for.
    pub(super) deciders: Option<Deciders>,
}

/// Numbers for what is to be said; 0 is nothing.
#[derive(Debug)]
pub(super) struct Sayings {
    numbered: Numbered<Vec<Said>>,
    /// By the outcomes that it follows from.
    known: BTreeMap<Vec<Option<usize>>, usize>,
}

impl Sayings {
    pub(super) fn new() -> Self {
        let mut numbered = Numbered::new();
        numbered.number(Vec::new());
        Self { numbered, known: BTreeMap::new() }
    }

    /// The number of what follows from `decided`, worked out once for the same outcomes.
    pub(super) fn number(
        &mut self,
        world: &World<'_>,
        decided: &[Decided],
        service: usize,
        say: impl FnOnce() -> Vec<Said>,
    ) -> usize {
        let outcomes = decided.iter().zip(&world.sides).flat_map(|(decided, side)| {
            [decided.out, decided.into].map(|row| row.map(|row| side.outcome(row, service)))
        });
        let outcomes: Vec<Option<usize>> = outcomes.collect();
        if let Some(&known) = self.known.get(&outcomes) {
            return known;
        }
        let number = self.numbered.number(say());
        self.known.insert(outcomes, number);
        number
    }

    pub(super) fn of(&self, what: usize) -> &[Said] {
        self.numbered.values().get(what).map_or(&[], Vec::as_slice)
    }
}

/// The processes that `side` allows at either end. Outside the inventory every process is allowed.
pub(super) fn allowed(
    world: &World<'_>,
    side: usize,
    decided: Decided,
    service: usize,
) -> Option<(ProcessSet, ProcessSet)> {
    let side = world.sides.get(side)?;
    let from = decided.out.map(|row| side.allowed(row, service, &world.from));
    let to = decided.into.map(|row| side.allowed(row, service, &world.to));
    Some((from.unwrap_or_else(|| world.from.all()), to.unwrap_or_else(|| world.to.all())))
}

/// Every entry as flows between groups; whether they are denied ones comes first.
pub(super) fn group_flows(
    world: &mut World<'_>,
    groups: &mut Groups,
    sayings: &Sayings,
    entries: &[Entry],
) -> Result<Vec<(bool, GroupFlows)>, AnalysisError> {
    let mut flows = Vec::new();
    for entry in entries {
        debug_assert_ne!(entry.what, NOTHING, "entries are made where there is something to say");
        let Some(example) = entry.example(world)? else { continue };
        for said in sayings.of(entry.what) {
            let flow = GroupFlows {
                from: groups.number(world, &entry.from, entry.relation),
                to: groups.number(world, &entry.to, entry.relation),
                relation: entry.relation,
                services: world.services.describe(&entry.services),
                from_processes: world.from.describe(&said.from, &world.symbols),
                to_processes: world.to.describe(&said.to, &world.symbols),
                example: example.clone(),
            };
            flows.push((said.denied, flow));
        }
    }
    flows.sort();
    Ok(flows)
}

/// Ids of the hosts without addresses.
pub(super) fn unplaced(world: &World<'_>) -> Vec<String> {
    let kinds = world.kinds.iter().filter(|kind| kind.pieces.is_empty());
    let hosts: Vec<_> = kinds.flat_map(|kind| kind.hosts.iter().copied().flatten()).collect();
    ids(world.inventory, &hosts)
}

/// What is allowed by one set of policies.
pub(super) struct Allowed {
    pub(super) sayings: Sayings,
}

impl Teller for Allowed {
    fn what(&mut self, world: &World<'_>, decided: &[Decided], service: usize) -> usize {
        if !world.services.holds(world.asked, service) {
            return NOTHING;
        }
        self.sayings.number(world, decided, service, || {
            let one = decided.first().and_then(|&one| allowed(world, 0, one, service));
            let some = one.filter(|(from, to)| !from.is_empty() && !to.is_empty());
            let said = some.map(|(from, to)| Said { denied: false, from, to, deciders: None });
            said.into_iter().collect()
        })
    }
}
