//! Who may come in. Where what is known here may be behind what the store holds, somebody who is not known, or shows
//! another certificate than is known, may only not have been heard of yet: whoever is enrolled or renewed has its
//! certificate once that is in the store. So such a one waits until it is shown that all is known here that the store held
//! when it came, and is judged then. While that is not shown, it is put off and goes to another controller; it is never
//! refused for what may be over.

use wire::sync::{Down, Hello, Later, Refused};

use super::{Desk, Source};
use crate::{
    digest::Digest,
    serving::{
        Effect, Link, Peer,
        seat::{Relay, Sitting, Unjudged},
    },
};

/// How long somebody waits to be judged: milliseconds. What is known is shown to be all some times in that.
const UNJUDGED_MS: u64 = 2_000;
/// Connections that wait so: whoever was removed has a certificate still, and can come again and again.
const UNJUDGED_MAX: usize = 1_024;
/// After how long whoever is put off may come again: milliseconds.
const AGAIN_MS: u64 = 1_000;
/// The same where there is no room.
const FULL_MS: u64 = 5_000;

impl Desk {
    /// Somebody has connected.
    pub(crate) fn opened(
        &mut self,
        peer: &Peer,
        now_ms: u64,
        source: &impl Source,
        out: &mut Vec<Effect>,
    ) -> Link {
        let full = self.serve.connections_max <= self.open;
        let link = self.seat(now_ms);
        if full {
            self.put_off(link, FULL_MS, "all places are taken", now_ms, out);
        } else if let Err(why) = self.admit(link, peer, now_ms, source, out) {
            if self.proven_ms.is_none() {
                self.refuse(link, why, now_ms, out);
            } else if UNJUDGED_MAX <= self.unjudged.len() {
                self.put_off(link, AGAIN_MS, "too many are unknown here", now_ms, out);
            } else {
                let unjudged = Unjudged { peer: peer.clone(), hello: None };
                self.sits(link, Sitting::Unjudged(Box::new(unjudged)));
                self.unjudged.insert(link);
            }
        }
        link
    }

    /// Takes somebody in who came at `came_ms`.
    ///
    /// # Errors
    /// If they may not come in, as far as is known here; why.
    fn admit(
        &mut self,
        link: Link,
        peer: &Peer,
        came_ms: u64,
        source: &impl Source,
        out: &mut Vec<Effect>,
    ) -> Result<(), String> {
        match peer {
            Peer::Host { id, certificate } => {
                let id = source.admits(id, certificate)?;
                let host = self.join(id, link, came_ms, out);
                self.sits(link, Sitting::Waiting(host));
                self.showed(host, *certificate);
            }
            Peer::Relay { name, certificate } => {
                source.admits_relay(name, certificate)?;
                let relay = Relay::of(name.clone(), Some(certificate));
                self.sits(link, Sitting::Relay(Box::new(relay)));
                self.relays.insert(link.place);
            }
            Peer::Controller { name } => {
                let controller = Relay::of(name.clone(), None);
                self.sits(link, Sitting::Controller(Box::new(controller)));
            }
        }
        Ok(())
    }

    /// They may not come in.
    fn refuse(&mut self, link: Link, why: String, now_ms: u64, out: &mut Vec<Effect>) {
        self.counts.refused += 1;
        self.say(link, Down::Refused(Refused { why }), out);
        self.close(link, "it is not enrolled", now_ms, out);
    }

    /// They may come again later.
    fn put_off(
        &mut self,
        link: Link,
        after_ms: u64,
        why: &'static str,
        now_ms: u64,
        out: &mut Vec<Effect>,
    ) {
        self.counts.put_off += 1;
        self.say(link, Down::Later(Later { after_ms, why: why.to_owned() }), out);
        self.close(link, why, now_ms, out);
    }

    /// A host at a relay, or at another controller, which has judged it. Those who are unknown wait there.
    pub(super) fn carry(
        &mut self,
        link: Link,
        id: String,
        certificate: Option<Digest>,
        now_ms: u64,
        source: &impl Source,
        out: &mut Vec<Effect>,
    ) {
        let may_be_late = self.proven_ms.is_some();
        match self.carried_by(link, &id, certificate, now_ms, source, out) {
            Ok(()) => {}
            Err(_unknown) if may_be_late => {
                let most = self.serve.connections_max;
                let Some(relay) = self.relay(link) else { return };
                if most <= relay.unjudged.len() {
                    return self.nonsense(link, "it has more hosts than can be", now_ms, out);
                }
                relay.unjudged.insert(id, (certificate, now_ms));
                self.unjudged.insert(link);
            }
            Err(why) => self.refuse_carried(link, id, why),
        }
    }

    fn carried_by(
        &mut self,
        link: Link,
        id: &str,
        certificate: Option<Digest>,
        came_ms: u64,
        source: &impl Source,
        out: &mut Vec<Effect>,
    ) -> Result<(), String> {
        let relayed = self.at(link).is_some_and(|seat| seat.is_relay());
        let known = if relayed {
            let certificate = certificate.ok_or_else(|| "it showed no certificate".to_owned())?;
            source.admits(id, &certificate)?
        } else {
            source.knows(id)?
        };
        let host = self.join(known, link, came_ms, out);
        if let Some(certificate) = certificate.filter(|_| relayed) {
            self.showed(host, certificate);
        }
        if let Some(relay) = self.relay(link) {
            relay.refused.remove(id);
            relay.unjudged.remove(id);
            relay.hosts.insert(host);
            relay.dirty.insert(host);
        }
        Ok(())
    }

    fn refuse_carried(&mut self, link: Link, id: String, why: String) {
        self.counts.refused += 1;
        if let Some(relay) = self.relay(link) {
            relay.unjudged.remove(&id);
            relay.refused.insert(id, why);
        }
    }

    /// Judges those who came before `proven_ms`, of which all is known here now. To whom there may be something to say then.
    pub(super) fn judge(
        &mut self,
        proven_ms: u64,
        now_ms: u64,
        source: &mut impl Source,
        out: &mut Vec<Effect>,
    ) -> Vec<Link> {
        let mut judged = Vec::new();
        for link in std::mem::take(&mut self.unjudged) {
            let Some(seat) = self.at(link) else { continue };
            let came_ms = seat.opened_ms;
            match &mut seat.who {
                Sitting::Unjudged(unjudged) if came_ms < proven_ms => {
                    let Unjudged { peer, hello } = (**unjudged).clone();
                    self.judge_one(link, &peer, hello, (came_ms, now_ms), source, out);
                }
                Sitting::Unjudged(_) => {
                    self.unjudged.insert(link);
                }
                Sitting::Relay(_) | Sitting::Controller(_) => {
                    self.judge_carried(link, proven_ms, source, out);
                    judged.push(link);
                }
                Sitting::Waiting(_) | Sitting::Host(_) | Sitting::Leaving => {}
            }
        }
        judged
    }

    fn judge_one(
        &mut self,
        link: Link,
        peer: &Peer,
        hello: Option<Hello>,
        (came_ms, now_ms): (u64, u64),
        source: &mut impl Source,
        out: &mut Vec<Effect>,
    ) {
        if let Err(why) = self.admit(link, peer, came_ms, source, out) {
            return self.refuse(link, why, now_ms, out);
        }
        let waiting = self.at(link).map(|seat| &seat.who);
        match (waiting, hello) {
            (Some(Sitting::Waiting(host)), Some(hello)) => {
                let host = *host;
                self.greet(link, host, hello, now_ms, source, out);
            }
            (Some(Sitting::Waiting(_)), None) | (None, _) => {}
            // What it said of its hosts was not heard: it says all of it when it comes again.
            (Some(_), _) => self.put_off(link, 0, "it was not known when it came", now_ms, out),
        }
    }

    fn judge_carried(
        &mut self,
        link: Link,
        proven_ms: u64,
        source: &impl Source,
        out: &mut Vec<Effect>,
    ) {
        let Some(relay) = self.relay(link) else { return };
        let due = relay.unjudged.iter().filter(|(_, (_, came_ms))| *came_ms < proven_ms);
        let due: Vec<_> = due.map(|(id, waits)| (id.clone(), *waits)).collect();
        for (id, (certificate, came_ms)) in due {
            if let Err(why) = self.carried_by(link, &id, certificate, came_ms, source, out) {
                self.refuse_carried(link, id, why);
            }
        }
        if self.relay(link).is_some_and(|relay| !relay.unjudged.is_empty()) {
            self.unjudged.insert(link);
        }
        if let Some(seat) = self.at(link) {
            seat.dirty = true;
        }
    }

    /// Time passed: whoever waits in vain goes where more may be known.
    pub(super) fn put_off_late(&mut self, now_ms: u64, out: &mut Vec<Effect>) {
        for link in self.unjudged.clone() {
            let late = self.at(link).is_some_and(|seat| {
                matches!(seat.who, Sitting::Unjudged(_)) && seat.opened_ms + UNJUDGED_MS <= now_ms
            });
            if late {
                let why = "it is not known here yet, and the store says nothing";
                self.put_off(link, AGAIN_MS, why, now_ms, out);
            }
        }
    }
}
