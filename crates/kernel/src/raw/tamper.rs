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

/// Opens every map of that name to write, whoever made it, as another root process would: by the maps' numbers. The name is
/// cut to 15 bytes, as the kernel keeps it.
///
/// # Errors
/// Those of bpf(2); `EPERM` where a guard refuses one, `NotFound` where there is none.
pub fn open_map(name: &str) -> io::Result<()> {
    let mut found = Err(io::ErrorKind::NotFound.into());
    for map in sys::maps()? {
        // To read is let: so that the name is known before it is opened to write.
        let readable = match sys::map(map, true) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            map => map?,
        };
        if sys::map_name(std::os::fd::AsFd::as_fd(&readable))? == name {
            sys::map(map, false)?;
            found = Ok(());
        }
    }
    found
}
