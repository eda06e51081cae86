//! Real sockets in namespaces of the tests' own.

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use testbed::Namespace;
use verdict::Address;

use super::*;

struct Bed {
    bed: Namespace,
    namespace: Netns,
}

impl Bed {
    fn new() -> Self {
        let bed = Namespace::new();
        let namespace = Netns::open(bed.name()).expect("just made");
        Self { bed, namespace }
    }

    fn list(&self) -> Vec<Socket> {
        Sockets::of(&self.namespace).list(Wanted::All).expect("inet_diag")
    }

    fn find(&self, local: SocketAddr, remote: Option<SocketAddr>) -> Socket {
        let wanted = (endpoint(local), remote.map(endpoint).unwrap_or_default().port);
        let all = self.list();
        *all.iter()
            .find(|socket| (socket.local, socket.remote.port) == wanted)
            .unwrap_or_else(|| panic!("{local} {remote:?} in {all:#?}"))
    }

    /// A listener, a connection to it from outside, and the same connection as accepted.
    fn connected(&self, address: &str) -> (TcpListener, TcpStream, TcpStream) {
        self.bed.inside(|| {
            let listener = TcpListener::bind((address, 0)).expect("bind");
            let client = TcpStream::connect(listener.local_addr().unwrap()).expect("connect");
            let (server, _) = listener.accept().expect("accept");
            (listener, client, server)
        })
    }
}

fn endpoint(address: SocketAddr) -> Endpoint {
    let canonical = match address.ip() {
        IpAddr::V4(v4) => Address::v4(v4.to_bits()),
        IpAddr::V6(v6) => Address::from_bits(v6.to_bits()),
    };
    Endpoint { address: canonical, port: address.port() }
}

fn ends(stream: &TcpStream) -> (SocketAddr, Option<SocketAddr>) {
    (stream.local_addr().unwrap(), Some(stream.peer_addr().unwrap()))
}

#[test]
fn a_listener_is_listed_and_can_be_ended() {
    let bed = Bed::new();
    let listener = bed.bed.inside(|| TcpListener::bind("127.0.0.1:0").expect("bind on loopback"));
    let local = listener.local_addr().expect("bound");
    let found = bed.find(local, None);
    assert_eq!((found.state, found.local.address), (State::Listen, Address::LOOPBACK_V4));
    assert_ne!((found.cookie, found.inode, found.cgroup), (0, 0, 0));
    let sockets = Sockets::of(&bed.namespace);
    sockets.destroy(&found).expect("CONFIG_INET_DIAG_DESTROY");
    assert_eq!(bed.list(), []);
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::InvalidInput);
    let error = sockets.destroy(&found).expect_err("gone");
    assert_eq!(error.source.raw_os_error(), Some(libc::ENOENT));
}

#[test]
fn who_opened_a_connection_is_told_whatever_went_over_it() {
    let expected = (Some(Direction::Out), Some(Direction::In));
    let bed = Bed::new();
    for address in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
        let (_listener, mut client, mut server) = bed.connected(address);
        let opened = |client: &TcpStream, server: &TcpStream| {
            let of = |stream| {
                let (local, remote) = ends(stream);
                bed.find(local, remote).opened
            };
            (of(client), of(server))
        };
        assert_eq!(opened(&client, &server), expected, "{address}: idle");
        client.write_all(&[1; 1000]).unwrap();
        server.read_exact(&mut [0; 1000]).unwrap();
        server.write_all(&[2; 10]).unwrap();
        client.read_exact(&mut [0; 10]).unwrap();
        assert_eq!(opened(&client, &server), expected, "{address}: after some data");
        for stream in [&mut client, &mut server] {
            stream.set_nonblocking(true).unwrap();
            while stream.write(&[0; 65_536]).is_ok() {}
        }
        // What is acknowledged between two reads of the kernel may spoil one look.
        let told = || opened(&client, &server) == expected;
        testbed::wait_until(Duration::from_secs(5), "both ends told with full buffers", told);
    }
}

#[test]
fn a_mapped_connection_is_its_ipv4_one_and_both_ends_see_the_end() {
    let bed = Bed::new();
    let (_listener, mut client, mut server) = bed.connected("::ffff:127.0.0.1");
    let (local, remote) = ends(&client);
    let found = bed.find(local, remote);
    assert_eq!(found.local.address, Address::LOOPBACK_V4);
    Sockets::of(&bed.namespace).destroy(&found).expect("it is there");
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
    assert_eq!(server.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn what_waits_to_be_accepted_is_listed_without_a_descriptor() {
    let bed = Bed::new();
    let (listener, client) = bed.bed.inside(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let client = TcpStream::connect(listener.local_addr().unwrap()).expect("connect");
        (listener, client)
    });
    assert_eq!(bed.find(listener.local_addr().unwrap(), None).waiting, 1);
    let waits = bed.find(client.peer_addr().unwrap(), Some(client.local_addr().unwrap()));
    assert_eq!((waits.inode, waits.opened), (0, Some(Direction::In)));
    Sockets::of(&bed.namespace).destroy(&waits).expect("it is there");
    let (mut accepted, _) = listener.accept().expect("the descriptor is still handed out");
    assert_eq!(accepted.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
}

#[test]
fn datagram_sockets_are_listed_and_connected_ones_can_be_ended() {
    let bed = Bed::new();
    for address in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
        let (bound, connected) = bed.bed.inside(|| {
            let bound = UdpSocket::bind((address, 0)).expect("bind");
            let connected = UdpSocket::bind((address, 0)).expect("bind");
            connected.connect(bound.local_addr().unwrap()).expect("connect");
            (bound, connected)
        });
        let of_bound = bed.find(bound.local_addr().unwrap(), None);
        assert_eq!((of_bound.protocol, of_bound.state), (Protocol::UDP, State::Closed));
        let of_connected =
            bed.find(connected.local_addr().unwrap(), Some(bound.local_addr().unwrap()));
        assert_eq!(of_connected.state, State::Established);
        Sockets::of(&bed.namespace).destroy(&of_connected).expect("UDP has destroy");
        let error = connected.recv(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted, "{address}");
    }
}

#[test]
fn listeners_that_share_a_port_are_all_ended() {
    use rustix::net::{
        AddressFamily, SocketType, bind, listen, socket, sockopt::set_socket_reuseport,
    };
    let bed = Bed::new();
    let listeners: Vec<_> = bed.bed.inside(|| {
        (0..5)
            .map(|_| {
                let listener = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
                set_socket_reuseport(&listener, true).unwrap();
                bind(&listener, &SocketAddr::from(([127, 0, 0, 1], 4000))).unwrap();
                listen(&listener, 8).unwrap();
                listener
            })
            .collect()
    });
    let found = bed.list();
    assert_eq!(found.len(), listeners.len());
    let outcomes = Sockets::of(&bed.namespace).destroy_all(&found).unwrap();
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert!(bed.list().iter().all(|socket| socket.state == State::Closed), "they keep their port");
}

#[test]
fn an_mptcp_connection_is_known_by_its_token() {
    use rustix::net::{
        AddressFamily, SocketType, accept, bind, connect, getsockname, listen, socket,
    };
    let mptcp = rustix::net::Protocol::from_raw(262.try_into().unwrap());
    let bed = Bed::new();
    let held = bed.bed.inside(|| {
        let new = || socket(AddressFamily::INET, SocketType::STREAM, Some(mptcp)).unwrap();
        let (listener, client) = (new(), new());
        bind(&listener, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        listen(&listener, 8).unwrap();
        connect(&client, &getsockname(&listener).unwrap()).unwrap();
        let server = accept(&listener).unwrap();
        (listener, client, server)
    });
    let all = bed.list();
    let whole: Vec<_> = all.iter().filter(|s| s.mptcp && s.state == State::Established).collect();
    assert_eq!(whole.len(), 2, "{all:#?}");
    for socket in whole {
        assert_ne!((socket.token, socket.inode), (0, 0));
        let flows: Vec<_> = all.iter().filter(|s| !s.mptcp && s.token == socket.token).collect();
        assert_eq!(flows.len(), 1, "{all:#?}");
        assert_eq!((flows[0].local, flows[0].remote), (socket.local, socket.remote));
    }
    drop(held);
}

#[test]
fn a_socket_with_a_port_and_no_purpose_is_listed_where_the_kernel_can() {
    let bed = Bed::new();
    let bound = bed.bed.inside(|| {
        let socket = rustix::net::socket(
            rustix::net::AddressFamily::INET,
            rustix::net::SocketType::STREAM,
            None,
        )
        .unwrap();
        rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 4001))).unwrap();
        socket
    });
    let all = bed.list();
    let known = |socket: &Socket| (socket.local.port, socket.state) == (4001, State::Closed);
    assert!(all.len() <= 1 && all.iter().all(known), "{all:#?}");
    drop(bound);
}
