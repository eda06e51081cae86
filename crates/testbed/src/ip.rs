//! The tool `ip` of iproute2: clearer to read in a test than netlink messages.

use std::io::Write as _;
use std::process::{Command, Stdio};

/// Runs `commands`, one `ip` command a line (`link set lo up`), inside namespace `name`, all of them in one process.
///
/// # Panics
/// If `ip` is missing or refuses a command; the message is its own.
#[track_caller]
pub(crate) fn inside(name: &str, commands: &str) {
    let mut child = Command::new("ip")
        .args(["-n", name, "-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("run ip (package iproute2): {error}"));
    let mut input = child.stdin.take().expect("stdin is piped");
    // An early end of `ip` shows in its status and message, which say more than this write's error.
    let _ = input.write_all(commands.as_bytes());
    drop(input);
    let output = child.wait_with_output().unwrap_or_else(|error| panic!("wait for ip: {error}"));
    assert!(
        output.status.success(),
        "ip refused, inside {name}:\n{commands}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Runs one `ip` command in the caller's namespace and returns what it printed, or what it complained about.
pub(crate) fn run(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("run ip (package iproute2): {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!(
            "ip {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        ))
    }
}
