//! lsm/socket_accept: whether the process that accepts may: a listener can be handed on, and it can be older than the rules.
//!
//! Nothing here knows the peer; that was judged when it knocked. On a port that is closed to every peer accept() ends with
//! an error; called again within a second it waits, for peers that never come. A refused accept() leaves its queue as it
//! is, so where somebody waits there, or may come for the listener's owner, a process that tries again at once would be
//! busy for nothing: user space, which is told, ends such a listener.

use aya_ebpf::{
    bindings::BPF_SK_STORAGE_GET_F_CREATE,
    helpers::generated::{bpf_ktime_get_boot_ns, bpf_sk_storage_get},
    macros::lsm,
    programs::LsmContext,
};
use verdict::{
    Direction, Flow,
    abi::{Hook, Stamp, field},
    layout::FLAG_SUBJECTS,
};

use crate::{
    judge::{Witness, claim, is_shut, refused_by},
    maps::{REFUSED, Slot, accept_errno},
    sock::{AF_INET, AF_INET6, Made, Sock, is_watched},
};

/// What accept(2) says of a firewall's rules.
const EPERM: i32 = 1;
/// include/net/tcp_states.h; SCTP has the same number for it.
const TCP_LISTEN: u8 = 10;
/// One refusal in this time.
const PATIENCE_NS: u64 = 1_000_000_000;

/// Arguments: the listener, the socket that will be the connection's.
#[lsm(hook = "socket_accept")]
pub(crate) fn socket_accept(ctx: LsmContext) -> i32 {
    let Some(sk) = Sock::of_socket(&ctx, 0) else { return 0 };
    let family = sk.family();
    let state: u8 = sk.field::<{ field::STATE }, _>();
    // Of a listener that has ended the kernel says so itself.
    if (family != AF_INET && family != AF_INET6) || state != TCP_LISTEN || !is_watched() {
        return 0;
    }
    let Some(slot) = Slot::in_force() else { return 0 };
    let mut flow = claim(Direction::In, sk.protocol(), sk.local());
    Acceptor { sk, hook: Hook::Accept }.identify(&slot, &mut flow);
    if !is_shut(&slot, &flow) {
        return 0;
    }
    let waiting: u32 = sk.field::<{ field::BACKLOG }, _>();
    let jammed = waiting != 0 || !is_shut_for_owner(&slot, sk);
    if !jammed && is_impatient(sk) {
        return 0;
    }
    let hook = if jammed { Hook::Jammed } else { Hook::Accept };
    if refused_by(&slot, &flow, &Acceptor { sk, hook }).is_none() {
        return 0;
    }
    match accept_errno() {
        Some(errno) => -errno,
        None => -EPERM,
    }
}

/// Whether the port is closed to the owner of the listener too, so that nobody comes in there.
#[inline(always)]
fn is_shut_for_owner(slot: &Slot, sk: Sock) -> bool {
    if slot.flags & FLAG_SUBJECTS == 0 {
        return true;
    }
    let mut flow = claim(Direction::In, sk.protocol(), sk.local());
    Made { sk, hook: Hook::Accept }.identify(slot, &mut flow);
    is_shut(slot, &flow)
}

/// Whether the last refusal was a moment ago; else this one is noted.
#[inline(always)]
fn is_impatient(sk: Sock) -> bool {
    // SAFETY: a helper without arguments; then one that takes a socket which the verifier knows as one and a value of the
    // map's type, which it copies; the answer is null or leads to such a value.
    unsafe {
        let now = bpf_ktime_get_boot_ns();
        let mut never = 0u64;
        let last: *mut u64 = bpf_sk_storage_get(
            (&raw const REFUSED).cast_mut().cast(),
            sk.as_ptr().cast(),
            (&raw mut never).cast(),
            u64::from(BPF_SK_STORAGE_GET_F_CREATE),
        )
        .cast();
        if last.is_null() {
            return false;
        }
        let before = last.read_volatile();
        if before != 0 && now.saturating_sub(before) < PATIENCE_NS {
            return true;
        }
        last.write_volatile(now);
        false
    }
}

/// What this hook can tell of who accepts.
struct Acceptor {
    sk: Sock,
    hook: Hook,
}

impl Witness for Acceptor {
    #[inline(always)]
    fn hook(&self) -> Hook {
        self.hook
    }

    #[inline(always)]
    fn stamp<'a>(&'a self, _flow: &Flow) -> Option<&'a Stamp> {
        None
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
