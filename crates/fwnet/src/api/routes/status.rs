//! `GET /v1/status`: what is enforced, and where.

use std::time::Duration;

use agent::trusted::{Signed, SignedDocument};
use axum::{Json, extract::State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use utoipa::ToSchema;
use wire::{Stale, Then};

use crate::{
    agent::{Core, centre::Fleet, counted, revoking::Revoked, wall_of},
    api::{Api, Problem, Problems},
    before::Before,
};

/// What an agent enforces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Status {
    /// The agent's process.
    pub(crate) pid: u32,
    /// Version of the program.
    pub(crate) program: String,
    /// When the agent started.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) started: Timestamp,
    /// What decides.
    pub(crate) stance: Decides,
    /// The policy in force; where it is on trial, that one.
    pub(crate) policy: Option<InForce>,
    /// Until when it must be confirmed, if it is on trial.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) confirm_until: Option<Timestamp>,
    /// The version that follows if it is not, or to which a rollback goes.
    pub(crate) previous: Option<u64>,
    /// When a rule or an entry ends next.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) next_end: Option<Timestamp>,
    /// The programs in their places.
    pub(crate) attached: Vec<Attached>,
    /// What is not covered here.
    pub(crate) not_covered: Vec<String>,
    /// What whoever enforces this should know.
    pub(crate) notes: Vec<String>,
    /// What is wrong with the state on disk.
    pub(crate) state: Vec<String>,
    /// Events that nobody was told of: too many at once, or nobody read them.
    pub(crate) events_lost: u64,
    /// Existing connections that were ended since the agent started.
    pub(crate) revoked: Revoked,
    /// Whether existing connections are being ended just now.
    #[serde(default)]
    pub(crate) revoking: bool,
    /// Where the agent is busy and cannot say more: since when. Everything else is as it was then.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) busy_since: Option<Timestamp>,
    /// Attempts of other programs to take away links, maps or pins since the programs were loaded, which the tamper guard
    /// refused.
    #[serde(default)]
    pub(crate) guarded: u64,
    /// How the identity of processes is known.
    #[serde(default)]
    pub(crate) identity: Identity,
    /// How it stands with the fleet; nothing where this host is in none.
    #[serde(default)]
    pub(crate) fleet: Option<Fleet>,
}

/// How the identity of processes is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Identity {
    /// The sockets that were there before rules asked for processes; nothing where none ever did.
    pub(crate) before: Option<Before>,
    /// Stamps and claims that had no room on their socket since the programs were loaded, and are kept by its cookie:
    /// somebody filled the socket's option memory.
    pub(crate) refused: u64,
    /// Verdicts of rules about processes, likewise, for somebody whom nobody knows: no such rule held for him.
    pub(crate) unknown: u64,
}

/// What decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Decides {
    /// The policy
    Policy,
    /// Nothing but the failsafe set
    Lockdown,
}

/// One version of the rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct InForce {
    /// Counts the versions of this host.
    pub(crate) version: u64,
    /// What it is, for people.
    pub(crate) summary: String,
    /// The files that it was read from.
    pub(crate) files: Vec<String>,
    /// When it was applied.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) applied: Timestamp,
    /// The user who had it applied.
    pub(crate) uid: u32,
    /// The SSH session of that user, as sshd(8) spells `SSH_CONNECTION`.
    pub(crate) session: Option<String>,
    /// Who vouches for it, where it was signed.
    pub(crate) signed: Option<Vouched>,
}

/// Who vouches for a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Vouched {
    /// The version of the root it was verified by.
    pub(crate) root: u64,
    /// The version of the snapshot.
    pub(crate) snapshot: u64,
    /// The version of the timestamp.
    pub(crate) timestamp: u64,
    /// The documents with their versions, and who signed them.
    pub(crate) documents: Vec<String>,
    /// Until when it is fresh.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) fresh_until: Timestamp,
    /// What it is now.
    pub(crate) age: Age,
}

/// How old a signed policy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Age {
    /// It is vouched for
    Fresh,
    /// It is not any more, and stays in force
    Stale,
    /// It is too old, and stays in force as its root says
    TooOldKept,
    /// It is too old, and only the failsafe set is allowed, as its root says
    TooOldLockdown,
}

impl From<Stale> for Age {
    fn from(stale: Stale) -> Self {
        match stale {
            Stale::Fresh => Self::Fresh,
            Stale::Stale => Self::Stale,
            Stale::TooOld(Then::Keep) => Self::TooOldKept,
            Stale::TooOld(Then::Lockdown) => Self::TooOldLockdown,
        }
    }
}

impl Vouched {
    fn of(signed: &Signed, age: Stale) -> Self {
        let document = |it: &SignedDocument| {
            format!("{} (version {}) by {}", it.name, it.version, it.signers.join(", "))
        };
        Self {
            root: signed.root,
            snapshot: signed.snapshot,
            timestamp: signed.timestamp,
            documents: signed.documents.iter().map(document).collect(),
            fresh_until: signed.freshness.until,
            age: age.into(),
        }
    }
}

/// A program in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Attached {
    /// The hook.
    pub(crate) hook: String,
    /// The cgroup or namespace.
    pub(crate) target: String,
}

impl Status {
    /// Of the agent.
    pub(crate) fn of(core: &Core) -> Self {
        let now = core.now();
        let standing = core.standing();
        let firewall = &core.force.firewall;
        let ready = &core.force.ready;
        let trial = standing.running(counted(&now));
        let (lost, identity) = (firewall.lost(), firewall.identity());
        Self {
            pid: std::process::id(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            started: core.started,
            stance: if firewall.is_locked_down() { Decides::Lockdown } else { Decides::Policy },
            policy: core.edition().map(|edition| InForce {
                version: edition.version,
                summary: ready.summary.clone(),
                files: edition.names().into_iter().map(str::to_owned).collect(),
                applied: edition.applied.at,
                uid: edition.applied.uid,
                session: edition.applied.session.clone(),
                signed: edition.signed.as_ref().map(|signed| Vouched::of(signed, core.age())),
            }),
            confirm_until: trial.map(|trial| wall_of(trial.until_ns, &now)),
            previous: if trial.is_some() { standing.current } else { standing.previous },
            next_end: core.force.next_end.map(|end| wall_of(end, &now)),
            attached: firewall
                .attached()
                .map(|(hook, target)| Attached {
                    hook: hook.name.to_owned(),
                    target: target.to_owned(),
                })
                .collect(),
            not_covered: firewall
                .open_hooks()
                .iter()
                .map(|(hook, error)| format!("{} ({error})", hook.without))
                .collect(),
            notes: ready.notes.clone(),
            state: core.kept.store.health().sentences(),
            events_lost: lost.limited + lost.overrun + lost.tamper,
            revoked: core.revoking.total,
            revoking: core.revoking.is_under_way(),
            busy_since: None,
            fleet: core.fleet.clone(),
            guarded: identity.guarded,
            identity: Identity {
                before: core.force.before,
                refused: identity.refused,
                unknown: identity.unknown,
            },
        }
    }
}

/// An agent that has not answered by then is busy.
const PATIENCE: Duration = Duration::from_millis(250);

/// What is enforced, and where
#[utoipa::path(get, path = "/v1/status", tag = "agent", responses((status = 200, body = Status), Problems))]
pub(crate) async fn status(State(api): State<Api>) -> Result<Json<Status>, Problem> {
    let asked = || api.core(|core| Status::of(core));
    match timeout(PATIENCE, asked()).await {
        Ok(status) => Ok(Json(status?)),
        Err(_elapsed) => match api.busy() {
            Some(status) => Ok(Json(status)),
            None => Ok(Json(asked().await?)),
        },
    }
}
