//! Groups of places with the best description that is found: a name of the policies, labels, ids or addresses.

use std::collections::BTreeMap;

use super::{
    answer::{AnalysisError, Group, Part, Relation},
    bits::Bits,
    places::PieceNumber,
    spell::{list_text, pieces_text},
    world::{Place, World},
};
use crate::{
    inventory::{HostIndex, Inventory},
    resolve::{Eye, Near, needed},
    syntax::{Expression, Meaning},
};

/// What a name of the policies stands for: whole kinds of hosts, and pieces of the outside.
type Extension = (Bits, Bits);

/// The groups of one answer.
#[derive(Debug)]
pub(super) struct Groups {
    /// Names that stand for whole kinds; the shortest of those that stand for the same.
    names: BTreeMap<Extension, String>,
    known: BTreeMap<(Vec<Place>, bool), usize>,
    groups: Vec<Group>,
}

impl Groups {
    pub(super) fn new(world: &mut World<'_>) -> Result<Self, AnalysisError> {
        let names = names(world)?;
        Ok(Self { names, known: BTreeMap::new(), groups: Vec::new() })
    }

    pub(super) fn into_groups(self) -> Vec<Group> {
        self.groups
    }

    /// The number of the group of `places`.
    pub(super) fn number(
        &mut self,
        world: &World<'_>,
        places: &[Place],
        relation: Relation,
    ) -> usize {
        let mut key = places.to_vec();
        key.sort_unstable();
        key.dedup();
        let key = (key, relation == Relation::Loopback);
        if let Some(&number) = self.known.get(&key) {
            return number;
        }
        let group = self.group(world, &key.0, relation);
        let same = self.groups.iter().position(|known| *known == group);
        let number = same.unwrap_or_else(|| {
            self.groups.push(group);
            self.groups.len() - 1
        });
        self.known.insert(key, number);
        number
    }

    fn group(&self, world: &World<'_>, places: &[Place], relation: Relation) -> Group {
        let mut whole = Bits::none(world.kinds.len());
        let mut outside = Bits::none(world.pieces.len());
        let mut parts: BTreeMap<Bits, Bits> = BTreeMap::new();
        let mut of_kinds: BTreeMap<usize, Vec<Option<PieceNumber>>> = BTreeMap::new();
        for place in places {
            match (place.kind, place.piece) {
                (Some(kind), piece) => of_kinds.entry(kind).or_default().push(piece),
                (None, Some(piece)) => outside.insert(piece),
                (None, None) => {}
            }
        }
        for (kind, pieces) in of_kinds {
            if pieces.contains(&None) || pieces.len() == addresses_of(world, kind, relation) {
                whole.insert(kind);
                continue;
            }
            let set = Bits::of(world.pieces.len(), |piece| pieces.contains(&Some(piece)));
            parts.entry(set).or_insert_with(|| Bits::none(world.kinds.len())).insert(kind);
        }
        let outside_text =
            pieces_text(&world.pieces, &outside, |piece| world.pieces.outside(piece).is_none());
        let hosts = hosts(world, &whole);
        let name = self.name(world, &whole, &hosts, &outside, &outside_text);
        let mut names: Vec<String> = name.into_iter().collect();
        let mut listed = Vec::new();
        for (pieces, kinds) in parts {
            let hosts = self::hosts(world, &kinds);
            let free = |piece: PieceNumber| {
                relation != Relation::Loopback && !hosts_in(world, &kinds, piece)
            };
            let addresses = pieces_text(&world.pieces, &pieces, free);
            let name = self.hosts_name(world, &kinds, &hosts);
            names.push(format!("{name} at {}", list_text(&addresses)));
            listed.push(Part { hosts: ids(world.inventory, &hosts), addresses });
        }
        Group {
            name: names.join(", "),
            hosts: ids(world.inventory, &hosts),
            parts: listed,
            outside: outside_text,
        }
    }

    /// What whole kinds and the outside are called together; `None` if there is nothing.
    fn name(
        &self,
        world: &World<'_>,
        whole: &Bits,
        hosts: &[HostIndex],
        outside: &Bits,
        outside_text: &[String],
    ) -> Option<String> {
        let every_host = whole.iter().count() == world.kinds.len();
        let everywhere = outside.iter().count() == world.pieces.all_outside().count();
        if every_host && everywhere && !outside.is_empty() {
            return Some("any".to_owned());
        }
        if let Some(name) = self.names.get(&(whole.clone(), outside.clone())) {
            return Some(name.clone());
        }
        let mut said = Vec::new();
        if !whole.is_empty() {
            said.push(self.hosts_name(world, whole, hosts));
        }
        if !outside.is_empty() {
            let alone = (Bits::none(world.kinds.len()), outside.clone());
            said.push(match self.names.get(&alone) {
                Some(name) => name.clone(),
                None if everywhere => "outside".to_owned(),
                None => outside_name(world, outside, outside_text),
            });
        }
        (!said.is_empty()).then(|| said.join(", "))
    }

    fn hosts_name(&self, world: &World<'_>, kinds: &Bits, hosts: &[HostIndex]) -> String {
        if world.inventory.hosts().is_empty() {
            return "me".to_owned();
        }
        let alone = (kinds.clone(), Bits::none(world.pieces.len()));
        if let Some(name) = self.names.get(&alone) {
            return name.clone();
        }
        if let [one] = hosts {
            return ids(world.inventory, &[*one]).concat();
        }
        if hosts.len() == world.inventory.hosts().len() {
            return "every host".to_owned();
        }
        labels(world.inventory, hosts).unwrap_or_else(|| list_text(&ids(world.inventory, hosts)))
    }
}

/// How many addresses, as far as anybody tells them apart, a host of `kind` takes part with.
fn addresses_of(world: &World<'_>, kind: usize, relation: Relation) -> usize {
    match relation {
        Relation::Loopback => world.pieces.all_loopback().count(),
        Relation::Itself | Relation::Between => match world.kinds.get(kind) {
            Some(kind) if !kind.pieces.is_empty() => kind.pieces.len(),
            Some(_) | None => world.pieces.all_outside().count(),
        },
    }
}

/// Whether hosts of one of `kinds` have addresses in `piece`.
fn hosts_in(world: &World<'_>, kinds: &Bits, piece: PieceNumber) -> bool {
    let mut kinds = kinds.iter().filter_map(|at| world.kinds.get(at));
    kinds.any(|kind| kind.pieces.is_empty() || kind.pieces.binary_search(&piece).is_ok())
}

/// The outside by what it holds or by what it does not hold, whichever is shorter.
fn outside_name(world: &World<'_>, outside: &Bits, text: &[String]) -> String {
    let others = Bits::of(world.pieces.len(), |piece| {
        world.pieces.outside(piece).is_some() && !outside.contains(piece)
    });
    let free = |piece: PieceNumber| world.pieces.outside(piece).is_none();
    let others = pieces_text(&world.pieces, &others, free);
    if others.len() < text.len() {
        format!("outside except {}", list_text(&others))
    } else {
        list_text(text)
    }
}

/// The hosts of `kinds`, in the order of the inventory.
fn hosts(world: &World<'_>, kinds: &Bits) -> Vec<HostIndex> {
    let kinds = kinds.iter().filter_map(|at| world.kinds.get(at));
    let mut hosts: Vec<HostIndex> =
        kinds.flat_map(|kind| kind.hosts.iter().copied().flatten()).collect();
    hosts.sort_unstable();
    hosts
}

/// Their ids, sorted.
pub(super) fn ids(inventory: &Inventory, hosts: &[HostIndex]) -> Vec<String> {
    let listed = hosts.iter().filter_map(|&host| inventory.host(host));
    let mut ids: Vec<String> = listed.map(|host| host.id.clone()).collect();
    ids.sort_unstable();
    ids
}

/// Labels that these hosts have and no other: `role=web & env=prod`, or `role in (web, db)`.
fn labels(inventory: &Inventory, hosts: &[HostIndex]) -> Option<String> {
    let first = inventory.host(*hosts.first()?)?;
    let shared = first.labels.iter().filter_map(|(key, value)| {
        let having = inventory.labelled(key, value);
        let all = hosts.iter().all(|host| having.binary_search(host).is_ok());
        all.then_some((key, value, having))
    });
    // Those that fewest others have come first; each is taken if it leaves others out.
    let mut shared: Vec<_> = shared.collect();
    shared.sort_by_key(|(key, _, having)| (having.len(), *key));
    let mut left: Option<Vec<HostIndex>> = None;
    let mut said: Vec<String> = Vec::new();
    for (key, value, having) in shared {
        let next: Vec<HostIndex> = match &left {
            None => having.to_vec(),
            Some(left) => {
                left.iter().copied().filter(|host| having.binary_search(host).is_ok()).collect()
            }
        };
        if left.as_ref().is_none_or(|left| next.len() < left.len()) {
            said.push(format!("{key}={value}"));
            left = Some(next);
        }
        if left.as_ref().is_some_and(|left| left.len() == hosts.len()) {
            return Some(said.join(" & "));
        }
    }
    first.labels.keys().find_map(|key| one_of(inventory, hosts, key))
}

/// Values of one label that these hosts have and no other.
fn one_of(inventory: &Inventory, hosts: &[HostIndex], key: &str) -> Option<String> {
    const VALUES_MAX: usize = 8;
    let mut values: Vec<&str> = Vec::new();
    for &host in hosts {
        let value = inventory.host(host)?.labels.get(key)?;
        if !values.contains(&value.as_str()) {
            values.push(value);
        }
        if values.len() > VALUES_MAX {
            return None;
        }
    }
    values.sort_unstable();
    let having: usize = values.iter().map(|value| inventory.labelled(key, value).len()).sum();
    (having == hosts.len()).then(|| format!("{key} in ({})", values.join(", ")))
}

/// What the names of the policies stand for, those left out that cut a host into parts, speak of `me`, or mean different
/// things in two documents.
fn names(world: &mut World<'_>) -> Result<BTreeMap<Extension, String>, AnalysisError> {
    let mut found: BTreeMap<String, Option<Extension>> = BTreeMap::new();
    for side in &world.sides {
        for policy in side.all.policies {
            for name in policy.names_in_order() {
                let Meaning::Selector(selector) = &name.means else { continue };
                world.effort.spend(16 * world.kinds.len() + world.pieces.len())?;
                let mut of_me = false;
                let meant = needed(selector, policy).into_iter().map(|(_, meant)| meant);
                for selector in meant.chain([selector]) {
                    selector.each(&mut |at| of_me |= matches!(*at.expression, Expression::Me));
                }
                let near = |eye: Eye<'_>| Near::with_names(selector, policy, eye);
                let extension = if of_me { None } else { extension(world, near) };
                found
                    .entry(name.name.text.clone())
                    .and_modify(|known| {
                        if *known != extension {
                            *known = None;
                        }
                    })
                    .or_insert(extension.clone());
            }
        }
    }
    let mut names: BTreeMap<Extension, String> = BTreeMap::new();
    for (name, extension) in found {
        let Some(extension) = extension else { continue };
        let shorter = names.get(&extension).is_none_or(|known| name.len() < known.len());
        if shorter {
            names.insert(extension, name);
        }
    }
    Ok(names)
}

fn extension(world: &World<'_>, near: impl Fn(Eye<'_>) -> Near) -> Option<Extension> {
    let outside = near(Eye { host: None, me: false });
    let holds = |near: &Near, piece: PieceNumber| match near {
        Near::Always => true,
        Near::Never => false,
        Near::At(set) => set.contains(world.pieces.first(piece)),
    };
    let pieces = Bits::of(world.pieces.len(), |piece| {
        world.pieces.outside(piece).is_some() && holds(&outside, piece)
    });
    let mut kinds = Bits::none(world.kinds.len());
    for (at, kind) in world.kinds.iter().enumerate() {
        let host = kind.hosts.first().copied().flatten();
        let host = host.and_then(|host| world.inventory.host(host));
        let near = near(Eye { host, me: false });
        let held = kind.pieces.iter().filter(|&&piece| holds(&near, piece)).count();
        let whole = match near {
            Near::Always => true,
            Near::Never => false,
            Near::At(_) if held == kind.pieces.len() && held > 0 => true,
            Near::At(_) if held == 0 => false,
            Near::At(_) => return None,
        };
        if whole {
            kinds.insert(at);
        }
    }
    Some((kinds, pieces))
}
