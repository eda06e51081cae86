//! Packets that this host itself sends elsewhere than the program asked for (a DNAT rule in its output chain): outbound the
//! verdict is about what the program asked for, inbound about where the packet comes.

use std::{net::TcpListener, process::Command, time::Duration};

use testbed::Host;

use crate::shared::{
    DEADLINE, ECONNREFUSED, Enforcing, complaint, connect_errno, denial, host, on, somebody_comes,
    star,
};

/// What goes to port 20000 of `address` goes to its port 10000.
fn translate(host: &Host, address: &str) {
    let rules = format!(
        "add table ip t; add chain ip t out {{ type nat hook output priority -100; }}; \
         add rule ip t out ip daddr {address} tcp dport 20000 dnat to {address}:10000"
    );
    let mut nft: Command = host.namespace.command("nft");
    let output = nft.arg(rules).output().unwrap();
    assert!(output.status.success(), "nft (Debian: nftables): {}", complaint(&output));
}

#[test]
fn a_translated_port_is_judged_inbound_where_the_packet_comes() {
    let host = host();
    translate(&host, "127.0.0.1");
    let listener = on(&host, || TcpListener::bind("127.0.0.1:10000")).unwrap();
    assert_eq!(on(&host, || connect_errno("127.0.0.1:20000")), None);
    assert!(somebody_comes(&listener, DEADLINE));
    let enforcing = Enforcing::on(&host, &["--port", "10000"]);
    assert_eq!(on(&host, || connect_errno("127.0.0.1:20000")), Some(ECONNREFUSED));
    assert!(!somebody_comes(&listener, Duration::ZERO));
    let lines = enforcing.stop();
    assert!(lines.iter().any(|line| line == "! accept from denied port 10000"), "{lines:#?}");
}

#[test]
fn a_port_that_is_translated_is_judged_outbound_as_the_program_named_it() {
    let network = star(2);
    let [client, server] = network.hosts() else { panic!("a star of two") };
    translate(client, "10.7.0.2");
    let listener = server.namespace.inside(|| TcpListener::bind("0.0.0.0:10000")).unwrap();
    let enforcing = Enforcing::start(&client.cgroup, &[], &["--port", "20000"]);
    assert_eq!(on(client, || connect_errno("10.7.0.2:20000")), Some(denial()));
    assert!(!somebody_comes(&listener, Duration::ZERO));
    enforcing.stop();
    // The limit that docs/threat-model.md states: nobody named the port that is denied.
    let enforcing = Enforcing::start(&client.cgroup, &[], &["--port", "10000"]);
    assert_eq!(on(client, || connect_errno("10.7.0.2:20000")), None);
    assert!(somebody_comes(&listener, DEADLINE));
    enforcing.stop();
}
