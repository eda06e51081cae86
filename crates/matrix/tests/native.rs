//! The matrix on this machine's own kernel: every row is what is expected of it, and every hook is missed by a row when it
//! is left out. In a network namespace and a cgroup of the test's own; where the kernel takes no LSM programs that is the
//! tier without them. (`cargo xtask matrix` does the same on Debian's kernels.)

#![expect(clippy::unwrap_used, reason = "a test panics where it fails, its functions as well")]

use std::process::{Command, Output, Stdio};

use testbed::Host;

/// Runs a verb of the program on a host of its own; the program moves itself into the cgroup.
fn matrix(arguments: &[&str]) -> Output {
    let host = Host::new();
    let mut command: Command = host.namespace.command(env!("CARGO_BIN_EXE_matrix"));
    command.args(arguments).arg("--cgroup").arg(host.cgroup.path());
    if arguments != ["calls"] {
        command.args(["--golden", concat!(env!("CARGO_MANIFEST_DIR"), "/golden")]);
    }
    command.stdin(Stdio::null()).output().unwrap()
}

/// What was said that is no row.
fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    let words: Vec<_> = text.lines().filter(|line| !line.starts_with("{\"")).collect();
    format!("{}\n{}", words.join("\n"), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn every_row_ends_as_expected_on_this_kernel() {
    let output = matrix(&["rows"]);
    assert!(output.status.success(), "{}", said(&output));
    let rows = String::from_utf8_lossy(&output.stdout).matches("{\"row\"").count();
    assert!(rows > 300, "{rows} lines: {}", said(&output));
}

#[test]
fn every_call_ends_as_it_should() {
    let output = matrix(&["calls"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", said(&output));
    let last = text.lines().last().unwrap_or_default();
    let count: Option<u32> = last.split(' ').nth(1).and_then(|count| count.parse().ok());
    assert!(count.is_some_and(|count| count > 5_000), "{last}");
}

#[test]
fn every_hook_is_missed_by_a_row_when_it_is_left_out() {
    let output = matrix(&["mutations"]);
    assert!(output.status.success(), "{}", said(&output));
    let noticed = String::from_utf8_lossy(&output.stdout).matches(": noticed by ").count();
    assert!(noticed >= 12, "{noticed} hooks: {}", said(&output));
}
