//! What is in force: the firewall with its images, and the rules that these were made of, so that events can be told.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Instant};

use ::agent::lists::Planned;
use image::RuleSet;
use kernel::{Adopted, Door, Event, Firewall, Retired, Scheduled, SwapError};

use crate::{before::Before, followed::Meant, orders::Ready, place::Place, seeing::Seeing};

/// Rules, and until when they are in force.
pub(crate) type Stage = Planned<Arc<Ready>>;

/// Generations whose rules are remembered: those that may still judge, and as many before them.
const REMEMBERED: u32 = 2 * verdict::abi::RING;

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
    /// What is in force in lockdown.
    lockdown: Arc<Ready>,
    /// Nothing is known of the rules that a predecessor had put in force.
    unknown: Arc<Ready>,
    /// By generation.
    rules: BTreeMap<u32, Arc<Ready>>,
}

impl Force {
    /// Takes over what is pinned in `bpffs`, whose verdicts do not change by this; or loads it anew with `stages` in
    /// force. The second value says what was set right on the way.
    ///
    /// # Errors
    /// Where the kernel refuses, or another agent keeps the programs.
    pub(crate) fn begin(
        bpffs: PathBuf,
        place: Place,
        stages: &[Stage],
        lockdown: &Arc<Ready>,
        seeing: &mut Seeing,
    ) -> anyhow::Result<(Self, Vec<String>)> {
        let attachments = place.attachments(false)?;
        let mut is_fresh = false;
        let (firewall, notes) = match Firewall::adopt(&bpffs, attachments)? {
            Ok(Adopted { firewall, notes }) => (firewall, notes),
            Err(attachments) => {
                let fresh = Firewall::up(&bpffs, &scheduled(stages), &lockdown.image, attachments)?;
                fresh.supersede()?;
                is_fresh = true;
                (fresh, Vec::new())
            }
        };
        let unknown = Ready {
            rules: RuleSet::default(),
            image: lockdown.image.clone(),
            reasons: Vec::new(),
            summary: String::new(),
            notes: Vec::new(),
            next: None,
            meant: Meant::default(),
            documents: None,
        };
        let mut force = Self {
            firewall,
            fresh: is_fresh,
            before: None,
            place,
            ready: Arc::clone(lockdown),
            lockdown: Arc::clone(lockdown),
            unknown: Arc::new(unknown),
            rules: BTreeMap::new(),
        };
        force.enforce(stages, lockdown, seeing)?;
        Ok((force, notes))
    }

    /// Puts the first of `stages` in force, and has the kernel follow the others. What is in force already is left as it
    /// is.
    ///
    /// # Errors
    /// Whatever was in force stays.
    pub(crate) fn enforce(
        &mut self,
        stages: &[Stage],
        lockdown: &Arc<Ready>,
        seeing: &mut Seeing,
    ) -> anyhow::Result<()> {
        let wanted: Vec<_> =
            stages.iter().map(|stage| (stage.what.image.digest(), stage.until)).collect();
        let known = self.firewall.scheduled();
        if known != wanted {
            match (&*wanted, known.first()) {
                // Only the end goes: nothing is staged.
                ([(only, None)], Some((current, Some(_)))) if only == current => {
                    self.firewall.hold();
                }
                _ => {
                    let began = Instant::now();
                    self.put(stages, lockdown, seeing)?;
                    seeing.deeds.swapped(began.elapsed());
                }
            }
        }
        if self.firewall.stage_lockdown(&lockdown.image)? {
            self.lockdown = Arc::clone(lockdown);
        }
        self.before = Before::where_due(&mut self.firewall).or(self.before);
        let first = self.firewall.generation();
        for (step, stage) in (0..).zip(stages) {
            self.rules.insert(first.wrapping_add(step), Arc::clone(&stage.what));
        }
        if let Some(stage) = stages.first() {
            self.ready = Arc::clone(&stage.what);
        }
        self.rules.retain(|generation, _| {
            first.wrapping_sub(*generation) <= REMEMBERED
                || generation.wrapping_sub(first) <= REMEMBERED
        });
        Ok(())
    }

    fn put(
        &mut self,
        stages: &[Stage],
        lockdown: &Arc<Ready>,
        seeing: &mut Seeing,
    ) -> anyhow::Result<()> {
        let retired = match self.firewall.schedule(&scheduled(stages)) {
            Err(SwapError::Size { .. }) => {
                // Larger tables: a second set of programs is attached beside the first, which then goes. For a moment
                // both judge, and what either denies is denied.
                let attachments = self.place.attachments(false)?;
                let mut beside =
                    self.firewall.up_beside(&scheduled(stages), &lockdown.image, attachments)?;
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

    /// Takes note of images that ended by themselves. Whether there were any.
    pub(crate) fn advance(&mut self, seeing: &mut Seeing) -> bool {
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
        if let Some(ready) = self.rules.get(&self.firewall.generation()) {
            self.ready = Arc::clone(ready);
        }
        ended
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
        let Self { firewall, lockdown, unknown, rules, ready: _, place: _, fresh: _, before: _ } =
            self;
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

fn scheduled(stages: &[Stage]) -> Vec<Scheduled<'_>> {
    let each = stages.iter();
    each.map(|stage| Scheduled { image: &stage.what.image, until: stage.until }).collect()
}
