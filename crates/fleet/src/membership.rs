//! What makes a host, a relay or an operator part of a fleet: where the controllers are, whom to believe that they are,
//! and the certificate with its key.
//!
//! All of it is one file, so that a certificate and its key change in one rename. It is written when somebody joins and
//! each time the certificate is renewed; the key was made here and never left.

use std::{
    fmt,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The directory of it in the state of an agent.
pub const DIRECTORY: &str = "fleet";
/// The file in that directory.
const FILE: &str = "membership";
/// While it is written.
const NEW: &str = "membership.new";
/// Bytes of the largest that is read.
const BYTES_MAX: u64 = 1 << 20;

/// See [`Membership::renew_again`].
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Who somebody is in a fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Membership {
    /// Whom the certificate names: a host's id, without `fwnet:host/`.
    pub id: String,
    /// Where controllers or relays listen: `ADDRESS:PORT` or `NAME:PORT`, in any order.
    pub endpoints: Vec<String>,
    /// The certificate of the fleet's authority, PEM.
    pub authority: String,
    /// The certificate, PEM.
    pub certificate: String,
    /// Its key, PKCS #8 in PEM.
    pub key: Key,
    /// When the certificate was made.
    pub issued: Timestamp,
    /// From when it does not any more.
    pub expires: Timestamp,
    /// BLAKE3 of the envelope of the root that was brought along, in hexadecimal; empty for those who take no policy.
    #[serde(default)]
    pub root: String,
}

/// A private key, which is not shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(pub String);

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Key")
    }
}

/// Why it is not known who somebody is in a fleet.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// It says something else.
    #[error("{} says nothing of a fleet", path.display())]
    Form {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

/// It was not written. What was there stays.
#[derive(Debug, thiserror::Error)]
#[error("write {}", path.display())]
pub struct SaveError {
    /// The file.
    pub path: PathBuf,
    /// What the system says.
    #[source]
    pub source: io::Error,
}

impl Membership {
    /// What `directory` says; `None` for somebody who never joined.
    ///
    /// # Errors
    /// If there is something that cannot be read.
    pub fn load(directory: &Path) -> Result<Option<Self>, LoadError> {
        let path = directory.join(FILE);
        let mut bytes = Vec::new();
        match File::open(&path).and_then(|file| file.take(BYTES_MAX).read_to_end(&mut bytes)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(LoadError::Read { path, source }),
        }
        match serde_json::from_slice(&bytes) {
            Ok(membership) => Ok(Some(membership)),
            Err(source) => Err(LoadError::Form { path, source }),
        }
    }

    /// Writes it into `directory`, which is made where it is not there, so that only its owner can read it. After a loss
    /// of power either this or what was there before is read.
    ///
    /// # Errors
    /// If it cannot be written; what was there stays.
    pub fn save(&self, directory: &Path) -> Result<(), SaveError> {
        let path = directory.join(FILE);
        let new = directory.join(NEW);
        self.write(directory, &new, &path).map_err(|source| SaveError { path, source })
    }

    /// Forgets the fleet: no file is no error.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(directory: &Path) -> Result<(), SaveError> {
        let path = directory.join(FILE);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(SaveError { path, source }),
            Ok(()) => sync(directory).map_err(|source| SaveError { path, source }),
        }
    }

    /// When the certificate is to be renewed: half of its life is over then.
    pub fn renew_at(&self) -> Timestamp {
        let life = self.expires.duration_since(self.issued);
        self.issued.saturating_add(life / 2).unwrap_or(self.expires)
    }

    /// How long to wait before it is tried again where it failed: some ten times before the certificate is over, and not
    /// more often than every second.
    pub fn renew_again(&self) -> Duration {
        let life = Duration::try_from(self.expires.duration_since(self.issued)).unwrap_or_default();
        (life / 20).clamp(AGAIN.0, AGAIN.1)
    }

    fn write(&self, directory: &Path, new: &Path, path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        match fs::remove_file(new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(new)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.sync_all()?;
        fs::rename(new, path)?;
        sync(directory)
    }
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn membership(id: &str) -> Membership {
        Membership {
            id: id.to_owned(),
            endpoints: vec!["192.0.2.1:8443".to_owned()],
            authority: "authority".to_owned(),
            certificate: "certificate".to_owned(),
            key: Key("secret".to_owned()),
            issued: "2026-01-01T00:00:00Z".parse().unwrap(),
            expires: "2026-01-02T00:00:00Z".parse().unwrap(),
            root: String::new(),
        }
    }

    #[test]
    fn what_was_saved_is_loaded_by_its_owner_only() {
        let scratch = std::env::temp_dir().join(format!("fwnet-membership-{}", std::process::id()));
        let _left = fs::remove_dir_all(&scratch);
        let directory = scratch.join("state/fleet");
        assert_eq!(Membership::load(&directory).unwrap(), None);
        for id in ["web-1", "web-2"] {
            membership(id).save(&directory).unwrap();
            assert_eq!(Membership::load(&directory).unwrap(), Some(membership(id)));
        }
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&directory.join(FILE))), (0o700, 0o600));
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        fs::write(directory.join(FILE), "{}").unwrap();
        let error = Membership::load(&directory).unwrap_err();
        assert!(matches!(error, LoadError::Form { .. }), "{error}");
        Membership::remove(&directory).unwrap();
        Membership::remove(&directory).unwrap();
        assert_eq!(Membership::load(&directory).unwrap(), None);
        fs::remove_dir_all(scratch).unwrap();
    }

    #[test]
    fn a_key_is_not_shown_and_a_certificate_is_renewed_in_the_middle_of_its_life() {
        let one = membership("web-1");
        assert!(!format!("{one:?}").contains("secret"));
        assert_eq!(one.renew_at(), "2026-01-01T12:00:00Z".parse().unwrap());
        assert_eq!(one.renew_again(), Duration::from_secs(60));
        let short = Membership { expires: "2026-01-01T00:01:00Z".parse().unwrap(), ..one };
        assert_eq!(short.renew_again(), Duration::from_secs(3));
    }
}
