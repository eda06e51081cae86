//! Who listens where, as the kernel lists sockets: for flows to listeners that are older than our programs.

use std::collections::BTreeMap;

use kernel::{Netns, Socket, Sockets, State, Wanted};
use verdict::{Endpoint, Protocol};

/// What was listed for one reading.
#[derive(Debug, Default)]
pub(super) struct Listening {
    namespaces: Option<Vec<Netns>>,
    sockets: BTreeMap<u64, Vec<Socket>>,
}

impl Listening {
    /// User and cgroup of the socket that gets what comes for `local` in the namespace with that cookie.
    pub(super) fn at(
        &mut self,
        netns: u64,
        protocol: Protocol,
        local: Endpoint,
    ) -> Option<(u32, u64)> {
        let Self { namespaces, sockets } = self;
        let sockets = sockets.entry(netns).or_insert_with(|| {
            let found = namespaces.get_or_insert_with(Netns::found);
            let namespace = found.iter().find(|namespace| namespace.cookie() == netns);
            // Without a list nobody is known to listen, and the flows are left out.
            namespace
                .and_then(|namespace| Sockets::of(namespace).list(Wanted::All).ok())
                .unwrap_or_default()
        });
        let takes = |socket: &&Socket| {
            let waits = match protocol {
                Protocol::TCP => socket.state == State::Listen,
                _ => true,
            };
            let address = socket.local.address;
            waits
                && socket.protocol == protocol
                && socket.local.port == local.port
                && (address == local.address || address.is_unspecified())
        };
        sockets.iter().find(takes).map(|socket| (socket.uid, socket.cgroup))
    }
}
