//! Who is at the other end of the socket, and what that lets them do.

use std::os::fd::AsFd;

use anyhow::Context;
use axum::{
    extract::{ConnectInfo, Request, connect_info::Connected},
    http::{Method, StatusCode},
    middleware::Next,
    response::{IntoResponse, Response},
    serve::IncomingStream,
};
use kernel::peer_groups;
use policy::Identities;
use tokio::net::UnixListener;

use super::Problem;
use crate::{agent::kept::Settled, names::Names};

/// Who may do what: root everything, the socket's group everything, and the other group GET.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gate {
    /// The group of the socket.
    pub(crate) write: Option<u32>,
    /// The group that may only look.
    pub(crate) read: Option<u32>,
}

/// The process that connected, as the kernel saw it then (unix(7), `SO_PEERCRED` and `SO_PEERGROUPS`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Its user.
    pub(crate) uid: u32,
    groups: Vec<u32>,
}

/// Nobody: what the kernel does not know may do nothing.
const NOBODY: u32 = u32::MAX;

impl Gate {
    /// The gate that `fwnet up` was told of.
    ///
    /// # Errors
    /// Where there is no such group.
    pub(crate) fn of(settled: Option<&Settled>) -> anyhow::Result<Self> {
        let names = Names::here();
        let number = |group: &Option<String>| match group {
            Some(name) => {
                names.group(name).with_context(|| format!("there is no group {name}")).map(Some)
            }
            None => anyhow::Ok(None),
        };
        let Some(settled) = settled else { return Ok(Self::default()) };
        Ok(Self { write: number(&settled.socket_group)?, read: number(&settled.read_group)? })
    }

    fn lets(self, peer: &Peer, method: &Method) -> bool {
        let is_in = |group: Option<u32>| group.is_some_and(|group| peer.groups.contains(&group));
        peer.uid == 0 || is_in(self.write) || (is_in(self.read) && *method == Method::GET)
    }
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        let Ok(credentials) = stream.io().peer_cred() else {
            return Self { uid: NOBODY, groups: Vec::new() };
        };
        let mut groups = peer_groups(stream.io().as_fd()).unwrap_or_default();
        groups.push(credentials.gid());
        Self { uid: credentials.uid(), groups }
    }
}

/// Lets a request through, or says that it may not pass.
pub(super) async fn pass(gate: Gate, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<Peer>>();
    if peer.is_some_and(|ConnectInfo(peer)| gate.lets(peer, request.method())) {
        return next.run(request).await;
    }
    Problem::new(StatusCode::FORBIDDEN, "this user may not do that").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_only_read() {
        let gate = Gate { write: Some(10), read: Some(20) };
        for (uid, groups, get, post) in [
            (0, vec![0], true, true),
            (7, vec![7, 10], true, true),
            (7, vec![7, 20], true, false),
            (7, vec![7], false, false),
            (NOBODY, vec![], false, false),
        ] {
            let peer = Peer { uid, groups };
            let lets = (gate.lets(&peer, &Method::GET), gate.lets(&peer, &Method::POST));
            assert_eq!(lets, (get, post), "{peer:?}");
        }
        let closed = Peer { uid: 7, groups: vec![10, 20] };
        assert!(!Gate::default().lets(&closed, &Method::GET));
    }
}
