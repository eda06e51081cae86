//! The 32-bit system calls of x86, made from this 64-bit process by int 0x80.

use std::io;
use std::os::fd::BorrowedFd;

use kernel::raw::address::KernelAddress;
use kernel::raw::ia32::Ia32;
use rustix::net::SocketFlags;

use super::dial;
use crate::door::{Attempt, Protocol};
use crate::error::{DoorError, Stage, at, errno_text};
use crate::opened::Opened;

type Connect = fn(&mut Ia32, BorrowedFd<'_>, &KernelAddress) -> io::Result<()>;

pub(crate) fn socketcall_connect(attempt: &Attempt<'_>) -> Result<Opened, DoorError> {
    by(attempt, Ia32::connect_by_socketcall)
}

pub(crate) fn direct_connect(attempt: &Attempt<'_>) -> Result<Opened, DoorError> {
    by(attempt, Ia32::connect)
}

/// The way to 32-bit calls, or the reason why this machine has none.
pub(crate) fn ia32() -> Result<Ia32, DoorError> {
    Ia32::new().map_err(|error| {
        let text = errno_text(error.raw_os_error().unwrap_or_default());
        DoorError::unsupported(format!("no 32-bit system calls (IA32 emulation): {text}"))
    })
}

fn by(attempt: &Attempt<'_>, connect: Connect) -> Result<Opened, DoorError> {
    let mut ia32 = ia32()?;
    dial(attempt, Protocol::Tcp, SocketFlags::empty(), |socket| {
        connect(&mut ia32, socket, &KernelAddress::from(attempt.target))
            .map_err(at(Stage::Connect))?;
        Ok(0)
    })
}
