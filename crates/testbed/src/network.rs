//! Hosts joined to networks: a star around one switch, or a line of routers.

mod cut;

use crate::{Host, Namespace, ip};
use cut::Cuts;
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Hosts in one [`Network`]: the host's number is one byte of its addresses, and 0 and 255 are not for hosts.
pub const HOSTS_MAX: u8 = 254;

/// Hosts that reach each other over IPv4 and IPv6, and nothing else.
#[derive(Debug)]
pub struct Network {
    hosts: Vec<Host>,
    /// The bridge's namespace, in a star.
    switch: Option<Namespace>,
    cuts: Cuts,
    line: bool,
}

impl Network {
    /// `count` hosts around one switch, all in 10.7.0.0/24 and fd07::/64: host *i* (from 0) is 10.7.0.*i+1* and
    /// fd07::*i+1* on its `eth0`.
    ///
    /// # Panics
    /// If `count` is more than [`HOSTS_MAX`], and as [`Host::new`].
    #[track_caller]
    pub fn star(count: u8) -> Self {
        assert!(count <= HOSTS_MAX, "a network has at most {HOSTS_MAX} hosts, not {count}");
        let switch = Namespace::new();
        // No querier here, so snooping would only delay the neighbour discovery of IPv6.
        ip::inside(
            switch.name(),
            "link add name switch type bridge mcast_snooping 0\nlink set switch up\n",
        );
        let network = Self {
            hosts: (0..count).map(|_| Host::new()).collect(),
            switch: Some(switch),
            cuts: Cuts::default(),
            line: false,
        };
        for (index, host) in (0..).zip(&network.hosts) {
            let switch = network.switch.as_ref().expect("a star has a switch");
            let (own, device) = Namespace::plug(switch, &host.namespace);
            assert_eq!(own, port(index), "ports are in the order of the hosts");
            ip::inside(switch.name(), &format!("link set {own} master switch\n"));
            host.namespace.add_address(&device, &format!("{}/24", network.address(index)));
            host.namespace.add_address(&device, &format!("{}/64", network.address_v6(index)));
        }
        network
    }

    /// `count` hosts in a row, each joined to the next and forwarding for the others. Link *i* between hosts *i* and
    /// *i+1* is 10.7.*i*.0/24 and fd07:*i*::/64 with .1 at the near and .2 at the far end; every host also has
    /// 10.8.0.*i+1* and fd08::*i+1* on its loopback device, by which all know it.
    ///
    /// # Panics
    /// If `count` is more than [`HOSTS_MAX`], and as [`Host::new`].
    #[track_caller]
    pub fn line(count: u8) -> Self {
        assert!(count <= HOSTS_MAX, "a network has at most {HOSTS_MAX} hosts, not {count}");
        let hosts = (0..count).map(|_| Host::new()).collect();
        let network = Self { hosts, switch: None, cuts: Cuts::default(), line: true };
        for (index, host) in (0..).zip(&network.hosts) {
            forward(&host.namespace);
            host.namespace.add_address("lo", &format!("{}/32", network.address(index)));
            host.namespace.add_address("lo", &format!("{}/128", network.address_v6(index)));
        }
        for (link, pair) in (0u8..).zip(network.hosts.windows(2)) {
            let [near, far] = pair else { unreachable!("windows of two") };
            let (near, far) = (&near.namespace, &far.namespace);
            let (out, back) = Namespace::join(
                near,
                &format!("10.7.{link}.1/24"),
                far,
                &format!("10.7.{link}.2/24"),
            );
            near.add_address(&out, &format!("fd07:{link:x}::1/64"));
            far.add_address(&back, &format!("fd07:{link:x}::2/64"));
        }
        for (index, host) in (0..count).zip(&network.hosts) {
            ip::inside(host.namespace.name(), &network.routes(index, count));
        }
        network
    }

    /// The hosts, in order.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The namespace that holds the bridge of a star.
    pub fn switch(&self) -> Option<&Namespace> {
        self.switch.as_ref()
    }

    /// Loses everything that some hosts of a star send to others, in both directions, from now on: connections that stand
    /// stall, new ones are not answered. Nobody is told, as by a cable that is cut far away.
    ///
    /// # Panics
    /// If this is no star, a host is not in it, or `nft` (package nftables) is missing or refuses.
    #[track_caller]
    pub fn cut(&self, some: &[u8], others: &[u8]) {
        self.cuts.cut(self.star_switch(some, others), some, others);
    }

    /// Undoes [`Network::cut`] between these hosts; it is no error if nothing was cut.
    ///
    /// # Panics
    /// As [`Network::cut`].
    #[track_caller]
    pub fn heal(&self, some: &[u8], others: &[u8]) {
        self.cuts.heal(self.star_switch(some, others), some, others);
    }

    /// Pulls the cable of a host of a star out of its switch: the host sees that its link is down.
    ///
    /// # Panics
    /// If this is no star, the host is not in it, or `ip` refuses.
    #[track_caller]
    pub fn unplug(&self, host: u8) {
        ip::inside(
            self.star_switch(&[host], &[]).name(),
            &format!("link set {} down\n", port(host)),
        );
    }

    /// Undoes [`Network::unplug`].
    ///
    /// # Panics
    /// As [`Network::unplug`].
    #[track_caller]
    pub fn plug(&self, host: u8) {
        ip::inside(self.star_switch(&[host], &[]).name(), &format!("link set {} up\n", port(host)));
    }

    /// The switch of these hosts.
    #[track_caller]
    fn star_switch(&self, some: &[u8], others: &[u8]) -> &Namespace {
        let stranger =
            some.iter().chain(others).find(|host| usize::from(**host) >= self.hosts.len());
        assert!(stranger.is_none(), "there is no host {stranger:?} in this network");
        self.switch.as_ref().expect("the network is a star")
    }

    /// The IPv4 address by which every host knows host `index` (from 0).
    pub fn address(&self, index: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, if self.line { 8 } else { 7 }, 0, index.saturating_add(1))
    }

    /// The IPv6 address by which every host knows host `index` (from 0).
    pub fn address_v6(&self, index: u8) -> Ipv6Addr {
        let net = if self.line { 0xfd08 } else { 0xfd07 };
        Ipv6Addr::new(net, 0, 0, 0, 0, 0, 0, u16::from(index.saturating_add(1)))
    }

    /// `ip` commands for host `own` of a line: everyone further down by the near end's neighbour, everyone further up
    /// by the other. The source is the address by which the others know this host.
    fn routes(&self, own: u8, count: u8) -> String {
        let mut commands = String::new();
        for other in (0..count).filter(|other| *other != own) {
            let (link, end) = if own < other { (own, 2) } else { (own - 1, 1) };
            let targets = [
                (
                    format!("{}/32", self.address(other)),
                    format!("10.7.{link}.{end}"),
                    self.address(own).to_string(),
                ),
                (
                    format!("{}/128", self.address_v6(other)),
                    format!("fd07:{link:x}::{end}"),
                    self.address_v6(own).to_string(),
                ),
            ];
            for (target, via, source) in targets {
                writeln!(commands, "route add {target} via {via} src {source}")
                    .expect("a String takes every write");
            }
        }
        commands
    }
}

/// The switch's end of a host's cable.
fn port(host: u8) -> String {
    format!("eth{host}")
}

/// Makes a namespace forward. The kernel's switches are per namespace: the file is that of the thread that opens it.
#[track_caller]
fn forward(namespace: &Namespace) {
    namespace.inside(|| {
        for switch in ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"] {
            fs::write(switch, "1").unwrap_or_else(|error| panic!("write {switch}: {error}"));
        }
    });
}
