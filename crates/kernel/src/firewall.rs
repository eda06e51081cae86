//! The life of the programs: load with images in force, attach, swap, read, detach or leave behind.

mod before;
mod counters;
#[cfg(test)]
mod flips;
mod guarded;
mod links;
mod mend;
pub mod pinned;
mod runs;
mod schedule;

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use aya::maps::{HashMap, Map, MapData, MapError, PerCpuArray, RingBuf};
use image::Image;
use verdict::abi::{self, Losses, REPORT_ALLOWED, REPORT_AT_REQUEST, REPORT_FLOWS, WAKE_NS};

use crate::{
    attach::AttachError,
    births::Births,
    btf::Btf,
    cgroup::Cgroup,
    event::Event,
    features::Features,
    fields::{Fields, exe_offsets},
    flows::{Counted, Flows},
    guard,
    hook::Hook,
    listeners::Listeners,
    lsm, memory,
    object::{Numbers, Object, ObjectError, Pins, open},
    set::PinError,
    slots::Slots,
    sys::Barrier,
};

pub use before::{Identity, Known, Stamps, Stranger};
pub use counters::{Hits, Lost};
use links::{Attached, Judged};
pub use links::{Joined, Namespaces};
pub use mend::Mended;
pub use pinned::{Adopted, Removed};
pub use runs::{Counting, Runs};
pub use schedule::{Digests, Retired, Scheduled, SwapError, boottime};

/// Lines of a slot at least: 1 MiB, so that small policies can change without a new load.
const SLOT_LINES_MIN: u32 = 16_384;
/// Rules that are counted at least.
const SLOT_RULES_MIN: u32 = 256;
/// How long after having found events whoever waits for them has to look again.
pub const WAKE_EVERY: Duration = Duration::from_nanos(WAKE_NS);

/// Size of the ring buffer: some 8,000 events.
const EVENT_BYTES: u32 = 1 << 20;

/// What to attach to and what to tell.
#[derive(Debug)]
pub struct Attachments {
    /// Every process below this cgroup is judged when it connects.
    pub cgroup: Cgroup,
    /// In these network namespaces what comes in is judged.
    pub namespaces: Namespaces,
    /// Whether the tripwire is wanted.
    pub tripwire: bool,
    /// Whether allowed flows are reported too.
    pub report_allowed: bool,
    /// Whether every flow is counted by what it has in common with others, for [`Firewall::take_flows`]. Then the hooks
    /// for datagrams and for what comes in are attached whatever the image.
    pub count_flows: bool,
    /// With an errno, a port that no peer may reach can be listened on, and accept() ends with it: what the module of 2015
    /// did. Needs the LSM tier; without it, and with `None`, such a port cannot be claimed.
    pub accept_errno: Option<u16>,
}

/// Why nothing is enforced. Whatever had been attached is detached again.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The object or its maps.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// A program that nothing works without.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The directory of pins.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// A map of the object is missing or of another make.
    #[error("use the map {name} of the BPF object")]
    Map {
        /// The map.
        name: &'static str,
        /// Why.
        #[source]
        source: Box<MapError>,
    },
    /// Memory or the grace-period barrier.
    #[error("{what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it did not work.
        #[source]
        source: io::Error,
    },
    /// The image could not be put in force.
    #[error(transparent)]
    Swap(#[from] SwapError),
}

/// Loaded and attached programs with an image in force. Dropping it detaches them, and nothing else, unless they are
/// pinned: then they stay.
pub struct Firewall {
    links: Vec<Attached>,
    /// The object that programs are loaded from, while there is something to load: it takes megabytes.
    object: Option<Object>,
    slots: Slots,
    numbers: Numbers,
    pins: Pins,
    barrier: Barrier,
    /// Generations that were taken out of force and that programs may still read: the first one, and how many.
    leaving: Option<(u32, u32)>,
    events: RingBuf<MapData>,
    tamper: RingBuf<MapData>,
    flows: Flows,
    hits: PerCpuArray<MapData, u64>,
    losses: PerCpuArray<MapData, [u8; size_of::<Losses>()]>,
    listeners: Listeners,
    owners: before::Owners,
    guard: guarded::Guard,
    /// Cookies of the namespaces in which the LSM tier judges what comes in, where that is not all.
    scope: HashMap<MapData, u64, u64>,
    /// `FLAG_*` for which strangers were looked for.
    introduced: u32,
    attachments: Attachments,
    features: Features,
    /// `FLAG_*` of the images that are or may come into force.
    flags: u32,
    /// The hooks that the last image needed which any were tried for: they are attached, or are among the open ones.
    in_place: Vec<&'static str>,
    /// The namespaces in which what comes in is judged.
    judged: Vec<Judged>,
    births: Births,
    open: Vec<(&'static Hook, AttachError)>,
    /// Names of hooks that are not to be attached.
    left_out: Vec<String>,
    pinned: Option<pinned::Pinned>,
}

impl Firewall {
    /// Loads everything, puts `image` in force, and only then attaches.
    ///
    /// # Errors
    /// Anything that keeps a required hook from working; then nothing stays attached. Optional hooks that cannot be
    /// loaded are listed by [`Firewall::open_hooks`].
    pub fn load(image: &Image, attachments: Attachments) -> Result<Self, LoadError> {
        let pins = Pins::new().map_err(no_file_system)?;
        Self::load_with(pins, image, attachments)
    }

    /// Loads a second set of programs beside this one, for an image that does not fit into its slots. It shares what
    /// this one has learnt of sockets, listeners and peers. Until this one goes both judge, and what either denies is
    /// denied.
    ///
    /// # Errors
    /// As [`Firewall::load`]; this one stays as it is.
    pub fn load_beside(&self, image: &Image, attachments: Attachments) -> Result<Self, LoadError> {
        let pins = self.pins.beside().map_err(no_file_system)?;
        Self::load_with(pins, image, attachments)
    }

    fn load_with(pins: Pins, image: &Image, attachments: Attachments) -> Result<Self, LoadError> {
        let numbers = numbers(Scheduled::forever(image), &attachments)?;
        let mut firewall = Self::make(pins, numbers, attachments)?;
        firewall.swap(image)?;
        Ok(firewall)
    }

    /// Makes the maps in `pins`, except those that are already there; attaches nothing.
    fn make(pins: Pins, numbers: Numbers, attachments: Attachments) -> Result<Self, LoadError> {
        let object = open(&numbers, Some(&pins))?;
        Ok(Self { object: Some(object), ..Self::open(pins, numbers, attachments)? })
    }

    /// Opens the maps in `pins`; attaches nothing.
    fn open(pins: Pins, numbers: Numbers, attachments: Attachments) -> Result<Self, LoadError> {
        let system = |what| move |source| LoadError::System { what, source };
        let slots = Slots::new(
            data(&pins, "IMAGE")?.fd().as_fd(),
            data(&pins, "CONTROL")?.fd().as_fd(),
            numbers.slot_lines,
        )
        .map_err(system("map the image into memory"))?;
        slots.set_report(reported(&attachments) | slots.report() & REPORT_AT_REQUEST);
        Ok(Self {
            links: Vec::new(),
            slots,
            numbers,
            barrier: Barrier::new().map_err(system("make the barrier map"))?,
            leaving: None,
            events: take(&pins, "EVENTS")?,
            tamper: take(&pins, "TAMPER")?,
            flows: Flows::new(flows(&pins)?, take(&pins, "FLOWS_TAKEN")?),
            hits: take(&pins, "HITS")?,
            losses: take(&pins, "LOSSES")?,
            listeners: Listeners::new(take::<HashMap<_, _, _>>(&pins, "LISTENERS")?),
            owners: before::Owners::of(&pins)?,
            guard: guarded::Guard::of(&pins)?,
            scope: take(&pins, "NAMESPACES")?,
            introduced: 0,
            features: Features(numbers.features & !abi::FEATURE_TRIPWIRE),
            attachments,
            flags: 0,
            in_place: Vec::new(),
            judged: Vec::new(),
            births: Births::default(),
            open: Vec::new(),
            left_out: Vec::new(),
            object: None,
            pins,
            pinned: None,
        })
    }

    /// Gives back the memory that loading took, once everything is in place.
    fn rest(&mut self) {
        if self.object.take().is_some() {
            memory::give_back();
        }
    }

    /// Programs in their places: hook and target.
    pub fn attached(&self) -> impl Iterator<Item = (&'static Hook, &str)> {
        self.links.iter().map(|attached| (attached.hook, attached.target.as_str()))
    }

    /// Optional hooks that this kernel does not take, and why.
    pub fn open_hooks(&self) -> &[(&'static Hook, AttachError)] {
        &self.open
    }

    /// What the kernel offers beyond the least.
    pub fn features(&self) -> Features {
        self.features
    }

    /// The next event, if one is there; what tells of tampering comes first.
    ///
    /// Whoever waits for them has to look again [`WAKE_EVERY`] after a look that found any, and may sleep on
    /// [`Firewall::event_sources`] after one that found none.
    pub fn next_event(&mut self) -> Option<Event> {
        next_of(&mut self.tamper).or_else(|| next_of(&mut self.events))
    }

    /// Poll readable when there are events: those of tampering, and all others. Who sleeps on them already is woken by the
    /// first event, and not by what follows it within [`WAKE_EVERY`].
    pub fn event_sources(&self) -> [BorrowedFd<'_>; 2] {
        [self.tamper.as_fd(), self.events.as_fd()]
    }

    /// Begins or ends to report allowed flows one by one.
    pub fn report_allowed(&mut self, wanted: bool) {
        self.attachments.report_allowed = wanted;
        self.set_report();
    }

    /// Says to the programs what is reported, and where.
    fn set_report(&self) {
        let requests = self.links.iter().any(|it| it.hook.program == "inet_conn_request");
        let at_request = if requests { REPORT_AT_REQUEST } else { 0 };
        self.slots.set_report(reported(&self.attachments) | at_request);
    }

    /// Whether accept() ends with the errno that was asked for.
    pub fn refuses_accept(&self) -> bool {
        self.numbers.accept_errno != 0
    }

    /// Takes every counted flow out of the kernel's table and gives it to `each`.
    ///
    /// # Errors
    /// Where the kernel refuses to read the table; what was taken before has been given to `each`.
    pub fn take_flows(&mut self, each: &mut dyn FnMut(Counted)) -> io::Result<()> {
        let judged = self.losses().map(|own| own.flows).sum();
        self.flows.take(judged, each)
    }

    /// Who listens at `local`, as far as the bind hooks have seen.
    pub fn listener(&self, event: &Event) -> Option<abi::Owner> {
        let cookies: Vec<u64> = match event.netns {
            0 => self.judged.iter().map(|judged| judged.cookie).collect(),
            known => vec![known],
        };
        self.listeners.owner(&cookies, event.protocol, event.local)
    }

    /// Detaches everything and waits until no program runs any more. What they sent and counted can still be read, and
    /// is then complete.
    ///
    /// # Errors
    /// Where waiting fails; everything is detached all the same.
    pub fn stand_down(&mut self) -> Result<(), SwapError> {
        for attached in self.links.drain(..) {
            attached.unpin();
        }
        self.barrier.wait().map_err(SwapError::Wait)
    }

    /// Detaches everything and says what that was: hook and target.
    pub fn detach(self) -> Vec<(&'static Hook, String)> {
        let each = self.links.into_iter();
        each.map(|attached| {
            attached.unpin();
            (attached.hook, attached.target)
        })
        .collect()
    }
}

/// What programs are loaded with that are to hold these images, and larger ones.
fn numbers(scheduled: Scheduled<'_>, attachments: &Attachments) -> Result<Numbers, ObjectError> {
    let types = Btf::running();
    let exe_offsets = types.as_ref().ok().and_then(exe_offsets);
    let features = Features::probe(exe_offsets.is_some())?;
    let accept_errno = attachments.accept_errno.filter(|_| lsm::is_on().is_ok());
    let wanted = if attachments.tripwire { abi::FEATURE_TRIPWIRE } else { 0 };
    let largest = |size: &dyn Fn(&Image) -> u32| scheduled.images().map(size).max();
    let lines = |image: &Image| {
        u32::try_from(image.line_count()).expect("an image's lines are within its budget")
    };
    let slot_lines = largest(&lines).unwrap_or(0).next_power_of_two();
    let slot_rules = largest(&Image::rules).unwrap_or(0).next_power_of_two();
    Ok(Numbers {
        slot_lines: slot_lines.max(SLOT_LINES_MIN),
        slot_rules: slot_rules.max(SLOT_RULES_MIN),
        features: features.0 | wanted,
        event_bytes: EVENT_BYTES,
        cgroup: (attachments.cgroup.id(), attachments.cgroup.level()),
        exe_offsets: exe_offsets.unwrap_or_default(),
        netns: 0,
        fields: types.as_ref().map_or(Fields::NONE, Fields::of),
        everywhere: matches!(attachments.namespaces, Namespaces::All),
        accept_errno: accept_errno.map_or(0, u32::from),
        keeper: guard::own_place(),
    })
}

fn no_file_system(source: io::Error) -> LoadError {
    LoadError::System { what: "make a BPF file system", source }
}

impl std::fmt::Debug for Firewall {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Firewall")
            .field("links", &self.links)
            .field("slots", &self.slots)
            .finish_non_exhaustive()
    }
}

/// `REPORT_*` as they are wanted.
fn reported(attachments: &Attachments) -> u32 {
    let bit = |wanted, bit| if wanted { bit } else { 0 };
    bit(attachments.report_allowed, REPORT_ALLOWED) | bit(attachments.count_flows, REPORT_FLOWS)
}

fn next_of(ring: &mut RingBuf<MapData>) -> Option<Event> {
    loop {
        let parsed = Event::parse(&ring.next()?);
        if parsed.is_some() {
            return parsed;
        }
    }
}

/// The object, opened again where nothing had to be loaded for a while.
fn opened<'a>(
    object: &'a mut Option<Object>,
    numbers: &Numbers,
    pins: &Pins,
    hook: &Hook,
) -> Result<&'a mut Object, AttachError> {
    match object {
        Some(object) => Ok(object),
        None => {
            let fresh = open(numbers, Some(pins))
                .map_err(|source| AttachError::Copy { hook: hook.name, source })?;
            Ok(object.insert(fresh))
        }
    }
}

fn map(pins: &Pins, name: &'static str) -> Result<Map, LoadError> {
    pins.map(name).map_err(|source| LoadError::Map { name, source: Box::new(source) })
}

#[expect(clippy::wildcard_enum_match_arm, reason = "a map of any other kind is not ours")]
fn flows(pins: &Pins) -> Result<MapData, LoadError> {
    match map(pins, "FLOWS")? {
        Map::LruHashMap(data) => Ok(data),
        _ => Err(missing("FLOWS")),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "a map of any other kind is not ours")]
fn data(pins: &Pins, name: &'static str) -> Result<MapData, LoadError> {
    match map(pins, name)? {
        Map::Array(data) => Ok(data),
        _ => Err(missing(name)),
    }
}

fn take<T>(pins: &Pins, name: &'static str) -> Result<T, LoadError>
where
    T: TryFrom<Map, Error = MapError>,
{
    let found = map(pins, name)?;
    T::try_from(found).map_err(|source| LoadError::Map { name, source: Box::new(source) })
}

fn missing(name: &'static str) -> LoadError {
    LoadError::Map { name, source: Box::new(MapError::InvalidName { name: name.to_owned() }) }
}
