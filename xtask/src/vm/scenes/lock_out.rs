//! An administrator who comes in over the network cuts the branch, and sits on it again a moment later.

use super::Stage;
use super::shared::{SETTING, agent_answers};
use anyhow::{Result, ensure};

/// A key for root, and two policies: one that is fine, and one that nobody can come in under.
const REMOTE: &str = r"
set -e
mkdir -p /root/.ssh /run/sshd
ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519
cp /root/.ssh/id_ed25519.pub /root/.ssh/authorized_keys
systemctl start ssh
cat >/root/fine.fw <<'END'
tier team
mode enforce
deny any -> me : tcp/10000
failsafe 192.0.2.2 -> me : tcp/23
END
cat >/root/cut.fw <<'END'
tier team
mode enforce
deny any -> me : tcp/22
failsafe 192.0.2.2 -> me : tcp/23
END
";
/// From the peer, with a new connection.
const SSH: &str = "ip netns exec peer ssh -o BatchMode=yes -o StrictHostKeyChecking=no -o ConnectTimeout=5 -q 192.0.2.1";

pub(super) fn play(stage: &mut Stage<'_>) -> Result<()> {
    stage.sh(SETTING)?;
    stage.sh(REMOTE)?;
    stage.soon(&format!("{SSH} true"))?;
    stage.sh("fwnet up --policy /root/fine.fw")?;
    agent_answers(stage)?;
    stage.sh(&format!("{SSH} true"))?;

    let (code, text) =
        stage.try_sh(&format!("{SSH} fwnet apply /root/cut.fw --confirm 20s --yes"))?;
    ensure!(code != 0, "a policy that cuts the session was applied: {text}");
    stage.sh(&format!("{SSH} true"))?;
    stage.hold("a policy that would cut the session that applies it is refused");

    let script = format!("{SSH} fwnet apply /root/cut.fw --confirm 20s --yes --force");
    let said = stage.sh(&script)?;
    let (code, _) = stage.try_sh(&format!("{SSH} true"))?;
    ensure!(code != 0, "the policy is in force and a new session is let in; apply said: {said}");
    stage.hold("with --force it is in force: no new session comes in");
    // The programs in the kernel evaluate the deadline: nobody has to be there.
    stage.sh("systemctl stop fwnet-agent")?;
    stage.soon(&format!("{SSH} true"))?;
    stage.hold("and 20 s later one does, although the agent is gone");
    stage.sh("systemctl start fwnet-agent")?;
    agent_answers(stage)?;
    stage.sh(&format!("{SSH} true"))?;

    stage.sh("systemctl stop fwnet-agent && fwnet panic")?;
    let (code, _) = stage.try_sh(&format!("{SSH} true"))?;
    ensure!(code != 0, "a session is let in during lockdown");
    stage.prints("ip netns exec peer attempt 192.0.2.1 10001", "ECONNREFUSED")?;
    stage.hold("fwnet panic, without the agent: nobody comes in");
    stage.sh("fwnet resume")?;
    stage.sh(&format!("{SSH} true"))?;
    stage.hold("fwnet resume: the policy is in force again");
    Ok(())
}
