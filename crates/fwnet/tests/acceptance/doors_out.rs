//! Every way out x {denied address, denied port, allowed} x {IPv4, IPv6, IPv4-mapped}: the verdict follows from what the
//! rules mean, whatever the door.
//!
//! Meaning: a denied address is refused by every protocol, a denied port by TCP (of which MPTCP is one form); a refusal is
//! EACCES, given by the call that names the address, never by the handshake behind it.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use doors::{Attempt, Door, DoorError, Protocol, Stage, canonical, open, outward};
use testbed::Host;

use crate::shared::{DEADLINE, EACCES, Echo, Enforcing, at, host, on, star};

const DENIED_PORT: u16 = 10_000;
const PORT: u16 = 20_000;

/// What a target has against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    DeniedAddress,
    DeniedPort,
    Allowed,
}

/// Where the attempts go: per family the peer that may be reached and the one that must not.
struct Peers {
    v4: (Ipv4Addr, Ipv4Addr),
    v6: (Ipv6Addr, Ipv6Addr),
}

impl Peers {
    /// Every target with its case: nine of them.
    fn targets(&self) -> Vec<(SocketAddr, Case)> {
        let pairs = [
            (at(self.v4.0, 0), at(self.v4.1, 0)),
            (at(self.v6.0, 0), at(self.v6.1, 0)),
            (at(self.v4.0.to_ipv6_mapped(), 0), at(self.v4.1.to_ipv6_mapped(), 0)),
        ];
        pairs
            .into_iter()
            .flat_map(|(good, bad)| {
                [
                    (at(bad.ip(), PORT), Case::DeniedAddress),
                    (at(good.ip(), DENIED_PORT), Case::DeniedPort),
                    (at(good.ip(), PORT), Case::Allowed),
                ]
            })
            .collect()
    }

    /// A server behind every target, so that a door that is open by mistake is seen open.
    fn servers(&self, host: &Host) -> Vec<Echo> {
        let mut servers: Vec<Echo> = [PORT, DENIED_PORT]
            .map(|port| Echo::tcp(&host.namespace, &format!("[::]:{port}")))
            .into();
        for (target, _) in
            self.targets().into_iter().filter(|(target, _)| canonical(*target) == *target)
        {
            servers.push(Echo::udp(&host.namespace, &target.to_string()));
        }
        servers
    }

    fn rules(&self) -> Vec<String> {
        ["--deny", &self.v4.1.to_string(), "--deny", &self.v6.1.to_string(), "--port", "10000"]
            .map(str::to_owned)
            .into()
    }
}

/// One attempt, up to an answer from the server.
fn answered(door: &Door, target: SocketAddr) -> Result<(), DoorError> {
    let attempt = Attempt { first: b"ping", ..Attempt::new(target, DEADLINE) };
    let mut opened = open(door, &attempt)?;
    let mut answer = [0; 8];
    let taken = opened.receive(&mut answer, Some(attempt.deadline))?;
    assert_eq!(&answer[..taken], b"ping", "{door:?} to {target}");
    assert_eq!(opened.peer(), canonical(target), "{door:?}");
    opened.reset()
}

/// What is wrong with the result, if anything.
fn wrong(denied: bool, result: &Result<(), DoorError>) -> Option<String> {
    match (denied, result) {
        (false, Ok(())) => None,
        (true, Err(error))
            if error.errno() == Some(EACCES)
                && matches!(error.stage(), Some(Stage::Connect | Stage::Send)) =>
        {
            None
        }
        (false, Err(error)) => Some(format!("allowed, but {error}")),
        (true, Err(error)) => Some(format!("EACCES expected from the call, but {error}")),
        (true, Ok(())) => Some("denied, but it got through".to_owned()),
    }
}

/// Tries every cell and lists the wrong ones. `enforced` says whether rules are in force.
fn try_all(peers: &Peers, enforced: bool) -> (usize, Vec<String>) {
    let mut cells = 0;
    let mut faults = Vec::new();
    for door in outward() {
        for (target, case) in
            peers.targets().into_iter().filter(|(target, _)| door.reaches(*target))
        {
            let denied = enforced
                && match case {
                    Case::DeniedAddress => true,
                    Case::DeniedPort => door.protocol != Protocol::Udp,
                    Case::Allowed => false,
                };
            cells += 1;
            if let Some(fault) = wrong(denied, &answered(door, target)) {
                faults.push(format!("{} to {target} ({case:?}): {fault}", door.name));
            }
        }
    }
    (cells, faults)
}

#[track_caller]
fn judge(host: &Host, enforcing: impl FnOnce(&[&str]) -> Enforcing, peers: &Peers) {
    let (open_cells, faults) = on(host, || try_all(peers, false));
    assert!(faults.is_empty(), "without rules:\n{}", faults.join("\n"));
    let rules = peers.rules();
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let enforcing = enforcing(&rules);
    let (cells, faults) = on(host, || try_all(peers, true));
    enforcing.stop();
    assert_eq!(cells, open_cells);
    // Three forms of three targets by each door; a door of one family reaches the targets of that family only.
    assert!(cells >= outward().count() * 3 * 2, "{cells} cells");
    assert!(
        faults.is_empty(),
        "{} of {cells} cells are wrong:\n{}",
        faults.len(),
        faults.join("\n")
    );
}

#[test]
fn every_way_out_to_another_host() {
    let network = star(2);
    let [client, server] = network.hosts() else { panic!("a star of two") };
    let peers = Peers {
        v4: (network.address(1), "10.7.0.66".parse().unwrap()),
        v6: (network.address_v6(1), "fd07::66".parse().unwrap()),
    };
    server.namespace.add_address("eth0", "10.7.0.66/24");
    server.namespace.add_address("eth0", "fd07::66/64");
    let _servers = peers.servers(server);
    judge(client, |rules| Enforcing::start(&client.cgroup, &[], rules), &peers);
}

#[test]
fn every_way_out_on_loopback() {
    let host = host();
    let peers = Peers {
        v4: (Ipv4Addr::LOCALHOST, "127.0.0.2".parse().unwrap()),
        v6: (Ipv6Addr::LOCALHOST, "fd09::66".parse().unwrap()),
    };
    host.namespace.add_address("lo", "fd09::66/128");
    let _servers = peers.servers(&host);
    judge(&host, |rules| Enforcing::on(&host, rules), &peers);
}
