//! lsm/socket_listen: listen() on a port that no peer may reach is refused, whether or not anybody called bind(): the only
//! hook that sees all of them. And who listens is known from here on, also where nobody saw the socket made.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use verdict::{Direction, abi::Hook, layout::FLAG_SUBJECTS};

use crate::{
    identity::{stamp_current, stamp_of_sock},
    judge::{Witness as _, claim, error, refused_by},
    maps::{Slot, accept_errno},
    sock::{AF_INET, AF_INET6, Made, Sock, is_watched},
};

/// Arguments: the socket, the length of its queue. A socket without a port gets one afterwards, of the kernel's choice:
/// what comes to that is judged when it comes. (The ports of AF_SMC are those of a socket inside, which the bind hooks
/// see.)
#[lsm(hook = "socket_listen")]
pub(crate) fn socket_listen(ctx: LsmContext) -> i32 {
    let Some(sk) = Sock::of_socket(&ctx, 0) else { return 0 };
    let family = sk.family();
    if (family != AF_INET && family != AF_INET6) || !is_watched() {
        return 0;
    }
    let Some(slot) = Slot::in_force() else { return 0 };
    if slot.flags & FLAG_SUBJECTS != 0 && stamp_of_sock(sk).is_none() {
        stamp_current(sk.as_ptr(), sk.cookie());
    }
    let local = sk.local();
    if local.port == 0 || accept_errno().is_some() {
        return 0;
    }
    let claimant = Made { sk, hook: Hook::Listen };
    let mut flow = claim(Direction::In, sk.protocol(), local);
    claimant.identify(&slot, &mut flow);
    refused_by(&slot, &flow, &claimant).map_or(0, |rule| error(&slot, rule))
}
