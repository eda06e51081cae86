//! What another root process can do to the programs of this crate, for those who try whether it helps.

use std::{io, os::fd::BorrowedFd};

use crate::{hook::Hook, sys};

/// Detaches every link of `hook` on `cgroup`, whoever made it, as another root process would: by the links' numbers.
///
/// # Errors
/// Those of bpf(2); `EPERM` where a guard refuses it.
pub fn detach(cgroup: BorrowedFd<'_>, hook: &str) -> io::Result<()> {
    let hook = Hook::ALL.iter().find(|known| known.name == hook);
    let Some(hook) = hook else { return Err(io::ErrorKind::NotFound.into()) };
    let programs = sys::cgroup_programs(cgroup, hook.attach_type)?;
    for link in sys::links()? {
        let link = match sys::link(link) {
            // It went in the meantime.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            link => link?,
        };
        let info = sys::link_info(std::os::fd::AsFd::as_fd(&link), false)?;
        if programs.contains(&info.program) {
            sys::link_detach(std::os::fd::AsFd::as_fd(&link))?;
        }
    }
    Ok(())
}
