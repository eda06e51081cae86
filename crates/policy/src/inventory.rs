//! Which hosts there are: ids, names, addresses and labels, indexed for selectors.
//!
//! Hosts are numbered densely in the order they were given; label keys and values are kept once, each with the sorted
//! numbers of its hosts, so that a label test is a look-up whatever the number of hosts.

mod fault;
mod read;

use std::collections::{BTreeMap, btree_map::Entry};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use verdict::Address;

pub use fault::InventoryFault;
pub use read::InventoryError;

use crate::limits::{HOST_ADDRESSES_MAX, HOST_LABELS_MAX, HOST_NAMES_MAX, HOSTS_MAX, REPORTED_MAX};

/// A host's number: its place in [`Inventory::hosts`].
pub type HostIndex = u32;

/// A machine that enforces, or a peer that is known by labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Unique among ids and names.
    pub id: String,
    /// What else it is called; unique among ids and names.
    #[serde(default)]
    pub names: Vec<String>,
    /// Its addresses, canonical; no two hosts share one.
    #[serde(default, with = "read::addresses")]
    #[schemars(with = "Vec<String>")]
    pub addresses: Vec<Address>,
    /// Its labels: `role` to `db`. The key `host` is taken: it is the id.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// The hosts, checked and indexed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    hosts: Vec<Host>,
    /// Ids and names.
    words: BTreeMap<String, HostIndex>,
    addresses: BTreeMap<Address, HostIndex>,
    /// Key to value to hosts, sorted.
    labels: BTreeMap<String, BTreeMap<String, Vec<HostIndex>>>,
}

impl Inventory {
    /// Checks and indexes `hosts`.
    ///
    /// # Errors
    /// Every fault that was found, at most [`REPORTED_MAX`].
    pub fn new(hosts: Vec<Host>) -> Result<Self, Vec<InventoryFault>> {
        if hosts.len() > HOSTS_MAX {
            return Err(vec![InventoryFault::Hosts { count: hosts.len() }]);
        }
        let mut inventory = Self::default();
        let mut faults = Vec::new();
        for (index, host) in (0..).zip(hosts) {
            faults.extend(fault::find(&inventory, &host, index, None));
            if faults.len() >= REPORTED_MAX {
                faults.truncate(REPORTED_MAX);
                break;
            }
            // A faulty host keeps its number, so that later faults name places in the file.
            inventory.index(&host, index);
            inventory.hosts.push(host);
        }
        if faults.is_empty() { Ok(inventory) } else { Err(faults) }
    }

    /// Adds `host`, or replaces the one of the same id, which keeps its number. Costs what this host's facts cost, not
    /// what the inventory does.
    ///
    /// # Errors
    /// What is wrong with it; the inventory is then unchanged.
    pub fn replace(&mut self, host: Host) -> Result<HostIndex, Vec<InventoryFault>> {
        let existing = self
            .words
            .get(&host.id)
            .copied()
            .filter(|&at| self.hosts.get(at as usize).is_some_and(|old| old.id == host.id));
        let Some(index) = existing else { return self.put(host) };
        self.refuse_faults(&host, index, Some(index))?;
        let at = index as usize;
        let old = std::mem::replace(
            self.hosts.get_mut(at).expect("`words` holds numbers of hosts only"),
            host.clone(),
        );
        self.forget(&old, index);
        self.index(&host, index);
        Ok(index)
    }

    /// Adds a host whose id must be new.
    fn put(&mut self, host: Host) -> Result<HostIndex, Vec<InventoryFault>> {
        if self.hosts.len() >= HOSTS_MAX {
            return Err(vec![InventoryFault::Hosts { count: self.hosts.len() + 1 }]);
        }
        let index = HostIndex::try_from(self.hosts.len()).expect("HOSTS_MAX fits in 32 bits");
        self.refuse_faults(&host, index, None)?;
        self.index(&host, index);
        self.hosts.push(host);
        Ok(index)
    }

    fn refuse_faults(
        &self,
        host: &Host,
        index: HostIndex,
        replaced: Option<HostIndex>,
    ) -> Result<(), Vec<InventoryFault>> {
        let faults = fault::find(self, host, index, replaced);
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    fn index(&mut self, host: &Host, index: HostIndex) {
        for word in std::iter::once(&host.id).chain(&host.names) {
            self.words.insert(word.clone(), index);
        }
        for &address in &host.addresses {
            self.addresses.insert(address, index);
        }
        for (key, value) in &host.labels {
            // Not `entry`: keys and values are there already for all but the first host that has them.
            let hosts = match self.labels.get_mut(key).and_then(|values| values.get_mut(value)) {
                Some(hosts) => hosts,
                None => {
                    self.labels.entry(key.clone()).or_default().entry(value.clone()).or_default()
                }
            };
            if let Err(at) = hosts.binary_search(&index) {
                hosts.insert(at, index);
            }
        }
    }

    fn forget(&mut self, old: &Host, index: HostIndex) {
        for word in std::iter::once(&old.id).chain(&old.names) {
            self.words.remove(word);
        }
        for address in &old.addresses {
            self.addresses.remove(address);
        }
        for (key, value) in &old.labels {
            let Entry::Occupied(mut values) = self.labels.entry(key.clone()) else { continue };
            let Entry::Occupied(mut hosts) = values.get_mut().entry(value.clone()) else {
                continue;
            };
            if let Ok(at) = hosts.get().binary_search(&index) {
                hosts.get_mut().remove(at);
            }
            if hosts.get().is_empty() {
                hosts.remove();
            }
            if values.get().is_empty() {
                values.remove();
            }
        }
    }

    /// All hosts; a host's number is its place here.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The host of number `index`.
    pub fn host(&self, index: HostIndex) -> Option<&Host> {
        self.hosts.get(index as usize)
    }

    /// The host of this id or name.
    pub fn find(&self, word: &str) -> Option<HostIndex> {
        self.words.get(word).copied()
    }

    /// The host that has this address.
    pub fn find_address(&self, address: Address) -> Option<HostIndex> {
        self.addresses.get(&address).copied()
    }

    /// Ids and names of all hosts, sorted.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.words.keys().map(String::as_str)
    }

    /// Hosts whose label `key` has this value, sorted. The key `host` is the id.
    pub fn with_label(&self, key: &str, value: &str) -> Vec<HostIndex> {
        if key == HOST_KEY {
            let host = self
                .find(value)
                .filter(|&index| self.host(index).is_some_and(|host| host.id == value));
            return host.into_iter().collect();
        }
        self.labelled(key, value).to_vec()
    }

    /// Hosts whose label `key` has this value, sorted; `key` is not `host`.
    pub fn labelled(&self, key: &str, value: &str) -> &[HostIndex] {
        self.labels.get(key).and_then(|values| values.get(value)).map_or(&[], Vec::as_slice)
    }

    /// Hosts that have a label `key`, sorted. Every host has `host`.
    pub fn with_key(&self, key: &str) -> Vec<HostIndex> {
        if key == HOST_KEY {
            return (0..).take(self.hosts.len()).collect();
        }
        let mut hosts: Vec<HostIndex> = self
            .labels
            .get(key)
            .into_iter()
            .flat_map(BTreeMap::values)
            .flatten()
            .copied()
            .collect();
        hosts.sort_unstable();
        hosts
    }

    /// Every label key in use, sorted; `host` is not among them.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.labels.keys().map(String::as_str)
    }

    /// Every value in use of the label `key`, sorted; `key` is not `host`.
    pub fn values(&self, key: &str) -> impl Iterator<Item = &str> {
        self.labels.get(key).into_iter().flat_map(BTreeMap::keys).map(String::as_str)
    }
}

/// The label key that stands for a host's id.
pub const HOST_KEY: &str = "host";
