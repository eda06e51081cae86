//! Whose a socket is where nobody could stamp it: sockets from before, sockets that nobody holds, sockets without room.

use std::{
    fs,
    io::IoSlice,
    net::{SocketAddr, TcpListener},
    os::{fd::AsFd, unix::net::UnixStream},
};

use kernel::CgroupTree;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketType, connect,
    sendmsg, socket,
};
use testbed::{Cgroup, wait_until};

use crate::{
    fixture::Bed,
    shared::{DEADLINE, EACCES, ECONNREFUSED, Echo, connect_errno, host, on, star},
};

/// A cgroup as a policy names it.
fn unit(cgroup: &Cgroup) -> String {
    let tree = CgroupTree::mounted().unwrap();
    format!("/{}", cgroup.path().strip_prefix(tree.mount()).unwrap().display())
}

/// Puts a socket into a message that nobody has read yet: no process holds it. It lives as long as what is returned.
fn in_flight(listener: TcpListener) -> (UnixStream, UnixStream) {
    let (one, other) = UnixStream::pair().unwrap();
    let descriptors = [listener.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    sendmsg(&one, &[IoSlice::new(b"x")], &mut control, SendFlags::empty()).unwrap();
    (one, other)
}

#[test]
fn sockets_from_before_are_known_and_those_of_nobody_are_counted() {
    let network = star(2);
    let [host, client] = network.hosts() else { panic!("a star of two") };
    let service = host.cgroup.child("web.service");
    let inside = {
        let _visit = service.enter_current_process();
        host.namespace.inside(|| TcpListener::bind("[::]:20001")).unwrap()
    };
    let _outside = on(host, || TcpListener::bind("[::]:20002")).unwrap();
    let _nobody_s = in_flight(on(host, || TcpListener::bind("[::]:20003")).unwrap());
    let bed = Bed::new(host);
    let policy = format!("default deny in\nallow any -> me[unit={}] : tcp/any\n", unit(&service));
    bed.up(&["--policy", &bed.file("p.fwnet", &policy)]);
    let errno = |port: u16| client.namespace.inside(|| connect_errno(&format!("10.7.0.1:{port}")));
    assert_eq!((errno(20_001), errno(20_002)), (None, Some(ECONNREFUSED)));
    assert_eq!(errno(20_003), Some(ECONNREFUSED));
    let identity = &bed.status()["identity"];
    assert_eq!(identity["before"]["unknown"], 1, "{identity:#}");
    assert!(identity["before"]["known"].as_u64() >= Some(2), "{identity:#}");
    assert!(identity["unknown"].as_u64() >= Some(1), "{identity:#}");
    let shown = bed.done(&["status"]);
    assert!(shown.contains("sockets from before") && shown.contains(" 1 unknown"), "{shown}");
    // The claim ends with the socket, and the next agent knows what this one does.
    bed.signal(rustix::process::Signal::KILL);
    bed.start_again();
    assert_eq!(errno(20_001), None);
    drop(inside);
    let _next = on(host, || TcpListener::bind("[::]:20001")).unwrap();
    assert_eq!(errno(20_001), Some(ECONNREFUSED));
}

#[test]
fn whoever_leaves_no_room_on_his_sockets_is_known_by_their_cookies_and_counted() {
    let host = host();
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let service = host.cgroup.child("web.service");
    let bed = Bed::new(&host);
    let policy = format!(
        "deny any[unit={}] -> any : tcp/20000\ndeny any -> any[unit={}] : tcp/20001\n",
        unit(&service),
        unit(&service)
    );
    // No option memory for any socket of this namespace (since 6.8 each has a limit of its own).
    host.namespace.inside(|| fs::write("/proc/sys/net/core/optmem_max", "0").unwrap());
    bed.up(&["--policy", &bed.file("p.fwnet", &policy)]);
    assert_eq!(bed.status()["identity"]["refused"], 0);
    let made_in = |cgroup: &Cgroup| {
        let _visit = cgroup.enter_current_process();
        host.namespace.inside(|| socket(AddressFamily::INET, SocketType::STREAM, None)).unwrap()
    };
    let target: SocketAddr = "127.0.0.2:20000".parse().unwrap();
    let (inside, outside) = (made_in(&service), made_in(&host.cgroup));
    // It is not the task that connects which counts.
    let errno = |socket| {
        let _visit = host.cgroup.enter_current_process();
        connect(socket, &target).err().map(rustix::io::Errno::raw_os_error)
    };
    assert_eq!((errno(&inside), errno(&outside)), (Some(EACCES), None));
    assert!(bed.status()["identity"]["refused"].as_u64() >= Some(2), "{:#}", bed.status());
    let shown = bed.done(&["status"]);
    assert!(shown.contains("had no room on their socket"), "{shown}");
}

/// The id of a container that nobody else has.
fn container_id(digit: char) -> String {
    format!("{:07x}{}", std::process::id(), digit.to_string().repeat(57))
}

#[test]
fn a_container_is_meant_by_its_id_when_it_comes_and_comes_back_with_or_without_the_agent() {
    let host = host();
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let (meant, other) = (container_id('a'), container_id('b'));
    let scope = |id: &str| host.cgroup.child(&format!("docker-{id}.scope"));
    let errno = |cgroup: &Cgroup| {
        let _visit = cgroup.enter_current_process();
        host.namespace.inside(|| connect_errno("127.0.0.2:20000"))
    };
    let bed = Bed::new(&host);
    let policy = format!("deny any[container={}] -> any : tcp/20000\n", &meant[..12]);
    bed.up(&["--policy", &bed.file("p.fwnet", &policy)]);
    // It came after the policy.
    let (first, beside) = (scope(&meant), scope(&other));
    let inner = first.child("init");
    wait_until(DEADLINE, "the container to be known", || errno(&first) == Some(EACCES));
    assert_eq!((errno(&inner), errno(&beside), errno(&host.cgroup)), (Some(EACCES), None, None));
    // The kernel knows it without the agent, and the next agent as before.
    bed.signal(rustix::process::Signal::KILL);
    assert_eq!((errno(&first), errno(&beside)), (Some(EACCES), None));
    bed.start_again();
    assert_eq!((errno(&first), errno(&beside)), (Some(EACCES), None));
    // Another cgroup with the same id is the same container.
    drop((inner, first));
    let again = scope(&meant);
    wait_until(DEADLINE, "the container to be known again", || errno(&again) == Some(EACCES));
    // A policy that names the other one is about that one.
    let next = format!("deny any[container={other}] -> any : tcp/20000\n");
    bed.done(&["apply", &bed.file("next.fwnet", &next)]);
    assert_eq!((errno(&again), errno(&beside)), (None, Some(EACCES)));
}

#[test]
fn the_container_that_listens_is_meant_also_after_the_agent_was_killed() {
    let network = star(2);
    let [host, client] = network.hosts() else { panic!("a star of two") };
    let id = container_id('c');
    let scope = host.cgroup.child(&format!("libpod-{id}.scope"));
    let listen = |cgroup: &Cgroup, address: &str| {
        let _visit = cgroup.enter_current_process();
        host.namespace.inside(|| TcpListener::bind(address)).unwrap()
    };
    // One from before the programs, one from after.
    let _before = listen(&scope, "[::]:20001");
    let bed = Bed::new(host);
    let policy = format!("default deny in\nallow any -> me[container={}] : tcp/any\n", &id[..12]);
    bed.up(&["--policy", &bed.file("p.fwnet", &policy)]);
    let _after = listen(&scope, "[::]:20002");
    let _outside = listen(&host.cgroup, "[::]:20003");
    let errno = |port: u16| client.namespace.inside(|| connect_errno(&format!("10.7.0.1:{port}")));
    let expected = [None, None, Some(ECONNREFUSED)];
    assert_eq!([20_001, 20_002, 20_003].map(errno), expected);
    bed.signal(rustix::process::Signal::KILL);
    bed.start_again();
    assert_eq!([20_001, 20_002, 20_003].map(errno), expected);
}

#[test]
fn a_network_namespace_is_meant_by_its_name_or_path_and_host_is_the_agent_s() {
    let network = star(2);
    let [host, elsewhere] = network.hosts() else { panic!("a star of two") };
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let _other = Echo::tcp(&elsewhere.namespace, "[::]:20000");
    let bed = Bed::new(host);
    let policy = format!(
        "deny any[netns={}] -> any : tcp/20000\ndeny any -> any[netns={}] : tcp/20001\n\
         deny any[netns=host] -> any : tcp/20002\n",
        host.namespace.name(),
        host.namespace.path().display()
    );
    bed.up(&["--policy", &bed.file("p.fwnet", &policy)]);
    let errno = |at: &testbed::Host, target: &str| {
        let _visit = host.cgroup.enter_current_process();
        at.namespace.inside(|| connect_errno(target))
    };
    let holds = || {
        // The same process, the same cgroup, another namespace.
        assert_eq!(errno(host, "127.0.0.2:20000"), Some(EACCES));
        assert_eq!(errno(elsewhere, "127.0.0.2:20000"), None);
        let claim = on(host, || TcpListener::bind("[::]:20001")).unwrap_err();
        assert_eq!(claim.raw_os_error(), Some(EACCES));
        let _visit = host.cgroup.enter_current_process();
        elsewhere.namespace.inside(|| TcpListener::bind("[::]:20001")).unwrap();
        assert_eq!(connect_errno("127.0.0.2:20002"), Some(EACCES));
        assert_eq!(host.namespace.inside(|| connect_errno("127.0.0.2:20002")), Some(ECONNREFUSED));
    };
    holds();
    bed.signal(rustix::process::Signal::KILL);
    holds();
    bed.start_again();
    holds();
}
