//! The BPF object: the one that was built with this crate, or the one that a test names.

use std::{
    borrow::Cow,
    env, fs, io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use aya::{
    Ebpf, EbpfError, EbpfLoader, include_bytes_aligned,
    maps::{Map, MapData, MapError},
};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use verdict::abi::{EXE_PATH, SLOTS};

use crate::{slots::image_lines, sys};

/// The committed object. `cargo xtask bpf` builds it from crates/ebpf.
static COMMITTED: &[u8] = include_bytes_aligned!("../object/fwnet.bpf.o");

/// Names an object to use in place of the committed one: how a freshly built one is tested.
const OVERRIDE: &str = "FWNET_BPF_OBJECT";

/// Why there are no programs to load.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The file that the environment names cannot be read.
    #[error("read the BPF object {path} that {OVERRIDE} names")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel refuses a map, or the object is damaged.
    #[error("load the BPF object")]
    Load(#[from] Box<EbpfError>),
}

/// Maps that hold what the programs have learnt of sockets and peers, whatever image is in force.
const LEARNT: [&str; 7] =
    ["CLAIMS", "CLAIMS_APART", "EXCHANGES", "JUDGED", "LISTENERS", "OWNERS", "OWNERS_APART"];
/// Maps that belong to one set of programs.
const OWN: [&str; 9] =
    ["CONTROL", "EVENTS", "EVIDENCE", "FLOWS", "FLOWS_TAKEN", "HITS", "IMAGE", "LOSSES", "TAMPER"];

/// Where the maps of a set are found by those who load further copies of the object.
#[derive(Debug)]
enum Home {
    /// A BPF file system of our own that is mounted nowhere and goes with this value.
    Private(OwnedFd),
    /// A directory of pins, which stays.
    Directory(PathBuf),
}

impl Home {
    fn path(&self, map: &str) -> PathBuf {
        match self {
            Self::Private(root) => format!("/proc/self/fd/{}/{map}", root.as_raw_fd()).into(),
            Self::Directory(path) => path.join(map),
        }
    }
}

/// Where several copies of the object meet in the same maps.
#[derive(Debug)]
pub(crate) struct Pins {
    own: Home,
    learnt: Arc<Home>,
}

impl Pins {
    /// For programs that go with the process.
    pub(crate) fn new() -> io::Result<Self> {
        let learnt = Arc::new(Home::Private(bpf_file_system()?));
        Ok(Self { own: Home::Private(bpf_file_system()?), learnt })
    }

    /// For a second set of programs that knows what the first has learnt.
    pub(crate) fn beside(&self) -> io::Result<Self> {
        Ok(Self { own: Home::Private(bpf_file_system()?), learnt: Arc::clone(&self.learnt) })
    }

    /// For programs that stay, with their maps in `directory`.
    pub(crate) fn directory(directory: PathBuf) -> Self {
        let learnt = Arc::new(Home::Directory(directory.clone()));
        Self { own: Home::Directory(directory), learnt }
    }

    /// Pins what `from` has learnt in `to` too.
    pub(crate) fn share(from: &Path, to: &Path) -> io::Result<()> {
        for map in LEARNT {
            sys::pin(sys::pinned(&from.join(map))?.as_fd(), &to.join(map))?;
        }
        Ok(())
    }

    /// Opens one of the maps.
    pub(crate) fn map(&self, name: &'static str) -> Result<Map, MapError> {
        let (_, path) = self
            .paths()
            .find(|(known, _)| *known == name)
            .ok_or_else(|| MapError::InvalidName { name: name.to_owned() })?;
        Map::from_map_data(MapData::from_pin(path)?)
    }

    /// Each map of the object and where it is pinned.
    pub(crate) fn paths(&self) -> impl Iterator<Item = (&'static str, PathBuf)> {
        let own = OWN.map(|map| (map, self.own.path(map)));
        own.into_iter().chain(LEARNT.map(|map| (map, self.learnt.path(map))))
    }
}

fn bpf_file_system() -> io::Result<OwnedFd> {
    let context = fsopen("bpf", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}

/// Numbers that the programs are loaded with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    /// Lines of each slot but that of lockdown.
    pub(crate) slot_lines: u32,
    /// Rules that are counted in each slot.
    pub(crate) slot_rules: u32,
    /// `FEATURE_*` of [`verdict::abi`].
    pub(crate) features: u32,
    /// Size of the ring buffer in bytes: a power of two, at least a page.
    pub(crate) event_bytes: u32,
    /// Id of the cgroup that the hooks are attached to, and its depth below the root.
    pub(crate) cgroup: (u64, u32),
    /// The way from a task to its executable, where `features` has it.
    pub(crate) exe_offsets: [u32; EXE_PATH],
    /// Cookie of the network namespace that the inbound program is for.
    pub(crate) netns: u64,
}

impl Numbers {
    /// The least that a program loads with, to see whether it does.
    pub(crate) fn probing(features: u32) -> Self {
        let exe_offsets = [0; EXE_PATH];
        Self {
            slot_lines: 1,
            slot_rules: 1,
            features,
            event_bytes: 4096,
            cgroup: (0, 0),
            exe_offsets,
            netns: 0,
        }
    }
}

fn bytes() -> Result<Cow<'static, [u8]>, ObjectError> {
    match env::var_os(OVERRIDE).map(PathBuf::from) {
        Some(path) => {
            let read = fs::read(&path).map_err(|source| ObjectError::Read { path, source })?;
            Ok(Cow::Owned(read))
        }
        None => Ok(Cow::Borrowed(COMMITTED)),
    }
}

/// BLAKE3 of the object: programs of one digest need not replace each other.
pub(crate) fn digest() -> Result<[u8; 32], ObjectError> {
    Ok(blake3::hash(&bytes()?).into())
}

/// Creates the maps, or takes those that an earlier call has left in `pins`; programs are loaded one by one afterwards.
pub(crate) fn open(numbers: &Numbers, pins: Option<&Pins>) -> Result<Ebpf, ObjectError> {
    let bytes = bytes()?;
    let mut loader = EbpfLoader::new();
    for (map, path) in pins.iter().flat_map(|pins| pins.paths()) {
        loader.map_pin_path(map, path);
    }
    loader
        .override_global("SLOT_LINES", &numbers.slot_lines, true)
        .override_global("SLOT_RULES", &numbers.slot_rules, true)
        .override_global("FEATURES", &numbers.features, true)
        .override_global("CGROUP_ID", &numbers.cgroup.0, true)
        .override_global("CGROUP_LEVEL", &numbers.cgroup.1, true)
        .override_global("EXE_OFFSETS", numbers.exe_offsets.as_slice(), true)
        .override_global("NETNS_COOKIE", &numbers.netns, true)
        .map_max_entries("IMAGE", image_lines(numbers.slot_lines))
        .map_max_entries("HITS", 2 * (SLOTS + 1) * numbers.slot_rules)
        .map_max_entries("EVENTS", numbers.event_bytes)
        .load(&bytes)
        .map_err(|error| Box::new(error).into())
}
