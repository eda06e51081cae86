//! Programs that outlive the process: pinned, taken over by whoever comes next, replaced in place, and removed.

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use image::Image;
use verdict::abi::{ABI, SLOTS, STANCE_LOCKDOWN, STANCE_POLICY};

use super::{
    Attachments, Firewall, LoadError, Scheduled,
    links::{Attached, Judged, Key, Namespaces, pin_in_place, pin_over},
    mend::Mended,
    numbers, opened,
};
use crate::{
    attach::{AttachError, attach},
    guard,
    hook::{Hook, Scope},
    netns::Netns,
    object::{self, Numbers, Pins},
    set::{Directory, Meta, Objects, PinError, Set},
    slots::Slots,
    snapshot::{Snapshot, snapshot},
    sys,
};

/// How long the kernel may take to free what nothing names any more.
const GONE_WITHIN: Duration = Duration::from_secs(2);
/// The same for programs of security hooks: those go when no task can be in the code that called them any more (RCU tasks,
/// kernel/bpf/trampoline.c), which a busy machine lets wait for seconds.
const SECURITY_GONE_WITHIN: Duration = Duration::from_secs(15);

/// Where a set of programs is pinned.
#[derive(Debug)]
pub(super) struct Pinned {
    directory: Directory,
    set: Set,
    /// The maps, so that they can be pinned again.
    maps: Vec<(PathBuf, OwnedFd)>,
}

impl Pinned {
    fn new(directory: Directory, set: Set, pins: &Pins) -> Result<Self, PinError> {
        let open = |path: PathBuf| {
            let map = sys::pinned(&path).map_err(PinError::at("open", &path))?;
            Ok((path, map))
        };
        let maps = pins.paths().map(|(_, path)| open(path)).collect::<Result<_, _>>()?;
        Ok(Self { directory, set, maps })
    }

    /// Pins the maps again where somebody took the pins away.
    fn restore(&mut self, numbers: &Numbers) -> Result<(), LoadError> {
        self.directory.restore(&self.set)?;
        for (path, map) in &self.maps {
            if !path.exists() {
                sys::pin(map.as_fd(), path).map_err(PinError::at("pin", path))?;
            }
        }
        self.note(numbers)
    }

    /// Writes down what the set is.
    fn note(&self, numbers: &Numbers) -> Result<(), LoadError> {
        Ok(self.set.set_meta(Meta { complete: 1, ..meta(numbers)? })?)
    }

    /// Where the link of a hook is pinned.
    pub(super) fn link(&self, hook: &Hook, key: Key) -> PathBuf {
        self.set.links().join(match key {
            Key::Cgroup | Key::Host => hook.program.to_owned(),
            Key::Netns(inode) => format!("{}-{inode}", hook.program),
        })
    }
}

/// What was found in a directory of pins, and what became of it.
#[derive(Debug)]
pub struct Adopted {
    /// The programs, which judge as they did before.
    pub firewall: Firewall,
    /// What was set right on the way, for people: half a set that a loader had left, programs of another version.
    pub notes: Vec<String>,
}

/// What `remove` took away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Links that are gone: their file names.
    pub links: Vec<String>,
    /// Links and programs of ours that are still in the kernel although nothing names them any more: somebody else holds
    /// them. Empty is the proof that the system is as before.
    pub left: Vec<String>,
}

impl Firewall {
    /// Loads everything into a new set of pins in `directory` and puts `scheduled` in force; it stays when this process
    /// ends. Other sets there are left alone, so that what they deny is denied meanwhile: [`Firewall::supersede`]
    /// removes them. What programs of the same ABI there have learnt is shared.
    ///
    /// # Errors
    /// As [`Firewall::load`], and where the directory cannot be used or another agent keeps it. Nothing new stays.
    pub fn up(
        directory: &Path,
        scheduled: Scheduled<'_>,
        lockdown: &Image,
        attachments: Attachments,
    ) -> Result<Self, LoadError> {
        Self::up_without(&[], directory, scheduled, lockdown, attachments)
    }

    /// As [`Firewall::up`], but leaves out the hooks with these names, required or not: what is open then shows what
    /// each of them closes.
    ///
    /// # Errors
    /// As [`Firewall::up`].
    pub fn up_without(
        left_out: &[&str],
        directory: &Path,
        scheduled: Scheduled<'_>,
        lockdown: &Image,
        attachments: Attachments,
    ) -> Result<Self, LoadError> {
        let directory = Directory::make(directory)?;
        Self::up_in(directory, left_out, scheduled, lockdown, attachments)
    }

    /// As [`Firewall::up`], for images that do not fit into the slots of this one. The caller then lets this one
    /// [stand down](Firewall::stand_down), reads what it has counted, and lets the new one
    /// [supersede](Firewall::supersede) it.
    ///
    /// # Errors
    /// As [`Firewall::up`]; this one stays as it is.
    pub fn up_beside(
        &self,
        scheduled: Scheduled<'_>,
        lockdown: &Image,
        attachments: Attachments,
    ) -> Result<Self, LoadError> {
        match &self.pinned {
            Some(pinned) => {
                Self::up_in(pinned.directory.clone(), &[], scheduled, lockdown, attachments)
            }
            None => Err(PinError::Empty { path: PathBuf::new() }.into()),
        }
    }

    fn up_in(
        directory: Directory,
        left_out: &[&str],
        scheduled: Scheduled<'_>,
        lockdown: &Image,
        attachments: Attachments,
    ) -> Result<Self, LoadError> {
        let numbers = numbers(scheduled, &attachments)?;
        let known = directory.sets()?.into_iter().rfind(|set| is_ours(set).is_some());
        let set = directory.add()?;
        let made = || -> Result<Self, LoadError> {
            set.set_meta(Meta { complete: 0, ..meta(&numbers)? })?;
            if let Some(known) = known {
                Pins::share(&known.maps(), &set.maps())
                    .map_err(PinError::at("share the maps of", &known.maps()))?;
            }
            let mut firewall = Self::make(Pins::directory(set.maps()), numbers, attachments)?;
            firewall.left_out = left_out.iter().map(|&name| name.to_owned()).collect();
            firewall.pinned = Some(Pinned::new(directory, set.clone(), &firewall.pins)?);
            firewall.guard_pins()?;
            firewall.stage_lockdown(lockdown)?;
            firewall.schedule(scheduled)?;
            firewall.note_meta()?;
            Ok(firewall)
        };
        made().inspect_err(|_| {
            // What cannot be removed now is found incomplete and removed by the next one.
            let _removed = set.remove();
        })
    }

    /// Takes over the programs that are pinned in `directory`, if there are any of this ABI. No verdict changes: links
    /// stay attached, and where their programs come from another object than ours they are replaced one by one, each
    /// at once. What a loader that died half-way has left is removed, or its work finished.
    ///
    /// `None` where there is nothing to take over, or only programs of another ABI or for another cgroup: then
    /// [`Firewall::up`] loads beside them.
    ///
    /// # Errors
    /// Where the directory cannot be used or another agent keeps it, or ours cannot be opened.
    pub fn adopt(
        directory: &Path,
        attachments: Attachments,
    ) -> Result<Result<Adopted, Attachments>, LoadError> {
        let directory = match Directory::open(directory, true) {
            Ok(directory) => directory,
            Err(PinError::Empty { .. }) => return Ok(Err(attachments)),
            Err(error) => return Err(error.into()),
        };
        let mut notes = Vec::new();
        let mut sets = directory.sets()?;
        let chosen = sets.iter().rposition(|set| {
            is_ours(set).is_some_and(|meta| meta.cgroup == attachments.cgroup.id())
        });
        let Some(chosen) = chosen else { return Ok(Err(attachments)) };
        let set = sets.remove(chosen);
        let meta = is_ours(&set).expect("just looked at");
        for other in sets {
            // A complete set with a higher number is of another ABI and was made later: it is left to those who know it.
            let half = other.meta().is_none_or(|meta| meta.complete == 0);
            let (state, number) = (if half { "half-made" } else { "superseded" }, other.number());
            if half || number < set.number() {
                other.remove()?;
                notes.push(format!(
                    "removed the {state} set {number} that was left beside set {}",
                    set.number()
                ));
            }
        }
        let mut firewall = Self::open(Pins::directory(set.maps()), numbers_of(&meta), attachments)?;
        firewall.adopt_links(&set)?;
        firewall.flags = firewall.flags_of_slots();
        firewall.pinned = Some(Pinned::new(directory, set, &firewall.pins)?);
        firewall.guard_pins()?;
        if meta.object != object::digest()? {
            firewall.renew()?;
            notes.push("replaced the programs of another version in place".to_owned());
        }
        Ok(Ok(Adopted { firewall, notes }))
    }

    fn adopt_links(&mut self, set: &Set) -> Result<(), LoadError> {
        let (found, _) = Netns::found_beside(&BTreeSet::new());
        for (name, link) in set.pinned_links()? {
            let (program, inode) = match name.split_once('-') {
                Some((program, inode)) => (program, inode.parse::<u64>().ok()),
                None => (name.as_str(), None),
            };
            let Some(hook) = Hook::ALL.iter().find(|hook| hook.program == program) else {
                continue;
            };
            let (key, target) = match (hook.scope, inode) {
                (Scope::Netns, Some(inode)) => {
                    let named = match &self.attachments.namespaces {
                        Namespaces::Named(named) => named.iter().find(|it| it.inode() == inode),
                        Namespaces::All => None,
                    };
                    let known = named.or(found.iter().find(|it| it.inode() == inode));
                    let cookie = known.map_or(0, Netns::cookie);
                    self.judged.push(Judged { inode, cookie });
                    let name = known.map_or("that is no more", Netns::name);
                    (Key::Netns(inode), format!("network namespace {name}"))
                }
                (Scope::Cgroup, _) => {
                    let path = self.attachments.cgroup.path();
                    (Key::Cgroup, format!("cgroup {}", path.display()))
                }
                (Scope::Host | Scope::Netns, _) => (Key::Host, "this machine".to_owned()),
            };
            let pin = Some(set.links().join(&name));
            self.guard
                .link(link.as_fd())
                .map_err(|source| LoadError::System { what: "guard a link", source })?;
            self.links.push(Attached { hook, key, target, link, pin });
        }
        self.set_report();
        Ok(())
    }

    /// `FLAG_*` of every image that was put in a slot: hooks that one of them needed stay.
    fn flags_of_slots(&mut self) -> u32 {
        let mut flags = 0;
        for slot in 0..SLOTS {
            if let Some(image) = self.image(slot) {
                flags |= image.flags();
                self.slots.found(slot, &image);
            }
        }
        flags
    }

    /// Replaces the program of every link by that of our object.
    fn renew(&mut self) -> Result<(), LoadError> {
        let mut links = std::mem::take(&mut self.links);
        let renewed = links.iter_mut().try_for_each(|attached| self.renew_link(attached));
        self.links = links;
        self.rest();
        renewed?;
        self.note_meta()
    }

    fn renew_link(&mut self, attached: &mut Attached) -> Result<(), LoadError> {
        let hook = attached.hook;
        let target = attached.target.clone();
        let failed = |source| AttachError::Attach { hook: hook.name, target, source };
        let guarding = |source| LoadError::System { what: "guard a link", source };
        if !attached.is_alive() {
            return Ok(());
        }
        match attached.key {
            // Such a link has one program for life. The old one of the tripwire goes on, which reads the same maps. Of a
            // security hook's program the new one is attached before the old one goes: meanwhile both judge.
            Key::Host => {
                if hook.lsm.is_none() {
                    return Ok(());
                }
                let program =
                    opened(&mut self.object, &self.numbers, &self.pins, hook)?.load(hook)?;
                let cgroup = self.attachments.cgroup.as_fd();
                let link = attach(program, hook, cgroup, &attached.target)?;
                if let Some(pin) = &attached.pin {
                    pin_in_place(link.as_fd(), pin).map_err(failed)?;
                }
                self.guard.link(link.as_fd()).map_err(guarding)?;
                self.guard.forget(attached.link.as_fd());
                attached.link = link;
                Ok(())
            }
            Key::Cgroup => {
                let program =
                    opened(&mut self.object, &self.numbers, &self.pins, hook)?.load(hook)?;
                sys::link_update(attached.link.as_fd(), program.as_fd()).map_err(failed)?;
                Ok(())
            }
            Key::Netns(inode) => {
                let known = self.judged.iter().find(|judged| judged.inode == inode);
                let Some(cookie) = known.map(|judged| judged.cookie).filter(|it| *it != 0) else {
                    return Ok(());
                };
                let mut copy = self.copy_for(hook, cookie)?;
                let program = copy.load(hook)?;
                sys::link_update(attached.link.as_fd(), program.as_fd()).map_err(failed)?;
                Ok(())
            }
        }
    }

    /// Has the guard keep the directories of the pins from other programs.
    fn guard_pins(&mut self) -> Result<(), LoadError> {
        let Some(pinned) = &self.pinned else { return Ok(()) };
        for directory in pinned.set.directories() {
            self.guard
                .directory(&directory)
                .map_err(|source| LoadError::System { what: "guard the pins", source })?;
        }
        Ok(())
    }

    /// Removes every other set in the directory of pins, whoever made it: this one is complete.
    ///
    /// # Errors
    /// Where a pin cannot be removed.
    pub fn supersede(&self) -> Result<(), PinError> {
        let Some(pinned) = &self.pinned else { return Ok(()) };
        for other in pinned.directory.sets()? {
            if other.number() != pinned.set.number() {
                other.remove()?;
            }
        }
        Ok(())
    }

    /// Writes down what this set is, after it has changed.
    pub(super) fn note_meta(&self) -> Result<(), LoadError> {
        self.pinned.as_ref().map_or(Ok(()), |pinned| pinned.note(&self.numbers))
    }

    /// Puts back pins that somebody has taken away, a file system that was unmounted included.
    pub(super) fn mend_pins(&mut self) -> Vec<Mended> {
        let Some(pinned) = &mut self.pinned else { return Vec::new() };
        let missing = |attached: &&Attached| attached.pin.as_ref().is_some_and(|pin| !pin.exists());
        let lost: Vec<&Attached> = self.links.iter().filter(missing).collect();
        if lost.is_empty() {
            return Vec::new();
        }
        let restored = pinned.restore(&self.numbers).map_err(|error| error.to_string());
        let again = |attached: &&Attached| {
            let pin = attached.pin.as_deref().unwrap_or(Path::new(""));
            let result = match &restored {
                Ok(()) => pin_over(attached.link.as_fd(), pin),
                Err(why) => Err(io::Error::other(why.clone())),
            };
            let failed = |source| AttachError::Attach {
                hook: attached.hook.name,
                target: pin.display().to_string(),
                source,
            };
            Mended {
                hook: attached.hook,
                target: attached.target.clone(),
                found: "no longer pinned",
                result: result.map_err(failed),
            }
        };
        let mended = lost.iter().map(again).collect();
        // The directories may be others than they were. Without this guard they are looked after all the same.
        let _guarded = self.guard_pins();
        mended
    }

    /// Detaches and unpins everything in the directory, and looks whether it is gone from the kernel.
    ///
    /// # Errors
    /// Where a pin cannot be removed; what could be is gone.
    pub fn remove(mut self) -> Result<Removed, PinError> {
        let Some(Pinned { directory, .. }) = self.pinned.take() else {
            return Ok(Removed::default());
        };
        drop(self);
        remove_from(directory)
    }
}

/// Puts every set in `directory` in lockdown, and attaches what their lockdown images need besides: without an agent,
/// or beside one that does not answer.
///
/// # Errors
/// [`PinError::Empty`] where nothing is pinned; else where a hook cannot be attached, after lockdown has begun with
/// those that are.
pub fn lock_down(directory: &Path, attachments: Attachments) -> Result<(), LoadError> {
    set_stance(directory, STANCE_LOCKDOWN)?;
    let sets = Directory::open(directory, false)?;
    let ours = sets.sets()?.into_iter().rev().find_map(|set| Some((is_ours(&set)?, set)));
    let Some((meta, set)) = ours else { return Ok(()) };
    let mut firewall = Firewall::open(Pins::directory(set.maps()), numbers_of(&meta), attachments)?;
    firewall.adopt_links(&set)?;
    firewall.pinned = Some(Pinned::new(sets, set, &firewall.pins)?);
    Ok(firewall.lock_down()?)
}

/// Ends the lockdown of every set in `directory`.
///
/// # Errors
/// [`PinError::Empty`] where nothing is pinned.
pub fn resume(directory: &Path) -> Result<(), LoadError> {
    set_stance(directory, STANCE_POLICY)
}

/// Detaches and unpins everything in `directory`, for when no agent keeps it.
///
/// # Errors
/// [`PinError::Held`] where one does, [`PinError::Empty`] where nothing is there.
pub fn remove(directory: &Path) -> Result<Removed, PinError> {
    remove_from(Directory::open(directory, true)?)
}

fn set_stance(directory: &Path, stance: u32) -> Result<(), LoadError> {
    let sets = Directory::open(directory, false)?.sets()?;
    // The stance is where it is since ABI 2.
    let sets: Vec<Set> =
        sets.into_iter().filter(|set| set.meta().is_some_and(|meta| meta.abi >= 2)).collect();
    if sets.is_empty() {
        return Err(PinError::Empty { path: directory.to_owned() }.into());
    }
    for set in sets {
        Slots::store_stance(set.control()?, stance)
            .map_err(|source| LoadError::System { what: "write the stance", source })?;
    }
    Ok(())
}

fn remove_from(directory: Directory) -> Result<Removed, PinError> {
    let mut objects = Vec::new();
    let mut links = Vec::new();
    for set in directory.sets()? {
        // A half-made set has pins of which some cannot be asked: it is removed all the same.
        objects.extend(set.objects());
        links.extend(set.pinned_links().into_iter().flatten().map(|(name, _link)| name));
        set.remove()?;
    }
    directory.remove()?;
    let security =
        |link: &String| Hook::ALL.iter().any(|hook| hook.is_lsm() && hook.program == link.as_str());
    let patience = if links.iter().any(security) { SECURITY_GONE_WITHIN } else { GONE_WITHIN };
    let deadline = Instant::now() + patience;
    let mut left = left_of(&objects);
    while !left.is_empty() && Instant::now() < deadline {
        // The kernel frees programs and maps behind a grace period.
        thread::sleep(Duration::from_millis(5));
        left = left_of(&objects);
    }
    Ok(Removed { links, left })
}

/// Which of the objects the kernel still has.
fn left_of(objects: &[Objects]) -> Vec<String> {
    let Snapshot { programs, links, maps } = snapshot();
    let each = objects.iter().flat_map(|objects| {
        let of_links =
            objects.links.iter().filter(|id| links.contains_key(id)).map(|id| format!("link {id}"));
        let of_programs = objects
            .programs
            .iter()
            .filter_map(|id| Some(format!("program {id} {}", programs.get(id)?)));
        let of_maps =
            objects.maps.iter().filter_map(|id| Some(format!("map {id} {}", maps.get(id)?)));
        of_links.chain(of_programs).chain(of_maps)
    });
    each.collect()
}

/// The meta data of a complete set of this ABI.
fn is_ours(set: &Set) -> Option<Meta> {
    set.meta().filter(|meta| meta.abi == ABI && meta.complete == 1)
}

fn meta(numbers: &Numbers) -> Result<Meta, LoadError> {
    Ok(Meta {
        abi: ABI,
        complete: 0,
        slot_lines: numbers.slot_lines,
        slot_rules: numbers.slot_rules,
        features: numbers.features,
        event_bytes: numbers.event_bytes,
        cgroup_level: numbers.cgroup.1,
        everywhere: u32::from(numbers.everywhere),
        cgroup: numbers.cgroup.0,
        exe_offsets: numbers.exe_offsets,
        object: object::digest()?,
        fields: numbers.fields,
        accept_errno: numbers.accept_errno,
        padding: 0,
    })
}

fn numbers_of(meta: &Meta) -> Numbers {
    Numbers {
        slot_lines: meta.slot_lines,
        slot_rules: meta.slot_rules,
        features: meta.features,
        event_bytes: meta.event_bytes,
        cgroup: (meta.cgroup, meta.cgroup_level),
        exe_offsets: meta.exe_offsets,
        netns: 0,
        fields: meta.fields,
        everywhere: meta.everywhere != 0,
        accept_errno: meta.accept_errno,
        keeper: guard::own_place(),
    }
}
