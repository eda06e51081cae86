//! `/v1/lists`: imported lists of addresses.

use ::agent::lists::{ListName, Plain};
use axum::{
    Json,
    extract::{ConnectInfo, State},
    http::StatusCode,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{apply::ExistingWord, preview::Preview};
use crate::{
    agent::{self, revoking::Revoked},
    api::{Api, Asked, InPath, Peer, Problem, Problems, Raw},
};

/// Every list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Lists {
    /// In the order of their names.
    pub(crate) lists: Vec<List>,
}

/// One imported list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct List {
    /// Letters, digits, `-` and `_`.
    pub(crate) name: String,
    /// How many addresses and prefixes it names.
    pub(crate) lines: u32,
    /// When it ends by itself.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) until: Option<Timestamp>,
    /// Why it is there.
    pub(crate) reason: Option<String>,
    /// The file that it follows.
    pub(crate) follows: Option<String>,
    /// Why that file is not followed just now; what was read before is in force.
    pub(crate) trouble: Option<String>,
    /// The user who imported it.
    pub(crate) uid: u32,
    /// When it was read last.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) imported: Timestamp,
}

/// Which list.
#[derive(Clone, Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct Named {
    /// Letters, digits, `-` and `_`.
    name: String,
}

/// How a list is to be imported. Its text is the body: one address or prefix a line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct How {
    /// For how long, in milliseconds; without it, until it is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1)]
    pub(crate) for_ms: Option<u64>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// The file to follow: it is read again whenever it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) follow: Option<String>,
    /// The SSH session that asks (`SSH_CONNECTION`), which is not to be cut off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) session: Option<String>,
    /// Whether it may be cut off all the same.
    #[serde(default)]
    pub(crate) force: bool,
    /// What happens to existing connections that are newly denied: they stay unless it is `revoke`.
    #[serde(default)]
    #[param(inline)]
    pub(crate) existing: ExistingWord,
    /// Say what would happen, and change nothing.
    #[serde(default)]
    pub(crate) dry_run: bool,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Imported {
    /// The list.
    pub(crate) list: List,
    /// Whether one of this name was there before.
    pub(crate) replaced: bool,
    /// Whether it is in force; a dry run is not.
    pub(crate) applied: bool,
    /// Of a dry run: who would newly be denied, by the sockets that exist now and the flows of the last seven days.
    pub(crate) preview: Option<Preview>,
    /// Existing connections that were ended.
    pub(crate) revoked: Revoked,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Removed {
    /// The name.
    pub(crate) name: String,
}

/// Every imported list
#[utoipa::path(get, path = "/v1/lists", tag = "lists", responses((status = 200, body = Lists), Problems))]
pub(crate) async fn list(State(api): State<Api>) -> Result<Json<Lists>, Problem> {
    Ok(Json(api.core(|core| core.lists()).await?))
}

/// Import a list, in the place of the one with its name
#[utoipa::path(put, path = "/v1/lists/{name}", tag = "lists", params(Named, How), request_body(content = String, content_type = "text/plain"), responses((status = 200, body = Imported), Problems))]
pub(crate) async fn import(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    InPath(Named { name }): InPath<Named>,
    Asked(how): Asked<How>,
    Raw(text): Raw,
) -> Result<Json<Imported>, Problem> {
    let name: ListName = name.parse().map_err(Problem::unfit)?;
    // What the file is now is what the text was, or the next look reads it again.
    let feed = how.follow.as_deref().map(agent::feed).transpose().map_err(Problem::unfit)?;
    let parsed = tokio::task::spawn_blocking(move || Plain::parse(&text, |_| ())).await;
    let plain = parsed.map_err(|error| anyhow::anyhow!(error))?.map_err(Problem::unfit)?;
    let import = agent::lists::Import::of(name, plain, feed, how, &peer);
    let (imported, sweeping) =
        api.aside(move |asking| agent::lists::import(asking, import)).await?;
    Ok(Json(Imported { revoked: sweeping.ended().await, ..imported }))
}

/// Remove a list
#[utoipa::path(delete, path = "/v1/lists/{name}", tag = "lists", params(Named), responses((status = 200, body = Removed), Problems))]
pub(crate) async fn remove(
    State(api): State<Api>,
    InPath(Named { name }): InPath<Named>,
) -> Result<Json<Removed>, Problem> {
    let absent = || Problem::new(StatusCode::NOT_FOUND, format!("there is no list {name}"));
    let parsed: ListName = name.parse().map_err(|_bad| absent())?;
    let found = api.aside(move |asking| agent::lists::remove_list(asking, &parsed)).await?;
    if found { Ok(Json(Removed { name })) } else { Err(absent()) }
}
