//! Who can reach a port of a host, and which rules let them.

use std::{collections::BTreeMap, net::IpAddr};

use image::Service;
use verdict::{Address, Verdict};

use super::{
    Question,
    answer::{AnalysisError, Decider, Reach, Relation, Source},
    bits::Bits,
    entries::{NOTHING, Teller, entries},
    flows::{Said, Sayings, unplaced},
    groups::Groups,
    places::PieceNumber,
    processes::{ProcessClasses, ProcessSet},
    side::{ClauseNumber, RowNumber, Side},
    world::{Asked, Decided, Place, World},
};
use crate::{inventory::HostIndex, policy::Policy};

/// Every source that can reach `target` by any of `services`, with the rules that let it. The target is the id or a name
/// of a host of the inventory, an address of one, or an address outside.
///
/// # Errors
/// [`AnalysisError::Target`] if it is none of these, and [`AnalysisError::TooLarge`].
pub fn who_can_reach(
    policies: &[Policy],
    question: &Question<'_>,
    target: &str,
    services: &[Service],
) -> Result<Reach, AnalysisError> {
    let inventory = question.inventory;
    let address = target.parse().ok().map(|address| match address {
        IpAddr::V4(v4) => Address::v4(v4.to_bits()),
        IpAddr::V6(v6) => Address::from_bits(v6.to_bits()),
    });
    let host = inventory.find(target);
    let host = host.or_else(|| address.and_then(|address| inventory.find_address(address)));
    // A name that looks like an address is a name.
    let address = if inventory.find(target).is_some() { None } else { address };
    let nowhere = address.is_none_or(|at| at.is_loopback() || at.is_unspecified());
    if host.is_none() && nowhere {
        return Err(AnalysisError::Target(target.to_owned()));
    }
    let mut world = World::new(&[policies], question, Asked { services, host, address })?;
    let kind = |host: HostIndex| {
        world.kinds.iter().position(|kind| kind.hosts.first() == Some(&Some(host)))
    };
    let mut teller = Reaching {
        sayings: Sayings::new(),
        kind: host.and_then(kind),
        piece: address.map(|address| world.pieces.of(address)),
    };
    let entries = entries(&mut world, &mut teller)?;
    let mut groups = Groups::new(&mut world)?;
    let mut sources = Vec::new();
    for entry in &entries {
        let Some(example) = entry.example(&mut world)? else { continue };
        for said in teller.sayings.of(entry.what) {
            let Some(Deciders { out, into }) = said.deciders else { continue };
            let side = world.sides.first();
            let decider = |clause: Option<ClauseNumber>| -> Option<Decider> {
                Some(side?.clause(clause?).decider.clone())
            };
            sources.push(Source {
                from: groups.number(&world, &entry.from, entry.relation),
                relation: entry.relation,
                to: groups.number(&world, &entry.to, entry.relation),
                services: world.services.describe(&entry.services),
                from_processes: world.from.describe(&said.from, &world.symbols),
                to_processes: world.to.describe(&said.to, &world.symbols),
                out: decider(out),
                into: decider(into),
                example: example.clone(),
            });
        }
    }
    sources.sort();
    Ok(Reach { groups: groups.into_groups(), sources, unplaced: unplaced(&world) })
}

/// The clauses that decide at either end; `None` outside the inventory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Deciders {
    pub(super) out: Option<ClauseNumber>,
    pub(super) into: Option<ClauseNumber>,
}

struct Reaching {
    sayings: Sayings,
    /// Whose places are asked about; `None` is nobody's.
    kind: Option<usize>,
    /// Which of them; `None` is all.
    piece: Option<PieceNumber>,
}

impl Teller for Reaching {
    fn what(&mut self, world: &World<'_>, decided: &[Decided], service: usize) -> usize {
        let (&[decided], Some(side)) = (decided, world.sides.first()) else { return NOTHING };
        if !world.services.holds(world.asked, service) {
            return NOTHING;
        }
        self.sayings.number(world, &[decided], service, || {
            let out = allowing(side, decided.out, service, &world.from);
            let into = allowing(side, decided.into, service, &world.to);
            let pairs = out.iter().flat_map(|out| into.iter().map(move |into| (out, into)));
            pairs
                .map(|((out, from), (into, to))| Said {
                    denied: false,
                    from: from.clone(),
                    to: to.clone(),
                    deciders: Some(Deciders { out: *out, into: *into }),
                })
                .collect()
        })
    }

    fn is_asked(&self, _: &World<'_>, to: Place, _: Relation) -> bool {
        to.kind == self.kind && self.piece.is_none_or(|piece| to.piece == Some(piece))
    }
}

/// The clauses that allow something at one end, each with the processes that it decides for.
fn allowing(
    side: &Side<'_>,
    row: Option<RowNumber>,
    service: usize,
    classes: &ProcessClasses,
) -> Vec<(Option<ClauseNumber>, ProcessSet)> {
    let Some(row) = row else { return vec![(None, classes.all())] };
    let mut allowing: BTreeMap<ClauseNumber, ProcessSet> = BTreeMap::new();
    for (class, clause) in side.deciders(row, service, classes).enumerate() {
        if side.clause(clause).verdict == Verdict::Allow {
            let set = allowing.entry(clause).or_insert_with(|| Bits::none(classes.len()));
            set.insert(class);
        }
    }
    allowing.into_iter().map(|(clause, set)| (Some(clause), set)).collect()
}
