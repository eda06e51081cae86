//! `fwnet import`: rules of nftables and of Kubernetes as a policy. What cannot be expressed is named, as comments in the
//! policy and on standard error.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use policy::{Document, Imported, Tier, limits};

use super::fmt::json;
use crate::{
    answer::{FINDING, FINE, exit, print},
    cli::Output,
    documents::{name, read_up_to},
};

/// Command line of `fwnet import`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    /// What FILE holds
    #[arg(value_enum)]
    from: From,
    /// The rules; `-` is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// End with 0 even if something could not be expressed
    #[arg(long)]
    allow_partial: bool,
    /// Write one file for each tier (admin.fwnet, team.fwnet, baseline.fwnet) into this directory; needed where the rules
    /// take more than one
    #[arg(long, value_name = "DIRECTORY")]
    into: Option<PathBuf>,
    /// The form of the policy
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Where rules come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum From {
    /// A ruleset as `nft -j list ruleset` prints it
    Nftables,
    /// Kubernetes NetworkPolicy and ClusterNetworkPolicy, as YAML or JSON
    Networkpolicy,
}

/// Exit code 0 if everything was expressed, 1 if something was not, 2 if there is nothing to import.
pub(crate) fn run(typed: &Typed) -> ExitCode {
    exit(import(typed))
}

fn import(typed: &Typed) -> anyhow::Result<u8> {
    let bytes = read_up_to(&typed.file, limits::DOCUMENT_BYTES_MAX)?;
    let imported = match typed.from {
        From::Nftables => policy::import_nftables(&bytes),
        From::Networkpolicy => policy::import_network_policies(&bytes),
    };
    let Imported { documents, gaps } = imported.with_context(|| name(&typed.file))?;
    match (&typed.into, documents.as_slice()) {
        (Some(directory), documents) => {
            fs::create_dir_all(directory).with_context(|| name(directory))?;
            for (tier, document) in documents {
                write(directory, *tier, document, typed.output)?;
            }
        }
        (None, [(_, only)]) => print(&written(only, typed.output))?,
        (None, _) => {
            bail!("the rules take {} tiers, so several files: --into DIRECTORY", documents.len())
        }
    }
    for gap in &gaps {
        eprintln!("fwnet: not expressed: {gap}");
    }
    Ok(if gaps.is_empty() || typed.allow_partial { FINE } else { FINDING })
}

fn written(document: &Document, output: Output) -> String {
    match output {
        Output::Text => policy::format(document),
        Output::Json => json(document),
    }
}

/// A file that is there already is not overwritten: somebody may have worked on it.
fn write(directory: &Path, tier: Tier, document: &Document, output: Output) -> anyhow::Result<()> {
    let tier = match tier {
        Tier::Admin => "admin",
        Tier::Team => "team",
        Tier::Baseline => "baseline",
    };
    let end = match output {
        Output::Text => "fwnet",
        Output::Json => "json",
    };
    let path = directory.join(format!("{tier}.{end}"));
    let mut file = File::create_new(&path).with_context(|| name(&path))?;
    file.write_all(written(document, output).as_bytes()).with_context(|| name(&path))?;
    eprintln!("fwnet: wrote {}", path.display());
    Ok(())
}
