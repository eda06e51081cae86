//! `POST /v1/confirm` and `POST /v1/rollback`: what becomes of a policy on trial.

use agent::{edition::Applied, machine::Event};
use axum::{
    Json,
    extract::{ConnectInfo, State},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::status::Status;
use crate::api::{Api, Body, Peer, Problem, Problems};

/// Who asks.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct By {
    /// The SSH session, as sshd(8) spells `SSH_CONNECTION`; none for somebody at the machine itself.
    #[schema(max_length = 256)]
    pub(crate) session: Option<String>,
}

impl By {
    /// The same with the user and the time.
    ///
    /// # Errors
    /// Where what is said to be a session is none.
    pub(crate) fn applied(self, peer: &Peer) -> Result<Applied, Problem> {
        if self.session.as_ref().is_some_and(|session| session.chars().count() > 256) {
            return Err(Problem::unfit("a session has up to 256 characters"));
        }
        Ok(Applied { at: Timestamp::now(), uid: peer.uid, session: self.session })
    }
}

/// Keep the policy that is on trial
#[utoipa::path(post, path = "/v1/confirm", tag = "policy", request_body = By, responses((status = 200, body = Status), Problems))]
pub(crate) async fn confirm(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Body(by): Body<By>,
) -> Result<Json<Status>, Problem> {
    let by = by.applied(&peer)?;
    let confirmed = api.core(move |core| {
        core.happen(&Event::Confirm { session: by.session.clone() }, &by)?;
        Ok::<_, Problem>(core.revoking.began())
    });
    confirmed.await??.ended().await;
    Ok(Json(api.core(|core| Status::of(core)).await?))
}

/// End the trial; without one, go back to the policy before
#[utoipa::path(post, path = "/v1/rollback", tag = "policy", request_body = By, responses((status = 200, body = Status), Problems))]
pub(crate) async fn rollback(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Body(by): Body<By>,
) -> Result<Json<Status>, Problem> {
    let by = by.applied(&peer)?;
    let rolled_back = api.core_first(move |core| {
        core.roll_back(by)?;
        Ok(Json(Status::of(core)))
    });
    rolled_back.await?
}
