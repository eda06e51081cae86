//! Real sockets in namespaces of the tests' own, images without a firewall: what ends, and how its owner notices.

use std::{
    io::{ErrorKind, Read},
    net::{TcpListener, TcpStream, UdpSocket},
    os::fd::OwnedFd,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use image::{AddressSet, Rule, RuleSet, Service, SubjectTest, compile};
use testbed::{Namespace, Running, wait_until};
use verdict::{Address, Direction, layout::RULE_DEFAULT};

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

struct Bed {
    bed: Namespace,
    namespace: Netns,
}

impl Bed {
    fn new() -> Self {
        let bed = Namespace::new();
        bed.add_address("lo", "10.9.0.1/32");
        bed.add_address("lo", "fd09::1/128");
        let namespace = Netns::open(bed.name()).unwrap();
        Self { bed, namespace }
    }

    fn judged(beds: &[&Self]) -> Judged {
        let namespaces = beds.iter().map(|bed| bed.namespace.inode()).collect();
        Judged { cgroup: None, namespaces }
    }

    /// A listener, who connected to it, and whom it accepted.
    fn connected(&self, address: &str) -> (TcpListener, TcpStream, TcpStream) {
        self.bed.inside(|| {
            let listener = TcpListener::bind((address, 0)).unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (server, _) = listener.accept().unwrap();
            (listener, client, server)
        })
    }
}

fn sweep<'a>(new: &'a Image, beds: &[&Bed]) -> Sweep<'a> {
    Sweep {
        old: None,
        new: new.at(0),
        since: &|| None,
        existing: Existing::ByRule,
        judged: Bed::judged(beds),
        stamps: None,
        protected: Vec::new(),
    }
}

fn run(sweep: &Sweep<'_>, beds: &[&Bed]) -> Swept {
    let namespaces: Vec<Netns> =
        beds.iter().map(|bed| Netns::open(bed.bed.name()).unwrap()).collect();
    let swept = sweep.run(&namespaces);
    assert_eq!(swept.failed, [""; 0]);
    swept
}

/// Denies services in one direction, all but loopback and the rest is allowed.
fn denying(direction: Direction, services: &[Service], flags: u32) -> Image {
    let denial = Rule {
        verdict: Verdict::Deny,
        services: services.to_vec(),
        flags,
        ..Rule::default(direction, Verdict::Allow, 1)
    };
    let defaults = [Direction::Out, Direction::In].map(|direction| Rule {
        flags: RULE_DEFAULT,
        ..Rule::default(direction, Verdict::Allow, 2)
    });
    let rules = [denial].into_iter().chain(defaults).collect();
    compile(&RuleSet { rules, version: 1, ..RuleSet::default() }).unwrap()
}

/// Whether the stream still works: nothing to read, and no error.
fn lives(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let read = (&mut &*stream).read(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

fn error_of(mut stream: &TcpStream) -> ErrorKind {
    stream.read(&mut [0]).unwrap_err().kind()
}

#[test]
fn a_connection_ends_at_the_end_that_is_denied_and_its_process_is_told() {
    for address in ["10.9.0.1", "fd09::1", "::ffff:10.9.0.1"] {
        for direction in [Direction::Out, Direction::In] {
            let bed = Bed::new();
            let (listener, client, server) = bed.connected(address);
            let (_other, kept, kept_too) = bed.connected(address);
            let port = listener.local_addr().unwrap().port();
            let new = denying(direction, &[Service::tcp(port..=port)], RULE_REVOKE);
            let swept = run(&sweep(&new, &[&bed]), &[&bed]);
            let ended: Vec<_> = swept.ended.iter().filter(|ended| !ended.listened).collect();
            let [ended] = ended[..] else { panic!("{swept:#?}") };
            let rule = ended.event.decision.enforced.rule;
            assert_eq!((ended.event.direction, rule), (direction, RuleNumber(0)));
            let own = std::process::id();
            let owner = ended.event.owner.unwrap();
            assert_eq!((owner.pid, owner.uid), (own, 0), "{ended:?}");
            assert!(owner.exe != 0 && owner.cgroup != 0 && ended.event.netns != 0, "{ended:?}");
            assert_eq!(ended.namespace, bed.bed.name());
            let (local, far) = match direction {
                Direction::Out => (&client, &server),
                Direction::In => (&server, &client),
            };
            assert_eq!(error_of(local), ErrorKind::ConnectionAborted, "{address}");
            assert_eq!(error_of(far), ErrorKind::ConnectionReset, "{address}");
            assert!(lives(&kept) && lives(&kept_too), "another port is another matter");
            assert_eq!(swept.ended.len(), if direction == Direction::In { 2 } else { 1 });
        }
    }
}

#[test]
fn what_no_rule_revokes_stays_unless_that_is_asked_for() {
    let bed = Bed::new();
    let (listener, client, server) = bed.connected("10.9.0.1");
    let port = listener.local_addr().unwrap().port();
    let new = denying(Direction::Out, &[Service::tcp(port..=port)], 0);
    let by_rule = sweep(&new, &[&bed]);
    assert!(!may_revoke(by_rule.existing, &new));
    assert_eq!(run(&by_rule, &[&bed]).ended, []);
    let revoking = denying(Direction::Out, &[Service::tcp(port..=port)], RULE_REVOKE);
    let keep = Sweep { existing: Existing::Keep, ..sweep(&revoking, &[&bed]) };
    assert!(!may_revoke(keep.existing, &revoking));
    // What was denied before is not newly denied.
    let known = Sweep { old: Some(new.at(0)), ..sweep(&revoking, &[&bed]) };
    assert_eq!(run(&known, &[&bed]).ended, []);
    // The session of the person who applies.
    let ends = |stream: &TcpStream| {
        let end = |address: std::net::SocketAddr| Endpoint {
            address: Address::v4(0x0a09_0001),
            port: address.port(),
        };
        (end(stream.peer_addr().unwrap()), end(stream.local_addr().unwrap()))
    };
    let protected = Sweep { protected: vec![ends(&client)], ..sweep(&revoking, &[&bed]) };
    assert_eq!(run(&protected, &[&bed]).ended, []);
    assert!(lives(&client) && lives(&server));
    let all = Sweep { existing: Existing::Revoke, ..sweep(&new, &[&bed]) };
    assert_eq!(run(&all, &[&bed]).ended.len(), 1);
    assert_eq!(error_of(&client), ErrorKind::ConnectionAborted);
}

#[test]
fn a_listener_on_a_denied_port_ends_with_an_error_and_so_does_what_waits_there() {
    let bed = Bed::new();
    for address in ["10.9.0.1", "0.0.0.0", "::"] {
        let (listener, waiting) = bed.bed.inside(|| {
            let listener = TcpListener::bind((address, 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            let waiting: Vec<_> =
                (0..3).map(|_| TcpStream::connect(("10.9.0.1", port)).unwrap()).collect();
            (listener, waiting)
        });
        let port = listener.local_addr().unwrap().port();
        let closed = denying(Direction::In, &[Service::tcp(port..=port)], RULE_REVOKE);
        let swept = run(&sweep(&closed, &[&bed]), &[&bed]);
        assert!(swept.ended.iter().any(|ended| ended.listened), "{swept:#?}");
        for stream in &waiting {
            assert_eq!(error_of(stream), ErrorKind::ConnectionReset);
        }
        // Every further accept() says so at once: nobody waits, and nobody spins on a descriptor that polls readable.
        for _ in 0..3 {
            assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        let refused = bed.bed.inside(|| TcpStream::connect(("10.9.0.1", port)).unwrap_err());
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }
}

#[test]
fn an_accept_that_waits_already_ends_with_an_error() {
    let bed = Bed::new();
    let listener = bed.bed.inside(|| TcpListener::bind("10.9.0.1:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    let (told, tells) = mpsc::channel();
    let waits = thread::spawn(move || {
        told.send(rustix::thread::gettid()).unwrap();
        listener.accept().unwrap_err().kind()
    });
    let thread = tells.recv().unwrap();
    let sleeps = || {
        let path = format!("/proc/self/task/{}/wchan", thread.as_raw_nonzero());
        std::fs::read_to_string(path).unwrap().contains("accept")
    };
    wait_until(DEADLINE, "the thread waits in accept()", sleeps);
    let closed = denying(Direction::In, &[Service::tcp(port..=port)], RULE_REVOKE);
    run(&sweep(&closed, &[&bed]), &[&bed]);
    assert_eq!(waits.join().unwrap(), ErrorKind::InvalidInput);
}

#[test]
fn a_peer_that_is_denied_is_taken_out_of_the_backlog_and_others_stay() {
    let bed = Bed::new();
    bed.bed.add_address("lo", "10.9.0.2/32");
    let listener = bed.bed.inside(|| TcpListener::bind("0.0.0.0:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    let (denied, kept) = bed.bed.inside(|| {
        let to = |address: &str| TcpStream::connect((address, port)).unwrap();
        // A connection to an address of this host comes from that address.
        (to("10.9.0.2"), to("10.9.0.1"))
    });
    let mut rules = vec![Rule {
        verdict: Verdict::Deny,
        remote: Some(0),
        flags: RULE_REVOKE,
        ..Rule::default(Direction::In, Verdict::Allow, 1)
    }];
    rules.extend([Direction::Out, Direction::In].map(|way| Rule::default(way, Verdict::Allow, 2)));
    let sets = vec![AddressSet::from_address(Address::v4(0x0a09_0002))];
    let new = compile(&RuleSet { sets, rules, version: 1, ..RuleSet::default() }).unwrap();
    let swept = run(&sweep(&new, &[&bed]), &[&bed]);
    let [ended] = &swept.ended[..] else { panic!("{swept:#?}") };
    assert_eq!((ended.listened, ended.event.owner), (false, None), "nobody has accepted it");
    assert_eq!(error_of(&denied), ErrorKind::ConnectionReset);
    let (aborted, _) = listener.accept().unwrap();
    assert_eq!(error_of(&aborted), ErrorKind::ConnectionAborted);
    let (accepted, _) = listener.accept().unwrap();
    assert!(lives(&accepted) && lives(&kept));
}

#[test]
fn a_connected_datagram_socket_ends_and_one_that_is_judged_each_time_stays() {
    let bed = Bed::new();
    for address in ["10.9.0.1", "fd09::1", "::ffff:10.9.0.1"] {
        let (bound, connected) = bed.bed.inside(|| {
            let bound = UdpSocket::bind((address, 0)).unwrap();
            let connected = UdpSocket::bind((address, 0)).unwrap();
            connected.connect(bound.local_addr().unwrap()).unwrap();
            (bound, connected)
        });
        let port = bound.local_addr().unwrap().port();
        let new = denying(Direction::Out, &[Service::udp(port..=port)], RULE_REVOKE);
        let swept = run(&sweep(&new, &[&bed]), &[&bed]);
        assert_eq!(swept.ended.len(), 1, "{address}: {swept:#?}");
        assert_eq!(connected.recv(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
        bound.set_nonblocking(true).unwrap();
        assert_eq!(bound.recv(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}

#[test]
fn what_is_not_judged_in_a_namespace_stays_there() {
    let (judged, beside) = (Bed::new(), Bed::new());
    let [(listener, client, server), (_listens, kept, kept_too)] = [&judged, &beside].map(|bed| {
        bed.bed.inside(|| {
            let listener = TcpListener::bind("10.9.0.1:20100").unwrap();
            let client = TcpStream::connect("10.9.0.1:20100").unwrap();
            let (server, _) = listener.accept().unwrap();
            (listener, client, server)
        })
    });
    let new = denying(Direction::In, &[Service::tcp(20_100..=20_100)], RULE_REVOKE);
    let swept = run(&sweep(&new, &[&judged]), &[&judged, &beside]);
    assert_eq!(swept.ended.len(), 2, "{swept:#?}");
    assert_eq!(error_of(&client), ErrorKind::ConnectionReset);
    assert_eq!(error_of(&server), ErrorKind::ConnectionAborted);
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(lives(&kept) && lives(&kept_too));
    // And where both are judged, both end: the cookies of the first say nothing about the second.
    let swept = run(&sweep(&new, &[&judged, &beside]), &[&judged, &beside]);
    assert_eq!(swept.ended.len(), 2, "{swept:#?}");
    assert!(!lives(&kept));
}

#[test]
fn a_socket_that_another_process_holds_by_now_ends_all_the_same() {
    let bed = Bed::new();
    let (listener, client, server) = bed.connected("10.9.0.1");
    let port = listener.local_addr().unwrap().port();
    let mut command = Command::new("cat");
    command.stdin(Stdio::from(OwnedFd::from(client)));
    // `Running` takes the streams over; this child's input is the socket.
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(command);
    let new = denying(Direction::Out, &[Service::tcp(port..=port)], RULE_REVOKE);
    let swept = run(&sweep(&new, &[&bed]), &[&bed]);
    let [ended] = &swept.ended[..] else { panic!("{swept:#?}") };
    let owner = ended.event.owner.unwrap();
    assert_eq!((owner.pid, &owner.comm[..4]), (child.id(), &b"cat\0"[..]));
    assert_eq!(error_of(&server), ErrorKind::ConnectionReset);
    assert!(!child.wait().unwrap().success(), "cat was told that its input failed");
}

#[test]
fn a_program_that_listens_again_is_ended_again_but_not_for_ever() {
    let bed = Bed::new();
    let script = "import socket
s = socket.socket(); s.bind(('10.9.0.1', 20200))
while True:
    s.listen()
    print('listens', flush=True)
    try: s.accept()
    except OSError: pass
";
    let mut command = bed.bed.command("python3");
    command.args(["-c", script]);
    let stubborn = Running::start(command);
    stubborn.wait_for_line("listens", DEADLINE);
    let new = denying(Direction::In, &[Service::tcp(20_200..=20_200)], RULE_REVOKE);
    let swept = run(&sweep(&new, &[&bed]), &[&bed]);
    assert!((2..=LOOKS_MAX).contains(&swept.looks), "{swept:#?}");
    assert!(!swept.ended.is_empty());
}

#[test]
fn an_mptcp_connection_ends() {
    use rustix::net::{
        AddressFamily, SocketType, accept, bind, connect, getsockname, listen, recv, socket,
    };
    let mptcp = rustix::net::Protocol::from_raw(262.try_into().unwrap());
    let bed = Bed::new();
    let (listener, client, server) = bed.bed.inside(|| {
        // How long an MPTCP socket waits for another connection before it tells its process, in seconds: 60 elsewhere.
        std::fs::write("/proc/sys/net/mptcp/close_timeout", "1").unwrap();
        let new = || socket(AddressFamily::INET, SocketType::STREAM, Some(mptcp)).unwrap();
        let (listener, client) = (new(), new());
        bind(&listener, &std::net::SocketAddr::from(([10, 9, 0, 1], 20_300))).unwrap();
        listen(&listener, 8).unwrap();
        connect(&client, &getsockname(&listener).unwrap()).unwrap();
        let server = accept(&listener).unwrap();
        (listener, client, server)
    });
    let new = denying(Direction::In, &[Service::tcp(20_300..=20_300)], RULE_REVOKE);
    let swept = run(&sweep(&new, &[&bed]), &[&bed]);
    let listened: Vec<bool> = swept.ended.iter().map(|ended| ended.listened).collect();
    assert!(listened.len() == 2 && listened.contains(&true), "{swept:#?}");
    let own = std::process::id();
    assert!(
        swept.ended.iter().all(|ended| ended.event.owner.is_some_and(|owner| owner.pid == own)),
        "{swept:#?}"
    );
    for end in [&server, &client] {
        let read = recv(end, &mut [0u8; 1][..], rustix::net::RecvFlags::empty());
        assert!(read.is_err() || read.is_ok_and(|(count, _)| count == 0));
    }
    drop(listener);
}

#[test]
fn an_mptcp_listener_ends_by_a_descriptor_of_whoever_holds_it() {
    use rustix::net::{AddressFamily, SocketType, accept, bind, listen, socket};
    let mptcp = rustix::net::Protocol::from_raw(262.try_into().unwrap());
    let bed = Bed::new();
    let listening = |port: u16| {
        bed.bed.inside(|| {
            let listener = socket(AddressFamily::INET, SocketType::STREAM, Some(mptcp)).unwrap();
            bind(&listener, &std::net::SocketAddr::from(([10, 9, 0, 1], port))).unwrap();
            listen(&listener, 8).unwrap();
            listener
        })
    };
    let (listener, other) = (listening(20_301), listening(20_302));
    let waits = bed.bed.inside(|| TcpStream::connect("10.9.0.1:20301")).unwrap();
    // Anybody is closed out, so that it is the listener which is denied.
    let new = denying(Direction::In, &[Service::tcp(20_301..=20_301)], RULE_REVOKE);
    thread::scope(|scope| {
        let accepting = scope.spawn(|| {
            // What waited is returned, and then nothing more.
            let _first = accept(&listener);
            [(); 3].map(|()| accept(&listener).unwrap_err())
        });
        let swept = run(&sweep(&new, &[&bed]), &[&bed]);
        let ended: Vec<_> = swept.ended.iter().filter(|ended| ended.listened).collect();
        let [ended] = ended[..] else { panic!("{swept:#?}") };
        let owner = ended.event.owner.unwrap();
        assert_eq!((ended.event.local.port, owner.pid), (20_301, std::process::id()));
        assert_eq!(accepting.join().unwrap(), [rustix::io::Errno::INVAL; 3]);
    });
    assert!(!lives(&waits));
    let refused = bed.bed.inside(|| TcpStream::connect("10.9.0.1:20301")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    bed.bed.inside(|| TcpStream::connect("10.9.0.1:20302")).unwrap();
    drop(other);
}

#[test]
fn a_rule_about_a_process_ends_that_ones_connections_only() {
    let bed = Bed::new();
    let (_listener, client, server) = bed.connected("10.9.0.1");
    let about = |subject: SubjectTest| {
        let denial = Rule {
            verdict: Verdict::Deny,
            flags: RULE_REVOKE,
            subject,
            ..Rule::default(Direction::Out, Verdict::Allow, 1)
        };
        let defaults =
            [Direction::Out, Direction::In].map(|way| Rule::default(way, Verdict::Allow, 2));
        let rules = [denial].into_iter().chain(defaults).collect();
        compile(&RuleSet { sets: Vec::new(), rules, version: 1, ..RuleSet::default() }).unwrap()
    };
    let own = crate::names::exe_of(&std::env::current_exe().unwrap()).unwrap();
    let another = crate::names::exe_of(Path::new("/bin/sh")).unwrap();
    for stranger in [
        SubjectTest { users: vec![54_321], ..SubjectTest::default() },
        SubjectTest { exes: vec![another], ..SubjectTest::default() },
        SubjectTest { units: vec![1 << 60], ..SubjectTest::default() },
        SubjectTest { users: vec![0], exes: vec![another], ..SubjectTest::default() },
    ] {
        assert_eq!(run(&sweep(&about(stranger), &[&bed]), &[&bed]).ended, []);
    }
    assert!(lives(&client) && lives(&server));
    let exact =
        SubjectTest { users: vec![0], groups: vec![0], exes: vec![own], ..SubjectTest::default() };
    let swept = run(&sweep(&about(exact), &[&bed]), &[&bed]);
    assert_eq!(swept.ended.len(), 1, "{swept:#?}");
    assert_eq!(error_of(&client), ErrorKind::ConnectionAborted);
}
