//! tp_btf/inet_sock_set_state: reports a TCP socket that connects or listens without a verdict. Optional: it runs at
//! every change of state of every connection.
//!
//! It cannot refuse; user space looks the reported socket up by its cookie and destroys it where the verdict is to deny.
//! It runs for the whole machine, so it looks only at tasks below the cgroup that the other hooks are attached to.

use core::ptr::null_mut;

use aya_ebpf::{
    helpers::generated::{bpf_get_socket_cookie, bpf_sk_storage_get},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use verdict::{
    Decision, Direction, Endpoint, Flow, Protocol,
    abi::{Hook, Stamp, field},
};

use crate::{
    guard::number,
    judge::{Witness, claim},
    maps::{JUDGED, JUDGED_APART, Slot, offset},
    report::report,
    sock::is_watched,
};

const TCP_SYN_SENT: i32 = 2;
const TCP_LISTEN: i32 = 10;
/// include/uapi/linux/in.h
const IPPROTO_MPTCP: u16 = 262;

/// Arguments: the socket, the old state, the new state (include/trace/events/sock.h).
#[btf_tracepoint(function = "inet_sock_set_state")]
pub(crate) fn tripwire(ctx: BtfTracePointContext) -> i32 {
    let state: i32 = ctx.arg(2);
    if (state != TCP_SYN_SENT && state != TCP_LISTEN) || !is_watched() {
        return 0;
    }
    let sk: *mut core::ffi::c_void = ctx.arg(0);
    // SAFETY: the tracepoint's first argument is a socket that the verifier knows as one.
    let (mark, socket) = unsafe {
        (
            bpf_sk_storage_get((&raw const JUDGED).cast_mut().cast(), sk, null_mut(), 0),
            bpf_get_socket_cookie(sk),
        )
    };
    if state == TCP_SYN_SENT && (!mark.is_null() || is_marked(socket) || is_mptcp(sk as u64)) {
        return 0;
    }
    let Some(slot) = Slot::in_force() else { return 0 };
    let direction = if state == TCP_LISTEN { Direction::In } else { Direction::Out };
    let flow = claim(direction, Protocol::TCP, Endpoint::default());
    report(&slot, &flow, &Decision::MALFORMED, &Wire { socket });
    0
}

/// Whether the socket with this cookie was judged, and marked by it.
#[inline(always)]
fn is_marked(cookie: u64) -> bool {
    JUDGED_APART.get_ptr(&cookie).is_some()
}

/// Whether it is an MPTCP socket: the one that a process holds and by which no packet leaves. Its state changes before the
/// kernel asks whether its first subflow may connect (`mptcp_connect` in net/mptcp/protocol.c); each subflow is a socket that
/// is judged, and looked at here, by itself.
#[inline(always)]
fn is_mptcp(sk: u64) -> bool {
    let offset = offset::<{ field::PROTOCOL }>();
    offset != field::UNKNOWN as usize && number::<u16>(sk, offset) == IPPROTO_MPTCP
}

/// What the tripwire can tell.
struct Wire {
    socket: u64,
}

impl Witness for Wire {
    #[inline(always)]
    fn hook(&self) -> Hook {
        Hook::Tripwire
    }

    #[inline(always)]
    fn stamp<'a>(&'a self, _flow: &Flow) -> Option<&'a Stamp> {
        None
    }

    const BY_TASK: bool = true;

    #[inline(always)]
    fn socket(&self) -> u64 {
        self.socket
    }

    #[inline(always)]
    fn netns(&self) -> u64 {
        0
    }
}
