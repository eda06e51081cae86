//! Somebody who signs everything, and the bundles they make.

use testbed::Signers;

fn anna() -> Signers {
    Signers::one("2100-01-01T00:00:00Z".parse().unwrap())
}

/// The root as a file.
pub(crate) fn root_text() -> String {
    anna().root_text()
}

/// A bundle of documents, each with its name, all of this version.
pub(crate) fn bundle(version: u64, documents: &[(&str, &str)]) -> String {
    anna().bundle(version, documents).to_json()
}
