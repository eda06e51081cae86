//! `fwnet fleet status`: whether every host has what it should have, and who has not and why.

use std::{thread, time::Duration};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use serde_json::Value;

use super::reached::{Answer, Fleet, Reached};
use crate::{
    answer::{self, FINDING, FINE},
    cli::Output,
};

/// Command line of `fwnet fleet status`.
#[derive(Debug, Args)]
pub(super) struct Typed {
    /// Wait until every host has what it should have, or a rollout is halted
    #[arg(long)]
    wait: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// What is read of the answer.
#[derive(Debug, Deserialize)]
struct Status {
    version: Option<u64>,
    fresh_until: Option<String>,
    hosts: usize,
    connected: usize,
    versions: Vec<Far>,
    laggards: Vec<Laggard>,
    quarantined: Vec<String>,
    rollout: Option<Rollout>,
    failing: Vec<Failing>,
    failing_hosts: Vec<FailingHost>,
    relays: Vec<(String, usize)>,
    all_realised: bool,
}

#[derive(Debug, Deserialize)]
struct Far {
    version: u64,
    hosts: usize,
    pending: usize,
    in_progress: usize,
    realised: usize,
    refused: usize,
}

#[derive(Debug, Deserialize)]
struct Laggard {
    host: String,
    version: u64,
    state: String,
    why: Option<String>,
    told_s: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Rollout {
    from: u64,
    to: u64,
    state: Value,
    confirm_until: String,
    canaries: usize,
}

#[derive(Debug, Deserialize)]
struct Failing {
    test: String,
    since: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct FailingHost {
    host: String,
    failing: String,
}

/// The version that was tried last was halted.
const HALTED: u8 = 3;

/// How often it is asked while waiting.
const AGAIN: Duration = Duration::from_millis(500);

/// Exit code 0 if every host has what it should have, 1 if one lags, refuses it, or a test fails, 3 if the newest version
/// was tried and halted.
pub(super) fn run(reached: &Reached, typed: &Typed) -> anyhow::Result<u8> {
    let fleet = reached.fleet()?;
    let (value, status) = match asked(&fleet)? {
        Answer::Said(value) => value,
        Answer::Refused => return Ok(FINDING),
    };
    let (value, status) = match typed.wait && !status.is_settled() {
        true => waited(&fleet, status)?,
        false => (value, status),
    };
    match typed.output {
        Output::Json => answer::print_json(&value)?,
        Output::Text => answer::print(&status.text())?,
    }
    Ok(status.code())
}

fn asked(fleet: &Fleet) -> anyhow::Result<Answer<(Value, Status)>> {
    Ok(match fleet.get::<Value>("/v1/fleet/status")? {
        Answer::Said(value) => {
            let status = serde_json::from_value(value.clone())?;
            Answer::Said((value, status))
        }
        Answer::Refused => Answer::Refused,
    })
}

/// Asks again and again. A controller that is gone for a moment is waited for.
fn waited(fleet: &Fleet, mut status: Status) -> anyhow::Result<(Value, Status)> {
    let style = ProgressStyle::with_template("{msg} {bar:40} {pos}/{len} hosts {elapsed}")?;
    let bar = ProgressBar::new(status.hosts as u64).with_style(style);
    loop {
        bar.set_length(status.hosts as u64);
        bar.set_position(status.versions.iter().map(|it| it.realised as u64).sum());
        bar.set_message(format!("version {}", status.version.unwrap_or(0)));
        thread::sleep(AGAIN);
        if let Ok(Answer::Said((value, now))) = asked(fleet) {
            status = now;
            if status.is_settled() {
                bar.finish_and_clear();
                return Ok((value, status));
            }
        }
    }
}

impl Status {
    /// Whether waiting any longer would change nothing by itself: after a rollout that was halted, hosts that are not
    /// connected any more, and those that refuse what they should have, are not waited for.
    fn is_settled(&self) -> bool {
        let is_open = self.rollout.as_ref().is_some_and(|it| it.state == "canary");
        let is_over =
            |laggard: &Laggard| laggard.state == "not-connected" || laggard.state == "refused";
        !is_open && (self.all_realised || self.is_halted() && self.laggards.iter().all(is_over))
    }

    /// Whether the newest version was tried and halted.
    fn is_halted(&self) -> bool {
        let halted =
            |it: &Rollout| it.why_halted().is_some() && self.version.is_none_or(|now| now < it.to);
        self.rollout.as_ref().is_some_and(halted)
    }

    fn code(&self) -> u8 {
        let fails = !self.failing.is_empty() || !self.failing_hosts.is_empty();
        match (self.is_halted(), self.all_realised && !fails) {
            (true, _) => HALTED,
            (false, true) => FINE,
            (false, false) => FINDING,
        }
    }

    fn text(&self) -> String {
        let mut lines = vec![match self.version {
            Some(version) => format!(
                "version {version} is current, fresh until {}",
                self.fresh_until.as_deref().unwrap_or("nobody knows when")
            ),
            None => "no version has been applied yet".to_owned(),
        }];
        lines.push(format!("{} hosts enrolled, {} connected", self.hosts, self.connected));
        for Far { version, hosts, pending, in_progress, realised, refused } in &self.versions {
            lines.push(format!(
                "version {version}: {realised} of {hosts} have it, {pending} pending, {in_progress} in progress, {refused} refuse it"
            ));
        }
        lines.extend(self.rollout.as_ref().map(rollout));
        lines.extend(self.laggards.iter().map(laggard));
        lines.extend(self.quarantined.iter().map(|host| format!("{host} is quarantined")));
        for Failing { test, since } in &self.failing {
            lines.push(format!("test fails: {test}"));
            lines.extend(since.iter().map(|what| format!("  after: {what}")));
        }
        for FailingHost { host, failing } in &self.failing_hosts {
            lines.push(format!("tests fail on {host}: {failing}"));
        }
        lines
            .extend(self.relays.iter().map(|(name, hosts)| format!("relay {name}: {hosts} hosts")));
        lines.iter().map(|line| format!("{line}\n")).collect()
    }
}

impl Rollout {
    fn why_halted(&self) -> Option<&str> {
        self.state.get("halted").and_then(Value::as_str)
    }
}

fn rollout(rollout: &Rollout) -> String {
    let Rollout { from, to, state, confirm_until, canaries } = rollout;
    if let Some(why) = rollout.why_halted() {
        return format!("version {to} was halted, version {from} goes on: {why}");
    }
    match state.as_str() {
        Some("canary") => {
            format!("version {to} is tried by {canaries} hosts until {confirm_until}")
        }
        Some(_) | None => format!("version {to} was tried and confirmed"),
    }
}

fn laggard(laggard: &Laggard) -> String {
    let Laggard { host, version, state, why, told_s } = laggard;
    let state = state.replace('-', " ");
    let since = told_s.map(|told| format!(" for {told} s")).unwrap_or_default();
    let why = why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("{host} lags behind version {version}: {state}{since}{why}")
}
