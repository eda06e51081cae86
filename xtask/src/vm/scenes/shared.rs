//! What several scenes begin with, and a client that never stops.

use super::Stage;
use anyhow::{Result, ensure};

/// A peer behind a link, somebody who listens on the port that will be denied (again as soon as it may, where it may not),
/// and somebody on one that will not.
pub(super) const SETTING: &str = r"
set -e
ip link set lo up
ip netns add peer
ip link add up0 type veth peer name up1 netns peer
ip addr add 192.0.2.1/24 dev up0
ip link set up0 up
ip -n peer addr add 192.0.2.2/24 dev up1
ip -n peer link set up1 up
ip -n peer link set lo up
systemd-run --quiet --unit denied -p Restart=always -p RestartSec=200ms -p StartLimitIntervalSec=0 \
    ncat --listen --keep-open 10000
systemd-run --quiet --unit open ncat --listen --keep-open 10001
";
/// A namespace that comes when everything is in force, with a link and somebody who listens.
pub(super) const LATE: &str = r"
set -e
ip netns add late
ip link add late0 type veth peer name late1 netns late
ip addr add 203.0.113.1/24 dev late0
ip link set late0 up
ip -n late addr add 203.0.113.2/24 dev late1
ip -n late link set late1 up
ip -n late link set lo up
systemd-run --quiet --unit late ip netns exec late ncat --listen --keep-open 10001
";
/// What is attached anywhere and pinned, but for what systemd attaches to its services' cgroups.
pub(super) const ATTACHED: &str =
    "bpftool link list; bpftool cgroup tree | grep -v -e ' sd_' -e '^/'; ls -R /sys/fs/bpf";

/// Starts a client that connects to the denied port and to one that is not, again and again.
pub(super) fn hammer(stage: &mut Stage<'_>) -> Result<()> {
    stage.sh(
        "rm -f /run/hammer*; systemd-run --quiet --unit hammer hammer 10000 10002 /run/hammer",
    )?;
    stage.soon("test -e /run/hammer.begun").map(drop)
}

/// Ends it, and returns its rounds: none of them may have seen a wrong verdict.
pub(super) fn hammered(stage: &mut Stage<'_>) -> Result<String> {
    stage.sh("touch /run/hammer.stop")?;
    let told = stage.soon("cat /run/hammer")?;
    ensure!(told.contains(" 0 wrong"), "a hammering client saw: {told}");
    // The next one has the same name.
    stage.soon("! systemctl is-active --quiet hammer")?;
    Ok(told.split(',').next().unwrap_or_default().to_owned())
}

/// Holds the denied port to being denied to everybody, and the other one to being open.
pub(super) fn in_force(stage: &mut Stage<'_>) -> Result<()> {
    stage.prints("attempt 127.0.0.1 10000", "EACCES")?;
    stage.soon("attempt 127.0.0.1 10001 | grep -x connected")?;
    stage.prints("ip netns exec peer attempt 192.0.2.1 10000", "EACCES")
}

/// Holds the denied port to being open to everybody.
pub(super) fn not_in_force(stage: &mut Stage<'_>) -> Result<()> {
    stage.soon("attempt 127.0.0.1 10000 | grep -x connected")?;
    stage.prints("ip netns exec peer attempt 192.0.2.1 10000", "connected")
}

/// Waits until the agent of the service answers.
pub(super) fn agent_answers(stage: &mut Stage<'_>) -> Result<String> {
    stage.soon("systemctl is-active --quiet fwnet-agent && fwnet status")
}

/// The agent's process.
pub(super) fn agent_pid(stage: &mut Stage<'_>) -> Result<String> {
    stage.sh("systemctl show --value --property MainPID fwnet-agent")
}

/// Waits until the service has another agent than process `pid`, which answers.
pub(super) fn another_agent(stage: &mut Stage<'_>, pid: &str) -> Result<()> {
    stage.soon(&format!(
        "test $(systemctl show --value --property MainPID fwnet-agent) != {pid} && \
         systemctl is-active --quiet fwnet-agent && fwnet status"
    ))?;
    Ok(())
}
