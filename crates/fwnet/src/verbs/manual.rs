//! `fwnet manual`: the man pages, one for fwnet and one for each verb. Packages are made with it.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Args;

use crate::cli;

/// Command line of `fwnet manual`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    /// Where to write the pages, named `fwnet.1`, `fwnet-run.1` and so on
    directory: PathBuf,
}

/// Writes the pages.
pub(crate) fn run(typed: &Typed) -> anyhow::Result<ExitCode> {
    let directory = &typed.directory;
    let context = || format!("write man pages into {}", directory.display());
    fs::create_dir_all(directory).with_context(context)?;
    clap_mangen::generate_to(cli::command(), directory).with_context(context)?;
    Ok(ExitCode::SUCCESS)
}
