//! Loading one program and attaching it to one target.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use aya::programs::{ProgramError, ProgramFd};

use crate::{hook::Hook, hook::Scope, lsm::LsmError, sys};

/// Why a hook is not in place.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The object has no such program.
    #[error("the BPF object has no program for {hook}")]
    Missing {
        /// The hook.
        hook: &'static str,
    },
    /// The kernel does not take the program.
    #[error("load the program of {hook}: {}", verdict_of(source))]
    Load {
        /// The hook.
        hook: &'static str,
        /// What the kernel said.
        source: Box<ProgramError>,
    },
    /// No program of the LSM tier would run here.
    #[error("load the program of {hook}: {source}")]
    Tier {
        /// The hook.
        hook: &'static str,
        /// Why.
        source: Arc<LsmError>,
    },
    /// The kernel's structures are not as the program reads them.
    #[error(
        "load the program of {hook}: this kernel has no {structure}.{field} of {sizes:?} bytes by its own account (BTF)"
    )]
    Field {
        /// The hook.
        hook: &'static str,
        /// The structure.
        structure: &'static str,
        /// Its member.
        field: &'static str,
        /// How wide the program reads it: any of these.
        sizes: &'static [u32],
    },
    /// A copy of the object for one network namespace cannot be made.
    #[error("load a copy of {hook}")]
    Copy {
        /// The hook.
        hook: &'static str,
        /// Why.
        #[source]
        source: crate::object::ObjectError,
    },
    /// The kernel does not attach it there.
    #[error("attach {hook} to {target}")]
    Attach {
        /// The hook.
        hook: &'static str,
        /// The cgroup or network namespace.
        target: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl AttachError {
    /// Why, without the name of the hook: hooks that are not in place for one reason can be told together.
    pub fn reason(&self) -> String {
        match self {
            Self::Missing { .. } => "the BPF object has no program for it".to_owned(),
            Self::Load { source, .. } => verdict_of(source),
            Self::Tier { source, .. } => source.to_string(),
            Self::Field { structure, field, .. } => {
                format!("this kernel's {structure}.{field} is not as it is read")
            }
            Self::Copy { .. } | Self::Attach { .. } => self.to_string(),
        }
    }
}

/// The kernel's answer without the verifier's whole log: the errno and the log's last words.
fn verdict_of(error: &ProgramError) -> String {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "every other error is a sentence of its own"
    )]
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            let last = log.lines().rfind(|line| {
                let line = line.trim();
                !line.is_empty()
                    && !line.starts_with("processed ")
                    && !line.starts_with("verification time")
                    && !line.starts_with("stack depth ")
            });
            match last {
                Some(last) => format!("{io_error} ({})", last.trim()),
                None => io_error.to_string(),
            }
        }
        other => other.to_string(),
    }
}

/// Attaches a loaded program by a link of its own, which detaches it when closed.
pub(crate) fn attach(
    program: &ProgramFd,
    hook: &Hook,
    target: BorrowedFd<'_>,
    name: &str,
) -> Result<OwnedFd, AttachError> {
    let program = program.as_fd();
    let link = match hook.scope {
        Scope::Cgroup | Scope::Netns => sys::link_create(program, target, hook.attach_type),
        // A security hook's program is attached as a tracepoint's is (`bpf_raw_tp_link_attach` in kernel/bpf/syscall.c).
        Scope::Host => sys::tracepoint_open(program),
    };
    link.map_err(|source| AttachError::Attach { hook: hook.name, target: name.to_owned(), source })
}
