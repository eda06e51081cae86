//! The tests of policies: run, and told with the rule that made another verdict.

use std::fmt::Write as _;

use policy::{Checked, TestResult, run_tests};
use serde_json::{Value, json};

use crate::documents::Documents;

/// Runs the tests of sound policies.
///
/// # Errors
/// If a host's image does not fit, so that nothing can be judged there.
pub(crate) fn run(documents: &Documents) -> anyhow::Result<Vec<TestResult>> {
    Ok(run_tests(&documents.checked, &documents.inventory, documents.now)?)
}

/// The failed tests, and a line that counts; empty if there are no tests.
pub(crate) fn text(results: &[TestResult], checked: &Checked) -> String {
    let mut out = String::new();
    let mut line = |text: std::fmt::Arguments<'_>| {
        out.write_fmt(text).expect("writing to a String cannot fail");
        out.push('\n');
    };
    for result in results.iter().filter(|result| !result.passed) {
        line(format_args!("FAILED  {}  ({}:{})", result.text, result.file, result.line));
        if let Some(fault) = &result.fault {
            line(format_args!("        {fault}"));
        }
        for flow in &result.flows {
            line(format_args!(
                "        {} is {} at {} by {}{}: {}",
                flow.flow,
                participle(flow.verdict),
                flow.host,
                flow.rule,
                place(checked, &flow.rule),
                flow.rule_text,
            ));
        }
        let more = result.failed.saturating_sub(result.flows.len() as u64);
        if more > 0 {
            line(format_args!("        and {more} more kinds of flows"));
        }
    }
    if !results.is_empty() {
        let failed = results.iter().filter(|result| !result.passed).count();
        line(format_args!("{} tests passed, {failed} failed", results.len() - failed));
    }
    out
}

fn participle(verdict: &str) -> &str {
    if verdict == "allow" { "allowed" } else { "denied" }
}

/// " (file:line)" of a rule by its id; nothing for what is built in or a default.
fn place(checked: &Checked, id: &str) -> String {
    found(checked, id).map_or_else(String::new, |(file, line)| format!(" ({file}:{line})"))
}

fn found<'a>(checked: &'a Checked, id: &str) -> Option<(&'a str, u32)> {
    for policy in &checked.policies {
        if let Some(rule) = policy.rules().find(|rule| rule.id == id) {
            let (file, _) = checked.sources().get(policy.source)?;
            return Some((file, checked.position(policy.source, rule.rule.span)?.line));
        }
    }
    None
}

/// All results, each failed flow with the place of its rule.
pub(crate) fn to_json(results: &[TestResult], checked: &Checked) -> Value {
    let mut value = json!(results);
    let tests = value.as_array_mut().into_iter().flatten();
    for flow in tests.filter_map(|test| test["flows"].as_array_mut()).flatten() {
        let place = flow["rule"].as_str().and_then(|id| found(checked, id));
        flow["rule_file"] = json!(place.map(|(file, _)| file));
        flow["rule_line"] = json!(place.map(|(_, line)| line));
    }
    value
}
