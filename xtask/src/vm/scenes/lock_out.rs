//! An administrator who comes in over the network cuts the branch, and sits on it again a moment later.

use super::Stage;
use super::shared::{SETTING, agent_answers, agent_pid, another_agent};
use anyhow::{Result, ensure};

/// A key for root, and two policies: one that is fine, and one that does not let the peer come in.
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
failsafe 192.0.2.9 -> me : tcp/22
END
cat >/root/cut.fw <<'END'
tier team
mode enforce
deny 192.0.2.2 -> me : tcp/22
failsafe 192.0.2.9 -> me : tcp/22
END
";
/// From the peer, with a new connection. An emulated machine takes its time to exchange keys.
const SSH: &str = "ip netns exec peer ssh -o BatchMode=yes -o StrictHostKeyChecking=no \
                   -o ConnectTimeout=60 -o LogLevel=ERROR 192.0.2.1";
/// Seconds after which a policy that nobody confirms goes back.
const CONFIRM: u64 = 20;

/// What happens to the agent before the deadline.
const FATES: [(&str, &str); 3] = [
    ("true", "the agent takes it back"),
    ("systemctl kill --signal KILL fwnet-agent", "also if it was killed meanwhile"),
    ("systemctl stop fwnet-agent", "also if it is gone: the programs in the kernel know the time"),
];

pub(super) fn play(stage: &mut Stage<'_>) -> Result<()> {
    stage.sh(SETTING)?;
    stage.sh(REMOTE)?;
    let login = format!("{SSH} true");
    stage.soon(&login)?;
    stage.sh("fwnet up --policy /root/fine.fw")?;
    stage.sh(&login)?;

    let apply = format!("{SSH} fwnet apply /root/cut.fw --confirm {CONFIRM}s --yes");
    let (code, text) = stage.try_sh(&apply)?;
    ensure!(code == 1 && text.contains("denies the session"), "exit code {code}: {text}");
    stage.sh(&login)?;
    stage.hold("over SSH, a policy that would cut the session that applies it is refused");

    for (fate, told) in FATES {
        agent_answers(stage)?;
        let pid = agent_pid(stage)?;
        // In one go: a slow machine has to be done before the deadline.
        let said = stage.sh(&format!(
            "set -e; {apply} --force; ! {login}; {fate}; ip netns exec peer attempt 192.0.2.1 22"
        ))?;
        let refused = said.contains("port 22: Connection refused");
        ensure!(refused && said.ends_with("ECONNREFUSED"), "{fate}: {said}");
        stage.soon(&login)?;
        stage.hold(format!("with --force nobody comes in until the {CONFIRM} s are over: {told}"));
        match fate {
            "true" => {}
            "systemctl stop fwnet-agent" => stage.sh("systemctl start fwnet-agent").map(drop)?,
            _ => another_agent(stage, &pid)?,
        }
        let status = agent_answers(stage)?;
        ensure!(status.contains("fine.fw") && !status.contains("on trial"), "{status}");
        stage.sh(&login)?;
    }

    for stop in ["true", "systemctl stop fwnet-agent"] {
        stage.sh(stop)?;
        stage.sh("fwnet panic")?;
        let (code, _) = stage.try_sh(&login)?;
        ensure!(code == 255, "a session is let in during lockdown");
        stage.prints("attempt 127.0.0.1 10001", "connected")?;
        stage.sh("fwnet resume")?;
        stage.sh(&login)?;
    }
    stage.hold("fwnet panic lets nobody in, with an agent and without; fwnet resume does again");
    Ok(())
}
