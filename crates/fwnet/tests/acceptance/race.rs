//! Line B13: one thread connects while another rewrites the address in the memory that the call points to. A million
//! tries, and no connection to the denied address.

use std::{
    net::{TcpListener, TcpStream},
    time::Duration,
};

use serde_json::Value;
use testbed::Host;

use crate::shared::{Enforcing, complaint, host, run_on, somebody_comes, text, tool};

/// Where nobody listens: an attempt on the permitted address ends at once, by a reset.
const CLOSED: &str = "127.0.0.1:20000";

/// Where somebody listens: what gets through to the denied address connects.
const OPEN: &str = "127.0.0.2:20000";

/// Connects `count` times by `door`, and returns what `tcpcli` counted.
fn race(host: &Host, door: &str, count: u64) -> Value {
    let count = count.to_string();
    let output =
        run_on(host, tool("tcpcli"), &["--via", door, "--count", &count, "--race", CLOSED, OPEN]);
    assert!(output.status.success(), "{}", complaint(&output));
    serde_json::from_str(&text(&output)).unwrap()
}

fn failed(finish: &Value, errno: &str) -> u64 {
    finish["failed"][errno].as_u64().unwrap_or_default()
}

fn never_through(door: &str, count: u64) {
    let host = host();
    let listener = host.namespace.inside(|| TcpListener::bind(OPEN)).unwrap();
    // Without rules the race reaches the address that will be denied: it can be lost.
    let drain = listener.try_clone().unwrap();
    std::thread::spawn(move || drain.incoming().for_each(drop::<std::io::Result<TcpStream>>));
    let mut open = 0;
    for _ in 0..50 {
        open += race(&host, door, 2_000)["reached_denied"].as_u64().unwrap();
        if open > 0 {
            break;
        }
    }
    assert!(open > 0, "the race never reached {OPEN}");

    let enforcing = Enforcing::on(&host, &["--deny", "127.0.0.2"]);
    let finish = race(&host, door, count);
    let (denied, refused) = (failed(&finish, "EACCES"), failed(&finish, "ECONNREFUSED"));
    assert_eq!(finish["reached_denied"], 0, "escapes: {finish:#}");
    assert_eq!(denied + refused, count, "{finish:#}");
    // Both addresses were seen many times over, so there was a race to lose.
    assert!(denied > count / 100 && refused > count / 100, "{finish:#}");
    let lines = enforcing.stop();
    let told = format!("fwnet: deny 127.0.0.2 out: denied {denied} times");
    assert!(lines.contains(&told), "{told}\n{:#?}", &lines[lines.len().saturating_sub(15)..]);
}

#[test]
fn b13_half_a_million_connects_race_a_rewritten_address() {
    never_through("connect", 500_000);
}

#[test]
fn b13_half_a_million_fast_opens_race_a_rewritten_address() {
    never_through("fastopen-sendto", 500_000);
}

#[test]
fn b13_a_port_that_is_rewritten_is_judged_as_the_kernel_took_it() {
    let host = host();
    let listener = host.namespace.inside(|| TcpListener::bind("127.0.0.1:10000")).unwrap();
    let enforcing = Enforcing::on(&host, &["--port", "10000"]);
    let output = run_on(
        &host,
        tool("tcpcli"),
        &["--count", "20000", "--race", "127.0.0.1:20000", "127.0.0.1:10000"],
    );
    let finish: Value = serde_json::from_str(&text(&output)).unwrap();
    assert_eq!(finish["reached_denied"], 0, "{finish:#}");
    assert!(!somebody_comes(&listener, Duration::ZERO));
    enforcing.stop();
}
