//! Which events somebody wants to see.

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use verdict::{Direction, Verdict};

use crate::{
    prefix::{BadPrefix, Prefix},
    report::Seen,
    seeing::outputs::Told,
};

/// A verdict to look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Wanted {
    /// Allowed flows (while somebody asks for them they are reported one by one)
    Allowed,
    /// Denied ones
    Denied,
    /// Those that a rule in audit would deny
    WouldDeny,
}

/// A direction to look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Way {
    /// This host accepts
    In,
    /// This host connects
    Out,
}

/// What an event must have; everything that is given.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Args, Serialize, Deserialize, utoipa::IntoParams, ToSchema,
)]
#[serde(deny_unknown_fields)]
pub(crate) struct Filter {
    /// Only events with this verdict
    #[arg(long, value_enum)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) verdict: Option<Wanted>,
    /// Only those of a process: its name, path, id or unit
    #[arg(long, value_name = "NAME|PATH|PID|UNIT")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) process: Option<String>,
    /// Only those with a peer of this address or prefix
    #[arg(long, value_name = "ADDR[/LEN]")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) peer: Option<String>,
    /// Only those that a rule decided, or would have: its id
    #[arg(long, value_name = "ID")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rule: Option<String>,
    /// Only those of one direction
    #[arg(long, value_enum)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) direction: Option<Way>,
}

/// A filter that was understood.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sieve {
    filter: Filter,
    peer: Option<Prefix>,
}

impl Filter {
    /// Understands it.
    ///
    /// # Errors
    /// Where the peer is none.
    pub(crate) fn sieve(self) -> Result<Sieve, BadPrefix> {
        let peer = self.peer.as_deref().map(str::parse).transpose()?;
        Ok(Sieve { filter: self, peer })
    }
}

impl Sieve {
    /// Whether allowed flows are asked for by name.
    pub(crate) fn wants_allowed(&self) -> bool {
        self.filter.verdict == Some(Wanted::Allowed)
    }

    /// Whether it goes through. What happened to the policy or the programs has nothing to be filtered by, and goes
    /// through where everything does.
    pub(crate) fn passes(&self, told: &Told) -> bool {
        match told {
            Told::Event(seen) => self.passes_event(seen),
            Told::Flows(..) | Told::Notice(_) => self.filter == Filter::default(),
        }
    }

    fn passes_event(&self, seen: &Seen) -> bool {
        let Filter { verdict, process, peer: _, rule, direction } = &self.filter;
        let decision = seen.event.decision;
        let verdict_holds = verdict.is_none_or(|wanted| match wanted {
            Wanted::Allowed => decision.enforced.verdict == Verdict::Allow,
            Wanted::Denied => decision.enforced.verdict == Verdict::Deny,
            Wanted::WouldDeny => {
                decision.enforced.verdict == Verdict::Allow
                    && decision.would.verdict == Verdict::Deny
            }
        });
        let direction_holds = direction.is_none_or(|wanted| match wanted {
            Way::In => seen.event.direction == Direction::In,
            Way::Out => seen.event.direction == Direction::Out,
        });
        let rule_holds = rule.as_deref().is_none_or(|id| seen.rule.id == id || seen.would.id == id);
        let peer_holds = self.peer.as_ref().is_none_or(|prefix| {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.bits)).unwrap_or(0);
            seen.event.remote.address.bits() & mask == prefix.address.bits() & mask
        });
        verdict_holds
            && direction_holds
            && rule_holds
            && peer_holds
            && process.as_deref().is_none_or(|wanted| is_of(seen, wanted))
    }
}

fn is_of(seen: &Seen, wanted: &str) -> bool {
    let Some(owner) = seen.owner else { return false };
    seen.process_name().as_deref() == Some(wanted)
        || seen.exe.as_deref() == Some(wanted)
        || owner.pid.to_string() == wanted
        || seen.cgroup.as_deref().and_then(::agent::connections::place::unit).as_deref()
            == Some(wanted)
}
