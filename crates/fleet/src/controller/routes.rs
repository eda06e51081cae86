//! What a controller answers by HTTP.

mod backup;
mod hosts;
mod joining;
mod operators;
mod versions;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::StatusCode,
    middleware,
    routing::{delete, get, post},
};

pub(crate) use self::operators::Operator;
use super::{desk::Desk, problem::Problem};
use crate::api::{ENROL, RENEW};

/// Bytes of what those send who are no operators.
const SMALL_BYTES_MAX: usize = 64 << 10;
/// Bytes of what an operator sends: a bundle of the largest size, as text in JSON.
const LARGE_BYTES_MAX: usize = 96 << 20;

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
        .route("/backup", get(backup::backup))
        .route("/operators", get(operators::revoked))
        .route("/operators/{name}/revoke", post(operators::revoke))
        .route("/versions", get(versions::history).post(versions::apply))
        .route("/versions/{version}", get(versions::documents))
        .route("/status", get(versions::status))
        .route("/confirm", post(versions::confirm))
        .route("/rollback", post(versions::rollback))
        .layer(DefaultBodyLimit::max(LARGE_BYTES_MAX))
        // Looked at before a body is read.
        .layer(middleware::from_fn_with_state(desk.clone(), operators::only));
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
