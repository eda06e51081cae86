//! Very many hosts through the controller's serving code, without sockets (`crates/controller/examples/scale.rs`).

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::figures::Figures;
use crate::step::{output, timed};
use crate::workspace;

/// A policy of some 1 KiB: rules of roles, beside the one that is everybody's.
const RULES: u32 = 14;
/// Rules that are changed, one after the other.
const EDITS: u32 = 3;
/// Processor seconds of one change for everybody, at a million hosts.
const CHANGE_S: f64 = 8.0;
/// What is kept of each host that is connected.
const STATE_BYTES: f64 = 300.0;

/// Measures it.
pub(super) fn measure(hosts: u32, figures: &mut Figures) -> Result<()> {
    let mut example = workspace::cargo();
    example.args(["run", "--quiet", "--release", "--package", "controller", "--example", "scale"]);
    example.args(["--", &hosts.to_string(), &RULES.to_string(), &EDITS.to_string()]);
    let report = timed(&format!("{hosts} virtual hosts"), || output(&mut example))?;
    let report: Value = serde_json::from_str(&report).context("what the example says")?;
    let part = figures.part(&format!("{hosts} virtual hosts"));
    let of = |step: &Value| -> Option<[f64; 4]> {
        let order = step.get("order_s")?.as_f64()?;
        let (commit, serve) = (step.get("commit_s")?.as_f64()?, step.get("serve_s")?.as_f64()?);
        Some([order + commit + serve, order, commit, serve])
    };
    let steps = |name: &str| -> Result<Vec<[f64; 4]>> {
        let steps = report.get(name).and_then(Value::as_array).context("steps")?;
        steps.iter().map(|step| of(step.get("took").unwrap_or(step)).context("a step")).collect()
    };
    let changes = steps("global_change")?;
    let column = |steps: &[[f64; 4]], at: usize| -> Vec<f64> {
        steps.iter().filter_map(|step| step.get(at).copied()).collect()
    };
    part.expected("a change for everybody", "core-s", &column(&changes, 0), CHANGE_S);
    part.all("of that the order", "core-s", &column(&changes, 1));
    part.all("of that taking it over, telling", "core-s", &column(&changes, 2));
    part.all("of that answering and hearing", "core-s", &column(&changes, 3));
    let connect = report.get("connect").and_then(of).context("connecting")?;
    part.one("all connect and get everything", "core-s", connect[3]);
    let bytes = report.get("state_bytes_per_host").and_then(Value::as_f64).context("bytes")?;
    part.expected("state, one host", "bytes", &[bytes], STATE_BYTES);
    let edits = report.get("rule_edits").and_then(Value::as_array).context("edits")?;
    for (number, edit) in (1..).zip(edits) {
        let count = |name: &str| edit.get(name).and_then(Value::as_f64).context("a count");
        let what = format!("hosts told of edit {number} of a rule");
        part.exact(&what, "", count("expected")?, count("found")?);
    }
    part.all("an edit of a rule", "core-s", &column(&steps("rule_edits")?, 0));
    Ok(())
}
