//! What a host takes from a bundle, and the one thing it names where it takes nothing.

#![expect(clippy::unwrap_used, reason = "a test's helpers panic as its test does")]

#[path = "fleet/concerns.rs"]
mod concerns;
#[path = "fleet/delegation.rs"]
mod delegation;
#[path = "fleet/fleet.rs"]
mod fleet;
#[path = "fleet/freshness.rs"]
mod freshness;
#[path = "fleet/rotation.rs"]
mod rotation;
#[path = "fleet/signatures.rs"]
mod signatures;
