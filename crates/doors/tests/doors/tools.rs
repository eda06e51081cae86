//! `tcpserv` and `tcpcli` as programs: their texts and exit codes (acceptance.md H1 to H8).

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

use crate::namespace::{FASTOPEN_DEFAULT, inside};

fn server(arguments: &[&str]) -> Server {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tcpserv"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    Server { child, lines }
}

/// A running server; it ends with the value.
struct Server {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Server {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Runs the client with `input`. The server's socket may be a moment away: a refusal is tried again until `deadline`.
fn client(arguments: &[&str], input: &str) -> Output {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        let output = client_once(arguments, input);
        if output.status.code() != Some(2) || std::time::Instant::now() > deadline {
            return output;
        }
    }
}

fn client_once(arguments: &[&str], input: &str) -> Output {
    let mut child = spawn_client(arguments);
    // A client that could not connect does not read its input.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn spawn_client(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_tcpcli"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn h1_h2_h6_lines_are_echoed_and_told() {
    inside("tools::h1_h2_h6_lines_are_echoed_and_told", FASTOPEN_DEFAULT, || {
        let mut server = server(&["-p10000", "-vv"]);
        assert_eq!(server.line(), "listening on the TCP port 10000");
        let output = client(&["-h127.0.0.1", "-p10000", "-v"], "hello\nworld\n");
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
        let told: Vec<_> = text(&output.stdout).lines().collect();
        let [connected, "hello", "world"] = told[..] else { panic!("{told:?}") };
        let local = connected
            .strip_prefix("connect to: ")
            .unwrap()
            .strip_suffix(" => 127.0.0.1:10000")
            .unwrap();
        assert_eq!(server.line(), format!("connect from: 127.0.0.1:10000 <= {local}"));
        assert_eq!(server.line(), "echo 6 bytes: hello");
        assert_eq!(server.line(), "echo 6 bytes: world");
        assert_eq!(server.line(), "connection closed");
    });
}

#[test]
fn h1_clients_are_served_at_once_and_leave_no_zombie() {
    inside("tools::h1_clients_are_served_at_once_and_leave_no_zombie", FASTOPEN_DEFAULT, || {
        let mut server = server(&["-v"]);
        assert_eq!(server.line(), "listening on the TCP port 60000");
        assert_eq!(client(&[], "").status.code(), Some(0));
        let mut clients: Vec<_> = (0..5).map(|_| Talker::new(spawn_client(&[]))).collect();
        // The last comes first: nobody waits for another's end.
        for (number, client) in clients.iter_mut().enumerate().rev() {
            let line = format!("client {number}\n");
            assert_eq!(client.say(&line), line);
        }
        let children = format!("/proc/{0}/task/{0}/children", server.child.id());
        assert_eq!(std::fs::read_to_string(children).unwrap(), "");
    });
}

struct Talker {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Talker {
    fn new(mut child: Child) -> Self {
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, output }
    }

    fn say(&mut self, line: &str) -> String {
        self.input.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
        let mut echo = String::new();
        self.output.read_line(&mut echo).unwrap();
        echo
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        drop(self.input.take());
        assert!(self.child.wait().unwrap().success());
    }
}

#[test]
fn h7_a_denied_connect_is_permission_denied_through_every_door() {
    inside(
        "tools::h7_a_denied_connect_is_permission_denied_through_every_door",
        FASTOPEN_DEFAULT,
        || {
            for door in doors::outward() {
                let output = client(&["-h192.0.2.129", "-p80", "--via", door.name], "");
                let told = (output.status.code(), text(&output.stdout), text(&output.stderr));
                assert_eq!(
                    told,
                    (Some(1), "", "client: can't connect to server: Permission denied\n"),
                    "{door:?}"
                );
            }
        },
    );
}

#[test]
fn other_endings_have_their_own_exit_codes() {
    inside("tools::other_endings_have_their_own_exit_codes", FASTOPEN_DEFAULT, || {
        let output = client_once(&["-p9"], "");
        let told = (output.status.code(), text(&output.stderr));
        assert_eq!(told, (Some(2), "client: can't connect to server: Connection refused\n"));
        let output = client_once(&["-h192.0.2.2", "--timeout", "1"], "");
        let told = (output.status.code(), text(&output.stderr));
        assert_eq!(told, (Some(3), "client: can't connect to server: Connection timed out\n"));
        let output = client_once(&["-h::1", "--via", "connect-mapped"], "");
        assert_eq!(output.status.code(), Some(4));
    });
}

#[test]
fn h5_the_port_in_use_ends_the_server() {
    inside("tools::h5_the_port_in_use_ends_the_server", FASTOPEN_DEFAULT, || {
        let _taken = std::net::TcpListener::bind("0.0.0.0:10000").unwrap();
        let mut server = server(&["-p10000", "-v"]);
        assert_eq!(server.line(), "listening on the TCP port 10000");
        assert_eq!(server.child.wait().unwrap().code(), Some(1));
        let mut told = String::new();
        server.child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        assert_eq!(told, "can't bind local address: Address already in use\n");
    });
}

#[test]
fn h5_h8_bad_options_are_errors_with_the_use() {
    for (program, short) in [
        (env!("CARGO_BIN_EXE_tcpserv"), "use: tcpserv [-p<TCP port>] [-v[v]]"),
        (env!("CARGO_BIN_EXE_tcpcli"), "use: tcpcli [-h<IP address>] [-p<TCP port>] [-v]"),
    ] {
        for bad in [
            &["-p70000"][..],
            &["-p0"],
            &["-p-1"],
            &["-p", "-1"],
            &["-pten"],
            &["-h999.1.1.1"],
            &["-x"],
            &["stray"],
            &["--via", "sctp"],
            &["-o", "yaml"],
        ] {
            let output = Command::new(program).args(bad).stdin(Stdio::null()).output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{program} {bad:?}");
            assert!(
                text(&output.stderr).lines().any(|line| line == short),
                "{bad:?}: {}",
                text(&output.stderr)
            );
            assert!(output.stdout.is_empty(), "{program} {bad:?}");
        }
    }
}

#[test]
fn h8_ipv6_udp_and_json() {
    inside("tools::h8_ipv6_udp_and_json", FASTOPEN_DEFAULT, || {
        let mut stream =
            server(&["-h::1", "-p10000", "-o", "json", "--via", "uring-accept-multishot"]);
        assert!(stream.line().contains(r#""event":"listen""#));
        let output = client(&["-h::1", "-p10000", "-o", "json", "--via", "mptcp"], "one\ntwo");
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            (told["verdict"].as_str(), told["door"].as_str()),
            (Some("allow"), Some("mptcp"))
        );
        assert_eq!(
            (told["peer"].as_str(), told["echoed_bytes"].as_u64()),
            (Some("[::1]:10000"), Some(8))
        );
        let accepted: serde_json::Value = serde_json::from_str(&stream.line()).unwrap();
        assert_eq!(
            (accepted["event"].as_str(), &accepted["peer"]),
            (Some("accept"), &told["local"])
        );

        let mut datagram = server(&["-h127.0.0.1", "-p10000", "-v", "--udp"]);
        assert_eq!(datagram.line(), "listening on the UDP port 10000");
        let output = client(&["-p10000", "--udp"], "datagram\n");
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "datagram\n"));

        let output = client(&["-h192.0.2.129", "-o", "json"], "");
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            (told["verdict"].as_str(), told["errno"].as_str()),
            (Some("deny"), Some("EACCES"))
        );
        assert_eq!(told["step"].as_str(), Some("connect"));
    });
}

#[test]
fn every_way_in_serves_the_client() {
    inside("tools::every_way_in_serves_the_client", FASTOPEN_DEFAULT, || {
        for (port, door) in (10_000..).zip(doors::inward()) {
            // A port each: the kernel ends the rings of a killed server a moment later, and its listener with them.
            let mut server =
                server(&["-h127.0.0.1", &format!("-p{port}"), "-v", "--via", door.name]);
            let listening = server.line();
            let port = listening.rsplit(' ').next().unwrap().to_owned();
            let out = if door.name == "udp-receive" { "udp-sendmsg" } else { "connect" };
            let output = client(&["-p", &port, "--via", out], "line\n");
            let told = (output.status.code(), text(&output.stdout), text(&output.stderr));
            assert_eq!(told, (Some(0), "line\n", ""), "{door:?}");
            assert!(server.line().starts_with("connect from: 127.0.0.1:"), "{door:?}");
        }
    });
}

#[test]
fn storm_and_race_print_what_they_counted() {
    inside("tools::storm_and_race_print_what_they_counted", FASTOPEN_DEFAULT, || {
        let listener = std::net::TcpListener::bind("0.0.0.0:10000").unwrap();
        std::thread::spawn(move || listener.incoming().for_each(drop));
        let counted = |arguments: &[&str]| -> serde_json::Value {
            let output = client_once(arguments, "");
            assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
            serde_json::from_slice(&output.stdout).unwrap()
        };
        let storm = counted(&["-p10000", "--count", "50", "--threads", "3"]);
        assert_eq!((storm["attempts"].as_u64(), storm["connected"].as_u64()), (Some(50), Some(50)));
        let denied = counted(&["-h192.0.2.129", "--count", "50", "--threads", "3"]);
        assert_eq!(denied["failed"]["EACCES"].as_u64(), Some(50));
        // 192.0.2.129 is denied by its route: here the kernel's own check wins every race.
        let race = counted(&["-p10000", "--race", "127.0.0.1", "192.0.2.129", "--count", "500"]);
        assert_eq!(
            (race["reached_denied"].as_u64(), race["reached_other"].as_u64()),
            (Some(0), Some(0))
        );
        assert_eq!(
            race["reached_allowed"].as_u64().unwrap()
                + race["failed"]["EACCES"].as_u64().unwrap_or_default(),
            500
        );
    });
}

#[test]
fn list_and_help_are_printed() {
    for (program, side) in [
        (env!("CARGO_BIN_EXE_tcpserv"), doors::Side::In),
        (env!("CARGO_BIN_EXE_tcpcli"), doors::Side::Out),
    ] {
        let run = |argument| Command::new(program).arg(argument).output().unwrap();
        let list = run("--list");
        let names: Vec<_> = text(&list.stdout)
            .lines()
            .map(|line| line.split_whitespace().next().unwrap().to_owned())
            .collect();
        let expected: Vec<_> = doors::ALL
            .iter()
            .filter(|door| door.side() == side && door.offered)
            .map(|door| door.name)
            .collect();
        assert_eq!((list.status.code(), names.as_slice() == expected), (Some(0), true));
        let help = run("--help");
        assert_eq!(help.status.code(), Some(0));
        assert!(text(&help.stdout).contains("--via <DOOR>"));
    }
}
