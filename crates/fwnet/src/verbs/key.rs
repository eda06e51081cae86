//! `fwnet key`: keys for signing policy.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::json;
use wire::Role;

use crate::{answer, cli::Output, signing::Key};

/// Command line of `fwnet key`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a key and write it to a new file, which only its owner can read
    New(NewTyped),
    /// Say whose key a file holds, what it is for, and its public part
    Show(ShowTyped),
}

#[derive(Debug, Args)]
struct NewTyped {
    /// What it is for: root, policy (delegated policy, too), snapshot or timestamp
    #[arg(long, value_name = "ROLE")]
    role: Role,
    /// Whose it is (default: the file's name without its ending)
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The new file; one that is there is never overwritten
    #[arg(value_name = "OUT")]
    out: PathBuf,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Args)]
struct ShowTyped {
    /// The key's file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// How to print: JSON is what stands in a root and in a delegation
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Exit code 0 if it is done, 2 if not.
pub(crate) fn run(typed: &Typed) -> ExitCode {
    answer::exit(match &typed.verb {
        Verb::New(typed) => new(typed),
        Verb::Show(typed) => Key::read(&typed.file).and_then(|key| show(&key, typed.output)),
    })
}

fn new(typed: &NewTyped) -> anyhow::Result<u8> {
    let stem = || typed.out.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned);
    let name = typed.name.clone().or_else(stem).context("the key has no name: --name")?;
    show(&Key::make(name, typed.role, &typed.out)?, typed.output)
}

fn show(key: &Key, output: Output) -> anyhow::Result<u8> {
    match output {
        Output::Text => {
            answer::print(&format!("{} {} {}\n", key.named.name, key.role, key.named.key))?;
        }
        Output::Json => answer::print_json(&json!(key.named))?,
    }
    Ok(answer::FINE)
}
