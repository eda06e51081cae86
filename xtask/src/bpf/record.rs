//! The record beside the object: what it was made of, with what, and which bytes came out.

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

const HEADING: &str = "# Where fwnet.bpf.o came from. Written by `cargo xtask bpf`, compared by `cargo xtask bpf --check`.\n";

/// Where an object came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Record {
    /// Digest of everything the object is built from, see [`super::source::Source::digest`].
    pub source: String,
    /// Digest of the object.
    pub object: String,
    /// The tool set, see [`super::tools::Tools::name`].
    pub tools: String,
    /// What `rustc --version` says.
    pub rustc: String,
    /// What `cargo --version` says: cargo's version is part of the symbols' names.
    pub cargo: String,
    /// What `bpf-linker --version` says.
    pub bpf_linker: String,
}

impl Record {
    /// Reads a record.
    ///
    /// # Errors
    /// If it is not there or not one.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("read {}, which `cargo xtask bpf` writes", path.display()))?;
        toml::from_str(&text).with_context(|| format!("understand {}", path.display()))
    }

    /// Writes it.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = toml::to_string(self).context("a record is plain strings")?;
        fs::write(path, format!("{HEADING}{text}"))
            .with_context(|| format!("write {}", path.display()))
    }
}

/// A digest with its algorithm's name: `blake3:` and 64 hexadecimal digits.
pub fn digest(bytes: &[u8]) -> String {
    format!("blake3:{}", blake3::hash(bytes).to_hex())
}
