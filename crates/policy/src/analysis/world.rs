//! Everything that questions are asked of: the kinds of hosts, the classes of services and processes, and what each set of
//! policies decides between any two places.

use image::{Service, SubjectTest};
use verdict::{Address, Direction};

use super::{
    Question,
    answer::{AnalysisError, Effort},
    bits::Numbered,
    clause::Clauses,
    limits::{KINDS_MAX, SPOTS_MAX},
    places::{Kind, PieceNumber, Pieces, kinds},
    processes::ProcessClasses,
    services::ServiceClasses,
    side::{ClauseNumbers, MaskNumber, RowNumber, Side},
};
use crate::{
    inventory::{HostIndex, Inventory},
    policy::Policy,
    resolve::{Eye, Near, NearNames},
    symbols::Symbols,
};

/// An address of the hosts of one kind, or of nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Number of the kind; `None` outside the inventory.
    pub(super) kind: Option<usize>,
    /// `None` for a host whose addresses are not known.
    pub(super) piece: Option<PieceNumber>,
}

/// How a place takes part in flows between two places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// Addresses that belong to no host.
    Outside,
    /// An address of a host.
    Host,
    /// A host of unknown address as it connects. Whom it connects to cannot tell who it is, unless that is nobody's
    /// business: outside.
    Homeless,
    /// A host of unknown address as it accepts at some address, from outside.
    Assumed,
}

/// The clauses that mean a place: as the near end when connecting and when accepting, and as the far end of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct View {
    pub(super) near: [MaskNumber; 2],
    pub(super) far: [MaskNumber; 2],
}

impl View {
    /// Masks that are never looked at must not tell places apart.
    fn forget_what_is_not_asked(&mut self, role: Role) {
        let [out, into] = self.near;
        match role {
            Role::Host => {}
            Role::Outside => self.near = [0, 0],
            Role::Homeless => *self = Self { near: [out, 0], far: [0, 0] },
            Role::Assumed => *self = Self { near: [0, into], far: [0, 0] },
        }
    }
}

/// Places that no set of policies tells apart.
#[derive(Clone, Debug)]
pub(super) struct Spot {
    pub(super) role: Role,
    pub(super) places: Vec<Place>,
    /// For each side.
    pub(super) views: Vec<View>,
}

/// A kind of hosts as it sees itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Own {
    /// By place in [`Kind::pieces`], then by side.
    pub(super) places: Vec<Vec<View>>,
    /// By loopback piece, then by side.
    pub(super) loopback: Vec<Vec<View>>,
}

/// What is decided between two places: where the flow starts and where it ends, `None` outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Decided {
    pub(super) out: Option<RowNumber>,
    pub(super) into: Option<RowNumber>,
}

/// What a question asks about: it is never put together with anything else.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'q> {
    /// Become whole classes.
    pub(super) services: &'q [Service],
    /// Becomes a kind of its own.
    pub(super) host: Option<HostIndex>,
    /// Becomes a piece of its own.
    pub(super) address: Option<Address>,
}

impl Asked<'static> {
    /// Everything.
    pub(super) const ALL: Self = Self { services: &[Service::ANY], host: None, address: None };
}

/// See the module.
#[derive(Debug)]
pub(super) struct World<'a> {
    pub(super) inventory: &'a Inventory,
    pub(super) symbols: Symbols,
    pub(super) pieces: Pieces,
    pub(super) kinds: Vec<Kind>,
    pub(super) services: ServiceClasses,
    /// Of the end that connects.
    pub(super) from: ProcessClasses,
    /// Of the end that accepts.
    pub(super) to: ProcessClasses,
    pub(super) sides: Vec<Side<'a>>,
    pub(super) spots: Vec<Spot>,
    pub(super) own: Vec<Own>,
    pub(super) effort: Effort,
    /// Number of the list of services that is asked about, among those of the classes.
    pub(super) asked: usize,
}

impl<'a> World<'a> {
    /// The world of several sets of policies.
    pub(super) fn new(
        sets: &[&'a [Policy]],
        question: &Question<'a>,
        asked: Asked<'_>,
    ) -> Result<Self, AnalysisError> {
        let symbols = Symbols::new(sets.iter().copied().flatten());
        let collect =
            |set: &&'a [Policy]| Clauses::new(set, &symbols, question.now, question.basis);
        let sets: Vec<Clauses<'a>> = sets.iter().map(collect).collect::<Result<_, _>>()?;
        let inventory = question.inventory;
        let pieces = Pieces::new(&sets, asked.address, inventory);
        let kinds = kinds(&sets, &pieces, asked.host, inventory);
        AnalysisError::limit("kinds of hosts", kinds.len(), KINDS_MAX)?;
        let mut lists: Numbered<&[Service]> = Numbered::new();
        let mut tests: [Numbered<&SubjectTest>; 2] = [Numbered::new(), Numbered::new()];
        let [from_tests, to_tests] = &mut tests;
        let mut numbers = vec![ClauseNumbers::default(); sets.len()];
        for (set, numbers) in sets.iter().zip(&mut numbers) {
            for clause in &set.clauses {
                numbers.services.push(lists.number(&clause.services));
                numbers.from.push(from_tests.number(&clause.from_processes));
                numbers.to.push(to_tests.number(&clause.to_processes));
            }
        }
        let asked = lists.number(asked.services);
        let services = ServiceClasses::new(lists.values());
        let from = ProcessClasses::new(from_tests.values(), &symbols)?;
        let to = ProcessClasses::new(to_tests.values(), &symbols)?;
        let sides = sets.into_iter().zip(&numbers);
        let sides =
            sides.map(|(set, numbers)| Side::new(set, numbers, &services, [&from, &to])).collect();
        let mut world = Self {
            inventory,
            symbols,
            pieces,
            kinds,
            services,
            from,
            to,
            sides,
            spots: Vec::new(),
            own: Vec::new(),
            effort: Effort::new(),
            asked,
        };
        world.look()?;
        Ok(world)
    }

    /// Finds which clauses mean which places, and puts places together that the same ones mean.
    fn look(&mut self) -> Result<(), AnalysisError> {
        let mut spots: Numbered<(Role, Vec<View>)> = Numbered::new();
        let mut places: Vec<Vec<Place>> = Vec::new();
        let mut put = |role: Role, place: Place, mut views: Vec<View>| {
            views.iter_mut().for_each(|view| view.forget_what_is_not_asked(role));
            let number = spots.number((role, views));
            if number == places.len() {
                places.push(Vec::new());
            }
            if let Some(places) = places.get_mut(number) {
                places.push(place);
            }
            AnalysisError::limit("kinds of places", places.len(), SPOTS_MAX)
        };
        let outside: Vec<PieceNumber> = self.pieces.all_outside().collect();
        let strangers = self.outlooks(Eye { host: None, me: false })?;
        for &piece in &outside {
            let views = self.views(&strangers, &strangers, self.pieces.first(piece))?;
            put(Role::Outside, Place { kind: None, piece: Some(piece) }, views)?;
        }
        for at in 0..self.kinds.len() {
            let kind = self.kinds.get(at).cloned().unwrap_or_default();
            let host = kind.hosts.first().copied().flatten();
            let host = host.and_then(|index| self.inventory.host(index));
            let mine = self.outlooks(Eye { host, me: true })?;
            let other = self.outlooks(Eye { host, me: false })?;
            let homes: Vec<Address> =
                kind.pieces.iter().map(|&piece| self.pieces.first(piece)).collect();
            let mut own = Own::default();
            for (&piece, &address) in kind.pieces.iter().zip(&homes) {
                let connecting = self.connecting(&mine, &homes)?;
                let views = self.views(&mine, &other, address)?;
                let views = with_out(views, &connecting);
                put(Role::Host, Place { kind: Some(at), piece: Some(piece) }, views)?;
                let views = self.views(&mine, &mine, address)?;
                own.places.push(with_out(views, &connecting));
            }
            if homes.is_empty() {
                let connecting =
                    self.connecting(&mine, &[Address::UNSPECIFIED_V4, Address::UNSPECIFIED_V6])?;
                let views = self.views(&strangers, &strangers, Address::UNSPECIFIED_V4)?;
                let place = Place { kind: Some(at), piece: None };
                put(Role::Homeless, place, with_out(views, &connecting))?;
                for &piece in &outside {
                    let views = self.views(&mine, &strangers, self.pieces.first(piece))?;
                    put(Role::Assumed, Place { kind: Some(at), piece: Some(piece) }, views)?;
                }
            }
            for piece in self.pieces.all_loopback().collect::<Vec<_>>() {
                let connecting = self.connecting_locally(&mine)?;
                let views = self.views(&mine, &mine, self.pieces.first(piece))?;
                own.loopback.push(with_out(views, &connecting));
            }
            self.own.push(own);
        }
        let spots = spots.values().iter().cloned().zip(places);
        self.spots = spots.map(|((role, views), places)| Spot { role, places, views }).collect();
        Ok(())
    }

    /// What every selector of every side means from near.
    fn outlooks(&mut self, eye: Eye<'_>) -> Result<Vec<Vec<Near>>, AnalysisError> {
        let mut outlooks = Vec::new();
        for side in &self.sides {
            let all = &side.all;
            self.effort.spend(all.selectors.len() * 16)?;
            let names: Vec<NearNames> =
                all.policies.iter().map(|policy| Near::names(policy, eye)).collect();
            let near = all.selectors.iter().filter_map(|&(at, selector)| {
                names.get(at).map(|names| Near::of(selector, names, eye))
            });
            outlooks.push(near.collect());
        }
        Ok(outlooks)
    }

    /// The clauses that mean `address`: near by `mine`, far by `other`. When connecting, no near ones.
    fn views(
        &mut self,
        mine: &[Vec<Near>],
        other: &[Vec<Near>],
        address: Address,
    ) -> Result<Vec<View>, AnalysisError> {
        let mut views = Vec::new();
        for ((side, mine), other) in self.sides.iter_mut().zip(mine).zip(other) {
            self.effort.spend(side.len() * 4)?;
            let loopback = address.is_loopback();
            let near = side.near(Direction::In, |at| holds(mine, at, address));
            let far = [Direction::Out, Direction::In]
                .map(|direction| side.far(direction, loopback, |at| holds(other, at, address)));
            views.push(View { near: [near, near], far });
        }
        Ok(views)
    }

    /// The clauses that mean a host of these addresses as it connects to another one.
    fn connecting(
        &mut self,
        mine: &[Vec<Near>],
        homes: &[Address],
    ) -> Result<Vec<MaskNumber>, AnalysisError> {
        self.out(mine, |mine, at| homes.iter().any(|&address| holds(mine, at, address)))
    }

    /// The clauses that mean a host as it connects to loopback.
    fn connecting_locally(&mut self, mine: &[Vec<Near>]) -> Result<Vec<MaskNumber>, AnalysisError> {
        self.out(mine, |mine, at| mine.get(at).is_some_and(Near::means_loopback))
    }

    fn out(
        &mut self,
        mine: &[Vec<Near>],
        means: impl Fn(&[Near], usize) -> bool,
    ) -> Result<Vec<MaskNumber>, AnalysisError> {
        let mut masks = Vec::new();
        for (side, mine) in self.sides.iter_mut().zip(mine) {
            self.effort.spend(side.len() * 2)?;
            masks.push(side.near(Direction::Out, |at| means(mine, at)));
        }
        Ok(masks)
    }

    /// What `side` decides between two spots; `None` if there are no flows between such places, or none can be judged.
    pub(super) fn between(
        &mut self,
        side: usize,
        from: usize,
        to: usize,
    ) -> Result<Option<Decided>, AnalysisError> {
        let (Some(source), Some(target)) = (self.spots.get(from), self.spots.get(to)) else {
            return Ok(None);
        };
        let (out, into) = match (source.role, target.role) {
            (Role::Host, Role::Host) => (true, true),
            (Role::Host | Role::Homeless, Role::Outside) => (true, false),
            (Role::Outside, Role::Host | Role::Assumed) => (false, true),
            (Role::Outside, Role::Outside | Role::Homeless)
            | (Role::Host | Role::Homeless, Role::Homeless | Role::Assumed)
            | (Role::Homeless, Role::Host)
            | (Role::Assumed, _) => return Ok(None),
        };
        let (Some(&source), Some(&target)) = (source.views.get(side), target.views.get(side))
        else {
            return Ok(None);
        };
        self.decide(side, source, target, out, into).map(Some)
    }

    /// What `side` decides from one view to another, at the ends that are hosts.
    pub(super) fn decide(
        &mut self,
        side: usize,
        source: View,
        target: View,
        out: bool,
        into: bool,
    ) -> Result<Decided, AnalysisError> {
        let ([near_out, _], [far_out, _]) = (source.near, target.far);
        let ([_, near_in], [_, far_in]) = (target.near, source.far);
        let side = self.sides.get_mut(side).expect("sides are numbered from the sets given");
        let effort = &mut self.effort;
        let mut row = |wanted: bool, direction, near, far| {
            wanted.then(|| side.row(direction, near, far, effort)).transpose()
        };
        Ok(Decided {
            out: row(out, Direction::Out, near_out, far_out)?,
            into: row(into, Direction::In, near_in, far_in)?,
        })
    }
}

fn holds(nears: &[Near], selector: usize, address: Address) -> bool {
    match nears.get(selector) {
        Some(Near::Always) => true,
        Some(Near::At(set)) => set.contains(address),
        Some(Near::Never) | None => false,
    }
}

fn with_out(views: Vec<View>, connecting: &[MaskNumber]) -> Vec<View> {
    let put = |(view, &out): (View, &MaskNumber)| {
        let View { near: [_, into], far } = view;
        View { near: [out, into], far }
    };
    views.into_iter().zip(connecting).map(put).collect()
}
