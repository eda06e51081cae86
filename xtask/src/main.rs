//! `cargo xtask`: the developer's commands. Each subcommand is a file of the library.

use clap::Parser;
use std::process::ExitCode;
use xtask::{bpf, test};

/// The developer's commands of fwnet.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Xtask {
    Bpf(bpf::Bpf),
    Test(test::Test),
}

fn main() -> ExitCode {
    let outcome = match Xtask::parse() {
        Xtask::Bpf(command) => command.run(),
        // It has the last line itself, also when it stops early.
        Xtask::Test(command) => return command.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
