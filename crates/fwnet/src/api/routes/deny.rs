//! `/v1/deny`: denied addresses and ports, one by one.

use axum::{Json, extract::ConnectInfo, extract::State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{apply::ExistingWord, preview::Preview};
use crate::{
    agent::{lists, revoking::Revoked},
    api::{Api, Body, Peer, Problem, Problems},
};

/// Every entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Denied {
    /// In the order of what they deny.
    pub(crate) entries: Vec<Entry>,
}

/// One denied address, prefix, port or range of ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Entry {
    /// `192.0.2.0/24`, `2001:db8::1`, `tcp/10000`, `udp/6000-6063`.
    pub(crate) target: String,
    /// When it ends by itself.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) until: Option<Timestamp>,
    /// Why it is there.
    pub(crate) reason: Option<String>,
    /// The user who added it.
    pub(crate) uid: u32,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) added: Timestamp,
}

/// What is to be denied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Add {
    /// Addresses, prefixes and ports; all of them or none are added.
    #[schema(min_items = 1)]
    pub(crate) targets: Vec<String>,
    /// For how long, in milliseconds; without it, until they are removed.
    #[serde(default)]
    #[schema(minimum = 1)]
    pub(crate) for_ms: Option<u64>,
    /// Why.
    #[serde(default)]
    pub(crate) reason: Option<String>,
    /// The SSH session that asks (`SSH_CONNECTION`), which is not to be cut off.
    #[serde(default)]
    pub(crate) session: Option<String>,
    /// Whether it may be cut off all the same.
    #[serde(default)]
    pub(crate) force: bool,
    /// What happens to existing connections that are newly denied: they stay unless it is `revoke`.
    #[serde(default)]
    pub(crate) existing: ExistingWord,
    /// Say what would happen, and change nothing.
    #[serde(default)]
    pub(crate) dry_run: bool,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Added {
    /// Those that were not there before.
    pub(crate) added: Vec<Entry>,
    /// Those that were: their ends are the new ones now.
    pub(crate) refreshed: Vec<Entry>,
    /// Whether it is in force; a dry run is not.
    pub(crate) applied: bool,
    /// Of a dry run: who would newly be denied, by the sockets that exist now and the flows of the last seven days.
    pub(crate) preview: Option<Preview>,
    /// Existing connections that were ended.
    pub(crate) revoked: Revoked,
}

/// What is no longer to be denied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Remove {
    /// As they were added.
    #[schema(min_items = 1)]
    pub(crate) targets: Vec<String>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Removed {
    /// Those that were there.
    pub(crate) removed: Vec<String>,
    /// Those that were not.
    pub(crate) absent: Vec<String>,
}

/// Every denied address and port
#[utoipa::path(get, path = "/v1/deny", tag = "lists", responses((status = 200, body = Denied), Problems))]
pub(crate) async fn list(State(api): State<Api>) -> Result<Json<Denied>, Problem> {
    Ok(Json(api.core(|core| core.denied()).await?))
}

/// Deny addresses and ports
#[utoipa::path(post, path = "/v1/deny", tag = "lists", request_body = Add, responses((status = 200, body = Added), Problems))]
pub(crate) async fn add(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Body(add): Body<Add>,
) -> Result<Json<Added>, Problem> {
    let (added, sweeping) = api.aside(move |asking| lists::deny(asking, add, peer)).await?;
    Ok(Json(Added { revoked: sweeping.ended().await, ..added }))
}

/// Deny them no longer
#[utoipa::path(delete, path = "/v1/deny", tag = "lists", request_body = Remove, responses((status = 200, body = Removed), Problems))]
pub(crate) async fn remove(
    State(api): State<Api>,
    Body(remove): Body<Remove>,
) -> Result<Json<Removed>, Problem> {
    Ok(Json(api.aside(move |asking| lists::deny_no_longer(asking, &remove)).await?))
}
