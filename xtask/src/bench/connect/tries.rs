//! What a firewall does that looks addresses up in BPF_MAP_TYPE_LPM_TRIE, as programs at cgroup/connect4: one look-up of
//! the address, or three: the address's identity, then what identity and port are allowed, for that identity and for all.
//! The second is how Cilium decides (its ipcache, then two look-ups in its policy map).

use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::{Context as _, Result};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{IterableMap as _, MapData};

use super::contender::Tries;
use crate::bench::prefixes::Prefix;
use crate::bench::tries::Pins;

/// Entries of the map that says what identities are allowed.
const POLICIES: u32 = 100_000;
/// Identities of addresses that nobody denies have 20 entries each.
const IDENTITIES: u32 = POLICIES / 20;
/// Of what the list has: nothing is allowed.
const LISTED: u32 = IDENTITIES + 1;

/// Identity, and port in network order with nothing beside it.
type Policy = [u32; 2];

/// Tries with the prefixes, and a program that asks them.
pub(super) struct Decision {
    addresses: LpmTrie<MapData, u32, u32>,
    policies: Option<LpmTrie<MapData, Policy, u32>>,
}

impl Decision {
    /// Fills the tries.
    pub(super) fn fill(pins: &Pins, kind: Tries, prefixes: &[Prefix]) -> Result<Self> {
        let mut addresses = pins.trie::<u32>("addresses", prefixes.len())?;
        for prefix in prefixes {
            let key = Key::new(prefix.length(), prefix.first().to_be());
            addresses.insert(&key, LISTED, 0).context("put a prefix into the trie")?;
        }
        let policies = match kind {
            Tries::Address => None,
            Tries::Policies => Some(policies(pins)?),
        };
        Ok(Self { addresses, policies })
    }

    /// The program: 1 allows, 0 denies. Maps are named by their descriptors, which must stay open until it is loaded.
    pub(super) fn program(&self) -> Vec<u8> {
        let addresses = self.addresses.map().fd().as_fd().as_raw_fd();
        let mut code = Code::default();
        code.keep_context().address_key().look_up(addresses);
        match &self.policies {
            // A hit denies.
            None => code.allow_unless_found(),
            Some(policies) => {
                let policies = policies.map().fd().as_fd().as_raw_fd();
                code.identity().policy_key(true).look_up(policies).verdict(false);
                code.policy_key(false).look_up(policies).verdict(true);
                code.end_with_verdict()
            }
        };
        code.0
    }
}

fn policies(pins: &Pins) -> Result<LpmTrie<MapData, Policy, u32>> {
    let mut policies = pins.trie::<Policy>("policies", POLICIES as usize + 1)?;
    for number in 0..POLICIES {
        let (identity, port) = (number % IDENTITIES, 1_024 + number / IDENTITIES);
        let key = Key::new(64, [identity, port.to_be() >> 16]);
        policies.insert(&key, 1, 0).context("put a policy into the trie")?;
    }
    policies.insert(&Key::new(32, [LISTED, 0]), 0, 0).context("put a policy into the trie")?;
    Ok(policies)
}

/// Instructions of 8 bytes (the kernel's Documentation/bpf/standardization/instruction-set.rst): operation, registers,
/// offset, immediate. Registers: 0 result, 1 to 5 arguments, 6 the context, 7 the identity, 8 the verdict, 10 the stack.
#[derive(Default)]
struct Code(Vec<u8>);

const LOAD: u8 = 0x61;
const STORE: u8 = 0x63;
const STORE_IMMEDIATE: u8 = 0x62;
const COPY: u8 = 0xbf;
const SET: u8 = 0xb7;
const ADD: u8 = 0x07;
const AND: u8 = 0x5f;
const AND_IMMEDIATE: u8 = 0x57;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const WIDE: u8 = 0x18;
const IF_ZERO: u8 = 0x15;
const IF_NOT_ZERO: u8 = 0x55;
/// The immediate is a map's descriptor (BPF_PSEUDO_MAP_FD).
const MAP: u8 = 1;
/// The helper bpf_map_lookup_elem.
const MAP_LOOKUP: i32 = 1;
/// Where `struct bpf_sock_addr` has address and port (include/uapi/linux/bpf.h).
const USER_IP4: i16 = 4;
const USER_PORT: i16 = 24;

impl Code {
    fn push(&mut self, operation: u8, to: u8, from: u8, offset: i16, immediate: i32) -> &mut Self {
        self.0.extend([operation, from << 4 | to]);
        self.0.extend(offset.to_le_bytes());
        self.0.extend(immediate.to_le_bytes());
        self
    }

    fn keep_context(&mut self) -> &mut Self {
        self.push(COPY, 6, 1, 0, 0).push(SET, 8, 0, 0, 1)
    }

    /// The key of the first trie, 8 bytes at -16: 32 bits, and the address.
    fn address_key(&mut self) -> &mut Self {
        self.push(LOAD, 2, 6, USER_IP4, 0)
            .push(STORE_IMMEDIATE, 10, 0, -16, 32)
            .push(STORE, 10, 2, -12, 0)
    }

    /// The key of the second, 12 bytes at -16: 64 bits, the identity or 0 for all, and the port.
    fn policy_key(&mut self, own: bool) -> &mut Self {
        self.push(LOAD, 2, 6, USER_PORT, 0).push(STORE_IMMEDIATE, 10, 0, -16, 64);
        if own {
            self.push(STORE, 10, 7, -12, 0);
        } else {
            self.push(STORE_IMMEDIATE, 10, 0, -12, 0);
        }
        self.push(STORE, 10, 2, -8, 0)
    }

    /// Asks the map for the key at -16.
    fn look_up(&mut self, map: i32) -> &mut Self {
        self.push(COPY, 2, 10, 0, 0)
            .push(ADD, 2, 0, 0, -16)
            .push(WIDE, 1, MAP, 0, map)
            .push(0, 0, 0, 0, 0)
            .push(CALL, 0, 0, 0, MAP_LOOKUP)
    }

    fn allow_unless_found(&mut self) -> &mut Self {
        self.push(IF_NOT_ZERO, 0, 0, 2, 0)
            .push(SET, 0, 0, 0, 1)
            .push(EXIT, 0, 0, 0, 0)
            .push(SET, 0, 0, 0, 0)
            .push(EXIT, 0, 0, 0, 0)
    }

    /// The identity that was found; 0 if none was.
    fn identity(&mut self) -> &mut Self {
        self.push(SET, 7, 0, 0, 0).push(IF_ZERO, 0, 0, 1, 0).push(LOAD, 7, 0, 0, 0)
    }

    /// Keeps what was found, or lets it take from what was found before.
    fn verdict(&mut self, both: bool) -> &mut Self {
        self.push(IF_ZERO, 0, 0, 2, 0).push(LOAD, 1, 0, 0, 0);
        self.push(if both { AND } else { COPY }, 8, 1, 0, 0)
    }

    fn end_with_verdict(&mut self) -> &mut Self {
        // The verifier wants to see that it is 0 or 1.
        self.push(COPY, 0, 8, 0, 0).push(AND_IMMEDIATE, 0, 0, 0, 1).push(EXIT, 0, 0, 0, 0)
    }
}
