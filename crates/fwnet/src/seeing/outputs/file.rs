//! Events in a file, one object a line. A full file becomes `FILE.1`, that one `FILE.2`, and the last one goes.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Such a file.
#[derive(Debug)]
pub(crate) struct EventFile {
    path: PathBuf,
    bytes_max: u64,
    kept: u32,
    open: Option<(File, u64)>,
}

impl EventFile {
    /// Nothing is opened yet.
    pub(crate) fn new(path: &Path, bytes_max: u64, kept: u32) -> Self {
        Self { path: path.to_owned(), bytes_max, kept, open: None }
    }

    /// Appends whole lines.
    ///
    /// # Errors
    /// Where there is no room, or the path cannot be written. What is left of a line that did not fit is ended by the
    /// next one, so that no two run together.
    pub(crate) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let full = self.open.as_ref().is_some_and(|(_, bytes)| {
            *bytes > 0 && bytes.saturating_add(lines.len() as u64) > self.bytes_max
        });
        if full {
            self.open = None;
            self.rotate()?;
        }
        if self.open.is_none() {
            self.reopen()?;
        }
        let Some((file, bytes)) = &mut self.open else { return Ok(()) };
        let written = file.write_all(lines);
        match &written {
            Ok(()) => *bytes = bytes.saturating_add(lines.len() as u64),
            Err(_) => {
                let _ended = file.write_all(b"\n");
                self.open = None;
            }
        }
        written
    }

    /// Opens what stands at the path now, or makes it: whoever keeps old files (logrotate(8)) may have moved the one that
    /// was written. Every line before is in that one already.
    ///
    /// # Errors
    /// Where the path cannot be opened; the next write tries again.
    pub(crate) fn reopen(&mut self) -> io::Result<()> {
        self.open = None;
        // Who reads events learns who talks to whom: not for everybody.
        let file = OpenOptions::new().create(true).append(true).mode(0o640).open(&self.path)?;
        let bytes = file.metadata()?.len();
        self.open = Some((file, bytes));
        Ok(())
    }

    fn rotate(&self) -> io::Result<()> {
        let numbered = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        if self.kept == 0 {
            return fs::remove_file(&self.path);
        }
        for number in (1..self.kept).rev() {
            match fs::rename(numbered(number), numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        fs::rename(&self.path, numbered(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_files_move_on_and_the_last_one_goes() {
        let directory = std::env::temp_dir().join(format!("fwnet-file-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("events.json");
        let mut file = EventFile::new(&path, 10, 2);
        for line in ["1234567\n", "2\n", "3333333\n", "4444444\n", "5555555\n"] {
            file.write(line.as_bytes()).unwrap();
        }
        let read = |name: &str| fs::read_to_string(directory.join(name)).ok();
        let found = ["events.json", "events.json.1", "events.json.2", "events.json.3"].map(read);
        fs::remove_dir_all(&directory).unwrap();
        let wanted = [Some("5555555\n"), Some("4444444\n"), Some("3333333\n"), None];
        assert_eq!(found.map(|text| text), wanted.map(|text| text.map(str::to_owned)));
    }
}
