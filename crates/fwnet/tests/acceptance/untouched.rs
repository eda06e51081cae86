//! Lines D and E: what passes untouched, and the old system calls.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
};

use crate::shared::{
    DEADLINE, EACCES, Enforcing, complaint, connect_errno, data, host, on, run_on, star, text,
    through,
};

#[test]
fn d2_e1_the_calls_of_socketcall_answer_as_without_a_firewall() {
    let host = host();
    let script = data("socketcall.py");
    let answers = || {
        let output = run_on(&host, "python3", &[script.to_str().unwrap()]);
        assert!(output.status.success(), "{}", complaint(&output));
        text(&output)
    };
    let before = answers();
    let enforcing = Enforcing::on(&host, &["--deny", "198.51.100.7", "--port", "10000"]);
    assert_eq!(answers(), before);
    enforcing.stop();
    // 22 is EINVAL, 14 EFAULT, 9 EBADF.
    for line in ["call 0: -22", "call 21: -22", "bad pointer: -14", "connect -1: -9"] {
        assert!(before.lines().any(|known| known == line), "{line} expected:\n{before}");
    }
}

#[test]
fn d3_dns_and_http_go_on() {
    let network = star(2);
    let [server, client] = network.hosts() else { panic!("a star of two") };
    let dns = server.start("python3", [data("dns.py").to_str().unwrap(), "serve"]);
    dns.wait_for_line("serving", DEADLINE);
    let http = server.start(
        "python3",
        ["-u", "-m", "http.server", "80", "--directory", data("").to_str().unwrap()],
    );
    http.wait_for_line("Serving HTTP", DEADLINE);
    let ask = || {
        let name =
            run_on(client, "python3", &[data("dns.py").to_str().unwrap(), "ask", "10.7.0.1"]);
        let page = run_on(client, "curl", &["-sS", "--max-time", "20", "http://10.7.0.1/dns.py"]);
        (text(&name), text(&page).lines().count() > 5, complaint(&name) + &complaint(&page))
    };
    let before = ask();
    assert_eq!(
        (before.0.as_str(), before.1),
        ("udp 192.0.2.80\ntcp 192.0.2.80\n", true),
        "{}",
        before.2
    );
    // Rules on both ends, with nothing to say about these two.
    let rules = ["--deny", "192.168.56.101", "--port", "10000", "--debug", "1"];
    let (here, there) = (Enforcing::on(client, &rules), Enforcing::on(server, &rules));
    for _ in 0..3 {
        assert_eq!(ask(), before);
    }
    let lines = here.stop();
    assert!(lines.iter().any(|line| line == "! connect to 10.7.0.1:53"), "{lines:#?}");
    assert!(lines.iter().any(|line| line == "! connect to 10.7.0.1:80"), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.ends_with("denied")), "{lines:#?}");
    there.stop();
}

#[test]
fn d4_data_of_established_connections_is_not_looked_at() {
    let host = host();
    let listener = on(&host, || TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let enforcing = Enforcing::on(&host, &["--deny", "127.0.0.2", "--debug", "1", "-o", "json"]);
    let mut stream = on(&host, || TcpStream::connect(address)).unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    let reader = thread::spawn(move || {
        let mut taken = Vec::new();
        peer.read_to_end(&mut taken).map(|bytes| bytes as u64)
    });
    let chunk = vec![7; 1 << 20];
    for _ in 0..64 {
        stream.write_all(&chunk).unwrap();
    }
    drop(stream);
    assert_eq!(reader.join().unwrap().unwrap(), 64 << 20);
    // One connection: one verdict when it leaves, one when it arrives, whatever it carried.
    let events = enforcing.stop_events();
    let actions: Vec<_> =
        events.iter().map(|event| event["event"]["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["connect", "accept"]);
}

#[test]
fn d5_what_is_not_listed_is_allowed() {
    let host = host();
    let enforcing = Enforcing::on(&host, &[]);
    for port in [1, 22, 80, 10_000, 65_535] {
        let listener = on(&host, || TcpListener::bind(("127.0.0.1", port))).unwrap();
        assert_eq!(on(&host, || connect_errno(&format!("127.0.0.1:{port}"))), None);
        listener.accept().unwrap();
    }
    let lines = enforcing.stop();
    assert!(!lines.iter().any(|line| line.ends_with("denied")), "{lines:#?}");
}

#[test]
fn e2_e5_every_entry_of_the_kernel_gives_one_verdict() {
    let host = host();
    let enforcing = Enforcing::on(&host, &["--deny", "127.0.0.2"]);
    for door in
        ["connect", "ia32-socketcall", "ia32-connect", "uring-connect", "uring-connect-async"]
    {
        let error = on(&host, || through(door, "127.0.0.2:20000")).unwrap_err();
        assert_eq!(error.errno(), Some(EACCES), "{door}");
    }
    enforcing.stop();
}
