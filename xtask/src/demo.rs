//! `cargo xtask demo`: the session of the 2015 article, for real, on machines made of namespaces and cgroups.
//!
//! Every attempt is printed as the command line, what the program said, and what `fwnet run` printed about it; every
//! one has an expectation, and the first that does not hold ends the session with exit code 1. The machine itself is not
//! touched: `fwnet run` is told a cgroup and a namespace of the demonstration's own.

mod attempt;
mod session;
mod stage;

use crate::packages::{self, Need, Package};
use crate::programs::Programs;
use crate::step::timed;
use crate::supervise::supervised;
use anyhow::Result;
use std::process::ExitCode;

/// What is run besides our own programs.
const NEEDS: &[Need] = &[
    Need {
        program: "ip",
        package: Package { name: "iproute2", why: "the namespaces and links of the machines" },
    },
    Need {
        program: "nsenter",
        package: Package { name: "util-linux", why: "running programs on those machines" },
    },
    Need {
        program: "python3",
        package: Package { name: "python3", why: "DNS and HTTP traffic that nobody here wrote" },
    },
    Need {
        program: "curl",
        package: Package { name: "curl", why: "a client that nobody here wrote" },
    },
];

/// Replay the 2015 article's session on machines made of namespaces and cgroups (as root)
#[derive(clap::Args)]
pub struct Demo {}

impl Demo {
    /// Installs what is missing, builds, and plays the session. The last line says how many steps held.
    pub fn run(&self) -> ExitCode {
        supervised(|| {
            timed("packages", || packages::provide(NEEDS))?;
            let programs = timed("programs", || Programs::release(&["fwnet", "doors"]))?;
            play(&programs)
        })
    }
}

fn play(programs: &Programs) -> Result<()> {
    std::panic::set_hook(Box::new(|_| {}));
    let mut stage = attempt::caught(|| stage::Stage::set(programs))?;
    let held = session::play(&mut stage)?;
    attempt::say(&format!("\n{held} of {held} steps held"));
    Ok(())
}
