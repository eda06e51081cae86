//! `cargo xtask vm`: what would cut a development machine off is tried in a machine of its own: QEMU, Debian's kernel, and a
//! small Debian 12 with the package installed.
//!
//! There the attachment is the default one: the root of the cgroup tree and every network namespace. Each scene boots the
//! machine, and ends at the first thing that is not as it should be, with the machine's console.

mod disk;
mod guest;
mod machine;
mod scenes;
mod supplies;

use crate::debian;
use crate::dist::contents::Contents;
use crate::dist::program::{Linking, Program};
use crate::dist::{Date, trial};
use crate::packages::{self, Need, Package};
use crate::step::{announce, timed};
use anyhow::{Result, bail};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use std::{env, fs};
use supplies::Supplies;

/// What makes the disk.
const NEEDS: &[Need] = &[Need {
    program: "mke2fs",
    package: Package { name: "e2fsprogs", why: "the disk of the virtual machine" },
}];

/// Try the package, the boot path and the default attachment in a virtual machine (as root)
#[derive(clap::Args)]
pub struct Vm {
    /// Only the scenes whose name contains this (`package`: only the package's life without a machine)
    scene: Option<String>,
    /// Try this program instead of building the one that packages carry
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
}

impl Vm {
    /// Builds the package and plays the scenes. The last line is `N passed, N failed`.
    pub fn run(&self) -> ExitCode {
        let mut passed = 0;
        let outcome = play(self.scene.as_deref(), self.program.as_deref(), &mut passed);
        if let Err(error) = &outcome {
            eprintln!("\nerror: {error:#}");
        }
        let failed = u64::from(outcome.is_err());
        // Nobody to tell if the reader is gone.
        let _ = writeln!(std::io::stdout(), "{passed} passed, {failed} failed");
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// The step of `cargo xtask test`; what held is added to `passed`.
///
/// # Errors
/// If something cannot be had or built, or a scene does not hold.
pub fn step(passed: &mut u64) -> Result<()> {
    if env::consts::ARCH != "x86_64" {
        announce("the virtual machine is left out: it is of an x86_64 machine");
        return Ok(());
    }
    play(None, None, passed)
}

fn play(wanted: Option<&str>, program: Option<&Path>, passed: &mut u64) -> Result<()> {
    let scenes: Vec<_> = scenes::ALL
        .iter()
        .filter(|scene| wanted.is_none_or(|wanted| scene.name.contains(wanted)))
        .collect();
    if scenes.is_empty() && wanted.is_some_and(|wanted| !"package".contains(wanted)) {
        bail!("no scene has {:?} in its name", wanted.unwrap_or_default());
    }
    timed("what the virtual machine is made with", || {
        [debian::NEEDS, NEEDS].into_iter().try_for_each(packages::provide)
    })?;
    let date = Date::of_source()?;
    let program = match program {
        Some(path) => Program { path: fs::canonicalize(path)?, linking: Linking::Dynamic },
        None => timed("program", || Program::build(Linking::Dynamic, &date))?,
    };
    let alone = wanted.is_none_or(|wanted| "package".contains(wanted));
    let pair = (alone || scenes.iter().any(|scene| scene.installs))
        .then(|| {
            timed("Debian packages", || {
                trial::Pair::write(&program, &Contents::of(&program, &date)?, &date)
            })
        })
        .transpose()?;
    if let Some(pair) = pair.as_ref().filter(|_| alone) {
        for held in timed("the package in a small Debian", || trial::run_through(pair))? {
            tell(held, passed);
        }
    }
    let supplies = timed("kernel and QEMU", Supplies::provide)?;
    for scene in scenes {
        timed(&format!("in the virtual machine: {}", scene.name), || {
            let installed = pair.as_ref().filter(|_| scene.installs);
            let disk = disk::Disk::make(scene.name, &supplies, installed, &program)?;
            let mut stage = scenes::Stage::new(&supplies, disk, Instant::now())?;
            let outcome = (scene.play)(&mut stage);
            stage.held().iter().for_each(|held| tell(held, passed));
            outcome.map_err(|error| error.context(stage.last_words()))
        })?;
    }
    Ok(())
}

fn tell(held: &str, passed: &mut u64) {
    eprintln!("    ok   {held}");
    *passed += 1;
}
