//! The machine that serves connections: hosts, and relays with theirs.

mod expel;
mod hear;
mod judge;
mod say;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use wire::sync::{Down, RELAYS_MAX, RelayAt};

pub(super) use self::expel::beginning;
use super::{
    Assigned, Counts, Effect, Frame, Link, Reporter, Serve,
    along::Along,
    contents::Contents,
    seat::{HostState, Relay, Seat, Sitting, Want},
};
use crate::{
    digest::Digest,
    spot::{Spot, Spots, spot},
};

/// Bytes of a reason and its place, at most twice of which are kept of a host.
const WORDS_BYTES: usize = 400 + size_of::<super::seat::Words>();
/// How often all connections are looked at for those that are silent: milliseconds.
const LOOK_MS: u64 = 1_000;

/// Silence that is borne of a host that has been told nothing yet, not even how often to speak: it does every half minute.
const UNTOLD_MS: u64 = 100_000;

/// Where targets and pieces come from.
pub(crate) trait Source {
    /// Whether a host may come in with this certificate.
    fn admits(&self, id: &str, certificate: &Digest) -> Result<Arc<str>, String>;
    /// Whether there is such a host.
    fn knows(&self, id: &str) -> Result<Arc<str>, String>;
    /// Whether a relay may.
    fn admits_relay(&self, name: &str, certificate: &Digest) -> Result<(), String>;
    /// What a host should have.
    fn target(&mut self, id: &str) -> Wanted;
    /// The manifest of what a host should have, or had before and may go on with, and its digest; `None` if nothing is known
    /// of it.
    fn manifest(&mut self, id: &str) -> Option<(Arc<[u8]>, Digest)>;
    /// A piece.
    fn piece(&mut self, digest: &Digest) -> Find;
    /// What makes a piece of an earlier one, if that is known and worth it.
    fn difference(&mut self, base: &Digest, digest: &Digest) -> Option<Arc<[u8]>>;
}

/// What a host should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// This.
    Target(Assigned),
    /// Nothing yet: it is told as soon as there is something.
    Nothing,
    /// It must go.
    Refused(String),
}

/// A piece, or where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Find {
    /// Here.
    Here(Arc<[u8]>),
    /// On its way here.
    Coming,
    /// Nobody has it.
    Lost,
}

/// Connections and the hosts behind them.
#[derive(Debug)]
pub(crate) struct Desk {
    serve: Serve,
    seats: Vec<(u32, Option<Seat>)>,
    free: Vec<u32>,
    open: usize,
    hosts: Vec<Option<HostState>>,
    free_hosts: Vec<u32>,
    by_spot: Spots,
    /// Places of connections that are relays'.
    relays: BTreeSet<u32>,
    /// Connections that wait for a piece that is on its way here.
    waiting: BTreeMap<Digest, Vec<Link>>,
    looked_ms: u64,
    /// When what is known here was last shown to be all that there was to know; `None` if nobody says so.
    proven_ms: Option<u64>,
    /// Whether certificates are kept, for somebody above to judge.
    certificates: bool,
    /// Hosts that came after that, and wait.
    unproven: BTreeSet<u32>,
    /// Connections after that of those who are not known here, or of relays with such hosts.
    unjudged: BTreeSet<Link>,
    /// Hosts that asked for what nobody had, and when they are told again.
    again: VecDeque<(u64, u32)>,
    contents: Contents,
    /// What is new, and goes along with targets.
    along: Along,
    pub(crate) counts: Counts,
    /// Who came and went and what they said, for the controller above or the leader.
    pub(crate) reporter: Reporter,
}

impl Desk {
    pub(crate) fn new(serve: Serve, now_ms: u64) -> Self {
        Self {
            serve,
            seats: Vec::new(),
            free: Vec::new(),
            open: 0,
            hosts: Vec::new(),
            free_hosts: Vec::new(),
            by_spot: Spots::default(),
            relays: BTreeSet::new(),
            waiting: BTreeMap::new(),
            looked_ms: now_ms,
            proven_ms: None,
            certificates: false,
            unproven: BTreeSet::new(),
            unjudged: BTreeSet::new(),
            again: VecDeque::new(),
            contents: Contents::default(),
            along: Along::default(),
            counts: Counts::default(),
            reporter: Reporter::default(),
        }
    }

    pub(crate) fn serve(&self) -> &Serve {
        &self.serve
    }

    /// Certificates are judged above.
    pub(crate) fn keep_certificates(&mut self) {
        self.certificates = true;
    }

    /// A host came with a certificate, here or at a relay.
    fn showed(&mut self, host: u32, certificate: Digest) {
        let id = self.id(host);
        if let Some(state) = self.hosts.get_mut(host as usize).and_then(Option::as_mut) {
            state.shown = beginning(&certificate);
            state.certificate = self.certificates.then(|| Box::new(certificate));
        }
        self.reporter.came(host, &id);
    }

    /// Somebody is there who is to be told of the hosts that are here, or at a relay.
    pub(crate) fn report(&mut self) {
        let elsewhere = |link: Link| {
            let seat = self.seats.get(link.place as usize).and_then(|(_, seat)| seat.as_ref());
            seat.is_none_or(|seat| matches!(seat.who, Sitting::Controller(_)))
        };
        let hosts =
            (0..).zip(&self.hosts).filter_map(|(number, state)| Some((number, state.as_ref()?)));
        let own: Vec<u32> = hosts.filter(|(_, it)| !elsewhere(it.link)).map(|(it, _)| it).collect();
        self.reporter.opened(own.into_iter());
    }

    /// What there is to tell of them, and was not told.
    pub(crate) fn news(&mut self) -> Vec<wire::sync::Upward> {
        let relays = self.own_relays();
        let Self { reporter, hosts, .. } = self;
        reporter.flush(|number| hosts.get(number as usize)?.as_ref(), relays)
    }

    /// Connections that are open.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// Hosts that are connected, here or at a relay.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = &HostState> {
        self.hosts.iter().flatten()
    }

    /// A host that is connected.
    pub(crate) fn host(&self, id: &str) -> Option<&HostState> {
        self.hosts.get(self.number(id)? as usize)?.as_ref()
    }

    /// Bytes of what is kept of connections and hosts, ids shared with others left aside.
    pub(crate) fn bytes(&self) -> usize {
        let seats = self.seats.capacity() * size_of::<(u32, Option<Seat>)>();
        let hosts = self.hosts.capacity() * size_of::<Option<HostState>>();
        let free = (self.free.capacity() + self.free_hosts.capacity()) * size_of::<u32>();
        // Nodes of a B-tree are at least half full.
        let numbers = self.by_spot.count() * 2 * size_of::<(Spot, u32)>();
        let wants =
            |seat: &Seat| seat.wants.as_ref().map_or(0, |it| it.capacity() * size_of::<Want>());
        let words = |state: &HostState| state.words.as_ref().map_or(0, |_| 2 * WORDS_BYTES);
        let words: usize = self.hosts().map(words).sum();
        let wants: usize = self.seats.iter().filter_map(|(_, seat)| seat.as_ref()).map(wants).sum();
        seats + hosts + free + numbers + wants + words
    }

    /// The number of a host that is connected.
    fn number(&self, id: &str) -> Option<u32> {
        let host = |number: u32| self.hosts.get(number as usize).and_then(Option::as_ref);
        self.by_spot.find(spot(id), |number| host(number).is_some_and(|it| *it.id == *id))
    }

    fn seat(&mut self, now_ms: u64) -> Link {
        let seat =
            Seat { who: Sitting::Leaving, opened_ms: now_ms, unsent: 0, wants: None, dirty: false };
        self.open += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            grow(&mut self.seats);
            self.seats.push((0, None));
            u32::try_from(self.seats.len() - 1).expect("connections are fewer than 2^32")
        });
        let Some((generation, empty)) = self.seats.get_mut(place as usize) else {
            unreachable!("a free place is one of `seats`")
        };
        *generation = generation.wrapping_add(1);
        *empty = Some(seat);
        Link { place, generation: *generation }
    }

    fn at(&mut self, link: Link) -> Option<&mut Seat> {
        let (generation, seat) = self.seats.get_mut(link.place as usize)?;
        if *generation == link.generation { seat.as_mut() } else { None }
    }

    fn sits(&mut self, link: Link, who: Sitting) {
        if let Some(seat) = self.at(link) {
            seat.who = who;
        }
    }

    fn id(&self, host: u32) -> Arc<str> {
        let state = self.hosts.get(host as usize).and_then(Option::as_ref);
        state.map(|state| Arc::clone(&state.id)).unwrap_or_default()
    }

    /// A host is at `link` from now on. If it was elsewhere, it is not any more.
    fn join(&mut self, id: Arc<str>, link: Link, now_ms: u64, out: &mut Vec<Effect>) -> u32 {
        if let Some(host) = self.number(&id) {
            let before = self.hosts.get(host as usize).and_then(Option::as_ref);
            if let Some(before) = before.map(|state| state.link) {
                self.unassigned(before, host, now_ms);
            }
            let state = self.hosts.get_mut(host as usize).and_then(Option::as_mut);
            let state = state.expect("a number that is given out is a host's");
            let before = std::mem::replace(&mut state.link, link);
            *state = HostState::new(Arc::clone(&state.id), link, now_ms);
            if before != link {
                self.replaced(before, host, now_ms, out);
            }
            return host;
        }
        let state = HostState::new(Arc::clone(&id), link, now_ms);
        let host = self.free_hosts.pop().unwrap_or_else(|| {
            grow(&mut self.hosts);
            self.hosts.push(None);
            u32::try_from(self.hosts.len() - 1).expect("hosts are fewer than 2^32")
        });
        if let Some(place) = self.hosts.get_mut(host as usize) {
            *place = Some(state);
        }
        self.by_spot.insert(spot(&id), host);
        host
    }

    /// A host is not at `link` any more, because it is elsewhere.
    fn replaced(&mut self, link: Link, host: u32, now_ms: u64, out: &mut Vec<Effect>) {
        let Some(seat) = self.at(link) else { return };
        match &mut seat.who {
            Sitting::Waiting(_) | Sitting::Host(_) => {
                seat.who = Sitting::Leaving;
                self.close(link, "another connection of this host took its place", now_ms, out);
            }
            Sitting::Relay(relay) | Sitting::Controller(relay) => {
                relay.hosts.remove(&host);
                relay.dirty.remove(&host);
            }
            Sitting::Unjudged(_) | Sitting::Leaving => {}
        }
    }

    /// A host is gone from `link`, unless it is elsewhere by now.
    fn leave(&mut self, host: u32, link: Link) {
        let Some(place) = self.hosts.get_mut(host as usize) else { return };
        if place.as_ref().is_some_and(|state| state.link == link)
            && let Some(state) = place.take()
        {
            self.by_spot.remove(spot(&state.id), host);
            self.free_hosts.push(host);
            self.reporter.gone(host, &state.id);
        }
    }

    /// The shell says that a connection is gone.
    pub(crate) fn closed(&mut self, link: Link) {
        if self.at(link).is_none() {
            return;
        }
        let Some((_, place)) = self.seats.get_mut(link.place as usize) else { return };
        let Some(seat) = place.take() else { return };
        self.open -= 1;
        self.free.push(link.place);
        self.relays.remove(&link.place);
        self.unjudged.remove(&link);
        match seat.who {
            Sitting::Waiting(host) | Sitting::Host(host) => self.leave(host, link),
            Sitting::Relay(relay) | Sitting::Controller(relay) => {
                relay.hosts.into_iter().for_each(|host| self.leave(host, link));
            }
            Sitting::Unjudged(_) | Sitting::Leaving => {}
        }
    }

    fn close(&mut self, link: Link, why: &'static str, _now_ms: u64, out: &mut Vec<Effect>) {
        if self.at(link).is_some() {
            self.closed(link);
            out.push(Effect::Close { link, why });
        }
    }

    fn nonsense(&mut self, link: Link, why: &'static str, now_ms: u64, out: &mut Vec<Effect>) {
        self.counts.nonsense += 1;
        self.close(link, why, now_ms, out);
    }

    fn say(&mut self, link: Link, say: Down, out: &mut Vec<Effect>) {
        self.send(link, Frame::of(say), out);
    }

    fn send(&mut self, link: Link, frame: Frame, out: &mut Vec<Effect>) {
        let bytes = frame.bytes();
        if let Some(seat) = self.at(link) {
            seat.unsent = seat.unsent.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
            self.counts.bytes_sent += bytes as u64;
            out.push(Effect::Send { link, frame });
        }
    }

    /// What is known here is all that there was to know at `as_of_ms`.
    pub(crate) fn proven(
        &mut self,
        as_of_ms: u64,
        now_ms: u64,
        source: &mut impl Source,
        out: &mut Vec<Effect>,
    ) {
        let proven_ms = self.proven_ms.map_or(as_of_ms, |proven| proven.max(as_of_ms));
        self.proven_ms = Some(proven_ms);
        let mut links = self.judge(proven_ms, now_ms, source, out);
        let unproven = std::mem::take(&mut self.unproven).into_iter();
        links.extend(unproven.filter_map(|host| self.mark(host)));
        links.sort_unstable();
        links.dedup();
        links.into_iter().for_each(|link| self.pump(link, now_ms, source, out));
    }

    fn relay(&mut self, link: Link) -> Option<&mut Relay> {
        match &mut self.at(link)?.who {
            Sitting::Relay(relay) | Sitting::Controller(relay) => Some(relay),
            Sitting::Waiting(_) | Sitting::Host(_) | Sitting::Unjudged(_) | Sitting::Leaving => {
                None
            }
        }
    }

    /// The manifest of a host at a relay is of no interest there any more.
    fn unassigned(&mut self, link: Link, host: u32, now_ms: u64) {
        let state = self.hosts.get_mut(host as usize).and_then(Option::as_mut);
        let Some(manifest) = state.and_then(|state| state.manifest.take()) else { return };
        if let Some(relay) = self.relay(link) {
            relay.kept.remove(&manifest, now_ms);
        }
    }

    /// The shell has written all that it was given for a connection.
    pub(crate) fn written(
        &mut self,
        link: Link,
        now_ms: u64,
        source: &mut impl Source,
        out: &mut Vec<Effect>,
    ) {
        if let Some(seat) = self.at(link) {
            seat.unsent = 0;
            self.pump(link, now_ms, source, out);
        }
    }

    /// Hosts may have other targets now.
    pub(crate) fn retarget<'a>(
        &mut self,
        ids: impl Iterator<Item = &'a str>,
        now_ms: u64,
        source: &mut impl Source,
        out: &mut Vec<Effect>,
    ) {
        let mut links = BTreeSet::new();
        for id in ids {
            if let Some(host) = self.number(id) {
                self.changed(host, now_ms);
                links.extend(self.mark(host));
            }
        }
        links.into_iter().for_each(|link| self.pump(link, now_ms, source, out));
    }

    /// All hosts may have other targets now.
    pub(crate) fn retarget_all(
        &mut self,
        now_ms: u64,
        source: &mut impl Source,
        out: &mut Vec<Effect>,
    ) {
        let hosts = u32::try_from(self.hosts.len()).expect("hosts are fewer than 2^32");
        (0..hosts).for_each(|host| self.changed(host, now_ms));
        let mut links: Vec<Link> = (0..hosts).filter_map(|host| self.mark(host)).collect();
        links.sort_unstable();
        links.dedup();
        links.into_iter().for_each(|link| self.pump(link, now_ms, source, out));
    }

    /// A host may have another target from now on.
    fn changed(&mut self, host: u32, now_ms: u64) {
        let Some(state) = self.hosts.get_mut(host as usize).and_then(Option::as_mut) else {
            return;
        };
        if state.is_told() && state.changed_ms == 0 {
            state.changed_ms = now_ms.max(1);
        }
    }

    fn mark(&mut self, host: u32) -> Option<Link> {
        let link = self.hosts.get(host as usize)?.as_ref()?.link;
        let seat = self.at(link)?;
        match &mut seat.who {
            Sitting::Host(_) => seat.dirty = true,
            Sitting::Relay(relay) => {
                relay.dirty.insert(host);
                seat.dirty = true;
            }
            // Nobody is told anything there, and what it says is compared with what is known here.
            Sitting::Controller(controller) => {
                controller.dirty.insert(host);
                seat.dirty = true;
            }
            // Who has not said hello is told afterwards.
            Sitting::Waiting(_) | Sitting::Unjudged(_) | Sitting::Leaving => return None,
        }
        Some(link)
    }

    /// A piece that was on its way is here, or lost.
    pub(crate) fn arrived(
        &mut self,
        digest: &Digest,
        now_ms: u64,
        source: &mut impl Source,
        out: &mut Vec<Effect>,
    ) {
        for link in self.waiting.remove(digest).unwrap_or_default() {
            self.pump(link, now_ms, source, out);
        }
    }

    /// Time passed: connections that are silent end.
    pub(crate) fn tick(&mut self, now_ms: u64, source: &mut impl Source, out: &mut Vec<Effect>) {
        while let Some((_, host)) = self.again.pop_front_if(|(at, _)| *at <= now_ms) {
            if let Some(link) = self.mark(host) {
                self.pump(link, now_ms, source, out);
            }
        }
        if now_ms.saturating_sub(self.looked_ms) < LOOK_MS {
            return;
        }
        self.looked_ms = now_ms;
        self.along.tick(now_ms);
        self.put_off_late(now_ms, out);
        let (lost_ms, hello_ms) = (self.serve.lost_ms(), self.serve.hello_ms);
        let mut ends = Vec::new();
        for (place, (generation, seat)) in (0..).zip(&mut self.seats) {
            let Some(seat) = seat else { continue };
            let link = Link { place, generation: *generation };
            let until = |host: &u32| {
                let state = self.hosts.get(*host as usize).and_then(Option::as_ref);
                state.map_or(0, |state| {
                    state.heard_ms + if state.is_told() { lost_ms } else { lost_ms.max(UNTOLD_MS) }
                })
            };
            match &mut seat.who {
                Sitting::Waiting(_) if seat.opened_ms + hello_ms < now_ms => {
                    ends.push((link, "it said no hello"));
                }
                Sitting::Host(host) if until(host) < now_ms => {
                    ends.push((link, "it has said nothing for three beats"));
                }
                Sitting::Relay(relay) => relay.kept.tick(now_ms),
                Sitting::Waiting(_)
                | Sitting::Host(_)
                | Sitting::Controller(_)
                | Sitting::Unjudged(_)
                | Sitting::Leaving => {}
            }
        }
        for (link, why) in ends {
            self.close(link, why, now_ms, out);
        }
    }

    /// Relays that are connected here, by name; the first thousand.
    fn own_relays(&self) -> Vec<RelayAt> {
        let relay = |place: &u32| {
            let (_, seat) = self.seats.get(*place as usize)?;
            let Sitting::Relay(relay) = &seat.as_ref()?.who else { return None };
            let hosts = u32::try_from(relay.hosts.len()).unwrap_or(u32::MAX);
            Some(RelayAt { name: relay.name.clone(), hosts })
        };
        let mut relays: Vec<RelayAt> = self.relays.iter().filter_map(relay).collect();
        relays.sort_by(|a, b| a.name.cmp(&b.name));
        relays.truncate(RELAYS_MAX);
        relays
    }

    /// Names of relays that are connected here, and to controllers that tell us, with the number of hosts at each.
    pub(crate) fn relays(&self) -> Vec<(String, usize)> {
        let seats = self.seats.iter().filter_map(|(_, seat)| seat.as_ref());
        let told = seats.filter_map(|seat| match &seat.who {
            Sitting::Controller(controller) => Some(&controller.relays),
            Sitting::Relay(_)
            | Sitting::Waiting(_)
            | Sitting::Host(_)
            | Sitting::Unjudged(_)
            | Sitting::Leaving => None,
        });
        let all = self.own_relays().into_iter().chain(told.flatten().cloned());
        let mut relays: Vec<(String, usize)> =
            all.map(|relay| (relay.name, relay.hosts as usize)).collect();
        relays.sort();
        relays
    }
}

/// Makes room by an eighth and not by as much again: what is kept of each connection is most of what is kept.
fn grow<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        list.reserve_exact(64 + list.len() / 8);
    }
}
