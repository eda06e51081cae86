//! What this machine offers: each hook's program loaded once and let go.

use crate::{
    attach::AttachError,
    btf::Btf,
    features::Features,
    fields::{Fields, Wanted, exe_offsets, executable},
    hook::Hook,
    netns::Netns,
    object::{Numbers, ObjectError, open},
};
use verdict::abi::EXE_PATH;

/// What loading found out.
#[derive(Debug)]
pub struct Probe {
    /// Each hook, and why its program does not load if it does not.
    pub hooks: Vec<(&'static Hook, Result<(), AttachError>)>,
    /// The optional features.
    pub features: Features,
    /// Where the kernel's structures have what programs of the LSM tier read.
    pub fields: Fields,
    /// The way from a task to its executable, where the kernel tells all of it.
    executable: Option<[u32; EXE_PATH]>,
    /// Whether user space can tell the inbound programs in which network namespace they run (`SO_NETNS_COOKIE`, Linux 5.14).
    /// Else they find no listener's process, and no datagram that another one answers.
    pub tells_namespaces: bool,
}

impl Probe {
    /// Every field that programs read of the kernel's structures, and its offset in bytes; `None` where it is not there or of
    /// another size.
    pub fn read_fields(&self) -> impl Iterator<Item = (&'static Wanted, Option<u32>)> {
        self.fields.list().chain(executable(self.executable))
    }
}

/// Loads every program and attaches none.
///
/// # Errors
/// Where not even the maps can be made.
pub fn probe() -> Result<Probe, ObjectError> {
    let types = Btf::running();
    let exe = types.as_ref().ok().and_then(exe_offsets);
    let fields = types.as_ref().map_or(Fields::NONE, Fields::of);
    let features = Features::probe(exe.is_some())?;
    let exe_offsets = exe.unwrap_or_default();
    let numbers = Numbers { fields, exe_offsets, ..Numbers::probing(features.0) };
    let mut object = open(&numbers, None)?;
    let hooks = Hook::ALL.iter().map(|hook| (hook, object.load(hook).map(drop))).collect();
    let tells_namespaces = Netns::open("/proc/self/ns/net").is_ok_and(|own| own.cookie() != 0);
    Ok(Probe { hooks, features, fields, executable: exe, tells_namespaces })
}
