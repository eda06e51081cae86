//! The number of an executable's file, as the programs read it from the kernel's own inode ([`verdict::abi::exe`]).
//!
//! stat(2) is not asked for the device and the inode: where a file system shows others than it has inside (Btrfs shows a
//! device for each subvolume, overlayfs may show those of the layer below), it would be another file. What the kernel has
//! inside stands in `/proc/self/fdinfo` (the inode, since 5.14) and `/proc/self/mountinfo` (the device of the mount).

use std::{
    fs::{self, File},
    io,
    os::{fd::AsRawFd, unix::fs::MetadataExt},
};

use rustix::{
    fs::fstatfs,
    ioctl::{Getter, Opcode, ioctl, opcode},
};
use verdict::abi::{self, GENERATIONS};

/// `FS_IOC_GETVERSION` (include/uapi/linux/fs.h): declared with a `long`, but file systems write 32 bits.
const GETVERSION: Opcode = opcode::read::<libc::c_long>(b'v', 1);

/// The number of an open file. It stays the same while the file lives, whatever it is called, and on file systems that
/// count generations ([`GENERATIONS`]) no later file gets it; on others a later file may, with the inode of this one.
///
/// # Errors
/// Where the file system does not answer.
pub fn exe_number(file: &File) -> io::Result<u64> {
    let (device, inode) = device_and_inode(file)?;
    Ok(abi::exe(device, inode, generation(file)?))
}

/// The device and the inode of an open file or directory, as the kernel has them inside.
pub(crate) fn device_and_inode(file: &File) -> io::Result<(u32, u64)> {
    let metadata = file.metadata()?;
    let (inode, mount) = inside(file);
    // A file of a mount that is not in our mount namespace has only what stat(2) says.
    let device = mount.and_then(device_of_mount).unwrap_or_else(|| {
        packed(rustix::fs::major(metadata.dev()), rustix::fs::minor(metadata.dev()))
    });
    Ok((device, inode.unwrap_or_else(|| metadata.ino())))
}

/// `dev_t` as the kernel keeps it (include/linux/kdev_t.h).
fn packed(major: u32, minor: u32) -> u32 {
    major << 20 | minor & 0xf_ffff
}

/// The inode and the mount's number in a descriptor's fdinfo (proc_pid_fdinfo(5)).
fn inside(file: &File) -> (Option<u64>, Option<u64>) {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd()));
    let text = text.unwrap_or_default();
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|text| text.trim().parse().ok())
    };
    (field("ino:"), field("mnt_id:"))
}

/// The device of a mount of this mount namespace: the third field of its line (proc_pid_mountinfo(5)).
fn device_of_mount(mount: u64) -> Option<u32> {
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    table.lines().find_map(|line| {
        let mut fields = line.split(' ');
        (fields.next()?.parse() == Ok(mount)).then_some(())?;
        let (major, minor) = fields.nth(1)?.split_once(':')?;
        Some(packed(major.parse().ok()?, minor.parse().ok()?))
    })
}

/// The inode's generation on file systems that count them, else 0: the same choice as the programs make.
fn generation(file: &File) -> io::Result<u32> {
    let kind = fstatfs(file)?.f_type;
    if !GENERATIONS.contains(&kind.cast_unsigned()) {
        return Ok(0);
    }
    // SAFETY: the request reads nothing and writes at most a `long`, which is what the getter has room for.
    let version = unsafe { ioctl(file, Getter::<{ GETVERSION }, libc::c_long>::new()) }?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "32 bits are written"
    )]
    Ok(version as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_number_and_another_file_another() {
        let of = |path: &str| exe_number(&File::open(path).expect("readable")).expect("a number");
        assert_eq!(of("/bin/sh"), of("/bin/sh"));
        assert_ne!(of("/bin/sh"), of("/bin/ls"));
        assert_ne!(of("/bin/sh"), 0);
    }

    #[test]
    fn a_file_that_takes_the_inode_of_another_has_a_number_of_its_own() {
        let directory = std::env::temp_dir();
        let kind = fstatfs(File::open(&directory).expect("readable")).expect("a file system");
        if !GENERATIONS.contains(&kind.f_type.cast_unsigned()) {
            return;
        }
        let path = directory.join(format!("fwnet-generation-{}", std::process::id()));
        // The inode is given out again as a rule at once; where it is not, there is nothing to tell apart.
        let mut seen: Vec<(u64, u64)> = Vec::new();
        for _ in 0..64 {
            let file = File::create(&path).expect("writable");
            let inode = file.metadata().expect("just made").ino();
            seen.push((inode, exe_number(&file).expect("a number")));
            drop(file);
            fs::remove_file(&path).expect("just made");
        }
        let mut numbers: Vec<u64> = seen.iter().map(|&(_, number)| number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), seen.len(), "{seen:?}");
    }
}
