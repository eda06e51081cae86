//! `GET /metrics`: the agent's figures for Prometheus.

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};

use crate::{
    api::{Api, Problem, Problems},
    seeing::metrics,
};

/// The text format that is answered with.
const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The agent's figures in the text format of Prometheus
#[utoipa::path(get, path = "/metrics", tag = "seeing",
    responses((status = 200, body = String, content_type = "application/openmetrics-text"), Problems))]
pub(crate) async fn metrics(State(api): State<Api>) -> Result<Response, Problem> {
    let text = api.core(metrics::text).await?;
    Ok(([(header::CONTENT_TYPE, TEXT)], text).into_response())
}
