//! The one directory that a store needs, as a trait: a real one for the agent, one that loses power for the tests.

use std::io;

/// A directory of plain files. Names are single path components.
///
/// What each call promises is what POSIX promises and no more: a change is certain to outlive a loss of power only
/// after [`sync`](Self::sync) (a file's content) or [`sync_directory`](Self::sync_directory) (which name is which file)
/// has returned. Until then any part of it may be lost, in any order.
pub trait Disk {
    /// The names in the directory, in any order.
    ///
    /// # Errors
    /// If the directory cannot be read.
    fn names(&mut self) -> io::Result<Vec<String>>;

    /// The content of a file, or `None` if there is no such name.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// Writes a new file. A name that is taken is an error: nothing is ever written in place.
    ///
    /// # Errors
    /// If the name is taken or the file cannot be written whole; a part of it may be there then.
    fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Makes the content of a file certain.
    ///
    /// # Errors
    /// If it is not known to be.
    fn sync(&mut self, name: &str) -> io::Result<()>;

    /// Gives a file a second name. A name that is taken is an error.
    ///
    /// # Errors
    /// If it cannot be done; nothing is changed then.
    fn link(&mut self, from: &str, to: &str) -> io::Result<()>;

    /// Gives a file another name and takes that name from whichever file had it.
    ///
    /// # Errors
    /// If it cannot be done; nothing is changed then.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a name. One that is not there is no error.
    ///
    /// # Errors
    /// If it cannot be done.
    fn remove(&mut self, name: &str) -> io::Result<()>;

    /// Makes all names certain.
    ///
    /// # Errors
    /// If they are not known to be.
    fn sync_directory(&mut self) -> io::Result<()>;
}
