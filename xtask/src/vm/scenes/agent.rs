//! Whatever becomes of the agent of the service, verdicts stay: a client hammers meanwhile.

use super::Stage;
use super::shared::{
    SETTING, agent_answers, agent_pid, another_agent, hammer, hammered, in_force, not_in_force,
};
use anyhow::{Result, ensure};

/// How often the agent is killed.
const KILLS: u32 = 3;

pub(super) fn play(stage: &mut Stage<'_>) -> Result<()> {
    stage.sh(SETTING)?;
    not_in_force(stage)?;
    stage.sh("fwnet up --port 10000")?;
    in_force(stage)?;

    hammer(stage)?;
    for _ in 0..KILLS {
        let pid = agent_pid(stage)?;
        stage.sh(&format!("kill -KILL {pid}"))?;
        another_agent(stage, &pid)?;
    }
    let rounds = hammered(stage)?;
    stage.hold(format!("killed {KILLS} times it comes back, and {rounds} saw no wrong verdict"));

    hammer(stage)?;
    stage.sh("systemctl stop fwnet-agent fwnet-boot")?;
    in_force(stage)?;
    stage.sh("systemctl start fwnet-boot fwnet-agent")?;
    agent_answers(stage)?;
    let pid = agent_pid(stage)?;
    stage.sh("systemctl reload fwnet-agent")?;
    stage.soon("systemctl is-active --quiet fwnet-agent")?;
    stage.prints("systemctl show --value --property MainPID fwnet-agent", &pid)?;
    stage.sh("systemctl restart fwnet-agent")?;
    another_agent(stage, &pid)?;
    let rounds = hammered(stage)?;
    stage.hold(format!("stopping, starting, reloading and restarting change nothing ({rounds})"));

    hammer(stage)?;
    let pid = agent_pid(stage)?;
    stage.sh("dpkg --install /root/later.deb")?;
    stage.prints("dpkg-query -W -f '${Version}' fwnet | grep -c later", "1")?;
    let now = agent_pid(stage)?;
    ensure!(now != pid, "the upgrade did not restart the agent");
    agent_answers(stage)?;
    let rounds = hammered(stage)?;
    in_force(stage)?;
    stage.hold(format!(
        "an upgrade of the package restarts the agent and changes nothing ({rounds})"
    ));

    stage.sh("fwnet down")?;
    not_in_force(stage)?;
    stage.soon("! systemctl is-active --quiet fwnet-agent")?;
    stage.sh("systemctl start fwnet-boot fwnet-agent")?;
    not_in_force(stage)?;
    stage.prints("systemctl is-active fwnet-agent", "inactive")?;
    stage.prints("systemctl list-units --failed --no-legend 'fwnet*'", "")?;
    stage.hold("after fwnet down the service stays down, also when it is started");
    Ok(())
}
