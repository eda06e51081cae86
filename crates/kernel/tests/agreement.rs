//! The loaded programs say what `decide` says: random rules, real sockets, and every event compared.
//!
//! ```text
//! namespace (lo: 127/8, ::1, fd00::1..3)   sk_lookup    <- judged when something comes in
//! └ cgroup                                 connect4 ... <- judged when this process is inside
//! ```

#[path = "shared/bed.rs"]
mod bed;

use std::{
    fs::File,
    io::{self, ErrorKind},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    time::Duration,
};

use bed::Bed;
use image::{RuleSet, compile, evaluate};
use kernel::{
    AttachError, Attachments, Cgroup, Door, Event, Firewall, SwapError, boottime, exe_number,
};
use proptest::{
    collection::vec,
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use rustix::net::{
    AddressFamily, SocketType, bind, connect, socket, sockopt::set_socket_reuseaddr,
};
use testbed::{Cgroup as TestCgroup, random::World, wait_until};
use verdict::{Address, Direction, Endpoint, Flow, Protocol, Subject};

const RULE_SETS: usize = 60;
const FLOWS: usize = 60;
const DEADLINE: Duration = Duration::from_secs(10);

fn bed() -> Bed {
    let bed = Bed::new();
    for last in 1..=3 {
        bed.namespace.add_address("lo", &format!("fd00::{last}/128"));
    }
    bed
}

fn load(bed: &Bed, rules: &RuleSet) -> Firewall {
    let attachments = Attachments { report_allowed: true, ..bed.attachments() };
    Firewall::load(&compile(rules).expect("fits"), attachments).expect("T0 works here")
}

fn world() -> World {
    let v6 = |last: u128| Address::from_bits(0xfd00 << 112 | last);
    World {
        addresses: vec![
            Address::LOOPBACK_V4,
            Address::v4(0x7f00_0002),
            Address::v4(0x7f00_0101),
            Address::LOOPBACK_V6,
            v6(1),
            v6(2),
            v6(3),
        ],
        ports: vec![1, 22, 80, 1023, 1024, 10_000],
        protocols: vec![Protocol::TCP, Protocol::UDP],
        near: true,
        // Long ago, and never while this runs.
        ends: vec![0, 1, u64::MAX - 1],
    }
}

fn own_exe() -> u64 {
    exe_number(&File::open("/proc/self/exe").expect("our own")).expect("a number")
}

/// The rules with real cgroups in place of the world's 1, 2 and 3, which are inside each other in this order too, and the
/// real network namespace and executable in place of number 1.
fn placed(mut rules: RuleSet, path: [u64; 3], netns: u64) -> RuleSet {
    let [outermost, between, own] = path;
    let real = |cgroup: u64| match cgroup {
        1 => outermost,
        2 => between,
        3 => own,
        other => other,
    };
    for rule in &mut rules.rules {
        let test = &mut rule.subject;
        test.units
            .iter_mut()
            .chain(&mut test.containers)
            .for_each(|cgroup| *cgroup = real(*cgroup));
        test.exes.iter_mut().filter(|number| **number == 1).for_each(|number| *number = own_exe());
        test.namespaces
            .iter_mut()
            .filter(|number| **number == 1)
            .for_each(|number| *number = netns);
    }
    rules.cgroups = rules
        .cgroups
        .into_iter()
        .map(|(cgroup, above)| (real(cgroup), above.into_iter().map(real).collect()))
        .collect();
    rules
}

/// The same random values at every run: a failure is found again.
fn runner() -> TestRunner {
    TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

fn draw<S: Strategy>(runner: &mut TestRunner, strategy: &S) -> S::Value {
    strategy.new_tree(runner).expect("no filters to give up on").current()
}

/// A flow's address: one of the world's own, for a real socket can have no other.
fn real(end: Endpoint) -> Endpoint {
    let known = world().addresses;
    let address = if known.contains(&end.address) { end.address } else { Address::v4(0x7f00_0003) };
    Endpoint { address, ..end }
}

fn standard(end: Endpoint, mapped: bool) -> SocketAddr {
    let ip = match end.address.as_v4() {
        Some(v4) if mapped => IpAddr::V6(Ipv6Addr::from_bits(0xffff << 32 | u128::from(v4))),
        Some(v4) => IpAddr::V4(v4.into()),
        None => IpAddr::V6(end.address.bits().into()),
    };
    SocketAddr::new(ip, end.port)
}

fn attempt(protocol: Protocol, from: Option<SocketAddr>, to: SocketAddr) -> io::Result<UdpSocket> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = if protocol == Protocol::TCP { SocketType::STREAM } else { SocketType::DGRAM };
    let socket = socket(family, kind, None)?;
    if let Some(from) = from {
        set_socket_reuseaddr(&socket, true)?;
        bind(&socket, &from)?;
    }
    connect(&socket, &to)?;
    Ok(UdpSocket::from(socket))
}

/// The next event that is `wanted`.
fn next_event(firewall: &mut Firewall, wanted: impl Fn(&Event) -> bool) -> Event {
    let mut found = None;
    wait_until(DEADLINE, "an event of the attempt", || {
        while let Some(event) = firewall.next_event() {
            if wanted(&event) {
                found = Some(event);
                return true;
            }
        }
        false
    });
    found.expect("waited for it")
}

#[test]
fn what_goes_out_is_judged_as_decide_says() {
    let bed = bed();
    let mut runner = runner();
    let (middle, inner) = {
        let middle = bed.cgroup.child("middle");
        let inner = middle.child("inner");
        (middle, inner)
    };
    let id = |cgroup: &TestCgroup| Cgroup::open(cgroup.path()).expect("own").id();
    let path = [&bed.cgroup, &middle, &inner].map(id);
    let [outermost, between, own] = path;
    let netns = bed.netns().cookie();
    let own = Subject {
        uid: 0,
        gid: 0,
        exe: own_exe(),
        cgroup: own,
        above: [own, between, outermost, 0, 0, 0, 0, 0],
        netns,
    };
    let mut firewall: Option<Firewall> = None;
    for _ in 0..RULE_SETS {
        let (rules, flows) =
            draw(&mut runner, &(world().rule_sets(8), vec(world().flows(), FLOWS)));
        let rules = placed(rules, path, netns);
        // Rules that are larger than the slots begin anew, as whoever enforces does.
        let swapped =
            firewall.as_mut().map(|firewall| firewall.swap(&compile(&rules).expect("fits")));
        match swapped {
            Some(Ok(_)) => {}
            None | Some(Err(SwapError::Size { .. })) => firewall = Some(load(&bed, &rules)),
            Some(Err(error)) => panic!("a swap: {error}"),
        }
        let firewall = firewall.as_mut().expect("just loaded");
        // Once for all flows of the rules: each move of a process waits for a grace period.
        let _visit = inner.enter_current_process();
        for (number, flow) in (0usize..).zip(flows) {
            let flow = Flow {
                direction: Direction::Out,
                local: Endpoint::default(),
                remote: real(flow.remote),
                subject: own,
                ..flow
            };
            let mapped = number % 3 == 0;
            let result = bed
                .namespace
                .inside(|| attempt(flow.protocol, None, standard(flow.remote, mapped)));
            let expected = evaluate(&rules, &flow, boottime());
            let event = next_event(firewall, |event| event.door == Door::Connect);
            assert_eq!(
                (event.decision, event.remote),
                (expected, flow.remote),
                "{flow:?} mapped: {mapped}\n{rules:?}"
            );
            let denied =
                matches!(&result, Err(error) if error.kind() == ErrorKind::PermissionDenied);
            assert_eq!(denied, expected.denies(), "{result:?} for {flow:?}\n{rules:?}");
        }
    }
}

#[test]
fn what_comes_in_is_judged_as_decide_says() {
    let bed = bed();
    let mut runner = runner();
    let ports = world().ports;
    let netns = bed.netns().cookie();
    let (listeners, receivers) = bed.namespace.inside(|| {
        let any = |port: &u16| SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), *port);
        let listeners: Vec<TcpListener> =
            ports.iter().map(|port| TcpListener::bind(any(port)).expect("free")).collect();
        let receivers: Vec<UdpSocket> =
            ports.iter().map(|port| UdpSocket::bind(any(port)).expect("free")).collect();
        (listeners, receivers)
    });
    listeners.iter().for_each(|listener| listener.set_nonblocking(true).expect("a flag"));
    receivers.iter().for_each(|receiver| receiver.set_nonblocking(true).expect("a flag"));
    let mut sequence = 0u16;
    let mut firewall: Option<Firewall> = None;
    for _ in 0..RULE_SETS {
        let (rules, flows) =
            draw(&mut runner, &(world().rule_sets(8), vec(world().flows(), FLOWS)));
        let rules = placed(rules, [91, 92, 93], netns);
        // Rules that are larger than the slots begin anew, as whoever enforces does.
        let swapped =
            firewall.as_mut().map(|firewall| firewall.swap(&compile(&rules).expect("fits")));
        match swapped {
            Some(Ok(_)) => {}
            None | Some(Err(SwapError::Size { .. })) => firewall = Some(load(&bed, &rules)),
            Some(Err(error)) => panic!("a swap: {error}"),
        }
        let firewall = firewall.as_mut().expect("just loaded");
        if firewall.attached().all(|(hook, _)| hook.name != "sk_lookup") {
            continue;
        }
        for (number, flow) in (0usize..).zip(flows) {
            let local = real(flow.local);
            // Both ends of one family: a socket has only one.
            let remote = match (local.address.is_v4(), flow.remote.address.is_v4()) {
                (true, true) | (false, false) => real(flow.remote).address,
                (true, false) => Address::LOOPBACK_V4,
                (false, true) => Address::LOOPBACK_V6,
            };
            let remote =
                if remote.is_v4() == local.address.is_v4() { remote } else { local.address };
            let flow = Flow {
                direction: Direction::In,
                local,
                // A port of its own, by which the attempt's event is told from a late one of another attempt.
                remote: Endpoint { address: remote, port: 20_000 + sequence },
                subject: Subject { netns, ..Subject::UNKNOWN },
                ..flow
            };
            sequence += 1;
            let mapped = number % 3 == 0;
            let result = bed.namespace.inside(|| {
                let socket = attempt(
                    flow.protocol,
                    Some(standard(flow.remote, mapped)),
                    standard(flow.local, mapped),
                )?;
                if flow.protocol == Protocol::UDP {
                    socket.send(b"?")?;
                }
                Ok::<_, io::Error>(socket)
            });
            let expected = evaluate(&rules, &flow, boottime());
            let event = next_event(firewall, |event| {
                event.door == Door::Lookup && event.remote.port == flow.remote.port
            });
            assert_eq!(
                (event.decision, event.remote, event.local),
                (expected, flow.remote, flow.local),
                "{flow:?}\n{rules:?}"
            );
            let arrived = match flow.protocol {
                Protocol::TCP => result.is_ok(),
                _ => receivers.iter().any(|receiver| receiver.recv(&mut [0; 8]).is_ok()),
            };
            assert_eq!(arrived, !expected.denies(), "{result:?} for {flow:?}\n{rules:?}");
            listeners.iter().for_each(|listener| while listener.accept().is_ok() {});
        }
    }
}

#[test]
fn counters_are_exact_and_survive_a_swap() {
    let bed = bed();
    let denied = |port: u16| {
        let mut rules = RuleSet::default();
        rules.rules.push(image::Rule {
            services: vec![image::Service::tcp(port..=port)],
            ..image::Rule::default(Direction::Out, verdict::Verdict::Deny, 0)
        });
        for direction in [Direction::Out, Direction::In] {
            rules.rules.push(image::Rule::default(direction, verdict::Verdict::Allow, 1));
        }
        rules
    };
    let mut firewall = load(&bed, &denied(7));
    let knock = |port: u16, times: u32| {
        bed.inside(|| {
            for _ in 0..times {
                let refused = attempt(
                    Protocol::TCP,
                    None,
                    SocketAddr::new(IpAddr::V4([127, 0, 0, 1].into()), port),
                );
                assert!(refused.is_err(), "nobody listens there");
            }
        });
    };
    knock(7, 300);
    knock(8, 200);
    let before = firewall.hits();
    assert_eq!((before[0].enforced, before[1].enforced, before[0].would), (300, 200, 0));
    let retired = firewall.swap(&compile(&denied(8)).expect("fits")).expect("a swap");
    assert_eq!(retired[0].enforced, 300, "the old image's counts are handed over");
    knock(8, 10);
    assert_eq!(firewall.hits()[0].enforced, 10);
    firewall.swap(&compile(&denied(9)).expect("fits")).expect("a swap");
    assert!(
        firewall.hits().iter().all(|hits| hits.enforced == 0),
        "a slot is used again with clean counters"
    );
}

#[test]
fn every_hook_loads_here_and_the_lsm_tier_as_a_whole_or_not_at_all() {
    let probed = kernel::probe().expect("the maps can be made");
    let (tier, others): (Vec<_>, Vec<_>) =
        probed.hooks.iter().partition(|(hook, _)| hook.name.starts_with("lsm/"));
    let refused: Vec<String> = others
        .iter()
        .filter_map(|(hook, result)| Some(format!("{}: {}", hook.name, result.as_ref().err()?)))
        .collect();
    assert_eq!(refused, [""; 0]);
    let missing = tier.iter().filter(|(_, result)| result.is_err()).count();
    assert!(missing == 0 || missing == tier.len(), "{tier:?}");
    for (hook, result) in tier {
        let Err(error) = result else { continue };
        assert!(matches!(error, AttachError::Tier { .. }), "{error}");
        let told = error.to_string();
        assert!(told.contains(hook.name) && !hook.without.is_empty(), "{told}");
    }
}
