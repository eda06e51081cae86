//! lsm/socket_connect: the second lock on connect(). Nobody can detach it (a link of an LSM program has no such operation)
//! or undo its verdict (`bpf_set_retval`), and it sees what the connect hooks do not: SCTP, DCCP, UDP-Lite and raw sockets.
//!
//! It comes before those hooks, so of the flows that they judge too it counts only those that it refuses itself.

use core::ffi::c_void;

use aya_ebpf::{helpers::bpf_probe_read_kernel, macros::lsm, programs::LsmContext};
use verdict::{Address, Direction, Endpoint, Flow, Protocol, Subject, abi::Hook};

use crate::{
    judge::{Witness as _, allowed, destination, error, passes},
    maps::Slot,
    sock::{AF_INET, AF_INET6, AF_SMC, Made, Sock, is_watched},
};

/// Lengths of an address that the kernel takes (`inet_stream_connect` and its siblings): shorter ones are refused by it.
const IPV4_LENGTH: i32 = 16;
const IPV6_LENGTH: i32 = 24;

/// The beginning of `struct sockaddr_in` and of `sockaddr_in6` (include/uapi/linux/in.h, in6.h).
#[repr(C)]
#[derive(Clone, Copy)]
struct Named {
    family: u16,
    port: u16,
    /// The IPv4 address; of an IPv6 one the flow label.
    four: u32,
    six: [u32; 4],
}

/// Arguments: the socket, the kernel's copy of the address, its length (include/linux/lsm_hook_defs.h). Linux 7.3 has
/// another type of address; it is read by its place alone.
#[lsm(hook = "socket_connect")]
pub(crate) fn socket_connect(ctx: LsmContext) -> i32 {
    let Some(sk) = Sock::of_socket(&ctx, 0) else { return 0 };
    let family = sk.family();
    if (family != AF_INET && family != AF_INET6 && family != AF_SMC) || !is_watched() {
        return 0;
    }
    let Some(slot) = Slot::in_force() else { return 0 };
    let Some(remote) = named(&ctx, sk) else { return 0 };
    let caller = Made { sk, hook: Hook::Connect };
    let mut flow = Flow {
        direction: Direction::Out,
        protocol: sk.protocol(),
        local: sk.local(),
        remote,
        subject: Subject::UNKNOWN,
    };
    caller.identify(&slot, &mut flow);
    let judged_again =
        matches!(flow.protocol, Protocol::TCP | Protocol::UDP | Protocol::ICMP | Protocol::ICMPV6);
    let (passed, decision) =
        if judged_again { passes(&slot, &flow, &caller) } else { allowed(&slot, &flow, &caller) };
    if passed { 0 } else { error(&slot, decision.enforced.rule) }
}

/// Where to. `None` where the kernel will say itself that this is no address, and for AF_UNSPEC, which ends a connection.
#[inline(always)]
fn named(ctx: &LsmContext, sk: Sock) -> Option<Endpoint> {
    let (address, length): (*const c_void, i32) = (ctx.arg(1), ctx.arg(2));
    // SAFETY: the helper reads memory of the kernel and answers with an error where there is none.
    let named = unsafe { bpf_probe_read_kernel(address.cast::<Named>()) }.ok()?;
    let address = match named.family {
        AF_INET if length >= IPV4_LENGTH && takes_ipv4(sk) => Address::v4(u32::from_be(named.four)),
        AF_INET6 if length >= IPV6_LENGTH && sk.family() != AF_INET => {
            let [a, b, c, d] = named.six;
            Address::v6([u32::from_be(a), u32::from_be(b), u32::from_be(c), u32::from_be(d)])
        }
        _ => return None,
    };
    let address = destination(address, sk.local().address);
    Some(Endpoint { address, port: u16::from_be(named.port) })
}

/// Whether an address of IPv4 is one to this socket: to all but TCP over IPv6, which knows them as mapped ones only
/// (`tcp_v6_connect`).
#[inline(always)]
fn takes_ipv4(sk: Sock) -> bool {
    sk.family() != AF_INET6 || !matches!(sk.protocol(), Protocol::TCP)
}
