//! Whatever becomes of the agent of the service, verdicts stay: a client hammers meanwhile.

use super::Stage;
use super::shared::{SETTING, agent_answers, hammer, hammered, in_force};
use anyhow::{Result, ensure};

/// How often the agent is killed.
const KILLS: u32 = 5;

pub(super) fn play(stage: &mut Stage<'_>) -> Result<()> {
    stage.sh("fwnet up --port 10000")?;
    stage.sh(SETTING)?;
    in_force(stage)?;

    hammer(stage)?;
    for _ in 0..KILLS {
        let pid = stage.sh("systemctl show --value --property MainPID fwnet-agent")?;
        stage.sh(&format!("kill -KILL {pid}"))?;
        stage.soon(&format!(
            "systemctl is-active --quiet fwnet-agent && \
             test $(systemctl show --value --property MainPID fwnet-agent) != {pid}"
        ))?;
    }
    agent_answers(stage)?;
    let rounds = hammered(stage)?;
    stage.hold(format!("killed {KILLS} times it comes back, and {rounds} saw no wrong verdict"));

    hammer(stage)?;
    stage.sh("systemctl stop fwnet-agent fwnet-boot")?;
    in_force(stage)?;
    stage.sh("systemctl start fwnet-boot fwnet-agent")?;
    agent_answers(stage)?;
    stage.sh("systemctl reload fwnet-agent")?;
    stage.sh("systemctl restart fwnet-agent")?;
    agent_answers(stage)?;
    let rounds = hammered(stage)?;
    stage.hold(format!("stopping, starting, reloading and restarting change nothing ({rounds})"));

    hammer(stage)?;
    let before = stage.sh("systemctl show --value --property MainPID fwnet-agent")?;
    stage.sh("dpkg --install /root/later.deb")?;
    let after = stage.sh("systemctl show --value --property MainPID fwnet-agent")?;
    ensure!(before != after, "the upgrade did not restart the agent");
    agent_answers(stage)?;
    let rounds = hammered(stage)?;
    in_force(stage)?;
    stage.hold(format!(
        "an upgrade of the package restarts the agent and changes nothing ({rounds})"
    ));

    stage.sh("fwnet down")?;
    stage.prints("attempt 127.0.0.1 10000", "connected")?;
    stage.soon("! systemctl is-active --quiet fwnet-agent")?;
    stage.sh("sleep 3; ! systemctl is-active --quiet fwnet-agent")?;
    stage.hold("after fwnet down the service stays down");
    Ok(())
}
