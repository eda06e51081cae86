//! What hosts and relays are told.

use prost::Message;
use wire::sync::{
    Assigned as AssignedFrame, Assignment, Down, PART_BYTES_MAX, Part, Refused, Target,
};

use super::{Desk, Find, Source, Wanted};
use crate::{
    digest::Digest,
    serving::{
        Assigned, Effect, Frame, Link,
        contents::{Content, Naming},
        seat::{Seat, Sitting, Want},
    },
};

/// Bytes of one `Assigned`: one more manifest may follow.
const ASSIGNED_BYTES_MAX: usize = 64 << 10;
/// After how long a host is told again what it gave up, because a piece was lost: milliseconds.
const AGAIN_MS: u64 = 2_000;

impl Desk {
    /// Gives the shell what there is to say, as long as there is room.
    pub(super) fn pump(
        &mut self,
        link: Link,
        now_ms: u64,
        source: &mut impl Source,
        out: &mut Vec<Effect>,
    ) {
        loop {
            let max = self.serve.unsent_max;
            let Some(seat) = self.at(link) else { return };
            if max <= seat.unsent as usize {
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
                    Sitting::Waiting(_) | Sitting::Unjudged(_) | Sitting::Leaving => {
                        seat.dirty = false;
                    }
                }
                continue;
            }
            let Some(want) = seat.wants.as_mut().and_then(|wants| wants.pop_front()) else {
                seat.wants = None;
                return;
            };
            if !self.answer(link, &want, now_ms, source, out) {
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
        if !self.may_tell(host) {
            return;
        }
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
                let Some(state) = state else { return };
                if state.has_been_told(assigned.digest) {
                    return;
                }
                if state.hello.as_ref().is_some_and(|it| *it.enforced == assigned.digest.0) {
                    return self.same(link, host, &assigned, now_ms, out);
                }
                state.hello = None;
                let had_another = state.is_told();
                state.tell(assigned.digest, now_ms);
                self.counts.targets_sent += 1;
                let shared = had_another.then(|| self.along.packed(&assigned, now_ms, source));
                let beat_ms = self.serve.beat_ms;
                let frame = match shared.flatten() {
                    Some(shared) => Frame::target_along(shared, &assigned, beat_ms),
                    None => Frame::target(&assigned, beat_ms),
                };
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
            if !self.may_tell(host) {
                continue;
            }
            let id = self.id(host);
            let assignment = match source.target(&id) {
                Wanted::Nothing => continue,
                Wanted::Refused(why) => {
                    self.unassigned(link, host, now_ms);
                    if let Some(relay) = self.relay(link) {
                        relay.hosts.remove(&host);
                    }
                    self.leave(host, link);
                    Assignment { host: id.to_string(), refused: why, ..Assignment::default() }
                }
                Wanted::Target(assigned) => {
                    let state = self.hosts.get_mut(host as usize).and_then(Option::as_mut);
                    if state.is_none_or(|state| state.has_been_told(assigned.digest)) {
                        continue;
                    }
                    self.counts.targets_sent += 1;
                    let manifests = frame.manifests.len();
                    let assignment = self.assigned(link, host, &assigned, now_ms, &mut frame);
                    if manifests < frame.manifests.len() {
                        bytes += assigned.manifest.len();
                        for piece in self.along.pieces(&assigned.manifest, now_ms, source) {
                            // Many manifests name the same ones.
                            if !frame.along.iter().any(|it| **it == *piece) {
                                bytes += piece.len();
                                frame.along.push(piece.to_vec());
                            }
                        }
                    }
                    assignment
                }
            };
            bytes += assignment.encoded_len();
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
        let content = self.contents.of(manifest, *manifest_digest);
        if let Some(relay) = self.relay(link) {
            if relay.kept.add(*manifest_digest, &content) {
                frame.manifests.push(manifest.to_vec());
            }
            // The relay forgets in the same order: the new one is counted before the old one goes.
            if let Some(before) = before {
                relay.kept.remove(&before, now_ms);
            }
        }
        Assignment {
            host: id,
            manifest: manifest_digest.0.to_vec(),
            me: me.clone(),
            refused: String::new(),
        }
    }

    /// A host gave its target up, because a piece of it is not here: whoever is above may have it soon.
    fn unsettle(&mut self, link: Link, now_ms: u64) {
        let Some(Seat { who: Sitting::Host(host), .. }) = self.at(link) else { return };
        let host = *host;
        if let Some(state) = self.hosts.get_mut(host as usize).and_then(Option::as_mut)
            && state.is_told()
        {
            state.told = Digest([0; 32]);
            self.again.push_back((now_ms + AGAIN_MS, host));
        }
    }

    /// Whether a piece is of what whoever is there should have, or the hosts that it carries.
    fn concerns(&mut self, link: Link, piece: &Digest, source: &mut impl Source) -> Naming {
        let Some(seat) = self.at(link) else { return Naming::Lost };
        let lists = match &seat.who {
            Sitting::Host(host) => {
                let host = *host;
                let id = self.id(host);
                let Some((manifest, digest)) = source.manifest(&id) else { return Naming::Lost };
                let Content { pieces, lists } = self.contents.of(&manifest, digest);
                if pieces.binary_search(piece).is_ok() {
                    return Naming::Named;
                }
                lists
            }
            Sitting::Relay(relay) if relay.kept.names(piece) => return Naming::Named,
            Sitting::Relay(relay) => relay.kept.lists(),
            // They ask for nothing.
            Sitting::Controller(_)
            | Sitting::Waiting(_)
            | Sitting::Unjudged(_)
            | Sitting::Leaving => return Naming::Unnamed,
        };
        self.contents.listed(&lists, piece, source)
    }

    /// A want is answered once a piece is here.
    fn wait(&mut self, link: Link, want: &Want, until: Digest) {
        let waiting = self.waiting.entry(until).or_default();
        if !waiting.contains(&link) {
            waiting.push(link);
        }
        if let Some(seat) = self.at(link) {
            seat.wants.get_or_insert_default().push_front(want.clone());
        }
    }

    /// Answers a want; false if that has to wait.
    fn answer(
        &mut self,
        link: Link,
        want: &Want,
        now_ms: u64,
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
        let concerns = self.concerns(link, digest, source);
        match concerns {
            Naming::Named => {}
            Naming::Coming(list) => {
                self.wait(link, want, list);
                return false;
            }
            Naming::Unnamed | Naming::Lost => {
                // Whether there is such a piece at all is nothing that they are told.
                part.lost = true;
                self.counts.foreign += u64::from(concerns == Naming::Unnamed);
                self.say(link, Down::Part(part), out);
                if concerns == Naming::Lost {
                    self.unsettle(link, now_ms);
                }
                return true;
            }
        }
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
                self.unsettle(link, now_ms);
                true
            }
            Find::Coming => {
                self.wait(link, want, *digest);
                false
            }
        }
    }

    /// A host says that it has what it should have: it is told that it does, and nothing more.
    fn same(
        &mut self,
        link: Link,
        host: u32,
        assigned: &Assigned,
        now_ms: u64,
        out: &mut Vec<Effect>,
    ) {
        let Some(state) = self.hosts.get_mut(host as usize).and_then(Option::as_mut) else {
            return;
        };
        let Some(hello) = state.hello.take() else { return };
        state.tell(assigned.digest, now_ms);
        state.stage = hello.stage();
        self.counts.same_sent += 1;
        self.reporter.said(host);
        let same = Target {
            same: assigned.digest.0.to_vec(),
            beat_ms: self.serve.beat_ms,
            ..Target::default()
        };
        self.say(link, Down::Target(same), out);
    }

    /// Whether a host may be told something: what it is told first must be no older than what it may have been told
    /// elsewhere before it came here. If not, it waits.
    fn may_tell(&mut self, host: u32) -> bool {
        let state = self.hosts.get(host as usize).and_then(Option::as_ref);
        let joined = state.filter(|state| !state.is_told()).map(|state| state.told_ms);
        let waits = matches!((joined, self.proven_ms), (Some(at), Some(proven)) if proven <= at);
        if waits {
            self.unproven.insert(host);
        }
        !waits
    }
}
