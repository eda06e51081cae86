//! From the installed package to a policy that is in force before the network, and to a system without a trace of it.

use super::Stage;
use super::shared::{ATTACHED, SETTING, agent_answers, in_force, not_in_force};
use anyhow::{Result, ensure};

/// What is to be in force: a port, and one only from this host to itself, by whatever address.
const POLICY: &str = r"
set -e
cat >/root/boot.fw <<'END'
tier team
mode enforce
deny any -> any : tcp/10000
deny me -> me : tcp/10003
failsafe 192.0.2.2 -> me : tcp/22
END
fwnet up --policy /root/boot.fw
rm /root/boot.fw
";

pub(super) fn play(stage: &mut Stage<'_>) -> Result<()> {
    stage.prints("systemctl is-enabled fwnet-boot fwnet-agent | sort -u", "enabled")?;
    stage.prints("systemctl is-active fwnet-boot fwnet-agent | sort -u", "inactive")?;
    stage.prints("systemctl --failed --no-legend", "")?;
    stage.soon("systemctl is-active --quiet early")?;
    stage.prints("cat /run/early", "ECONNREFUSED\nECONNREFUSED")?;
    let before = stage.sh(ATTACHED)?;
    stage.hold("the installed package enforces nothing by itself");

    stage.sh(SETTING)?;
    not_in_force(stage)?;
    stage.sh(POLICY)?;
    in_force(stage)?;
    stage.prints("attempt 192.0.2.1 10003", "EACCES")?;
    agent_answers(stage)?;
    stage.hold("fwnet up starts the service, and the policy is in force");

    stage.reboot()?;
    // Whoever answers here may be there before it.
    stage.soon("systemctl is-active --quiet early")?;
    stage.prints("cat /run/early", "EACCES\nECONNREFUSED")?;
    let loaded = moment(stage, "fwnet-boot.service", "ExecMainExitTimestampMonotonic")?;
    let network = moment(stage, "network-pre.target", "ActiveEnterTimestampMonotonic")?;
    ensure!(loaded > 0 && loaded <= network, "loaded at {loaded}, network-pre at {network}");
    let begun = moment(stage, "fwnet-boot.service", "ExecMainStartTimestampMonotonic")?;
    let milliseconds = loaded.saturating_sub(begun) / 1_000;
    stage.hold(format!(
        "after a reboot the first client after network-pre.target is judged already ({milliseconds} ms to load)"
    ));
    let status = agent_answers(stage)?;
    ensure!(status.contains("(version 1)"), "fwnet status says: {status}");
    stage.sh(SETTING)?;
    in_force(stage)?;
    stage.soon("attempt 192.0.2.1 10003 | grep -x EACCES")?;
    stage.hold("an address that comes after the policy is `me` as soon as it is there");
    stage.sh("ip netns add late && ip -n late link set lo up")?;
    stage.prints("ip netns exec late attempt 127.0.0.1 10000", "EACCES")?;
    stage.prints("systemctl list-units --failed --no-legend 'fwnet*'", "")?;
    stage.hold("then the agent takes over, in every namespace, new ones too");

    stage.sh("dpkg --remove fwnet")?;
    not_in_force(stage)?;
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
