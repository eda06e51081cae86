//! Every way in x {denied address, denied port, allowed} x {IPv4, IPv6, IPv4-mapped}, over a link and over loopback.
//!
//! Meaning: a denied peer or port gets a refusal (a reset, or for datagrams ICMP's port unreachable) and accept() never
//! wakes; a denied port is one of TCP. The client is outside of the judged cgroup: what refuses it is the server's side.
//! A process in the cgroup may not even claim a denied port: bind() gives EACCES, through every door that binds.

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use doors::{Attempt, Door, DoorError, Protocol, Stage, inward, listen, named, open};
use testbed::{Host, Namespace};

use crate::shared::{EACCES, ECONNREFUSED, Enforcing, at, host, on, star};

/// How long accept() is watched while it must not wake. The client has its answer long before.
const WATCHED: Duration = Duration::from_millis(60);

/// The time for what must work.
const PATIENCE: Duration = Duration::from_secs(10);

/// Each cell has a port of its own, counted from here: what the cell before it left behind may still hold a port.
const PORT: u16 = 20_000;
const DENIED_PORT: u16 = 10_000;

/// The port that listen() without bind() gets where only one is left to choose from.
const DENIED_CHOSEN: u16 = 40_001;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    DeniedAddress,
    DeniedPort,
    Allowed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    V4,
    V6,
    /// The client's socket is IPv6; on the wire it is IPv4.
    Mapped,
}

/// The server, and where clients stand: a namespace and the server's addresses as seen from there (over loopback it is
/// the address that is denied, for a client's own is the same).
struct Scene<'a> {
    server: &'a Host,
    good: Client<'a>,
    bad: Client<'a>,
}

struct Client<'a> {
    namespace: &'a Namespace,
    server_v4: Ipv4Addr,
    server_v6: Ipv6Addr,
}

/// How one cell ended: what the client got, and what accept() got.
#[derive(Debug)]
struct Ends {
    client: Result<(), DoorError>,
    server: Result<SocketAddr, DoorError>,
}

impl Scene<'_> {
    fn cell(&self, number: u16, door: &Door, form: Form, case: Case) -> Result<Ends, DoorError> {
        let client = if case == Case::DeniedAddress { &self.bad } else { &self.good };
        let address = match form {
            Form::V4 | Form::Mapped => at(client.server_v4, 0).ip(),
            Form::V6 => at(client.server_v6, 0).ip(),
        };
        let port = number + if case == Case::DeniedPort { DENIED_PORT } else { PORT };
        let make = || {
            if door.name == "autobind" {
                let first = if case == Case::DeniedPort { DENIED_CHOSEN } else { 30_001 };
                fs::write("/proc/sys/net/ipv4/ip_local_port_range", format!("{first} {first}"))
                    .unwrap();
            }
            let listener = listen(door, at(address, port), 16);
            fs::write("/proc/sys/net/ipv4/ip_local_port_range", "32768 60999").unwrap();
            listener
        };
        // In the cgroup a denied port cannot be claimed; outside of it, as by a server that was there before, it can.
        let mut listener = match case {
            Case::DeniedPort => self.server.namespace.inside(make),
            Case::DeniedAddress | Case::Allowed => on(self.server, make),
        }?;
        let target = at(address, listener.local().port());
        let target = if form == Form::Mapped { mapped(target) } else { target };
        // A connected datagram socket: the refusal is ICMP's, and the kernel finds an unconnected one for it by the same
        // look-up that is denied here.
        let out =
            named(if door.protocol == Protocol::Udp { "udp-connect" } else { "connect" }).unwrap();
        Ok(thread::scope(|scope| {
            let accepting = scope.spawn(|| {
                let patience = if self.expects(case, door) { WATCHED } else { PATIENCE };
                let deadline = Some(Instant::now() + patience);
                let mut accepted = listener.accept(deadline)?;
                let mut data = [0; 8];
                let taken = accepted.receive(&mut data, deadline)?;
                accepted.send(&data[..taken])?;
                Ok(accepted.peer())
            });
            let attempt = Attempt { first: b"ping", ..Attempt::new(target, PATIENCE) };
            let client = client.namespace.inside(|| {
                let mut opened = open(out, &attempt)?;
                opened.receive(&mut [0; 8], Some(attempt.deadline))?;
                opened.reset()
            });
            Ends { client, server: accepting.join().unwrap() }
        }))
    }

    /// Whether rules, were they in force, refuse this.
    fn expects(&self, case: Case, door: &Door) -> bool {
        match case {
            Case::DeniedAddress => true,
            Case::DeniedPort => door.protocol != Protocol::Udp,
            Case::Allowed => false,
        }
    }

    fn try_all(&self, enforced: bool) -> (u16, Vec<String>) {
        let mut cells = 0;
        let mut faults = Vec::new();
        let first = if enforced { 500 } else { 0 };
        for door in inward() {
            for form in [Form::V4, Form::V6, Form::Mapped] {
                for case in [Case::DeniedAddress, Case::DeniedPort, Case::Allowed] {
                    cells += 1;
                    let denied = enforced && self.expects(case, door);
                    let fault = match self.cell(first + cells, door, form, case) {
                        Ok(ends) => wrong(denied, &ends),
                        Err(error) => Some(format!("no listener: {error}")),
                    };
                    if let Some(fault) = fault {
                        faults.push(format!("{} {form:?} {case:?}: {fault}", door.name));
                    }
                }
            }
        }
        (cells, faults)
    }

    /// What a process in the cgroup gets for claiming the denied port.
    fn claims(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for door in inward() {
            for address in ["127.0.0.1", "::1", "0.0.0.0", "::"] {
                let address = at(address.parse::<std::net::IpAddr>().unwrap(), DENIED_PORT);
                let result = on(self.server, || listen(door, address, 16));
                let binds_tcp = door.protocol != Protocol::Udp && door.name != "autobind";
                let right = match &result {
                    Ok(_) => !binds_tcp,
                    Err(error) => {
                        binds_tcp
                            && error.errno() == Some(EACCES)
                            && error.stage() == Some(Stage::Bind)
                    }
                };
                if !right {
                    faults.push(format!("{} claims {address}: {:?}", door.name, result.err()));
                }
            }
        }
        faults
    }

    #[track_caller]
    fn judge(&self, rules: &[&str]) {
        let (open_cells, faults) = self.try_all(false);
        assert!(faults.is_empty(), "without rules:\n{}", faults.join("\n"));
        assert_eq!(usize::from(open_cells), inward().count() * 9);
        let enforcing = Enforcing::on(self.server, rules);
        let (cells, mut faults) = self.try_all(true);
        faults.extend(self.claims());
        enforcing.stop();
        assert!(
            faults.is_empty(),
            "{} of {cells} cells are wrong:\n{}",
            faults.len(),
            faults.join("\n")
        );
    }
}

/// The same address as an IPv6 socket names it.
fn mapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => at(v4.ip().to_ipv6_mapped(), v4.port()),
        SocketAddr::V6(_) => address,
    }
}

/// What is wrong with how a cell ended, if anything.
fn wrong(denied: bool, ends: &Ends) -> Option<String> {
    let refused = matches!(&ends.client, Err(error) if error.errno() == Some(ECONNREFUSED));
    let asleep =
        matches!(&ends.server, Err(DoorError::TimedOut { stage: Stage::Accept | Stage::Receive }));
    match denied {
        true if refused && asleep => None,
        false if ends.client.is_ok() && ends.server.is_ok() => None,
        true => Some(format!("a refusal and a sleeping server expected, but {ends:?}")),
        false => Some(format!("allowed, but {ends:?}")),
    }
}

#[test]
fn every_way_in_from_another_host() {
    let network = star(3);
    let [server, bad, good] = network.hosts() else { panic!("a star of three") };
    let client = |namespace| Client {
        namespace,
        server_v4: network.address(0),
        server_v6: network.address_v6(0),
    };
    let scene = Scene { server, good: client(&good.namespace), bad: client(&bad.namespace) };
    let (v4, v6) = (network.address(1).to_string(), network.address_v6(1).to_string());
    scene.judge(&["--deny", &v4, "--deny", &v6, "--port", "10000-10999", "--port", "40000-40010"]);
}

#[test]
fn every_way_in_on_loopback() {
    let server = host();
    server.namespace.add_address("lo", "10.9.0.66/32");
    server.namespace.add_address("lo", "fd09::66/128");
    let namespace = &server.namespace;
    let scene = Scene {
        server: &server,
        good: Client { namespace, server_v4: Ipv4Addr::LOCALHOST, server_v6: Ipv6Addr::LOCALHOST },
        // A client that names one of this host's own addresses has that address itself.
        bad: Client {
            namespace,
            server_v4: "10.9.0.66".parse().unwrap(),
            server_v6: "fd09::66".parse().unwrap(),
        },
    };
    scene.judge(&[
        "--deny",
        "10.9.0.66",
        "--deny",
        "fd09::66",
        "--port",
        "10000-10999",
        "--port",
        "40000-40010",
    ]);
}
