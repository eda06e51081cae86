//! Existing connections when a policy is applied: kept by default, ended where a rule or the person says so, never by a
//! policy on trial; told beforehand and afterwards.

use std::{
    fs,
    io::{ErrorKind, Read},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use testbed::Host;

use crate::{
    fixture::Bed,
    shared::{host, on},
};

/// A host with an agent, and connections to 127.0.0.3 and 127.0.0.4, with who accepted them.
struct Scene {
    bed: Bed,
    listener: TcpListener,
    third: (TcpStream, TcpStream),
    fourth: (TcpStream, TcpStream),
    _host: Host,
}

impl Scene {
    fn new() -> Self {
        Self::with("deny any -> 127.0.0.2\n")
    }

    fn with(policy: &str) -> Self {
        let host = host();
        let (listener, third, fourth) = on(&host, || {
            let listener = TcpListener::bind("0.0.0.0:20100").unwrap();
            let connected = |address: &str| {
                let client = TcpStream::connect(address).unwrap();
                (client, listener.accept().unwrap().0)
            };
            let (third, fourth) = (connected("127.0.0.3:20100"), connected("127.0.0.4:20100"));
            (listener, third, fourth)
        });
        let bed = Bed::new(&host);
        let first = bed.file("first.fwnet", policy);
        bed.up(&["--policy", &first]);
        Self { bed, listener, third, fourth, _host: host }
    }

    /// Applies a policy with these arguments; what the agent says it did.
    #[track_caller]
    fn apply(&self, policy: &str, arguments: &[&str]) -> Value {
        let file = self.bed.file("next.fwnet", policy);
        let verb = [&["apply", &file, "-o", "json"], arguments].concat();
        serde_json::from_str(&self.bed.done(&verb)).unwrap()
    }
}

/// Whether both ends of a connection still work.
fn lives((client, server): &(TcpStream, TcpStream)) -> bool {
    [client, server].into_iter().all(|stream| {
        stream.set_nonblocking(true).unwrap();
        (&mut &*stream).read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    })
}

#[test]
fn b18_i6_existing_connections_stay_by_default_and_end_where_that_is_asked() {
    let scene = Scene::new();
    let kept = scene.apply("deny any -> 127.0.0.3 : tcp/20100\n", &[]);
    assert_eq!(kept["revoked"]["connections"], 0);
    assert!(lives(&scene.third) && lives(&scene.fourth));
    // What is denied already is not newly denied, whoever asks.
    let both = "deny any -> 127.0.0.3 : tcp/20100\ndeny any -> 127.0.0.4 : tcp/20100\n";
    let revoked = scene.apply(both, &["--existing", "revoke"]);
    assert!(lives(&scene.third) && !lives(&scene.fourth));
    let count = revoked["revoked"]["connections"].as_u64().unwrap();
    // The end that is denied first takes the other one with it.
    assert!((1..=2).contains(&count), "{revoked:#}");
    assert_eq!(
        (&revoked["revoked"]["listeners"], &revoked["revoked"]["failures"]),
        (&0.into(), &0.into())
    );
    assert_eq!(scene.bed.status()["revoked"], revoked["revoked"]);
    let status = scene.bed.done(&["status"]);
    assert!(status.contains(&format!("revoked     {count} connections")), "{status}");
}

#[test]
fn a_rule_says_what_ends_and_each_end_is_an_event() {
    let scene = Scene::new();
    let policy = "deny any -> 127.0.0.3 : tcp/20100 id cut existing revoke\ndeny any -> 127.0.0.4 : tcp/20100\n";
    let revoked = scene.apply(policy, &[]);
    assert!(!lives(&scene.third) && lives(&scene.fourth));
    let events = scene.bed.done(&["events", "--since", "1h", "-o", "json"]);
    let events: Vec<Value> =
        events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ended: Vec<_> = events.iter().filter(|one| one["event"]["action"] == "revoke").collect();
    assert_eq!(revoked["revoked"]["connections"], ended.len(), "{events:#?}");
    for one in ended {
        assert_eq!((&one["rule"]["id"], &one["event"]["type"][2]), (&"cut".into(), &"end".into()));
        assert_eq!(one["process"]["pid"], std::process::id());
        assert_eq!(one["destination"]["ip"], "127.0.0.3");
    }
    // The same policy again, and the next agent, have nothing to end.
    assert_eq!(scene.apply(policy, &[])["revoked"]["connections"], 0);
    // Asked to keep them, no rule ends anything.
    let stricter =
        "deny any -> 127.0.0.3\ndeny any -> 127.0.0.4 : tcp/20100-20101 existing revoke\n";
    scene.apply("deny any -> 127.0.0.2\n", &[]);
    assert_eq!(scene.apply(stricter, &["--existing", "keep"])["revoked"]["connections"], 0);
    assert!(lives(&scene.fourth));
}

#[test]
fn a_listener_on_a_port_that_is_closed_ends_with_an_error() {
    let scene = Scene::new();
    let revoked = scene.apply("deny any -> me : tcp/20100 existing revoke\n", &[]);
    assert_eq!(revoked["revoked"]["listeners"], 1, "{revoked:#}");
    for _ in 0..3 {
        assert_eq!(scene.listener.accept().unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert!(!lives(&scene.third) && !lives(&scene.fourth));
}

#[test]
fn a_policy_on_trial_ends_nothing_until_it_is_confirmed() {
    let scene = Scene::new();
    let third = "deny any -> 127.0.0.3 : tcp/20100\n";
    let trial = scene.apply(third, &["--confirm", "60s", "--existing", "revoke"]);
    assert_eq!(
        (&trial["revoked"]["connections"], trial["confirm_until"].is_string()),
        (&0.into(), true)
    );
    assert!(lives(&scene.third));
    // Taken back, nobody has noticed.
    scene.bed.done(&["rollback"]);
    assert!(lives(&scene.third));
    scene.apply(third, &["--confirm", "60s", "--existing", "revoke"]);
    assert!(lives(&scene.third));
    scene.bed.done(&["confirm"]);
    assert!(!lives(&scene.third) && lives(&scene.fourth));
    assert_ne!(scene.bed.status()["revoked"]["connections"], 0);
}

#[test]
fn whom_a_policy_would_cut_off_is_told_before_it_is_applied() {
    let scene = Scene::new();
    let policy = "deny any -> 127.0.0.3 : tcp/20100 id cut\n";
    let would = scene.apply(policy, &["--dry-run"]);
    assert_eq!((&would["applied"], &would["preview"]["live"]), (&false.into(), &2.into()));
    let rows = would["preview"]["rows"].as_array().unwrap();
    let out = rows.iter().find(|row| row["direction"] == "out").unwrap();
    assert_eq!(
        (&out["peer"], &out["service"], &out["live"]),
        (&"127.0.0.3".into(), &"tcp/20100".into(), &1.into())
    );
    assert!(out["rule"] == "cut", "{would:#}");
    let own = std::env::current_exe().unwrap();
    assert_eq!(out["process"].as_str(), own.to_str());
    let file = scene.bed.file("would.fwnet", policy);
    let text = scene.bed.done(&["apply", &file, "--dry-run"]);
    assert!(text.contains("newly denied: 2 open sockets, "), "{text}");
    assert!(text.contains("out: tcp/20100 to 127.0.0.3, 1 open, by cut"), "{text}");
    assert!(lives(&scene.third));
    let nobody = scene.apply("deny any -> 127.0.0.9\n", &["--dry-run"]);
    assert_eq!(nobody["preview"]["live"], 0);
}

#[test]
fn flows_that_were_recorded_are_part_of_the_preview() {
    let scene = Scene::with("deny any -> 127.0.0.2\n");
    on(&scene._host, || {
        drop(TcpStream::connect("127.0.0.3:20100").unwrap());
        drop(TcpStream::connect("127.0.0.3:20100").unwrap());
    });
    // What the kernel has counted is read, as `learn` and `replay` do.
    scene.bed.get("/v1/flows?since=2020-01-01T00:00:00Z&fresh=true");
    let would = scene.apply("deny any -> 127.0.0.3 : tcp/20100\n", &["--dry-run"]);
    let recorded = would["preview"]["recorded"].as_u64().unwrap();
    assert!(recorded >= 2, "{would:#}");
}

#[test]
fn the_first_policy_ends_what_it_revokes() {
    let scene = Scene::with("deny any -> 127.0.0.3 : tcp/20100 existing revoke\n");
    assert!(!lives(&scene.third) && lives(&scene.fourth));
    assert_ne!(scene.bed.status()["revoked"]["connections"], 0);
    // The next agent takes over what is in force, and has nothing to end.
    scene.bed.signal(rustix::process::Signal::TERM);
    scene.bed.up(&[]);
    assert_eq!(scene.bed.status()["revoked"]["connections"], 0);
}

#[test]
fn connections_says_what_the_policy_in_force_would_deny_now() {
    let scene = Scene::new();
    scene.apply("deny any -> 127.0.0.3 : tcp/20100 id cut\n", &[]);
    let netns = scene._host.namespace.name();
    let verb = ["connections", "--netns", netns, "-o", "json"];
    let output = scene.bed.call(&verb);
    assert_eq!(output.status.code(), Some(1), "something is found");
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&shown["counts"]["sockets"], &shown["counts"]["denied"]), (&5.into(), &2.into()));
    let rows = shown["connections"].as_array().unwrap();
    let denied = rows.iter().find(|row| row["verdict"]["enforced"] == "deny").unwrap();
    assert_eq!(denied["verdict"]["rule"], "cut");
    assert!(rows.iter().all(|row| row["verdict"].is_object()), "all are judged: {shown:#}");
    // Who has been let go by the policy before is not asked again.
    scene.bed.done(&["rollback"]);
    assert_eq!(scene.bed.call(&verb).status.code(), Some(0));
}

#[test]
fn an_entry_ends_connections_where_that_is_asked_and_says_so_beforehand() {
    let scene = Scene::new();
    let json = |verb: &[&str]| -> Value { serde_json::from_str(&scene.bed.done(verb)).unwrap() };
    let add = |arguments: &[&str]| {
        json(&[&["deny", "add", "127.0.0.3", "-o", "json"], arguments].concat())
    };
    let would = add(&["--dry-run", "--existing", "revoke"]);
    assert_eq!(would["applied"], false);
    // The connecting end: the other one sees 127.0.0.1.
    assert_eq!(would["preview"]["live"], 1, "{would:#}");
    let rows = would["preview"]["rows"].as_array().unwrap();
    assert!(rows.iter().all(|row| row["rule"] == "deny/127.0.0.3"), "{would:#}");
    assert_eq!(json(&["deny", "ls", "-o", "json"])["entries"], serde_json::json!([]));
    let shown = scene.bed.done(&["deny", "add", "127.0.0.3", "--dry-run"]);
    assert!(shown.starts_with("would deny 127.0.0.3 until it is removed\n"), "{shown}");
    assert!(shown.contains("newly denied: 1 open sockets"), "{shown}");
    // Without being asked it ends nothing; added again there is nothing that it newly denies.
    assert_eq!(add(&[])["revoked"]["connections"], 0);
    assert!(lives(&scene.third));
    assert_eq!(add(&["--existing", "revoke"])["revoked"]["connections"], 0);
    assert!(lives(&scene.third));
    scene.bed.done(&["deny", "rm", "127.0.0.3"]);
    let revoked = add(&["--existing", "revoke"]);
    assert!(!lives(&scene.third) && lives(&scene.fourth), "{revoked:#}");
    assert!(revoked["revoked"]["connections"].as_u64().unwrap() >= 1, "{revoked:#}");
    let events = scene.bed.done(&["events", "--since", "1h", "-o", "json"]);
    assert!(
        events.lines().any(|line| line.contains("\"revoke\"") && line.contains("deny/127.0.0.3"))
    );
    // A trial ends nothing, and neither does an entry meanwhile.
    let next = scene.bed.file("next.fwnet", "deny any -> 127.0.0.9\n");
    scene.bed.done(&["apply", "--confirm", "1h", &next]);
    let says = scene.bed.refused(&["deny", "add", "127.0.0.4", "--existing", "revoke"], 1);
    assert!(says.contains("waits to be confirmed"), "{says}");
    assert!(lives(&scene.fourth));
}

#[test]
fn what_a_list_denies_already_is_not_newly_denied_by_a_policy() {
    let host = host();
    let _echo = crate::shared::Echo::tcp(&host.namespace, "[::]:20000");
    host.namespace.add_address("lo", "192.0.2.1/32");
    host.namespace.add_address("lo", "192.0.2.2/32");
    let bed = Bed::new(&host);
    bed.up(&["--deny", "127.0.0.99"]);
    on(&host, || {
        for _ in 0..3 {
            for to in ["192.0.2.1:20000", "192.0.2.2:20000"] {
                assert_eq!(crate::shared::connect_errno(to), None);
            }
        }
    });
    // What learn reads is written by then.
    bed.done(&["learn", "--since", "1h"]);
    let policy = bed.file("p.fwnet", "deny any -> 192.0.2.0/24 : tcp/20000 id=\"net\"\n");
    let preview = || -> Value {
        let outcome = bed.done(&["apply", "--dry-run", &policy, "-o", "json"]);
        serde_json::from_str::<Value>(&outcome).unwrap()["preview"].clone()
    };
    let peers = |preview: &Value| -> Vec<String> {
        let rows = preview["rows"].as_array().unwrap().iter();
        let recorded = rows.filter(|row| row["recorded"].as_u64().unwrap() > 0);
        let mut peers: Vec<String> =
            recorded.map(|row| row["peer"].as_str().unwrap().to_owned()).collect();
        peers.sort();
        peers.dedup();
        peers
    };
    assert_eq!(peers(&preview()), ["192.0.2.1", "192.0.2.2"]);
    // The recorded flows are part of an entry's own preview.
    let would = bed.done(&["deny", "add", "192.0.2.1", "--dry-run", "-o", "json"]);
    let would: Value = serde_json::from_str(&would).unwrap();
    assert_eq!(peers(&would["preview"]), ["192.0.2.1"], "{would:#}");
    bed.done(&["deny", "add", "192.0.2.1"]);
    assert_eq!(peers(&preview()), ["192.0.2.2"]);
    let again = bed.done(&["deny", "add", "192.0.2.1", "tcp/20000", "--dry-run", "-o", "json"]);
    let again: Value = serde_json::from_str(&again).unwrap();
    assert_eq!(peers(&again["preview"]), ["192.0.2.2"], "{again:#}");
}

/// Has a socket held by `sleep` alone, which somebody else made.
fn handed_over(socket: TcpStream) -> Running {
    let socket = std::os::fd::OwnedFd::from(socket);
    let mut command = Command::new("sleep");
    command.arg("600").stdin(Stdio::from(socket)).stdout(Stdio::null()).stderr(Stdio::null());
    Running(command.spawn().unwrap())
}

/// A process of the test's own, which ends with it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _killed = self.0.kill();
        let _ended = self.0.wait();
    }
}

#[test]
fn whose_a_connection_is_says_its_stamp_and_not_whoever_holds_it() {
    let host = host();
    let listener = on(&host, || TcpListener::bind("127.0.0.3:20100")).unwrap();
    let bed = Bed::new(&host);
    let own = std::env::current_exe().unwrap();
    let about = |exe: &str, port: u16, more: &str| {
        format!("deny any[exe=\"{exe}\"] -> any : tcp/{port}{more}\n")
    };
    // A rule asks for processes, so that sockets are stamped from now on.
    bed.up(&["--policy", &bed.file("first.fwnet", &about("/usr/bin/env", 1, ""))]);
    let connected = || {
        on(&host, || (TcpStream::connect("127.0.0.3:20100").unwrap(), listener.accept().unwrap().0))
    };
    let ((given, mut server), kept) = (connected(), connected());
    let _sleep = handed_over(given);
    let connections = bed.done(&["connections", "-o", "json"]);
    let connections: Value = serde_json::from_str(&connections).unwrap();
    let rows = connections["connections"].as_array().unwrap();
    let held = rows.iter().find(|row| row["processes"][0]["name"] == "sleep").expect("the socket");
    assert_eq!(held["verdict"]["known_by"], "stamp", "{held:#}");
    // Whoever holds it did not make it.
    let apply = |policy: &str| {
        let said = bed.done(&["apply", &bed.file("next.fwnet", policy), "-o", "json"]);
        serde_json::from_str::<Value>(&said).unwrap()["revoked"].clone()
    };
    let sleep = fs::canonicalize("/usr/bin/sleep").unwrap();
    let kept_all = apply(&about(sleep.to_str().unwrap(), 20_100, " existing revoke"));
    assert_eq!(kept_all["connections"], 0, "{kept_all:#}");
    server.set_nonblocking(true).unwrap();
    assert_eq!(server.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    let ended = apply(&about(own.to_str().unwrap(), 20_100, " existing revoke"));
    assert_eq!((&ended["connections"], &ended["failures"]), (&2.into(), &0.into()), "{ended:#}");
    assert_ne!(
        server.read(&mut [0]).map_err(|error| error.kind()).err(),
        Some(ErrorKind::WouldBlock)
    );
    assert!(!lives(&kept));
}

#[test]
fn what_cannot_be_ended_is_named_beforehand() {
    let host = host();
    let protocol = rustix::net::ipproto::UDPLITE;
    let made = on(&host, || {
        use rustix::net::{AddressFamily, SocketType, bind, socket};
        let socket = socket(AddressFamily::INET, SocketType::DGRAM, Some(protocol))?;
        bind(&socket, &std::net::SocketAddr::from(([127, 0, 0, 1], 20_136))).map(|()| socket)
    });
    let _socket = made.expect("UDP-Lite, which Linux has until 7.0");
    let bed = Bed::new(&host);
    bed.up(&["--deny", "127.0.0.99"]);
    let file = bed.file("p.fwnet", "deny any -> any : udplite/any\n");
    let would = bed.done(&["apply", &file, "--existing", "revoke", "--dry-run", "-o", "json"]);
    let would: Value = serde_json::from_str(&would).unwrap();
    let row = &would["preview"]["rows"][0];
    assert_eq!((&row["live"], &row["cannot_be_ended"]), (&1.into(), &true.into()), "{would:#}");
    let text = bed.done(&["apply", &file, "--existing", "revoke", "--dry-run"]);
    assert!(text.contains("(cannot be ended)"), "{text}");
}
