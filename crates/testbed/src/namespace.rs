//! One network namespace: made, entered, joined to another, removed.

use crate::{ip, name, process, wait_until};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::AsFd as _;
use std::panic;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

/// Where `ip netns` keeps named namespaces (ip-netns(8)).
const DIRECTORY: &str = "/run/netns";

/// From "up" to a carrier takes microseconds; past this something is broken.
const LINK_DEADLINE: Duration = Duration::from_secs(10);

/// A network namespace of its own with its loopback up. Its end ends the processes inside it and removes it; so a
/// namespace must outlive what runs in it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    path: PathBuf,
}

impl Namespace {
    /// Makes one.
    ///
    /// # Panics
    /// Unless root, and if `ip` cannot make a namespace.
    #[track_caller]
    #[expect(
        clippy::new_without_default,
        reason = "making a namespace changes the machine: no default does that"
    )]
    pub fn new() -> Self {
        let name = name::next();
        let path = Path::new(DIRECTORY).join(&name);
        // The value exists before what it stands for, so that a failure half way is cleaned up too.
        let namespace = Self { name, path };
        ip::run(&["netns", "add", &namespace.name])
            .unwrap_or_else(|complaint| panic!("{complaint}"));
        ip::inside(&namespace.name, "link set lo up\n");
        namespace.inside(without_duplicate_detection);
        namespace
    }

    /// Its name, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it, for setns(2): `/run/netns/NAME`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` on a thread of its own that has entered the namespace, and returns what it returned. Sockets made
    /// there belong to the namespace, and stay in it when they are returned.
    ///
    /// # Panics
    /// With the panic of `work`, if it panics.
    #[track_caller]
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let entered = move || {
            let file = File::open(&self.path)
                .unwrap_or_else(|error| panic!("open {}: {error}", self.path.display()));
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .unwrap_or_else(|error| panic!("enter {}: {error}", self.path.display()));
            work()
        };
        match thread::scope(|scope| scope.spawn(entered).join()) {
            Ok(value) => value,
            Err(panic) => panic::resume_unwind(panic),
        }
    }

    /// A command that runs `program` inside the namespace; arguments may be added as to any [`Command`]. Only the
    /// network namespace changes: files, mounts and the process id stay what they were. A missing program shows as exit
    /// status 127, not as an error of `spawn`.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(self.enter_argument()).arg("--").arg(program);
        command
    }

    /// nsenter(1)'s argument for this namespace.
    pub(crate) fn enter_argument(&self) -> String {
        format!("--net={}", self.path.display())
    }

    /// Adds `address` (`10.7.0.9/24`, `fd07::9/64`, `192.0.2.7/32`) to `device` (`lo`, `eth0`), which is up. It can be used
    /// when this returns.
    ///
    /// # Panics
    /// If `ip` refuses it.
    #[track_caller]
    pub fn add_address(&self, device: &str, address: &str) {
        let v6 = address.split('/').next().and_then(|it| it.parse::<Ipv6Addr>().ok());
        let nodad = if v6.is_some() { " nodad" } else { "" };
        ip::inside(&self.name, &format!("address add {address} dev {device}{nodad}\n"));
        if let Some(v6) = v6 {
            wait_until(LINK_DEADLINE, &format!("a route to {address} in {}", self.name), || {
                self.inside(|| has_local_route(v6))
            });
        }
    }

    /// The first IPv4 or IPv6 address (as `v6` says) of the namespace that is neither loopback nor link-local.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    pub fn address(&self, v6: bool) -> IpAddr {
        let family = if v6 { "-6" } else { "-4" };
        let listing =
            ip::run(&["-n", &self.name, family, "-o", "address", "show", "scope", "global"])
                .unwrap_or_else(|complaint| panic!("{complaint}"));
        listing
            .lines()
            .filter_map(|line| {
                line.split_ascii_whitespace().nth(3)?.split('/').next()?.parse::<IpAddr>().ok()
            })
            .find(|address| !address.is_loopback())
            .unwrap_or_else(|| panic!("namespace {} has no global {family} address", self.name))
    }

    /// Joins two namespaces with a veth pair whose ends get one address each (`10.7.0.1/24`, `fd07::1/64`), and returns
    /// the names of the ends' devices (`eth0`, `eth1`, ... in the order in which they were made). More addresses can be
    /// added with [`Namespace::add_address`]. The link carries traffic when this returns.
    ///
    /// # Panics
    /// If `ip` refuses it.
    #[track_caller]
    pub fn join(a: &Self, a_address: &str, b: &Self, b_address: &str) -> (String, String) {
        let ends = Self::plug(a, b);
        a.add_address(&ends.0, a_address);
        b.add_address(&ends.1, b_address);
        ends
    }

    /// A veth pair between two namespaces, up and with a carrier, without addresses.
    #[track_caller]
    pub(crate) fn plug(a: &Self, b: &Self) -> (String, String) {
        let (near, far) = (a.next_device(), b.next_device());
        assert!(a.name != b.name, "a namespace is joined to another one");
        let veth = format!(
            "link add name {near} type veth peer name {far} netns {}\nlink set {near} up\n",
            b.name
        );
        ip::inside(&a.name, &veth);
        ip::inside(&b.name, &format!("link set {far} up\n"));
        for (end, device) in [(a, &near), (b, &far)] {
            wait_until(LINK_DEADLINE, &format!("carrier of {device} in {}", end.name), || {
                ip::run(&["-n", &end.name, "link", "show", "dev", device])
                    .is_ok_and(|shown| shown.contains("state UP"))
            });
        }
        (near, far)
    }

    /// The first unused name of the row `eth0`, `eth1`, ...
    #[track_caller]
    fn next_device(&self) -> String {
        let listing = ip::run(&["-n", &self.name, "-o", "link", "show", "type", "veth"])
            .unwrap_or_else(|complaint| panic!("{complaint}"));
        format!("eth{}", listing.lines().count())
    }
}

/// Lets every device made from now on use its IPv6 addresses at once, link-local ones included: a router asks for its
/// neighbours from those, and detection would hold them back for a second or two.
fn without_duplicate_detection() {
    let switch = "/proc/sys/net/ipv6/conf/default/accept_dad";
    match fs::write(switch, "0") {
        // A kernel without IPv6 has nothing to detect.
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => panic!("write {switch}: {error}"),
        Ok(()) => {}
    }
}

/// Whether packets to an address of this network namespace arrive. The kernel makes the route on a thread of its own, some
/// time after the address (`addrconf_dad_work`), although nothing is detected; on loopback a route that leads nowhere
/// stands there until then.
fn has_local_route(address: Ipv6Addr) -> bool {
    // /proc/net/ipv6_route: the destination in 32 hexadecimal digits, the length of its prefix, and as the ninth word flags,
    // of which bit 31 is RTF_LOCAL (include/uapi/linux/ipv6_route.h).
    let destination = format!("{:032x} 80 ", u128::from(address));
    let routes = fs::read_to_string("/proc/thread-self/net/ipv6_route").unwrap_or_default();
    let flags = |line: &str| u32::from_str_radix(line.split_ascii_whitespace().nth(8)?, 16).ok();
    let mut here = routes.lines().filter(|line| line.starts_with(&destination)).filter_map(flags);
    here.any(|flags| flags >> 31 == 1)
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Ends what runs inside and removes the name. The kernel frees the namespace with its last socket.
fn remove(name: &str) {
    let path = Path::new(DIRECTORY).join(name);
    for pid in process::all() {
        if process::in_namespace(pid, &path) {
            process::end(pid, || process::in_namespace(pid, &path));
        }
    }
    if path.exists() {
        // Another process's sweep may be quicker, and a Drop has nobody to tell.
        if let Err(complaint) = ip::run(&["netns", "delete", name])
            && path.exists()
        {
            eprintln!("testbed: namespace {name} stays: {complaint}");
        }
    }
}

/// Removes the namespaces of makers that no longer run.
pub(crate) fn sweep() {
    let Ok(entries) = fs::read_dir(DIRECTORY) else { return };
    for entry in entries.flatten() {
        if let Some(name) = entry.file_name().to_str().filter(|name| name::is_left_over(name)) {
            remove(name);
        }
    }
}
