//! What names meant when rules were compiled, and whether they mean the same now: a service or a container that is started
//! again has another cgroup, an executable that was replaced is another file.
//!
//! Rules are compiled anew when a name means something else. Processes that still run an executable's file from before
//! belong to its name until the last of them has ended, and sockets that a unit or a container made before it was started
//! again belong to it as long as they are open: the numbers that this process has known of a name are remembered for that.
//! What was replaced before it looked for the first time is not known by any name.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use policy::{Identities, syntax::Qualifier};

use crate::{
    cgroups::{Home, is_gone},
    names::{Names, exe_of},
};

/// Numbers of one name that are remembered at most; the oldest go first.
const FORMER_MAX: usize = 16;
/// How often is looked whether processes still run what was replaced: that walks through all of them.
const ENDED_EVERY: Duration = Duration::from_secs(30);

/// What names meant before, the oldest first. One for the process, because rules are compiled in several places of it.
static FORMER: Mutex<Former> = Mutex::new(Former { exes: BTreeMap::new(), homes: BTreeMap::new() });

/// Numbers and cgroups that names had.
#[derive(Clone, Debug, Default)]
struct Former {
    /// By path.
    exes: BTreeMap<String, Vec<u64>>,
    /// Of units and containers.
    homes: BTreeMap<(Qualifier, String), Vec<Home>>,
}

/// Names of this machine that remember what they were asked.
#[derive(Debug)]
pub(crate) struct Followed {
    names: Names,
    asked: RefCell<BTreeMap<(Qualifier, String), Option<u64>>>,
    /// Where units and containers are.
    homes: RefCell<BTreeMap<(Qualifier, String), Home>>,
    former: Former,
}

/// What the names of rules meant when the rules were compiled.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meant {
    names: BTreeMap<(Qualifier, String), Option<u64>>,
    former: BTreeMap<String, Vec<u64>>,
    /// When the processes were last walked through; of one compilation and its copies.
    looked: Arc<Mutex<Option<Instant>>>,
}

impl Followed {
    /// Of this machine, now.
    pub(crate) fn here() -> Self {
        let known = FORMER.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let gone = |(name, homes): (&(Qualifier, String), &Vec<Home>)| {
            (name.clone(), homes.iter().filter(|home| is_gone(home)).cloned().collect())
        };
        let former =
            Former { exes: running(&known.exes), homes: known.homes.iter().map(gone).collect() };
        Self { names: Names::here(), asked: RefCell::default(), homes: RefCell::default(), former }
    }

    /// What was asked.
    pub(crate) fn meant(self) -> Meant {
        let names = self.asked.into_inner();
        let mut known = FORMER.lock().unwrap_or_else(PoisonError::into_inner);
        for ((kind, path), number) in &names {
            if let (Qualifier::Exe, Some(number)) = (kind, number) {
                remember(known.exes.entry(path.clone()).or_default(), *number);
            }
        }
        for (name, home) in self.homes.into_inner() {
            remember(known.homes.entry(name).or_default(), home);
        }
        Meant {
            names,
            former: self.former.exes,
            looked: Arc::new(Mutex::new(Some(Instant::now()))),
        }
    }

    fn home(&self, kind: Qualifier, name: &str, home: Option<Home>) -> Option<u64> {
        let number = home.as_ref().map(|home| home.id);
        if let Some(home) = home {
            self.homes.borrow_mut().insert((kind, name.to_owned()), home);
        }
        self.note(kind, name, number);
        number
    }

    fn former_homes(&self, kind: Qualifier, name: &str) -> Vec<u64> {
        let homes = self.former.homes.get(&(kind, name.to_owned()));
        homes.into_iter().flatten().map(|home| home.id).collect()
    }

    fn note(&self, kind: Qualifier, name: &str, number: Option<u64>) {
        self.asked.borrow_mut().insert((kind, name.to_owned()), number);
    }
}

/// As the last one, and forgets the first where there are too many.
fn remember<T: PartialEq>(known: &mut Vec<T>, last: T) {
    known.retain(|known| *known != last);
    known.push(last);
    let surplus = known.len().saturating_sub(FORMER_MAX);
    known.drain(..surplus);
}

impl Meant {
    /// Whether a name means something else by now. Costs a look at each file and cgroup that rules name, at passwd and
    /// group where they name users, and now and then a walk through the processes where files were replaced. Units and
    /// containers that are nowhere cost no walk: see [`crate::cgroups`].
    pub(crate) fn has_changed(&self) -> bool {
        if self.names.is_empty() {
            return false;
        }
        let now = Names::lately();
        let changed =
            self.names.iter().any(|((kind, name), number)| look_up(&now, *kind, name) != *number);
        if changed || self.former.is_empty() {
            return changed;
        }
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if looked.is_some_and(|looked| looked.elapsed() < ENDED_EVERY) {
            return false;
        }
        *looked = Some(Instant::now());
        drop(looked);
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

fn look_up(names: &Names, kind: Qualifier, name: &str) -> Option<u64> {
    match kind {
        Qualifier::User => names.user(name).map(u64::from),
        Qualifier::Group => names.group(name).map(u64::from),
        Qualifier::Exe => names.exe(name),
        Qualifier::Unit => names.unit(name),
        Qualifier::Container => names.container(name),
        Qualifier::Netns => names.netns(name),
    }
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
        self.note(Qualifier::User, name, number.map(u64::from));
        number
    }

    fn group(&self, name: &str) -> Option<u32> {
        let number = self.names.group(name);
        self.note(Qualifier::Group, name, number.map(u64::from));
        number
    }

    fn exe(&self, path: &str) -> Option<u64> {
        let number = self.names.exe(path);
        self.note(Qualifier::Exe, path, number);
        number
    }

    fn unit(&self, name: &str) -> Option<u64> {
        self.home(Qualifier::Unit, name, self.names.unit_home(name))
    }

    fn container(&self, name: &str) -> Option<u64> {
        self.home(Qualifier::Container, name, self.names.container_home(name))
    }

    fn netns(&self, name: &str) -> Option<u64> {
        let number = self.names.netns(name);
        self.note(Qualifier::Netns, name, number);
        number
    }

    fn above(&self, cgroup: u64) -> Vec<u64> {
        let homes = self.homes.borrow();
        let mut known = homes.values().chain(self.former.homes.values().flatten());
        let home = known.find(|home| home.id == cgroup);
        home.map_or_else(|| self.names.above(cgroup), |home| home.above.clone())
    }

    fn former_exes(&self, path: &str) -> Vec<u64> {
        self.former.exes.get(path).cloned().unwrap_or_default()
    }

    fn former_units(&self, name: &str) -> Vec<u64> {
        self.former_homes(Qualifier::Unit, name)
    }

    fn former_containers(&self, name: &str) -> Vec<u64> {
        self.former_homes(Qualifier::Container, name)
    }
}
