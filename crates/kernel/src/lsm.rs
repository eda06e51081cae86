//! Whether this kernel runs programs of the LSM tier: found out with the least of them, which notes that it ran.
//!
//! The list of security modules would be another way to ask, but a kernel can refuse such programs although `bpf` is in
//! that list, and can take and attach them although it is not: then they never run, and nothing says so.

use std::{io, os::fd::AsFd};

use crate::{
    btf::{Btf, BtfError},
    sys,
};

/// The kernel's function of the hook that the program is attached to: every call of bpf(2) comes by there.
const FUNCTION: &str = "bpf_lsm_bpf";

/// Why no program of the LSM tier would run here.
#[derive(Debug, thiserror::Error)]
pub enum LsmError {
    /// Nothing tells where the kernel's functions are.
    #[error(transparent)]
    Types(#[from] BtfError),
    /// The kernel has no such hooks.
    #[error("the kernel has no security module bpf (CONFIG_BPF_LSM)")]
    Absent,
    /// It has them, and does not take programs for them.
    #[error("the kernel refuses programs of security hooks: {0}")]
    Refused(io::Error),
    /// It takes the program and never runs it.
    #[error(
        "the security module bpf is not on (lsm= on the kernel command line): a program would never run"
    )]
    Inert,
}

/// Loads and attaches the least program for a moment, and looks whether it ran.
///
/// # Errors
/// Why the tier is not there.
pub(crate) fn is_on() -> Result<(), LsmError> {
    let function = Btf::running()?.function(FUNCTION).ok_or(LsmError::Absent)?;
    let ran = sys::array_create(8, None).map_err(LsmError::Refused)?;
    let program = sys::noting_program(ran.as_fd(), function).map_err(LsmError::Refused)?;
    let link = sys::tracepoint_open(program.as_fd()).map_err(LsmError::Refused)?;
    // Asking is a call of bpf(2) by itself.
    let value = sys::array_get(ran.as_fd()).and_then(|_first| sys::array_get(ran.as_fd()));
    drop(link);
    let noted = value.map_err(LsmError::Refused)?.iter().any(|&byte| byte != 0);
    if noted { Ok(()) } else { Err(LsmError::Inert) }
}
