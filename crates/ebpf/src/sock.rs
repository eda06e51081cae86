//! Sockets as the kernel's own structures have them: what hooks of the LSM tier are given.
//!
//! A pointer to a structure that a hook is given stays one when a known constant is added to it, and the offsets are that:
//! they stand in a frozen map ([`offset`]). So a field is a plain load, which the kernel makes safe (a bad address reads
//! as zero), and a pointer in a field is a pointer to a structure again, which helpers take.

use core::{ffi::c_void, ptr::read_volatile};

use aya_ebpf::{
    bindings::bpf_sock,
    helpers::generated::{bpf_get_current_ancestor_cgroup_id, bpf_get_socket_cookie},
    programs::LsmContext,
};
use verdict::{
    Address, Endpoint, Flow, Protocol,
    abi::{Hook, Stamp, field},
};

use crate::{
    identity::stamp_of_sock,
    judge::Witness,
    maps::{offset, watched_cgroup},
};

pub(crate) const AF_INET: u16 = 2;
pub(crate) const AF_INET6: u16 = 10;
pub(crate) const AF_SMC: u16 = 43;

pub(crate) const SOCK_RAW: u16 = 3;

/// A `struct sock` that the verifier knows as one, or its beginning, `struct sock_common`, which is also that of a
/// `struct request_sock`.
#[derive(Clone, Copy)]
pub(crate) struct Sock(*const c_void);

impl Sock {
    /// The `struct sock` or `request_sock` that a hook is given.
    #[inline(always)]
    pub(crate) fn of_argument(ctx: &LsmContext, number: usize) -> Self {
        Self(ctx.arg(number))
    }

    /// The `struct sock` of the `struct socket` that a hook is given, if it has one.
    #[inline(always)]
    pub(crate) fn of_socket(ctx: &LsmContext, number: usize) -> Option<Self> {
        let sk: *const c_void = Self(ctx.arg(number)).field::<{ field::SOCKET_SK }, _>();
        if sk.is_null() { None } else { Some(Self(sk)) }
    }

    /// A field as wide as `T`; the loader has seen that it is.
    #[inline(always)]
    pub(crate) fn field<const FIELD: usize, T: Copy>(self) -> T {
        load(self.0, offset::<FIELD>())
    }

    /// For helpers that take a socket.
    #[inline(always)]
    pub(crate) fn as_ptr(self) -> *mut bpf_sock {
        self.0.cast_mut().cast()
    }

    #[inline(always)]
    pub(crate) fn family(self) -> u16 {
        self.field::<{ field::FAMILY }, _>()
    }

    /// What goes over the wire for it.
    #[inline(always)]
    pub(crate) fn protocol(self) -> Protocol {
        if self.family() == AF_SMC {
            // Its own protocol number says which addresses it takes; it opens a TCP connection (net/smc/af_smc.c).
            return Protocol::TCP;
        }
        let kind: u16 = self.field::<{ field::TYPE }, _>();
        if kind == SOCK_RAW {
            return Protocol::RAW;
        }
        Protocol::canonical(u32::from(self.field::<{ field::PROTOCOL }, u16>()))
    }

    /// The local port; 0 where it has none yet.
    #[inline(always)]
    pub(crate) fn num(self) -> u16 {
        self.field::<{ field::NUM }, _>()
    }

    /// Where it is bound, or where a request came to.
    #[inline(always)]
    pub(crate) fn local(self) -> Endpoint {
        let address = if self.family() == AF_INET {
            Address::v4(u32::from_be(self.field::<{ field::SADDR }, _>()))
        } else {
            self.six::<{ field::SADDR6 }>()
        };
        Endpoint { address, port: self.num() }
    }

    /// Where it is connected to, or where a request came from.
    #[inline(always)]
    pub(crate) fn remote(self) -> Endpoint {
        let address = if self.family() == AF_INET {
            Address::v4(u32::from_be(self.field::<{ field::DADDR }, _>()))
        } else {
            self.six::<{ field::DADDR6 }>()
        };
        Endpoint { address, port: u16::from_be(self.field::<{ field::DPORT }, _>()) }
    }

    #[inline(always)]
    fn six<const FIELD: usize>(self) -> Address {
        let word = |index: usize| u32::from_be(load(self.0, offset::<FIELD>() + 4 * index));
        Address::v6([word(0), word(1), word(2), word(3)])
    }

    /// The cookie of its network namespace; 0 where that has none yet (Linux 5.11 and before gave it when it was asked
    /// for).
    #[inline(always)]
    pub(crate) fn netns(self) -> u64 {
        let net: *const c_void = self.field::<{ field::NET }, _>();
        if net.is_null() { 0 } else { load(net, offset::<{ field::NET_COOKIE }>()) }
    }

    #[inline(always)]
    pub(crate) fn cookie(self) -> u64 {
        // SAFETY: the helper takes a `struct sock` that the verifier knows as one.
        unsafe { bpf_get_socket_cookie(self.0.cast_mut()) }
    }
}

/// What a hook can tell of a socket whose flows are whoever's who made it, whoever holds it now.
pub(crate) struct Made {
    pub(crate) sk: Sock,
    pub(crate) hook: Hook,
}

impl Witness for Made {
    #[inline(always)]
    fn hook(&self) -> Hook {
        self.hook
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

/// A field of a structure that the verifier knows as one.
#[inline(always)]
pub(crate) fn load<T: Copy>(structure: *const c_void, offset: usize) -> T {
    // SAFETY: a load from a structure of the kernel, which reads zero where there is no memory (`BPF_PROBE_MEM`). Volatile,
    // so that it stays one load of this width behind the addition of this offset.
    unsafe { read_volatile(structure.wrapping_byte_add(offset).cast::<T>()) }
}

/// Whether the running task is below the cgroup that the other hooks are attached to: LSM hooks and tracepoints are the whole
/// machine's.
#[inline(always)]
pub(crate) fn is_watched() -> bool {
    let (cgroup, level) = watched_cgroup();
    // SAFETY: a helper without pointers.
    let own = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
    own == cgroup
}
