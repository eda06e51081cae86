//! `fwnet run` as people start it: at the root of the cgroup tree, and in every network namespace.

use super::Stage;
use super::shared::{ATTACHED, LATE, SETTING};
use anyhow::{Result, ensure};

/// A port, and three addresses: one of nobody, the peer's, and the one that a later namespace sees of us.
const RUN: &str = "systemd-run --quiet --unit run fwnet run --port 10000 \
                   --deny 198.51.100.0/24 --deny 192.0.2.2 --deny 203.0.113.1";

pub(super) fn play(stage: &mut Stage<'_>) -> Result<()> {
    let doctor = stage.sh("fwnet doctor")?;
    ensure!(!doctor.contains("MISSING"), "{doctor}");
    stage.hold("every hook loads on Debian 12's own kernel");
    stage.sh(SETTING)?;
    stage.soon("attempt 127.0.0.1 10000 | grep -x connected")?;
    stage.soon("ip netns exec peer attempt 192.0.2.1 10001 | grep -x connected")?;
    let before = stage.sh(ATTACHED)?;
    stage.sh(RUN)?;
    stage.soon("journalctl -u run | grep 'fwnet: enforcing'")?;

    stage.prints("attempt 127.0.0.1 10000", "EACCES")?;
    stage.prints("attempt ::1 10000", "EACCES")?;
    stage.prints("attempt 198.51.100.7 1", "EACCES")?;
    stage.prints("attempt 127.0.0.1 10001", "connected")?;
    stage.hold("at the cgroup root: denied ports and addresses are refused, others are not");
    stage.prints("systemd-run -q --pipe --slice new.slice attempt 127.0.0.1 10000", "EACCES")?;
    stage.hold("a new slice and a new unit are judged without being told");
    stage.prints("ip netns exec peer attempt 192.0.2.1 10000", "EACCES")?;
    stage.prints("ip netns exec peer attempt 192.0.2.1 10001", "ECONNREFUSED")?;
    stage.hold("another namespace is judged when it connects, and a denied peer gets a reset");
    stage.sh(LATE)?;
    stage.prints("ip netns exec late attempt 203.0.113.1 10000", "EACCES")?;
    stage.soon("attempt 203.0.113.2 10001 | grep -x ECONNREFUSED")?;
    stage.hold("a namespace that was made later is judged in both directions");

    stage.sh("systemctl kill --signal INT run")?;
    stage.soon("! systemctl is-active --quiet run")?;
    let told = stage.sh("journalctl -u run -o cat")?;
    ensure!(told.contains("fwnet: removed"), "fwnet run did not say what it removed: {told}");
    stage.prints("attempt 127.0.0.1 10000", "connected")?;
    stage.prints("ip netns exec peer attempt 192.0.2.1 10001", "connected")?;
    let after = stage.sh(ATTACHED)?;
    ensure!(before == after, "before: {before}\nafter: {after}");
    stage.hold("when it ends, connections are as before and nothing is left in the kernel");
    Ok(())
}
