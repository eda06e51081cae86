//! `--tripwire`: what connects or listens without a verdict, because its socket was made where nothing judges, is found,
//! judged and ended.

use std::{
    io::{ErrorKind, Read},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
};

use rustix::{
    io::Errno,
    net::{AddressFamily, SocketType, bind, connect, listen, socket},
};
use testbed::{Host, Network, wait_until};

use crate::{
    document::Document,
    shared::{DEADLINE, Echo, on, run_on},
};

const EINVAL: i32 = 22;
const ECONNABORTED: i32 = 103;

/// A stream socket that was made on a host by a process outside its cgroup: no hook of the cgroup will see it.
fn foreign(host: &Host) -> OwnedFd {
    host.namespace.inside(|| socket(AddressFamily::INET, SocketType::STREAM, None)).unwrap()
}

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

#[test]
fn a_foreign_socket_that_connects_where_it_may_not_is_ended_and_reported() {
    let network = Network::star(2);
    let [host, peer] = network.hosts() else { panic!("a star of two") };
    let _denied = Echo::tcp(&peer.namespace, "10.7.0.2:20000");
    // An address where somebody would be: the first segment of the connection goes there and is never answered.
    let neighbour = ["neigh", "add", "10.7.0.77", "lladdr", "02:00:00:00:00:77", "dev", "eth0"];
    assert!(run_on(host, "ip", &neighbour).status.success());
    let document = Document::new("deny any -> 10.7.0.2, 10.7.0.77 : tcp/20000  id=\"wire\"\n");
    let enforcing = document.enforce(host, &["--tripwire"]);

    let waiting = foreign(host);
    let error = on(host, || connect(&waiting, &at("10.7.0.77:20000"))).unwrap_err();
    assert_eq!(error, Errno::CONNABORTED);
    assert_eq!(error.raw_os_error(), ECONNABORTED);
    enforcing.line("=> 10.7.0.77:20000 denied");

    // Where the peer answers at once, the connection may come to be before it is ended.
    let quick = foreign(host);
    let ended = on(host, || connect(&quick, &at("10.7.0.2:20000"))).err().or_else(|| {
        let mut stream = TcpStream::from(quick.try_clone().unwrap());
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let error = stream.read(&mut [0; 8]).unwrap_err();
        Errno::from_io_error(&error)
    });
    assert_eq!(ended, Some(Errno::CONNABORTED));
    enforcing.line("=> 10.7.0.2:20000 denied");
    enforcing.stop();
}

#[test]
fn a_foreign_socket_that_connects_where_it_may_is_reported_and_left_alone() {
    let network = Network::star(2);
    let [host, peer] = network.hosts() else { panic!("a star of two") };
    let echo = Echo::tcp(&peer.namespace, "10.7.0.2:20000");
    let document = Document::new("deny any -> any : tcp/20001\n");
    let enforcing = document.enforce(host, &["--tripwire"]);
    let allowed = foreign(host);
    on(host, || connect(&allowed, &at("10.7.0.2:20000"))).unwrap();
    enforcing.line("=> 10.7.0.2:20000");
    let mut stream = TcpStream::from(allowed);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    std::io::Write::write_all(&mut stream, b"still here").unwrap();
    let mut answer = [0; 10];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"still here");
    assert_eq!(echo.came(), 1);
    // One that was made on the host has its verdict, and no wire is touched.
    on(host, || TcpStream::connect("10.7.0.2:20000")).unwrap();
    let lines = enforcing.stop();
    let touched = lines.iter().filter(|line| line.contains("without a verdict")).count();
    assert_eq!(touched, 1, "{lines:#?}");
}

/// A foreign socket on this port that a process of the host begins to listen on.
fn foreign_listener(host: &Host, address: &str) -> TcpListener {
    let made = foreign(host);
    host.namespace.inside(|| bind(&made, &at(address))).unwrap();
    on(host, || listen(&made, 16)).unwrap();
    let listener = TcpListener::from(made);
    listener.set_nonblocking(true).unwrap();
    listener
}

#[test]
fn a_foreign_listener_on_a_closed_port_is_ended_and_on_another_left_alone() {
    let network = Network::star(2);
    let [host, client] = network.hosts() else { panic!("a star of two") };
    let document = Document::new("deny any -> any : tcp/20000\n");
    let enforcing = document.enforce(host, &["--tripwire"]);
    let allowed = foreign_listener(host, "10.7.0.1:20001");
    let denied = foreign_listener(host, "10.7.0.1:20000");
    // Neither spins nor waits for ever: accept() says that this is no listener any more.
    wait_until(DEADLINE, "accept() on a closed port ends", || match denied.accept() {
        Ok(_) => panic!("nobody can come to a closed port"),
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(EINVAL));
            true
        }
    });
    let _client = client.namespace.inside(|| TcpStream::connect("10.7.0.1:20001")).unwrap();
    wait_until(DEADLINE, "who may come is accepted", || allowed.accept().is_ok());
    let lines = enforcing.stop();
    let told: Vec<_> = lines.iter().filter(|line| line.contains("without a verdict")).collect();
    assert!(told.iter().any(|line| line.contains("10.7.0.1:20000")), "{lines:#?}");
    assert!(told.iter().all(|line| !line.contains("10.7.0.1:20001")), "{lines:#?}");
}

#[test]
fn without_the_tripwire_a_foreign_socket_is_not_seen() {
    // What `doctor` says of sockets from elsewhere, and what the tripwire is for.
    let network = Network::star(2);
    let [host, peer] = network.hosts() else { panic!("a star of two") };
    let _denied = Echo::tcp(&peer.namespace, "10.7.0.2:20000");
    let document = Document::new("deny any -> any : tcp/20000\n");
    let enforcing = document.enforce(host, &[]);
    let unseen = foreign(host);
    on(host, || connect(&unseen, &at("10.7.0.2:20000"))).unwrap();
    let lines = enforcing.stop();
    assert!(lines.iter().all(|line| !line.starts_with("! ")), "{lines:#?}");
}
