//! What names meant when rules were compiled, and whether they mean the same now: a service or a container that is started
//! again has another cgroup, an executable that was replaced is another file.
//!
//! Rules are compiled anew when a name means something else. Processes that still run an executable's file from before
//! belong to its name until the last of them has ended: the numbers that this process has known of a path are remembered
//! for that. What was replaced before it looked for the first time is not known by any name.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use policy::Identities;

use crate::names::{Names, exe_of};

/// Numbers of one path that are remembered at most; the oldest go first.
const FORMER_MAX: usize = 16;
/// How often is looked whether processes still run what was replaced: that walks through all of them.
const ENDED_EVERY: Duration = Duration::from_secs(30);

/// Files that stood at a path before, by their numbers, the oldest first. One for the process, because rules are compiled
/// in several places of it.
static FORMER: Mutex<BTreeMap<String, Vec<u64>>> = Mutex::new(BTreeMap::new());

/// What a name is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    User,
    Group,
    Exe,
    Unit,
    Container,
    Netns,
}

/// Names of this machine that remember what they were asked.
#[derive(Debug)]
pub(crate) struct Followed {
    names: Names,
    asked: RefCell<BTreeMap<(Kind, String), Option<u64>>>,
    former: BTreeMap<String, Vec<u64>>,
}

/// What the names of rules meant when the rules were compiled.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meant {
    names: BTreeMap<(Kind, String), Option<u64>>,
    former: BTreeMap<String, Vec<u64>>,
    looked: Cell<Option<Instant>>,
}

impl Followed {
    /// Of this machine, now.
    pub(crate) fn here() -> Self {
        Self { names: Names::here(), asked: RefCell::default(), former: running(&known()) }
    }

    /// What was asked.
    pub(crate) fn meant(self) -> Meant {
        let names = self.asked.into_inner();
        let mut known = FORMER.lock().unwrap_or_else(PoisonError::into_inner);
        for ((kind, path), number) in &names {
            if let (Kind::Exe, Some(number)) = (kind, number) {
                let numbers = known.entry(path.clone()).or_default();
                numbers.retain(|known| known != number);
                numbers.push(*number);
                let surplus = numbers.len().saturating_sub(FORMER_MAX);
                numbers.drain(..surplus);
            }
        }
        Meant { names, former: self.former, looked: Cell::new(Some(Instant::now())) }
    }

    fn note(&self, kind: Kind, name: &str, number: Option<u64>) {
        self.asked.borrow_mut().insert((kind, name.to_owned()), number);
    }
}

impl Meant {
    /// Whether a name means something else by now. Costs a look at each file and cgroup that rules name, at passwd and
    /// group where they name users, and now and then a walk through the processes where files were replaced.
    pub(crate) fn has_changed(&self) -> bool {
        if self.names.is_empty() {
            return false;
        }
        let now = Names::here();
        let changed =
            self.names.iter().any(|((kind, name), number)| look_up(&now, *kind, name) != *number);
        if changed || self.former.is_empty() {
            return changed;
        }
        if self.looked.get().is_some_and(|looked| looked.elapsed() < ENDED_EVERY) {
            return false;
        }
        self.looked.set(Some(Instant::now()));
        running(&self.former) != self.former
    }

    /// Takes what the names mean now for what they meant, because rules cannot be compiled with it: not to try again until
    /// something changes once more.
    pub(crate) fn give_up(&mut self) {
        let now = Names::here();
        for ((kind, name), number) in &mut self.names {
            *number = look_up(&now, *kind, name);
        }
    }
}

fn look_up(names: &Names, kind: Kind, name: &str) -> Option<u64> {
    match kind {
        Kind::User => names.user(name).map(u64::from),
        Kind::Group => names.group(name).map(u64::from),
        Kind::Exe => names.exe(name),
        Kind::Unit => names.unit(name),
        Kind::Container => names.container(name),
        Kind::Netns => names.netns(name),
    }
}

fn known() -> BTreeMap<String, Vec<u64>> {
    FORMER.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Those of `files` that processes run and that no longer stand at their path.
fn running(files: &BTreeMap<String, Vec<u64>>) -> BTreeMap<String, Vec<u64>> {
    let replaced: BTreeMap<&String, Vec<u64>> = files
        .iter()
        .map(|(path, numbers)| {
            let current = exe_of(path.as_ref());
            (path, numbers.iter().copied().filter(|number| Some(*number) != current).collect())
        })
        .filter(|(_, numbers): &(_, Vec<u64>)| !numbers.is_empty())
        .collect();
    if replaced.is_empty() {
        return BTreeMap::new();
    }
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    let run: BTreeSet<u64> = processes
        .map(|process: PathBuf| process.join("exe"))
        .filter_map(|exe| exe_of(&exe))
        .collect();
    replaced
        .into_iter()
        .map(|(path, numbers)| {
            (path.clone(), numbers.into_iter().filter(|number| run.contains(number)).collect())
        })
        .filter(|(_, numbers): &(_, Vec<u64>)| !numbers.is_empty())
        .collect()
}

impl Identities for Followed {
    fn user(&self, name: &str) -> Option<u32> {
        let number = self.names.user(name);
        self.note(Kind::User, name, number.map(u64::from));
        number
    }

    fn group(&self, name: &str) -> Option<u32> {
        let number = self.names.group(name);
        self.note(Kind::Group, name, number.map(u64::from));
        number
    }

    fn exe(&self, path: &str) -> Option<u64> {
        let number = self.names.exe(path);
        self.note(Kind::Exe, path, number);
        number
    }

    fn unit(&self, name: &str) -> Option<u64> {
        let number = self.names.unit(name);
        self.note(Kind::Unit, name, number);
        number
    }

    fn container(&self, name: &str) -> Option<u64> {
        let number = self.names.container(name);
        self.note(Kind::Container, name, number);
        number
    }

    fn netns(&self, name: &str) -> Option<u64> {
        let number = self.names.netns(name);
        self.note(Kind::Netns, name, number);
        number
    }

    fn above(&self, cgroup: u64) -> Vec<u64> {
        self.names.above(cgroup)
    }

    fn former_exes(&self, path: &str) -> Vec<u64> {
        self.former.get(path).cloned().unwrap_or_default()
    }
}
