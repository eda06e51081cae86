//! The core: everything the agent has, changed by one thread only. What the API asks runs here.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use ::agent::{
    edition::{Applied, Edition},
    lists::Moment,
    machine::{Event, Standing},
    store::Stance,
    trusted::Trusted,
};
use anyhow::bail;
use jiff::{SignedDuration, Timestamp};
use kernel::{Door, Removed, boottime};
use tokio::sync::oneshot;

use super::{
    bell::Asking,
    centre::{self, Fleet},
    clock,
    force::Force,
    kept::{Kept, Settled},
    lists::Feeds,
    making::Making,
    paths::Paths,
    revoking::Revoking,
};
use crate::{accepting, api::routes::stance::Final, own::OwnAddresses, seeing::Seeing, tripwire};

/// How often at most it is looked whether somebody took programs away: events wake the core far more often.
const MEND_EVERY: Duration = Duration::from_millis(400);
/// When what is due by the clock and did not work is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How often network namespaces that appeared are looked for.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);
/// A clock on the wall that went on by so much more or less than the one that counts from the boot was set.
const CLOCK_SET: SignedDuration = SignedDuration::from_secs(1);

/// How long after a change further slots are got ready for the next ones.
const PREPARE_AFTER_NS: u64 = 1_000_000_000;

/// Events that are told between two looks at everything else.
const EVENTS_AT_ONCE: usize = 2_048;

/// How the agent was told to end.
pub(crate) struct Ending {
    /// What is to be enforced then.
    pub(crate) stance: Final,
    /// Who said so.
    pub(crate) by: Applied,
    /// Where the answer goes, once it is done.
    pub(crate) answer: oneshot::Sender<anyhow::Result<Removed>>,
}

/// Everything the agent has.
pub(crate) struct Core {
    pub(crate) paths: Paths,
    pub(crate) settled: Settled,
    pub(crate) kept: Kept,
    pub(crate) started: Timestamp,
    pub(crate) force: Force,
    /// What was seen.
    pub(crate) seeing: Seeing,
    /// What existing connections were last held against.
    pub(crate) revoking: Revoking,
    /// The edition that is being applied, until it stands on disk.
    pub(super) proposed: Option<Edition>,
    /// What is trusted once it is confirmed, where it is proposed on trial.
    pub(crate) proposed_trust: Option<Trusted>,
    /// Where controllers are: they are reached whatever is in force.
    pub(super) controllers: Vec<SocketAddr>,
    /// How it stands with them; nothing where this host is in no fleet.
    pub(crate) fleet: Option<Fleet>,
    /// The trial that was ended, and that the disk may still show as running.
    pub(super) ended: Option<u64>,
    /// Set once the agent was told to end, and how.
    pub(crate) ending: Option<Ending>,
    pub(super) boot: String,
    /// Counts the changes of what images are made of: what was made beside the core is of use where it is the same still.
    pub(super) basis: u64,
    /// When a rule was last seen to end, by the clock on the wall.
    pub(super) ended_at: Timestamp,
    /// When the image in force was made.
    pub(super) made: Moment,
    /// Something could not be put in force as the disk says: it is tried again.
    pub(super) behind: bool,
    /// The files that lists follow.
    pub(super) feeds: Feeds,
    /// When something that is due by the clock did not work.
    failed: Option<Instant>,
    mended: Instant,
    followed: Instant,
    /// The age of the policy that was told last.
    pub(super) told_age: wire::Stale,
    /// Where rules say `me`.
    pub(super) own: OwnAddresses,
}

impl Core {
    /// Takes up what the disk says and what is pinned, and has the kernel follow the disk. What ends beside the core
    /// rings `bell`.
    ///
    /// # Errors
    /// Where there is nothing to enforce, or it cannot be.
    pub(crate) fn begin(
        paths: Paths,
        kept: Kept,
        seeing: Seeing,
        bell: Option<Asking>,
    ) -> anyhow::Result<Self> {
        let state = kept.store.state();
        let Some(settled) = state.place.clone() else {
            bail!("nothing was put up in {}: fwnet up", paths.state.display());
        };
        let boot = clock::boot()?;
        let now = clock::now(&boot);
        let standing = Standing::of(state, kept.store.next_version());
        let Some(law) = standing.law(clock::counted(&now)) else {
            bail!("there is no policy in {}: fwnet up", paths.state.display());
        };
        let own = OwnAddresses::begin(&settled.place)?;
        let mut kept = kept;
        let fronts = kept.store.fronts()?;
        let edition = |version| edition_of(kept.store.state(), None, version);
        let ended_at = Timestamp::MIN;
        let controllers = centre::controllers(&paths.state);
        let place = &settled.place;
        let making = Making {
            place,
            controllers: &controllers,
            fronts,
            known: None,
            ended_at,
            edition: &edition,
        };
        let images = making.images(law, &now)?;
        let (place, mut seeing) = (settled.place.clone(), seeing);
        let (force, notes) = Force::begin(paths.bpffs.clone(), place, &images, &mut seeing)?;
        for note in notes {
            eprintln!("fwnet: {note}");
        }
        // Before the first policy everything was allowed.
        let held = (!force.fresh).then(|| (Arc::clone(&force.ready), boottime()));
        let revoking = Revoking::new(held, bell);
        let mut core = Self {
            paths,
            settled,
            kept,
            started: now.wall,
            force,
            seeing,
            revoking,
            proposed: None,
            proposed_trust: None,
            controllers,
            fleet: None,
            ended: None,
            ending: None,
            boot,
            basis: 0,
            made: now,
            ended_at,
            behind: false,
            feeds: Feeds::default(),
            failed: None,
            mended: Instant::now(),
            followed: Instant::now(),
            told_age: wire::Stale::Fresh,
            own,
        };
        core.settle_lists();
        core.happen_by_itself(&Event::Started);
        core.look_at_age();
        Ok(core)
    }

    /// What stands on disk, and what it could not be told.
    pub(crate) fn standing(&self) -> Standing {
        let mut standing = Standing::of(self.kept.store.state(), self.kept.store.next_version());
        if let Some(trial) = &mut standing.trial {
            trial.ended = self.ended == Some(trial.version);
        }
        standing
    }

    /// The edition in force: where one is on trial, that one.
    pub(crate) fn edition(&self) -> Option<&Edition> {
        let now = self.now();
        let law = self.standing().law(clock::counted(&now))?;
        edition_of(self.kept.store.state(), None, law.now)
    }

    /// The time.
    pub(crate) fn now(&self) -> Moment {
        clock::now(&self.boot)
    }

    /// Says that enforcement has begun.
    pub(crate) fn announce(&self) {
        let ready = &self.force.ready;
        eprintln!("fwnet: enforcing {} (version {})", ready.summary, ready.rules.version);
        for note in &ready.notes {
            eprintln!("fwnet: note: {note}");
        }
        for sentence in self.kept.store.health().sentences() {
            eprintln!("fwnet: state: {sentence}");
        }
    }

    /// Tells events that have come, and whether any had. Not more than some at once: whoever asks the core something waits
    /// meanwhile.
    pub(crate) fn drain(&mut self) -> bool {
        for told in 0..EVENTS_AT_ONCE {
            let Some(mut event) = self.force.firewall.next_event() else { return told != 0 };
            if event.door == Door::Tripwire {
                let image = self.force.judging().now();
                let Some(resolved) = tripwire::resolved(event, &image) else { continue };
                event = resolved;
            }
            accepting::follow(&event);
            let listener =
                if event.owner.is_none() { self.force.firewall.listener(&event) } else { None };
            let account = self.force.judged_by(&event);
            self.seeing.event(&event, listener, account);
        }
        true
    }

    /// What is due by the clock.
    pub(crate) fn look_around(&mut self) {
        if self.mended.elapsed() >= MEND_EVERY {
            self.force.mend(&mut self.seeing);
            self.mended = Instant::now();
        }
        self.force.settle(&mut self.seeing);
        if boottime().saturating_sub(self.made.boottime_ns) >= PREPARE_AFTER_NS {
            self.force.prepare();
        }
        let mut renamed = false;
        if self.followed.elapsed() >= FOLLOW_EVERY {
            self.force.join_new();
            renamed = self.force.ready.meant.has_changed();
            self.followed = Instant::now();
        }
        let ended = self.force.advance(&mut self.seeing);
        if ended {
            self.ended_at = self.ended_at.max(Timestamp::now());
        }
        // A service that was started again has another cgroup, a replaced executable is another file.
        let another = renamed | self.own.have_changed(&self.settled.place);
        let ended = ended | self.look_after_lists();
        if self.failed.is_none_or(|failed| failed.elapsed() >= RETRY_AFTER) {
            self.happen_by_itself(&Event::Tick);
        }
        self.look_at_age();
        if another || self.behind || self.clock_was_set() {
            self.obey();
        } else if ended {
            self.follow_ends();
        }
        self.report_what_is_wanted();
        self.force.show(&mut self.seeing, false);
    }

    /// Reads flows and counters now, though it is not their time yet.
    pub(crate) fn read_what_was_seen(&mut self) {
        self.force.show(&mut self.seeing, true);
    }

    /// Has allowed flows reported while somebody follows them.
    pub(crate) fn report_what_is_wanted(&mut self) {
        self.force.firewall.report_allowed(self.seeing.wants_allowed());
    }

    fn clock_was_set(&self) -> bool {
        let now = self.now();
        let counted = now.boottime_ns.saturating_sub(self.made.boottime_ns);
        let counted = SignedDuration::from_nanos(i64::try_from(counted).unwrap_or(i64::MAX));
        (now.wall.duration_since(self.made.wall) - counted).abs() > CLOCK_SET
    }

    /// Who acts where nobody asked.
    pub(super) fn itself(&self) -> Applied {
        Applied { at: Timestamp::now(), uid: rustix::process::getuid().as_raw(), session: None }
    }

    fn happen_by_itself(&mut self, event: &Event) {
        let told = self.failed.take().is_some();
        if let Err(error) = self.happen(event, &self.itself()) {
            self.failed = Some(Instant::now());
            if !told {
                eprintln!("fwnet: {:#}", anyhow::Error::from(error));
            }
        }
    }

    /// The last thing the agent does: what was seen is written, and what `fwnet down` asked for is done. Otherwise
    /// everything stays in force.
    pub(crate) fn finish(mut self) {
        self.drain();
        self.finish_sweeps();
        self.read_what_was_seen();
        self.seeing.finish();
        let Some(Ending { stance, by, answer }) = self.ending.take() else { return };
        let done = match stance {
            Final::Open => {
                self.keep_stance(Stance::Open, &by);
                self.force.firewall.remove().map_err(anyhow::Error::from)
            }
            Final::Lockdown => {
                self.keep_stance(Stance::Lockdown, &by);
                let locked = self.force.firewall.lock_down();
                locked.map(|()| Removed::default()).map_err(anyhow::Error::from)
            }
        };
        // Whoever asked may have gone meanwhile.
        let _heard = answer.send(done);
    }
}

/// The edition of a number, on disk or about to be.
pub(super) fn edition_of<'a, P>(
    state: &'a ::agent::store::State<P>,
    proposed: Option<&'a Edition>,
    version: u64,
) -> Option<&'a Edition> {
    let pending = state.pending.as_ref().map(|pending| &pending.edition);
    let known = [state.current.as_ref(), state.previous.as_ref(), pending, proposed];
    known.into_iter().flatten().find(|edition| edition.version == version)
}
