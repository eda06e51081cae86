//! The only crate that speaks bpf(2): probe, load, attach, swap images, read events, detach.
//!
//! [`Firewall`] is the whole life of the programs: it loads them with an image in force, attaches them by bpf_link to a
//! cgroup and to network namespaces, swaps images by one store, and takes with it, when dropped, exactly what it
//! attached. Nothing is attached before everything is loaded, and a failure half-way leaves nothing behind.
//!
//! `unsafe` lives here and in the kernel programs; what this crate offers is safe.
#![expect(
    unsafe_code,
    reason = "system calls and memory shared with the kernel; each use says why it is sound"
)]

mod addresses;
mod attach;
mod births;
mod btf;
mod cgroup;
mod event;
mod executable;
mod features;
mod fields;
mod firewall;
mod flows;
mod functions;
mod guard;
mod held;
mod hook;
mod listeners;
mod lsm;
mod memory;
mod netns;
mod object;
mod peer;
mod privilege;
mod probe;
pub mod raw;
mod set;
mod slots;
mod snapshot;
mod sockets;
mod sys;

pub use addresses::AddressWatch;
pub use attach::AttachError;
pub use btf::{Btf, BtfError, Field};
pub use cgroup::{Cgroup, CgroupError, CgroupTree};
pub use event::{Door, Event};
pub use executable::exe_number;
pub use features::Features;
pub use fields::{Fields, Wanted as WantedField};
pub use firewall::{
    Adopted, Attachments, Counting, Digests, Firewall, Hits, Identity, Joined, Known, LoadError,
    Lost, Mended, Namespaces, Removed, Retired, Runs, Scheduled, Stamps, Stranger, SwapError,
    WAKE_EVERY, boottime, pinned,
};
pub use flows::Counted;
pub use held::Held;
pub use hook::{Hook, Scope};
pub use lsm::LsmError;
pub use memory::give_back;
pub use netns::{Netns, NetnsError};
pub use object::ObjectError;
pub use peer::peer_groups;
pub use privilege::{PrivilegeError, require as require_privilege};
pub use probe::{Probe, probe};
pub use set::PinError;
pub use snapshot::{Snapshot, snapshot};
pub use sockets::{Socket, Sockets, SocketsError, State, Wanted};
