//! The maps, and the numbers that the loader sets before the programs are loaded.

use core::ptr::read_volatile;

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    btf_maps::SkStorage,
    helpers::generated::bpf_ktime_get_boot_ns,
    macros::{btf_map, map},
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use verdict::{
    Address, Line, Tables,
    abi::{
        APART_MAX, Control, EXCHANGES_MAX, EXE_PATH, Evidence, Exchange, FLOWS_MAX, FlowCount,
        FlowKey, GUARDED_MAX, Guarded, Keeper, LOCKDOWN_SLOT, Listener, ListenerKey, Losses,
        NAMESPACES_MAX, SLOTS, STANCE_LOCKDOWN, Stamp, TAMPER_BYTES, field,
    },
    image_flags,
};

/// The slots of lines, one behind the other, then the lockdown image. The loader sets how many lines.
#[map]
static IMAGE: Array<Line> = Array::with_max_entries(SLOTS + 1, BPF_F_MMAPABLE);

/// Which slot is in force until when, and what is reported.
#[map]
static CONTROL: Array<Control> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// How often each rule of each slot decided: the enforced verdict in the first half of the entries, the would-be
/// verdict in the second. The loader sets how many.
#[map]
pub(crate) static HITS: PerCpuArray<u64> = PerCpuArray::with_max_entries(2 * (SLOTS + 1), 0);

/// Whose a socket is.
#[btf_map]
pub(crate) static OWNERS: SkStorage<Stamp> = SkStorage::new();

/// Whose a socket is that had no room for its stamp, by its cookie.
#[map]
pub(crate) static OWNERS_APART: LruHashMap<u64, Stamp> = LruHashMap::with_max_entries(APART_MAX, 0);

/// Under which key a socket stands in `LISTENERS`.
#[btf_map]
pub(crate) static CLAIMS: SkStorage<ListenerKey> = SkStorage::new();

/// The same for a socket that had no room for it, by its cookie.
#[map]
pub(crate) static CLAIMS_APART: LruHashMap<u64, ListenerKey> =
    LruHashMap::with_max_entries(APART_MAX, 0);

/// What speaks of somebody who hides.
#[map]
pub(crate) static EVIDENCE: PerCpuArray<Evidence> = PerCpuArray::with_max_entries(1, 0);

/// The generation whose image judged a socket's connection, for the tripwire.
#[btf_map]
pub(crate) static JUDGED: SkStorage<u64> = SkStorage::new();

/// The same by cookie, of a socket that had no room for it.
#[map]
pub(crate) static JUDGED_APART: LruHashMap<u64, u64> = LruHashMap::with_max_entries(APART_MAX, 0);

/// When a listener's accept() was refused last, CLOCK_BOOTTIME nanoseconds.
#[btf_map]
pub(crate) static REFUSED: SkStorage<u64> = SkStorage::new();

/// Cookies of the network namespaces in which the LSM tier judges what comes in, where that is not all of them.
#[map]
pub(crate) static NAMESPACES: HashMap<u64, u64> =
    HashMap::with_max_entries(NAMESPACES_MAX, BPF_F_NO_PREALLOC);

/// What no program but fwnet may take away, with 1.
#[map]
pub(crate) static GUARDED: HashMap<Guarded, u64> =
    HashMap::with_max_entries(GUARDED_MAX, BPF_F_NO_PREALLOC);

/// Who claimed which local endpoint.
#[map]
pub(crate) static LISTENERS: HashMap<ListenerKey, Listener> =
    HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);

/// Allowed datagrams, by which answers are known, with the time of the last one.
#[map]
pub(crate) static EXCHANGES: LruHashMap<Exchange, u64> =
    LruHashMap::with_max_entries(EXCHANGES_MAX, 0);

/// What user space is told. The loader may change the size.
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// What must be heard whatever else is told: sockets without a verdict, damaged tables.
#[map]
pub(crate) static TAMPER: RingBuf = RingBuf::with_byte_size(TAMPER_BYTES, 0);

/// Flows that were alike, counted, for whoever asks for them.
#[map]
pub(crate) static FLOWS: LruHashMap<FlowKey, FlowCount> =
    LruHashMap::with_max_entries(FLOWS_MAX, 0);

/// How many flows user space has ever taken out of `FLOWS`; no program looks at it. Kept here so that a new agent knows.
#[map]
static FLOWS_TAKEN: Array<u64> = Array::with_max_entries(1, 0);

/// What it is not told, and the token bucket that decides it.
#[map]
pub(crate) static LOSSES: PerCpuArray<Losses> = PerCpuArray::with_max_entries(1, 0);

/// Lines of one slot; set by the loader.
#[unsafe(no_mangle)]
static SLOT_LINES: u32 = 0;
/// Rules that `HITS` has room for in one slot; set by the loader.
#[unsafe(no_mangle)]
static SLOT_RULES: u32 = 0;
/// `FEATURE_*`: what this kernel offers beyond the least; set by the loader, which finds out by loading.
#[unsafe(no_mangle)]
static FEATURES: u32 = 0;

/// The cgroup that the hooks are attached to, and its depth below the root; set by the loader for the tripwire.
#[unsafe(no_mangle)]
static CGROUP_ID: u64 = 0;
#[unsafe(no_mangle)]
static CGROUP_LEVEL: u32 = 0;

/// See [`EXE_PATH`]; set by the loader from the running kernel's BTF.
#[unsafe(no_mangle)]
static EXE_OFFSETS: [u32; EXE_PATH] = [0; EXE_PATH];

/// See [`field`]; set by the loader from the running kernel's BTF.
#[unsafe(no_mangle)]
static OFFSETS: [u32; field::COUNT] = [0; field::COUNT];

/// Whether the LSM tier judges what comes in in every network namespace; set by the loader.
#[unsafe(no_mangle)]
static EVERYWHERE: u32 = 0;
/// The error that accept() ends with on a closed port, in place of one of listen(); 0 is none. Set by the loader.
#[unsafe(no_mangle)]
static ACCEPT_ERRNO: u32 = 0;
/// Who may do what the guard keeps from all others; set by the loader.
#[unsafe(no_mangle)]
static KEEPER: Keeper = Keeper { directory: 0, device: 0, length: 0, name: [0; 32] };

/// Cookie of the network namespace that this copy of the inbound program is attached to; set by the loader, because
/// the program itself cannot ask (`sk_lookup_func_proto` in net/core/filter.c has no helper for it).
#[unsafe(no_mangle)]
static NETNS_COOKIE: u64 = 0;

/// Whether the kernel has a feature. A constant for the verifier, so the code behind an absent one is never checked.
#[inline(always)]
pub(crate) fn has(feature: u32) -> bool {
    // SAFETY: a static of this object, in a frozen map; volatile because the loader changes its value after compilation.
    unsafe { read_volatile(&raw const FEATURES) & feature != 0 }
}

/// Id and depth of the cgroup that the hooks are attached to.
#[inline(always)]
pub(crate) fn watched_cgroup() -> (u64, i32) {
    // SAFETY: as in `has`.
    unsafe {
        (read_volatile(&raw const CGROUP_ID), read_volatile(&raw const CGROUP_LEVEL).cast_signed())
    }
}

/// One offset on the way from a task to its executable. Each is read where it is needed: all at once would be kept on the
/// stack.
#[inline(always)]
pub(crate) fn exe_offset<const STEP: usize>() -> u32 {
    const { assert!(STEP < EXE_PATH, "a step of the way") };
    // SAFETY: within the static, as the assertion says; else as in `has`.
    unsafe { read_volatile((&raw const EXE_OFFSETS).cast::<u32>().add(STEP)) }
}

/// The offset of a [`field`]: a constant for the verifier, so that what is added to a pointer to a structure leaves it one.
#[inline(always)]
pub(crate) fn offset<const FIELD: usize>() -> usize {
    const { assert!(FIELD < field::COUNT, "a field of the list") };
    // SAFETY: within the static, as the assertion says; else as in `has`.
    unsafe { read_volatile((&raw const OFFSETS).cast::<u32>().add(FIELD)) as usize }
}

/// Whether every network namespace is judged.
#[inline(always)]
pub(crate) fn everywhere() -> bool {
    // SAFETY: as in `has`.
    unsafe { read_volatile(&raw const EVERYWHERE) != 0 }
}

/// What accept() ends with on a closed port that listen() is let have.
#[inline(always)]
pub(crate) fn accept_errno() -> Option<i32> {
    // SAFETY: as in `has`.
    let errno = unsafe { read_volatile(&raw const ACCEPT_ERRNO) }.cast_signed();
    if errno == 0 { None } else { Some(errno) }
}

/// Who may do what the guard keeps from all others.
#[inline(always)]
pub(crate) fn keeper() -> Keeper {
    // SAFETY: as in `has`.
    unsafe { read_volatile(&raw const KEEPER) }
}

/// The namespace of the inbound program.
#[inline(always)]
pub(crate) fn own_netns() -> u64 {
    // SAFETY: as in `has`.
    unsafe { read_volatile(&raw const NETNS_COOKIE) }
}

/// Where the counters of a slot's rules begin in `HITS`: those of enforced verdicts, and of would-be ones.
#[inline(always)]
pub(crate) fn counters(slot: u32) -> (u32, u32) {
    // SAFETY: as in `has`.
    let rules = unsafe { read_volatile(&raw const SLOT_RULES) };
    (slot * rules, (slot + SLOTS + 1) * rules)
}

/// The image that was in force when the program began: all look-ups of one flow go through one of these.
#[repr(C)]
pub(crate) struct Slot {
    pub(crate) generation: u32,
    pub(crate) report: u32,
    /// `FLAG_*` of the image.
    pub(crate) flags: u32,
    number: u32,
    first: u32,
    /// Zero, which only user space knows: see [`Tables::blur`].
    zero: u32,
}

impl Slot {
    /// Finds the image in force: the current one, or if its end has come the one that follows. Everything is read
    /// once. User space writes a slot or its end only while no program can come to it.
    #[inline(always)]
    pub(crate) fn in_force() -> Option<Self> {
        let mut slot = Self { generation: 0, report: 0, flags: 0, number: 0, first: 0, zero: 0 };
        slot.find().then_some(slot)
    }

    /// A function of its own, because the stack of its callers has no room for what it needs.
    #[inline(never)]
    fn find(&mut self) -> bool {
        let Some(control) = CONTROL.get_ptr(0) else { return false };
        // SAFETY: a value of a one-entry array map, 8-byte aligned; user space writes each field by one aligned store.
        let (mut generation, report, stance, zero, lines) = unsafe {
            (
                read_volatile(&raw const (*control).generation),
                read_volatile(&raw const (*control).report),
                read_volatile(&raw const (*control).stance),
                read_volatile(&raw const (*control).padding),
                read_volatile(&raw const SLOT_LINES),
            )
        };
        // SAFETY: as above; the index is masked by the size of the array.
        let until = unsafe {
            read_volatile(&raw const (*control).until_ns[(generation & (SLOTS - 1)) as usize])
        };
        if until != 0 && boottime() >= until {
            generation = generation.wrapping_add(1);
        }
        let number = match stance {
            STANCE_LOCKDOWN => LOCKDOWN_SLOT,
            _ => generation & (SLOTS - 1),
        };
        self.generation = generation;
        self.report = report;
        self.zero = zero;
        self.number = self.blur(number);
        self.first = self.number.wrapping_mul(lines);
        self.flags = self.blur(image_flags(self));
        true
    }

    /// As [`Tables::blur`], for 64 bits.
    #[inline(always)]
    pub(crate) fn blur_long(&self, value: u64) -> u64 {
        value ^ u64::from(self.zero)
    }

    /// As [`Tables::blur`], for a port.
    #[inline(always)]
    pub(crate) fn blur_port(&self, port: u16) -> u16 {
        self.blur(u32::from(port)) as u16
    }

    /// Its number: that of a generation's slot, or of the lockdown slot.
    #[inline(always)]
    pub(crate) fn number(&self) -> u32 {
        self.number
    }
}

impl Tables for Slot {
    #[inline(always)]
    fn line(&self, index: u32) -> Option<&Line> {
        IMAGE.get(self.first.wrapping_add(index))
    }

    #[inline(always)]
    fn now_ns(&self) -> u64 {
        boottime()
    }

    #[inline(always)]
    fn blur(&self, value: u32) -> u32 {
        value ^ self.zero
    }

    #[inline(always)]
    fn address_class(&self, address: Address) -> Option<u32> {
        // SAFETY: a reference.
        u32::try_from(unsafe { remote_class(self, address.hi, address.lo) }).ok()
    }

    #[inline(always)]
    fn key_class(&self, line: u32, at: u32, key: u64) -> Option<u32> {
        // SAFETY: a reference.
        u32::try_from(unsafe { facet_class(self, line, at, key) }).ok()
    }

    #[inline(always)]
    fn succession(&self, node: u32) -> Option<u32> {
        // SAFETY: a reference.
        u32::try_from(unsafe { successor(self, node) }).ok()
    }
}

/// CLOCK_BOOTTIME in nanoseconds.
#[inline(always)]
fn boottime() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// Damage in an image: beyond every class.
const DAMAGED: u64 = u64::MAX;

/// The class of an address. A global function: the kernel checks it once by itself, and not again wherever it is called.
///
/// # Safety
/// `slot` is null or a slot.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) unsafe extern "C" fn remote_class(slot: *const Slot, hi: u64, lo: u64) -> u64 {
    // SAFETY: as the caller promises; the verifier wants to see the check.
    let Some(slot) = (unsafe { slot.as_ref() }) else { return DAMAGED };
    verdict::address_class(Address { hi, lo }, slot).map_or(DAMAGED, u64::from)
}

/// The class of a key in a facet. A global function: see [`remote_class`].
///
/// # Safety
/// `slot` is null or a slot.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn facet_class(slot: *const Slot, line: u32, at: u32, key: u64) -> u64 {
    // SAFETY: as above.
    let Some(slot) = (unsafe { slot.as_ref() }) else { return DAMAGED };
    verdict::key_class(line, at, key, slot).map_or(DAMAGED, u64::from)
}

/// What counts now in a succession. A global function: see [`remote_class`].
///
/// # Safety
/// `slot` is null or a slot.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn successor(slot: *const Slot, node: u32) -> u64 {
    // SAFETY: as above.
    let Some(slot) = (unsafe { slot.as_ref() }) else { return DAMAGED };
    verdict::succession(node, slot).map_or(DAMAGED, u64::from)
}
