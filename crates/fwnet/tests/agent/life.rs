//! Up, status, down: an agent begins, tells, and leaves nothing behind.

use rustix::process::Signal;

use crate::{
    fixture::Bed,
    shared::{EACCES, Echo, Held, complaint, connect_errno, host, on},
};

#[test]
fn up_enforces_and_returns_and_down_takes_everything_off() {
    let host = host();
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let denied = || on(&host, || connect_errno("127.0.0.2:20000")) == Some(EACCES);
    let bed = Bed::new(&host);
    let shown = bed.up(&["--deny", "127.0.0.2"]);
    assert!(shown.contains("1 denied address and 0 denied ports (version 1)"), "{shown}");
    assert!(denied());
    let status = bed.status();
    assert_eq!((&status["policy"]["version"], &status["stance"]), (&1.into(), &"policy".into()));
    assert_eq!(status["pid"], bed.pid().as_raw_nonzero().get());
    let attached = status["attached"].as_array().unwrap();
    assert!(attached.iter().any(|one| one["hook"] == "cgroup/connect4"), "{status:#}");
    let held = Held::by(bed.pid().as_raw_nonzero().get().cast_unsigned());
    assert_eq!(held.links.len(), attached.len());
    let shown = bed.done(&["down"]);
    assert!(shown.ends_with("nothing of fwnet is left in the kernel\n"), "{shown}");
    assert!(!denied());
    assert_eq!(held.alive(), Held::default());
    assert!(!bed.path("bpf").exists() || bed.path("bpf").read_dir().unwrap().next().is_none());
}

#[test]
fn the_end_of_the_agent_changes_no_verdict_and_the_next_one_takes_over() {
    let host = host();
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let denied =
        |address: &str| on(&host, || connect_errno(&format!("{address}:20000"))) == Some(EACCES);
    let bed = Bed::new(&host);
    bed.up(&["--deny", "127.0.0.2"]);
    let held = Held::by(bed.pid().as_raw_nonzero().get().cast_unsigned());
    for signal in [Signal::TERM, Signal::KILL] {
        bed.signal(signal);
        assert!(denied("127.0.0.2") && !denied("127.0.0.1"));
        assert_eq!(held.alive().links, held.links);
        // Without rules: those that are there.
        let shown = bed.up(&[]);
        assert!(shown.contains("1 denied address and 0 denied ports (version 1)"), "{shown}");
        assert_eq!(Held::by(bed.pid().as_raw_nonzero().get().cast_unsigned()).links, held.links);
    }
    // And what a dead agent left is taken off without one.
    bed.signal(Signal::KILL);
    let shown = bed.done(&["down"]);
    assert!(shown.ends_with("nothing of fwnet is left in the kernel\n"), "{shown}");
    assert!(!denied("127.0.0.2"));
    assert_eq!(held.alive(), Held::default());
    // Which the next agent knows.
    let agent = bed.agent();
    assert!(agent.status.success() && complaint(&agent).contains("nothing is enforced since"));
}

#[test]
fn without_an_agent_the_verbs_say_so_in_one_line() {
    let host = host();
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
    let host = host();
    let bed = Bed::new(&host);
    bed.up(&["--deny", "127.0.0.2"]);
    let pid = bed.pid().as_raw_nonzero();
    let again = bed.try_up(&["--deny", "127.0.0.3"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(complaint(&again).contains(&format!("process {pid}")), "{}", complaint(&again));
    let second = bed.agent();
    assert_eq!(second.status.code(), Some(1));
    let wanted =
        format!("fwnet: another agent (process {pid}) holds {}\n", bed.path("state").display());
    assert_eq!(complaint(&second), wanted);
    assert_eq!(bed.status()["policy"]["version"], 1);
}

#[test]
fn rules_that_do_not_compile_start_nothing() {
    let host = host();
    let bed = Bed::new(&host);
    let policy = bed.file("p.fwnet", "deny any -> wbe : tcp/22\n");
    let output = bed.try_up(&["--policy", &policy]);
    assert_eq!(output.status.code(), Some(1));
    assert!(complaint(&output).contains("p.fwnet:1:13"), "{}", complaint(&output));
    bed.refused(&["status"], 1);
}

#[test]
fn a_signal_ends_the_agent() {
    let host = host();
    let bed = Bed::new(&host);
    bed.up(&["--deny", "127.0.0.2"]);
    bed.signal(Signal::TERM);
    assert!(!bed.path("agent.sock").exists(), "{}", bed.log());
}

/// `fwnet up` as it is typed in a login session, with a `systemd-run` of the test's own (or none) in front of the path.
fn up_in_session(
    host: &testbed::Host,
    bed: &Bed,
    systemd_run: &str,
) -> (std::process::Output, String) {
    use std::os::unix::fs::PermissionsExt;

    let session = host.cgroup.child("session-7.scope");
    let tool = bed.file("systemd-run", systemd_run);
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
    let fwnet = crate::shared::fwnet(&[]);
    let mut command = session.command(fwnet.get_program());
    let directory = bed.path("");
    let path = format!("{}:{}", directory.display(), std::env::var("PATH").unwrap());
    command.arg("up").args(bed.paths()).args(["--deny", "127.0.0.2"]);
    command.args(["--cgroup", host.cgroup.path().to_str().unwrap()]);
    command.args(["--netns", host.namespace.path().to_str().unwrap()]);
    let output = command.env("PATH", path).env("SSH_CONNECTION", "").output().unwrap();
    let pid = bed.pid().as_raw_nonzero();
    let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    // The session's cgroup goes with the test, and so nobody may be in it.
    let moved = std::fs::write(host.cgroup.path().join("cgroup.procs"), pid.to_string());
    assert!(moved.is_ok(), "{moved:?}");
    (output, cgroup)
}

#[test]
fn an_agent_leaves_the_login_that_started_it() {
    let host = host();
    let bed = Bed::new(&host);
    // As the real one does it: the arguments up to `--` are its own, and it becomes the rest, elsewhere.
    let tool = format!(
        "#!/bin/sh\nprintf '%s ' \"$@\" > {}\necho $$ > {}/cgroup.procs\n\
         while [ \"$1\" != -- ]; do shift; done\nshift\nexec \"$@\"\n",
        bed.path("asked").display(),
        host.cgroup.path().display(),
    );
    let (output, cgroup) = up_in_session(&host, &bed, &tool);
    assert!(output.status.success(), "{output:?}");
    assert!(!cgroup.contains("session-7.scope"), "{cgroup}");
    let asked = std::fs::read_to_string(bed.path("asked")).unwrap();
    let own = "--scope --quiet --collect --slice=system.slice --description=fwnet agent -- ";
    assert!(asked.starts_with(own), "{asked}");
}

#[test]
fn an_agent_that_cannot_leave_a_login_says_so_and_enforces() {
    let host = host();
    let bed = Bed::new(&host);
    let tool =
        "#!/bin/sh\necho 'Failed to connect to bus: No such file or directory' >&2\nexit 1\n";
    let (output, cgroup) = up_in_session(&host, &bed, tool);
    assert!(output.status.success(), "{output:?}");
    assert!(cgroup.contains("session-7.scope"), "{cgroup}");
    let says = complaint(&output);
    assert!(says.contains("the agent stays in the cgroup of this login"), "{says}");
    assert!(says.contains("Failed to connect to bus"), "{says}");
}
