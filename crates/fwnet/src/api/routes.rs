//! Every path of the API, one file each.

pub(crate) mod down;
pub(crate) mod status;

use utoipa_axum::{router::OpenApiRouter, routes};

use super::Api;

/// All routes with their description.
pub(crate) fn all() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(status::status)).routes(routes!(down::down))
}
