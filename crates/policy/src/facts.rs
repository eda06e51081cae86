//! What a compilation knows beside the policies: who there is, which host this is, what time it is.

use jiff::Timestamp;
use verdict::Address;

use crate::inventory::{HostIndex, Inventory};

/// Turns the names of process qualifiers into the numbers that the kernel knows on this host. The shell does the
/// looking up (passwd, group, executables, cgroups, namespaces); `None` is "no such thing here".
pub trait Identities {
    /// The uid of a user.
    fn user(&self, name: &str) -> Option<u32>;
    /// The gid of a group.
    fn group(&self, name: &str) -> Option<u32>;
    /// The number of an executable by its absolute path; 0 stands for unknown executables and is taken as `None`.
    fn exe(&self, path: &str) -> Option<u64>;
    /// The cgroup id of a unit or of an absolute cgroup path; 0 stands for unknown cgroups and is taken as `None`.
    fn unit(&self, name: &str) -> Option<u64>;
    /// The cgroup id of a container, by its name or the beginning of its id (see
    /// [`means_container`](crate::syntax::means_container)); 0 is taken as `None`.
    fn container(&self, name: &str) -> Option<u64>;
    /// The cookie of a network namespace, by its name, its path or `host`; 0 is taken as `None`.
    fn netns(&self, name: &str) -> Option<u64>;
    /// The ids of the cgroups above a cgroup: a rule about one of them holds for it, too. None by default.
    fn above(&self, _cgroup: u64) -> Vec<u64> {
        Vec::new()
    }
    /// Further numbers of an executable: of files that stood at its path before, as long as processes run them. None by
    /// default.
    fn former_exes(&self, _path: &str) -> Vec<u64> {
        Vec::new()
    }
    /// Further cgroup ids of a unit: those it had before it was started again, which sockets that are still open were made
    /// under. None by default.
    fn former_units(&self, _name: &str) -> Vec<u64> {
        Vec::new()
    }
    /// The same of a container.
    fn former_containers(&self, _name: &str) -> Vec<u64> {
        Vec::new()
    }
}

/// Knows nobody by name: rules that name one match no process.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoIdentities;

impl Identities for NoIdentities {
    fn user(&self, _: &str) -> Option<u32> {
        None
    }

    fn group(&self, _: &str) -> Option<u32> {
        None
    }

    fn exe(&self, _: &str) -> Option<u64> {
        None
    }

    fn unit(&self, _: &str) -> Option<u64> {
        None
    }

    fn container(&self, _: &str) -> Option<u64> {
        None
    }

    fn netns(&self, _: &str) -> Option<u64> {
        None
    }
}

/// What policies are compiled against. The same policies and facts always give the same image.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// Who there is.
    pub inventory: &'a Inventory,
    /// Id or name of the host that enforces: the host `me`. One that the inventory does not know has no labels.
    pub host: &'a str,
    /// Addresses of that host besides those of the inventory, its interfaces' say. Those that the inventory gives to
    /// another host stay that host's. Loopback is always its own and need not be named.
    pub addresses: &'a [Address],
    /// Users, groups, executables, units, containers and network namespaces of that host.
    pub identities: &'a dyn Identities,
    /// Rules that ended before it are left out; those that end later do so in the image.
    pub now: Timestamp,
    /// When the clock that the image is read by showed zero: ends are told in nanoseconds from then on.
    pub zero: Timestamp,
    /// Written into the image.
    pub version: u64,
}

impl<'a> Facts<'a> {
    /// With no addresses beyond the inventory's and version 0, for the clock on the wall.
    pub fn new(
        inventory: &'a Inventory,
        host: &'a str,
        identities: &'a dyn Identities,
        now: Timestamp,
    ) -> Self {
        Self {
            inventory,
            host,
            addresses: &[],
            identities,
            now,
            zero: Timestamp::UNIX_EPOCH,
            version: 0,
        }
    }

    /// A moment as the image tells it; what was before its clock's zero is zero.
    pub(crate) fn told(&self, moment: Timestamp) -> u64 {
        let since = moment.duration_since(self.zero).as_nanos().max(0);
        u64::try_from(since).unwrap_or(u64::MAX)
    }
}

/// The host that enforces, as selectors see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Here {
    /// Its number, if the inventory knows it.
    pub(crate) index: Option<HostIndex>,
    /// Its addresses, sorted, without loopback.
    pub(crate) own: Vec<Address>,
    /// Addresses it was said to have which are another host's by the inventory.
    pub(crate) disputed: Vec<Address>,
}

impl Here {
    pub(crate) fn new(inventory: &Inventory, host: &str, addresses: &[Address]) -> Self {
        let index = inventory.find(host);
        let listed = index.and_then(|index| inventory.host(index));
        let mut own = listed.map(|host| host.addresses.clone()).unwrap_or_default();
        let mut disputed = Vec::new();
        for &address in addresses {
            match inventory.find_address(address) {
                Some(owner) if Some(owner) != index => disputed.push(address),
                Some(_) | None => own.push(address),
            }
        }
        own.retain(|address| !address.is_loopback());
        own.sort_unstable();
        own.dedup();
        disputed.retain(|address| !address.is_loopback());
        Self { index, own, disputed }
    }
}
