//! The programs of the fleet around their machines: stores, certificates, and the server that controllers and relays
//! share.

pub mod api;
pub mod authority;
pub mod controller;
pub mod join;
pub mod joining;
pub mod membership;
pub mod relay;
pub mod server;
pub mod settings;
pub mod store;
pub mod subject;
pub mod tls;
mod uplink;
pub mod whole;
