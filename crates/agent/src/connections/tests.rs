//! Sockets put together with their owners, and the questions that follow.

use verdict::{Address, Direction, Endpoint, Protocol, Subject};

use super::*;

fn end(address: u32, port: u16) -> Endpoint {
    Endpoint { address: Address::v4(address), port }
}

const HOST: u32 = 0x0a00_0001;
const PEER: u32 = 0x0a00_0002;

fn socket(stage: Stage, local: Endpoint, remote: Endpoint) -> Socket {
    Socket {
        protocol: Protocol::TCP,
        mptcp: false,
        stage,
        local,
        remote,
        cookie: u64::from(local.port) << 16 | u64::from(remote.port),
        uid: 7,
        inode: 0,
        cgroup: 0,
        opened: None,
        waiting: 0,
        token: 0,
        namespace: 0,
    }
}

fn process(pid: u32, started: u64) -> Process {
    let name = format!("p{pid}");
    Process { pid, started, exe: None, exe_id: pid.into(), gid: pid, command: name.clone(), name }
}

fn facts(sockets: Vec<Socket>) -> Facts {
    let namespaces = vec![
        Namespace { inode: 10, cookie: 70, name: "a".into() },
        Namespace { inode: 11, cookie: 71, name: "b".into() },
    ];
    Facts { namespaces, sockets, ..Facts::default() }
}

#[test]
fn the_oldest_holder_is_the_one_that_is_named() {
    let mut held = socket(Stage::Open, end(HOST, 5000), end(PEER, 80));
    held.inode = 42;
    held.cgroup = 3;
    let cgroup = |id, path: &str, line: &[u64]| Cgroup { id, path: path.into(), line: line.into() };
    let all = Facts {
        processes: vec![process(900, 5), process(901, 4), process(902, 9)],
        held: vec![(41, 2), (42, 0), (42, 1), (42, 0), (43, 2)],
        cgroups: vec![cgroup(3, "/system.slice/web.service", &[1, 2, 3]), cgroup(1, "/", &[1])],
        ..facts(vec![held])
    }
    .connections();
    let [connection] = &all.list[..] else { panic!("one socket") };
    assert_eq!(connection.holders, [1, 0]);
    assert_eq!(all.process(connection).map(|process| process.pid), Some(901));
    assert_eq!(all.unit(connection).as_deref(), Some("web.service"));
    let above = [0, 0, 0, 0, 0, 0, 3, 2];
    let expected = Subject { uid: 7, gid: 901, exe: 901, cgroup: 3, above, netns: 70 };
    assert_eq!(connection.subjects, [expected; 2]);
}

#[test]
fn who_accepted_is_judged_as_who_listens_and_the_exact_claim_wins() {
    let any = Endpoint { address: Address::UNSPECIFIED_V6, port: 80 };
    let mut wide = socket(Stage::Listening, any, Endpoint::default());
    (wide.uid, wide.inode) = (100, 1);
    let mut exact = socket(Stage::Listening, end(HOST, 80), Endpoint::default());
    (exact.uid, exact.inode) = (200, 2);
    let accepted = socket(Stage::Open, end(HOST, 80), end(PEER, 6000));
    let mut out = socket(Stage::Open, end(HOST, 80), end(PEER, 6001));
    out.opened = Some(Direction::Out);
    let elsewhere = Socket { namespace: 1, ..accepted };
    let of = facts(vec![wide, exact, accepted, out, elsewhere]).connections();
    let find = |wanted: Socket| of.list.iter().find(|one| one.socket == wanted).unwrap();
    assert_eq!(find(accepted).direction, Some(Direction::In));
    assert_eq!(find(accepted).subjects[1].uid, 200);
    assert_eq!(find(accepted).subjects[0].uid, 7);
    assert_eq!(find(out).direction, Some(Direction::Out), "counts come before a listener");
    assert_eq!(find(elsewhere).direction, None, "the listener is in another namespace");
    assert!(matches!(find(elsewhere).case(), Some(Case::Either(..))));
}

#[test]
fn connections_of_mptcp_get_what_is_known_of_the_whole() {
    let whole = Socket {
        mptcp: true,
        token: 9,
        inode: 5,
        cgroup: 4,
        ..socket(Stage::Open, end(HOST, 1), end(PEER, 2))
    };
    let flow = |port| Socket {
        token: 9,
        uid: 0,
        mptcp: false,
        inode: 0,
        cgroup: 0,
        ..socket(Stage::Open, end(HOST, port), end(PEER, 2))
    };
    let listener = Socket {
        mptcp: true,
        inode: 6,
        ..socket(Stage::Listening, end(HOST, 3), Endpoint::default())
    };
    let claim = Socket { mptcp: false, inode: 77, ..listener };
    let alone = Socket { token: 10, ..whole };
    let all = facts(vec![flow(1), flow(8), whole, listener, claim, alone]).connections();
    let shown: Vec<_> = all
        .list
        .iter()
        .map(|one| (one.socket.local.port, one.socket.inode, one.socket.uid))
        .collect();
    assert_eq!(shown, [(1, 5, 7), (1, 5, 7), (3, 6, 7), (8, 5, 7)]);
    assert_eq!(all.list.iter().filter(|one| one.socket.token == 10).count(), 1, "without flows");
    assert!(all.list.iter().all(|one| one.socket.mptcp));
    assert!(all.list.iter().all(Connection::can_be_ended));
}

#[test]
fn what_is_asked_depends_on_what_a_socket_is_for() {
    let made = |protocol, stage| Socket { protocol, ..socket(stage, end(HOST, 5), end(PEER, 6)) };
    let case = |protocol, stage| {
        let all = facts(vec![made(protocol, stage)]).connections();
        let [connection] = &all.list[..] else { panic!("one socket") };
        (connection.case(), connection.can_be_ended())
    };
    assert_eq!(case(Protocol::TCP, Stage::Bound), (None, false));
    let (listens, ends) = case(Protocol::TCP, Stage::Listening);
    assert!(ends && matches!(listens, Some(Case::Claim(flow)) if flow.remote.port == 0));
    let (datagrams, ends) = case(Protocol::UDP, Stage::Bound);
    assert!(!ends && matches!(datagrams, Some(Case::Claim(_))));
    let (connected, ends) = case(Protocol::UDP, Stage::Open);
    assert!(
        ends && matches!(connected, Some(Case::Made(flow)) if flow.direction == Direction::Out)
    );
    let (raw, ends) = case(Protocol::RAW, Stage::Open);
    assert!(!ends && matches!(raw, Some(Case::Claim(flow)) if flow.direction == Direction::Out));
}

#[test]
fn a_scope_leaves_strangers_alone() {
    let mut inside = socket(Stage::Open, end(HOST, 1), end(PEER, 2));
    (inside.cgroup, inside.opened) = (3, Some(Direction::Out));
    let gone = Socket { cgroup: 99, ..inside };
    let beside = Socket { cgroup: 4, ..inside };
    let into = Socket { opened: Some(Direction::In), namespace: 1, ..inside };
    let unknown = Socket { opened: None, ..inside };
    let mut all = facts(vec![inside, gone, beside, into, unknown]);
    all.cgroups = vec![
        Cgroup { id: 3, path: "/a/b".into(), line: vec![1, 2, 3] },
        Cgroup { id: 4, path: "/c".into(), line: vec![1, 4] },
    ];
    let all = all.connections();
    let judged = |scope: &Scope| -> Vec<Socket> {
        let judged = all.list.iter().filter(|one| scope.case(&all, one).is_some());
        judged.map(|one| one.socket).collect()
    };
    assert_eq!(judged(&Scope::default()).len(), 5);
    let mut below = judged(&Scope { cgroup: Some(2), namespaces: Some(vec![]) });
    assert_eq!(below, [inside], "in neither direction of the unknown one everything is judged");
    below = judged(&Scope { cgroup: Some(2), namespaces: Some(vec![11]) });
    assert_eq!(below, [inside, into]);
    below = judged(&Scope { cgroup: Some(2), namespaces: Some(vec![10]) });
    assert_eq!(below.len(), 2);
    assert!(below.contains(&inside) && below.contains(&unknown));
}

#[test]
fn a_stamp_says_whose_a_socket_is_and_goes_with_what_its_listener_accepts() {
    let mut listener = socket(Stage::Listening, end(HOST, 80), Endpoint::default());
    (listener.inode, listener.cookie) = (42, 1);
    let mut accepted = socket(Stage::Open, end(HOST, 80), end(PEER, 5000));
    (accepted.inode, accepted.cookie) = (43, 2);
    let mut lone = socket(Stage::Open, end(HOST, 5001), end(PEER, 80));
    (lone.inode, lone.cookie) = (44, 3);
    let made = Subject { uid: 7, gid: 8, exe: 9, netns: 99, ..Subject::UNKNOWN };
    let connections = |stamped: &[u32], held: &[(u32, usize)]| {
        let all = Facts {
            processes: vec![process(900, 5), process(901, 4)],
            held: held.to_vec(),
            stamped: stamped.iter().map(|&inode| (inode, made)).collect(),
            ..facts(vec![listener, accepted, lone])
        };
        let mut list = all.connections().list;
        list.sort_by_key(|connection| connection.socket.cookie);
        list.into_iter().map(|one| (one.subjects, one.known_by)).collect::<Vec<_>>()
    };
    let both = [(42, 0), (42, 1), (43, 0), (44, 0), (44, 1)];
    let stamped = connections(&[42, 44], &both);
    let made_here = Subject { netns: 70, ..made };
    assert_eq!(stamped[0], ([made_here; 2], [KnownBy::Stamp; 2]));
    // Coming in it is whoever listens, going out whoever holds it.
    assert_eq!(stamped[1].0[1], made_here);
    assert_eq!((stamped[1].0[0].gid, stamped[1].1), (900, [KnownBy::Holder, KnownBy::Stamp]));
    assert_eq!(stamped[2].1, [KnownBy::Stamp; 2]);
    let unstamped = connections(&[], &both);
    assert_eq!((unstamped[2].0[0].gid, unstamped[2].1[0]), (901, KnownBy::OldestHolder));
    assert_eq!(connections(&[], &[])[2].1[0], KnownBy::Socket);
}
