//! `fwnet who-can-reach HOST:PORT`: every source that both ends let through, with the rules that do.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use policy::{
    Checked,
    analysis::{self, Decider, Reach, services},
};
use serde_json::{Value, json};

use crate::{
    answer::{exit, finding_if, print, print_json},
    cli::Output,
    documents::Given,
    groups::{self, Asked},
};

/// Command line of `fwnet who-can-reach`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    /// A host or an address, and a port: `db-1:5432`, `[2001:db8::1]:22`, `db-1:udp/53`, `db-1:any`
    #[arg(value_name = "HOST:PORT")]
    target: String,
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    asked: Asked,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Exit code 0 if somebody can, 1 if nobody can, 2 if there is no answer.
pub(crate) fn run(typed: &Typed) -> ExitCode {
    exit(who_can_reach(typed))
}

fn who_can_reach(typed: &Typed) -> anyhow::Result<u8> {
    let (host, service) = split(&typed.target)
        .with_context(|| format!("`{}` is not HOST:PORT, such as db-1:5432", typed.target))?;
    let documents = typed.given.sound()?;
    let checked = &documents.checked;
    let question = typed.asked.question(&documents);
    let asked = services(&checked.policies, &service)?;
    let reach = analysis::who_can_reach(&checked.policies, &question, host, &asked)?;
    match typed.output {
        Output::Text => print(&text(&reach, &typed.target, checked))?,
        Output::Json => print_json(&to_json(&reach, checked))?,
    }
    Ok(finding_if(reach.sources.is_empty()))
}

/// Host and service. A bare port is TCP's, as everywhere on command lines.
fn split(target: &str) -> Option<(&str, String)> {
    let (host, port) = target.rsplit_once(':')?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    // Half an IPv6 address is not a host.
    let host =
        bracketed.or((!host.contains(':')).then_some(host)).filter(|host| !host.is_empty())?;
    let is_port =
        !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let service = if is_port { format!("tcp/{port}") } else { port.to_owned() };
    (!service.is_empty()).then_some((host, service))
}

fn text(reach: &Reach, target: &str, checked: &Checked) -> String {
    let mut out = String::new();
    for source in &reach.sources {
        let from = groups::end(&reach.groups, source.from, &source.from_processes);
        let to = groups::end(&reach.groups, source.to, &source.to_processes);
        let by = |decider: &Option<Decider>| {
            decider.as_ref().map_or("nobody judges".to_owned(), |rule| groups::named(rule, checked))
        };
        out.push_str(&format!(
            "{from} -> {to} : {}{}\n    out: {}, in: {}\n    such as {}\n",
            source.services.join(", "),
            groups::related(source.relation),
            by(&source.out),
            by(&source.into),
            groups::example(&source.example),
        ));
    }
    if reach.sources.is_empty() {
        out.push_str(&format!("nobody can reach {target}\n"));
    }
    let used = reach.sources.iter().flat_map(|source| [source.from, source.to]);
    out.push_str(&groups::legend(&reach.groups, used));
    out.push_str(&groups::unplaced(&reach.unplaced));
    out
}

/// The answer, its rules with their places.
fn to_json(reach: &Reach, checked: &Checked) -> Value {
    let mut value = json!(reach);
    if let Some(sources) = value["sources"].as_array_mut() {
        for (shown, source) in sources.iter_mut().zip(&reach.sources) {
            let rule = |decider: &Option<Decider>| {
                decider.as_ref().map(|decider| groups::decider_json(decider, checked))
            };
            shown["out"] = json!(rule(&source.out));
            shown["into"] = json!(rule(&source.into));
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_host_and_a_service() {
        let split = |text| split(text).map(|(host, service)| format!("{host} {service}"));
        assert_eq!(split("db-1:5432").as_deref(), Some("db-1 tcp/5432"));
        assert_eq!(split("[2001:db8::1]:22").as_deref(), Some("2001:db8::1 tcp/22"));
        assert_eq!(split("db-1:udp/53").as_deref(), Some("db-1 udp/53"));
        assert_eq!(split("db-1:8000-8010").as_deref(), Some("db-1 tcp/8000-8010"));
        for fault in ["db-1", "db-1:", ":22", "2001:db8::1:22", "[]:1", ""] {
            assert_eq!(split(fault), None, "{fault}");
        }
    }
}
