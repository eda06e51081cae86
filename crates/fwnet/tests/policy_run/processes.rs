//! Process qualifiers: a rule is about the process that connects, or about the one that listens.

use std::{
    env, fs, io,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    process::Stdio,
    time::Duration,
};

use kernel::CgroupTree;
use rustix::{
    net::{AddressFamily, SocketType},
    process::{Gid, Uid},
    thread::{set_thread_gid, set_thread_uid},
};
use testbed::{Cgroup, Host, Network, wait_until};

use crate::{
    document::Document,
    shared::{EACCES, ECONNREFUSED, Echo, complaint, connect_errno, on, run_on, text},
};

/// A user and a group that nobody has given anything.
const STRANGER: u32 = 54_321;
const BASH: &str = "/bin/bash";
const TARGET: &str = "127.0.0.2:20000";

/// How a connection attempt ended: nothing, or what the shell says of it.
fn outcome(host: &Host, program: &str, arguments: &[&str]) -> &'static str {
    let attempt = "exec 3<>/dev/tcp/127.0.0.2/20000 && echo connected";
    let mut all: Vec<_> = arguments.to_vec();
    all.extend(["-c", attempt]);
    let output = run_on(host, program, &all);
    let (said, complaint) = (text(&output), complaint(&output));
    match () {
        () if said == "connected\n" => "connected",
        () if complaint.contains("Permission denied") => "denied",
        () => panic!("{program} {all:?}: {said} {complaint}"),
    }
}

/// A shell that is another user and in another group.
fn as_stranger(host: &Host, uid: u32, gid: u32) -> &'static str {
    let (uid, gid) = (format!("--reuid={uid}"), format!("--regid={gid}"));
    outcome(host, "setpriv", &[&uid, &gid, "--clear-groups", BASH])
}

#[test]
fn a_rule_about_a_user_or_a_group_is_about_no_other() {
    let host = Host::new();
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let document = Document::new(&format!("deny any[user={STRANGER}] -> any : tcp/20000\n"));
    let enforcing = document.enforce(&host, &["-o", "json"]);
    assert_eq!(as_stranger(&host, STRANGER, 0), "denied");
    assert_eq!(as_stranger(&host, STRANGER + 1, STRANGER), "connected");
    assert_eq!(on(&host, || connect_errno(TARGET)), None);
    document.swap(&enforcing, &format!("deny any[group={STRANGER}] -> any : tcp/20000\n"), 2);
    assert_eq!(as_stranger(&host, STRANGER, 0), "connected");
    assert_eq!(as_stranger(&host, STRANGER + 1, STRANGER), "denied");
    // Both must hold.
    let both = format!("deny any[user=root group={STRANGER}] -> any : tcp/20000\n");
    document.swap(&enforcing, &both, 3);
    assert_eq!(as_stranger(&host, STRANGER, STRANGER), "connected");
    assert_eq!(as_stranger(&host, 0, STRANGER), "denied");
    let events = enforcing.stop_events();
    let who: Vec<_> = events
        .iter()
        .map(|event| {
            (event["user"]["id"].as_str().unwrap(), event["group"]["id"].as_str().unwrap())
        })
        .collect();
    let (stranger, next) = (STRANGER.to_string(), (STRANGER + 1).to_string());
    assert_eq!(who, [(&*stranger, "0"), (&*next, &*stranger), ("0", &*stranger)]);
}

#[test]
fn a_rule_may_let_one_user_out_of_a_default_deny() {
    let network = Network::star(2);
    let [host, peer] = network.hosts() else { panic!("a star of two") };
    let _echo = Echo::tcp(&peer.namespace, "127.0.0.2:20000");
    let _far = Echo::tcp(&peer.namespace, "10.7.0.2:20000");
    let document = Document::new(&format!(
        "default deny out\nallow me[user={STRANGER}] -> 10.7.0.2 : tcp/20000\n"
    ));
    let enforcing = document.enforce(host, &[]);
    let attempt = "exec 3<>/dev/tcp/10.7.0.2/20000 && echo connected";
    let uid = format!("--reuid={STRANGER}");
    let by_stranger = run_on(host, "setpriv", &[&uid, "--clear-groups", BASH, "-c", attempt]);
    assert_eq!(text(&by_stranger), "connected\n", "{}", complaint(&by_stranger));
    let by_root = run_on(host, BASH, &["-c", attempt]);
    assert!(complaint(&by_root).contains("Permission denied"), "{}", complaint(&by_root));
    enforcing.stop();
}

/// A cgroup as a policy names it: its path below the mount.
fn unit(cgroup: &Cgroup) -> String {
    let tree = CgroupTree::mounted().unwrap();
    format!("/{}", cgroup.path().strip_prefix(tree.mount()).unwrap().display())
}

#[test]
fn a_rule_about_a_unit_is_about_the_processes_in_its_cgroup() {
    let host = Host::new();
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let (web, db) = (host.cgroup.child("web"), host.cgroup.child("db"));
    let document = Document::new(&format!("deny any[unit={}] -> any : tcp/20000\n", unit(&web)));
    let enforcing = document.enforce(&host, &[]);
    let errno = |cgroup: &Cgroup| {
        let _visit = cgroup.enter_current_process();
        host.namespace.inside(|| connect_errno(TARGET))
    };
    assert_eq!(errno(&web), Some(EACCES));
    assert_eq!(errno(&db), None);
    assert_eq!(errno(&host.cgroup), None);
    enforcing.stop();
}

#[test]
fn a_rule_about_a_unit_is_about_the_cgroups_below_it_too() {
    let host = Host::new();
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let (slice, other) = (host.cgroup.child("slice"), host.cgroup.child("other"));
    let document = Document::new(&format!(
        "deny any[unit={}] -> any : tcp/20000\nallow any[unit={}/a/b] -> any : tcp/20000\n",
        unit(&slice),
        unit(&slice)
    ));
    let enforcing = document.enforce(&host, &[]);
    let errno = |cgroup: &Cgroup| {
        let _visit = cgroup.enter_current_process();
        host.namespace.inside(|| connect_errno(TARGET))
    };
    assert_eq!((errno(&slice), errno(&other)), (Some(EACCES), None));
    // Made after the policy was put in force.
    let inner = slice.child("a");
    assert_eq!(errno(&inner), Some(EACCES));
    // Named itself, and still what it is in.
    let innermost = inner.child("b");
    assert_eq!(errno(&innermost), Some(EACCES));
    enforcing.stop();
}

/// A socket that this process makes as a visitor of `cgroup`.
fn made_in(host: &Host, cgroup: &Cgroup) -> OwnedFd {
    let _visit = cgroup.enter_current_process();
    let made = || rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None);
    host.namespace.inside(made).unwrap()
}

/// How a connection of a socket that somebody made before ends, asked for by this process outside of any unit.
fn attempt(host: &Host, socket: &OwnedFd) -> Option<i32> {
    let _visit = host.cgroup.enter_current_process();
    let target: SocketAddr = TARGET.parse().unwrap();
    rustix::net::connect(socket, &target).err().map(rustix::io::Errno::raw_os_error)
}

#[test]
fn a_rule_about_a_unit_follows_it_when_it_is_started_again() {
    let host = Host::new();
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let service = host.cgroup.child("web.service");
    let document =
        Document::new(&format!("deny any[unit={}] -> any : tcp/20000\n", unit(&service)));
    let enforcing = document.enforce(&host, &[]);
    let errno = |cgroup: &Cgroup| {
        let _visit = cgroup.enter_current_process();
        host.namespace.inside(|| connect_errno(TARGET))
    };
    assert_eq!(errno(&service), Some(EACCES));
    let before = made_in(&host, &service);
    drop(service);
    let service = host.cgroup.child("web.service");
    wait_until(Duration::from_secs(20), "the new cgroup to be known", || {
        errno(&service) == Some(EACCES)
    });
    let other = host.cgroup.child("db.service");
    assert_eq!(errno(&other), None);
    // What the unit made before is the unit's as long as it is open.
    assert_eq!(attempt(&host, &before), Some(EACCES));
    enforcing.stop();
}

#[test]
fn what_a_unit_made_is_its_own_while_there_is_no_such_unit() {
    let host = Host::new();
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let name = format!("fwnet-former-{}.service", std::process::id());
    let service = host.cgroup.child(&name);
    let next = format!("fwnet-next-{}.service", std::process::id());
    let document =
        Document::new(&format!("deny any[unit in ({name}, {next})] -> any : tcp/20000\n"));
    let enforcing = document.enforce(&host, &[]);
    let before = made_in(&host, &service);
    let other = made_in(&host, &host.cgroup);
    drop(service);
    // Once this one is known, the other is missed.
    let next = host.cgroup.child(&next);
    wait_until(Duration::from_secs(20), "the rules to be compiled anew", || {
        attempt(&host, &made_in(&host, &next)) == Some(EACCES)
    });
    assert_eq!(attempt(&host, &before), Some(EACCES));
    assert_eq!(attempt(&host, &other), None);
    enforcing.stop();
}

#[test]
fn a_replaced_executable_is_followed_and_whoever_runs_the_old_one_stays_meant() {
    let host = Host::new();
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let path = env::temp_dir().join(format!("fwnet-replaced-{}", std::process::id()));
    fs::copy(BASH, &path).unwrap();
    let copy = path.to_str().unwrap();
    let document = Document::new(&format!("deny any[exe={copy}] -> any : tcp/20000\n"));
    let enforcing = document.enforce(&host, &[]);
    assert_eq!(outcome(&host, copy, &[]), "denied");
    // Runs the old file until its input ends, and then tries.
    let attempt = "read; exec 3<>/dev/tcp/127.0.0.2/20000 && echo connected";
    let mut old = host
        .namespace
        .inside(|| {
            let mut command = host.cgroup.command(copy);
            command.args(["-c", attempt]);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
        })
        .unwrap();
    let pid = old.id();
    wait_until(Duration::from_secs(20), "the old file to run", || {
        fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == path)
    });
    let next = path.with_extension("next");
    fs::copy(BASH, &next).unwrap();
    fs::rename(&next, &path).unwrap();
    wait_until(Duration::from_secs(20), "the new file to be known", || {
        outcome(&host, copy, &[]) == "denied"
    });
    drop(old.stdin.take());
    let output = old.wait_with_output().unwrap();
    fs::remove_file(&path).unwrap();
    assert!(complaint(&output).contains("Permission denied"), "{output:?}");
    assert_eq!(outcome(&host, BASH, &[]), "connected");
    enforcing.stop();
}

#[test]
fn a_rule_about_an_executable_is_about_that_file() {
    let host = Host::new();
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let path = env::temp_dir().join(format!("fwnet-client-{}", std::process::id()));
    fs::copy(BASH, &path).unwrap();
    let copy = path.to_str().unwrap();
    let document = Document::new(&format!("deny any[exe={copy}] -> any : tcp/20000\n"));
    let enforcing = document.enforce(&host, &[]);
    let seen = (outcome(&host, copy, &[]), outcome(&host, BASH, &[]));
    // The name alone does not make it: a link is the same file, whatever it is called.
    let link = path.with_extension("link");
    fs::hard_link(&path, &link).unwrap();
    let by_link = outcome(&host, link.to_str().unwrap(), &[]);
    for file in [&path, &link] {
        fs::remove_file(file).unwrap();
    }
    assert_eq!((seen, by_link), (("denied", "connected"), "denied"));
    enforcing.stop();
}

/// The kernel sees a file of an overlay with another device than stat(2) tells where the layers are of two file systems.
#[test]
fn an_executable_on_an_overlay_is_the_file_that_the_kernel_runs() {
    let host = Host::new();
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let directory = env::temp_dir().join(format!("fwnet-overlay-{}", std::process::id()));
    let script = format!(
        "set -e; mkdir -p {0}/lower {0}/tmp {0}/merged; cp {BASH} {0}/lower/client; \
         mount -t tmpfs none {0}/tmp; mkdir {0}/tmp/upper {0}/tmp/work; \
         mount -t overlay none -o lowerdir={0}/lower,upperdir={0}/tmp/upper,workdir={0}/tmp/work {0}/merged",
        directory.display()
    );
    let mounted = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(mounted.status.success(), "{mounted:?}");
    let client = directory.join("merged/client");
    let client = client.to_str().unwrap();
    let document = Document::new(&format!("deny any[exe={client}] -> any : tcp/20000\n"));
    let enforcing = document.enforce(&host, &[]);
    let seen = [client, BASH].map(|program| {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| outcome(&host, program, &[])))
    });
    for place in ["merged", "tmp"] {
        rustix::mount::unmount(directory.join(place), rustix::mount::UnmountFlags::DETACH).unwrap();
    }
    fs::remove_dir_all(&directory).unwrap();
    assert_eq!(seen.map(|outcome| outcome.unwrap()), ["denied", "connected"]);
    enforcing.stop();
}

/// A listener on a host that belongs to another user: the thread that makes it is that user from then to its end.
fn listener_of(host: &Host, user: u32, address: &str) -> io::Result<TcpListener> {
    on(host, || {
        set_thread_gid(Gid::from_raw(user)).unwrap();
        set_thread_uid(Uid::from_raw(user)).unwrap();
        TcpListener::bind(address)
    })
}

#[test]
fn an_inbound_rule_is_about_the_listener_s_user() {
    let network = Network::star(2);
    let [host, client] = network.hosts() else { panic!("a star of two") };
    let document =
        Document::new(&format!("deny 10.7.0.2, fd07::2 -> me[user={STRANGER}] : tcp/any\n"));
    let enforcing = document.enforce(host, &["-o", "json"]);
    let _one_address = listener_of(host, STRANGER, "10.7.0.1:20001").unwrap();
    let every_address = listener_of(host, STRANGER, "[::]:20002").unwrap();
    let _other = listener_of(host, STRANGER + 1, "[::]:20003").unwrap();
    let _root = on(host, || TcpListener::bind("[::]:20004")).unwrap();
    let errno = |port: u16| client.namespace.inside(|| connect_errno(&format!("10.7.0.1:{port}")));
    assert_eq!((errno(20_001), errno(20_002)), (Some(ECONNREFUSED), Some(ECONNREFUSED)));
    assert_eq!((errno(20_003), errno(20_004)), (None, None));
    // Whoever claims the port next is judged as who he is.
    drop(every_address);
    let _again = on(host, || TcpListener::bind("[::]:20002")).unwrap();
    assert_eq!(errno(20_002), None);
    let events = enforcing.stop_events();
    assert_eq!(events.len(), 2, "{events:#?}");
    for event in &events {
        assert_eq!(event["user"]["id"], STRANGER.to_string(), "{event:#}");
    }
}

#[test]
fn a_user_whom_nobody_may_reach_cannot_claim_a_port() {
    let host = Host::new();
    let document = Document::new(&format!("deny any -> any[user={STRANGER}] : tcp/any\n"));
    let enforcing = document.enforce(&host, &[]);
    let error = listener_of(&host, STRANGER, "127.0.0.1:20000").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(EACCES));
    listener_of(&host, STRANGER + 1, "127.0.0.1:20000").unwrap();
    enforcing.stop();
}

#[test]
fn whose_a_listener_from_before_is_is_found_out() {
    let network = Network::star(2);
    let [host, client] = network.hosts() else { panic!("a star of two") };
    let before = on(host, || TcpListener::bind("[::]:20001")).unwrap();
    let _of_another = listener_of(host, STRANGER, "[::]:20003").unwrap();
    let document = Document::new("default deny in\nallow any -> me[user=root] : tcp/20001-20003\n");
    let enforcing = document.enforce(host, &[]);
    let _after = on(host, || TcpListener::bind("[::]:20002")).unwrap();
    let errno = |port: u16| client.namespace.inside(|| connect_errno(&format!("10.7.0.1:{port}")));
    assert_eq!((errno(20_001), errno(20_002)), (None, None));
    assert_eq!(errno(20_003), Some(ECONNREFUSED));
    // The claim ends with the socket.
    drop(before);
    let _next = listener_of(host, STRANGER, "[::]:20001").unwrap();
    assert_eq!(errno(20_001), Some(ECONNREFUSED));
    enforcing.stop();
}

#[test]
fn listeners_of_a_time_without_rules_about_processes_are_known_once_there_are_some() {
    let network = Network::star(2);
    let [host, client] = network.hosts() else { panic!("a star of two") };
    let document = Document::new("deny 192.0.2.1 -> me : tcp/1\n");
    let enforcing = document.enforce(host, &[]);
    let service = host.cgroup.child("web.service");
    let listen = |cgroup: &Cgroup, address: &str| {
        let _visit = cgroup.enter_current_process();
        host.namespace.inside(|| TcpListener::bind(address)).unwrap()
    };
    let _inside = listen(&service, "[::]:20001");
    let _outside = listen(&host.cgroup, "[::]:20002");
    // One that is bound: of others the kernel's list has nothing, and they are their user's.
    let made = made_in(host, &service);
    let own: SocketAddr = "127.0.0.1:0".parse().unwrap();
    rustix::net::bind(&made, &own).unwrap();
    let unit = unit(&service);
    document.swap(
        &enforcing,
        &format!(
            "default deny in\nallow any -> me[unit={unit}] : tcp/any\n\
             deny any[unit={unit}] -> any : tcp/20000\n"
        ),
        2,
    );
    let errno = |port: u16| client.namespace.inside(|| connect_errno(&format!("10.7.0.1:{port}")));
    assert_eq!((errno(20_001), errno(20_002)), (None, Some(ECONNREFUSED)));
    // Whoever uses it, the unit made it.
    assert_eq!(attempt(host, &made), Some(EACCES));
    enforcing.stop();
}

#[test]
fn a_rule_about_a_namespace_is_about_the_sockets_in_it() {
    let network = Network::star(2);
    let [host, other] = network.hosts() else { panic!("a star of two") };
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let _elsewhere = Echo::tcp(&other.namespace, "[::]:20000");
    let path = host.namespace.path().display();
    let document = Document::new(&format!(
        "deny any[netns={}] -> any : tcp/20000\ndeny any -> any[netns={path}] : tcp/20001\n\
         deny any[netns=host] -> any : tcp/20002\n",
        host.namespace.name()
    ));
    let enforcing = document.enforce(host, &[]);
    let errno = |at: &Host, target: &str| {
        let _visit = host.cgroup.enter_current_process();
        at.namespace.inside(|| connect_errno(target))
    };
    // The same process, the same cgroup, another namespace.
    assert_eq!(errno(host, TARGET), Some(EACCES));
    assert_eq!(errno(other, TARGET), None);
    // What nobody could reach is not even claimed, and elsewhere it is.
    let claim = on(host, || TcpListener::bind("[::]:20001")).unwrap_err();
    assert_eq!(claim.raw_os_error(), Some(EACCES));
    let visit = host.cgroup.enter_current_process();
    other.namespace.inside(|| TcpListener::bind("[::]:20001")).unwrap();
    // `host` is where this process is.
    assert_eq!(connect_errno("127.0.0.2:20002"), Some(EACCES));
    assert_eq!(host.namespace.inside(|| connect_errno("127.0.0.2:20002")), Some(ECONNREFUSED));
    drop(visit);
    enforcing.stop();
}

const CONTAINER: &str = "4c01db0b339c6ee2d20d4d1b1ea6d8f2e7b0a8f0b8e4c0e1a9f3b2c1d0e9f8a7";

#[test]
fn a_rule_about_a_container_is_about_its_cgroup_whoever_made_it() {
    let host = Host::new();
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let name = std::process::id();
    let id = |digit: char| format!("{name:07x}{}", digit.to_string().repeat(57));
    let short = &id('a')[..12];
    let document = Document::new(&format!(
        "deny any[container in ({short}, {}, {}, {})] -> any : tcp/20000\n",
        id('b'),
        id('c'),
        id('d'),
    ));
    let enforcing = document.enforce(&host, &[]);
    let errno = |cgroup: &Cgroup| {
        let _visit = cgroup.enter_current_process();
        host.namespace.inside(|| connect_errno(TARGET))
    };
    let scope = host.cgroup.child(&format!("docker-{}.scope", id('a')));
    let (docker, pods) = (host.cgroup.child("docker"), host.cgroup.child("kubepods"));
    let plain = docker.child(&id('b'));
    let burstable = pods.child("burstable");
    let pod = burstable.child("pod1");
    let of_pod = pod.child(&id('c'));
    let podman = host.cgroup.child(&format!("libpod-{}.scope", id('d')));
    let inner = podman.child("container");
    let meant = [&scope, &plain, &of_pod, &podman, &inner];
    wait_until(Duration::from_secs(20), "the containers to be known", || {
        meant.iter().all(|cgroup| errno(cgroup) == Some(EACCES))
    });
    for other in [&docker, &pods, &pod, &host.cgroup] {
        assert_eq!(errno(other), None, "{other:?}");
    }
    assert_eq!(errno(&host.cgroup.child(&format!("docker-{}.scope", id('e')))), None);
    // Started again, with the same id: another cgroup.
    drop(scope);
    let scope = host.cgroup.child(&format!("docker-{}.scope", id('a')));
    wait_until(Duration::from_secs(20), "the container to be known again", || {
        errno(&scope) == Some(EACCES)
    });
    enforcing.stop();
}

#[test]
fn an_inbound_rule_is_about_the_container_that_listens() {
    let network = Network::star(2);
    let [host, client] = network.hosts() else { panic!("a star of two") };
    let scope = host.cgroup.child(&format!("cri-containerd-{CONTAINER}.scope"));
    let document = Document::new(&format!(
        "default deny in\nallow any -> me[container={}] : tcp/any\n",
        &CONTAINER[..12]
    ));
    let enforcing = document.enforce(host, &[]);
    let listen = |cgroup: &Cgroup, address: &str| {
        let _visit = cgroup.enter_current_process();
        host.namespace.inside(|| TcpListener::bind(address)).unwrap()
    };
    let _inside = listen(&scope, "[::]:20001");
    let _outside = listen(&host.cgroup, "[::]:20002");
    let errno = |port: u16| client.namespace.inside(|| connect_errno(&format!("10.7.0.1:{port}")));
    assert_eq!((errno(20_001), errno(20_002)), (None, Some(ECONNREFUSED)));
    enforcing.stop();
}
