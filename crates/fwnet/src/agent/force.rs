//! What is in force: the firewall with its images, and the rules that these were made of, so that events can be told.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Instant};

use kernel::{Adopted, Door, Event, Firewall, Retired, SwapError, boottime};

use super::making::{Images, Known};
use crate::{
    before::Before,
    orders::{Account, Ready},
    place::Place,
    seeing::Seeing,
};

/// Generations whose accounts are remembered: so many may follow each other between two readings of flows.
const REMEMBERED: u32 = 32;

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
    /// Whether that is what the kernel has for it.
    lockdown_staged: bool,
    /// Nothing is known of the rules that a predecessor had put in force.
    unknown: Account,
    /// By generation: what is in force, and what follows it.
    rules: BTreeMap<u32, Arc<Ready>>,
    /// By generation: what was in force, and that programs may still read.
    leaving: BTreeMap<u32, Arc<Ready>>,
    /// By generation, of earlier ones too.
    accounts: BTreeMap<u32, Account>,
    /// Of lockdown.
    locked: Account,
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
        let mut force = Self {
            firewall,
            fresh: is_fresh,
            before: None,
            place,
            ready: Arc::clone(&images.now),
            next_end: None,
            lockdown: Arc::clone(&images.lockdown),
            lockdown_staged: false,
            unknown: Account::default(),
            rules: BTreeMap::new(),
            leaving: BTreeMap::new(),
            accounts: BTreeMap::new(),
            locked: images.lockdown.account(),
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
        let wanted = images.scheduled().digests();
        // What stands in the kernel is looked at where everything was made anew anyhow.
        let staged = if images.share() { self.firewall.staged() } else { None };
        let known = staged.or_else(|| self.firewall.scheduled());
        if known != Some(wanted) {
            match (wanted, known) {
                // Only the end goes: nothing is staged.
                ((only, None), Some((current, Some(_)))) if only == current => {
                    self.firewall.hold();
                }
                _ => {
                    let began = Instant::now();
                    self.put(images, seeing)?;
                    seeing.deeds.swapped(began.elapsed(), images.share());
                }
            }
        }
        let is_staged = self.lockdown_staged && Arc::ptr_eq(&self.lockdown, lockdown);
        if !is_staged && self.firewall.stage_lockdown(&lockdown.image)? {
            self.lockdown = Arc::clone(lockdown);
            self.locked = lockdown.account();
            self.lockdown_staged = true;
        }
        self.before = Before::where_due(&mut self.firewall).or(self.before);
        let first = self.firewall.generation();
        let following = then.iter().map(|(_, ready)| ready);
        let generations = (0..).map(|step| first.wrapping_add(step));
        let rules = generations.zip([now].into_iter().chain(following).map(Arc::clone)).collect();
        let before = std::mem::replace(&mut self.rules, rules);
        self.leaving.extend(before);
        let accounts = self.rules.iter().map(|(generation, ready)| (*generation, ready.account()));
        self.accounts.extend(accounts);
        self.accounts.retain(|generation, _| {
            first.wrapping_sub(*generation) <= REMEMBERED || generation.wrapping_sub(first) <= 1
        });
        self.judge_by(Arc::clone(now));
        Ok(())
    }

    /// Takes note of the rules in force.
    fn judge_by(&mut self, ready: Arc<Ready>) {
        self.next_end = ready.rules.next_end(boottime());
        self.ready = ready;
    }

    fn put(&mut self, images: &Images, seeing: &mut Seeing) -> anyhow::Result<()> {
        self.settle(seeing);
        let retired = match self.firewall.flip(images.scheduled()) {
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
                self.leaving.clear();
                self.accounts.clear();
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
            let ready = self.rules.get(generation).or_else(|| self.leaving.get(generation));
            if let Some(ready) = ready {
                seeing.retire(ready, hits);
            }
        }
    }

    /// What is in force, to be made use of again: `keep` says that the rules of its edition stay as they are.
    pub(crate) fn known(&self, keep: bool) -> Known {
        Known { now: Arc::clone(&self.ready), lockdown: Arc::clone(&self.lockdown), keep }
    }

    /// Gets one more slot ready for a small change of what is in force, where none of that is on trial.
    pub(crate) fn prepare(&mut self) {
        if let Err(error) = self.firewall.prepare(&self.ready.image) {
            eprintln!("fwnet: prepare a slot: {:#}", anyhow::Error::from(error));
        }
    }

    /// Waits until no program reads what the last change took out of force, and adds what that counted.
    pub(crate) fn settle(&mut self, seeing: &mut Seeing) {
        match self.firewall.settle() {
            Ok(retired) => {
                self.count(&retired, seeing);
                self.leaving.clear();
            }
            Err(error) => {
                eprintln!("fwnet: wait for running programs: {:#}", anyhow::Error::from(error));
            }
        }
    }

    /// Takes note of rules, and of a policy on trial, that ended by themselves. Whether there were any.
    pub(crate) fn advance(&mut self, seeing: &mut Seeing) -> bool {
        let rules_ended = self.next_end.is_some_and(|end| end <= boottime());
        self.settle(seeing);
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

    /// The account of the image that judged the event.
    pub(crate) fn judged_by(&self, event: &Event) -> &Account {
        let now = || (!self.firewall.is_locked_down()).then(|| self.firewall.generation());
        let generation = if event.door == Door::Tripwire { now() } else { event.generation };
        match generation {
            Some(generation) => self.accounts.get(&generation).unwrap_or(&self.unknown),
            None => &self.locked,
        }
    }

    /// Has flows and counters read when that is due, or at once.
    pub(crate) fn show(&mut self, seeing: &mut Seeing, now: bool) {
        if !now && !seeing.is_due() {
            return;
        }
        self.settle(seeing);
        let judging = Arc::clone(self.judging());
        let Self { firewall, locked, unknown, accounts, .. } = self;
        let of = |judged: Option<u32>| -> &Account {
            match judged {
                Some(generation) => accounts.get(&generation).unwrap_or(unknown),
                None => locked,
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
