//! Who listens where: the table that the bind hooks keep, read when an inbound event has no process of its own.

use aya::maps::{HashMap, MapData};
use verdict::{
    Address, Endpoint, Protocol,
    abi::{Listener, ListenerKey, Owner},
};
use zerocopy::{FromBytes, IntoBytes};

/// The table of listeners.
#[derive(Debug)]
pub(crate) struct Listeners(
    HashMap<MapData, [u8; size_of::<ListenerKey>()], [u8; size_of::<Listener>()]>,
);

impl Listeners {
    pub(crate) fn new(
        map: HashMap<MapData, [u8; size_of::<ListenerKey>()], [u8; size_of::<Listener>()]>,
    ) -> Self {
        Self(map)
    }

    /// The owner of the socket that claimed `local`, looked for in the namespaces with these cookies. `None` where
    /// nobody claimed it since the hooks are in place, or where the namespaces disagree: better unknown than wrong.
    pub(crate) fn owner(
        &self,
        netns: &[u64],
        protocol: Protocol,
        local: Endpoint,
    ) -> Option<Owner> {
        let mut found = netns.iter().filter_map(|&netns| {
            let of =
                |address| self.listener(netns, protocol, Endpoint { address, port: local.port });
            of(local.address).or_else(|| of(Address::UNSPECIFIED_V6))
        });
        let owner = found.next()?.stamp.owner;
        found.all(|other| other.stamp.owner == owner).then_some(owner)
    }

    fn listener(&self, netns: u64, protocol: Protocol, local: Endpoint) -> Option<Listener> {
        let key = ListenerKey {
            netns,
            address_hi: local.address.hi,
            address_lo: local.address.lo,
            port: local.port,
            protocol: protocol.0,
            padding: [0; 5],
        };
        let bytes: [u8; 32] = key.as_bytes().try_into().expect("the key's size is asserted");
        Listener::read_from_bytes(&self.0.get(&bytes, 0).ok()?).ok()
    }
}
