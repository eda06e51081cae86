//! The description of the API, made from the routes themselves.

use utoipa::openapi::OpenApi;

use super::routes;

/// The OpenAPI document, as indented JSON with an end of line.
///
/// # Panics
/// Never: what it is made of is JSON.
pub(crate) fn described() -> String {
    let mut document: OpenApi = routes::all().into_openapi();
    document.info.title = "fwnet agent".to_owned();
    document.info.description = Some(
        "What an agent enforces, and how that is changed. Served on a Unix socket, to root and the socket's group; \
         members of the reading group may GET. Every error is a JSON object with one sentence."
            .to_owned(),
    );
    document.servers = None;
    let json = document.to_pretty_json().expect("a description is JSON");
    json + "\n"
}

#[cfg(test)]
mod tests {
    use std::{env, fs, path::Path};

    use super::*;

    #[test]
    fn the_committed_description_is_that_of_the_routes() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
        let described = described();
        if env::var_os("FWNET_WRITE").is_some() {
            fs::write(&path, &described).unwrap();
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == described,
            "docs/openapi.json is not what the routes are: FWNET_WRITE=1 cargo test -p fwnet --bin fwnet described"
        );
    }
}
