//! Rules as they are named on a command line: two lists, or policy files with an inventory.

use std::path::{Path, PathBuf, absolute};

use agent::edition::{Text, Written};
use anyhow::{Context, bail};
use clap::Args;
use jiff::Timestamp;
use verdict::Address;

use crate::{
    documents::{self, Documents, Files},
    legacy::Inbound,
    orders::{self, Bare, Orders},
    prefix::{Ports, Prefix},
};

/// What is to be enforced, as typed.
#[derive(Clone, Debug, Args)]
pub(crate) struct Rules {
    /// Refuse connecting to and accepting from this address or prefix (IPv4 or IPv6, any protocol; repeatable)
    #[arg(long, value_name = "ADDR[/LEN]")]
    pub(crate) deny: Vec<Prefix>,
    /// Refuse connecting to and accepting on this TCP port or range of ports (repeatable)
    #[arg(long, value_name = "PORT[-PORT]", allow_hyphen_values = true)]
    pub(crate) port: Vec<Ports>,
    #[command(flatten)]
    pub(crate) files: Files,
    /// Which host of the inventory this is (default: the one with this machine's name)
    #[arg(long, value_name = "ID")]
    pub(crate) host: Option<String>,
}

impl Rules {
    /// Whether there are any.
    pub(crate) fn named(&self) -> bool {
        self.files.named() || !self.deny.is_empty() || !self.port.is_empty()
    }

    /// What to read whenever the rules are wanted.
    ///
    /// # Errors
    /// Where what was typed does not go together.
    pub(crate) fn orders(&self, inbound: Inbound) -> anyhow::Result<Orders> {
        self.go_together()?;
        if self.files.named() {
            return Ok(Orders::Documents { files: self.files.clone(), host: self.host.clone() });
        }
        Ok(Orders::Lists { addresses: self.deny.clone(), ports: self.port.clone(), inbound })
    }

    /// The rules themselves: files are read.
    ///
    /// # Errors
    /// Where what was typed does not go together, or a file cannot be read or is no text.
    pub(crate) fn written(&self) -> anyhow::Result<Written> {
        self.go_together()?;
        if !self.files.named() {
            return Ok(Written::Lists {
                deny: self.deny.iter().map(|prefix| prefix.text.clone()).collect(),
                ports: self.port.iter().map(ToString::to_string).collect(),
            });
        }
        written(&self.files, &[], self.host.clone())
    }

    fn go_together(&self) -> anyhow::Result<()> {
        if self.files.named() && !(self.deny.is_empty() && self.port.is_empty()) {
            bail!("--deny and --port are rules of their own: write them into the policy instead");
        }
        if !self.files.named() && self.host.is_some() {
            bail!("--host means a host of --inventory, and there is no --policy");
        }
        Ok(())
    }
}

/// Reads files as they are, and what messages call them.
///
/// # Errors
/// Where one cannot be read or is no text.
pub(crate) fn written(
    files: &Files,
    more: &[PathBuf],
    host: Option<String>,
) -> anyhow::Result<Written> {
    let (policies, inventory) = files.read(more)?;
    Ok(Written::Documents {
        policies: policies.into_iter().map(text).collect::<anyhow::Result<_>>()?,
        inventory: inventory.map(text).transpose()?,
        host,
        target: None,
    })
}

/// A file's content with its name and place.
///
/// # Errors
/// Where it is no text.
pub(crate) fn text((path, bytes): (&Path, Vec<u8>)) -> anyhow::Result<Text> {
    let name = documents::name(path);
    let text = String::from_utf8(bytes).with_context(|| name.clone())?;
    let path = match documents::is_standard_input(path) {
        true => None,
        false => absolute(path)?.to_str().map(str::to_owned),
    };
    Ok(Text { name, path, text })
}

/// Policies and inventory of an edition, checked as of `now`; none where its rules are lists.
///
/// # Errors
/// If the inventory is wrong. What is wrong with the policies is in the value.
pub(crate) fn checked(rules: &Written, now: Timestamp) -> anyhow::Result<Option<Documents>> {
    let Written::Documents { policies, inventory, .. } = rules else { return Ok(None) };
    Documents::of_texts(policies, inventory.as_ref(), now).map(Some)
}

/// The rules of an edition as they are at `now`, for a host with these addresses.
///
/// # Errors
/// Where they have errors.
pub(crate) fn bare(
    rules: &Written,
    inbound: Inbound,
    addresses: &[Address],
    version: u64,
    now: Timestamp,
) -> anyhow::Result<Bare> {
    match rules {
        Written::Lists { deny, ports } => {
            let deny: Vec<Prefix> =
                deny.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
            let ports: Vec<Ports> =
                ports.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
            Ok(orders::lists(&deny, &ports, inbound, version))
        }
        Written::Documents { host, .. } => {
            let documents = checked(rules, now)?.expect("these rules are documents");
            if documents.checked.diagnostics.has_errors() {
                bail!("the policy has errors:\n{}", documents.checked.render());
            }
            orders::documents(&documents, host.as_deref(), addresses, version)
        }
    }
}
