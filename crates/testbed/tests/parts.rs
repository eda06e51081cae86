//! Namespaces, cgroups, hosts and networks do what they say, seen by programs that are not ours.

#![expect(clippy::unwrap_used, reason = "a test's helpers panic as its test does")]

use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use std::{fs, panic};
use testbed::{Cgroup, Host, Namespace, Network, Running, wait_until};

const DEADLINE: Duration = Duration::from_secs(20);

fn text(mut command: Command) -> String {
    let Output { status, stdout, stderr } =
        command.stdin(Stdio::null()).output().expect("the command starts");
    assert!(status.success(), "{command:?}: {status}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).expect("plain text").trim_end().to_owned()
}

/// A connection that is accepted, on a port of the kernel's choice.
#[track_caller]
fn reach(from: &Namespace, to: &Namespace, address: IpAddr) {
    let listener =
        to.inside(|| TcpListener::bind((address, 0))).expect("bind to an address of the namespace");
    let target = listener.local_addr().expect("it is bound");
    let stream = from.inside(|| TcpStream::connect_timeout(&target, DEADLINE));
    stream.unwrap_or_else(|error| panic!("connect from {} to {target}: {error}", from.name()));
    listener.accept().expect("the connection is there");
}

#[test]
fn a_namespace_has_only_its_own_loopback() {
    let namespace = Namespace::new();
    reach(&namespace, &namespace, Ipv4Addr::LOCALHOST.into());
    reach(&namespace, &namespace, "::1".parse().unwrap());

    let inside = fs::metadata(namespace.path()).unwrap().ino();
    let seen = namespace.inside(|| fs::metadata("/proc/thread-self/ns/net").unwrap().ino());
    let outside = fs::metadata("/proc/thread-self/ns/net").unwrap().ino();
    assert_eq!(seen, inside, "the thread is in the namespace");
    assert_ne!(outside, inside, "the caller is not");

    let listener = namespace.inside(|| TcpListener::bind("127.0.0.1:0")).unwrap();
    let port = listener.local_addr().unwrap().port();
    let other = Namespace::new();
    let refused = other.inside(|| TcpStream::connect(("127.0.0.1", port)));
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn a_panic_inside_comes_out_as_it_was() {
    let namespace = Namespace::new();
    let panic = panic::catch_unwind(|| namespace.inside(|| panic!("told from inside")));
    assert_eq!(panic.unwrap_err().downcast_ref::<&str>(), Some(&"told from inside"));
}

#[test]
fn a_command_runs_inside_with_its_arguments_and_the_machine_s_files() {
    let namespace = Namespace::new();
    let mut command = namespace.command("sh");
    command.args([
        "-c",
        "stat -L -c %i /proc/self/ns/net; ls -d /sys/fs/cgroup; echo \"$1\"",
        "-",
        "two words",
    ]);
    let inode = fs::metadata(namespace.path()).unwrap().ino();
    assert_eq!(text(command), format!("{inode}\n/sys/fs/cgroup\ntwo words"));
}

#[test]
fn joined_namespaces_reach_each_other_at_once_on_both_families() {
    let (a, b) = (Namespace::new(), Namespace::new());
    assert_eq!(
        Namespace::join(&a, "10.7.0.1/24", &b, "10.7.0.2/24"),
        ("eth0".into(), "eth0".into())
    );
    reach(&a, &b, "10.7.0.2".parse().unwrap());
    reach(&b, &a, "10.7.0.1".parse().unwrap());
    assert_eq!(a.address(false), IpAddr::from([10, 7, 0, 1]));

    assert_eq!(Namespace::join(&a, "fd07::1/64", &b, "fd07::2/64"), ("eth1".into(), "eth1".into()));
    reach(&a, &b, "fd07::2".parse().unwrap());
    reach(&b, &a, "fd07::1".parse().unwrap());
    assert_eq!(b.address(true), "fd07::2".parse::<IpAddr>().unwrap());

    a.add_address("lo", "192.0.2.7/32");
    reach(&a, &a, "192.0.2.7".parse().unwrap());
}

#[test]
fn every_host_of_a_star_reaches_every_other() {
    let network = Network::star(3);
    every_pair(&network);
    assert_eq!(network.hosts()[2].namespace.address(false), IpAddr::from([10, 7, 0, 3]));
}

#[test]
fn every_host_of_a_line_reaches_every_other_through_those_between() {
    let network = Network::line(4);
    every_pair(&network);
    assert!(network.switch().is_none());
}

fn every_pair(network: &Network) {
    for (from, client) in (0..).zip(network.hosts()) {
        for (to, server) in (0..).zip(network.hosts()) {
            for address in [IpAddr::from(network.address(to)), network.address_v6(to).into()] {
                let listener = server.namespace.inside(|| TcpListener::bind((address, 0))).unwrap();
                let target = listener.local_addr().unwrap();
                let stream =
                    client.namespace.inside(|| TcpStream::connect_timeout(&target, DEADLINE));
                stream.unwrap_or_else(|error| {
                    panic!("host {from} to host {to} at {target}: {error}")
                });
                let (_, peer) = listener.accept().unwrap();
                let known = [IpAddr::from(network.address(from)), network.address_v6(from).into()];
                assert!(from == to || known.contains(&peer.ip()), "host {from} came as {peer}");
            }
        }
    }
}

#[test]
fn a_command_is_in_its_cgroup_from_the_start() {
    let cgroup = Cgroup::new();
    let child = cgroup.child("inner");
    for cgroup in [&cgroup, &child] {
        let mut command = cgroup.command("grep");
        command.args(["^0::", "/proc/self/cgroup"]);
        let line = text(command);
        let path = line.strip_prefix("0::").unwrap();
        assert!(
            cgroup.path().ends_with(path.trim_start_matches('/')),
            "{line} is not {}",
            cgroup.path().display()
        );
        assert!(path.len() > 1, "never the root");
    }
}

#[test]
fn the_current_process_visits_a_cgroup_and_goes_home() {
    let own = || {
        fs::read_to_string("/proc/self/cgroup")
            .unwrap()
            .lines()
            .find(|l| l.starts_with("0::"))
            .unwrap()
            .to_owned()
    };
    let home = own();
    let cgroup = Cgroup::new();
    let visit = cgroup.enter_current_process();
    assert_eq!(cgroup.processes(), [std::process::id()]);
    assert_ne!(own(), home);
    drop(visit);
    assert_eq!(own(), home);
    assert!(cgroup.processes().is_empty());
}

#[test]
fn a_host_s_program_is_in_both_its_parts() {
    let host = Host::new();
    let mut running = host.start(
        "sh",
        ["-c", "stat -L -c %i /proc/self/ns/net; grep ^0:: /proc/self/cgroup; read go; exit 7"],
    );
    let inode = fs::metadata(host.namespace.path()).unwrap().ino().to_string();
    running.wait_for_line(&inode, DEADLINE);
    let name = host.cgroup.path().file_name().unwrap().to_str().unwrap();
    running.wait_for_line(name, DEADLINE);
    wait_until(DEADLINE, "the shell alone in the cgroup", || {
        host.cgroup.processes() == [running.pid()]
    });
    assert_eq!(running.exit_status(), None);
    running.write_line("go");
    assert_eq!(running.wait(DEADLINE).code(), Some(7));
    assert!(host.cgroup.processes().is_empty());
}

#[test]
fn a_running_program_is_read_waited_for_and_signalled() {
    let mut command = Command::new("sh");
    command.args(["-c", "trap 'echo bye; exit 3' TERM; echo first; echo second >&2; while read line; do echo \"got $line\"; done"]);
    let mut running = Running::start(command);
    assert_eq!(running.wait_for_line("fir", DEADLINE), "first");
    assert_eq!(running.wait_for_line("sec", DEADLINE), "second");

    let seen = running.lines().len();
    running.write_line("first");
    assert_eq!(running.wait_for_line_after(seen, "first", DEADLINE), "got first");

    running.signal(rustix::process::Signal::TERM);
    assert_eq!(running.wait(DEADLINE).code(), Some(3));
    assert_eq!(running.lines().last().unwrap(), "bye");

    let missing =
        panic::catch_unwind(panic::AssertUnwindSafe(|| running.wait_for_line("third", DEADLINE)));
    let message = missing.unwrap_err().downcast_ref::<String>().unwrap().clone();
    assert!(
        message.contains("before its output ended") && message.contains("got first"),
        "{message}"
    );
}

#[test]
fn the_end_of_a_running_program_takes_its_children_along() {
    let mut command = Command::new("sh");
    command.args(["-c", "sleep 1000 & echo child $!; wait"]);
    let running = Running::start(command);
    let line = running.wait_for_line("child", DEADLINE);
    let child = line.strip_prefix("child ").unwrap().to_owned();
    drop(running);
    wait_until(DEADLINE, "the child's end", || {
        fs::read_to_string(format!("/proc/{child}/stat")).is_ok_and(|stat| stat.contains(") Z "))
            || !fs::exists(format!("/proc/{child}")).unwrap()
    });
}

#[test]
fn a_program_that_is_not_there_says_so() {
    let host = Host::new();
    let output = host.command("no-such-program-anywhere").stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(127));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no-such-program-anywhere"));
}

#[test]
fn a_program_of_the_machine_serves_in_one_host_and_is_reached_from_another() {
    let network = Network::star(2);
    let [server, client] = network.hosts() else { panic!("two hosts") };
    let script = "import socket\ns = socket.create_server(('::', 0), family=socket.AF_INET6, dualstack_ipv6=True)\n\
        print('port', s.getsockname()[1], flush=True)\nwhile True:\n    s.accept()[0].sendall(b'hello')\n";
    let serving = server.start("python3", ["-c", script]);
    let line = serving.wait_for_line("port", DEADLINE);
    let port: u16 = line.strip_prefix("port ").unwrap().parse().unwrap();
    for address in [IpAddr::from(network.address(0)), network.address_v6(0).into()] {
        let mut greeting = String::new();
        let mut stream =
            client.namespace.inside(|| TcpStream::connect(SocketAddr::new(address, port))).unwrap();
        stream.read_to_string(&mut greeting).unwrap();
        assert_eq!(greeting, "hello", "at {address}");
    }
}

/// Long enough for an answer on this machine, short enough to wait for none.
const SILENCE: Duration = Duration::from_millis(700);

#[track_caller]
fn assert_cut(network: &Network, from: u8, to: u8) {
    let (near, far) = (&network.hosts()[usize::from(from)], &network.hosts()[usize::from(to)]);
    for address in [IpAddr::from(network.address(to)), network.address_v6(to).into()] {
        let listener = far.namespace.inside(|| TcpListener::bind((address, 0))).unwrap();
        let target = listener.local_addr().unwrap();
        let error = near
            .namespace
            .inside(|| TcpStream::connect_timeout(&target, SILENCE))
            .expect_err("nothing passes a cut");
        let silent = matches!(
            error.kind(),
            std::io::ErrorKind::TimedOut
                | std::io::ErrorKind::HostUnreachable
                | std::io::ErrorKind::NetworkUnreachable
        );
        assert!(silent, "{from} to {to} at {address}: {error}");
    }
}

#[track_caller]
fn assert_joined(network: &Network, from: u8, to: u8) {
    let (near, far) = (&network.hosts()[usize::from(from)], &network.hosts()[usize::from(to)]);
    reach(&near.namespace, &far.namespace, network.address(to).into());
    reach(&near.namespace, &far.namespace, network.address_v6(to).into());
}

#[test]
fn a_star_can_be_cut_between_any_hosts_and_healed() {
    use std::io::Write as _;
    let network = Network::star(4);
    for (from, to) in [(0, 1), (0, 2), (3, 1)] {
        assert_joined(&network, from, to);
    }
    // A connection that stands when the cut comes.
    let address = (network.address(2), 0);
    let listener = network.hosts()[2].namespace.inside(|| TcpListener::bind(address)).unwrap();
    let target = listener.local_addr().unwrap();
    let mut near = network.hosts()[0].namespace.inside(|| TcpStream::connect(target)).unwrap();
    let (mut far, _) = listener.accept().unwrap();
    far.set_read_timeout(Some(SILENCE)).unwrap();

    network.cut(&[0, 1], &[2, 3]);
    assert_joined(&network, 0, 1);
    assert_joined(&network, 3, 2);
    assert_cut(&network, 0, 2);
    assert_cut(&network, 3, 1);
    near.write_all(b"x").unwrap();
    let mut byte = [0];
    let silence = far.read_exact(&mut byte).unwrap_err();
    assert_eq!(silence.kind(), std::io::ErrorKind::WouldBlock);

    network.heal(&[0], &[2]);
    assert_joined(&network, 0, 2);
    assert_cut(&network, 0, 3);
    far.set_read_timeout(Some(DEADLINE)).unwrap();
    far.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"x", "what was sent into the cut arrives after it");

    let all = [0, 1, 2, 3];
    network.heal(&all, &all);
    assert_joined(&network, 0, 3);
    assert_joined(&network, 1, 2);
}

#[test]
fn a_host_that_is_unplugged_sees_it() {
    let network = Network::star(2);
    let carrier = || {
        let mut command = network.hosts()[1].command("ip");
        command.args(["-o", "link", "show", "dev", "eth0"]);
        text(command).contains("state UP")
    };
    assert!(carrier());
    network.unplug(1);
    wait_until(DEADLINE, "a link that is down", || !carrier());
    assert_cut(&network, 0, 1);
    network.plug(1);
    wait_until(DEADLINE, "a link that is up", carrier);
    assert_joined(&network, 0, 1);
}
