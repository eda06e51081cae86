//! The tier of the security hooks: what only it can refuse, and that nobody takes it away.

use super::Stage;
use super::shared::{LATE, SETTING};
use anyhow::{Result, ensure};

/// Rules about processes, and one about what writes its own packets.
const POLICY: &str = r"
cat >/root/lsm.fw <<'END'
tier team
mode enforce
inbound drop
deny any -> any[user=nobody] : tcp/10002
deny 192.0.2.2 -> any : tcp/10001
deny any -> any : 255/any
END
";
/// Ends `fwnet run`, and shows what it counted.
const END: &str = "systemctl kill --signal INT run; \
                   while systemctl is-active --quiet run; do sleep 0.1; done; journalctl -u run -o cat";

/// Starts `fwnet run` in a unit that is there when it enforces.
fn run(stage: &mut Stage<'_>, rules: &str) -> Result<()> {
    stage.sh(&format!(
        "journalctl --rotate --vacuum-time=1s -q; systemctl reset-failed run 2>/dev/null; \
         systemd-run --quiet --unit run fwnet run {rules}"
    ))?;
    stage.soon("journalctl -u run -o cat | grep 'fwnet: enforcing'").map(drop)
}

pub(super) fn play(stage: &mut Stage<'_>) -> Result<()> {
    let doctor = stage.sh("fwnet doctor")?;
    ensure!(doctor.contains("T1 (cgroup, sk_lookup and security hooks)"), "{doctor}");
    stage.hold("the tier loads");
    stage.sh(SETTING)?;
    stage.sh("systemctl stop denied")?;
    stage.soon("ip netns exec peer attempt 192.0.2.1 10001 | grep -x connected")?;

    ports(stage)?;
    processes(stage)?;
    errno_of_2015(stage)?;
    guarded(stage)
}

/// Ports and addresses: listen(), a namespace that nobody attached to, and each flow counted once.
fn ports(stage: &mut Stage<'_>) -> Result<()> {
    stage.sh("systemd-run --quiet --unit bound security listen 10000 /run/listen")?;
    stage.soon("test -e /run/listen.bound")?;
    run(stage, "--port 10000 --deny 192.0.2.2 --deny 203.0.113.1")?;
    stage.sh("touch /run/listen")?;
    stage.soon("test -e /run/listen.done")?;
    stage.prints("journalctl -u bound -o cat | grep -x -e ok -e 'E[A-Z]*'", "EACCES")?;
    stage.hold("listen() on a denied port is refused to a socket that was bound before");

    stage.prints("attempt 127.0.0.1 10000", "EACCES")?;
    stage.prints("security fast 127.0.0.1 10000", "EACCES")?;
    stage.sh("modprobe smc")?;
    stage.prints("security smc 127.0.0.1 10000", "EACCES")?;
    stage.prints("ip netns exec peer attempt 192.0.2.1 10001", "ECONNREFUSED")?;
    stage.hold("connect(), fast open and SMC are refused; a denied peer gets a reset");

    // While it is stopped it finds no namespace.
    stage.sh("systemctl kill --signal STOP run")?;
    stage.sh(LATE)?;
    stage.soon("ip netns exec late ss -Hltn | grep -q 10001")?;
    stage.prints("attempt 203.0.113.2 10001", "no answer")?;
    stage.hold("in a namespace that nobody attached to yet, a denied peer gets no answer");
    stage.sh("systemctl kill --signal CONT run")?;
    stage.soon("attempt 203.0.113.2 10001 | grep -x ECONNREFUSED")?;

    let told = stage.sh(END)?;
    for counted in ["port 10000 out: denied 3 times", "port 10000 in: denied 1 times"] {
        ensure!(told.contains(counted), "not {counted:?}: {told}");
    }
    ensure!(told.contains("deny 192.0.2.2 in: denied 1 times"), "{told}");
    stage.hold("each of them is counted once, whichever lock refused it");
    Ok(())
}

/// Whose the listener is and who accepts, and sockets that write their own packets.
fn processes(stage: &mut Stage<'_>) -> Result<()> {
    stage.sh(POLICY)?;
    run(stage, "--policy /root/lsm.fw")?;
    stage.prints("ip netns exec peer attempt 192.0.2.1 10001", "no answer")?;
    stage.hold("with `inbound drop` a denied peer gets no answer");
    stage.sh("systemd-run --quiet --unit passed security passed 10002 nobody")?;
    stage.soon("journalctl -u passed -o cat | grep -x 'EPERM EINVAL'")?;
    stage.hold("accept() on a passed listener is refused, and the listener is ended: nobody spins");
    stage.prints("security packet", "EACCES")?;
    stage.hold("a packet socket is refused where a rule denies what writes its own packets");
    stage.sh(END).map(drop)
}

/// What the module of 2015 did.
fn errno_of_2015(stage: &mut Stage<'_>) -> Result<()> {
    run(stage, "--port 10000 --accept-errno EIO")?;
    stage.prints("security accept 10000 2", "ok EIO waits")?;
    stage.hold("--accept-errno EIO: listen() works, accept() ends with EIO, and again it waits");
    stage.sh(END).map(drop)
}

/// A root process that is not fwnet.
fn guarded(stage: &mut Stage<'_>) -> Result<()> {
    stage.sh("fwnet up --port 10000")?;
    let told = stage.sh("security tamper /sys/fs/bpf/fwnet")?;
    let tries = ["detach", "replace", "write", "unpin", "rename", "move"];
    for tried in tries {
        ensure!(told.contains(&format!("{tried}: EPERM")), "{tried}: {told}");
    }
    ensure!(told.lines().any(|line| line.starts_with("open by number:") && line.contains("EPERM")));
    stage.prints("attempt 127.0.0.1 10000", "EACCES")?;
    let status = stage.sh("fwnet status")?;
    ensure!(status.contains("attempts of other programs"), "{status}");
    stage.hold("another root process takes nothing away: no link, no map, no pin; status says so");
    stage.sh("fwnet deny add tcp/10005")?;
    stage.prints("attempt 127.0.0.1 10005", "EACCES")?;
    // As an upgrade does it.
    stage.sh("cp /usr/bin/fwnet /usr/bin/fwnet.new && mv /usr/bin/fwnet.new /usr/bin/fwnet")?;
    stage.sh("fwnet deny add tcp/10006")?;
    stage.prints("attempt 127.0.0.1 10006", "EACCES")?;
    stage.sh("fwnet down")?;
    stage.prints("attempt 127.0.0.1 10006", "ECONNREFUSED")?;
    stage.prints("bpftool prog list | grep -c 'name socket_connect'", "0")?;
    stage.hold("fwnet itself updates and ends, also from a file that took the place of its own");
    Ok(())
}
