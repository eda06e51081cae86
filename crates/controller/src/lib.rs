//! The controller without its edges: who is enrolled, which policy is current, what concerns whom, who has acknowledged
//! what.
//!
//! Nothing here opens a file or a socket or reads a clock. What happened and the time are arguments, and what follows are
//! effects that a shell carries out: commits to a store, frames to agents, answers to people.
