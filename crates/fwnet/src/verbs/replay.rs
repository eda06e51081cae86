//! `fwnet replay`: which recorded flows a candidate policy would newly deny or allow.

use std::{collections::BTreeSet, fmt::Write as _, path::PathBuf, process::ExitCode};

use ::agent::{
    flows::{Named, Record},
    replay::{Change, Replay, replay},
};
use anyhow::Context;
use clap::Args;
use jiff::Timestamp;
use policy::{Facts, Way, compile, syntax::Answer};
use serde_json::json;
use verdict::{Address, Protocol};

use super::learn::recorded;
use crate::{
    answer::{exit, finding_if, print, print_json},
    api::Reached,
    cli::Output,
    documents::Files,
    names::Names,
    prefix::canonical,
    report::transport,
    span::Ago,
};

/// Command line of `fwnet replay`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    /// The candidate (the same as --policy)
    #[arg(value_name = "FILE")]
    more: Vec<PathBuf>,
    #[command(flatten)]
    files: Files,
    /// Which host of the inventory this is (default: the one with this machine's name)
    #[arg(long, value_name = "ID")]
    host: Option<String>,
    /// How far back (`7d`); the counts are those of whole hours
    #[arg(long, value_name = "TIME", default_value = "7d")]
    since: Ago,
    #[command(flatten)]
    reached: Reached,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Flows of one rule that are shown; the rest is a number.
const SHOWN: usize = 10;

/// Exit code 0 if nothing changes, 1 if something does, 2 if there is no answer.
pub(crate) fn run(typed: &Typed) -> ExitCode {
    exit(answer(typed))
}

fn answer(typed: &Typed) -> anyhow::Result<u8> {
    let documents = typed.files.sound(&typed.more)?;
    let host = documents.host(typed.host.as_deref())?;
    let since = typed.since.before(Timestamp::now())?;
    let records = recorded(&typed.reached.client()?, since)?;
    let people = Names::here();
    let named = Named::new(&records, &people);
    // What came in came to an address of this host.
    let addresses: BTreeSet<Address> =
        records.iter().filter_map(|record| record.kind.local).map(canonical).collect();
    let addresses: Vec<Address> = addresses.into_iter().collect();
    let facts = Facts {
        addresses: &addresses,
        ..Facts::new(&documents.inventory, &host, &named, documents.now)
    };
    let compiled = compile(&documents.checked.policies, &facts).context("compile the candidate")?;
    let answer = replay(&records, &compiled);
    match typed.output {
        Output::Json => print_json(&json!(answer))?,
        Output::Text => print(&text(&answer))?,
    }
    Ok(finding_if(!answer.changes.is_empty()))
}

fn text(answer: &Replay) -> String {
    let mut out = String::new();
    for change in &answer.changes {
        push_change(&mut out, change);
    }
    let changed: u64 = answer.changes.iter().map(|change| change.count).sum();
    writeln!(out, "{changed} flows change, {} stay as they were", answer.unchanged)
        .expect("writing to a String cannot fail");
    out
}

fn push_change(out: &mut String, change: &Change) {
    let Change { verdict, rule, text, enforced, count, records } = change;
    let what = match (verdict, enforced) {
        (Answer::Deny, true) => "newly denied",
        (Answer::Deny, false) => "would be denied (audit)",
        (Answer::Allow, true) => "newly allowed",
        (Answer::Allow, false) => "would be allowed (audit)",
    };
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    line(format!("{what}: {count} flows by {rule}: {text}"));
    for record in records.iter().take(SHOWN) {
        line(format!("    {}", flow(record)));
    }
    if let Some(more) = records.len().checked_sub(SHOWN).filter(|&more| more > 0) {
        line(format!("    ... and {more} kinds more"));
    }
}

/// `12 x out tcp 192.0.2.1:443 by /usr/bin/curl`.
pub(super) fn flow(record: &Record) -> String {
    let kind = &record.kind;
    let way = match kind.direction {
        Way::Out => "out",
        Way::In => "in",
    };
    let address =
        if kind.remote.is_ipv6() { format!("[{}]", kind.remote) } else { kind.remote.to_string() };
    let end = match kind.direction {
        Way::Out => format!("{address}:{}", kind.port),
        Way::In => format!("from {address} to port {}", kind.port),
    };
    let whose = kind.process.exe.clone().or_else(|| kind.process.unit());
    let whose = whose.or_else(|| Some(record.name.clone()).filter(|name| !name.is_empty()));
    let by = whose.map_or_else(String::new, |whose| format!(" by {whose}"));
    format!("{} x {way} {} {end}{by}", record.count, transport(Protocol(kind.protocol)))
}
