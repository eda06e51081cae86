//! Those who must go, because their certificate is worth nothing any more.

use super::Desk;
use crate::{
    digest::Digest,
    serving::{
        Effect, Link,
        seat::{Seat, Sitting},
    },
};

impl Desk {
    /// Whether a host that is connected has shown one of these certificates, as far as that is judged here; a digest that
    /// only begins like another one is as unlikely as a guess of 64 bits.
    pub(crate) fn shows(&self, id: &str, certificates: &[Digest]) -> bool {
        let shown = self.host(id).map_or(0, |state| state.shown);
        shown == 0 || certificates.iter().any(|it| beginning(it) == shown)
    }

    /// A host must go, and may come again.
    pub(crate) fn expel(
        &mut self,
        id: &str,
        why: &'static str,
        now_ms: u64,
        out: &mut Vec<Effect>,
    ) {
        let Some(host) = self.number(id) else { return };
        let state = self.hosts.get(host as usize).and_then(Option::as_ref);
        let Some(link) = state.map(|state| state.link) else { return };
        let Some(relay) = self.relay(link) else { return self.close(link, why, now_ms, out) };
        relay.hosts.remove(&host);
        relay.dirty.remove(&host);
        relay.refused.insert(id.to_owned(), why.to_owned());
        self.unassigned(link, host, now_ms);
        self.leave(host, link);
        if let Some(seat) = self.at(link) {
            seat.dirty = true;
        }
    }

    /// A relay must go unless it has shown one of the `good` certificates, and may come again.
    pub(crate) fn expel_relay(
        &mut self,
        name: &str,
        good: &[Digest],
        now_ms: u64,
        out: &mut Vec<Effect>,
    ) {
        let is_good = |shown| good.iter().any(|it| beginning(it) == shown);
        let is_it = |seat: &Seat| matches!(&seat.who, Sitting::Relay(it) if it.name == name && !is_good(it.shown));
        let links: Vec<Link> = (0..)
            .zip(&self.seats)
            .filter(|(_, (_, seat))| seat.as_ref().is_some_and(is_it))
            .map(|(place, (generation, _))| Link { place, generation: *generation })
            .collect();
        for link in links {
            self.close(link, "its certificate is worth nothing any more", now_ms, out);
        }
    }
}

/// The beginning of a certificate's digest, which is never 0.
pub(in crate::serving) fn beginning(certificate: &Digest) -> u64 {
    certificate.0.first_chunk().map_or(1, |first| u64::from_le_bytes(*first).max(1))
}
