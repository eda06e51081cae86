//! Flows are counted in the kernel by what they have in common, to the unit; what the table loses is known.

#[path = "shared/bed.rs"]
mod bed;

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
};

use bed::Bed;
use image::{AddressSet, Rule, RuleSet, Service, compile};
use kernel::{Attachments, Counted, Firewall};
use verdict::{Address, Direction, Protocol, Verdict, abi::FLOWS_MAX};

/// 127.0.0.9 is denied, everything else allowed.
fn firewall(bed: &Bed) -> Firewall {
    let mut rules = RuleSet::default();
    rules.sets.push(AddressSet::from_prefixes([(Address::v4(0x7f00_0009), 128)]));
    rules.rules.push(Rule {
        id: "nine".to_owned(),
        remote: Some(0),
        services: vec![Service::ANY],
        ..Rule::default(Direction::Out, Verdict::Deny, 0)
    });
    for direction in [Direction::Out, Direction::In] {
        rules.rules.push(Rule::default(direction, Verdict::Allow, 1));
    }
    let attachments = Attachments { count_flows: true, ..bed.attachments() };
    Firewall::load(&compile(&rules).expect("fits"), attachments).expect("T0 works here")
}

fn taken(firewall: &mut Firewall) -> Vec<Counted> {
    let mut all = Vec::new();
    firewall.take_flows(&mut |counted| all.push(counted)).expect("this kernel has batches");
    all
}

#[test]
fn flows_that_are_alike_are_one_entry_with_an_exact_count() {
    let bed = Bed::new();
    let mut firewall = firewall(&bed);
    let port = bed.inside(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        for _ in 0..300 {
            let denied = TcpStream::connect((Ipv4Addr::new(127, 0, 0, 9), port)).unwrap_err();
            assert_eq!(denied.kind(), ErrorKind::PermissionDenied);
        }
        for _ in 0..200 {
            let client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
            drop(listener.accept().unwrap());
            // The server closes first, so that the client's port is free again at once.
            assert_eq!((&client).read(&mut [0]).unwrap(), 0);
        }
        port
    });
    let all = taken(&mut firewall);
    let of = |direction, verdict, last: u32| {
        let mut found = all.iter().filter(|counted| {
            counted.flow.direction == direction
                && counted.decision.enforced.verdict == verdict
                && counted.flow.remote.address == Address::v4(0x7f00_0000 | last)
                && counted.flow.service_port() == port
        });
        let only = *found.next().expect("an entry");
        assert_eq!(found.next(), None, "one entry: {all:?}");
        only
    };
    let denied = of(Direction::Out, Verdict::Deny, 9);
    assert_eq!((denied.count, denied.decision.enforced.rule.0), (300, 0));
    let out = of(Direction::Out, Verdict::Allow, 1);
    assert_eq!((out.count, out.flow.protocol), (200, Protocol::TCP));
    let inward = of(Direction::In, Verdict::Allow, 1);
    assert_eq!((inward.count, inward.flow.local.address), (200, Address::LOOPBACK_V4));
    for each in [denied, out, inward] {
        assert_eq!(each.pid, std::process::id(), "{each:?}");
        assert_eq!((each.flow.subject.uid, each.flow.subject.gid), (0, 0));
        assert_ne!((each.flow.subject.cgroup, each.flow.subject.exe), (0, 0));
        assert!(each.first_ns < each.last_ns, "{each:?}");
        assert_eq!(each.generation, Some(firewall.generation()));
    }
    assert_eq!(all.len(), 3, "{all:?}");
    assert_eq!(taken(&mut firewall), [], "what was taken out is gone");
    assert_eq!(firewall.lost().flows, 0);
}

#[test]
fn datagrams_that_answer_each_other_are_one_flow() {
    let bed = Bed::new();
    let mut firewall = firewall(&bed);
    let port = bed.inside(|| {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (to, mut buffer) = (server.local_addr().unwrap(), [0; 8]);
        for _ in 0..20 {
            client.send_to(b"question", to).unwrap();
            let (_, from) = server.recv_from(&mut buffer).unwrap();
            server.send_to(b"answer", from).unwrap();
            client.recv_from(&mut buffer).unwrap();
        }
        to.port()
    });
    let mut told: Vec<_> = taken(&mut firewall)
        .iter()
        .map(|counted| (counted.flow.direction, counted.flow.service_port(), counted.count))
        .collect();
    told.sort_unstable();
    assert_eq!(told, [(Direction::Out, port, 1), (Direction::In, port, 1)]);
}

/// A connected datagram socket may connect again and again, and nothing is sent.
fn connect_to_each(addresses: u32) {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a free port");
    for number in 0..addresses {
        let address = Ipv4Addr::from_bits(0x7f10_0000 + number);
        socket.connect(SocketAddr::from((address, 9))).expect("nothing denies it");
    }
}

#[test]
fn what_does_not_fit_into_the_table_is_counted_to_the_unit() {
    let bed = Bed::new();
    let mut firewall = firewall(&bed);
    bed.inside(|| connect_to_each(1_000));
    let kinds: BTreeMap<Address, u64> = taken(&mut firewall)
        .iter()
        .map(|counted| (counted.flow.remote.address, counted.count))
        .collect();
    assert_eq!(kinds.len(), 1_000);
    assert_eq!((kinds.values().sum::<u64>(), firewall.lost().flows), (1_000, 0));

    let many = 3 * FLOWS_MAX;
    bed.inside(|| connect_to_each(many));
    let found: u64 = taken(&mut firewall).iter().map(|counted| counted.count).sum();
    assert!(found <= u64::from(FLOWS_MAX) && found > 0, "{found} of {many}");
    assert_eq!(found + firewall.lost().flows, u64::from(many));
}
