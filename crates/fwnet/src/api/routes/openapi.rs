//! `GET /v1/openapi.json`: the description of this API.

use axum::{
    body::Bytes,
    extract::State,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};

use crate::api::{Api, Problem, Problems};

/// The description of this API
#[utoipa::path(get, path = "/v1/openapi.json", tag = "agent", responses(
    (status = 200, description = "An OpenAPI document", content_type = "application/json", body = serde_json::Value),
    Problems,
))]
pub(crate) async fn openapi(State(api): State<Api>) -> Result<Response, Problem> {
    let document: Bytes = api.described();
    Ok(([(CONTENT_TYPE, "application/json")], document).into_response())
}
