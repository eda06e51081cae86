//! The agent's local API: HTTP and JSON over a Unix socket, both ends of it.
//!
//! A route is one file below `routes/`, with its types, and one line in `routes.rs`; a verb calls it by [`Client`].

mod body;
mod client;
mod described;
mod peer;
mod problem;
pub(crate) mod routes;
mod server;

pub(crate) use self::{
    body::{Asked, Body, InPath, Raw},
    client::{CallError, Client, Reached},
    described::described,
    peer::{Gate, Peer},
    problem::{Problem, Problems},
    server::{Api, listen, serve},
};
