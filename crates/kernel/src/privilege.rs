//! What the caller must be allowed to do before anything is tried.

use rustix::thread::{CapabilitySet, capabilities};

/// A capability is missing (capabilities(7)).
#[derive(Debug, thiserror::Error)]
#[error("{what} needs {missing}: run it as root")]
pub struct PrivilegeError {
    /// What was wanted.
    pub what: &'static str,
    /// The missing capabilities.
    pub missing: String,
}

/// Loading programs needs CAP_BPF, attaching them CAP_NET_ADMIN; CAP_SYS_ADMIN stands for both.
///
/// # Errors
/// Names the capabilities that the calling thread does not have.
pub fn require(what: &'static str) -> Result<(), PrivilegeError> {
    let held = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    let wanted = [(CapabilitySet::BPF, "CAP_BPF"), (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN")];
    let missing: Vec<&str> = wanted
        .into_iter()
        .filter(|&(capability, _)| !held.contains(capability))
        .map(|(_, name)| name)
        .collect();
    if missing.is_empty() || held.contains(CapabilitySet::SYS_ADMIN) {
        return Ok(());
    }
    Err(PrivilegeError { what, missing: missing.join(" and ") })
}
