//! From the installed package to a policy that is in force before the network, and to a system without a trace of it.

use super::Stage;
use super::shared::{ATTACHED, SETTING, agent_answers, in_force};
use anyhow::{Result, ensure};

pub(super) fn play(stage: &mut Stage<'_>) -> Result<()> {
    stage.prints("systemctl is-enabled fwnet-boot fwnet-agent | sort -u", "enabled")?;
    stage.prints("systemctl is-active fwnet-boot fwnet-agent | sort -u", "inactive")?;
    stage.prints("systemctl --failed --no-legend", "")?;
    stage.soon("systemctl is-active --quiet early")?;
    stage.prints("cat /run/early", "ECONNREFUSED\nECONNREFUSED")?;
    let before = stage.sh(ATTACHED)?;
    stage.hold("the installed package enforces nothing by itself");

    stage.sh("fwnet up --port 10000")?;
    stage.sh(SETTING)?;
    in_force(stage)?;
    agent_answers(stage)?;
    stage.hold("fwnet up starts the service, and the port is denied");

    stage.reboot()?;
    // Whoever answers here may be there before it.
    stage.soon("systemctl is-active --quiet early")?;
    stage.prints("cat /run/early", "EACCES\nECONNREFUSED")?;
    let loaded = moment(stage, "fwnet-boot.service", "ExecMainExitTimestampMonotonic")?;
    let network = moment(stage, "network-pre.target", "ActiveEnterTimestampMonotonic")?;
    ensure!(loaded > 0 && loaded <= network, "loaded at {loaded}, network-pre at {network}");
    stage.hold("after a reboot the first client after network-pre.target is judged already");
    stage.sh(SETTING)?;
    in_force(stage)?;
    stage.sh("ip netns add late && ip -n late link set lo up")?;
    stage.prints("ip netns exec late attempt 127.0.0.1 10000", "EACCES")?;
    let status = agent_answers(stage)?;
    ensure!(status.contains("1 denied port"), "fwnet status says: {status}");
    stage.prints("systemctl --failed --no-legend", "")?;
    stage.hold("then the agent takes over, in every namespace, new ones too");

    stage.sh("dpkg --remove fwnet")?;
    stage.prints("attempt 127.0.0.1 10000", "connected")?;
    stage.prints("ip netns exec peer attempt 192.0.2.1 10000", "connected")?;
    let after = stage.sh(ATTACHED)?;
    ensure!(before == after, "before: {before}\nafter: {after}");
    stage.prints("systemctl is-active fwnet-boot fwnet-agent | sort -u", "inactive")?;
    stage.hold("removing the package removes enforcement, and nothing is left in the kernel");
    stage.sh("dpkg --purge fwnet")?;
    stage.prints(
        "ls -d /var/lib/fwnet /run/fwnet /etc/default/fwnet 2>&1 | grep -vc 'No such'",
        "0",
    )?;
    stage.hold("purging it removes the state");
    Ok(())
}

/// When something happened to a unit, in microseconds since the start.
fn moment(stage: &mut Stage<'_>, unit: &str, property: &str) -> Result<u64> {
    let shown = stage.sh(&format!("systemctl show --value --property {property} {unit}"))?;
    Ok(shown.parse()?)
}
