//! What the verbs that sign have in common: files of keys, moments, envelopes on disk.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    str::FromStr,
};

use anyhow::{Context, bail};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use wire::{Envelope, NamedKey, PublicKey, Role, SecretKey, Trust, limits};

use crate::{
    documents::{name, read_up_to, write_whole},
    duration,
    report::host_name,
};

/// What the first field of a key's file says.
const FORMAT: &str = "fwnet-key-1";
/// Bytes of the longest file of a key.
const KEY_BYTES_MAX: usize = 4_096;
/// Bits of a mode that let others than the owner in.
const OTHERS: u32 = 0o077;

/// A key's file. Whoever can read it can sign.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    format: String,
    /// Whose it is.
    name: String,
    /// What it is for: it signs nothing else.
    role: Role,
    public: PublicKey,
    secret: String,
}

/// A key that was read from its file.
pub(crate) struct Key {
    pub(crate) named: NamedKey,
    pub(crate) role: Role,
    secret: SecretKey,
}

impl Key {
    /// Makes a key from the kernel's random numbers and writes it to a new file, which only its owner can read.
    ///
    /// # Errors
    /// If there is such a file already, or it cannot be written.
    pub(crate) fn make(name: String, role: Role, path: &Path) -> anyhow::Result<Self> {
        let secret = SecretKey::from_seed(random()?);
        let public = secret.public();
        let kept = Kept {
            format: FORMAT.to_owned(),
            name: name.clone(),
            role,
            public: public.clone(),
            secret: secret.reveal(),
        };
        let text = format!("{:#}\n", serde_json::to_value(&kept)?);
        let mut open = OpenOptions::new();
        let mut file = open
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .with_context(|| format!("make {}", path.display()))?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        if written.is_err() {
            // Half a key is none.
            let _removed = fs::remove_file(path);
        }
        written.with_context(|| format!("write {}", path.display()))?;
        Ok(Self { named: NamedKey { name, key: public }, role, secret })
    }

    /// Reads a key's file.
    ///
    /// # Errors
    /// If it is none, or others can read it.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let mode = fs::metadata(path).with_context(|| name(path))?.permissions().mode();
        if mode & OTHERS != 0 {
            bail!("{} can be read by others (mode {:o}): chmod 600 it", name(path), mode & 0o777);
        }
        let bytes = read_up_to(path, KEY_BYTES_MAX)?;
        let kept: Kept = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is not a key of fwnet", name(path)))?;
        if kept.format != FORMAT {
            bail!(
                "{} has the format {:?}, and {FORMAT:?} is what is read",
                name(path),
                kept.format
            );
        }
        let secret = SecretKey::from_str(&kept.secret).with_context(|| name(path))?;
        if secret.public() != kept.public {
            bail!("{}: the public key is not that of the secret", name(path));
        }
        Ok(Self { named: NamedKey { name: kept.name, key: kept.public }, role: kept.role, secret })
    }

    /// The secret itself, for somebody who signs later.
    pub(crate) fn into_secret(self) -> SecretKey {
        self.secret
    }

    /// Signs, if that is what the key is for.
    ///
    /// # Errors
    /// If it is for another role.
    pub(crate) fn sign(&self, role: Role, envelope: &mut Envelope) -> anyhow::Result<()> {
        if self.role != role {
            let name = &self.named.name;
            bail!("the key of {name} is for the role {}, and this is for {role}", self.role);
        }
        envelope.sign(&self.secret);
        Ok(())
    }
}

/// From the kernel's random numbers.
///
/// # Errors
/// If it gives none.
pub(crate) fn random() -> anyhow::Result<[u8; 32]> {
    let mut seed = [0; 32];
    let mut filled = 0;
    while filled < seed.len() {
        let rest = seed.get_mut(filled..).unwrap_or_default();
        filled += rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty())
            .context("ask the kernel for random numbers")?;
    }
    Ok(seed)
}

/// A moment to come, as it is typed: `90d`, or `2027-01-31T00:00:00Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// A time from now on.
    After(SignedDuration),
    /// That moment.
    At(Timestamp),
}

impl Expiry {
    /// The moment, in whole seconds.
    ///
    /// # Errors
    /// If it is beyond what the calendar holds.
    pub(crate) fn from(self, now: Timestamp) -> anyhow::Result<Timestamp> {
        let moment = match self {
            Self::At(moment) => moment,
            Self::After(time) => now.checked_add(time).context("that is too far in the future")?,
        };
        Ok(Timestamp::from_second(moment.as_second())?)
    }
}

impl FromStr for Expiry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(moment) = text.parse() {
            return Ok(Self::At(moment));
        }
        let time = duration::parse(text)?;
        SignedDuration::try_from(time).map(Self::After).map_err(|error| error.to_string())
    }
}

/// Reads an envelope.
///
/// # Errors
/// If it is none.
pub(crate) fn envelope(path: &Path) -> anyhow::Result<Envelope> {
    let bytes = read_up_to(path, limits::BUNDLE_BYTES_MAX)?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is not signed by fwnet", name(path)))
}

/// As an envelope is written.
pub(crate) fn text(envelope: &Envelope) -> anyhow::Result<String> {
    Ok(format!("{}\n", serde_json::to_string_pretty(envelope)?))
}

/// Writes a file, or standard output where none is named. A file is written beside and renamed: there is never half of
/// it.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn write(out: Option<&Path>, text: &str) -> anyhow::Result<()> {
    let Some(out) = out else { return crate::answer::print(text) };
    write_whole(out, text, None).with_context(|| format!("write {}", out.display()))
}

/// What this host is called: as somebody said, or as the machine says.
pub(crate) fn host(said: Option<&str>) -> String {
    said.map_or_else(|| host_name().to_string(), str::to_owned)
}

/// Reads a bundle, as text and up to its limit and one byte, which verification refuses.
///
/// # Errors
/// If it cannot be read, or is no text.
pub(crate) fn bundle(path: &Path) -> anyhow::Result<String> {
    String::from_utf8(read_up_to(path, limits::BUNDLE_BYTES_MAX)?).with_context(|| name(path))
}

/// Begins to trust the root in a file.
///
/// # Errors
/// If it cannot be read, or is none.
pub(crate) fn root(path: &Path) -> anyhow::Result<Trust> {
    let bytes = read_up_to(path, 4 * limits::ROOT_BYTES_MAX)?;
    Trust::begin(&bytes).with_context(|| name(path))
}
