//! What is in force: the firewall with its images, and the rules that these were made of, so that events can be told.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Instant};

use image::RuleSet;
use kernel::{Adopted, Door, Event, Firewall, Retired, SwapError, boottime};

use super::making::Images;
use crate::{before::Before, followed::Meant, orders::Ready, place::Place, seeing::Seeing};

/// Generations whose rules are remembered: those that may still judge, and as many before them.
const REMEMBERED: u32 = 2 * verdict::abi::SLOTS;

/// The programs and their rules.
pub(crate) struct Force {
    pub(crate) firewall: Firewall,
    /// Nothing was in force before.
    pub(crate) fresh: bool,
    /// What came of the sockets that were there before rules asked for processes; nothing where none ever did.
    pub(crate) before: Option<Before>,
    place: Place,
    /// The rules in force, leaving lockdown aside.
    pub(crate) ready: Arc<Ready>,
    /// When the next of them ends, by CLOCK_BOOTTIME in nanoseconds: it does so in the kernel, and whoever tidies up looks
    /// here.
    pub(crate) next_end: Option<u64>,
    /// What is in force in lockdown.
    lockdown: Arc<Ready>,
    /// Nothing is known of the rules that a predecessor had put in force.
    unknown: Arc<Ready>,
    /// By generation.
    rules: BTreeMap<u32, Arc<Ready>>,
}

impl Force {
    /// Takes over what is pinned in `bpffs`, whose verdicts do not change by this; or loads it anew with `images` in
    /// force. The second value says what was set right on the way.
    ///
    /// # Errors
    /// Where the kernel refuses, or another agent keeps the programs.
    pub(crate) fn begin(
        bpffs: PathBuf,
        place: Place,
        images: &Images,
        seeing: &mut Seeing,
    ) -> anyhow::Result<(Self, Vec<String>)> {
        let attachments = place.attachments(false)?;
        let mut is_fresh = false;
        let (firewall, notes) = match Firewall::adopt(&bpffs, attachments)? {
            Ok(Adopted { firewall, notes }) => (firewall, notes),
            Err(attachments) => {
                let fresh =
                    Firewall::up(&bpffs, images.scheduled(), &images.lockdown.image, attachments)?;
                fresh.supersede()?;
                is_fresh = true;
                (fresh, Vec::new())
            }
        };
        let unknown = Ready {
            rules: RuleSet::default(),
            image: images.lockdown.image.clone(),
            reasons: Vec::new(),
            summary: String::new(),
            notes: Vec::new(),
            meant: Meant::default(),
            documents: None,
        };
        let mut force = Self {
            firewall,
            fresh: is_fresh,
            before: None,
            place,
            ready: Arc::clone(&images.now),
            next_end: None,
            lockdown: Arc::clone(&images.lockdown),
            unknown: Arc::new(unknown),
            rules: BTreeMap::new(),
        };
        force.enforce(images, seeing)?;
        Ok((force, notes))
    }

    /// Puts images in force. What is in force already is left as it is.
    ///
    /// # Errors
    /// Whatever was in force stays.
    pub(crate) fn enforce(&mut self, images: &Images, seeing: &mut Seeing) -> anyhow::Result<()> {
        let Images { now, then, lockdown } = images;
        let then_digest = then.as_ref().map(|(until, ready)| (*until, ready.image.digest()));
        let wanted = (now.image.digest(), then_digest);
        let known = self.firewall.scheduled();
        if known != Some(wanted) {
            match (wanted, known) {
                // Only the end goes: nothing is staged.
                ((only, None), Some((current, Some(_)))) if only == current => {
                    self.firewall.hold();
                }
                _ => {
                    let began = Instant::now();
                    self.put(images, seeing)?;
                    seeing.deeds.swapped(began.elapsed());
                }
            }
        }
        if self.firewall.stage_lockdown(&lockdown.image)? {
            self.lockdown = Arc::clone(lockdown);
        }
        self.before = Before::where_due(&mut self.firewall).or(self.before);
        let first = self.firewall.generation();
        self.rules.insert(first, Arc::clone(now));
        if let Some((_, ready)) = then {
            self.rules.insert(first.wrapping_add(1), Arc::clone(ready));
        }
        self.judge_by(Arc::clone(now));
        self.rules.retain(|generation, _| {
            first.wrapping_sub(*generation) <= REMEMBERED
                || generation.wrapping_sub(first) <= REMEMBERED
        });
        Ok(())
    }

    /// Takes note of the rules in force.
    fn judge_by(&mut self, ready: Arc<Ready>) {
        self.next_end = ready.rules.next_end(boottime());
        self.ready = ready;
    }

    fn put(&mut self, images: &Images, seeing: &mut Seeing) -> anyhow::Result<()> {
        let retired = match self.firewall.schedule(images.scheduled()) {
            Err(SwapError::Size { .. }) => {
                // Larger tables: a second set of programs is attached beside the first, which then goes. For a moment
                // both judge, and what either denies is denied.
                let attachments = self.place.attachments(false)?;
                let mut beside = self.firewall.up_beside(
                    images.scheduled(),
                    &images.lockdown.image,
                    attachments,
                )?;
                if self.firewall.is_locked_down() {
                    beside.lock_down()?;
                }
                self.firewall.stand_down()?;
                let generation = self.firewall.generation();
                let hits = self.firewall.hits();
                beside.supersede()?;
                self.firewall = beside;
                self.count(&[Retired { generation, hits }], seeing);
                self.rules.clear();
                return Ok(());
            }
            done => done?,
        };
        self.count(&retired, seeing);
        Ok(())
    }

    /// Adds what images counted that are no longer in force.
    fn count(&self, retired: &[Retired], seeing: &mut Seeing) {
        for Retired { generation, hits } in retired {
            if let Some(ready) = self.rules.get(generation) {
                seeing.retire(ready, hits);
            }
        }
    }

    /// Takes note of rules, and of a policy on trial, that ended by themselves. Whether there were any.
    pub(crate) fn advance(&mut self, seeing: &mut Seeing) -> bool {
        let rules_ended = self.next_end.is_some_and(|end| end <= boottime());
        let ended = match self.firewall.advance() {
            Ok(retired) => {
                self.count(&retired, seeing);
                !retired.is_empty()
            }
            Err(error) => {
                eprintln!("fwnet: counters of rules are lost: {:#}", anyhow::Error::from(error));
                true
            }
        };
        if ended && let Some(ready) = self.rules.get(&self.firewall.generation()).cloned() {
            self.judge_by(ready);
        }
        ended || rules_ended
    }

    /// The rules that judge now: those of lockdown, if that is on.
    pub(crate) fn judging(&self) -> &Arc<Ready> {
        if self.firewall.is_locked_down() { &self.lockdown } else { &self.ready }
    }

    /// The rules whose image judged the event.
    pub(crate) fn judged_by(&self, event: &Event) -> &Ready {
        if event.door == Door::Tripwire { self.judging() } else { self.rules_of(event.generation) }
    }

    /// The rules of a generation; of none, those of lockdown.
    fn rules_of(&self, generation: Option<u32>) -> &Ready {
        match generation {
            Some(generation) => self.rules.get(&generation).unwrap_or(&self.unknown),
            None => &self.lockdown,
        }
    }

    /// Has flows and counters read when that is due, or at once.
    pub(crate) fn show(&mut self, seeing: &mut Seeing, now: bool) {
        if !now && !seeing.is_due() {
            return;
        }
        let judging = Arc::clone(self.judging());
        let Self { firewall, lockdown, unknown, rules, .. } = self;
        let of = |judged: Option<u32>| -> &Ready {
            match judged {
                Some(generation) => rules.get(&generation).unwrap_or(unknown),
                None => lockdown,
            }
        };
        seeing.read(firewall, &judging, of);
    }

    /// Network namespaces that appeared since the last look, where all are wanted.
    pub(crate) fn join_new(&mut self) {
        self.place.join_new(&mut self.firewall);
    }

    /// Puts back what somebody else has taken away, and says so.
    pub(crate) fn mend(&mut self, seeing: &mut Seeing) {
        for mended in self.firewall.mend() {
            let (hook, target, found) = (mended.hook.name, mended.target, mended.found);
            let became = match mended.result {
                Ok(()) => "it is in place again".to_owned(),
                Err(error) => format!("{:#}", anyhow::Error::from(error)),
            };
            let text = format!("{hook} at {target} was {found}: {became}");
            eprintln!("fwnet: {text}");
            seeing.notice("link-mended", text, true, self.ready.rules.version);
        }
    }
}
