//! `fwnet check`: everything that can be wrong with policies before they are enforced. Syntax, meaning, tests, lock-out,
//! and whether they fit into an image on each host.

use std::{fmt::Write as _, process::ExitCode};

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use policy::{Compiled, Diagnostic, Facts, Note, Severity, TestResult, compile};
use serde_json::{Value, json};

use crate::{
    answer::{ERROR, exit, finding_if, print, print_json},
    cli::Output,
    documents::{Documents, Given},
    lockout::Lockout,
    names::known_at,
    size::Size,
    trial,
};

/// Command line of `fwnet check`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    #[command(flatten)]
    given: Given,
    /// Compile for this host only (repeatable); without it for every host of the inventory
    #[arg(long, value_name = "ID")]
    host: Vec<String>,
    /// How what is wrong is shown: with carets; one line each; or as a SARIF 2.1.0 log
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// How diagnostics are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// file:line:column: severity[code]: message
    Short,
    /// For code hosts and editors
    Sarif,
}

/// Hosts that one check compiles for; those beyond are counted and said to be left out.
const HOSTS_MAX: usize = 256;

/// Exit code 0 if nothing is wrong, 1 if there is a finding (a failed test, a lock-out, an image that does not fit), 2 if
/// the policies have errors or cannot be read.
pub(crate) fn run(typed: &Typed) -> ExitCode {
    exit(check(typed))
}

fn check(typed: &Typed) -> anyhow::Result<u8> {
    let documents = typed.given.check()?;
    if documents.checked.diagnostics.has_errors() {
        match typed.output {
            Output::Text => print(&shown(typed.format, &documents))?,
            Output::Json => print_json(&diagnostics_json(&documents))?,
        }
        return Ok(ERROR);
    }
    let findings = Findings::of(typed, &documents)?;
    match (typed.output, typed.format) {
        (Output::Json, _) => print_json(&findings.to_json(&documents))?,
        (Output::Text, Format::Sarif) => {
            print(&documents.checked.sarif())?;
            eprint!("{}", findings.text(&documents));
        }
        (Output::Text, Format::Text | Format::Short) => {
            print(&(shown(typed.format, &documents) + &findings.text(&documents)))?;
        }
    }
    Ok(finding_if(findings.found()))
}

fn shown(format: Format, documents: &Documents) -> String {
    match format {
        Format::Text if documents.checked.diagnostics.reported().is_empty() => String::new(),
        Format::Text => documents.checked.render(),
        Format::Short => documents.checked.short(),
        Format::Sarif => documents.checked.sarif(),
    }
}

/// What the policies are on one host.
struct AtHost {
    id: String,
    compiled: Result<Compiled, String>,
}

/// What is found in policies that have no errors.
struct Findings {
    hosts: Vec<AtHost>,
    left_out: usize,
    lockout: Lockout,
    tests: Vec<TestResult>,
    /// Why the tests could not be run: some image does not fit, which is a finding already.
    untested: Option<String>,
}

impl Findings {
    fn of(typed: &Typed, documents: &Documents) -> anyhow::Result<Self> {
        let all = documents.inventory.hosts();
        let (ids, left_out) = if !typed.host.is_empty() {
            let named = typed.host.iter().map(|host| documents.host(Some(host)));
            (named.collect::<anyhow::Result<Vec<_>>>()?, 0)
        } else if all.is_empty() {
            (vec![documents.host(None)?], 0)
        } else {
            let ids = all.iter().take(HOSTS_MAX).map(|host| host.id.clone()).collect();
            (ids, all.len().saturating_sub(HOSTS_MAX))
        };
        let hosts = ids.into_iter().map(|id| at_host(id, documents)).collect();
        let lockout = Lockout::of(documents)?;
        let (tests, untested) = match trial::run(documents) {
            Ok(tests) => (tests, None),
            Err(error) => (Vec::new(), Some(format!("{error:#}"))),
        };
        Ok(Self { hosts, left_out, lockout, tests, untested })
    }

    fn found(&self) -> bool {
        let unfit = self.hosts.iter().any(|host| host.compiled.is_err());
        let failed = self.tests.iter().any(|test| !test.passed);
        unfit || failed || self.untested.is_some() || self.lockout.found()
    }

    fn text(&self, documents: &Documents) -> String {
        let mut out = trial::text(&self.tests, &documents.checked);
        if let Some(error) = &self.untested {
            push(&mut out, format_args!("the tests cannot be run: {error}\n"));
        }
        out.push_str(&self.lockout.text());
        let width = self.hosts.iter().map(|host| host.id.len()).max().unwrap_or_default();
        for AtHost { id, compiled } in &self.hosts {
            let line = match compiled {
                Ok(compiled) => size_line(&Size::of(&compiled.image)),
                Err(error) => format!("does not fit: {error}"),
            };
            push(&mut out, format_args!("{id:width$}  {line}\n"));
        }
        if self.left_out > 0 {
            push(
                &mut out,
                format_args!(
                    "{} more hosts not compiled for: name them with --host\n",
                    self.left_out
                ),
            );
        }
        for (note, hosts) in self.notes() {
            push(&mut out, format_args!("note: {note}{}\n", on(&hosts, self.hosts.len())));
        }
        out
    }

    /// What is worth knowing without being wrong, each with the hosts it is about.
    fn notes(&self) -> Vec<(String, Vec<&str>)> {
        let mut notes: Vec<(String, Vec<&str>)> = Vec::new();
        for AtHost { id, compiled } in &self.hosts {
            for note in compiled.iter().flat_map(|compiled| &compiled.notes) {
                // The lock-out section says it, with its place.
                if matches!(note, Note::NoFailsafe) {
                    continue;
                }
                let said = note.to_string();
                match notes.iter_mut().find(|(known, _)| *known == said) {
                    Some((_, hosts)) => hosts.push(id),
                    None => notes.push((said, vec![id])),
                }
            }
        }
        notes
    }

    fn to_json(&self, documents: &Documents) -> Value {
        let mut value = diagnostics_json(documents);
        value["tests"] = trial::to_json(&self.tests, &documents.checked);
        value["untested"] = json!(self.untested);
        value["lockout"] = self.lockout.to_json();
        value["hosts"] = self
            .hosts
            .iter()
            .map(|host| match &host.compiled {
                Ok(compiled) => {
                    let notes: Vec<String> =
                        compiled.notes.iter().map(ToString::to_string).collect();
                    let digest: String =
                        compiled.image.digest().iter().fold(String::new(), |mut hex, byte| {
                            push(&mut hex, format_args!("{byte:02x}"));
                            hex
                        });
                    json!({
                        "host": host.id,
                        "fits": true,
                        "image": Size::of(&compiled.image).to_json(),
                        "digest": digest,
                        "next_expiry": next_end(compiled).map(|end| end.to_string()),
                        "notes": notes,
                    })
                }
                Err(error) => json!({ "host": host.id, "fits": false, "error": error }),
            })
            .collect();
        value["hosts_left_out"] = json!(self.left_out);
        value
    }
}

fn at_host(id: String, documents: &Documents) -> AtHost {
    let identities = known_at(&id, &documents.inventory);
    let facts = Facts::new(&documents.inventory, &id, &*identities, documents.now);
    let compiled = compile(&documents.checked.policies, &facts)
        .map_err(|error| format!("{:#}", anyhow::Error::from(error)));
    AtHost { id, compiled }
}

/// When the next rule of a host ends, which is compiled for the clock on the wall.
fn next_end(compiled: &Compiled) -> Option<Timestamp> {
    let next = compiled.rules.next_end(compiled.now_ns)?;
    Timestamp::from_nanosecond(next.into()).ok()
}

fn size_line(size: &Size) -> String {
    let (budget, percent) = size.tightest();
    format!(
        "{} rules, {} lines ({} bytes), {} x {} x {} classes, {percent}% of the budget for {budget}",
        size.rules,
        size.lines,
        size.bytes,
        size.near_classes,
        size.port_classes,
        size.remote_classes,
    )
}

/// " (on a, b)" unless it is all of them.
fn on(hosts: &[&str], of: usize) -> String {
    if hosts.len() == of { String::new() } else { format!(" (on {})", hosts.join(", ")) }
}

fn diagnostics_json(documents: &Documents) -> Value {
    let diagnostics = &documents.checked.diagnostics;
    let one = |diagnostic: &Diagnostic| {
        let name = documents.checked.sources().get(diagnostic.source).map(|(name, _)| name);
        let place = documents.checked.position(diagnostic.source, diagnostic.span);
        json!({
            "severity": match diagnostic.severity() {
                Severity::Error => "error",
                Severity::Warning => "warning",
            },
            "code": diagnostic.code.word(),
            "message": diagnostic.message,
            "help": diagnostic.help,
            "file": name,
            "line": place.map(|place| place.line),
            "column": place.map(|place| place.column),
        })
    };
    json!({
        "errors": diagnostics.errors(),
        "warnings": diagnostics.warnings(),
        "unreported": diagnostics.unreported(),
        "diagnostics": diagnostics.reported().iter().map(one).collect::<Vec<_>>(),
    })
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a String cannot fail");
}
