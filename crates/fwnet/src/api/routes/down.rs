//! `POST /v1/down`: the agent takes everything off and ends.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::status::Attached;
use crate::{
    agent::Ending,
    api::{Api, Problem, Problems},
};

/// What was taken off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Removed {
    /// The agent's process, which is ending.
    pub(crate) pid: u32,
    /// The programs that were attached.
    pub(crate) removed: Vec<Attached>,
}

/// Take everything off, and end
#[utoipa::path(post, path = "/v1/down", tag = "agent", responses((status = 200, body = Removed), Problems))]
pub(crate) async fn down(State(api): State<Api>) -> Result<Json<Removed>, Problem> {
    let removed = api.core(|core| {
        let attached = core.attached().into_iter();
        core.ending = Some(Ending::Open);
        attached.map(|(hook, target)| Attached { hook: hook.name.to_owned(), target }).collect()
    });
    Ok(Json(Removed { pid: std::process::id(), removed: removed.await? }))
}
