//! lsm/socket_listen: listen() on a port that no peer may reach is refused, whether or not anybody called bind(): the only
//! hook that sees all of them. And who listens is known from here on, also where nobody saw the socket made.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use verdict::{
    Direction, Endpoint, Flow, Subject,
    abi::{Hook, Stamp},
    layout::FLAG_SUBJECTS,
};

use crate::{
    identity::{stamp_current, stamp_of_sock},
    judge::{Witness, claim_allowed, error, judge},
    maps::{Slot, accept_errno},
    sock::{AF_INET, AF_INET6, Sock, is_watched},
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
    let claimant = Claimant { sk };
    if slot.flags & FLAG_SUBJECTS != 0 && stamp_of_sock(sk).is_none() {
        stamp_current(sk.as_ptr(), sk.cookie());
    }
    let local = sk.local();
    if local.port == 0 || accept_errno().is_some() {
        return 0;
    }
    let mut flow = Flow {
        direction: Direction::In,
        protocol: sk.protocol(),
        local,
        remote: Endpoint::default(),
        subject: Subject::UNKNOWN,
    };
    claimant.identify(&slot, &mut flow);
    if claim_allowed(&slot, &flow, &claimant) {
        0
    } else {
        error(&slot, judge(&flow, &slot).enforced.rule)
    }
}

/// What this hook can tell.
struct Claimant {
    sk: Sock,
}

impl Witness for Claimant {
    #[inline(always)]
    fn hook(&self) -> Hook {
        Hook::Listen
    }

    #[inline(always)]
    fn stamp<'a>(&'a self, _flow: &Flow) -> Option<&'a Stamp> {
        stamp_of_sock(self.sk)
    }

    const BY_TASK: bool = true;

    #[inline(always)]
    fn socket(&self) -> u64 {
        self.sk.cookie()
    }

    #[inline(always)]
    fn netns(&self) -> u64 {
        self.sk.netns()
    }
}
