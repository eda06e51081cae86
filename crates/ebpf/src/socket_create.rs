//! lsm/socket_create: refuses sockets by which a process would be its own network stack and that no cgroup hook sees
//! (AF_PACKET, AF_XDP), and once more those of protocols that may reach nobody.
//!
//! What writes its own packets counts as `raw`. But a packet socket is refused only where a rule says so by name: with a
//! default deny alone DHCP clients go on, which have an address renewed by one.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::{bpf_probe_read_kernel, generated::bpf_get_current_task},
    macros::lsm,
    programs::LsmContext,
};
use verdict::{
    Direction, Endpoint, Flow, Protocol,
    abi::{Hook, Stamp, field},
    layout::RULE_DEFAULT,
    rule_flags,
};

use crate::{
    judge::{Witness, claim, error, is_shut, judge, refused_by},
    maps::{Slot, offset},
    sock::{AF_INET, AF_INET6, SOCK_RAW, is_watched},
};

const AF_PACKET: u16 = 17;
const AF_XDP: u16 = 44;
const SOCK_STREAM: u16 = 1;
const SOCK_DGRAM: u16 = 2;

/// Arguments: family, type, protocol, whether the kernel asks for itself.
#[lsm(hook = "socket_create")]
pub(crate) fn socket_create(ctx: LsmContext) -> i32 {
    let (family, kind, number, kernel): (i32, i32, i32, i32) =
        (ctx.arg(0), ctx.arg(1), ctx.arg(2), ctx.arg(3));
    let family = family as u16;
    let stack = family == AF_PACKET || family == AF_XDP;
    if kernel != 0 || !stack && family != AF_INET && family != AF_INET6 {
        return 0;
    }
    let protocol = if stack { Protocol::RAW } else { protocol(kind as u16, number) };
    if matches!(protocol, Protocol::TCP | Protocol::UDP) || !is_watched() {
        return 0;
    }
    let Some(slot) = Slot::in_force() else { return 0 };
    let mut flow = claim(Direction::Out, protocol, Endpoint::default());
    Maker.identify(&slot, &mut flow);
    if stack && is_shut(&slot, &flow) {
        let rule = judge(&flow, &slot).enforced.rule;
        if rule_flags(rule, &slot) & RULE_DEFAULT != 0 {
            return 0;
        }
    }
    refused_by(&slot, &flow, &Maker).map_or(0, |rule| error(&slot, rule))
}

/// The protocol that a socket of this type will have: where none is named, TCP and UDP are the first of their types
/// (`inetsw_array` in net/ipv4/af_inet.c).
#[inline(always)]
fn protocol(kind: u16, number: i32) -> Protocol {
    match (kind, number) {
        (SOCK_RAW, _) => Protocol::RAW,
        (SOCK_STREAM, 0) => Protocol::TCP,
        (SOCK_DGRAM, 0) => Protocol::UDP,
        _ => Protocol::canonical(number.cast_unsigned()),
    }
}

/// What this hook can tell: there is no socket yet.
struct Maker;

impl Witness for Maker {
    #[inline(always)]
    fn hook(&self) -> Hook {
        Hook::Create
    }

    #[inline(always)]
    fn stamp<'a>(&'a self, _flow: &Flow) -> Option<&'a Stamp> {
        None
    }

    const BY_TASK: bool = true;

    #[inline(always)]
    fn socket(&self) -> u64 {
        0
    }

    /// Of the running task.
    #[inline(always)]
    fn netns(&self) -> u64 {
        // SAFETY: a helper without arguments, and one that reads memory of the kernel and answers with an error where
        // there is none.
        unsafe {
            let task = bpf_get_current_task() as *const c_void;
            let read = |structure: *const c_void, offset: usize| {
                bpf_probe_read_kernel(structure.wrapping_byte_add(offset).cast::<u64>())
                    .unwrap_or(0)
            };
            let proxy = read(task, offset::<{ field::NSPROXY }>()) as *const c_void;
            let net = read(proxy, offset::<{ field::NET_NS }>()) as *const c_void;
            read(net, offset::<{ field::NET_COOKIE }>())
        }
    }
}
