//! What an agent sees, and who is told: events as they come, flows as the kernel counted them, rules and how often they
//! decided.
//!
//! ```text
//! core: events -> recent, followers ─┐
//!       flows, counters (10 s)      ─┴─ queue ─> recorder: store, file, journal, collector
//! ```
//!
//! Everything is bounded, and whatever is lost is counted where it is lost. Nothing here takes part in a verdict.

mod deeds;
pub(crate) mod filter;
pub(crate) mod hits;
pub(crate) mod line;
mod listening;
pub(crate) mod metrics;
pub(crate) mod outputs;
mod recorder;
mod remembered;
pub(crate) mod store;

use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ::agent::{
    flows::{Kind, Process, Record, answer, way},
    prefix::standard,
};
use jiff::Timestamp;
use kernel::{Event, Firewall, Hits};
use tokio::sync::{mpsc, oneshot};
use verdict::{Direction, Protocol, RuleNumber, Subject, Verdict, abi::Owner};

pub(crate) use self::deeds::{Back, Became};
use self::{
    deeds::Deeds,
    filter::Sieve,
    hits::{Counted, Judged, Totals},
    listening::Listening,
    outputs::{Outputs, Told},
    recorder::Recorder,
    store::Store,
};
use crate::{
    orders::{Account, Ready, Reason},
    report::{Notice, Seen, comm, host_name, wall_time, whose::Whose},
};

/// Events that are held in memory for whoever asks later, whatever becomes of the store: some 2 MB.
const RECENT: usize = 4_096;
/// Events that wait for one follower.
const WAITING: usize = 1_024;
/// Followers at once.
const FOLLOWERS_MAX: usize = 64;
/// How often flows and counters are read.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// Names of rules remembered before starting over.
const REASONS_MAX: usize = 4_096;
/// The store, in the state directory.
const STORE: &str = "flows.redb";

/// Somebody who wants to know events as they come.
struct Follower {
    sieve: Sieve,
    events: mpsc::Sender<Told>,
    missed: Arc<AtomicU64>,
}

/// What a follower holds.
pub(crate) struct Following {
    /// The events.
    pub(crate) events: mpsc::Receiver<Told>,
    /// How many there was no room for.
    pub(crate) missed: Arc<AtomicU64>,
}

/// What was told before a moment: in memory, and further back in the store.
pub(crate) struct Before {
    /// The store, and who is told once everything of before that moment is in it.
    pub(crate) store: Option<(Arc<Store>, oneshot::Receiver<()>)>,
    /// The last ones, by their numbers.
    pub(crate) recent: Vec<(u64, Told)>,
    /// The number of what is told next.
    pub(crate) end: u64,
}

/// Everything that was seen.
pub(crate) struct Seeing {
    host: Arc<str>,
    whose: Whose,
    recorder: Recorder,
    store: Option<Arc<Store>>,
    /// By their numbers.
    recent: VecDeque<(u64, Told)>,
    /// Number of the next one.
    next: u64,
    followers: Vec<Follower>,
    reasons: BTreeMap<([u8; 32], u16), Arc<Reason>>,
    totals: Totals,
    looked: Option<Instant>,
    /// Kinds of flows that the kernel's table held when it was last read.
    kinds: usize,
    /// Flows to ports where nobody listened.
    unanswered: u64,
    tampered: u64,
    /// Events that followers were too slow for.
    missed: u64,
    /// What the agent did.
    pub(crate) deeds: Deeds,
}

impl Seeing {
    /// Begins, with what is remembered in the state directory. A store that cannot be used is said and done without.
    ///
    /// # Errors
    /// Where an output cannot be one.
    pub(crate) fn begin(state: &Path, outputs: &Outputs) -> anyhow::Result<Self> {
        let host = host_name();
        let store = match Store::open(&state.join(STORE), outputs.events_kept) {
            Ok((store, told)) => {
                if let Some(told) = told {
                    eprintln!("fwnet: {told}");
                }
                Some(Arc::new(store))
            }
            Err(error) => {
                let error = anyhow::Error::from(error);
                eprintln!("fwnet: flows are not recorded: {error:#}");
                None
            }
        };
        let last = store.as_ref().and_then(|store| store.last_told().ok()).unwrap_or_default();
        let remembered = store.as_ref().and_then(|store| store.rules().ok()).unwrap_or_default();
        Ok(Self {
            recorder: Recorder::start(outputs, store.clone(), &host)?,
            host,
            whose: Whose::here(),
            store,
            recent: VecDeque::new(),
            next: last + 1,
            followers: Vec::new(),
            reasons: BTreeMap::new(),
            totals: Totals::of(remembered),
            looked: None,
            kinds: 0,
            unanswered: 0,
            tampered: 0,
            missed: 0,
            deeds: Deeds::default(),
        })
    }

    /// One event; `account` is of the image that judged, `listener` is who listens, where the event itself does not know
    /// its owner.
    pub(crate) fn event(&mut self, event: &Event, listener: Option<Owner>, account: &Account) {
        let owner = event.owner.or(listener);
        let seen = Arc::new(Seen {
            event: *event,
            time: wall_time(event.time_ns),
            owner,
            cgroup: owner.and_then(|owner| self.whose.cgroup(owner.cgroup)),
            exe: owner.and_then(|owner| self.whose.exe(owner.exe, owner.pid)),
            rule: self.reason(account, event.decision.enforced.rule),
            would: self.reason(account, event.decision.would.rule),
            version: account.version,
            host: Arc::clone(&self.host),
        });
        // Allowed flows that are reported only because a follower asks for them are nobody else's.
        let decision = seen.event.decision;
        let for_all =
            decision.denies() || decision.would.verdict == Verdict::Deny || !self.wants_allowed();
        self.tell(&Told::Event(seen), for_all);
    }

    /// Tells followers and, if it is for all, whoever asks later and the outputs.
    fn tell(&mut self, told: &Told, for_all: bool) {
        let mut missed = 0;
        self.followers.retain(|follower| {
            let gone = follower.events.is_closed();
            if !gone
                && follower.sieve.passes(told)
                && follower.events.try_send(told.clone()).is_err()
            {
                follower.missed.fetch_add(1, Ordering::Relaxed);
                missed += 1;
            }
            !gone
        });
        self.missed += missed;
        if for_all {
            self.recorder.tell(self.next, told.clone());
            if self.recent.len() >= RECENT {
                self.recent.pop_front();
            }
            self.recent.push_back((self.next, told.clone()));
            self.next += 1;
        }
    }

    fn reason(&mut self, account: &Account, rule: RuleNumber) -> Arc<Reason> {
        if self.reasons.len() >= REASONS_MAX {
            self.reasons.clear();
        }
        let known = self.reasons.entry((account.image, rule.0));
        Arc::clone(
            known.or_insert_with(|| Arc::new(account.reason(rule).cloned().unwrap_or_default())),
        )
    }

    /// Something happened to the policy (`tamper` false) or to the programs.
    pub(crate) fn notice(
        &mut self,
        action: &'static str,
        text: String,
        tamper: bool,
        version: u64,
    ) {
        self.tampered = self.tampered.saturating_add(u64::from(tamper));
        let notice =
            Notice { time: Timestamp::now(), action: action.into(), text, tamper, version };
        self.tell(&Told::Notice(Arc::new(notice)), true);
    }

    /// Whether a follower asks for allowed flows by name.
    pub(crate) fn wants_allowed(&self) -> bool {
        self.followers
            .iter()
            .any(|follower| follower.sieve.wants_allowed() && !follower.events.is_closed())
    }

    /// What was told, as far as it is remembered by now.
    pub(crate) fn before(&self) -> Before {
        let store = self.store.clone().map(|store| (store, self.recorder.written()));
        Before { store, recent: self.recent.iter().cloned().collect(), end: self.next }
    }

    /// Events as they come; `None` where there are too many followers already.
    pub(crate) fn follow(&mut self, sieve: Sieve) -> Option<Following> {
        self.followers.retain(|follower| !follower.events.is_closed());
        if self.followers.len() >= FOLLOWERS_MAX {
            return None;
        }
        let (events, following) = mpsc::channel(WAITING);
        let missed = Arc::new(AtomicU64::new(0));
        self.followers.push(Follower { sieve, events, missed: Arc::clone(&missed) });
        Some(Following { events: following, missed })
    }

    /// What this machine calls itself.
    pub(crate) fn host(&self) -> Arc<str> {
        Arc::clone(&self.host)
    }

    /// Events that followers were too slow for, all of them together.
    fn lost_to_followers(&self) -> u64 {
        self.missed
    }

    /// The store of flows, if there is one.
    pub(crate) fn store(&self) -> Option<Arc<Store>> {
        self.store.clone()
    }

    /// Has the event file opened again.
    pub(crate) fn reopen(&self) {
        self.recorder.reopen();
    }

    /// Whether it is time to read flows and counters.
    pub(crate) fn is_due(&self) -> bool {
        self.looked.is_none_or(|looked| looked.elapsed() >= LOOK_AGAIN)
    }

    /// Reads flows and counters now; `of` is the account of a generation.
    pub(crate) fn read<'a>(
        &mut self,
        firewall: &mut Firewall,
        ready: &Ready,
        of: impl Fn(Option<u32>) -> &'a Account,
    ) {
        self.looked = Some(Instant::now());
        self.totals.look(ready, &firewall.hits(), Timestamp::now());
        let (rules, gone) = self.totals.unwritten(ready);
        self.recorder.rules(rules, gone);
        let mut counted = Vec::new();
        if let Err(error) = firewall.take_flows(&mut |one| counted.push(one)) {
            eprintln!("fwnet: flows cannot be read: {error}");
        }
        self.kinds = counted.len();
        let mut listening = Listening::default();
        let version = ready.rules.version;
        let records: Vec<Record> = counted
            .iter()
            .filter_map(|one| self.record(one, of(one.generation), &mut listening))
            .collect();
        if !records.is_empty() {
            self.recorder.flows(records, version);
        }
    }

    /// Is answered once what was read is written.
    pub(crate) fn written(&self) -> oneshot::Receiver<()> {
        self.recorder.written()
    }

    /// A record of flows that the kernel counted; `None` where nobody listened, so that there was no connection.
    fn record(
        &mut self,
        counted: &kernel::Counted,
        account: &Account,
        listening: &mut Listening,
    ) -> Option<Record> {
        let kernel::Counted {
            flow,
            netns,
            decision,
            generation: _,
            count,
            first_ns,
            last_ns,
            pid,
            comm: name,
        } = *counted;
        let mut subject = flow.subject;
        let inbound = flow.direction == Direction::In;
        let served = matches!(flow.protocol, Protocol::TCP | Protocol::UDP);
        let is_nobody = subject.uid == Subject::UNKNOWN.uid && subject.cgroup == 0;
        if inbound && served && is_nobody && decision.enforced.verdict == Verdict::Allow {
            match listening.at(netns, flow.protocol, flow.local) {
                Some((uid, cgroup)) => subject = Subject { uid, cgroup, ..subject },
                None => {
                    self.unanswered = self.unanswered.saturating_add(count);
                    return None;
                }
            }
        }
        let known = |id: u32| (id != u32::MAX).then_some(id);
        let id = |rule: RuleNumber| account.reason(rule).map(|reason| reason.id.clone());
        Some(Record {
            kind: Kind {
                direction: way(flow.direction),
                protocol: flow.protocol.0,
                local: inbound.then(|| standard(flow.local.address)),
                remote: standard(flow.remote.address),
                port: flow.service_port(),
                process: Process {
                    user: known(subject.uid),
                    group: known(subject.gid),
                    exe: self.whose.exe(subject.exe, pid).map(|path| path.to_string()),
                    cgroup: self.whose.cgroup(subject.cgroup).map(|path| path.to_string()),
                    netns: self.whose.netns(netns).map(|name| name.to_string()),
                },
                verdict: answer(decision.enforced.verdict),
                rule: id(decision.enforced.rule).unwrap_or_default(),
                would: answer(decision.would.verdict),
                would_rule: id(decision.would.rule).unwrap_or_default(),
            },
            name: comm(name),
            pid,
            count,
            first: wall_time(first_ns),
            last: wall_time(last_ns),
        })
    }

    /// Adds what an image had counted that is no longer in force.
    pub(crate) fn retire(&mut self, ready: &Ready, hits: &[Hits]) {
        self.totals.retire(ready, hits, Timestamp::now());
    }

    /// The rules in force with their counts.
    pub(crate) fn rules(&mut self, ready: &Ready, hits: &[Hits]) -> Vec<Counted> {
        let now = Timestamp::now();
        self.totals.look(ready, hits, now);
        self.totals.counted(ready, hits, now)
    }

    /// Flows that were judged since the agent began, by the rules in force and those before them.
    pub(crate) fn judged(&mut self, ready: &Ready, hits: &[Hits]) -> Judged {
        self.totals.look(ready, hits, Timestamp::now());
        self.totals.judged()
    }

    /// Waits until everything is on the disk.
    pub(crate) fn finish(&self) {
        self.recorder.settle();
    }
}
