//! The machine that serves connections: hosts, and relays with theirs.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use prost::Message;
use wire::sync::{
    Assigned as AssignedFrame, Assignment, Beat, Carried, Down, Gathered, Hello, Later,
    PART_BYTES_MAX, Part, Progress, Refused, Said, Target, Up, Upward, Want as Wanting,
};

use super::{
    Assigned, Counts, Effect, Frame, Link, Peer, Reporter, Serve,
    seat::{HostState, Relay, Seat, Sitting, Want},
};
use crate::digest::Digest;

/// Pieces that one connection may have asked for and not got.
const WANTS_MAX: usize = 256;
/// The same of a relay.
const RELAY_WANTS_MAX: usize = 4_096;
/// Bytes of one `Assigned`: one more manifest may follow.
const ASSIGNED_BYTES_MAX: usize = 64 << 10;
/// How often all connections are looked at for those that are silent: milliseconds.
const LOOK_MS: u64 = 1_000;

/// Where targets and pieces come from.
pub(crate) trait Source {
    /// Whether a host may come in with this certificate.
    fn admits(&self, id: &str, certificate: &Digest) -> Result<Arc<str>, String>;
    /// Whether a relay may.
    fn admits_relay(&self, name: &str, certificate: &Digest) -> Result<(), String>;
    /// What a host should have.
    fn target(&mut self, id: &str) -> Wanted;
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
    numbers: BTreeMap<Arc<str>, u32>,
    /// Connections that wait for a piece that is on its way here.
    waiting: BTreeMap<Digest, Vec<Link>>,
    looked_ms: u64,
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
            numbers: BTreeMap::new(),
            waiting: BTreeMap::new(),
            looked_ms: now_ms,
            counts: Counts::default(),
            reporter: Reporter::default(),
        }
    }

    pub(crate) fn serve(&self) -> &Serve {
        &self.serve
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
        self.hosts.get(*self.numbers.get(id)? as usize)?.as_ref()
    }

    /// Bytes of what is kept of connections and hosts, ids shared with others left aside.
    pub(crate) fn bytes(&self) -> usize {
        let seats = self.seats.capacity() * size_of::<(u32, Option<Seat>)>();
        let hosts = self.hosts.capacity() * size_of::<Option<HostState>>();
        let free = (self.free.capacity() + self.free_hosts.capacity()) * size_of::<u32>();
        // Nodes of a B-tree are at least half full.
        let numbers = self.numbers.len() * 2 * size_of::<(Arc<str>, u32)>();
        let wants = |seat: &Seat| seat.wants.capacity() * size_of::<Want>();
        let wants: usize = self.seats.iter().filter_map(|(_, seat)| seat.as_ref()).map(wants).sum();
        seats + hosts + free + numbers + wants
    }

    /// Somebody has connected.
    pub(crate) fn opened(
        &mut self,
        peer: &Peer,
        now_ms: u64,
        source: &mut impl Source,
        out: &mut Vec<Effect>,
    ) -> Link {
        let full = self.serve.connections_max <= self.open;
        let link = self.seat(now_ms);
        if full {
            self.counts.refused += 1;
            let why = "all places are taken".to_owned();
            self.say(link, Down::Later(Later { after_ms: 5_000, why }), out);
            self.close(link, "all places are taken", now_ms, out);
            return link;
        }
        let admitted = match peer {
            Peer::Host { id, certificate } => match source.admits(id, certificate) {
                Ok(id) => {
                    let host = self.join(id, link, now_ms, out);
                    self.sits(link, Sitting::Waiting(host));
                    self.reporter.came(&self.id(host), *certificate);
                    Ok(())
                }
                Err(why) => Err(why),
            },
            Peer::Relay { name, certificate } => {
                let relay = Relay { name: name.clone(), ..Relay::default() };
                self.sits(link, Sitting::Relay(Box::new(relay)));
                source.admits_relay(name, certificate)
            }
            Peer::Controller { name } => {
                let relay = Relay { name: name.clone(), ..Relay::default() };
                self.sits(link, Sitting::Controller(Box::new(relay)));
                Ok(())
            }
        };
        if let Err(why) = admitted {
            self.counts.refused += 1;
            self.say(link, Down::Refused(Refused { why }), out);
            self.close(link, "it is not enrolled", now_ms, out);
        }
        link
    }

    fn seat(&mut self, now_ms: u64) -> Link {
        let seat = Seat {
            who: Sitting::Leaving,
            opened_ms: now_ms,
            unsent: 0,
            wants: VecDeque::new(),
            dirty: false,
        };
        self.open += 1;
        let place = self.free.pop().unwrap_or_else(|| {
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
        if let Some(&host) = self.numbers.get(&id) {
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
            self.hosts.push(None);
            u32::try_from(self.hosts.len() - 1).expect("hosts are fewer than 2^32")
        });
        if let Some(place) = self.hosts.get_mut(host as usize) {
            *place = Some(state);
        }
        self.numbers.insert(id, host);
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
            Sitting::Leaving => {}
        }
    }

    /// A host is gone from `link`, unless it is elsewhere by now.
    fn leave(&mut self, host: u32, link: Link) {
        let Some(place) = self.hosts.get_mut(host as usize) else { return };
        if place.as_ref().is_some_and(|state| state.link == link)
            && let Some(state) = place.take()
        {
            self.numbers.remove(&state.id);
            self.free_hosts.push(host);
            self.reporter.gone(&state.id);
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
        match seat.who {
            Sitting::Waiting(host) | Sitting::Host(host) => self.leave(host, link),
            Sitting::Relay(relay) | Sitting::Controller(relay) => {
                relay.hosts.into_iter().for_each(|host| self.leave(host, link));
            }
            Sitting::Leaving => {}
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
            seat.unsent += bytes;
            self.counts.bytes_sent += bytes as u64;
            out.push(Effect::Send { link, frame });
        }
    }

    /// Somebody said something.
    pub(crate) fn said(
        &mut self,
        link: Link,
        message: Upward,
        now_ms: u64,
        source: &mut impl Source,
        out: &mut Vec<Effect>,
    ) {
        let Some(seat) = self.at(link) else { return };
        let Some(say) = message.say else {
            return self.nonsense(link, "it said nothing that is known here", now_ms, out);
        };
        match (&seat.who, say) {
            (Sitting::Waiting(host), Up::Hello(hello)) => {
                let host = *host;
                seat.who = Sitting::Host(host);
                self.hello(link, host, &hello, now_ms, source, out);
            }
            (Sitting::Host(host), Up::Progress(progress)) => {
                let host = *host;
                self.progressed(host, &progress, now_ms);
            }
            (Sitting::Host(host), Up::Beat(beat)) => {
                let host = *host;
                self.beaten(host, beat, now_ms);
            }
            (Sitting::Host(_), Up::Want(want)) => {
                self.wants(link, &want, WANTS_MAX, now_ms, source, out);
            }
            (Sitting::Relay(_), Up::Want(want)) => {
                self.wants(link, &want, RELAY_WANTS_MAX, now_ms, source, out);
            }
            (Sitting::Relay(_) | Sitting::Controller(_), Up::Carried(carried)) => {
                self.carried(link, carried, now_ms, source, out);
            }
            (Sitting::Relay(_) | Sitting::Controller(_), Up::Gathered(gathered)) => {
                self.gathered(link, gathered, now_ms);
            }
            (Sitting::Leaving, _) => {}
            (Sitting::Waiting(_), _) => self.nonsense(link, "no hello came first", now_ms, out),
            (Sitting::Host(_), Up::Hello(_)) => {
                self.nonsense(link, "it said hello again", now_ms, out);
            }
            (Sitting::Host(_), Up::Carried(_) | Up::Gathered(_)) => {
                self.nonsense(link, "a host spoke for others", now_ms, out);
            }
            (
                Sitting::Relay(_) | Sitting::Controller(_),
                Up::Hello(_) | Up::Progress(_) | Up::Beat(_) | Up::Want(_),
            ) => self.nonsense(link, "a relay spoke as a host", now_ms, out),
        }
    }

    fn hello(
        &mut self,
        link: Link,
        host: u32,
        hello: &Hello,
        now_ms: u64,
        source: &mut impl Source,
        out: &mut Vec<Effect>,
    ) {
        let id = self.id(host);
        if let Wanted::Target(assigned) = source.target(&id)
            && assigned.digest.0 == *hello.enforced
            && let Some(state) = self.hosts.get_mut(host as usize).and_then(Option::as_mut)
        {
            state.tell(assigned.digest, now_ms);
            state.stage = hello.stage();
            self.counts.same_sent += 1;
            let progress = Progress {
                target: hello.enforced.clone(),
                stage: hello.stage,
                why: String::new(),
                snapshot: 0,
            };
            self.reporter.progress(&id, progress);
            let same = Target {
                same: assigned.digest.0.to_vec(),
                beat_ms: self.serve.beat_ms,
                ..Target::default()
            };
            return self.say(link, Down::Target(same), out);
        }
        if let Some(seat) = self.at(link) {
            seat.dirty = true;
        }
        self.pump(link, now_ms, source, out);
    }

    fn progressed(&mut self, host: u32, progress: &Progress, now_ms: u64) {
        let Some(state) = self.hosts.get_mut(host as usize).and_then(Option::as_mut) else {
            return;
        };
        if state.progress(progress, now_ms) {
            let id = Arc::clone(&state.id);
            self.reporter.progress(&id, progress.clone());
        }
    }

    fn beaten(&mut self, host: u32, beat: Beat, now_ms: u64) {
        let Some(state) = self.hosts.get_mut(host as usize).and_then(Option::as_mut) else {
            return;
        };
        state.beat(&beat, now_ms);
        let id = Arc::clone(&state.id);
        self.reporter.beat(&id, beat);
    }

    fn wants(
        &mut self,
        link: Link,
        want: &Wanting,
        max: usize,
        now_ms: u64,
        source: &mut impl Source,
        out: &mut Vec<Effect>,
    ) {
        let Wanting { digest, base, offset } = want;
        let base = if base.is_empty() { Some(None) } else { Digest::read(base).map(Some) };
        let (Some(digest), Some(base)) = (Digest::read(digest), base) else {
            return self.nonsense(link, "it wants what is no piece", now_ms, out);
        };
        let Some(seat) = self.at(link) else { return };
        if seat.wants.len() >= max {
            return self.nonsense(link, "it wants more at once than anybody needs", now_ms, out);
        }
        seat.wants.push_back(Want { digest, base, offset: *offset });
        self.pump(link, now_ms, source, out);
    }

    fn carried(
        &mut self,
        link: Link,
        carried: Carried,
        now_ms: u64,
        source: &mut impl Source,
        out: &mut Vec<Effect>,
    ) {
        for gone in carried.gone {
            let host = self.numbers.get(gone.as_str()).copied();
            let Some(relay) = self.relay(link) else { return };
            relay.refused.remove(&gone);
            if let Some(host) = host.filter(|host| relay.hosts.remove(host)) {
                relay.dirty.remove(&host);
                self.unassigned(link, host);
                self.leave(host, link);
            }
        }
        for came in carried.came {
            let certificate = Digest::read(&came.certificate);
            let admitted = certificate
                .ok_or_else(|| "it showed no certificate".to_owned())
                .and_then(|certificate| source.admits(&came.host, &certificate));
            match admitted {
                Ok(id) => {
                    let host = self.join(Arc::clone(&id), link, now_ms, out);
                    let relayed = self.at(link).is_some_and(|seat| seat.is_relay());
                    if let Some(certificate) = certificate.filter(|_| relayed) {
                        self.reporter.came(&id, certificate);
                    }
                    if let Some(relay) = self.relay(link) {
                        relay.refused.remove(&came.host);
                        relay.hosts.insert(host);
                        relay.dirty.insert(host);
                    }
                }
                Err(why) => {
                    self.counts.refused += 1;
                    if let Some(relay) = self.relay(link) {
                        relay.refused.insert(came.host, why);
                    }
                }
            }
        }
        if let Some(seat) = self.at(link) {
            seat.dirty = true;
        }
        self.pump(link, now_ms, source, out);
    }

    fn relay(&mut self, link: Link) -> Option<&mut Relay> {
        match &mut self.at(link)?.who {
            Sitting::Relay(relay) | Sitting::Controller(relay) => Some(relay),
            Sitting::Waiting(_) | Sitting::Host(_) | Sitting::Leaving => None,
        }
    }

    /// The manifest of a host at a relay is of no interest there any more.
    fn unassigned(&mut self, link: Link, host: u32) {
        let state = self.hosts.get_mut(host as usize).and_then(Option::as_mut);
        let Some(manifest) = state.and_then(|state| state.manifest.take()) else { return };
        if let Some(relay) = self.relay(link)
            && let Some(users) = relay.manifests.get_mut(&manifest)
        {
            *users -= 1;
            if *users == 0 {
                relay.manifests.remove(&manifest);
            }
        }
    }

    fn gathered(&mut self, link: Link, gathered: Gathered, now_ms: u64) {
        for Said { host, progress, beat } in gathered.said {
            let Some(&number) = self.numbers.get(host.as_str()) else { continue };
            // Of its own hosts only.
            if !self.relay(link).is_some_and(|relay| relay.hosts.contains(&number)) {
                continue;
            }
            if let Some(progress) = progress {
                self.progressed(number, &progress, now_ms);
            }
            if let Some(beat) = beat {
                self.beaten(number, beat, now_ms);
            }
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
        let mut links = std::collections::BTreeSet::new();
        for id in ids {
            if let Some(&host) = self.numbers.get(id) {
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
        let mut links: Vec<Link> = (0..hosts).filter_map(|host| self.mark(host)).collect();
        links.sort_unstable();
        links.dedup();
        links.into_iter().for_each(|link| self.pump(link, now_ms, source, out));
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
            Sitting::Waiting(_) | Sitting::Leaving => return None,
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

    /// Gives the shell what there is to say, as long as there is room.
    fn pump(&mut self, link: Link, now_ms: u64, source: &mut impl Source, out: &mut Vec<Effect>) {
        loop {
            let max = self.serve.unsent_max;
            let Some(seat) = self.at(link) else { return };
            if max <= seat.unsent {
                return;
            }
            if seat.dirty {
                match &seat.who {
                    Sitting::Host(host) => {
                        let host = *host;
                        seat.dirty = false;
                        self.tell(link, host, now_ms, source, out);
                    }
                    Sitting::Relay(_) => self.assign(link, now_ms, source, out),
                    Sitting::Controller(_) => self.compare(link, now_ms, source),
                    Sitting::Waiting(_) | Sitting::Leaving => seat.dirty = false,
                }
                continue;
            }
            let Some(want) = seat.wants.pop_front() else {
                seat.wants.shrink_to_fit();
                return;
            };
            if !self.answer(link, &want, source, out) {
                return;
            }
        }
    }

    /// Tells a host its target, unless it was told.
    fn tell(
        &mut self,
        link: Link,
        host: u32,
        now_ms: u64,
        source: &mut impl Source,
        out: &mut Vec<Effect>,
    ) {
        let id = self.id(host);
        match source.target(&id) {
            Wanted::Nothing => {}
            Wanted::Refused(why) => {
                self.counts.refused += 1;
                self.say(link, Down::Refused(Refused { why }), out);
                self.close(link, "it is not enrolled any more", now_ms, out);
            }
            Wanted::Target(assigned) => {
                let state = self.hosts.get_mut(host as usize).and_then(Option::as_mut);
                let Some(state) = state.filter(|state| state.told != assigned.digest) else {
                    return;
                };
                state.tell(assigned.digest, now_ms);
                self.counts.targets_sent += 1;
                let frame = Frame::target(&assigned, self.serve.beat_ms);
                self.send(link, frame, out);
            }
        }
    }

    /// Works out what the hosts at another controller should have.
    fn compare(&mut self, link: Link, now_ms: u64, source: &mut impl Source) {
        let Some(seat) = self.at(link) else { return };
        seat.dirty = false;
        let Some(controller) = self.relay(link) else { return };
        for host in std::mem::take(&mut controller.dirty) {
            let id = self.id(host);
            if let Wanted::Target(assigned) = source.target(&id)
                && let Some(state) = self.hosts.get_mut(host as usize).and_then(Option::as_mut)
            {
                state.tell(assigned.digest, now_ms);
            }
        }
    }

    /// Tells a relay what some of its hosts should have.
    fn assign(&mut self, link: Link, now_ms: u64, source: &mut impl Source, out: &mut Vec<Effect>) {
        let mut frame = AssignedFrame::default();
        let mut bytes = 0;
        while bytes < ASSIGNED_BYTES_MAX {
            let Some(relay) = self.relay(link) else { return };
            if let Some((host, why)) = relay.refused.pop_first() {
                bytes += host.len() + why.len();
                frame.hosts.push(Assignment { host, refused: why, ..Assignment::default() });
                continue;
            }
            let Some(host) = relay.dirty.pop_first() else {
                if let Some(seat) = self.at(link) {
                    seat.dirty = false;
                }
                break;
            };
            let id = self.id(host);
            let assignment = match source.target(&id) {
                Wanted::Nothing => continue,
                Wanted::Refused(why) => {
                    self.unassigned(link, host);
                    if let Some(relay) = self.relay(link) {
                        relay.hosts.remove(&host);
                    }
                    self.leave(host, link);
                    Assignment { host: id.to_string(), refused: why, ..Assignment::default() }
                }
                Wanted::Target(assigned) => {
                    let state = self.hosts.get_mut(host as usize).and_then(Option::as_mut);
                    if state.is_none_or(|state| state.told == assigned.digest) {
                        continue;
                    }
                    self.counts.targets_sent += 1;
                    self.assigned(link, host, &assigned, now_ms, &mut frame)
                }
            };
            bytes += assignment.encoded_len();
            bytes += frame.manifests.last().map_or(0, Vec::len);
            frame.hosts.push(assignment);
        }
        if !frame.hosts.is_empty() {
            self.say(link, Down::Assigned(frame), out);
        }
    }

    fn assigned(
        &mut self,
        link: Link,
        host: u32,
        assigned: &Assigned,
        now_ms: u64,
        frame: &mut AssignedFrame,
    ) -> Assignment {
        let Assigned { manifest, manifest_digest, me, digest } = assigned;
        let mut before = None;
        let mut id = String::new();
        if let Some(state) = self.hosts.get_mut(host as usize).and_then(Option::as_mut) {
            state.tell(*digest, now_ms);
            before = state.manifest.take();
            state.manifest = Some(Box::new(*manifest_digest));
            id.push_str(&state.id);
        }
        if let Some(relay) = self.relay(link) {
            let users = relay.manifests.entry(*manifest_digest).or_default();
            if *users == 0 {
                frame.manifests.push(manifest.to_vec());
            }
            *users += 1;
            // The relay forgets in the same order: the new one is counted before the old one goes.
            if let Some(before) = before
                && let Some(users) = relay.manifests.get_mut(&*before)
            {
                *users -= 1;
                if *users == 0 {
                    relay.manifests.remove(&*before);
                }
            }
        }
        Assignment {
            host: id,
            manifest: manifest_digest.0.to_vec(),
            me: me.clone(),
            refused: String::new(),
        }
    }

    /// Answers a want; false if that has to wait.
    fn answer(
        &mut self,
        link: Link,
        want: &Want,
        source: &mut impl Source,
        out: &mut Vec<Effect>,
    ) -> bool {
        let Want { digest, base, offset } = want;
        let mut part = Part {
            digest: digest.0.to_vec(),
            offset: *offset,
            total: 0,
            bytes: Vec::new(),
            base: Vec::new(),
            lost: false,
        };
        if let Some(base) = base.as_ref().filter(|_| *offset == 0)
            && let Some(bytes) = source.difference(base, digest)
            && bytes.len() <= PART_BYTES_MAX
        {
            part.total = bytes.len() as u64;
            part.base = base.0.to_vec();
            let all = 0..bytes.len();
            self.counts.differences_sent += 1;
            self.send(link, Frame::part(&part, bytes, all), out);
            return true;
        }
        match source.piece(digest) {
            Find::Here(bytes) => {
                part.total = bytes.len() as u64;
                let from = usize::try_from(*offset).unwrap_or(usize::MAX).min(bytes.len());
                let until = from.saturating_add(PART_BYTES_MAX).min(bytes.len());
                self.counts.parts_sent += 1;
                self.send(link, Frame::part(&part, bytes, from..until), out);
                true
            }
            Find::Lost => {
                part.lost = true;
                self.say(link, Down::Part(part), out);
                true
            }
            Find::Coming => {
                let waiting = self.waiting.entry(*digest).or_default();
                if !waiting.contains(&link) {
                    waiting.push(link);
                }
                if let Some(seat) = self.at(link) {
                    seat.wants.push_front(want.clone());
                }
                false
            }
        }
    }

    /// Time passed: connections that are silent end.
    pub(crate) fn tick(&mut self, now_ms: u64, out: &mut Vec<Effect>) {
        if now_ms.saturating_sub(self.looked_ms) < LOOK_MS {
            return;
        }
        self.looked_ms = now_ms;
        let (lost_ms, hello_ms) = (self.serve.lost_ms(), self.serve.hello_ms);
        let mut ends = Vec::new();
        for (place, (generation, seat)) in (0..).zip(&self.seats) {
            let Some(seat) = seat else { continue };
            let link = Link { place, generation: *generation };
            let heard = |host: &u32| {
                let state = self.hosts.get(*host as usize).and_then(Option::as_ref);
                state.map_or(0, |state| state.heard_ms)
            };
            match &seat.who {
                Sitting::Waiting(_) if seat.opened_ms + hello_ms < now_ms => {
                    ends.push((link, "it said no hello"));
                }
                Sitting::Host(host) if heard(host) + lost_ms < now_ms => {
                    ends.push((link, "it has said nothing for three beats"));
                }
                Sitting::Waiting(_)
                | Sitting::Host(_)
                | Sitting::Relay(_)
                | Sitting::Controller(_)
                | Sitting::Leaving => {}
            }
        }
        for (link, why) in ends {
            self.close(link, why, now_ms, out);
        }
    }

    /// A host must go, and may come again.
    pub(crate) fn expel(
        &mut self,
        id: &str,
        why: &'static str,
        now_ms: u64,
        out: &mut Vec<Effect>,
    ) {
        let Some(&host) = self.numbers.get(id) else { return };
        let state = self.hosts.get(host as usize).and_then(Option::as_ref);
        let Some(link) = state.map(|state| state.link) else { return };
        let Some(relay) = self.relay(link) else { return self.close(link, why, now_ms, out) };
        relay.hosts.remove(&host);
        relay.dirty.remove(&host);
        relay.refused.insert(id.to_owned(), why.to_owned());
        self.unassigned(link, host);
        self.leave(host, link);
        if let Some(seat) = self.at(link) {
            seat.dirty = true;
        }
    }

    /// A relay must go, and may come again.
    pub(crate) fn expel_relay(&mut self, name: &str, now_ms: u64, out: &mut Vec<Effect>) {
        let is_it = |seat: &Seat| matches!(&seat.who, Sitting::Relay(it) if it.name == name);
        let links: Vec<Link> = (0..)
            .zip(&self.seats)
            .filter(|(_, (_, seat))| seat.as_ref().is_some_and(is_it))
            .map(|(place, (generation, _))| Link { place, generation: *generation })
            .collect();
        for link in links {
            self.close(link, "its certificate is worth nothing any more", now_ms, out);
        }
    }

    /// Names of relays that are connected, with the number of hosts at each.
    pub(crate) fn relays(&self) -> Vec<(String, usize)> {
        let seats = self.seats.iter().filter_map(|(_, seat)| seat.as_ref());
        let relay = |seat: &Seat| match &seat.who {
            Sitting::Relay(relay) => Some((relay.name.clone(), relay.hosts.len())),
            Sitting::Controller(_) | Sitting::Waiting(_) | Sitting::Host(_) | Sitting::Leaving => {
                None
            }
        };
        seats.filter_map(relay).collect()
    }
}
