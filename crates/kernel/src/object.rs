//! The BPF object: the one that was built with this crate, or the one that a test names.

use std::{
    borrow::Cow,
    env, fs, io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use aya::{
    Btf, Ebpf, EbpfError, EbpfLoader, VerifierLogLevel, include_bytes_aligned,
    maps::{Map, MapData, MapError},
    programs::{Program, ProgramError, ProgramFd},
};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use verdict::abi::{EXE_PATH, Keeper, SLOTS};
use zerocopy::IntoBytes as _;

use crate::{
    attach::AttachError,
    features::LOCAL,
    fields::Fields,
    functions,
    hook::Hook,
    lsm::{self, LsmError},
    slots::image_lines,
    sys,
};

/// The committed object. `cargo xtask bpf` builds it from crates/ebpf.
pub(crate) static COMMITTED: &[u8] = include_bytes_aligned!("../object/fwnet.bpf.o");

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
const LEARNT: [&str; 9] = [
    "CLAIMS",
    "CLAIMS_APART",
    "EXCHANGES",
    "JUDGED",
    "JUDGED_APART",
    "LISTENERS",
    "OWNERS",
    "OWNERS_APART",
    "REFUSED",
];
/// Maps that belong to one set of programs.
const OWN: [&str; 11] = [
    "CONTROL",
    "EVENTS",
    "EVIDENCE",
    "FLOWS",
    "FLOWS_TAKEN",
    "GUARDED",
    "HITS",
    "IMAGE",
    "LOSSES",
    "NAMESPACES",
    "TAMPER",
];

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
    /// `FEATURE_*` of [`verdict::abi`], and [`LOCAL`].
    pub(crate) features: u32,
    /// Size of the ring buffer in bytes: a power of two, at least a page.
    pub(crate) event_bytes: u32,
    /// Id of the cgroup that the hooks are attached to, and its depth below the root.
    pub(crate) cgroup: (u64, u32),
    /// The way from a task to its executable, where `features` has it.
    pub(crate) exe_offsets: [u32; EXE_PATH],
    /// Cookie of the network namespace that the inbound program is for.
    pub(crate) netns: u64,
    /// Where the kernel's structures have what programs of the LSM tier read.
    pub(crate) fields: Fields,
    /// Whether they judge what comes in in every network namespace.
    pub(crate) everywhere: bool,
    /// What accept() ends with on a closed port that listen() is let have; 0 is that listen() is refused.
    pub(crate) accept_errno: u32,
    /// Who may do what the guard keeps from all others.
    pub(crate) keeper: Keeper,
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
            fields: Fields::NONE,
            everywhere: false,
            accept_errno: 0,
            keeper: Keeper::default(),
        }
    }
}

/// The object with its maps made, from which programs are loaded one by one.
pub(crate) struct Object {
    programs: Ebpf,
    fields: Fields,
    /// Whether the way from a task to its executable is known.
    knows_programs: bool,
    /// Whether programs of the LSM tier would run, once that was asked.
    lsm: Option<Result<(), Arc<LsmError>>>,
    /// The kernel's types, once a program needed them: reading them takes a moment.
    types: Option<Btf>,
}

impl Object {
    /// Loads the hook's program, unless that was done before.
    pub(crate) fn load(&mut self, hook: &Hook) -> Result<&ProgramFd, AttachError> {
        if let Some(program) = &hook.lsm {
            let on = self.lsm.get_or_insert_with(|| lsm::is_on().map_err(Arc::new));
            if let Err(source) = on {
                return Err(AttachError::Tier { hook: hook.name, source: Arc::clone(source) });
            }
            if program.programs && !self.knows_programs {
                return Err(AttachError::Field {
                    hook: hook.name,
                    structure: "mm_struct",
                    field: "exe_file",
                    sizes: &[8],
                });
            }
            if let Some(wanted) = self.fields.missing(program.fields) {
                return Err(AttachError::Field {
                    hook: hook.name,
                    structure: wanted.structure,
                    field: wanted.name,
                    sizes: wanted.sizes,
                });
            }
        }
        let missing = AttachError::Missing { hook: hook.name };
        let Some(program) = self.programs.program_mut(hook.program) else { return Err(missing) };
        let failed = |source| AttachError::Load { hook: hook.name, source: Box::new(source) };
        if program.fd().is_err() {
            match (program, &hook.lsm) {
                (Program::CgroupSockAddr(program), _) => program.load(),
                (Program::CgroupSock(program), _) => program.load(),
                (Program::SkLookup(program), _) => program.load(),
                (Program::BtfTracePoint(program), _) => types(&mut self.types)
                    .and_then(|types| program.load("inet_sock_set_state", types)),
                (Program::Lsm(program), Some(lsm)) => {
                    types(&mut self.types).and_then(|types| program.load(lsm.hook, types))
                }
                _ => return Err(missing),
            }
            .map_err(failed)?;
        }
        let program = self.programs.program(hook.program).ok_or(missing)?;
        program.fd().map_err(failed)
    }
}

/// The kernel's types, read when they are asked for first.
fn types(known: &mut Option<Btf>) -> Result<&Btf, ProgramError> {
    match known {
        Some(types) => Ok(types),
        None => Ok(known.insert(Btf::from_sys_fs()?)),
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
pub(crate) fn open(numbers: &Numbers, pins: Option<&Pins>) -> Result<Object, ObjectError> {
    let mut bytes = bytes()?;
    if numbers.features & LOCAL != 0 {
        // What has no such functions, or is no object, is for the loader to judge.
        let _changed = functions::make_local(bytes.to_mut());
    }
    let everywhere = u32::from(numbers.everywhere);
    let mut loader = EbpfLoader::new();
    for (map, path) in pins.iter().flat_map(|pins| pins.paths()) {
        loader.map_pin_path(map, path);
    }
    // What it says of every instruction is for those who build programs, and takes seconds where one does not load.
    let log = match env::var_os(OVERRIDE) {
        Some(_) => VerifierLogLevel::default(),
        None => VerifierLogLevel::STATS,
    };
    let programs = loader
        .verifier_log_level(log)
        .override_global("SLOT_LINES", &numbers.slot_lines, true)
        .override_global("SLOT_RULES", &numbers.slot_rules, true)
        .override_global("FEATURES", &numbers.features, true)
        .override_global("CGROUP_ID", &numbers.cgroup.0, true)
        .override_global("CGROUP_LEVEL", &numbers.cgroup.1, true)
        .override_global("EXE_OFFSETS", numbers.exe_offsets.as_slice(), true)
        .override_global("NETNS_COOKIE", &numbers.netns, true)
        .override_global("OFFSETS", numbers.fields.offsets(), true)
        .override_global("EVERYWHERE", &everywhere, true)
        .override_global("ACCEPT_ERRNO", &numbers.accept_errno, true)
        .override_global("KEEPER", numbers.keeper.as_bytes(), true)
        .map_max_entries("IMAGE", image_lines(numbers.slot_lines))
        .map_max_entries("HITS", 2 * (SLOTS + 1) * numbers.slot_rules)
        .map_max_entries("EVENTS", numbers.event_bytes)
        .load(&bytes)
        .map_err(Box::new)?;
    let knows_programs = numbers.exe_offsets != [0; EXE_PATH];
    Ok(Object { programs, fields: numbers.fields, knows_programs, lsm: None, types: None })
}
