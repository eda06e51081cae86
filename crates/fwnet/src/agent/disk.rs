//! The directory of the state on a real disk, through one descriptor: wherever the path leads later, what was opened is
//! what is used.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::OwnedFd,
    path::Path,
};

use ::agent::store::Disk;
use rustix::{
    fs::{AtFlags, Dir, Mode, OFlags, fsync, linkat, openat, renameat, unlinkat},
    io::Errno,
};

/// Bytes of the longest file that is read: a list of a million prefixes has 45 MB at most.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// A directory that only root can read, as are the files in it.
#[derive(Debug)]
pub(crate) struct Directory(OwnedFd);

impl Directory {
    /// Opens `path`, and makes it where it is not there.
    ///
    /// # Errors
    /// If it cannot be made, or is no directory.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        match Self::open_existing(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => Self::open_existing(path),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Opens `path`, for those who only look.
    ///
    /// # Errors
    /// If it is not there, or is no directory.
    pub(crate) fn open_existing(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(path, flags, Mode::empty())?))
    }

    fn file(&self, name: &str, flags: OFlags) -> Result<File, Errno> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&self.0, name, flags, Mode::RUSR | Mode::WUSR).map(File::from)
    }
}

impl Disk for Directory {
    fn names(&mut self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.0)? {
            // What is not UTF-8 is not ours.
            if let Ok(name) = entry?.file_name().to_str()
                && !matches!(name, "." | "..")
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        // NONBLOCK: a FIFO in the place of a file must not hold the agent.
        let file = match self.file(name, OFlags::RDONLY | OFlags::NONBLOCK) {
            Err(Errno::NOENT) => return Ok(None),
            opened => opened?,
        };
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(Some(bytes))
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.file(name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)?.write_all(bytes)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.file(name, OFlags::WRONLY)?.sync_all()
    }

    fn link(&mut self, from: &str, to: &str) -> io::Result<()> {
        Ok(linkat(&self.0, from, &self.0, to, AtFlags::empty())?)
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        Ok(renameat(&self.0, from, &self.0, to)?)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        match unlinkat(&self.0, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        Ok(fsync(&self.0)?)
    }
}

#[cfg(test)]
mod tests {
    use ::agent::store::Store;

    use super::*;

    struct Scratch(std::path::PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("fwnet-disk-{name}-{}", std::process::id())))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _removed = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_store_on_a_real_disk_is_found_again() {
        let scratch = Scratch::new("found");
        let open = || {
            Store::<_, String>::open(Directory::open(&scratch.0.join("state")).unwrap()).unwrap()
        };
        let mut store = open();
        for place in ["first", "second"] {
            store.set_place(place.to_owned()).unwrap();
        }
        assert!(store.health().is_well(), "{:?}", store.health().sentences());
        assert_eq!(open().state(), store.state());
        std::fs::write(scratch.0.join("state/place"), "").unwrap();
        let mut again = open();
        assert_eq!(again.state().place.as_deref(), Some("first"));
        again.set_place("third".to_owned()).unwrap();
        assert_eq!(open().state().place.as_deref(), Some("third"));
        let mut names = Directory::open(&scratch.0.join("state")).unwrap().names().unwrap();
        names.sort();
        assert_eq!(names, ["place", "place.last", "place.unusable"]);
    }

    #[test]
    fn a_file_is_never_written_in_place_and_a_link_is_not_followed() {
        let scratch = Scratch::new("place");
        let mut disk = Directory::open(&scratch.0).unwrap();
        disk.write("name", b"first").unwrap();
        assert_eq!(disk.write("name", b"second").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        std::os::unix::fs::symlink("/etc/passwd", scratch.0.join("link")).unwrap();
        disk.read("link").unwrap_err();
        assert_eq!(disk.read("absent").unwrap(), None);
        disk.remove("absent").unwrap();
    }
}
