//! What hosts and relays say.

use wire::sync::{
    Beat, Carried, Gathered, Hello, Progress, RELAYS_MAX, Said, Up, Upward, Want as Wanting,
};

use super::{Desk, Source};
use crate::{
    digest::Digest,
    serving::{
        Effect, Link,
        seat::{Sitting, Want},
    },
};

/// Pieces that one connection may have asked for and not got.
const WANTS_MAX: usize = 256;
/// The same of a relay.
const RELAY_WANTS_MAX: usize = 4_096;

impl Desk {
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
        match (&mut seat.who, say) {
            (Sitting::Waiting(host), Up::Hello(hello)) => {
                let host = *host;
                self.greet(link, host, hello, now_ms, source, out);
            }
            (Sitting::Host(host), Up::Progress(progress)) => {
                let host = *host;
                self.progressed(host, &progress, now_ms, out);
            }
            (Sitting::Host(host), Up::Beat(beat)) => {
                let host = *host;
                self.beaten(host, &beat, now_ms, out);
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
                self.gathered(link, gathered, now_ms, out);
            }
            (Sitting::Controller(controller), Up::Relays(mut said)) => {
                said.relays.truncate(RELAYS_MAX);
                controller.relays = said.relays;
            }
            (Sitting::Unjudged(_), say) => self.said_unjudged(link, say),
            (Sitting::Leaving, _) => {}
            (Sitting::Waiting(_), _) => self.nonsense(link, "no hello came first", now_ms, out),
            (Sitting::Host(_), Up::Hello(_)) => {
                self.nonsense(link, "it said hello again", now_ms, out);
            }
            (Sitting::Host(_), Up::Carried(_) | Up::Gathered(_) | Up::Relays(_)) => {
                self.nonsense(link, "a host spoke for others", now_ms, out);
            }
            (
                Sitting::Relay(_) | Sitting::Controller(_),
                Up::Hello(_) | Up::Progress(_) | Up::Beat(_) | Up::Want(_),
            ) => self.nonsense(link, "a relay spoke as a host", now_ms, out),
            (Sitting::Relay(_), Up::Relays(_)) => {
                self.nonsense(link, "a relay spoke for others", now_ms, out);
            }
        }
    }

    /// A host says hello.
    pub(super) fn greet(
        &mut self,
        link: Link,
        host: u32,
        hello: Hello,
        now_ms: u64,
        source: &mut impl Source,
        out: &mut Vec<Effect>,
    ) {
        if let Some(state) = self.hosts.get_mut(host as usize).and_then(Option::as_mut) {
            state.hello = Some(Box::new(hello));
        }
        if let Some(seat) = self.at(link) {
            seat.who = Sitting::Host(host);
            seat.dirty = true;
        }
        self.pump(link, now_ms, source, out);
    }

    /// Somebody who is not judged yet: only a host's first word counts, and the rest it says again.
    fn said_unjudged(&mut self, link: Link, say: Up) {
        if let Some(seat) = self.at(link)
            && let Sitting::Unjudged(unjudged) = &mut seat.who
            && let Up::Hello(hello) = say
        {
            unjudged.hello.get_or_insert(hello);
        }
    }

    fn progressed(&mut self, host: u32, progress: &Progress, now_ms: u64, out: &mut Vec<Effect>) {
        let Some(state) = self.hosts.get_mut(host as usize).and_then(Option::as_mut) else {
            return;
        };
        if state.progress(progress, now_ms) {
            out.extend(state.followed(now_ms).map(|after_ms| Effect::Enforced { after_ms }));
            self.reporter.said(host);
        }
    }

    fn beaten(&mut self, host: u32, beat: &Beat, now_ms: u64, out: &mut Vec<Effect>) {
        let Some(state) = self.hosts.get_mut(host as usize).and_then(Option::as_mut) else {
            return;
        };
        state.beat(beat, now_ms);
        out.extend(state.followed(now_ms).map(|after_ms| Effect::Enforced { after_ms }));
        self.reporter.said(host);
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
        let wants = seat.wants.get_or_insert_default();
        if wants.len() >= max {
            return self.nonsense(link, "it wants more at once than anybody needs", now_ms, out);
        }
        wants.push_back(Want { digest, base, offset: *offset });
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
            let host = self.number(&gone);
            let Some(relay) = self.relay(link) else { return };
            relay.refused.remove(&gone);
            relay.unjudged.remove(&gone);
            if let Some(host) = host.filter(|host| relay.hosts.remove(host)) {
                relay.dirty.remove(&host);
                self.unassigned(link, host, now_ms);
                self.leave(host, link);
            }
        }
        for came in carried.came {
            let certificate = Digest::read(&came.certificate);
            self.carry(link, came.host, certificate, now_ms, source, out);
        }
        if let Some(seat) = self.at(link) {
            seat.dirty = true;
        }
        self.pump(link, now_ms, source, out);
    }

    fn gathered(&mut self, link: Link, gathered: Gathered, now_ms: u64, out: &mut Vec<Effect>) {
        for Said { host, progress, beat } in gathered.said {
            let Some(number) = self.number(&host) else { continue };
            // Of its own hosts only.
            if !self.relay(link).is_some_and(|relay| relay.hosts.contains(&number)) {
                continue;
            }
            if let Some(progress) = progress {
                self.progressed(number, &progress, now_ms, out);
            }
            if let Some(beat) = beat {
                self.beaten(number, &beat, now_ms, out);
            }
        }
    }
}
