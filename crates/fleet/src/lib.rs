//! The programs of the fleet around their machines: stores, certificates, and the server that controllers and relays
//! share.

pub mod membership;
