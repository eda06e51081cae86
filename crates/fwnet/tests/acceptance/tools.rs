//! Lines H: `tcpserv` and `tcpcli` under enforcement, in the words of the tools of 2015. What they say without a firewall is
//! tested where they are.

use std::{io::Write, process::Stdio};

use crate::shared::{DEADLINE, Echo, Enforcing, complaint, host, run_on, text, tool};

#[test]
fn h7_a_denied_connect_ends_the_client_with_permission_denied() {
    let host = host();
    let _echo = Echo::tcp(&host.namespace, "[::]:10000");
    let enforcing = Enforcing::on(&host, &["--deny", "127.0.0.2", "--port", "10000"]);
    for target in [["-h127.0.0.2", "-p20000"], ["-h127.0.0.1", "-p10000"], ["-h::1", "-p10000"]] {
        let output = run_on(&host, tool("tcpcli"), &target);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(complaint(&output), "client: can't connect to server: Permission denied\n");
        assert!(text(&output).is_empty());
    }
    enforcing.stop();
}

#[test]
fn h1_h2_h6_the_tools_talk_where_nothing_is_denied() {
    let host = host();
    let enforcing = Enforcing::on(&host, &["--deny", "127.0.0.2", "--port", "10000"]);
    let server = host.start(tool("tcpserv"), ["-p20000", "-vv"]);
    server.wait_for_line("listening on the TCP port 20000", DEADLINE);
    testbed::wait_until(DEADLINE, "the server answers", || {
        run_on(&host, tool("tcpcli"), &["-p20000"]).status.success()
    });
    let mut client = host
        .command(tool("tcpcli"))
        .args(["-h127.0.0.1", "-p20000", "-v"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    client.stdin.take().unwrap().write_all(b"one line\n").unwrap();
    let output = client.wait_with_output().unwrap();
    assert!(output.status.success());
    let said = text(&output);
    assert!(
        said.starts_with("connect to: 127.0.0.1:")
            && said.ends_with(" => 127.0.0.1:20000\none line\n"),
        "{said}"
    );
    server.wait_for_line("echo 9 bytes: one line", DEADLINE);
    enforcing.stop();
}

#[test]
fn h5_a_server_on_a_denied_port_says_that_it_cannot_bind() {
    let host = host();
    let enforcing = Enforcing::on(&host, &["--port", "10000"]);
    let output = run_on(&host, tool("tcpserv"), &["-p10000"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(complaint(&output), "can't bind local address: Permission denied\n");
    enforcing.stop();
}
