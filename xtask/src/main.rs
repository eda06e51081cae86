//! `cargo xtask`: the developer's commands. Each subcommand is a file of the library.

use clap::Parser;
use std::process::ExitCode;
use xtask::{bench, bpf, demo, dist, fuzz, matrix, test, vm};

/// The developer's commands of fwnet.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Xtask {
    Bench(bench::Bench),
    Bpf(bpf::Bpf),
    Demo(demo::Demo),
    Dist(dist::Dist),
    Fuzz(fuzz::Fuzz),
    Matrix(matrix::Matrix),
    Test(test::Test),
    Vm(vm::Vm),
}

fn main() -> ExitCode {
    let outcome = match Xtask::parse() {
        Xtask::Bpf(command) => command.run(),
        Xtask::Dist(command) => command.run(),
        // These have the last line themselves, also when they stop early.
        Xtask::Bench(command) => return command.run(),
        Xtask::Demo(command) => return command.run(),
        Xtask::Fuzz(command) => return command.run(),
        Xtask::Matrix(command) => return command.run(),
        Xtask::Test(command) => return command.run(),
        Xtask::Vm(command) => return command.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
