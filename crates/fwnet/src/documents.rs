//! The files that policy verbs read: policies, an inventory, and what the check of them says.
//!
//! `-` is standard input. Files are read as far as their limit and one byte, so that an endless one is an error too.

use std::{
    fs::{self, File, Permissions},
    io::{self, Read, Write, stdin},
    path::{Path, PathBuf},
};

use agent::edition::Text;
use anyhow::{Context, bail};
use clap::Args;
use jiff::Timestamp;
use policy::{Checked, Inventory, Source, limits};

use crate::report::host_name;

/// Policies and inventory as they are named on every command line.
#[derive(Clone, Debug, Args)]
pub(crate) struct Files {
    /// A policy, as text or JSON (repeatable; `-` is standard input)
    #[arg(long, value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// The hosts with their addresses and labels, as TOML or JSON
    #[arg(long, value_name = "FILE")]
    inventory: Option<PathBuf>,
}

/// The same, where policies may be named without a flag, too.
#[derive(Clone, Debug, Args)]
pub(crate) struct Given {
    /// A policy (the same as --policy)
    #[arg(value_name = "FILE")]
    more: Vec<PathBuf>,
    #[command(flatten)]
    files: Files,
}

impl Given {
    /// As [`Files::check`].
    ///
    /// # Errors
    /// As there.
    pub(crate) fn check(&self) -> anyhow::Result<Documents> {
        self.files.check(&self.more)
    }

    /// As [`Files::sound`].
    ///
    /// # Errors
    /// As there.
    pub(crate) fn sound(&self) -> anyhow::Result<Documents> {
        self.files.sound(&self.more)
    }
}

/// Policies that were read and checked together.
#[derive(Debug)]
pub(crate) struct Documents {
    /// Who there is; empty where no inventory was named.
    pub(crate) inventory: Inventory,
    /// The policies and what is wrong with them.
    pub(crate) checked: Checked,
    /// The moment of the check.
    pub(crate) now: Timestamp,
}

impl Files {
    /// These policies, and this inventory.
    pub(crate) fn of(policy: Vec<PathBuf>, inventory: Option<PathBuf>) -> Self {
        Self { policy, inventory }
    }

    /// Whether the command line names a policy.
    pub(crate) fn named(&self) -> bool {
        !self.policy.is_empty()
    }

    /// Reads the inventory alone, without looking at what it says.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn inventory(&self) -> anyhow::Result<Option<(&Path, Vec<u8>)>> {
        let read = |path| anyhow::Ok((path, read_up_to(path, limits::INVENTORY_BYTES_MAX)?));
        self.inventory.as_deref().map(read).transpose()
    }

    /// Reads and checks the named policies and those of `more`.
    ///
    /// # Errors
    /// If no policy is named, a file cannot be read, or the inventory is wrong. What is wrong with the policies is in
    /// the value.
    pub(crate) fn check(&self, more: &[PathBuf]) -> anyhow::Result<Documents> {
        let paths = self.paths(more)?;
        let inventory = self.inventory.as_deref().map(read_inventory).transpose()?;
        check_together(&paths, inventory)
    }

    /// Reads the named policies and those of `more`, and the inventory, without looking at what they say. What is longer
    /// than its limit is read one byte too far.
    ///
    /// # Errors
    /// If no policy is named, or a file cannot be read.
    #[expect(
        clippy::type_complexity,
        reason = "files, each by its path: policies, and an inventory"
    )]
    pub(crate) fn read<'a>(
        &'a self,
        more: &'a [PathBuf],
    ) -> anyhow::Result<(Vec<(&'a Path, Vec<u8>)>, Option<(&'a Path, Vec<u8>)>)> {
        let bytes = |path: &'a Path, limit| anyhow::Ok((path, read_up_to(path, limit)?));
        let policies = self.paths(more)?.into_iter();
        let inventory = self.inventory.as_deref();
        Ok((
            policies
                .map(|path| bytes(path, limits::DOCUMENT_BYTES_MAX))
                .collect::<Result<_, _>>()?,
            inventory.map(|path| bytes(path, limits::INVENTORY_BYTES_MAX)).transpose()?,
        ))
    }

    fn paths<'a>(&'a self, more: &'a [PathBuf]) -> anyhow::Result<Vec<&'a Path>> {
        let paths: Vec<&Path> = self.policy.iter().chain(more).map(PathBuf::as_path).collect();
        if paths.is_empty() {
            bail!("no policy is named: --policy FILE");
        }
        let named = paths.iter().copied().chain(self.inventory.as_deref());
        if named.filter(|path| is_standard_input(path)).count() > 1 {
            bail!("standard input can be read once only, and `-` is named more often");
        }
        Ok(paths)
    }

    /// Like [`check`](Self::check), for verbs that have nothing to say about faulty policies.
    ///
    /// # Errors
    /// If a policy has errors, too: they are then on standard error.
    pub(crate) fn sound(&self, more: &[PathBuf]) -> anyhow::Result<Documents> {
        self.check(more)?.without_errors()
    }
}

/// Writes a file beside its name and renames it: there is never half of it. Its permissions are `permissions`, else what
/// the process gives.
///
/// # Errors
/// If it cannot be written: then nothing of it is left.
pub(crate) fn write_whole(
    to: &Path,
    content: &str,
    permissions: Option<Permissions>,
) -> io::Result<()> {
    let mut beside = to.as_os_str().to_owned();
    beside.push(format!(".fwnet-{}", std::process::id()));
    let beside = PathBuf::from(beside);
    let written = (|| {
        let mut file = File::create_new(&beside)?;
        if let Some(permissions) = permissions {
            file.set_permissions(permissions)?;
        }
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, to)
    })();
    if written.is_err() {
        // The first error is the one to tell.
        let _removed = fs::remove_file(&beside);
    }
    written
}

fn check_together(paths: &[&Path], inventory: Option<Inventory>) -> anyhow::Result<Documents> {
    let documents = paths.iter().map(|path| read(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let sources: Vec<Source<'_>> =
        documents.iter().map(|(name, bytes)| Source { name, bytes }).collect();
    let now = Timestamp::now();
    let checked = policy::check(&sources, inventory.as_ref(), now);
    Ok(Documents { inventory: inventory.unwrap_or_default(), checked, now })
}

impl Documents {
    /// Checks policies that are at hand as of `now`. What is wrong with them is in the value.
    ///
    /// # Errors
    /// If the inventory is wrong.
    pub(crate) fn of_texts(
        policies: &[Text],
        inventory: Option<&Text>,
        now: Timestamp,
    ) -> anyhow::Result<Self> {
        let read =
            |file: &Text| Inventory::read(file.text.as_bytes()).with_context(|| file.name.clone());
        let inventory = inventory.map(read).transpose()?;
        let sources: Vec<Source<'_>> = policies
            .iter()
            .map(|file| Source { name: &file.name, bytes: file.text.as_bytes() })
            .collect();
        let checked = policy::check(&sources, inventory.as_ref(), now);
        Ok(Self { inventory: inventory.unwrap_or_default(), checked, now })
    }

    fn without_errors(self) -> anyhow::Result<Self> {
        if self.checked.diagnostics.has_errors() {
            eprint!("{}", self.checked.render());
            bail!("the policy has errors, so there is no answer");
        }
        Ok(self)
    }

    /// The host called `named`; without it this machine by its name, or the only host of the inventory.
    ///
    /// # Errors
    /// If the inventory does not know `named`, though it knows others.
    pub(crate) fn host(&self, named: Option<&str>) -> anyhow::Result<String> {
        let hosts = self.inventory.hosts();
        if let Some(named) = named {
            let known = self.inventory.find(named).and_then(|index| self.inventory.host(index));
            return match known {
                Some(host) => Ok(host.id.clone()),
                None if hosts.is_empty() => Ok(named.to_owned()),
                None => bail!("the inventory does not know the host `{named}`"),
            };
        }
        let own = host_name();
        match (self.inventory.find(&own).and_then(|index| self.inventory.host(index)), hosts) {
            (Some(host), _) => Ok(host.id.clone()),
            (None, [only]) => Ok(only.id.clone()),
            (None, _) => Ok(own.to_string()),
        }
    }
}

/// Name and content of a document.
///
/// # Errors
/// If it cannot be read. What is too long for a policy is read one byte too far, for the check to refuse.
pub(crate) fn read(path: &Path) -> anyhow::Result<(String, Vec<u8>)> {
    Ok((name(path), read_up_to(path, limits::DOCUMENT_BYTES_MAX)?))
}

/// What messages call a file.
pub(crate) fn name(path: &Path) -> String {
    if is_standard_input(path) { "standard input".to_owned() } else { path.display().to_string() }
}

/// Whether a file is called `-`.
pub(crate) fn is_standard_input(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn read_inventory(path: &Path) -> anyhow::Result<Inventory> {
    let bytes = read_up_to(path, limits::INVENTORY_BYTES_MAX)?;
    Inventory::read(&bytes).with_context(|| name(path))
}

/// The first `limit` bytes of a file and one more.
pub(crate) fn read_up_to(path: &Path, limit: usize) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = limit as u64 + 1;
    let read = if is_standard_input(path) {
        stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    read.with_context(|| name(path))?;
    Ok(bytes)
}
