//! Why a connection is allowed or denied: the verdict at each end, every tier walked, and what would change it.
//!
//! The verdict is what [`verdict::decide`] says of the compiled image, the code that the kernel runs. The walk through
//! the tiers is read aloud from the policies as written. Where the two differ, that is an error, not an answer.

mod question;
mod symbols;
mod what_if;

use image::RuleSet;
use jiff::Timestamp;
use serde::Serialize;
use verdict::{Direction, Endpoint, Flow, Judgement, Verdict, decide};

pub use question::{Party, Question};
pub use what_if::WhatIf;

use crate::{
    check::Checked,
    compile::{CompileError, Compiled, Origin, compile, std_address},
    diagnostic::Diagnostics,
    facts::Facts,
    inventory::Inventory,
    read_aloud::{self, Said, Voice, voices},
    symbols::Symbols,
};

/// Why there is no explanation.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The text is not a flow.
    #[error("`{0}` is not a flow: `web-1 -> db-1 : tcp/5432` is")]
    Malformed(String, Diagnostics),
    /// An end is not one host or one address.
    #[error("`{0}` is neither a host of the inventory nor one address")]
    Party(String),
    /// A host without an address cannot be connected to, nor connect.
    #[error("the inventory gives no address to `{0}`")]
    NoAddress(String),
    /// Not one service.
    #[error("`{0}` is not one port of one protocol")]
    Service(String),
    /// Neither end is a host of the inventory.
    #[error("no host of the inventory is at either end, so nothing enforces")]
    NobodyEnforces,
    /// The policies do not fit into an image at one end.
    #[error("the policies cannot be enforced on {host}")]
    Compile {
        /// The host.
        host: String,
        /// Why.
        source: CompileError,
    },
    /// The image and the policies as written do not say the same: a fault of fwnet.
    #[error(
        "on {host} the image says {image} and the policy as written says {written}: this is a fault of fwnet"
    )]
    Disagreement {
        /// The host.
        host: String,
        /// The image's answer.
        image: String,
        /// The answer of the policies read aloud.
        written: String,
    },
}

/// The answer to one question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Who connects: the host's id or the address.
    pub from: String,
    /// Who accepts.
    pub to: String,
    /// The service, as a policy writes it.
    pub service: String,
    /// `allow` or `deny`: a connection is allowed if every end that enforces allows it.
    pub verdict: &'static str,
    /// The verdict with the rules in audit.
    pub would: &'static str,
    /// The ends that enforce: hosts of the inventory.
    pub ends: Vec<EndAccount>,
}

/// What happens at one end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EndAccount {
    /// The id of the host.
    pub host: String,
    /// `out` where it connects, `in` where it accepts.
    pub direction: &'static str,
    /// `allow` or `deny`.
    pub verdict: &'static str,
    /// The rule that decides.
    pub decided_by: Matched,
    /// The verdict with the rules in audit.
    pub would: &'static str,
    /// The rule that decides then.
    pub would_be_decided_by: Matched,
    /// Every tier in order, with all its rules that speak of this flow here.
    pub tiers: Vec<TierAccount>,
    /// What would give the other verdict at this end.
    pub what_if: Vec<WhatIf>,
}

/// One tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TierAccount {
    /// `failsafe`, `admin`, `team`, `baseline`, `loopback` or `default`.
    pub tier: &'static str,
    /// Whether the enforced verdict is made here.
    pub decides: bool,
    /// Its rules that speak of the flow.
    pub rules: Vec<Matched>,
}

/// A rule that speaks of the flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Matched {
    /// Its stable id.
    pub rule: String,
    /// `allow` or `deny`.
    pub verdict: &'static str,
    /// Whether it is only counted.
    pub audit: bool,
    /// The document; absent for what is built in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line in it, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// What it says.
    pub text: String,
    /// Why it exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who answers for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

/// The tiers in the order in which they are looked at.
const TIERS: [&str; 6] = ["failsafe", "admin", "team", "baseline", "loopback", "default"];

pub(crate) fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
    }
}

/// Explains what happens to the connection that `text` describes: `web-1[user=www-data] -> db-1 : tcp/5432`. Each end is
/// a host of the inventory, by id or name, or one address. Users and groups, executables and units are compared as they
/// are written; a process that is not described is none of those that rules name.
///
/// # Errors
/// [`ExplainError`]
pub fn explain(
    checked: &Checked,
    inventory: &Inventory,
    now: Timestamp,
    text: &str,
) -> Result<Explanation, ExplainError> {
    let question = Question::read(text, inventory)?;
    let symbols =
        Symbols::asking(&checked.policies, [&question.from.process, &question.to.process]);
    let mut ends = Vec::new();
    for (direction, party) in [(Direction::Out, &question.from), (Direction::In, &question.to)] {
        let Some(host) = party.host.and_then(|index| inventory.host(index)) else { continue };
        let facts = Facts::new(inventory, &host.id, &symbols, now);
        let flow = flow(&question, direction, &symbols);
        ends.push(account(checked, &facts, &flow, text)?);
    }
    if ends.is_empty() {
        return Err(ExplainError::NobodyEnforces);
    }
    let both = |verdict: fn(&EndAccount) -> &'static str| {
        if ends.iter().any(|end| verdict(end) == word(Verdict::Deny)) { "deny" } else { "allow" }
    };
    let name = |party: &Party| match party.host.and_then(|index| inventory.host(index)) {
        Some(host) => host.id.clone(),
        None => std_address(party.address).to_string(),
    };
    Ok(Explanation {
        from: name(&question.from),
        to: name(&question.to),
        service: question.service.to_string(),
        verdict: both(|end| end.verdict),
        would: both(|end| end.would),
        ends,
    })
}

/// The flow as one end sees it.
fn flow(question: &Question, direction: Direction, symbols: &Symbols) -> Flow {
    let client = Endpoint { address: question.from.address, port: 0 };
    let server = Endpoint { address: question.to.address, port: question.port };
    let (local, remote, process) = match direction {
        Direction::Out => (client, server, &question.from.process),
        Direction::In => (server, client, &question.to.process),
    };
    let subject = symbols.subject(process.as_ref());
    Flow { direction, protocol: question.protocol, local, remote, subject }
}

fn account(
    checked: &Checked,
    facts: &Facts<'_>,
    flow: &Flow,
    text: &str,
) -> Result<EndAccount, ExplainError> {
    let host = facts.host.to_owned();
    let compiled = compile(&checked.policies, facts)
        .map_err(|source| ExplainError::Compile { host: host.clone(), source })?;
    let decision = decide(flow, &compiled.now());
    let heard = voices(&checked.policies, facts, flow);
    let enforced = read_aloud::decide(heard.iter().filter(|voice| !voice.audit));
    let would = read_aloud::decide(heard.iter());
    agree(&host, &compiled, decision.enforced, &enforced)?;
    agree(&host, &compiled, decision.would, &would)?;
    let matched = |voice: &Voice| matched(checked, &compiled, voice);
    let one = |said: &Said| {
        let voice = heard.iter().find(|voice| voice.said == *said);
        voice.map(matched).expect("who decides has spoken")
    };
    let deciding =
        heard.iter().find(|voice| !voice.audit && voice.said == enforced).map(|voice| voice.tier);
    let tiers = (0u8..).zip(TIERS).map(|(number, tier)| TierAccount {
        tier,
        decides: deciding == Some(number),
        rules: heard.iter().filter(|voice| voice.tier == number).map(matched).collect(),
    });
    Ok(EndAccount {
        direction: match flow.direction {
            Direction::Out => "out",
            Direction::In => "in",
        },
        verdict: word(enforced.verdict),
        decided_by: one(&enforced),
        would: word(would.verdict),
        would_be_decided_by: one(&would),
        tiers: tiers.collect(),
        what_if: what_if::find(&heard, text),
        host,
    })
}

fn agree(
    host: &str,
    compiled: &Compiled,
    image: Judgement,
    written: &Said,
) -> Result<(), ExplainError> {
    let rule = compiled.origin(image.rule).map_or("no rule", |origin| origin.id.as_str());
    if image.verdict == written.verdict && rule == written.rule {
        return Ok(());
    }
    Err(ExplainError::Disagreement {
        host: host.to_owned(),
        image: format!("{} by {rule}", word(image.verdict)),
        written: format!("{} by {}", word(written.verdict), written.rule),
    })
}

fn matched(checked: &Checked, compiled: &Compiled, voice: &Voice) -> Matched {
    let RuleSet { rules, .. } = &compiled.rules;
    let number = rules.iter().position(|rule| {
        rule.id == voice.said.rule && (rule.mode == image::Mode::Audit) == voice.audit
    });
    let origin: Option<&Origin> = number.and_then(|number| compiled.origins.get(number));
    let place = origin.and_then(|origin| origin.place(checked));
    Matched {
        rule: voice.said.rule.clone(),
        verdict: word(voice.said.verdict),
        audit: voice.audit,
        file: place.map(|(file, _)| file.to_owned()),
        line: place.map(|(_, position)| position.line),
        text: origin.map(|origin| origin.text.clone()).unwrap_or_default(),
        reason: origin.and_then(|origin| origin.reason.clone()),
        owner: origin.and_then(|origin| origin.owner.clone()),
    }
}
