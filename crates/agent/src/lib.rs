//! What a host should enforce now, and how it gets from one policy to the next.
//!
//! Nothing here opens a file or a socket or reads a clock: files are reached through a trait, time is an argument, and
//! whoever runs the agent does the rest.

pub mod connections;
pub mod preview;
pub mod revoke;
