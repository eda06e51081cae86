//! A directory in memory that keeps apart what a program sees and what outlives a loss of power.
//!
//! It promises less than any file system does: a rename is two changes of names, either of which may be lost, and
//! content that was not synced may be anything.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    io::{self, ErrorKind},
    rc::Rc,
};

use agent::store::Disk;

/// What happens when the steps are used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Every later call fails: the power is gone.
    PowerLoss,
    /// That one call fails, as on a full disk.
    OneError,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct File {
    content: Vec<u8>,
    synced: bool,
}

#[derive(Clone, Debug, Default)]
struct Directory {
    files: Vec<File>,
    /// What a program sees.
    names: BTreeMap<String, usize>,
    /// What outlives a loss of power.
    certain: BTreeMap<String, usize>,
    /// Changes of names since they were last certain.
    changes: Vec<(String, Option<usize>)>,
    steps: usize,
    trouble: Option<(usize, Trouble)>,
}

/// A handle of the directory: clones are the same directory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Simulated(Rc<RefCell<Directory>>);

impl Simulated {
    /// The directory with these files, all certain.
    pub(crate) fn with(content: BTreeMap<String, Vec<u8>>) -> Self {
        let mut directory = Directory::default();
        for (name, content) in content {
            directory.certain.insert(name, directory.files.len());
            directory.files.push(File { content, synced: true });
        }
        directory.names = directory.certain.clone();
        Self(Rc::new(RefCell::new(directory)))
    }

    /// Another directory with the same past.
    pub(crate) fn copy(&self) -> Self {
        Self(Rc::new(RefCell::new(self.0.borrow().clone())))
    }

    /// From now on `steps` calls that change something succeed.
    pub(crate) fn trouble_after(&self, steps: usize, trouble: Trouble) {
        self.0.borrow_mut().trouble = Some((steps, trouble));
    }

    /// Changing calls so far.
    pub(crate) fn steps(&self) -> usize {
        self.0.borrow().steps
    }

    /// What a program sees.
    pub(crate) fn content(&self) -> BTreeMap<String, Vec<u8>> {
        let directory = self.0.borrow();
        let files = directory.names.iter();
        files.map(|(name, &file)| (name.clone(), directory.files[file].content.clone())).collect()
    }

    /// Everything that may be on disk once the power is back.
    pub(crate) fn after_power_loss(&self) -> BTreeSet<BTreeMap<String, Vec<u8>>> {
        let directory = self.0.borrow();
        let changes = &directory.changes;
        assert!(changes.len() < 12, "names are made certain often enough to try every combination");
        let mut images = BTreeSet::new();
        for kept in 0..1u32 << changes.len() {
            let mut names = directory.certain.clone();
            for (_, (name, file)) in
                changes.iter().enumerate().filter(|(number, _)| kept >> number & 1 == 1)
            {
                match file {
                    Some(file) => names.insert(name.clone(), *file),
                    None => names.remove(name),
                };
            }
            images.extend(contents(&names, &directory.files));
        }
        images
    }

    fn change<T>(&self, made: impl FnOnce(&mut Directory) -> io::Result<T>) -> io::Result<T> {
        let mut directory = self.0.borrow_mut();
        match &mut directory.trouble {
            Some((0, Trouble::PowerLoss)) => return Err(io::Error::other("the power is gone")),
            Some((0, Trouble::OneError)) => {
                directory.trouble = None;
                return Err(ErrorKind::StorageFull.into());
            }
            Some((steps, _)) => *steps -= 1,
            None => {}
        }
        directory.steps += 1;
        made(&mut directory)
    }
}

/// What files of these names may hold: what was not synced is whole, empty, cut or torn.
fn contents(names: &BTreeMap<String, usize>, files: &[File]) -> Vec<BTreeMap<String, Vec<u8>>> {
    let mut all = vec![BTreeMap::new()];
    for (name, &file) in names {
        let File { content, synced } = &files[file];
        let mut forms = vec![content.clone()];
        if !synced {
            let torn = |(at, &byte): (usize, &u8)| if at % 64 < 32 { 0 } else { byte };
            forms.push(Vec::new());
            forms.push(content[..content.len() / 2].to_vec());
            forms.push(content.iter().enumerate().map(torn).collect());
        }
        all = all
            .into_iter()
            .flat_map(|image| {
                forms.iter().map(move |form| {
                    let mut image = image.clone();
                    image.insert(name.clone(), form.clone());
                    image
                })
            })
            .collect();
    }
    all
}

impl Directory {
    fn set(&mut self, name: &str, file: Option<usize>) {
        match file {
            Some(file) => self.names.insert(name.to_owned(), file),
            None => self.names.remove(name),
        };
        self.changes.push((name.to_owned(), file));
    }

    fn file(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn free(&self, name: &str) -> io::Result<()> {
        if self.names.contains_key(name) { Err(ErrorKind::AlreadyExists.into()) } else { Ok(()) }
    }
}

impl Disk for Simulated {
    fn names(&mut self) -> io::Result<Vec<String>> {
        Ok(self.0.borrow().names.keys().cloned().collect())
    }

    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let directory = self.0.borrow();
        Ok(directory.names.get(name).map(|&file| directory.files[file].content.clone()))
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.change(|directory| {
            directory.free(name)?;
            directory.files.push(File { content: bytes.to_vec(), synced: false });
            directory.set(name, Some(directory.files.len() - 1));
            Ok(())
        })
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.change(|directory| {
            let file = directory.file(name)?;
            directory.files[file].synced = true;
            Ok(())
        })
    }

    fn link(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.change(|directory| {
            let file = directory.file(from)?;
            directory.free(to)?;
            directory.set(to, Some(file));
            Ok(())
        })
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.change(|directory| {
            let file = directory.file(from)?;
            if directory.names.get(to) != Some(&file) {
                directory.set(to, Some(file));
                directory.set(from, None);
            }
            Ok(())
        })
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        if !self.0.borrow().names.contains_key(name) {
            return Ok(());
        }
        self.change(|directory| {
            directory.set(name, None);
            Ok(())
        })
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        if self.0.borrow().changes.is_empty() {
            return Ok(());
        }
        self.change(|directory| {
            directory.certain = directory.names.clone();
            directory.changes.clear();
            Ok(())
        })
    }
}
