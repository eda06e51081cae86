//! What a process sees of a denial: the errno that its rule asks for, and sockets that cannot be made at all.

use std::{fs, net::UdpSocket};

use rustix::net::{AddressFamily, SocketType, ipproto, socket};
use serde_json::Value;
use testbed::{Host, Network, wait_until};

use crate::{
    document::Document,
    shared::{DEADLINE, EACCES, ECONNREFUSED, Echo, connect_errno, on},
};

#[test]
fn a_policy_file_is_enforced_at_both_ends() {
    let network = Network::star(3);
    let [server, bad, good] = network.hosts() else { panic!("a star of three") };
    let echo = Echo::tcp(&server.namespace, "[::]:20000");
    let _far = Echo::tcp(&good.namespace, "[::]:20000");
    let document = Document::new(
        "name bad = 10.7.0.2, fd07::2\n\
         deny bad -> me : tcp/20000\n\
         deny me -> 10.7.0.3 : tcp/20000\n",
    );
    let enforcing = document.enforce(server, &[]);
    for target in ["10.7.0.1:20000", "[fd07::1]:20000"] {
        let by = |host: &Host| host.namespace.inside(|| connect_errno(target));
        assert_eq!((by(bad), by(good)), (Some(ECONNREFUSED), None), "{target}");
    }
    for target in ["10.7.0.3:20000", "[::ffff:10.7.0.3]:20000"] {
        assert_eq!(on(server, || connect_errno(target)), Some(EACCES), "{target}");
    }
    assert_eq!(on(server, || connect_errno("[fd07::3]:20000")), None);
    enforcing.stop();
    assert_eq!(bad.namespace.inside(|| connect_errno("10.7.0.1:20000")), None);
    wait_until(DEADLINE, "all who may have come", || echo.came() == 3);
}

#[test]
fn a_rule_that_refuses_gives_econnrefused_and_one_that_denies_eacces() {
    let host = Host::new();
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let document = Document::new(
        "refuse any -> 127.0.0.2 : tcp/20000\n\
         deny any -> 127.0.0.3 : tcp/20000\n\
         refuse any -> 127.0.0.2 : udp/any\n\
         deny any -> 127.0.0.3 : udp/any\n",
    );
    let enforcing = document.enforce(&host, &[]);
    for (address, errno) in [("127.0.0.2", ECONNREFUSED), ("127.0.0.3", EACCES)] {
        on(&host, || {
            assert_eq!(connect_errno(&format!("{address}:20000")), Some(errno), "{address}");
            assert_eq!(connect_errno(&format!("[::ffff:{address}]:20000")), Some(errno));
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let error = socket.send_to(b"x", (address, 9)).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(errno), "{address}, datagram");
        });
    }
    assert_eq!(on(&host, || connect_errno("127.0.0.1:20000")), None);
    enforcing.stop();
}

/// The errno of making a socket, 0 if it is made.
fn made(family: AddressFamily, kind: SocketType, protocol: Option<rustix::net::Protocol>) -> i32 {
    socket(family, kind, protocol).map_or_else(|errno| errno.raw_os_error(), |_made| 0)
}

#[test]
fn a_rule_about_raw_sockets_refuses_to_make_them_and_tcp_and_udp_ones_are_made() {
    let host = Host::new();
    let both = [AddressFamily::INET, AddressFamily::INET6];
    let sockets = || {
        both.map(|family| {
            (
                made(family, SocketType::RAW, Some(ipproto::UDP)),
                made(family, SocketType::STREAM, None),
                made(family, SocketType::DGRAM, None),
            )
        })
    };
    let open = [(0, 0, 0); 2];
    assert_eq!(on(&host, sockets), open, "without a firewall");

    // 255 is the protocol of raw sockets, whatever header they write.
    let denied = "deny any -> any : 255/any\n";
    let document = Document::new(denied);
    let enforcing = document.enforce(&host, &["-o", "json"]);
    assert_eq!(on(&host, sockets), [(EACCES, 0, 0); 2]);
    document.swap(&enforcing, "allow any -> any\n", 2);
    assert_eq!(on(&host, sockets), open, "an allow for them");
    document.swap(&enforcing, denied, 3);
    assert_eq!(on(&host, sockets), [(EACCES, 0, 0); 2], "refused again");
    let events = enforcing.stop_events();
    assert_eq!(events.len(), 4, "{events:#?}");
    for event in events {
        assert_eq!(event["event"]["action"], "socket", "{event:#}");
        assert_eq!(event["process"]["pid"], Value::from(std::process::id()));
    }
    assert_eq!(on(&host, sockets), open, "afterwards");
}

#[test]
fn every_denial_names_its_rule_with_file_line_and_reason() {
    let host = Host::new();
    let document = Document::new(
        "# why is everything\n\
         deny any -> 127.0.0.2 : tcp/20000  id=\"no-two\" reason=\"TICKET-17\"\n\
         default deny out\n\
         allow any -> 127.0.0.1\n",
    );
    let enforcing = document.enforce(&host, &["-o", "json"]);
    on(&host, || {
        assert_eq!(connect_errno("127.0.0.2:20000"), Some(EACCES));
        assert_eq!(connect_errno("192.0.2.1:80"), Some(EACCES));
        // Nobody listens, and the rule is not in the way.
        assert_eq!(connect_errno("127.0.0.1:20000"), Some(ECONNREFUSED));
    });
    let events = enforcing.stop_events();
    let [by_rule, by_default] = &events[..] else { panic!("{events:#?}") };
    assert_eq!(by_rule["rule"]["id"], "no-two");
    assert_eq!(by_rule["rule"]["description"], "TICKET-17");
    let place = fs::canonicalize(document.path()).unwrap();
    assert_eq!(by_rule["rule"]["reference"], format!("{}:2", place.display()));
    assert_eq!(by_rule["fwnet"]["mode"], "enforce");
    assert_eq!(by_default["destination"]["ip"], "192.0.2.1");
    assert_ne!(by_default["rule"]["id"], "no-two");
    assert!(by_default["rule"]["id"].as_str().is_some_and(|id| id.contains("default")));
}
