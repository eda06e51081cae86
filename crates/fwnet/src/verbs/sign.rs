//! `fwnet sign`: puts signatures around roots and policies. Snapshots and timestamps are made by `fwnet bundle`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use wire::{Delegation, Envelope, Payload, Policy, Role, Root, limits};

use crate::{
    answer,
    documents::{name, read_up_to},
    signing::{self, Expiry, Key},
};

/// Command line of `fwnet sign`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Sign a root: a JSON file that says which keys have which role
    Root(RootTyped),
    /// Sign a version of a policy
    Policy(Box<PolicyTyped>),
    /// Add signatures to what others have signed
    More(MoreTyped),
}

/// Whose keys, and where it goes.
#[derive(Debug, Args)]
struct By {
    /// A key's file (repeatable)
    #[arg(long, value_name = "FILE", required = true)]
    key: Vec<PathBuf>,
    /// Where to write it (default: standard output)
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct RootTyped {
    /// The root; its bytes are signed as they are
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    by: By,
}

#[derive(Debug, Args)]
struct PolicyTyped {
    /// The policy, as text or JSON
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What all versions of it are called (default: the file's name without its ending)
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Its version, above all before it
    #[arg(long, value_name = "N")]
    version: u64,
    /// When hosts stop taking it: 90d, or 2027-01-31T00:00:00Z
    #[arg(long, value_name = "TIME")]
    expires: Expiry,
    /// A host or an audience that it is for (repeatable; without it, everybody)
    #[arg(long, value_name = "NAME")]
    audience: Vec<String>,
    /// A JSON file with a list of delegations: what others may sign, within which scope
    #[arg(long, value_name = "FILE")]
    delegations: Option<PathBuf>,
    #[command(flatten)]
    by: By,
}

#[derive(Debug, Args)]
struct MoreTyped {
    /// What was signed
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    by: By,
}

/// Exit code 0 if it is signed, 2 if not.
pub(crate) fn run(typed: &Typed) -> ExitCode {
    answer::exit(match &typed.what {
        What::Root(typed) => root(typed),
        What::Policy(typed) => policy(typed),
        What::More(typed) => more(typed),
    })
}

fn root(typed: &RootTyped) -> anyhow::Result<u8> {
    let bytes = read_up_to(&typed.file, limits::ROOT_BYTES_MAX)?;
    let envelope = Envelope::of_bytes::<Root>(bytes).with_context(|| name(&typed.file))?;
    sign(envelope, Role::Root, &typed.by)
}

fn policy(typed: &PolicyTyped) -> anyhow::Result<u8> {
    let bytes = read_up_to(&typed.file, policy::limits::DOCUMENT_BYTES_MAX)?;
    let text = String::from_utf8(bytes).with_context(|| name(&typed.file))?;
    let delegations = typed.delegations.as_deref().map(delegations).transpose()?;
    let stem = || typed.file.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned);
    let policy = Policy {
        name: typed.name.clone().or_else(stem).context("the policy has no name: --name")?,
        version: typed.version,
        expires: typed.expires.from(Timestamp::now())?,
        audience: typed.audience.clone(),
        policy: text,
        delegations: delegations.unwrap_or_default(),
    };
    if let Err(wrong) = policy.sound() {
        bail!("{}: {wrong}", name(&typed.file));
    }
    readable(&typed.file, &policy.policy)?;
    sign(Envelope::new(&policy), Role::Policy, &typed.by)
}

/// What nobody can read is not worth a signature.
fn readable(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut report = policy::Diagnostics::default();
    let name = name(path);
    let source = policy::Source { name: &name, bytes: text.as_bytes() };
    let (shown, _parsed) = policy::read(source, 0, &mut report);
    if report.has_errors() {
        eprint!("{}", policy::render(&report, &[(name.as_str(), shown.as_str())]));
        bail!("{name} is not a policy");
    }
    Ok(())
}

fn delegations(path: &Path) -> anyhow::Result<Vec<Delegation>> {
    let bytes = read_up_to(path, limits::SNAPSHOT_BYTES_MAX)?;
    serde_json::from_slice(&bytes)
        .with_context(|| format!("{} is not a list of delegations", name(path)))
}

fn more(typed: &MoreTyped) -> anyhow::Result<u8> {
    let envelope = signing::envelope(&typed.file)?;
    let role = match envelope.payload_type() {
        Root::TYPE => Role::Root,
        Policy::TYPE => Role::Policy,
        wire::Snapshot::TYPE => Role::Snapshot,
        wire::Stamp::TYPE => Role::Timestamp,
        other => bail!("{} is signed as `{other}`, which fwnet does not know", name(&typed.file)),
    };
    sign(envelope, role, &typed.by)
}

fn sign(mut envelope: Envelope, role: Role, by: &By) -> anyhow::Result<u8> {
    for key in &by.key {
        Key::read(key)?.sign(role, &mut envelope)?;
    }
    signing::write(by.out.as_deref(), &signing::text(&envelope)?)?;
    Ok(answer::FINE)
}
