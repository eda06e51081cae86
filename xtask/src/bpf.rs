//! `cargo xtask bpf`: builds the BPF object that is committed, so that `cargo build` needs stable Rust only.
//!
//! The object is built from a copy of exactly the files whose digest the record holds ([`source`]), by one of two tool
//! sets ([`tools`]); the [`record`] beside the object says from what and with what it was made. The same source and
//! tools give the same bytes, in whatever directory the repository lies: the copy is a workspace of its own, and all
//! paths inside it are relative.

pub mod record;
pub mod source;
mod strip;
pub mod tools;

use crate::workspace;
use anyhow::{Context as _, Result, bail};
use record::Record;
use source::Source;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use tools::Tools;

/// File name of the object; the record's is the same with `.toml` instead of `.o`.
pub const OBJECT: &str = "fwnet.bpf.o";

/// Build the BPF object from crates/ebpf and record where it came from
#[derive(clap::Args)]
pub struct Bpf {
    /// Build nothing: succeed if the committed object and record belong to the committed source
    #[arg(long)]
    check: bool,
}

impl Bpf {
    /// Builds the object into crates/kernel/object, or checks the one there.
    ///
    /// # Errors
    /// If no tool set is complete (the message says what is missing and how to get it), if the build does not succeed,
    /// or if `--check` finds a difference.
    pub fn run(&self) -> Result<()> {
        let directory = committed();
        if self.check {
            check()?;
            eprintln!(
                "{} comes from the source as it is",
                workspace::relative(&directory.join(OBJECT))
            );
            return Ok(());
        }
        let built = build(&directory)?;
        eprintln!(
            "{}: {}, with {} and {}",
            workspace::relative(&directory.join(OBJECT)),
            built.object,
            built.rustc,
            built.bpf_linker
        );
        Ok(())
    }
}

/// The directory of the committed object.
pub fn committed() -> PathBuf {
    workspace::root().join("crates/kernel/object")
}

/// Builds the object and its record into `directory`.
///
/// # Errors
/// As [`Bpf::run`].
pub fn build(directory: &Path) -> Result<Record> {
    let tools = Tools::find()?;
    let source = Source::read(workspace::root())?;
    let object = object(&tools, &source, &[])?;
    let record = Record {
        source: source.digest(),
        object: record::digest(&object),
        tools: tools.name().to_owned(),
        rustc: tools.rustc_version()?,
        cargo: tools.cargo_version()?,
        bpf_linker: tools.linker_version()?,
    };
    fs::create_dir_all(directory)
        .with_context(|| format!("make directory {}", directory.display()))?;
    let path = directory.join(OBJECT);
    fs::write(&path, object).with_context(|| format!("write {}", path.display()))?;
    record.write(&path.with_extension("toml"))?;
    Ok(record)
}

/// Builds the object as it is with the programs that only a measurement loads, and returns where it is.
///
/// # Errors
/// If no tool set is complete, or if the build does not succeed.
pub fn build_for_bench() -> Result<PathBuf> {
    let object = object(&Tools::find()?, &Source::read(workspace::root())?, &["bench"])?;
    let path = workspace::scratch().join("bpf/bench.bpf.o");
    fs::write(&path, object).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

/// What the linker makes of `source`, without what only a debugger reads.
fn object(tools: &Tools, source: &Source, features: &[&str]) -> Result<Vec<u8>> {
    let scratch = workspace::scratch().join("bpf");
    fs::create_dir_all(&scratch)
        .with_context(|| format!("make directory {}", scratch.display()))?;
    // One at a time: another build would change the copy under the compiler. The lock ends with the file's value.
    let lock = File::create(scratch.join("lock")).context("make the lock of the build")?;
    lock.lock().context("wait for another build of the object")?;
    let stage = scratch.join("source");
    source.write(&stage)?;
    let built = tools.build(&stage, &scratch.join("build"), source.package()?, features)?;
    let linked = fs::read(&built).with_context(|| format!("read {}", built.display()))?;
    strip::without_debug_sections(&linked)
}

/// Compares the committed object and record with the source.
///
/// # Errors
/// One that names every difference, and the command that ends it.
pub fn check() -> Result<()> {
    let path = committed().join(OBJECT);
    let record = Record::read(&path.with_extension("toml"))?;
    let object = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let mut differences = Vec::new();
    if record.object != record::digest(&object) {
        differences.push("the object is not the one that was recorded");
    }
    if record.source != Source::read(workspace::root())?.digest() {
        differences.push("crates/ebpf or crates/verdict changed since it was built");
    }
    if !differences.is_empty() {
        bail!(
            "{}: {}; run `cargo xtask bpf` and commit both files",
            workspace::relative(&path),
            differences.join(", and ")
        );
    }
    Ok(())
}

/// Compares a fresh build with the committed object: the same source by the same tools must give the same bytes. By
/// other tools it may not, so then there is nothing to say; returns whether they could be compared.
///
/// # Errors
/// If source and tools are the same and the bytes are not.
pub fn compare(fresh: &Record) -> Result<bool> {
    let record = Record::read(&committed().join(OBJECT).with_extension("toml"))?;
    let Record { source, object, tools, rustc, cargo, bpf_linker } = &record;
    let comparable = (source, tools, rustc, cargo, bpf_linker)
        == (&fresh.source, &fresh.tools, &fresh.rustc, &fresh.cargo, &fresh.bpf_linker);
    if comparable && *object != fresh.object {
        bail!(
            "the committed object does not come from the committed source: the same tools make {} of it, not {object}; \
             run `cargo xtask bpf` and commit both files",
            fresh.object
        );
    }
    Ok(comparable)
}
