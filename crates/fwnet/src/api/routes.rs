//! Every path of the API, one file for each subject.

pub(crate) mod apply;
pub(crate) mod connections;
pub(crate) mod deny;
pub(crate) mod events;
pub(crate) mod flows;
pub(crate) mod lists;
pub(crate) mod metrics;
pub(crate) mod openapi;
pub(crate) mod preview;
pub(crate) mod rules;
pub(crate) mod stance;
pub(crate) mod status;
pub(crate) mod trial;

use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Api, problem::Wrong};

/// What the descriptions of all routes have in common.
#[derive(OpenApi)]
#[openapi(components(schemas(Wrong)))]
struct Shared;

/// All routes with their description.
pub(crate) fn all() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Shared::openapi())
        .routes(routes!(status::status))
        .routes(routes!(openapi::openapi))
        .routes(routes!(events::events))
        .routes(routes!(flows::flows))
        .routes(routes!(metrics::metrics))
        .routes(routes!(rules::rules))
        .routes(routes!(connections::connections))
        .routes(routes!(apply::apply))
        .routes(routes!(trial::confirm))
        .routes(routes!(trial::rollback))
        .routes(routes!(stance::panic))
        .routes(routes!(stance::resume))
        .routes(routes!(stance::down))
        .routes(routes!(deny::list, deny::add, deny::remove))
        .routes(routes!(lists::list))
        .routes(routes!(lists::import, lists::remove))
}
