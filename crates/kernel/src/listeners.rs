//! Who listens where: the table that the bind hooks keep, read when an inbound event has no process of its own.

use aya::maps::{HashMap, MapData, MapError};
use verdict::{
    Address, Endpoint, Protocol,
    abi::{Listener, ListenerKey, Owner},
};
use zerocopy::{FromBytes, IntoBytes};

/// A [`ListenerKey`] as the map has it.
pub(crate) type KeyBytes = [u8; size_of::<ListenerKey>()];
/// A [`Listener`] as the map has it.
type ListenerBytes = [u8; size_of::<Listener>()];

/// Of bpf_map_update_elem: only where there is nothing (BPF_NOEXIST, include/uapi/linux/bpf.h).
pub(crate) const NO_EXIST: u64 = 1;

/// The table of listeners.
#[derive(Debug)]
pub(crate) struct Listeners(HashMap<MapData, KeyBytes, ListenerBytes>);

impl Listeners {
    pub(crate) fn new(map: HashMap<MapData, KeyBytes, ListenerBytes>) -> Self {
        Self(map)
    }

    /// Enters who claimed a local end, unless somebody has: then the error is EEXIST.
    pub(crate) fn enter(&mut self, key: KeyBytes, listener: &Listener) -> Result<(), MapError> {
        let listener: ListenerBytes =
            listener.as_bytes().try_into().expect("the array is as long as the type");
        self.0.insert(key, listener, NO_EXIST)
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
        Listener::read_from_bytes(&self.0.get(&key(netns, protocol, local), 0).ok()?).ok()
    }
}

/// Under what a claim on `local` is found.
pub(crate) fn key(netns: u64, protocol: Protocol, local: Endpoint) -> KeyBytes {
    let key = ListenerKey {
        netns,
        address_hi: local.address.hi,
        address_lo: local.address.lo,
        port: local.port,
        protocol: protocol.0,
        padding: [0; 5],
    };
    key.as_bytes().try_into().expect("the array is as long as the type")
}
