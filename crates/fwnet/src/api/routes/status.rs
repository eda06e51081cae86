//! `GET /v1/status`: what is enforced, and where.

use axum::{Json, extract::State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    agent::Core,
    api::{Api, Problem, Problems},
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
    /// The policy in force.
    pub(crate) policy: InForce,
    /// The programs in their places.
    pub(crate) attached: Vec<Attached>,
    /// What is not covered here.
    pub(crate) not_covered: Vec<String>,
    /// What whoever enforces this should know.
    pub(crate) notes: Vec<String>,
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
    fn of(core: &mut Core) -> Self {
        let edition = &core.edition;
        let force = &core.force;
        let attached = core.attached().into_iter();
        Self {
            pid: std::process::id(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            started: core.started,
            policy: InForce {
                version: edition.version,
                summary: force.ready.summary.clone(),
                files: edition.names().into_iter().map(str::to_owned).collect(),
                applied: edition.applied.at,
                uid: edition.applied.uid,
            },
            attached: attached
                .map(|(hook, target)| Attached { hook: hook.name.to_owned(), target })
                .collect(),
            not_covered: force
                .firewall
                .open_hooks()
                .iter()
                .map(|(hook, error)| format!("{} ({error})", hook.without))
                .collect(),
            notes: force.ready.notes.clone(),
        }
    }
}

/// What is enforced, and where
#[utoipa::path(get, path = "/v1/status", tag = "agent", responses((status = 200, body = Status), Problems))]
pub(crate) async fn status(State(api): State<Api>) -> Result<Json<Status>, Problem> {
    Ok(Json(api.core(|core| Status::of(core)).await?))
}
