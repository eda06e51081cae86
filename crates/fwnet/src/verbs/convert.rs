//! `fwnet convert`: text to JSON and back, comments included.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, ValueEnum};

use super::fmt::{Written, json};
use crate::answer::{FINE, exit, print};

/// Command line of `fwnet convert`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    /// The policy; `-` is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// Into which form; without it, into the one that FILE does not have
    #[arg(long, value_enum)]
    to: Option<Form>,
}

/// A form of policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// As people write it
    Text,
    /// The syntax tree (docs/policy.schema.json)
    Json,
}

/// Exit code 0, or 2 if there is no policy to convert.
pub(crate) fn run(typed: &Typed) -> ExitCode {
    exit(convert(typed))
}

fn convert(typed: &Typed) -> anyhow::Result<u8> {
    let written = Written::read(&typed.file)?;
    let other = if written.json { Form::Text } else { Form::Json };
    print(&match typed.to.unwrap_or(other) {
        Form::Text => policy::format(&written.document),
        Form::Json => json(&written.document),
    })?;
    Ok(FINE)
}
