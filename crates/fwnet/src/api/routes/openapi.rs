//! `GET /v1/openapi.json`: the description of this API.

use axum::{
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};

use crate::api::{Problem, Problems, described};

/// The description of this API
#[utoipa::path(get, path = "/v1/openapi.json", tag = "agent", responses(
    (status = 200, description = "An OpenAPI document", content_type = "application/json", body = serde_json::Value),
    Problems,
))]
pub(crate) async fn openapi() -> Result<Response, Problem> {
    Ok(([(CONTENT_TYPE, "application/json")], described()).into_response())
}
