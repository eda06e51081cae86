//! The life of the programs: load with an image in force, attach, swap, read, detach.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use aya::{
    Ebpf,
    maps::{HashMap, Map, MapData, MapError, PerCpuArray, RingBuf},
    programs::ProgramFd,
};
use image::{Damage, Image, check};
use verdict::{
    abi::{self, Losses, REPORT_ALLOWED, REPORT_FLOWS},
    layout::{FLAG_DATAGRAMS, FLAG_INBOUND},
};
use zerocopy::{FromBytes, IntoBytes};

use crate::{
    attach::{AttachError, attach, load},
    cgroup::Cgroup,
    event::Event,
    features::{Features, exe_offsets},
    flows::{Counted, Flows},
    hook::{Hook, Scope},
    listeners::Listeners,
    netns::Netns,
    object::{Numbers, ObjectError, Pins, open},
    slots::Slots,
    sys::Barrier,
};

/// Lines of a slot at least: 1 MiB, so that small policies can change without a new load.
const SLOT_LINES_MIN: u32 = 16_384;
/// Rules that are counted at least.
const SLOT_RULES_MIN: u32 = 256;
/// Size of the ring buffer: some 8,000 events.
const EVENT_BYTES: u32 = 1 << 20;

/// What to attach to and what to tell.
#[derive(Debug)]
pub struct Attachments {
    /// Every process below this cgroup is judged when it connects.
    pub cgroup: Cgroup,
    /// In these network namespaces what comes in is judged.
    pub namespaces: Vec<Netns>,
    /// Whether the tripwire is wanted.
    pub tripwire: bool,
    /// Whether allowed flows are reported too.
    pub report_allowed: bool,
    /// Whether every flow is counted by what it has in common with others, for [`Firewall::take_flows`]. Then the hooks
    /// for datagrams and for what comes in are attached whatever the image.
    pub count_flows: bool,
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

/// Why an image was not put in force. The previous one stays.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    /// The slots were made for smaller images: a new [`Firewall`] has to be loaded beside this one.
    #[error(
        "the image has {lines} lines and {rules} rules, the slots hold {slot_lines} and {slot_rules}"
    )]
    Size {
        /// Lines of the image.
        lines: usize,
        /// Rules of the image.
        rules: u32,
        /// Lines of a slot.
        slot_lines: usize,
        /// Rules that a slot counts.
        slot_rules: u32,
    },
    /// What was read back from the slot is not what was written: somebody else writes there.
    #[error("the staged image is damaged")]
    Damage(#[from] Damage),
    /// A hook that the image needs is not in place.
    #[error(transparent)]
    Attach(#[from] Box<AttachError>),
    /// Waiting for running programs to end failed.
    #[error("wait for running programs to end")]
    Wait(#[source] io::Error),
}

/// How often a rule decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hits {
    /// The enforced verdict.
    pub enforced: u64,
    /// The would-be verdict, where another rule made the enforced one.
    pub would: u64,
}

/// Events that were not sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Beyond the rate limit.
    pub limited: u64,
    /// The ring buffer was full.
    pub overrun: u64,
    /// The same of what tells of tampering, for either reason.
    pub tamper: u64,
    /// Flows that were judged and are missing in what [`Firewall::take_flows`] gave: the table was full.
    pub flows: u64,
}

/// One program in its place.
#[derive(Debug)]
struct Attached {
    hook: &'static Hook,
    target: String,
    _link: OwnedFd,
}

/// Loaded and attached programs with an image in force. Dropping it detaches them, and nothing else.
pub struct Firewall {
    links: Vec<Attached>,
    object: Ebpf,
    slots: Slots,
    numbers: Numbers,
    pins: Pins,
    barrier: Barrier,
    events: RingBuf<MapData>,
    tamper: RingBuf<MapData>,
    flows: Flows,
    hits: PerCpuArray<MapData, u64>,
    losses: PerCpuArray<MapData, [u8; size_of::<Losses>()]>,
    listeners: Listeners,
    attachments: Attachments,
    features: Features,
    open: Vec<(&'static Hook, AttachError)>,
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
        let features = Features::probe()?;
        let wanted = if attachments.tripwire { abi::FEATURE_TRIPWIRE } else { 0 };
        let lines =
            u32::try_from(image.lines().len()).expect("an image's lines are within its budget");
        let slot_rules = image.rules().next_power_of_two().max(SLOT_RULES_MIN);
        let numbers = Numbers {
            slot_lines: lines.next_power_of_two().max(SLOT_LINES_MIN),
            slot_rules,
            features: features.0 | wanted,
            event_bytes: EVENT_BYTES,
            cgroup: (attachments.cgroup.id(), attachments.cgroup.level()),
            exe_offsets: exe_offsets().unwrap_or_default(),
            netns: 0,
        };
        let system = |what| move |source| LoadError::System { what, source };
        let mut object = open(&numbers, Some(&pins))?;
        let slots = Slots::new(
            data(&object, "IMAGE")?.fd().as_fd(),
            data(&object, "CONTROL")?.fd().as_fd(),
            numbers.slot_lines,
        )
        .map_err(system("map the image into memory"))?;
        let mut firewall = Self {
            links: Vec::new(),
            slots,
            numbers,
            pins,
            barrier: Barrier::new().map_err(system("make the barrier map"))?,
            events: take(&mut object, "EVENTS")?,
            tamper: take(&mut object, "TAMPER")?,
            flows: Flows::new(flows(&mut object)?, take(&mut object, "FLOWS_TAKEN")?),
            hits: take(&mut object, "HITS")?,
            losses: take(&mut object, "LOSSES")?,
            listeners: Listeners::new(take::<HashMap<_, _, _>>(&mut object, "LISTENERS")?),
            attachments,
            features,
            open: Vec::new(),
            object,
        };
        let report = |wanted, bit| if wanted { bit } else { 0 };
        firewall.slots.set_report(
            report(firewall.attachments.report_allowed, REPORT_ALLOWED)
                | report(firewall.attachments.count_flows, REPORT_FLOWS),
        );
        firewall.swap(image)?;
        Ok(firewall)
    }

    /// Puts another image in force: stages it, attaches hooks that it is the first to need, flips, and waits until no
    /// program reads the old one. Returns how often the old image's rules decided.
    ///
    /// # Errors
    /// The old image stays in force.
    pub fn swap(&mut self, image: &Image) -> Result<Vec<Hits>, SwapError> {
        if image.lines().len() > self.slots.lines() || image.rules() > self.numbers.slot_rules {
            return Err(SwapError::Size {
                lines: image.lines().len(),
                rules: image.rules(),
                slot_lines: self.slots.lines(),
                slot_rules: self.numbers.slot_rules,
            });
        }
        check(&self.slots.stage(image.lines()))?;
        let first = self.slots.generation() == 0;
        if first {
            self.slots.flip();
        }
        let attached = self.links.len();
        if let Err(error) = self.attach_needed(image.flags()) {
            self.links.truncate(attached);
            return Err(Box::new(error).into());
        }
        if !first {
            self.slots.flip();
        }
        self.barrier.wait().map_err(SwapError::Wait)?;
        Ok(self.retire())
    }

    fn attach_needed(&mut self, flags: u32) -> Result<(), AttachError> {
        let counted = if self.attachments.count_flows { FLAG_DATAGRAMS | FLAG_INBOUND } else { 0 };
        let flags = flags | counted;
        let needed: Vec<&'static Hook> =
            Hook::ALL.iter().filter(|hook| hook.needed(flags, self.attachments.tripwire)).collect();
        // First load all, then attach all: a program that does not load is found before anything is in place.
        for hook in &needed {
            if let Err(error) = load(&mut self.object, hook) {
                if hook.required {
                    return Err(error);
                }
                if self.open.iter().all(|(open, _)| open.name != hook.name) {
                    self.open.push((hook, error));
                }
            }
        }
        for hook in needed {
            if self.open.iter().any(|(open, _)| open.name == hook.name) {
                continue;
            }
            self.attach_hook(hook)?;
        }
        Ok(())
    }

    /// Attaches a hook to each of its targets where it is not yet.
    fn attach_hook(&mut self, hook: &'static Hook) -> Result<(), AttachError> {
        match hook.scope {
            Scope::Cgroup => {
                let cgroup = &self.attachments.cgroup;
                let target = format!("cgroup {}", cgroup.path().display());
                let program = load(&mut self.object, hook)?;
                attach_once(&mut self.links, hook, program, cgroup.as_fd(), target)
            }
            Scope::Host => {
                let program = load(&mut self.object, hook)?;
                let unused = self.attachments.cgroup.as_fd();
                attach_once(&mut self.links, hook, program, unused, "this machine".to_owned())
            }
            Scope::Netns => {
                for namespace in &self.attachments.namespaces {
                    // A copy of the program for each namespace, because it cannot ask in which one it runs. The link
                    // keeps the program when the copy goes.
                    let target = format!("network namespace {}", namespace.name());
                    if is_attached(&self.links, hook, &target) {
                        continue;
                    }
                    let numbers = Numbers { netns: namespace.cookie(), ..self.numbers };
                    let mut copy = open(&numbers, Some(&self.pins))
                        .map_err(|source| AttachError::Copy { hook: hook.name, source })?;
                    attach_once(
                        &mut self.links,
                        hook,
                        load(&mut copy, hook)?,
                        namespace.as_fd(),
                        target,
                    )?;
                }
                Ok(())
            }
        }
    }

    /// Attaches the inbound hook to a namespace that appeared after loading.
    ///
    /// # Errors
    /// Where the kernel refuses; everything else stays in force.
    pub fn join(&mut self, namespace: Netns) -> Result<(), AttachError> {
        self.attachments.namespaces.push(namespace);
        let inbound = |attached: &Attached| attached.hook.scope == Scope::Netns;
        match self.links.iter().find(|attached| inbound(attached)).map(|attached| attached.hook) {
            Some(hook) => self.attach_hook(hook),
            None => Ok(()),
        }
    }

    /// The namespaces in which what comes in is judged.
    pub fn namespaces(&self) -> &[Netns] {
        &self.attachments.namespaces
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

    /// Generation of the image in force.
    pub fn generation(&self) -> u32 {
        self.slots.generation()
    }

    /// The next event, if one is there; what tells of tampering comes first. With descriptors that poll readable when
    /// there is: [`Firewall::event_sources`].
    pub fn next_event(&mut self) -> Option<Event> {
        next_of(&mut self.tamper).or_else(|| next_of(&mut self.events))
    }

    /// Poll readable when there are events: those of tampering, and all others.
    pub fn event_sources(&self) -> [BorrowedFd<'_>; 2] {
        [self.tamper.as_fd(), self.events.as_fd()]
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
            0 => self.attachments.namespaces.iter().map(Netns::cookie).collect(),
            known => vec![known],
        };
        self.listeners.owner(&cookies, event.protocol, event.local)
    }

    /// How often each rule of the image in force decided, by rule number. Exact.
    pub fn hits(&self) -> Vec<Hits> {
        self.hits_of(self.slots.generation() & 1)
    }

    fn hits_of(&self, slot: u32) -> Vec<Hits> {
        let first = slot * self.numbers.slot_rules;
        let sum = |entry| self.hits.get(&entry, 0).map_or(0, |values| values.iter().sum());
        (first..first + self.numbers.slot_rules)
            .map(|entry| Hits {
                enforced: sum(entry),
                would: sum(entry + 2 * self.numbers.slot_rules),
            })
            .collect()
    }

    /// Reads and clears the counters of the slot that is no longer in force and that no program uses any more.
    fn retire(&mut self) -> Vec<Hits> {
        let idle = self.slots.generation().wrapping_add(1) & 1;
        let retired = self.hits_of(idle);
        let first = idle * self.numbers.slot_rules;
        let zero = || {
            let cpus = aya::util::nr_cpus().unwrap_or(1);
            aya::maps::PerCpuValues::try_from(vec![0u64; cpus])
        };
        for (number, hits) in (0u32..).zip(&retired) {
            for (entry, count) in [
                (first + number, hits.enforced),
                (first + number + 2 * self.numbers.slot_rules, hits.would),
            ] {
                if count != 0
                    && let Ok(values) = zero()
                {
                    // A counter that cannot be cleared would be added to twice; the kernel refuses only foreign keys.
                    let _cleared = self.hits.set(entry, values, 0);
                }
            }
        }
        retired
    }

    /// Events not sent and flows not counted since loading.
    pub fn lost(&self) -> Lost {
        let none = Lost { flows: self.flows.lost(), ..Lost::default() };
        self.losses().fold(none, |sum, own| Lost {
            limited: sum.limited + own.events.limited,
            overrun: sum.overrun + own.events.overrun,
            tamper: sum.tamper + own.tamper.limited + own.tamper.overrun,
            flows: sum.flows,
        })
    }

    /// Each CPU's losses.
    fn losses(&self) -> impl Iterator<Item = Losses> {
        let values = self.losses.get(&0, 0).ok();
        let values: Vec<_> = values.iter().flat_map(|values| values.iter().copied()).collect();
        values.into_iter().filter_map(|bytes| Losses::read_from_bytes(bytes.as_bytes()).ok())
    }

    /// Detaches everything and waits until no program runs any more. What they sent and counted can still be read, and
    /// is then complete.
    ///
    /// # Errors
    /// Where waiting fails; everything is detached all the same.
    pub fn stand_down(&mut self) -> Result<(), SwapError> {
        self.links.clear();
        self.barrier.wait().map_err(SwapError::Wait)
    }

    /// Detaches everything and says what that was: hook and target.
    pub fn detach(self) -> Vec<(&'static Hook, String)> {
        self.links.into_iter().map(|attached| (attached.hook, attached.target)).collect()
    }
}

fn no_file_system(source: io::Error) -> LoadError {
    LoadError::System { what: "make a BPF file system", source }
}

fn is_attached(links: &[Attached], hook: &Hook, target: &str) -> bool {
    links.iter().any(|attached| attached.hook.name == hook.name && attached.target == target)
}

fn attach_once(
    links: &mut Vec<Attached>,
    hook: &'static Hook,
    program: &ProgramFd,
    descriptor: BorrowedFd<'_>,
    target: String,
) -> Result<(), AttachError> {
    if is_attached(links, hook, &target) {
        return Ok(());
    }
    let link = attach(program, hook, descriptor, &target)?;
    links.push(Attached { hook, target, _link: link });
    Ok(())
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

fn next_of(ring: &mut RingBuf<MapData>) -> Option<Event> {
    loop {
        let parsed = Event::parse(&ring.next()?);
        if parsed.is_some() {
            return parsed;
        }
    }
}

fn flows(object: &mut Ebpf) -> Result<MapData, LoadError> {
    match object.take_map("FLOWS") {
        Some(Map::LruHashMap(data)) => Ok(data),
        _ => Err(missing("FLOWS")),
    }
}

fn data<'a>(object: &'a Ebpf, name: &'static str) -> Result<&'a MapData, LoadError> {
    match object.map(name) {
        Some(Map::Array(data)) => Ok(data),
        _ => Err(missing(name)),
    }
}

fn take<T>(object: &mut Ebpf, name: &'static str) -> Result<T, LoadError>
where
    T: TryFrom<Map, Error = MapError>,
{
    let map = object.take_map(name).ok_or_else(|| missing(name))?;
    T::try_from(map).map_err(|source| LoadError::Map { name, source: Box::new(source) })
}

fn missing(name: &'static str) -> LoadError {
    LoadError::Map { name, source: Box::new(MapError::InvalidName { name: name.to_owned() }) }
}
