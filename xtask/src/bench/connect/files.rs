//! The rules of the contenders, as files that their programs read.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::contender::{Filter, MILLION};
use crate::bench::line;
use crate::bench::prefixes::{self, DENIED, Prefix, Shape};

/// Where everybody listens.
pub(super) const PORT: &str = "60000";
/// Addresses that are connected to in turn. At 100 bytes of tables each they are more than a second-level cache holds.
const ADDRESSES: usize = 200_000;

/// The same three rules as a policy, with a fourth that asks for a process: what makes sockets be stamped with their owner.
const PROCESSES: &str = "\
tier team
mode enforce
failsafe none
deny any -> 192.168.56.101
deny 192.168.56.101 -> me
deny any -> 198.51.100.0/24
deny 198.51.100.0/24 -> me
deny any -> any : tcp/10000
deny me[user=nobody] -> any : tcp/9
";
/// A policy that denies nothing: what an agent begins with whose list says everything.
const OPEN: &str = "tier team\nmode enforce\nfailsafe none\nallow any -> any : tcp/60000\n";
/// The same three rules, both ways, for nftables.
const RULESET: &str = "\
table inet rules {
    chain out {
        type filter hook output priority 0;
        ip daddr 192.168.56.101 drop
        ip daddr 198.51.100.0/24 drop
        tcp dport 10000 drop
    }
    chain in {
        type filter hook input priority 0;
        ip saddr 192.168.56.101 drop
        ip saddr 198.51.100.0/24 drop
        tcp dport 10000 drop
    }
}
";

/// Files in a directory, and what they were made of.
pub(super) struct Files {
    directory: PathBuf,
    /// What fwnet's list has, in order.
    pub million: Vec<Prefix>,
    /// An address that every measurement of one address uses.
    pub one: Ipv4Addr,
}

impl Files {
    /// Writes the small ones, and the addresses; a contender's own are written when it is first asked for.
    pub(super) fn write(directory: PathBuf) -> Result<Self> {
        fs::create_dir_all(&directory).context("make a directory for the rules")?;
        let million = prefixes::list(Shape::Threats, MILLION, 1);
        let networks = prefixes::list(Shape::Networks, 100_000, 2);
        let hosts = [1_000, 10_000].map(|count| prefixes::list(Shape::Hosts, count, 3));
        let lists: [&[Prefix]; 4] = [&million, &networks, &hosts[0], &hosts[1]];
        let addresses = prefixes::neighbours(&million, &lists, ADDRESSES, 4);
        let one = *addresses.first().context("an address that no list covers")?;
        let files = Self { directory, million, one };
        prefixes::write(&files.addresses(), &addresses)?;
        files.put("processes.fw", PROCESSES)?;
        files.put("open.fw", OPEN)?;
        files.put("rules.nft", RULESET)?;
        prefixes::write(&files.list(), &files.million)?;
        let [thousand, ten_thousand] = &hosts;
        for (filter, hosts) in
            [(Filter::Linear(1_000), thousand), (Filter::Linear(10_000), ten_thousand)]
        {
            files.put_both(filter, &linear(hosts, ""))?;
        }
        let established = "ct state established accept\n";
        files.put_filter(Filter::LinearEstablished(10_000), &linear(ten_thousand, established))?;
        files.put_both(Filter::Intervals(100_000), &intervals(&networks))?;
        let ten_thousand = prefixes::list(Shape::Networks, 10_000, 2);
        files.put_filter(Filter::Concatenation(10_000), &concatenation(&ten_thousand))?;
        files.put_filter(Filter::Ipset(100_000), &ipset(&networks))?;
        Ok(files)
    }

    fn put(&self, name: &str, text: &str) -> Result<()> {
        let path = self.directory.join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }

    fn put_filter(&self, filter: Filter, text: &str) -> Result<()> {
        let path = self.filter(filter);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }

    /// As it is, and the same about what comes in.
    fn put_both(&self, filter: Filter, text: &str) -> Result<()> {
        self.put_filter(filter, text)?;
        let path = self.input(filter);
        let text = text.replace("hook output", "hook input").replace("ip daddr", "ip saddr");
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }

    /// Addresses that no list covers.
    pub(super) fn addresses(&self) -> PathBuf {
        self.directory.join("addresses")
    }

    /// The million prefixes, one a line.
    pub(super) fn list(&self) -> PathBuf {
        self.directory.join("million.txt")
    }

    /// A small policy, by its name.
    pub(super) fn small(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The rules of a packet filter in the input chain.
    pub(super) fn input(&self, filter: Filter) -> PathBuf {
        self.filter(filter).with_extension("input.nft")
    }

    /// The rules of a packet filter: for nft, or for `ipset restore`.
    pub(super) fn filter(&self, filter: Filter) -> PathBuf {
        let name = match filter {
            Filter::Linear(rules) => format!("linear-{rules}.nft"),
            Filter::LinearEstablished(rules) => format!("established-{rules}.nft"),
            Filter::Intervals(networks) => format!("intervals-{networks}.nft"),
            Filter::Concatenation(pairs) => format!("concatenation-{pairs}.nft"),
            Filter::Ipset(networks) => format!("networks-{networks}.ipset"),
        };
        self.directory.join(name)
    }
}

/// An output chain with the lines of `rules`, in a table with what stands in `before`.
fn chain(before: &str, rules: &str) -> String {
    format!(
        "table ip rules {{\n{before}chain out {{\ntype filter hook output priority 0;\n{rules}}}\n}}\n"
    )
}

fn linear(hosts: &[Prefix], first: &str) -> String {
    let mut rules = first.to_owned();
    for host in hosts {
        line(&mut rules, &format!("ip daddr {host} tcp dport {PORT} drop"));
    }
    chain("", &rules)
}

fn intervals(networks: &[Prefix]) -> String {
    let set = set("ipv4_addr", networks.iter().map(Prefix::to_string));
    chain(&set, "ip daddr @listed drop\n")
}

fn concatenation(networks: &[Prefix]) -> String {
    // Ranges of ports that begin anywhere and end where everybody listens, or behind it.
    let pairs = (0..).zip(networks).map(|(number, network)| {
        format!("{network} . {}-{}", 1_024 + number % 50_000, 60_000 + number % 5_000)
    });
    chain(&set("ipv4_addr . inet_service", pairs), "ip daddr . tcp dport @listed drop\n")
}

/// A set with intervals, named `all`.
fn set(kind: &str, elements: impl Iterator<Item = String>) -> String {
    let elements: Vec<_> = elements.collect();
    format!(
        "set listed {{\ntype {kind}; flags interval;\nelements = {{ {} }}\n}}\n",
        elements.join(", ")
    )
}

fn ipset(networks: &[Prefix]) -> String {
    let mut text = "create all hash:net maxelem 200000\n".to_owned();
    for network in networks {
        line(&mut text, &format!("add all {network}"));
    }
    text
}

/// The address whose denial shows that a contender decides.
pub(super) fn denied() -> String {
    DENIED.to_string()
}

/// A directory for rules, which is overwritten each time.
pub(super) fn place(scratch: &Path) -> PathBuf {
    scratch.join("bench/rules")
}
