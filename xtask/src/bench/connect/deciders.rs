//! Rivals that ask a program in user space about each connection, or tell one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;
use testbed::Running;

use super::files::denied;
use super::stage::{Clients, DEADLINE, Stage};
use crate::{packages, step};

/// How long is waited for what a rival does, and how often is looked.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// The first packet of each connection goes to queue 0; what nobody takes from it passes.
const QUEUE_RULE: [&str; 10] =
    ["OUTPUT", "-p", "tcp", "--syn", "-j", "NFQUEUE", "--queue-num", "0", "--queue-bypass", "-w"];

/// Puts NFQUEUE before the smallest program that takes from it.
pub(super) fn queue(stage: &Stage) -> Result<Running> {
    let mut command = stage.host.namespace.command(stage.rival("nfqueue")?);
    command.arg(denied());
    let decider = Running::start(command);
    decider.wait_for_line("ready", DEADLINE);
    let mut iptables = stage.host.namespace.command("iptables-legacy");
    step::run(iptables.arg("-A").args(QUEUE_RULE))?;
    Ok(decider)
}

/// Takes NFQUEUE away again; the program ends with its value.
pub(super) fn unqueue(stage: &Stage) -> Result<()> {
    let mut iptables = stage.host.namespace.command("iptables-legacy");
    step::run(iptables.arg("-D").args(QUEUE_RULE))
}

/// Measured processes under a seccomp filter with a deciding program each.
pub(super) fn notified(stage: &Stage) -> Result<Clients> {
    let decider = stage.rival("seccomp")?.display().to_string();
    stage.clients(&[&decider, &denied()], [60_010, 60_011])
}

/// Debian's audit daemon with a rule about connect(), which is the whole machine's: it is there during one measurement.
pub(super) struct Audit {
    daemon: Running,
    auditctl: PathBuf,
    log: PathBuf,
    rule: Vec<String>,
    /// `enabled` and `backlog_limit` from before.
    before: [String; 2],
}

/// Waiting records that are kept: what Debian's rules begin with (`/etc/audit/rules.d/audit.rules`).
const BACKLOG: &str = "8192";

impl Audit {
    pub(super) fn begin(stage: &Stage) -> Result<Self> {
        let package = packages::unpacked("auditd")?;
        let auditctl = package.join("sbin/auditctl");
        let status = step::output(Command::new(&auditctl).arg("-s"))?;
        let [pid, enabled, backlog] =
            ["pid", "enabled", "backlog_limit"].map(|it| field(&status, it));
        ensure!(
            pid.as_deref() == Some("0"),
            "an audit daemon runs on this machine: it is left alone"
        );
        let before = [enabled.context("enabled")?, backlog.context("backlog_limit")?];
        let directory = stage.residence.directory().join("audit");
        fs::create_dir_all(&directory).context("a directory for the audit daemon")?;
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).context("its mode")?;
        let log = directory.join("audit.log");
        let debian =
            fs::read_to_string(package.join("etc/audit/auditd.conf")).context("its settings")?;
        let settings = debian
            .replace("/var/log/audit/audit.log", &log.display().to_string())
            .replace("/etc/audit/plugins.d", &directory.display().to_string());
        fs::write(directory.join("auditd.conf"), settings).context("write its settings")?;
        let mut command = stage.desk.command(package.join("sbin/auditd"));
        command.args(["-n", "-s", "enable", "-c"]).arg(&directory);
        let daemon = Running::start(command);
        let pid = daemon.pid().to_string();
        let client = fs::canonicalize(stage.client_program()).context("the measured program")?;
        let client = client.display();
        let rule =
            ["always,exit", "-F", "arch=b64", "-S", "connect", "-F", &format!("exe={client}")];
        let rule = rule.map(str::to_owned).to_vec();
        let audit = Self { daemon, auditctl, log, rule, before };
        until("the audit daemon to be the kernel's", || {
            audit.ask(&["-s"]).is_ok_and(|status| field(&status, "pid") == Some(pid.clone()))
        })?;
        audit.ask(&["-b", BACKLOG])?;
        let add: Vec<_> = ["-a"].into_iter().chain(audit.rule.iter().map(String::as_str)).collect();
        audit.ask(&add)?;
        Ok(audit)
    }

    fn ask(&self, words: &[&str]) -> Result<String> {
        step::output(Command::new(&self.auditctl).args(words))
    }

    /// Waits until it has told of connections of the measured program.
    pub(super) fn told(&self) -> Result<()> {
        until("the audit daemon to tell of a connection", || {
            fs::read(&self.log).is_ok_and(|log| {
                String::from_utf8_lossy(&log).lines().any(|line| {
                    line.starts_with("type=SYSCALL") && line.contains("comm=\"tcpcost\"")
                })
            })
        })
    }

    /// Takes the rule away and lets the kernel audit as it did before.
    fn restore(&self) -> Result<()> {
        let delete: Vec<_> =
            ["-d"].into_iter().chain(self.rule.iter().map(String::as_str)).collect();
        let deleted = self.ask(&delete);
        let [enabled, backlog] = &self.before;
        let restored = self.ask(&["-e", enabled]).and_then(|_| self.ask(&["-b", backlog]));
        deleted.and(restored).map(drop)
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        if let Err(error) = self.restore() {
            eprintln!("auditing is not as it was: {error:#}");
        }
        self.daemon.signal(Signal::TERM);
        self.daemon.wait(DEADLINE);
    }
}

/// Measured processes that the audit daemon may be told of.
pub(super) fn audited(stage: &Stage) -> Result<Clients> {
    stage.clients(&[], [60_012, 60_013])
}

/// Waits for a rival's doing, which may never come.
fn until(what: &str, done: impl FnMut() -> bool) -> Result<()> {
    let mut done = done;
    let begun = Instant::now();
    while !done() {
        ensure!(begun.elapsed() < PATIENCE, "waited {} s in vain for {what}", PATIENCE.as_secs());
        thread::sleep(LOOK_INTERVAL);
    }
    Ok(())
}

/// A line of what `auditctl -s` prints.
fn field(status: &str, name: &str) -> Option<String> {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    Some(value.trim().to_owned())
}

/// What OpenSnitch is told: everything is allowed.
const ALLOW: &str = r#"{"name": "allow", "enabled": true, "precedence": false, "action": "allow", "duration": "always",
    "operator": {"type": "simple", "operand": "true", "sensitive": false, "data": ""}}"#;

/// OpenSnitch as Debian has it, with two rules and without its window.
pub(super) fn opensnitch(stage: &Stage) -> Result<Running> {
    let package = packages::unpacked("opensnitch")?;
    let directory = stage.residence.directory().join("opensnitch");
    let rules = directory.join("rules");
    let settings = directory.join("etc/opensnitchd");
    for made in [&rules, &settings] {
        fs::create_dir_all(made).context("a directory for OpenSnitch")?;
    }
    let debian = package.join("etc/opensnitchd");
    let text = fs::read_to_string(debian.join("default-config.json")).context("its settings")?;
    // Nobody is to be asked, and its messages are ours.
    let text = text
        .replace("/tmp/osui.sock", &directory.join("window.sock").display().to_string())
        .replace("/var/log/opensnitchd.log", &directory.join("log").display().to_string());
    fs::write(settings.join("default-config.json"), text).context("write its settings")?;
    fs::copy(debian.join("system-fw.json"), settings.join("system-fw.json"))
        .context("its settings")?;
    fs::write(rules.join("allow.json"), ALLOW).context("write a rule")?;
    let deny = format!(
        r#"{{"name": "deny", "enabled": true, "precedence": true, "action": "deny", "duration": "always",
    "operator": {{"type": "simple", "operand": "dest.ip", "sensitive": false, "data": "{}"}}}}"#,
        denied()
    );
    fs::write(rules.join("deny.json"), deny).context("write a rule")?;
    // It reads its settings in /etc and nowhere else: it gets an /etc of its own.
    let script = "mount -t overlay overlay -o lowerdir=\"$1\":/etc /etc && shift && exec \"$@\"";
    let mut command = stage.desk.command("nsenter");
    command.arg(format!("--net={}", stage.host.namespace.path().display()));
    command.args(["--", "unshare", "--mount", "sh", "-c", script, "sh"]);
    command.arg(directory.join("etc")).arg(package.join("usr/bin/opensnitchd"));
    command.args(["-process-monitor-method", "proc", "-rules-path"]).arg(&rules);
    let mut daemon = Running::start(command);
    let decides = until("OpenSnitch to decide", || {
        daemon.exit_status().is_some() || stage.probe().is_ok_and(|code| code != 0)
    });
    if let Some(status) = daemon.exit_status() {
        bail!("opensnitchd ended with {status}: {}", daemon.lines().join("; "));
    }
    if let Err(error) = decides {
        let said = fs::read_to_string(directory.join("log")).unwrap_or_default();
        end_opensnitch(stage, daemon)?;
        let last: Vec<_> = said.lines().rev().take(3).collect();
        return Err(error.context(last.join("; ")));
    }
    Ok(daemon)
}

/// Ends it; it takes its rules away by itself, and what it leaves goes here.
pub(super) fn end_opensnitch(stage: &Stage, mut daemon: Running) -> Result<()> {
    if daemon.exit_status().is_none() {
        daemon.signal(Signal::TERM);
        daemon.wait(DEADLINE);
    }
    step::run(stage.host.namespace.command("nft").args(["flush", "ruleset"]))?;
    for table in ["mangle", "filter"] {
        step::run(stage.host.namespace.command("iptables-legacy").args(["-w", "-t", table, "-F"]))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_auditing_is_read() {
        let status =
            "enabled 0\npid 17\nbacklog_limit 64\nbacklog 0\nloginuid_immutable 0 unlocked\n";
        assert_eq!(field(status, "pid").as_deref(), Some("17"));
        assert_eq!(field(status, "backlog").as_deref(), Some("0"));
        assert_eq!(field(status, "enabled").as_deref(), Some("0"));
        assert_eq!(field(status, "lost"), None);
    }
}
