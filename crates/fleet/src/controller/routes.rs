//! What a controller answers by HTTP.

mod hosts;
mod joining;
mod versions;

use axum::{
    Extension, Router,
    extract::{DefaultBodyLimit, Request},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};

use super::{desk::Desk, problem::Problem};
use crate::{
    api::{ENROL, RENEW},
    server::Visitor,
    subject::Kind,
};

/// Bytes of what those send who are no operators.
const SMALL_BYTES_MAX: usize = 64 << 10;
/// Bytes of what an operator sends: a bundle of the largest size, as text in JSON.
const LARGE_BYTES_MAX: usize = 96 << 20;

/// An operator, by name: an extension of every request below `/v1/fleet`.
#[derive(Clone, Debug)]
pub(crate) struct Operator(pub(crate) String);

/// All of it.
pub(crate) fn router(desk: Desk) -> Router {
    let operators = Router::new()
        .route("/tokens", post(hosts::enroll))
        .route("/hosts", get(hosts::list))
        .route("/hosts/{id}", delete(hosts::remove))
        .route("/hosts/{id}/labels", post(hosts::label))
        .route("/hosts/{id}/addresses", post(hosts::address))
        .route("/hosts/{id}/quarantine", post(hosts::quarantine))
        .route("/relays/{name}", delete(hosts::remove_relay))
        .route("/versions", get(versions::history).post(versions::apply))
        .route("/versions/{version}", get(versions::documents))
        .route("/status", get(versions::status))
        .route("/confirm", post(versions::confirm))
        .route("/rollback", post(versions::rollback))
        .layer(DefaultBodyLimit::max(LARGE_BYTES_MAX))
        // Looked at before a body is read.
        .layer(middleware::from_fn(operators_only));
    Router::new()
        .route(ENROL, post(joining::enrol))
        .route(RENEW, post(joining::renew))
        .layer(DefaultBodyLimit::max(SMALL_BYTES_MAX))
        .nest("/v1/fleet", operators)
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "there is no such path"))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "the path does not take this method")
        })
        .with_state(desk)
}

/// Everybody else is told that they are not meant.
async fn operators_only(
    Extension(visitor): Extension<Visitor>,
    mut request: Request,
    next: Next,
) -> Response {
    match visitor.shown {
        Some(shown) if shown.subject.kind() == Kind::Operator => {
            request.extensions_mut().insert(Operator(shown.subject.name().to_owned()));
            next.run(request).await
        }
        Some(_) | None => {
            let why = "this is for operators: show an operator's certificate";
            Problem::new(StatusCode::FORBIDDEN, why).into_response()
        }
    }
}
