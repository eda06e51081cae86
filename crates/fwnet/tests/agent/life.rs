//! Up, status, down: an agent begins, tells, and leaves nothing behind.

use rustix::process::Signal;
use testbed::Host;

use crate::{
    fixture::Bed,
    shared::{EACCES, Echo, complaint, connect_errno, on},
};

#[test]
fn up_enforces_and_returns_and_down_takes_everything_off() {
    let host = Host::new();
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let denied = || on(&host, || connect_errno("127.0.0.2:20000")) == Some(EACCES);
    let before = kernel::snapshot();
    let bed = Bed::new(&host);
    let shown = bed.up(&["--deny", "127.0.0.2"]);
    assert!(shown.contains("1 denied address and 0 denied ports (version 1)"), "{shown}");
    assert!(denied());
    let status = bed.status();
    assert_eq!(status["policy"]["version"], 1);
    assert_eq!(status["pid"], bed.pid().as_raw_nonzero().get());
    let attached = status["attached"].as_array().unwrap();
    assert!(attached.iter().any(|one| one["hook"] == "cgroup/connect4"), "{status:#}");
    let shown = bed.done(&["down"]);
    assert!(shown.contains("removed cgroup/connect4 from cgroup "), "{shown}");
    assert!(!denied());
    let ours = |links: &kernel::Snapshot| {
        links.links.keys().filter(|id| !before.links.contains_key(id)).count()
    };
    assert!(attached.len() >= 6 && ours(&kernel::snapshot()) < attached.len());
}

#[test]
fn without_an_agent_the_verbs_say_so_in_one_line() {
    let host = Host::new();
    let bed = Bed::new(&host);
    let socket = bed.path("agent.sock");
    for verb in ["status", "down"] {
        let says = bed.refused(&[verb], 1);
        let wanted =
            format!("fwnet: no agent answers at {}: is it up? (fwnet up)\n", socket.display());
        assert_eq!(says, wanted);
    }
}

#[test]
fn the_second_agent_names_the_first() {
    let host = Host::new();
    let bed = Bed::new(&host);
    bed.up(&["--deny", "127.0.0.2"]);
    let pid = bed.pid().as_raw_nonzero();
    let again = bed.try_up(&["--deny", "127.0.0.3"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(complaint(&again).contains(&format!("process {pid}")), "{}", complaint(&again));
    let arguments = ["agent", "--state"];
    let second = crate::shared::fwnet(&arguments)
        .arg(bed.path("state"))
        .arg("--socket")
        .arg(bed.path("other.sock"))
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let wanted =
        format!("fwnet: another agent (process {pid}) holds {}\n", bed.path("state").display());
    assert_eq!(complaint(&second), wanted);
    assert_eq!(bed.status()["policy"]["version"], 1);
}

#[test]
fn rules_that_do_not_compile_start_nothing() {
    let host = Host::new();
    let bed = Bed::new(&host);
    let policy = bed.file("p.fwnet", "deny any -> wbe : tcp/22\n");
    let output = bed.try_up(&["--policy", &policy]);
    assert_eq!(output.status.code(), Some(1));
    assert!(complaint(&output).contains("p.fwnet:1:13"), "{}", complaint(&output));
    bed.refused(&["status"], 1);
}

#[test]
fn a_signal_ends_the_agent() {
    let host = Host::new();
    let bed = Bed::new(&host);
    bed.up(&["--deny", "127.0.0.2"]);
    bed.signal(Signal::TERM);
    assert!(!bed.path("agent.sock").exists(), "{}", bed.log());
}
