//! `POST /v1/panic`, `POST /v1/resume` and `POST /v1/down`: lockdown, the policy, nothing at all.

use agent::machine::Event;
use axum::{
    Json,
    extract::{ConnectInfo, State},
};
use kernel::Removed;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use utoipa::ToSchema;

use super::{status::Status, trial::By};
use crate::{
    agent::{Ending, Gone},
    api::{Api, Body, Peer, Problem, Problems},
};

/// What is to be enforced once the agent has ended.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Final {
    /// Nothing: the system is as it was before
    #[default]
    Open,
    /// Only the failsafe set is allowed
    Lockdown,
}

/// How to end.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Down {
    /// What is to be enforced then.
    #[serde(default, rename = "final")]
    pub(crate) stance: Final,
    /// The SSH session, as sshd(8) spells `SSH_CONNECTION`.
    #[schema(max_length = 256)]
    pub(crate) session: Option<String>,
}

/// What was taken off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct TakenOff {
    /// The agent's process, which is ending; none where there was no agent.
    pub(crate) pid: Option<u32>,
    /// Links that are gone.
    pub(crate) links: Vec<String>,
    /// Links and programs that are still in the kernel because somebody else holds them: none proves that the system is
    /// as before.
    pub(crate) left: Vec<String>,
}

impl TakenOff {
    /// What was removed, by the agent of this process id or by nobody.
    pub(crate) fn of(removed: Removed, pid: Option<u32>) -> Self {
        Self { pid, links: removed.links, left: removed.left }
    }
}

/// Allow only the failsafe set, from now on
#[utoipa::path(post, path = "/v1/panic", tag = "stance", request_body = By, responses((status = 200, body = Status), Problems))]
pub(crate) async fn panic(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Body(by): Body<By>,
) -> Result<Json<Status>, Problem> {
    happen(api, Event::Panic, by, &peer).await
}

/// Put the policy in force again
#[utoipa::path(post, path = "/v1/resume", tag = "stance", request_body = By, responses((status = 200, body = Status), Problems))]
pub(crate) async fn resume(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Body(by): Body<By>,
) -> Result<Json<Status>, Problem> {
    if api.core(|core| core.is_locked_for_age()).await? {
        return Err(Problem::conflict(
            "the policy is too old, and its root says lockdown: a fresh bundle ends it (fwnet apply --bundle)",
        ));
    }
    happen(api, Event::Resume, by, &peer).await
}

async fn happen(api: Api, event: Event, by: By, peer: &Peer) -> Result<Json<Status>, Problem> {
    let by = by.applied(peer)?;
    let happened = api.core_first(move |core| {
        core.happen(&event, &by)?;
        Ok(Json(Status::of(core)))
    });
    happened.await?
}

/// Take everything off, and end
#[utoipa::path(post, path = "/v1/down", tag = "stance", request_body = Down, responses((status = 200, body = TakenOff), Problems))]
pub(crate) async fn down(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Body(Down { stance, session }): Body<Down>,
) -> Result<Json<TakenOff>, Problem> {
    let by = By { session }.applied(&peer)?;
    let (answer, answered) = oneshot::channel();
    api.core(move |core| core.ending = Some(Ending { stance, by, answer })).await?;
    let removed = answered.await.map_err(|_dropped| Gone)??;
    Ok(Json(TakenOff::of(removed, Some(std::process::id()))))
}
