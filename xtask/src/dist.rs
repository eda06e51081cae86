//! `cargo xtask dist`: what people install: a Debian package, and a tarball with one static program.
//!
//! Both hold the same things ([`contents`]): the program, its man pages and completions, the units, and the notices of
//! everything that is linked into it. The same commit gives the same bytes: every time in them is the commit's, or that of
//! `SOURCE_DATE_EPOCH`.

pub mod again;
pub mod contents;
pub mod deb;
pub mod notices;
pub mod program;
pub mod tarball;
pub mod trial;

use crate::packages::{self, Need, Package};
use crate::step::timed;
use crate::{step, workspace};
use anyhow::{Context as _, Result};
use contents::Contents;
use program::{Linking, Program};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// What making and trying packages takes.
const NEEDS: &[Need] = &[
    Need {
        program: "dpkg-deb",
        package: Package { name: "dpkg", why: "dpkg-deb writes the Debian package" },
    },
    Need {
        program: "musl-gcc",
        package: Package { name: "musl-tools", why: "C code in the static program" },
    },
];

/// Build what people install: a Debian package and a static tarball
#[derive(clap::Args)]
pub struct Dist {
    /// Where to put them
    #[arg(long, value_name = "DIR", default_value = "target/packages")]
    out: PathBuf,
    /// Only one of them
    #[arg(long, value_enum)]
    only: Option<Form>,
    /// Build everything once more from a copy of the source elsewhere, and compare every byte (takes minutes)
    #[arg(long)]
    again: bool,
}

/// What is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// The Debian package
    Deb,
    /// The static tarball
    Tarball,
}

impl Dist {
    /// Builds, and prints what was made and how large it is.
    ///
    /// # Errors
    /// If something is missing, does not build, or cannot be written.
    pub fn run(&self) -> Result<()> {
        timed("packages", || packages::provide(NEEDS))?;
        let out = workspace::root().join(&self.out);
        let date = Date::of_source()?;
        let mut made = Vec::new();
        if self.only != Some(Form::Tarball) {
            made.push(deb(&out, &date)?);
        }
        if self.only != Some(Form::Deb) {
            let linking = program::static_linking();
            let program = timed("static program", || Program::build(linking, &date))?;
            let contents = timed("contents", || Contents::of(&program, &date))?;
            let tarball = timed("tarball", || tarball::write(&contents, &program, &date, &out))?;
            timed("the tarball as its user finds it", || tarball::try_out(&tarball))?;
            made.push(tarball);
        }
        made.iter().try_for_each(|made| tell(made))?;
        if self.again {
            let only: &[&str] = match self.only {
                Some(Form::Deb) => &["--only", "deb"],
                Some(Form::Tarball) => &["--only", "tarball"],
                None => &[],
            };
            timed("once more, elsewhere", || again::compare(&made, only, &date))?;
        }
        Ok(())
    }
}

/// The Debian package, of the program as every other on the system is linked.
///
/// # Errors
/// If it does not build or cannot be written.
pub fn deb(out: &Path, date: &Date) -> Result<PathBuf> {
    let program = timed("program", || Program::build(Linking::Dynamic, date))?;
    let contents = timed("contents", || Contents::of(&program, date))?;
    timed("Debian package", || deb::write(&contents, &program, version(), date, out))
}

/// The version of the workspace.
#[must_use]
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

fn tell(made: &Path) -> Result<()> {
    let bytes = fs::metadata(made).with_context(|| made.display().to_string())?.len();
    eprintln!("    {} ({})", workspace::relative(made), megabytes(bytes));
    Ok(())
}

/// A size as people say it.
#[must_use]
pub fn megabytes(bytes: u64) -> String {
    let tenths = bytes / 100_000;
    format!("{}.{} MB", tenths / 10, tenths % 10)
}

/// The time that everything in a package has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Date {
    /// Seconds since 1970.
    epoch: String,
}

impl Date {
    /// `SOURCE_DATE_EPOCH`, else when the checked-out commit was made.
    ///
    /// # Errors
    /// If there is neither.
    pub fn of_source() -> Result<Self> {
        if let Ok(epoch) = env::var("SOURCE_DATE_EPOCH") {
            return Ok(Self { epoch });
        }
        let mut log = Command::new("git");
        log.args(["log", "-1", "--format=%ct"]).current_dir(workspace::root());
        let epoch = step::output(&mut log).context("no SOURCE_DATE_EPOCH, and no commit")?;
        Ok(Self { epoch })
    }

    /// Seconds since 1970, in decimal.
    #[must_use]
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// As changelogs have it: `Sun, 22 Nov 2026 18:45:14 +0000`.
    ///
    /// # Errors
    /// If it is no time.
    pub fn in_words(&self) -> Result<String> {
        let at = format!("@{}", self.epoch);
        step::output(Command::new("date").args(["-u", "-R", "-d", &at]).env("LC_ALL", "C"))
    }
}
