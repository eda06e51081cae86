//! Which image is in force until when: staging, flipping, and the end of images that only hold for a time.

use std::io;

use image::{Damage, Image, check};
use rustix::time::{ClockId, clock_gettime};
use verdict::{
    Line,
    abi::{LOCKDOWN_LINES, LOCKDOWN_SLOT, STANCE_LOCKDOWN, STANCE_POLICY},
    layout::identity,
};

use super::{Firewall, Hits};
use crate::attach::AttachError;

/// How many images of a schedule the kernel holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// In all: one slot of the ring is always free for the next one.
    pub all: usize,
    /// Those that come into force with the first one, in the same store.
    pub at_once: usize,
}

impl Room {
    /// What there always is.
    pub const LEAST: Self = Self::of(4);

    const fn of(ring: usize) -> Self {
        Self { all: ring - 1, at_once: ring / 2 }
    }
}

/// An image and its end.
#[derive(Clone, Copy, Debug)]
pub struct Scheduled<'a> {
    /// The image.
    pub image: &'a Image,
    /// When the next one follows, see [`boottime`]; the last one of a schedule has no end.
    pub until: Option<u64>,
}

impl<'a> Scheduled<'a> {
    /// An image that holds until it is replaced.
    pub fn forever(image: &'a Image) -> Self {
        Self { image, until: None }
    }
}

/// The counters of an image that is no longer in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retired {
    /// The generation that it was.
    pub generation: u32,
    /// How often each of its rules decided, by rule number.
    pub hits: Vec<Hits>,
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

/// Nanoseconds since the machine started, sleep included: CLOCK_BOOTTIME, which nobody can set back.
pub fn boottime() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let (seconds, rest) = (now.tv_sec.cast_unsigned(), now.tv_nsec.cast_unsigned());
    seconds * 1_000_000_000 + rest
}

impl Firewall {
    /// Puts another image in force and keeps it there. Returns how often the rules of the image before decided.
    ///
    /// # Errors
    /// As [`Firewall::schedule`].
    pub fn swap(&mut self, image: &Image) -> Result<Vec<Hits>, SwapError> {
        let before = self.generation();
        let retired = self.schedule(&[Scheduled::forever(image)])?;
        let of_before = retired.into_iter().find(|retired| retired.generation == before);
        Ok(of_before.map(|retired| retired.hits).unwrap_or_default())
    }

    /// Puts the first image of a schedule in force, and each next one when the end of the one before it has come,
    /// which the kernel programs see by themselves. Stages them, attaches hooks that they are the first to need, flips
    /// by one store, and waits until no program reads the old image. The first image gets the generation
    /// [`Firewall::generation`], the others those that follow it.
    ///
    /// As many images as [`Room::at_once`] says, with the ends between them, come into force in that one store; up to
    /// [`Room::all`] are added behind them right after it, and further ones are left out: whoever calls again when time
    /// has passed adds them.
    ///
    /// # Errors
    /// The old image stays in force.
    ///
    /// # Panics
    /// Where `schedule` is empty.
    pub fn schedule(&mut self, schedule: &[Scheduled<'_>]) -> Result<Vec<Retired>, SwapError> {
        assert!(!schedule.is_empty(), "a schedule names what is in force");
        for entry in schedule {
            self.fits(entry.image)?;
        }
        let first_ever = self.generation() == 0;
        let mut retired = self.advance()?;
        let current = self.slots.generation();
        let room = self.room();
        let at_once = schedule.len().min(room.at_once);
        let chain = self.shortened(current, self.slots.ring() / 2)?;
        let first = current.wrapping_add(chain);
        for (generation, entry) in generations(first, schedule).take(at_once) {
            self.stage(self.slots.slot(generation), entry.image.lines())?;
        }
        self.link(first, schedule, at_once);
        let flags = schedule.iter().fold(0, |flags, entry| flags | entry.image.flags());
        if first_ever {
            self.slots.set_generation(first);
        }
        let attached = self.links.len();
        let in_place = self.attach_needed(self.flags | flags);
        self.rest();
        if let Err(error) = in_place {
            self.forget(attached);
            return Err(Box::new(error).into());
        }
        self.flags |= flags;
        if !first_ever {
            self.slots.set_generation(first);
        }
        self.barrier.wait().map_err(SwapError::Wait)?;
        if !first_ever {
            retired.extend(self.retire(current, chain));
        }
        let all = schedule.len().min(room.all);
        for (generation, entry) in generations(first, schedule).take(all).skip(at_once) {
            self.stage(self.slots.slot(generation), entry.image.lines())?;
        }
        self.link(first, schedule, all);
        Ok(retired)
    }

    /// How many images a schedule of this set may have.
    pub fn room(&self) -> Room {
        Room::of(self.slots.ring() as usize)
    }

    /// Whether an image fits into the slots of this set.
    pub fn holds(&self, image: &Image) -> bool {
        self.fits(image).is_ok()
    }

    /// Takes note that the image in force ended and another one followed: returns the counters of those that ended.
    /// No verdict changes by this.
    ///
    /// # Errors
    /// Where waiting fails; the counters are then lost.
    pub fn advance(&mut self) -> Result<Vec<Retired>, SwapError> {
        let (was, is) = (self.slots.generation(), self.generation());
        if was == is {
            return Ok(Vec::new());
        }
        self.slots.set_generation(is);
        self.barrier.wait().map_err(SwapError::Wait)?;
        Ok(self.retire(was, is.wrapping_sub(was)))
    }

    /// Generation of the image in force, or that would be in force but for lockdown.
    pub fn generation(&self) -> u32 {
        self.slots.in_force(boottime())
    }

    /// The end of the image in force, if another follows it.
    pub fn until(&self) -> Option<u64> {
        Some(self.slots.until(self.generation())).filter(|until| *until != 0)
    }

    /// Cancels the end of the image in force: it holds until it is replaced. What was to follow is forgotten.
    pub fn hold(&self) {
        self.slots.set_until(self.generation(), 0);
    }

    /// The digests of the image in force and of those that will follow it, each with its end. An image that is damaged
    /// ends the list.
    pub fn scheduled(&self) -> Vec<([u8; 32], Option<u64>)> {
        let first = self.generation();
        let each = (0..self.slots.chain(first)).map_while(|step| {
            let generation = first.wrapping_add(step);
            let image = self.image(self.slots.slot(generation))?;
            Some((image.digest(), Some(self.slots.until(generation)).filter(|end| *end != 0)))
        });
        each.collect()
    }

    /// Whether the lockdown image is in force.
    pub fn is_locked_down(&self) -> bool {
        self.slots.stance() == STANCE_LOCKDOWN
    }

    /// Makes `image` the one that lockdown puts in force. It counts as staged only while there is no lockdown: `false`
    /// says that there is, and that the earlier one stays.
    ///
    /// # Errors
    /// [`SwapError::Size`] where it is larger than [`LOCKDOWN_LINES`](verdict::abi::LOCKDOWN_LINES) lines.
    pub fn stage_lockdown(&mut self, image: &Image) -> Result<bool, SwapError> {
        if image.lines().len() > LOCKDOWN_LINES as usize || image.rules() > self.numbers.slot_rules
        {
            return Err(self.size(image, LOCKDOWN_LINES as usize));
        }
        if self.is_locked_down() {
            return Ok(false);
        }
        self.stage(LOCKDOWN_SLOT, image.lines())?;
        Ok(true)
    }

    /// Puts the lockdown image in force whatever else is: one store, then whatever hooks it needs.
    ///
    /// # Errors
    /// Where a hook that it needs cannot be attached: lockdown then holds for the hooks that are.
    pub fn lock_down(&mut self) -> Result<(), AttachError> {
        self.slots.set_stance(STANCE_LOCKDOWN);
        let flags = self.image(LOCKDOWN_SLOT).map_or(u32::MAX, |image| image.flags());
        let in_place = self.attach_needed(self.flags | flags);
        self.rest();
        self.flags |= flags;
        in_place
    }

    /// Ends lockdown: the image that is scheduled for now is in force again.
    pub fn resume(&self) {
        self.slots.set_stance(STANCE_POLICY);
    }

    /// The slot that flows are judged by now.
    pub(super) fn slot_in_force(&self) -> u32 {
        if self.is_locked_down() { LOCKDOWN_SLOT } else { self.slots.slot(self.generation()) }
    }

    /// What stands in a slot, if it is a sound image.
    pub(super) fn image(&self, slot: u32) -> Option<Image> {
        let header = self.slots.read(slot, 1);
        let lines = header.first()?.word(identity::LINES) as usize;
        Image::from_lines(self.slots.read(slot, lines)).ok()
    }

    fn fits(&self, image: &Image) -> Result<(), SwapError> {
        let fits =
            image.lines().len() <= self.slots.lines() && image.rules() <= self.numbers.slot_rules;
        if fits { Ok(()) } else { Err(self.size(image, self.slots.lines())) }
    }

    fn size(&self, image: &Image, slot_lines: usize) -> SwapError {
        SwapError::Size {
            lines: image.lines().len(),
            rules: image.rules(),
            slot_lines,
            slot_rules: self.numbers.slot_rules,
        }
    }

    fn stage(&mut self, slot: u32, lines: &[Line]) -> Result<(), SwapError> {
        Ok(check(&self.slots.stage(slot, lines))?)
    }

    /// Says when each of the first `count` staged images ends. The last of them has no end yet, so that no program
    /// walks on into a slot that is not staged; ends are written from the last to the first for the same reason.
    fn link(&self, first: u32, schedule: &[Scheduled<'_>], count: usize) {
        let linked: Vec<(u32, &Scheduled<'_>)> = generations(first, schedule).take(count).collect();
        for (index, (generation, entry)) in linked.iter().enumerate().rev() {
            let last = index + 1 == linked.len();
            self.slots.set_until(*generation, entry.until.filter(|_| !last).unwrap_or(0));
        }
    }

    /// Forgets what would follow beyond `most` images, and says how many there are.
    fn shortened(&self, current: u32, most: u32) -> Result<u32, SwapError> {
        let chain = self.slots.chain(current);
        if chain <= most {
            return Ok(chain);
        }
        self.slots.set_until(current.wrapping_add(most - 1), 0);
        self.barrier.wait().map_err(SwapError::Wait)?;
        Ok(most)
    }

    /// The counters of the `count` generations from `first` on, which no program uses any more.
    fn retire(&mut self, first: u32, count: u32) -> Vec<Retired> {
        let each = (0..count).map(|step| {
            let generation = first.wrapping_add(step);
            Retired { generation, hits: self.take_hits(self.slots.slot(generation)) }
        });
        each.collect()
    }
}

/// The images of a schedule with their generations.
fn generations<'a, 'b>(
    first: u32,
    schedule: &'a [Scheduled<'b>],
) -> impl Iterator<Item = (u32, &'a Scheduled<'b>)> {
    (0..).map(move |step| first.wrapping_add(step)).zip(schedule)
}
