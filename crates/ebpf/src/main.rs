//! The kernel programs of fwnet: one file per hook, each of them hook -> flow -> verdict -> return code.
//!
//! What a flow's verdict is, crate `verdict` says; nothing here decides. Contexts are those of the stable UAPI
//! (include/uapi/linux/bpf.h), so one object serves every kernel without knowing its structures.
//!
//! Every load from a context is volatile and exactly as wide as the field: the kernel's context access checks
//! (`sock_addr_is_valid_access` and its siblings in net/core/filter.c) refuse merged or narrowed loads.
#![no_std]
#![no_main]
// The bpf target's atomic types can only load and store; the instruction for an atomic add is behind the intrinsic.
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "the atomic add")]

mod answers;
#[cfg(feature = "bench")]
mod bench;
mod bind4;
mod bind6;
mod bpf;
mod bpf_map;
mod connect4;
mod connect6;
mod evidence;
mod flows;
mod guard;
mod identity;
mod inet_conn_request;
mod inode_rename;
mod inode_unlink;
mod judge;
mod listeners;
mod maps;
mod post_bind4;
mod post_bind6;
mod report;
mod sendmsg4;
mod sendmsg6;
mod sk_lookup;
mod sock;
mod sock_addr;
mod sock_create;
mod sock_release;
mod socket_accept;
mod socket_connect;
mod socket_create;
mod socket_listen;
mod tripwire;

/// The helpers that only GPL-compatible programs may call (`bpf_probe_read_kernel` and its kin) ask for this.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Never reached: what could panic is refused by the verifier as a loop without end.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
