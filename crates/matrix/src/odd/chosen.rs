//! Another program at sk_lookup that chooses a socket by itself: the kernel takes what is chosen, whatever ours says
//! (include/linux/filter.h, `BPF_PROG_SK_LOOKUP_RUN_ARRAY`).

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::maps::SockMap;
use aya::programs::SkLookup;
use doors::Protocol;
use testbed::{BpfMap, bpf_object_with_map};

use super::{Played, refused};
use crate::stage::Stage;

const NAME: &str = "choosing";
const MAP: &str = "CHOSEN";
/// `BPF_MAP_TYPE_SOCKMAP`, with its keys and values.
const SHAPE: [u32; 3] = [15, 4, 4];
/// The first socket of the map is what every look-up finds. The helpers are bpf_map_lookup_elem (1), bpf_sk_assign (124) and
/// bpf_sk_release (86), by their numbers in include/uapi/linux/bpf.h.
const CODE: [[u8; 8]; 17] = [
    [0xbf, 0x16, 0, 0, 0, 0, 0, 0],
    [0x62, 0x0a, 0xfc, 0xff, 0, 0, 0, 0],
    [0xbf, 0xa2, 0, 0, 0, 0, 0, 0],
    [0x07, 0x02, 0, 0, 0xfc, 0xff, 0xff, 0xff],
    [0x18, 0x01, 0, 0, 0, 0, 0, 0],
    [0, 0, 0, 0, 0, 0, 0, 0],
    [0x85, 0, 0, 0, 1, 0, 0, 0],
    [0x15, 0, 7, 0, 0, 0, 0, 0],
    [0xbf, 0x07, 0, 0, 0, 0, 0, 0],
    [0xbf, 0x61, 0, 0, 0, 0, 0, 0],
    [0xbf, 0x72, 0, 0, 0, 0, 0, 0],
    [0xb7, 0x03, 0, 0, 0, 0, 0, 0],
    [0x85, 0, 0, 0, 124, 0, 0, 0],
    [0xbf, 0x71, 0, 0, 0, 0, 0, 0],
    [0x85, 0, 0, 0, 86, 0, 0, 0],
    [0xb7, 0, 0, 0, 1, 0, 0, 0],
    [0x95, 0, 0, 0, 0, 0, 0, 0],
];
/// The instruction that names the map.
const NAMED_AT: u64 = 4 * 8;

/// Attached to this network namespace after ours, with a listener of this process.
pub(super) fn accept(stage: &mut Stage) -> Result<Played> {
    let listener = match TcpListener::bind((Ipv4Addr::LOCALHOST, 0)) {
        Ok(listener) => listener,
        Err(error) => return Ok(Played::new(refused(&error, "bind"), "-")),
    };
    let map = BpfMap { name: MAP, shape: SHAPE, entries: 1, named_at: NAMED_AT };
    let object = bpf_object_with_map("sk_lookup", NAME, CODE.as_flattened(), map);
    let mut object = Ebpf::load(&object).context("open the choosing program")?;
    let map = object.map_mut(MAP).context("find its map")?;
    SockMap::try_from(map).and_then(|mut it| it.set(0, &listener, 0)).context("fill its map")?;
    let program = object.program_mut(NAME).context("find the choosing program")?;
    let program: &mut SkLookup = program.try_into().context("its type")?;
    program.load().context("load it")?;
    program.attach(File::open("/proc/self/ns/net").context("open the network namespace")?)?;
    let address = listener.local_addr().context("ask for an address")?;
    let peer = stage.peer_reaches(Protocol::Tcp, address)?;
    drop(object);
    Ok(Played::new(stage.accepts(&listener.into(), peer == "connected")?, peer))
}
