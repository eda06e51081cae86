//! `me` is this host by whatever address it has now: the policy of a boot is in force before there are any.

use testbed::{Host, wait_until};

use crate::{
    fixture::Bed,
    shared::{DEADLINE, EACCES, Echo, connect_errno, host, on},
};

/// From this host to this host, by an address that it gets later.
const POLICY: &str = "deny me -> me : tcp/20000\n";
const LATER: &str = "10.9.9.9";

fn denied(host: &Host) -> bool {
    on(host, || connect_errno(&format!("{LATER}:20000"))) == Some(EACCES)
}

#[test]
fn me_is_followed_when_an_address_comes_and_when_it_goes() {
    let host = host();
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let bed = Bed::new(&host);
    let policy = bed.file("me.fwnet", POLICY);
    bed.up(&["--policy", &policy]);
    assert!(!denied(&host), "nobody knows that this is us");
    host.namespace.add_address("lo", &format!("{LATER}/32"));
    wait_until(DEADLINE, "the new address to be us", || denied(&host));
    assert_eq!(bed.status()["policy"]["version"], 1, "it is the same policy");
    let gone = host.namespace.command("ip").args(["address", "del", LATER, "dev", "lo"]).status();
    assert!(gone.unwrap().success());
    wait_until(DEADLINE, "the address to be somebody else's", || !denied(&host));
    // And one that came while there was no agent.
    bed.signal(rustix::process::Signal::KILL);
    host.namespace.add_address("lo", &format!("{LATER}/32"));
    assert!(!denied(&host));
    bed.start_again();
    assert!(denied(&host), "a new agent begins with what is there");
}
