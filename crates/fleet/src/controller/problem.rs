//! What an answer says when there is none.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use controller::Refusal;

use super::{asking::Gone, desk::OrderError};
use crate::{api::Wrong, authority::SignError, store::told};

/// A status of HTTP, and a sentence.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    wrong: Wrong,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, error: impl ToString) -> Self {
        Self { status, wrong: Wrong { error: error.to_string(), detail: None, leader: None } }
    }

    /// Another controller leads.
    pub(crate) fn elsewhere(leader: String) -> Self {
        let mut problem = Self::new(
            StatusCode::MISDIRECTED_REQUEST,
            format!("this controller does not lead: {leader} does"),
        );
        problem.wrong.leader = Some(leader);
        problem
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, Json(self.wrong)).into_response()
    }
}

impl From<Gone> for Problem {
    fn from(gone: Gone) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, gone)
    }
}

impl From<SignError> for Problem {
    fn from(error: SignError) -> Self {
        let status = match error {
            SignError::Size(_) | SignError::Request(_) | SignError::Algorithm => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            SignError::Time | SignError::Sign(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error)
    }
}

impl From<OrderError> for Problem {
    fn from(error: OrderError) -> Self {
        match error {
            OrderError::Refused(refusal) => refusal.into(),
            OrderError::Elsewhere(leader) => Self::elsewhere(leader),
            OrderError::Nobody => Self::new(StatusCode::SERVICE_UNAVAILABLE, error),
            OrderError::Busy => Self::new(StatusCode::CONFLICT, error),
            OrderError::Gone(gone) => gone.into(),
            OrderError::Commit(source) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, told(&source))
            }
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = match &refusal {
            Refusal::NoHost(_) | Refusal::NoRelay(_) => StatusCode::NOT_FOUND,
            Refusal::Token | Refusal::Expired(_) | Refusal::Certificate(_) => StatusCode::FORBIDDEN,
            Refusal::Name(_)
            | Refusal::Faulty(_)
            | Refusal::Bundle(_)
            | Refusal::Policy(_)
            | Refusal::Tests(_)
            | Refusal::Selector { .. }
            | Refusal::Confirm(_)
            | Refusal::Stamp(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::Collected(_) => StatusCode::GONE,
            Refusal::Lost(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Refusal::Enrolled(_)
            | Refusal::Address { .. }
            | Refusal::Named { .. }
            | Refusal::Spoken { .. }
            | Refusal::NoRoot
            | Refusal::OtherRoot
            | Refusal::Same(_)
            | Refusal::Open(_)
            | Refusal::NotOpen
            | Refusal::NoWayBack
            | Refusal::NoCanary
            | Refusal::Picked(_)
            | Refusal::NoVersion => StatusCode::CONFLICT,
        };
        // The first line says what it is, and the rest what is in it.
        let text = refusal.to_string();
        let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
        let mut problem = Self::new(status, first);
        problem.wrong.detail = (!rest.is_empty()).then(|| format!("{rest}\n"));
        problem
    }
}
