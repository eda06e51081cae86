//! Hosts made of network namespaces and cgroups that clean up after themselves.
//!
//! ```text
//!  Host a: namespace + cgroup ──veth── Host b            Network::line(2), or Namespace::join
//!
//!  Host 0 ──veth──┐
//!  Host 1 ──veth──┤ switch (a namespace with a bridge)   Network::star(3)
//!  Host 2 ──veth──┘                                      cut, heal, unplug, plug
//! ```
//!
//! Everything is a value: its end, by a return or by a panic, ends the processes that are left inside and removes
//! what was made. A process that is killed cannot do that, so names carry their maker's process id and start time, and
//! the first thing any user of this crate makes is preceded by a sweep of what dead makers left.
//!
//! Nothing here touches the root network namespace or the root cgroup: devices are created inside the namespaces, and
//! a [`Cgroup`] is always a child. Made for tests and demonstrations, run as root: what goes wrong panics at the
//! caller's line instead of returning an error. Needs `ip` (iproute2), `nsenter` (util-linux) and a mounted cgroup v2.
//!
//! [`Signers`] make what hosts are to trust, so that each test does not make its own.

mod cgroup;
mod dice;
mod directory;
mod elf;
pub mod etcd;
mod host;
mod ip;
mod name;
mod namespace;
mod network;
mod process;
pub mod random;
mod running;
mod signers;
mod wait;

pub use cgroup::{Cgroup, Visit};
pub use dice::Dice;
pub use directory::Directory;
pub use elf::{BpfMap, bpf_object, bpf_object_with_map};
pub use host::Host;
pub use name::sweep;
pub use namespace::Namespace;
pub use network::{HOSTS_MAX, Network};
pub use running::Running;
pub use signers::Signers;
pub use wait::{require_root, wait_until};
