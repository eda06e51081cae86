//! What a host should enforce now, and how it gets from one policy to the next.
//!
//! Nothing here opens a file or a socket or reads a clock: files are reached through a trait, time is an argument, and
//! whoever runs the agent does the rest. [`store`] is what the host remembers on disk, [`lists`] what it denies beside its
//! policy, [`trusted`] whose signatures it asks for,
//! [`machine`] what to do next, [`sync`] how it hears of policies from a controller.

pub mod connections;
pub mod edition;
pub mod failsafe;
pub mod flows;
pub mod learn;
pub mod lists;
pub mod lockdown;
pub mod machine;
pub mod prefix;
pub mod preview;
pub mod replay;
pub mod revoke;
pub mod store;
pub mod sync;
pub mod trusted;
