//! Lockdown: with an agent, without one, and over its restarts.

use rustix::process::Signal;

use crate::{
    fixture::Bed,
    shared::{EACCES, Echo, connect_errno, host, on},
};

#[test]
fn panic_allows_the_failsafe_set_only_until_resume() {
    let host = host();
    host.namespace.add_address("lo", "192.0.2.1/32");
    host.namespace.add_address("lo", "192.0.2.2/32");
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let denied = || -> Vec<u8> {
        on(&host, || {
            let denied =
                |last: &u8| connect_errno(&format!("192.0.2.{last}:20000")) == Some(EACCES);
            (1..=2).filter(denied).collect()
        })
    };
    let bed = Bed::new(&host);
    let policy = bed.file("p.fwnet", "failsafe me -> 192.0.2.2 : tcp/20000\n");
    bed.up(&["--policy", &policy]);
    assert!(denied().is_empty());
    let locked = || {
        assert_eq!(denied(), [1]);
        assert_eq!(bed.status()["stance"], "lockdown");
    };
    bed.done(&["panic"]);
    locked();
    // It outlives the agent.
    bed.signal(Signal::KILL);
    assert_eq!(denied(), [1]);
    bed.up(&[]);
    locked();
    // A policy that is applied meanwhile waits for the end of it.
    let other = bed.file(
        "o.fwnet",
        "deny me -> 192.0.2.2\nfailsafe me -> 192.0.2.2 : tcp/20000\ndeny me -> 192.0.2.1\n",
    );
    bed.done(&["apply", &other]);
    locked();
    bed.done(&["resume"]);
    assert_eq!((denied(), &bed.status()["stance"]), (vec![1], &"policy".into()));
    bed.done(&["rollback"]);
    assert!(denied().is_empty());
    // Without an agent, too.
    bed.signal(Signal::KILL);
    let shown = bed.done(&["panic"]);
    assert!(shown.starts_with("lockdown: only the failsafe set"), "{shown}");
    assert_eq!(denied(), [1]);
    bed.up(&[]);
    locked();
    bed.signal(Signal::KILL);
    bed.done(&["resume"]);
    assert!(denied().is_empty());
    bed.up(&[]);
    assert_eq!((denied(), &bed.status()["stance"]), (vec![], &"policy".into()));
}

#[test]
fn down_may_leave_the_host_in_lockdown() {
    let host = host();
    host.namespace.add_address("lo", "192.0.2.1/32");
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let denied = || on(&host, || connect_errno("192.0.2.1:20000")) == Some(EACCES);
    let bed = Bed::new(&host);
    bed.up(&["--deny", "127.0.0.2"]);
    assert!(!denied());
    bed.done(&["down", "--final", "lockdown"]);
    assert!(denied());
    bed.refused(&["status"], 1);
    bed.done(&["down"]);
    assert!(!denied());
}
