//! Who is at the other end of the socket.

use axum::{extract::connect_info::Connected, serve::IncomingStream};
use tokio::net::UnixListener;

/// The process that connected, as the kernel saw it then (unix(7), `SO_PEERCRED`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Its user; none if the kernel did not say.
    pub(crate) uid: Option<u32>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self { uid: stream.io().peer_cred().ok().map(|credentials| credentials.uid()) }
    }
}
