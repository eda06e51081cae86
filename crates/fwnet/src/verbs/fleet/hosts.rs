//! `fwnet fleet enroll`, `hosts`, `label`, `address`, `remove`, `quarantine`, `release`.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use anyhow::bail;
use clap::Args;
use fleet::{
    api::orders::{Enroll, Host, Hosts, Quarantine, Token},
    subject::{Kind, Subject},
};
use serde_json::json;

use super::reached::Reached;
use crate::{
    answer::{self, FINE},
    cli::Output,
    duration,
};

/// Command line of `fwnet fleet enroll`.
#[derive(Debug, Args)]
pub(super) struct EnrollTyped {
    /// The host's id
    #[arg(value_name = "ID", required_unless_present = "relay")]
    id: Option<String>,
    /// Let a relay of this name in, in place of a host
    #[arg(long, value_name = "NAME", conflicts_with_all = ["id", "label", "address", "alias"])]
    relay: Option<String>,
    /// A label (repeatable)
    #[arg(long, value_name = "KEY=VALUE", value_parser = label_of)]
    label: Vec<(String, String)>,
    /// An address (repeatable; without one, the address that it comes from)
    #[arg(long, value_name = "ADDR")]
    address: Vec<IpAddr>,
    /// What else it is called (repeatable)
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// It may be enrolled already: what it has is worth nothing any more once it joins again
    #[arg(long)]
    again: bool,
    /// How long the command can be used, once
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration::parse)]
    valid: Duration,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

fn label_of(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => {
            Ok((key.to_owned(), value.to_owned()))
        }
        Some(_) | None => Err(format!("'{text}' is no label such as role=web")),
    }
}

pub(super) fn enroll(reached: &Reached, typed: &EnrollTyped) -> anyhow::Result<u8> {
    let subject = match (&typed.id, &typed.relay) {
        (_, Some(name)) => Subject::new(Kind::Relay, name)?,
        (Some(id), None) => Subject::new(Kind::Host, id)?,
        (None, None) => bail!("who is let in? fwnet fleet enroll ID"),
    };
    let body = Enroll {
        subject: subject.to_string(),
        labels: typed.label.iter().cloned().collect(),
        addresses: typed.address.clone(),
        names: typed.alias.clone(),
        again: typed.again,
        valid_s: typed.valid.as_secs(),
    };
    reached.fleet()?.post("/v1/fleet/tokens", &body)?.then(|made: Token| {
        let command = match subject.kind() {
            Kind::Relay => format!("fwnet relay --dir DIR --join {}", made.token),
            Kind::Host | Kind::Controller | Kind::Operator => {
                format!("fwnet up --join {}", made.token)
            }
        };
        match typed.output {
            Output::Json => answer::print_json(&json!({
                "subject": subject.to_string(),
                "command": command,
                "token": made.token,
                "expires": made.expires,
            }))?,
            Output::Text => {
                // What is to be copied stands alone on standard output.
                eprintln!("run this on {}, once, before {}:", subject.name(), made.expires);
                answer::print(&format!("{command}\n"))?;
            }
        }
        Ok(FINE)
    })
}

/// Command line of `fwnet fleet hosts`.
#[derive(Debug, Args)]
pub(super) struct HostsTyped {
    /// Only those with this label (repeatable)
    #[arg(long, value_name = "KEY=VALUE", value_parser = label_of)]
    label: Vec<(String, String)>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

pub(super) fn list(reached: &Reached, typed: &HostsTyped) -> anyhow::Result<u8> {
    reached.fleet()?.get("/v1/fleet/hosts")?.then(|mut found: Hosts| {
        found.hosts.retain(|host| {
            typed.label.iter().all(|(key, value)| host.labels.get(key) == Some(value))
        });
        match typed.output {
            Output::Json => answer::print_json(&json!(found))?,
            Output::Text => answer::print(&text(&found))?,
        }
        Ok(FINE)
    })
}

fn text(found: &Hosts) -> String {
    let width = found.hosts.iter().map(|host| host.id.len()).max().unwrap_or(0);
    let mut lines: Vec<String> = found.hosts.iter().map(|host| line(host, width)).collect();
    lines.extend(found.relays.iter().map(|name| format!("relay {name}")));
    lines.extend(found.awaited.iter().map(|(who, until)| format!("{who} may join until {until}")));
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn line(host: &Host, width: usize) -> String {
    let mut parts = vec![format!("{:width$}", host.id)];
    parts.extend(host.addresses.iter().map(ToString::to_string));
    parts.extend(host.labels.iter().map(|(key, value)| format!("{key}={value}")));
    if !host.names.is_empty() {
        parts.push(format!("also {}", host.names.join(", ")));
    }
    if host.quarantined {
        parts.push("quarantined".to_owned());
    }
    parts.join("  ")
}

/// Command line of `fwnet fleet label`.
#[derive(Debug, Args)]
pub(super) struct LabelTyped {
    /// The host
    #[arg(value_name = "ID")]
    id: String,
    /// Labels to give, and labels to take away
    #[arg(value_name = "KEY=VALUE|KEY-", required = true, value_parser = change_of)]
    labels: Vec<(String, Option<String>)>,
}

fn change_of(text: &str) -> Result<(String, Option<String>), String> {
    match text.strip_suffix('-') {
        Some(key) if !key.is_empty() && !key.contains('=') => Ok((key.to_owned(), None)),
        Some(_) | None => label_of(text).map(|(key, value)| (key, Some(value))),
    }
}

pub(super) fn label(reached: &Reached, typed: &LabelTyped) -> anyhow::Result<u8> {
    let labels: BTreeMap<String, Option<String>> = typed.labels.iter().cloned().collect();
    of_host(reached, &typed.id, "labels", &labels)
}

fn of_host(
    reached: &Reached,
    id: &str,
    what: &str,
    body: &impl serde::Serialize,
) -> anyhow::Result<u8> {
    // An id that is none would be another path.
    let subject = Subject::new(Kind::Host, id)?;
    let path = format!("/v1/fleet/hosts/{}/{what}", subject.name());
    reached.fleet()?.post(&path, body)?.then(|()| Ok(FINE))
}

/// Command line of `fwnet fleet address`.
#[derive(Debug, Args)]
pub(super) struct AddressTyped {
    /// The host
    #[arg(value_name = "ID")]
    id: String,
    /// All the addresses that it has
    #[arg(value_name = "ADDR", required = true)]
    addresses: Vec<IpAddr>,
}

pub(super) fn address(reached: &Reached, typed: &AddressTyped) -> anyhow::Result<u8> {
    of_host(reached, &typed.id, "addresses", &typed.addresses)
}

/// Command line of `fwnet fleet remove`.
#[derive(Debug, Args)]
pub(super) struct RemoveTyped {
    /// The host
    #[arg(value_name = "ID", required_unless_present = "relay")]
    id: Option<String>,
    /// A relay, in place of a host
    #[arg(long, value_name = "NAME", conflicts_with = "id")]
    relay: Option<String>,
}

pub(super) fn remove(reached: &Reached, typed: &RemoveTyped) -> anyhow::Result<u8> {
    let path = match (&typed.id, &typed.relay) {
        (_, Some(name)) => {
            format!("/v1/fleet/relays/{}", Subject::new(Kind::Relay, name)?.name())
        }
        (Some(id), None) => format!("/v1/fleet/hosts/{}", Subject::new(Kind::Host, id)?.name()),
        (None, None) => bail!("who is removed? fwnet fleet remove ID"),
    };
    reached.fleet()?.delete(&path)?.then(|()| Ok(FINE))
}

/// Command line of `fwnet fleet quarantine` and `release`.
#[derive(Debug, Args)]
pub(super) struct QuarantineTyped {
    /// The host
    #[arg(value_name = "ID")]
    id: String,
}

pub(super) fn quarantine(
    reached: &Reached,
    typed: &QuarantineTyped,
    quarantined: bool,
) -> anyhow::Result<u8> {
    of_host(reached, &typed.id, "quarantine", &Quarantine { quarantined })
}
