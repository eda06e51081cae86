//! Which image is in force: staging, flipping, and the end of one that only holds for a time.

use std::io;

use image::{Damage, Image};
use rustix::time::{ClockId, clock_gettime};
use verdict::{
    abi::{LOCKDOWN_LINES, LOCKDOWN_SLOT, SLOTS, STANCE_LOCKDOWN, STANCE_POLICY},
    layout::identity,
};

use super::{Firewall, Hits};
use crate::attach::AttachError;

/// What is to be in force.
#[derive(Clone, Copy, Debug)]
pub struct Scheduled<'a> {
    /// The image.
    pub image: &'a Image,
    /// When another one follows, see [`boottime`], and which.
    pub then: Option<(u64, &'a Image)>,
}

/// The digest of an image, and when an image of which digest follows it.
pub type Digests = ([u8; 32], Option<(u64, [u8; 32])>);

impl<'a> Scheduled<'a> {
    /// An image that holds until it is replaced.
    pub fn forever(image: &'a Image) -> Self {
        Self { image, then: None }
    }

    /// What [`Firewall::scheduled`] says once this is in force.
    pub fn digests(&self) -> Digests {
        (self.image.digest(), self.then.map(|(until, image)| (until, image.digest())))
    }

    /// The image, and the one that follows.
    pub(super) fn images(self) -> impl Iterator<Item = &'a Image> {
        [Some(self.image), self.then.map(|(_, image)| image)].into_iter().flatten()
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
        let retired = self.schedule(Scheduled::forever(image))?;
        let of_before = retired.into_iter().find(|retired| retired.generation == before);
        Ok(of_before.map(|retired| retired.hits).unwrap_or_default())
    }

    /// Puts an image in force and, where it is only for a time, the one that follows behind it: when its end has come,
    /// which the kernel programs see by themselves. Stages both, attaches hooks that they are the first to need, flips by
    /// one store, and waits until no program reads the old image. The first one gets the generation
    /// [`Firewall::generation`], the other the next.
    ///
    /// # Errors
    /// The old image stays in force, unless it is [`SwapError::Wait`].
    pub fn schedule(&mut self, scheduled: Scheduled<'_>) -> Result<Vec<Retired>, SwapError> {
        let mut retired = self.flip(scheduled)?;
        retired.extend(self.settle()?);
        Ok(retired)
    }

    /// As [`Firewall::schedule`], but does not wait: programs that had begun may still read the old image, and its
    /// counters come with [`Firewall::settle`], or with the next change.
    ///
    /// # Errors
    /// The old image stays in force.
    pub fn flip(&mut self, scheduled: Scheduled<'_>) -> Result<Vec<Retired>, SwapError> {
        for image in scheduled.images() {
            self.fits(image)?;
        }
        let first_ever = self.generation() == 0;
        let retired = self.advance()?;
        let current = self.slots.generation();
        let taken = if self.slots.until(current) == 0 { 1 } else { 2 };
        let first = current.wrapping_add(taken);
        for (generation, image) in
            (0..).map(|step| first.wrapping_add(step)).zip(scheduled.images())
        {
            self.slots.stage(self.slots.slot(generation), image)?;
            self.slots.set_until(generation, 0);
        }
        self.slots.set_until(first, scheduled.then.map_or(0, |(until, _)| until));
        let flags = scheduled.images().fold(0, |flags, image| flags | image.flags());
        if first_ever {
            self.slots.set_generation(first);
        }
        let wanted = self.flags | flags;
        // A hook that the kernel refuses is missing each time: it is not tried again for an image that needs no more.
        let needed: Vec<&str> = self.needed(wanted).iter().map(|hook| hook.name).collect();
        if self.in_place != needed {
            let attached = self.links.len();
            let in_place = self.attach_needed(wanted);
            self.rest();
            if let Err(error) = in_place {
                self.forget(attached);
                return Err(Box::new(error).into());
            }
            self.in_place = needed;
        }
        self.flags = wanted;
        if !first_ever {
            self.slots.set_generation(first);
            self.leaving = Some((current, taken));
        }
        Ok(retired)
    }

    /// Waits until no program reads an image that a [flip](Firewall::flip) took out of force, and returns its counters.
    ///
    /// # Errors
    /// Where waiting fails; it is tried again before a slot is written.
    pub fn settle(&mut self) -> Result<Vec<Retired>, SwapError> {
        let Some((first, count)) = self.leaving else { return Ok(Vec::new()) };
        self.barrier.wait().map_err(SwapError::Wait)?;
        self.leaving = None;
        Ok(self.retire(first, count))
    }

    /// Writes the image in force into one more slot that nothing is in, so that a later change which differs little from it
    /// has little to write. Whether there was such a slot. Nothing is done while programs may still read what was in
    /// force before, or while another image is to follow.
    ///
    /// # Errors
    /// Where what is read back is something else.
    pub fn prepare(&mut self, in_force: &Image) -> Result<bool, SwapError> {
        let generation = self.slots.generation();
        let ahead = (1..SLOTS).map(|step| self.slots.slot(generation.wrapping_add(step)));
        let holds = self.slots.digest(self.slots.slot(generation)) == Some(in_force.digest());
        if !holds || self.leaving.is_some() || self.slots.until(generation) != 0 {
            return Ok(false);
        }
        let Some(slot) = ahead.into_iter().find(|slot| self.slots.is_far(*slot, in_force)) else {
            return Ok(false);
        };
        self.slots.fill(slot, in_force)?;
        Ok(true)
    }

    /// Takes note that the image in force ended and another one followed: returns the counters of those that ended.
    /// No verdict changes by this.
    ///
    /// # Errors
    /// Where waiting fails; the counters are then lost.
    pub fn advance(&mut self) -> Result<Vec<Retired>, SwapError> {
        let mut retired = self.settle()?;
        let (was, is) = (self.slots.generation(), self.generation());
        if was == is {
            return Ok(retired);
        }
        self.slots.set_generation(is);
        self.barrier.wait().map_err(SwapError::Wait)?;
        retired.extend(self.retire(was, is.wrapping_sub(was)));
        Ok(retired)
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

    /// The digests of what is in force, read and checked; `None` where an image is damaged.
    pub fn scheduled(&self) -> Option<Digests> {
        self.digests(|slot| Some(self.image(slot)?.digest()))
    }

    /// The digests of what is in force as far as this process has put it there or found it sound: nothing is read.
    pub fn staged(&self) -> Option<Digests> {
        self.digests(|slot| self.slots.digest(slot))
    }

    fn digests(&self, digest_of: impl Fn(u32) -> Option<[u8; 32]>) -> Option<Digests> {
        let generation = self.generation();
        let digest = |generation| digest_of(self.slots.slot(generation));
        let then = match self.slots.until(generation) {
            0 => None,
            until => Some((until, digest(generation.wrapping_add(1))?)),
        };
        Some((digest(generation)?, then))
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
        if image.line_count() > LOCKDOWN_LINES as usize || image.rules() > self.numbers.slot_rules {
            return Err(self.size(image, LOCKDOWN_LINES as usize));
        }
        if self.is_locked_down() {
            return Ok(false);
        }
        self.slots.stage(LOCKDOWN_SLOT, image)?;
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
        let header = self.slots.read(slot, 0, 1);
        let lines = header.first()?.word(identity::LINES) as usize;
        Image::from_lines(&self.slots.read(slot, 0, lines)).ok()
    }

    fn fits(&self, image: &Image) -> Result<(), SwapError> {
        let fits =
            image.line_count() <= self.slots.lines() && image.rules() <= self.numbers.slot_rules;
        if fits { Ok(()) } else { Err(self.size(image, self.slots.lines())) }
    }

    fn size(&self, image: &Image, slot_lines: usize) -> SwapError {
        SwapError::Size {
            lines: image.line_count(),
            rules: image.rules(),
            slot_lines,
            slot_rules: self.numbers.slot_rules,
        }
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
