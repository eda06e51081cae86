//! What an answer says when there is none: `{"error": "one sentence"}`, with a status of 4xx or 5xx.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoResponses, ToSchema};

use crate::agent::Gone;

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Wrong {
    /// What is wrong, in one sentence.
    pub(crate) error: String,
    /// More of it, for people: lines of text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<String>,
}

/// An error and its status.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    wrong: Wrong,
}

impl Problem {
    /// With a status of HTTP.
    pub(crate) fn new(status: StatusCode, error: impl ToString) -> Self {
        Self { status, wrong: Wrong { error: error.to_string(), detail: None } }
    }

    /// What was sent makes no sense.
    pub(crate) fn unfit(error: impl ToString) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, error)
    }

    /// It cannot be done as things stand.
    pub(crate) fn conflict(error: impl ToString) -> Self {
        Self::new(StatusCode::CONFLICT, error)
    }

    /// Whether the agent could not do what it was rightly asked.
    pub(crate) fn is_ours(&self) -> bool {
        self.status.is_server_error()
    }

    /// Whether the same request would be refused again: what was sent is no good.
    pub(crate) fn is_for_good(&self) -> bool {
        self.status == StatusCode::UNPROCESSABLE_ENTITY
    }

    /// Everything it says.
    pub(crate) fn whole(&self) -> String {
        match &self.wrong.detail {
            Some(detail) => format!("{}: {}", self.wrong.error, detail.trim_end()),
            None => self.wrong.error.clone(),
        }
    }

    /// Adds lines for people.
    #[must_use]
    pub(crate) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.wrong.detail = Some(detail.into());
        self
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.wrong.error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, Json(self.wrong)).into_response()
    }
}

/// What went wrong on our side.
impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}"))
    }
}

impl From<Gone> for Problem {
    fn from(gone: Gone) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, gone)
    }
}

/// The errors that every route may answer with, for its description.
#[derive(Debug, IntoResponses)]
#[expect(dead_code, reason = "what is answered is a Problem; this describes it")]
pub(crate) enum Problems {
    /// The request is not one of this API
    #[response(status = 400)]
    Bad(Wrong),
    /// The caller may not do this
    #[response(status = 403)]
    Forbidden(Wrong),
    /// There is no such thing
    #[response(status = 404)]
    Missing(Wrong),
    /// It cannot be done as things stand
    #[response(status = 409)]
    Conflict(Wrong),
    /// What was sent is too long
    #[response(status = 413)]
    Long(Wrong),
    /// What was sent is not JSON
    #[response(status = 415)]
    Media(Wrong),
    /// What was sent makes no sense
    #[response(status = 422)]
    Unfit(Wrong),
    /// The agent could not do it
    #[response(status = 500)]
    Failed(Wrong),
    /// The agent is ending
    #[response(status = 503)]
    Ending(Wrong),
}
