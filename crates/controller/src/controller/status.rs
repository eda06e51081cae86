//! How the fleet is: who has what they should have, who has not and why.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use wire::sync::{Stage, Stance};

use crate::{
    model::Model,
    records::{RolloutRecord, RolloutState},
    serving::{At, Desk, HostState},
    trials::{Failing, Trials},
    views::Views,
};

/// How the fleet is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// The version that is current.
    pub version: Option<u64>,
    /// When what vouches for it expires.
    pub fresh_until: Option<Timestamp>,
    /// When its timestamp was made or came, as far as it is known: when the version was applied.
    pub applied_at: Option<Timestamp>,
    /// Hosts that are enrolled.
    pub hosts: usize,
    /// Those that are connected, to whichever controller or relay is known of here.
    pub connected: usize,
    /// How far each version is that hosts should have.
    pub versions: Vec<Reached>,
    /// Who has not what it should have; the first thousand.
    pub laggards: Vec<Laggard>,
    /// Hosts that are shut off.
    pub quarantined: Vec<String>,
    /// The newest rollout.
    pub rollout: Option<RolloutStatus>,
    /// Tests of the policy that fail.
    pub failing: Vec<Failing>,
    /// Hosts on which tests fail, as they say themselves; the first thousand.
    pub failing_hosts: Vec<FailingHost>,
    /// Relays that are connected, and how many hosts are there.
    pub relays: Vec<(String, usize)>,
}

/// A host on which tests of the policy fail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailingHost {
    /// Which host.
    pub host: String,
    /// Which tests, and for each the first flow with another answer and the rule that gives it.
    pub failing: String,
}

/// How far a version is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reached {
    /// Which.
    pub version: u64,
    /// Hosts that should have it, or what concerns them of it.
    pub hosts: usize,
    /// Those that have not begun, or are not connected.
    pub pending: usize,
    /// Those that are on their way.
    pub in_progress: usize,
    /// Those that have it.
    pub realised: usize,
    /// Those that refuse it.
    pub refused: usize,
}

/// Who has not what it should have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Laggard {
    /// Which host.
    pub host: String,
    /// Which version it should have.
    pub version: u64,
    /// How it stands.
    pub state: Lagging,
    /// Why, as it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Seconds since it was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub told_s: Option<u64>,
}

/// How a host stands that has not what it should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lagging {
    /// It is not connected.
    NotConnected,
    /// It was told, and has said nothing.
    Told,
    /// It has every piece.
    Received,
    /// Its signatures are right.
    Verified,
    /// It refuses it.
    Refused,
    /// It has it, and nothing is enforced there.
    Open,
}

/// How a rollout stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RolloutStatus {
    /// Which.
    pub id: u64,
    /// The version before.
    pub from: u64,
    /// The version that is tried.
    pub to: u64,
    /// How it stands.
    pub state: RolloutState,
    /// When it ends by itself.
    pub confirm_until: Timestamp,
    /// How many hosts try it, while it is open.
    pub canaries: usize,
}

/// Laggards that are named.
const NAMED_MAX: usize = 1_000;

impl Status {
    pub(super) fn of(model: &Model, views: &Views, desk: &Desk, trials: &Trials, now: At) -> Self {
        let current = model.current();
        let rollout = model.rollout();
        let version = current.map(|current| current.version());
        let applied = version.and_then(|version| model.version(version));
        let mut status = Self {
            version,
            fresh_until: current.map(|current| current.last().fresh_until),
            applied_at: applied.map(|record| record.at),
            hosts: views.count(),
            connected: desk.hosts().count(),
            versions: Vec::new(),
            laggards: Vec::new(),
            quarantined: Vec::new(),
            rollout: rollout.map(|rollout| RolloutStatus::of(rollout, views)),
            failing: trials.failing().to_vec(),
            failing_hosts: desk.hosts().filter_map(FailingHost::of).take(NAMED_MAX).collect(),
            relays: desk.relays(),
        };
        status.failing_hosts.sort_by(|a, b| a.host.cmp(&b.host));
        let Some(version) = version else { return status };
        let mut reached: BTreeMap<u64, Reached> = BTreeMap::new();
        for host in views.hosts() {
            if host.quarantined {
                status.quarantined.push(host.id.to_string());
            }
            let tried = rollout.filter(|_| host.tries).map(RolloutRecord::to);
            let version = tried.unwrap_or(version);
            let of = reached.entry(version).or_insert(Reached { version, ..Reached::default() });
            of.hosts += 1;
            let state = desk.host(host.id);
            let Some(lagging) = of.count(state) else { continue };
            if status.laggards.len() < NAMED_MAX {
                status.laggards.push(Laggard {
                    host: host.id.to_string(),
                    version,
                    state: lagging,
                    why: state.and_then(HostState::why).map(str::to_owned),
                    told_s: state.map(|state| now.ms.saturating_sub(state.told_ms) / 1_000),
                });
            }
        }
        status.versions = reached.into_values().collect();
        status
    }

    /// Whether every host has what it should have.
    pub fn all_realised(&self) -> bool {
        self.versions.iter().all(|reached| reached.realised == reached.hosts)
    }
}

impl FailingHost {
    fn of(state: &HostState) -> Option<Self> {
        let failing = state.failing()?.to_owned();
        Some(Self { host: state.id.to_string(), failing })
    }
}

impl Reached {
    /// Counts a host; why it lags, if it does.
    fn count(&mut self, state: Option<&HostState>) -> Option<Lagging> {
        let Some(state) = state else {
            self.pending += 1;
            return Some(Lagging::NotConnected);
        };
        let (counted, lagging) = match state.stage {
            Stage::Unknown => (&mut self.pending, Lagging::Told),
            Stage::Received => (&mut self.in_progress, Lagging::Received),
            Stage::Verified => (&mut self.in_progress, Lagging::Verified),
            Stage::Refused => (&mut self.refused, Lagging::Refused),
            Stage::Trial | Stage::Enforced if state.stance == Stance::Open => {
                (&mut self.pending, Lagging::Open)
            }
            Stage::Trial | Stage::Enforced => {
                self.realised += 1;
                return None;
            }
        };
        *counted += 1;
        Some(lagging)
    }
}

impl RolloutStatus {
    fn of(rollout: &RolloutRecord, views: &Views) -> Self {
        Self {
            id: rollout.id,
            from: rollout.from,
            to: rollout.to(),
            state: rollout.state.clone(),
            confirm_until: rollout.confirm_until,
            canaries: views.canaries().len(),
        }
    }
}

/// `role=db, env=prod`
pub(super) fn labels(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(", ")
}
