//! Network namespaces: named ones, those of processes, and their cookies.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    net::Ipv4Addr,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    thread,
};

use rustix::{
    fs::fstatfs,
    net::{AddressFamily, SocketType, socket},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use verdict::Address;

/// `NSFS_MAGIC` (include/uapi/linux/magic.h).
const NSFS_MAGIC: i64 = 0x6e73_6673;
/// `SO_NETNS_COOKIE` (include/uapi/asm-generic/socket.h), since 5.14.
const SO_NETNS_COOKIE: libc::c_int = 71;
/// Where ip-netns(8) and container engines bind-mount the namespaces they name.
pub(crate) const NAMED: [&str; 3] = ["/run/netns", "/run/docker/netns", "/run/netns-containers"];

/// Why a network namespace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// It cannot be opened.
    #[error("open network namespace {name}")]
    Open {
        /// The name or path as given.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The path is something else.
    #[error("{name} is not a network namespace")]
    Foreign {
        /// The name or path as given.
        name: String,
    },
}

/// An open network namespace.
#[derive(Debug)]
pub struct Netns {
    file: File,
    name: String,
    inode: u64,
    cookie: u64,
}

impl Netns {
    /// Opens by name (as `ip netns` knows it) or by path (anything with a `/`).
    ///
    /// # Errors
    /// [`NetnsError::Open`] where it is not there, [`NetnsError::Foreign`] where it is no network namespace.
    pub fn open(name: &str) -> Result<Self, NetnsError> {
        let path = if name.contains('/') {
            PathBuf::from(name)
        } else {
            Path::new("/run/netns").join(name)
        };
        Self::open_as(&path, name.to_owned())
    }

    fn open_as(path: &Path, name: String) -> Result<Self, NetnsError> {
        let failed = |source| NetnsError::Open { name: name.clone(), source };
        let file = File::open(path).map_err(failed)?;
        let inode = file.metadata().map_err(failed)?.ino();
        let kind = fstatfs(&file).map_err(|errno| failed(errno.into()))?;
        if kind.f_type != NSFS_MAGIC {
            return Err(NetnsError::Foreign { name });
        }
        match cookie(file.try_clone().map_err(failed)?) {
            Ok(cookie) => Ok(Self { file, name, inode, cookie }),
            // Entering a namespace of another kind is refused with EINVAL (setns(2)).
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                Err(NetnsError::Foreign { name })
            }
            Err(source) => Err(failed(source)),
        }
    }

    /// Every network namespace that a process lives in or that has a name, each once, ordered by inode. Namespaces that
    /// are held by nothing but a descriptor or a bind mount elsewhere are not found.
    pub fn found() -> Vec<Self> {
        Self::found_beside(&BTreeSet::new()).0
    }

    /// Those of [`Netns::found`] whose inodes are not in `known`, which are not even opened; and the inodes of all.
    pub fn found_beside(known: &BTreeSet<u64>) -> (Vec<Self>, BTreeSet<u64>) {
        let mut seen = BTreeSet::new();
        let mut namespaces: BTreeMap<u64, Self> = BTreeMap::new();
        let mut add = |path: &Path, name: String| {
            // A process may end and a name may go while we look: then there is nothing to attach to.
            let Ok(metadata) = fs::metadata(path) else { return };
            let inode = metadata.ino();
            if !seen.insert(inode) || known.contains(&inode) {
                return;
            }
            if let Ok(namespace) = Self::open_as(path, name) {
                namespaces.insert(namespace.inode, namespace);
            }
        };
        for directory in NAMED {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                add(&entry.path(), entry.file_name().to_string_lossy().into_owned());
            }
        }
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry.file_name().to_string_lossy().into_owned();
            if pid.bytes().all(|byte| byte.is_ascii_digit()) {
                add(&entry.path().join("ns/net"), format!("/proc/{pid}/ns/net"));
            }
        }
        (namespaces.into_values().collect(), seen)
    }

    /// What [`Netns::open`] can open of what has a name: names as `ip netns` knows them, and the paths of what container
    /// engines name.
    pub fn named() -> Vec<String> {
        let mut found = Vec::new();
        for directory in NAMED {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                let name =
                    if directory == NAMED[0] { entry.file_name().into() } else { entry.path() };
                found.extend(name.to_str().map(str::to_owned));
            }
        }
        found
    }

    /// Another handle of the same namespace.
    ///
    /// # Errors
    /// Where there are no descriptors left.
    pub fn handle(&self) -> io::Result<Self> {
        let file = self.file.try_clone()?;
        Ok(Self { file, name: self.name.clone(), inode: self.inode, cookie: self.cookie })
    }

    /// The name or path it was opened by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The inode number, by which `lsns` knows it.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// The kernel's cookie for it; 0 on kernels before 5.14.
    pub fn cookie(&self) -> u64 {
        self.cookie
    }
}

impl Netns {
    /// The addresses of its interfaces, loopback among them.
    ///
    /// # Errors
    /// Where it cannot be entered or the kernel does not list them.
    pub fn addresses(&self) -> io::Result<Vec<Address>> {
        enter(self.file()?, || {
            let mut addresses = local_v4(&fs::read_to_string("/proc/thread-self/net/fib_trie")?);
            // Absent where IPv6 is off.
            let v6 = fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap_or_default();
            addresses.extend(v6.lines().filter_map(local_v6));
            addresses.sort_unstable();
            addresses.dedup();
            Ok(addresses)
        })
    }

    /// A second descriptor of it, to enter it by.
    pub(crate) fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The local IPv4 addresses in `/proc/net/fib_trie`: leaves that a line `/32 host LOCAL` follows.
fn local_v4(trie: &str) -> Vec<Address> {
    let mut leaf = None;
    let mut addresses = Vec::new();
    for line in trie.lines() {
        let line = line.trim_start();
        if let Some(text) = line.strip_prefix("|-- ") {
            leaf = text.trim().parse::<Ipv4Addr>().ok();
        } else if line.starts_with("/32 host LOCAL") {
            addresses.extend(leaf.map(|v4| Address::v4(v4.to_bits())));
        }
    }
    addresses
}

/// The address of a line of `/proc/net/if_inet6`: 32 hexadecimal digits come first.
fn local_v6(line: &str) -> Option<Address> {
    let digits = line.split_ascii_whitespace().next()?;
    u128::from_str_radix(digits, 16).ok().map(Address::from_bits)
}

/// Runs `inside` on a thread of its own that has entered the namespace.
///
/// # Errors
/// Where the namespace cannot be entered, or `inside` fails.
pub(crate) fn enter<T: Send + 'static>(
    namespace: File,
    inside: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let entered = move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        inside()
    };
    thread::spawn(entered)
        .join()
        .unwrap_or_else(|_panic| Err(io::Error::other("the thread inside the namespace panicked")))
}

/// The cookie is a socket's to tell.
fn cookie(namespace: File) -> io::Result<u64> {
    enter(namespace, || {
        let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
        let (mut cookie, mut size) = (0u64, 8 as libc::socklen_t);
        // SAFETY: the two pointers are to locals that outlive the call; `size` is the first one's size.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                SO_NETNS_COOKIE,
                (&raw mut cookie).cast(),
                &raw mut size,
            )
        };
        Ok(if result == 0 { cookie } else { 0 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_namespace_is_refused_by_name() {
        for (name, message) in [
            ("no-such", "open network namespace no-such"),
            ("/proc/self/ns/mnt", "/proc/self/ns/mnt is not a network namespace"),
            ("/proc/version", "/proc/version is not a network namespace"),
        ] {
            assert_eq!(Netns::open(name).expect_err("not a namespace").to_string(), message);
        }
    }

    #[test]
    fn addresses_are_those_of_the_interfaces() {
        let bed = testbed::Namespace::new();
        bed.add_address("lo", "10.1.2.3/32");
        bed.add_address("lo", "fd00::7/128");
        let addresses =
            Netns::open(bed.name()).expect("just made").addresses().expect("it lists them");
        let v6 = Address::from_bits(0xfd00 << 112 | 7);
        for address in [Address::LOOPBACK_V4, Address::LOOPBACK_V6, Address::v4(0x0a01_0203), v6] {
            assert!(addresses.contains(&address), "{address:?} in {addresses:?}");
        }
    }

    #[test]
    fn our_own_is_found_once() {
        let own = Netns::open("/proc/self/ns/net").expect("our own namespace");
        assert_eq!(Netns::found().iter().filter(|found| found.inode() == own.inode()).count(), 1);
    }
}
