//! `fwnet fleet backup`: a copy of the store of a controller that keeps it in a file.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;

use super::reached::{Answer, Reached};
use crate::{
    answer::{self, FINE, Working},
    cli::Output,
};

/// Command line of `fwnet fleet backup`.
#[derive(Debug, Args)]
pub(super) struct Typed {
    /// Where the copy goes: a new file, which nobody else can read
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

pub(super) fn run(reached: &Reached, typed: &Typed) -> anyhow::Result<u8> {
    let fleet = reached.fleet()?;
    let path = &typed.file;
    let context = || format!("write {}", path.display());
    if path.symlink_metadata().is_ok() {
        bail!("{} is there already", path.display());
    }
    let mut new = path.clone().into_os_string();
    new.push(".new");
    let new = PathBuf::from(new);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)
        .with_context(|| format!("write {}", new.display()))?;
    let working = Working::new("copying");
    let saved = fleet.save("/v1/fleet/backup", |part| file.write_all(part));
    drop(working);
    // All of it has its name, or nothing.
    let named = match saved {
        Ok(Answer::Said(bytes)) => file
            .sync_all()
            .and_then(|()| fs::hard_link(&new, path))
            .with_context(context)
            .map(|()| Some(bytes)),
        Ok(Answer::Refused) => Ok(None),
        Err(error) => Err(error),
    };
    let _removed = fs::remove_file(&new);
    let Some(bytes) = named? else { return Ok(answer::FINDING) };
    if typed.output == Output::Json {
        answer::print_json(&json!({"file": path, "bytes": bytes}))?;
    } else {
        answer::print(&format!("{} is the store as it was now: {bytes} bytes\n", path.display()))?;
    }
    Ok(FINE)
}
