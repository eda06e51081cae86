//! Every path of the API, one file each.

pub(crate) mod down;
pub(crate) mod events;
pub(crate) mod flows;
pub(crate) mod metrics;
pub(crate) mod rules;
pub(crate) mod status;

use utoipa_axum::{router::OpenApiRouter, routes};

use super::Api;

/// All routes with their description.
pub(crate) fn all() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(status::status))
        .routes(routes!(down::down))
        .routes(routes!(events::events))
        .routes(routes!(flows::flows))
        .routes(routes!(metrics::metrics))
        .routes(routes!(rules::rules))
}
