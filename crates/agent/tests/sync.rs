//! A host's part in its fleet, with real bundles and no sockets.

#![expect(clippy::unwrap_used, reason = "a test's helpers panic as its test does")]

#[path = "sync/cases.rs"]
mod cases;
#[path = "sync/chance.rs"]
mod chance;
#[path = "sync/world.rs"]
mod world;
