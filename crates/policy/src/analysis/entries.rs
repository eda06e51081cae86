//! From what is decided between every two places to entries between groups of places.
//!
//! For every class of services by itself, places of which the same is to be said towards all others are put together, and
//! so are the others of which the same is to be said; then classes of services with the same entries are put together.
//! What is said of a pair that cannot exist (IPv4 to IPv6, or a host to another one like it where there is none) is put
//! together as if it could, and dropped at the end unless some pair of its groups exists.

use std::collections::BTreeMap;

use super::{
    answer::{AnalysisError, Connection, Effort, Relation},
    bits::{Bits, Numbered},
    places::PieceNumber,
    services::ServiceSet,
    spell::address_text,
    world::{Decided, Place, World},
};
use crate::inventory::HostIndex;

/// What is to be said of a pair about one class of services: 0 is nothing.
pub(super) const NOTHING: usize = 0;

/// The content that says nothing of any class of services.
const SILENCE: usize = 0;

/// All pairs of some sources and some targets of which the same is to be said about some services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The teller's number for it.
    pub(super) what: usize,
    pub(super) services: ServiceSet,
    pub(super) relation: Relation,
    pub(super) from: Vec<Place>,
    pub(super) to: Vec<Place>,
}

/// By source, the targets of which something is to be said, ascending, and what.
type Contents = Vec<Vec<(usize, usize)>>;

/// What is to be said, and the numbers of the sources and of the targets of whose pairs it is.
type Rectangle = (usize, Vec<usize>, Vec<usize>);

/// Boxes of pairs of which the same is to be said: numbers of sources and of targets. Nothing is left out but
/// [`NOTHING`].
fn boxes(contents: &Contents) -> Vec<Rectangle> {
    let mut alike: BTreeMap<&[(usize, usize)], Vec<usize>> = BTreeMap::new();
    for (source, contents) in contents.iter().enumerate() {
        alike.entry(contents).or_default().push(source);
    }
    let mut boxes: BTreeMap<(usize, Vec<usize>), Vec<usize>> = BTreeMap::new();
    for (contents, sources) in alike {
        let mut targets: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for &(target, what) in contents {
            targets.entry(what).or_default().push(target);
        }
        for (what, targets) in targets {
            boxes.entry((what, targets)).or_default().extend(&sources);
        }
    }
    boxes
        .into_iter()
        .map(|((what, targets), mut sources)| {
            sources.sort_unstable();
            (what, sources, targets)
        })
        .collect()
}

/// What is to be said, worked out from what each side decides.
pub(super) trait Teller {
    /// What is to be said of one class of services; [`NOTHING`] where there is nothing to say.
    fn what(&mut self, world: &World<'_>, decided: &[Decided], service: usize) -> usize;

    /// Whether anything is said about this place as a target.
    fn is_asked(&self, _world: &World<'_>, _to: Place, _relation: Relation) -> bool {
        true
    }
}

/// What is to be said of pairs about every class of services, numbered.
struct Told<'t> {
    teller: &'t mut dyn Teller,
    known: BTreeMap<Vec<Decided>, usize>,
    /// By class of services.
    contents: Numbered<Vec<usize>>,
}

impl<'t> Told<'t> {
    fn new(world: &World<'_>, teller: &'t mut dyn Teller) -> Self {
        let mut contents = Numbered::new();
        // Number 0 is silence.
        contents.number(vec![NOTHING; world.services.len()]);
        Self { teller, known: BTreeMap::new(), contents }
    }

    fn content(
        &mut self,
        world: &mut World<'_>,
        decided: Vec<Decided>,
    ) -> Result<usize, AnalysisError> {
        if let Some(&known) = self.known.get(&decided) {
            return Ok(known);
        }
        let processes = world.from.len() + world.to.len();
        world.effort.spend(world.services.len() * processes * world.sides.len())?;
        let services = 0..world.services.len();
        let content = services.map(|at| self.teller.what(world, &decided, at)).collect();
        let number = self.contents.number(content);
        self.known.insert(decided, number);
        Ok(number)
    }

    /// The boxes of every class of services, classes put together of which the same is to be said.
    fn boxes(
        &self,
        contents: &Contents,
        effort: &mut Effort,
    ) -> Result<BTreeMap<Rectangle, ServiceSet>, AnalysisError> {
        let all = self.contents.values();
        let services = all.first().map_or(0, Vec::len);
        let what = |content: usize, service: usize| {
            all.get(content).and_then(|content| content.get(service)).copied().unwrap_or(NOTHING)
        };
        let mut columns: BTreeMap<Vec<usize>, ServiceSet> = BTreeMap::new();
        for service in 0..services {
            effort.spend(all.len())?;
            let column: Vec<usize> = (0..all.len()).map(|content| what(content, service)).collect();
            if column.iter().any(|&what| what != NOTHING) {
                columns.entry(column).or_insert_with(|| Bits::none(services)).insert(service);
            }
        }
        // Where each content is, so that a column costs only the pairs of which it says something.
        let mut pairs: Vec<Vec<(usize, usize)>> = vec![Vec::new(); all.len()];
        for (source, row) in contents.iter().enumerate() {
            for &(target, content) in row {
                if let Some(pairs) = pairs.get_mut(content) {
                    pairs.push((source, target));
                }
            }
        }
        let mut found: BTreeMap<_, ServiceSet> = BTreeMap::new();
        for (column, held) in columns {
            let mut layer: Contents = vec![Vec::new(); contents.len()];
            effort.spend(contents.len())?;
            for (&what, pairs) in column.iter().zip(&pairs).filter(|(what, _)| **what != NOTHING) {
                effort.spend(pairs.len())?;
                for &(source, target) in pairs {
                    if let Some(row) = layer.get_mut(source) {
                        row.push((target, what));
                    }
                }
            }
            layer.iter_mut().for_each(|row| row.sort_unstable());
            for found_box in boxes(&layer) {
                let services = found.entry(found_box).or_insert_with(|| Bits::none(services));
                held.iter().for_each(|service| services.insert(service));
            }
        }
        Ok(found)
    }
}

/// Every entry of a world: between places, of hosts with themselves, and on loopback.
pub(super) fn entries(
    world: &mut World<'_>,
    teller: &mut dyn Teller,
) -> Result<Vec<Entry>, AnalysisError> {
    let mut told = Told::new(world, teller);
    let mut found = between(world, &mut told)?;
    for relation in [Relation::Itself, Relation::Loopback] {
        found.extend(own(world, &mut told, relation)?);
    }
    Ok(found)
}

fn between(world: &mut World<'_>, told: &mut Told<'_>) -> Result<Vec<Entry>, AnalysisError> {
    // Of a spot some places can be asked about and others not.
    let mut asked: Vec<Vec<Place>> = Vec::new();
    for spot in &world.spots {
        let is = |to: &Place| told.teller.is_asked(world, *to, Relation::Between);
        asked.push(spot.places.iter().copied().filter(is).collect());
    }
    let mut contents = Contents::new();
    for from in 0..asked.len() {
        let mut row = Vec::new();
        for (to, asked) in asked.iter().enumerate() {
            let decided = if asked.is_empty() { None } else { pair(world, from, to)? };
            let content = match decided {
                Some(decided) => told.content(world, decided)?,
                None => SILENCE,
            };
            if content != SILENCE {
                row.push((to, content));
            }
        }
        contents.push(row);
    }
    let mut entries = Vec::new();
    for ((what, from, to), services) in told.boxes(&contents, &mut world.effort)? {
        let spots = from.iter().filter_map(|&at| world.spots.get(at));
        let from = spots.flat_map(|spot| spot.places.iter().copied()).collect();
        let to = to.iter().filter_map(|&at| asked.get(at)).flatten().copied().collect();
        entries.push(Entry { what, services, relation: Relation::Between, from, to });
    }
    Ok(entries)
}

fn pair(
    world: &mut World<'_>,
    from: usize,
    to: usize,
) -> Result<Option<Vec<Decided>>, AnalysisError> {
    let mut decided = Vec::with_capacity(world.sides.len());
    for side in 0..world.sides.len() {
        match world.between(side, from, to)? {
            Some(by) => decided.push(by),
            None => return Ok(None),
        }
    }
    Ok(Some(decided))
}

/// The addresses at which hosts of a kind reach themselves.
fn homes(world: &World<'_>, kind: usize, relation: Relation) -> Vec<PieceNumber> {
    match relation {
        Relation::Loopback => world.pieces.all_loopback().collect(),
        Relation::Itself | Relation::Between => {
            world.kinds.get(kind).map(|kind| kind.pieces.clone()).unwrap_or_default()
        }
    }
}

/// Flows of hosts with themselves.
fn own(
    world: &mut World<'_>,
    told: &mut Told<'_>,
    relation: Relation,
) -> Result<Vec<Entry>, AnalysisError> {
    // Kinds of which the same is to be said about the same addresses are put together.
    type Found = (usize, ServiceSet, Option<(Vec<PieceNumber>, Vec<PieceNumber>)>);
    let mut found: BTreeMap<Found, Vec<usize>> = BTreeMap::new();
    for kind in 0..world.kinds.len() {
        let own = world.own.get(kind).cloned().unwrap_or_default();
        let pieces = homes(world, kind, relation);
        let views = if relation == Relation::Loopback { own.loopback } else { own.places };
        let mut contents = Contents::new();
        for source in &views {
            let mut row = Vec::new();
            for (at, (&piece, target)) in pieces.iter().zip(&views).enumerate() {
                let to = Place { kind: Some(kind), piece: Some(piece) };
                if !told.teller.is_asked(world, to, relation) {
                    continue;
                }
                let mut decided = Vec::new();
                for (side, (&source, &target)) in source.iter().zip(target).enumerate() {
                    decided.push(world.decide(side, source, target, true, true)?);
                }
                let content = told.content(world, decided)?;
                if content != SILENCE {
                    row.push((at, content));
                }
            }
            contents.push(row);
        }
        for ((what, from, to), services) in told.boxes(&contents, &mut world.effort)? {
            let named = |at: &[usize]| -> Vec<PieceNumber> {
                at.iter().filter_map(|&at| pieces.get(at)).copied().collect()
            };
            // All addresses of a host are all of them, whichever they are.
            let whole = from.len() == pieces.len() && to.len() == pieces.len();
            let ends = (!whole).then(|| (named(&from), named(&to)));
            found.entry((what, services, ends)).or_default().push(kind);
        }
    }
    let mut entries = Vec::new();
    for ((what, services, ends), kinds) in found {
        let places = |pieces: Option<&Vec<PieceNumber>>| -> Vec<Place> {
            let of = |&kind: &usize| {
                let pieces = pieces.cloned().unwrap_or_else(|| homes(world, kind, relation));
                pieces.into_iter().map(move |piece| Place { kind: Some(kind), piece: Some(piece) })
            };
            kinds.iter().flat_map(of).collect()
        };
        let from = places(ends.as_ref().map(|(from, _)| from));
        let to = places(ends.as_ref().map(|(_, to)| to));
        entries.push(Entry { what, services, relation, from, to });
    }
    Ok(entries)
}

impl Entry {
    /// A connection of the entry; `None` if no pair of its places exists.
    pub(super) fn example(
        &self,
        world: &mut World<'_>,
    ) -> Result<Option<Connection>, AnalysisError> {
        let Some(service) = self.services.iter().next() else { return Ok(None) };
        for &from in &self.from {
            for &to in &self.to {
                world.effort.spend(1)?;
                if let Some(found) = connection(world, from, to, self.relation, service) {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }
}

/// A connection from one place to another, if there can be one.
pub(super) fn connection(
    world: &World<'_>,
    from: Place,
    to: Place,
    relation: Relation,
    service: usize,
) -> Option<Connection> {
    let to_piece = to.piece?;
    let is_v4 = |piece: PieceNumber| world.pieces.is_v4(piece);
    if from.piece.is_some_and(|piece| is_v4(piece) != is_v4(to_piece)) {
        return None;
    }
    let hosts = |place: Place| Some(&world.kinds.get(place.kind?)?.hosts);
    let first = |place: Place| hosts(place).and_then(|hosts| hosts.first().copied()).flatten();
    let source = first(from);
    let target = match relation {
        Relation::Itself | Relation::Loopback if from.kind != to.kind => return None,
        Relation::Itself | Relation::Loopback => source,
        Relation::Between if from.kind.is_some() && from.kind == to.kind => {
            Some(hosts(to)?.get(1).copied()??)
        }
        Relation::Between => first(to),
    };
    let address = |place: Place, host: Option<HostIndex>| {
        let piece = place.piece?;
        let listed = host.and_then(|host| world.inventory.host(host));
        let own = listed.and_then(|host| {
            let mut own = host.addresses.iter().copied();
            own.find(|&address| !address.is_loopback() && world.pieces.of(address) == piece)
        });
        let assumed = || match relation {
            Relation::Loopback => Some(world.pieces.loopback(piece)),
            Relation::Between | Relation::Itself => world.pieces.outside(piece),
        };
        let found = if relation == Relation::Loopback { assumed() } else { own.or_else(assumed) };
        found.map(address_text)
    };
    let id = |host: Option<HostIndex>| Some(world.inventory.host(host?)?.id.clone());
    let (protocol, port) = world.services.example(service);
    Some(Connection {
        from_host: id(source),
        from_address: address(from, source),
        to_host: id(target),
        to_address: address(to, target)?,
        protocol: protocol.0,
        port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_hold_every_pair_once() {
        let whole = vec![vec![1, 1, 0], vec![1, 1, 2], vec![1, 1, 0], vec![0, 2, 2]];
        let said = |row: &Vec<usize>| {
            row.iter().copied().enumerate().filter(|(_, what)| *what != NOTHING).collect()
        };
        let contents: Contents = whole.iter().map(said).collect();
        let mut back = vec![vec![NOTHING; 3]; 4];
        for (content, sources, targets) in boxes(&contents) {
            for &source in &sources {
                for &target in &targets {
                    assert_eq!(std::mem::replace(&mut back[source][target], content), NOTHING);
                }
            }
        }
        assert_eq!(back, whole);
    }
}
