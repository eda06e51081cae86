//! `fwnet connections` on hosts of the tests' own: what it shows of real sockets, and how it ends.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    fs,
    io::Write,
    net::{TcpListener, TcpStream, UdpSocket},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use testbed::{Host, Namespace, Running, wait_until};

const FWNET: &str = env!("CARGO_BIN_EXE_fwnet");
const DEADLINE: Duration = Duration::from_secs(30);

/// A file of a test's own.
struct Document(PathBuf);

impl Document {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("fwnet-{}-{name}", std::process::id()));
        fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Document {
    fn drop(&mut self) {
        let _gone = fs::remove_file(&self.0);
    }
}

fn connections(arguments: &[&str]) -> Output {
    Command::new(FWNET).arg("connections").args(arguments).output().unwrap()
}

/// The one JSON document, and the exit code.
fn document(output: &Output) -> (Value, Option<i32>) {
    let document = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(&output.stdout));
    });
    (document, output.status.code())
}

fn find(document: &Value, matches: impl Fn(&Value) -> bool) -> &Value {
    let all = document["connections"].as_array().unwrap();
    all.iter().find(|row| matches(row)).unwrap_or_else(|| panic!("not in {document:#}"))
}

/// A listener on 10.8.0.1 port 20000, a connection to it, the same as accepted, and a datagram socket on port 20053.
fn sockets(namespace: &Namespace) -> (TcpListener, TcpStream, TcpStream, UdpSocket) {
    namespace.add_address("lo", "10.8.0.1/32");
    namespace.inside(|| {
        let listener = TcpListener::bind("10.8.0.1:20000").unwrap();
        let client = TcpStream::connect("10.8.0.1:20000").unwrap();
        let (server, _) = listener.accept().unwrap();
        (listener, client, server, UdpSocket::bind("10.8.0.1:20053").unwrap())
    })
}

#[test]
fn every_socket_is_shown_with_whose_it_is() {
    let namespace = Namespace::new();
    let _held = sockets(&namespace);
    let output = connections(&["--netns", namespace.name(), "-o", "json"]);
    let (shown, code) = document(&output);
    assert_eq!(code, Some(0), "nothing is asked, so nothing is found");
    assert_eq!(shown["counts"], json!({ "sockets": 4, "denied": 0, "watched": 0 }));
    assert_eq!((&shown["interrupted"], &shown["notes"]), (&json!(false), &json!([])));
    let way = |state: &str, direction: &str| {
        find(&shown, |row| row["state"] == state && row["direction"] == direction)
    };
    let client = way("open", "out");
    assert_eq!(client["remote"], json!({ "address": "10.8.0.1", "port": 20000 }));
    let server = way("open", "in");
    assert_eq!((&server["local"], &server["remote"]), (&client["remote"], &client["local"]));
    let listener = way("listening", "in");
    assert_eq!((&listener["remote"], &listener["waiting"]), (&Value::Null, &json!(0)));
    assert_eq!(way("bound", "in")["protocol"], "udp");
    for row in shown["connections"].as_array().unwrap() {
        let process = &row["processes"][0];
        assert_eq!(process["pid"], std::process::id());
        assert_eq!(process["exe"].as_str(), std::env::current_exe().unwrap().to_str());
        assert_eq!(row["user"], json!({ "id": 0, "name": "root" }));
        assert_eq!(row["namespace"]["name"], namespace.name());
        assert!(row["cookie"].as_str().unwrap().parse::<u64>().is_ok_and(|cookie| cookie != 0));
    }
    let table = connections(&["--netns", namespace.name()]);
    let table = String::from_utf8(table.stdout).unwrap();
    let mut lines = table.lines();
    let head: Vec<_> = lines.next().unwrap().split_ascii_whitespace().collect();
    assert_eq!(head[..7], ["PROTO", "STATE", "WAY", "LOCAL", "PEER", "PROCESS", "USER"]);
    assert!(table.contains(&format!("[{}]", std::process::id())), "{table}");
    assert_eq!(lines.last(), Some("4 sockets"));
    let empty = Namespace::new();
    let nothing = connections(&["--netns", empty.name()]);
    assert_eq!((&*nothing.stdout, nothing.status.code()), (&b"0 sockets\n"[..], Some(0)));
}

#[test]
fn a_candidate_is_held_against_each_socket_and_the_rule_is_named() {
    let namespace = Namespace::new();
    let _held = sockets(&namespace);
    let policy = Document::new(
        "candidate",
        "deny any -> 10.8.0.1 : udp/20053 reason \"no names\"\ndeny 10.8.0.0/16 -> me : tcp/1\n",
    );
    let arguments = ["--netns", namespace.name(), "--candidate", policy.path(), "-o", "json"];
    let (shown, code) = document(&connections(&arguments));
    assert_eq!((code, &shown["counts"]["denied"]), (Some(1), &json!(1)));
    let denied = find(&shown, |row| row["verdict"]["enforced"] == "deny");
    assert_eq!(denied["local"]["port"], 20053);
    let verdict = &denied["verdict"];
    assert_eq!((&verdict["direction"], &verdict["reason"]), (&json!("in"), &json!("no names")));
    assert_eq!(verdict["place"], format!("{}:1", policy.path()));
    let listener = find(&shown, |row| row["state"] == "listening");
    assert_eq!(listener["verdict"]["enforced"], "allow");
    let text = connections(&[&arguments[..4], &["--only-found"]].concat());
    let text = String::from_utf8(text.stdout).unwrap();
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(text.contains(&format!("denied by {} (", verdict["rule"].as_str().unwrap())), "{text}");
    assert!(text.ends_with("4 sockets, 1 denied\n"), "{text}");
    let fine = Document::new("fine", "deny any -> any : tcp/9\n");
    let (shown, code) = document(&connections(&[
        "--netns",
        namespace.name(),
        "--candidate",
        fine.path(),
        "-o",
        "json",
    ]));
    assert_eq!((code, &shown["counts"]["denied"]), (Some(0), &json!(0)));
}

#[test]
fn ports_to_watch_for_are_found_with_their_reason() {
    let namespace = Namespace::new();
    let _held = sockets(&namespace);
    let list = Document::new(
        "watch.json",
        r#"[{"port":20000,"type":"tcp","port_type":"remote","reason":"a \"bot\""},
            {"port":20053,"type":"udp","port_type":"wrong","reason":"names"}]"#,
    );
    let arguments = ["--netns", namespace.name(), "--watch-ports", list.path()];
    let output = connections(&[&arguments[..], &["-o", "json"]].concat());
    let (shown, code) = document(&output);
    assert_eq!((code, &shown["counts"]["watched"]), (Some(1), &json!(2)));
    let bot = find(&shown, |row| row["watched"]["port"] == 20000);
    assert_eq!(bot["watched"], json!({ "port": 20000, "end": "remote", "reason": "a \"bot\"" }));
    assert_eq!(bot["direction"], "out");
    let note = "port 20053: port_type is `wrong` and counts as `all`";
    assert_eq!(shown["notes"], json!([note]));
    let text = connections(&arguments);
    let complaints = String::from_utf8(text.stderr).unwrap();
    assert_eq!(complaints, format!("fwnet: note: {note}\n"));
    assert!(String::from_utf8(text.stdout).unwrap().contains("remote port 20000: a \"bot\""));
}

#[test]
fn what_is_wrong_is_said_and_is_no_finding() {
    let list = Document::new("bad.json", "[{\"port\": 70000}]");
    let policy = Document::new("bad", "deny nonsense\n");
    for (arguments, expected) in [
        (&["--watch-ports", "/no/such"][..], "/no/such"),
        (&["--watch-ports", list.path()], "bad.json"),
        (&["--candidate", policy.path()], "no answer"),
        (&["--netns", "no-such-namespace"], "no-such-namespace"),
        (&["--cgroup", "/proc"], "/proc"),
        (&["--host", "web"], "--candidate"),
    ] {
        let output = connections(arguments);
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {complaint}");
        assert!(complaint.contains(expected), "{arguments:?}: {complaint}");
        assert_eq!(output.stdout, b"", "{arguments:?}");
    }
}

#[test]
fn only_sockets_of_a_cgroup_are_shown_where_that_is_asked() {
    let host = Host::new();
    let _elsewhere = sockets(&host.namespace);
    let script = "import socket, sys\ns = socket.socket(); s.bind(('127.0.0.1', 20007)); s.listen()\nprint('ready', flush=True); sys.stdin.read()";
    let mut command = host.command("python3");
    command.args(["-c", script]);
    let inside = Running::start(command);
    inside.wait_for_line("ready", DEADLINE);
    let cgroup = host.cgroup.path().to_str().unwrap().to_owned();
    let all = ["--netns", host.namespace.name(), "-o", "json"];
    let (shown, _) = document(&connections(&all));
    assert_eq!(shown["counts"]["sockets"], 5);
    let (shown, _) = document(&connections(&[&all[..], &["--cgroup", &cgroup]].concat()));
    let [row] = &shown["connections"].as_array().unwrap()[..] else { panic!("{shown:#}") };
    assert_eq!(
        (&row["local"]["port"], &row["processes"][0]["name"]),
        (&json!(20007), &json!("python3"))
    );
    assert!(cgroup.ends_with(row["cgroup"]["path"].as_str().unwrap()), "{row:#}");
}

/// A process that holds a listener and calls itself something that is no text, and that breaks lines.
fn oddly_named(namespace: &Namespace) -> Running {
    let script = r"import socket, sys
open('/proc/self/comm', 'wb').write(b'\xff\x1b[2J\n{}')
s = socket.socket(); s.bind(('127.0.0.1', 20008)); s.listen()
print('ready', flush=True); sys.stdin.read()";
    let mut command = namespace.command("python3");
    command.args(["-c", script, "{\"\u{1b}]0;x\u{7}\n"]);
    let running = Running::start(command);
    running.wait_for_line("ready", DEADLINE);
    running
}

#[test]
fn a_name_that_a_stranger_chose_breaks_neither_document_nor_table() {
    let namespace = Namespace::new();
    let _odd = oddly_named(&namespace);
    let (shown, _) = document(&connections(&["--netns", namespace.name(), "-o", "json"]));
    let process = &shown["connections"][0]["processes"][0];
    assert_eq!(process["name"], "\u{fffd}\u{1b}[2J\n{}");
    assert!(process["command"].as_str().unwrap().ends_with("{\"\u{1b}]0;x\u{7}\n"));
    let table = connections(&["--netns", namespace.name()]).stdout;
    assert!(!table.contains(&0x1b), "no escape reaches the terminal");
    assert_eq!(String::from_utf8(table).unwrap().lines().count(), 3);
}

/// Starts it where it waits for a policy on its standard input.
fn waiting(namespace: &Namespace) -> Child {
    let child = Command::new(FWNET)
        .args(["connections", "--netns", namespace.name(), "--candidate", "-", "-o", "json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let wchan = format!("/proc/{}/wchan", child.id());
    wait_until(DEADLINE, "it reads its standard input", || {
        fs::read_to_string(&wchan).unwrap().contains("pipe_read")
    });
    child
}

fn interrupt(child: &Child) {
    kill_process(Pid::from_child(child), Signal::INT).unwrap();
}

#[test]
fn interrupted_it_prints_a_whole_document_that_says_so() {
    let namespace = Namespace::new();
    let _held = sockets(&namespace);
    let mut child = waiting(&namespace);
    interrupt(&child);
    child.stdin.take().unwrap().write_all(b"deny any -> any : tcp/9\n").unwrap();
    let (shown, code) = document(&child.wait_with_output().unwrap());
    assert_eq!((&shown["interrupted"], code), (&json!(true), Some(130)));
}

#[test]
fn interrupted_twice_it_ends_at_once() {
    let namespace = Namespace::new();
    let mut child = waiting(&namespace);
    let status = format!("/proc/{}/status", child.id());
    interrupt(&child);
    // Two signals of one kind that wait together are one.
    wait_until(DEADLINE, "the first one is taken", || {
        let status = fs::read_to_string(&status).unwrap();
        let pending = status.lines().filter(|line| line.contains("Pnd:"));
        pending.into_iter().all(|line| line.ends_with("0000000000000000"))
    });
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
