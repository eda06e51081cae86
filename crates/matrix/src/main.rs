//! The matrix: every door, with nothing attached, with everything allowed, and with everything denied, on the running
//! kernel. What came of it is printed as lines of JSON, and compared with the lines that are expected of this kernel. And
//! every call of the socket API, right and wrong, which ends like the kernel's own tests want it.
//!
//! The firewall is attached to one cgroup and to the network namespace that this program is started in, never to others.

mod calls;
mod document;
mod line;
mod mutation;
mod odd;
mod peer;
mod play;
mod row;
mod rules;
mod stage;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};

use stage::Stage;

/// Every door against every hook, on the running kernel (as root, in a network namespace and cgroup of its own).
#[derive(Parser)]
struct Typed {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Play every row and print what came of it
    Rows(Rows),
    /// Leave out one hook after the other, and find the row that notices
    Mutations(Mutations),
    /// Make every call of the socket API, right and wrong, and find what does not end as it should
    Calls(Place),
    /// Print what the documentation says of doors
    Document {
        /// The directory with the lines that are expected of each release
        #[arg(long)]
        golden: PathBuf,
    },
    /// The other end (started by `rows`)
    #[command(hide = true)]
    Peer,
    /// What another program tries against the hooks (started by `rows`, as a copy)
    #[command(hide = true)]
    Tamper {
        #[command(subcommand)]
        what: odd::Tampering,
    },
    /// A listener and a client in namespaces of their own (started by `rows`)
    #[command(hide = true)]
    Alone {
        /// How long the connection may take, in milliseconds
        patience: u64,
    },
}

/// Where rows are played.
#[derive(Args)]
struct Place {
    /// The cgroup that the firewall is attached to, and that this program moves into
    #[arg(long)]
    cgroup: PathBuf,
    /// How long what may come is waited for, in milliseconds
    #[arg(long, default_value_t = 300)]
    patience: u64,
}

impl Place {
    fn stage(&self) -> Result<Stage> {
        Stage::new(&self.cgroup, Duration::from_millis(self.patience))
    }
}

#[derive(Args)]
struct Mutations {
    #[command(flatten)]
    place: Place,
    /// The lines that every hook together makes, or a directory as for `rows`
    #[arg(long)]
    golden: PathBuf,
    /// Only hooks whose name begins like this
    #[arg(long, default_value = "")]
    hook: String,
}

#[derive(Args)]
struct Rows {
    #[command(flatten)]
    place: Place,
    /// Lines to compare with, or a directory with a file of them for each release of Linux: the exit code is 1 where one
    /// differs, is missing or is new
    #[arg(long)]
    golden: Option<PathBuf>,
    /// Leave this hook out (may be given again)
    #[arg(long, value_name = "HOOK")]
    without: Vec<String>,
    /// Only rows whose name begins like this
    #[arg(long, default_value = "")]
    only: String,
}

fn main() -> Result<ExitCode> {
    if let Some(code) = doors::child::serve(std::env::args_os()) {
        return Ok(code);
    }
    match Typed::parse().command {
        Verb::Calls(place) => calls::run(&place),
        Verb::Document { golden } => document::run(&golden),
        Verb::Peer => peer::run(),
        Verb::Tamper { what } => odd::tamper(&what),
        Verb::Alone { patience } => odd::alone(Duration::from_millis(patience)),
        Verb::Rows(typed) => play::run(&typed),
        Verb::Mutations(typed) => mutation::run(&typed),
    }
}

fn say(line: &str) -> Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}").and_then(|()| output.flush()).context("print")
}
