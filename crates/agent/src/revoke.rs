//! Which existing connections a new image ends: exactly those that the old image allowed, the new one denies, and whose
//! rule (or the person who applies it) says so. Pure.
//!
//! A connection is judged as if it were made again: in the direction in which it was made, by whom the kernel would
//! judge now. What stays allowed in front of all rules (the failsafe set) or behind them (loopback) is allowed by the new
//! image and so never selected.

use image::At;
use verdict::{Direction, Endpoint, Judgement, RuleNumber, layout::RULE_REVOKE, rule_flags};

use crate::connections::{Connection, Connections, Judged, Scope};

/// What happens to existing connections that are newly denied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// As each rule says: `existing revoke`, else they stay.
    #[default]
    ByRule,
    /// All stay, whatever rules say.
    Keep,
    /// All end, whatever rules say.
    Revoke,
}

/// A swap of images, as it concerns existing connections.
#[derive(Clone, Copy, Debug)]
pub struct Swap<'a> {
    /// The image that was in force, at a moment when it was; without one everything was allowed.
    pub old: Option<At<'a>>,
    /// The image that takes its place, now.
    pub new: At<'a>,
    /// What came into force since, where that is another image: what it allows does not end.
    pub since: Option<At<'a>>,
    /// What was asked for.
    pub existing: Existing,
    /// Which sockets the firewall judges.
    pub scope: &'a Scope,
    /// Connections that are never ended, each by its two ends in either order: the session of the person who applies.
    pub protected: &'a [(Endpoint, Endpoint)],
}

/// A connection that is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// Its index in [`Connections::list`].
    pub connection: usize,
    /// The direction in which it is denied.
    pub direction: Direction,
    /// The rule that denies it, in the new image.
    pub rule: RuleNumber,
}

impl Swap<'_> {
    /// The connections that end, in the order of the list.
    pub fn revoked(&self, connections: &Connections) -> Vec<Revoked> {
        if self.existing == Existing::Keep {
            return Vec::new();
        }
        (0..)
            .zip(&connections.list)
            .filter_map(|(index, connection)| {
                let Judged { direction, judgement } = self.denial(connections, connection)?;
                Some(Revoked { connection: index, direction, rule: judgement.rule })
            })
            .collect()
    }

    /// The denial that ends a connection.
    fn denial(&self, connections: &Connections, connection: &Connection) -> Option<Judged> {
        if !connection.can_be_ended() || self.protects(connection) {
            return None;
        }
        let case = self.scope.case(connections, connection)?;
        let denied = case.turned(self.old.as_ref(), &self.new)?;
        if self.since.is_some_and(|image| !case.judge(&image).denies()) {
            return None;
        }
        let Judgement { rule, verdict: _ } = denied.judgement;
        let wanted = match self.existing {
            Existing::Keep => false,
            Existing::Revoke => true,
            Existing::ByRule => rule_flags(rule, &self.new) & RULE_REVOKE != 0,
        };
        (wanted && rule != RuleNumber::MALFORMED).then_some(denied)
    }

    fn protects(&self, connection: &Connection) -> bool {
        let (local, remote) = (connection.socket.local, connection.socket.remote);
        self.protected
            .iter()
            .any(|&(one, other)| (one, other) == (local, remote) || (other, one) == (local, remote))
    }
}

#[cfg(test)]
mod tests;
