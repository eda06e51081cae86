//! A host's part in its fleet: what to say to a controller, what to fetch, and what to ask of the core, as a machine that
//! is told what happened and answers with what follows.
//!
//! The controller says which [`Target`] the host should have. The machine asks for the pieces that it lacks, puts a bundle
//! and an inventory together, and has the core verify and apply them: nothing here decides whether a policy is right, and
//! nothing that is heard changes what is enforced before the core has taken it. A connection that ends, a message that is
//! lost or one that makes no sense leaves everything as it is. What is enforced is what the core says ([`InForce`]), and
//! never remembered here, so that a trial that ended by itself or a bundle that somebody applied by hand is known at once.
//!
//! Time is milliseconds of any clock that only goes forward.

mod backoff;
mod fetch;
mod target;

use std::collections::BTreeMap;

use prost::Message;
use wire::sync::{
    Beat, Down, Downward, Hello, Progress, Refused, Stage, Stance, Target, Up, Upward, Want,
};

use self::{backoff::Backoff, fetch::Fetch, target::Wanted};

/// The name of a piece or a target: BLAKE3.
pub type Digest = [u8; 32];

/// How often a host says that it is alive, where the controller did not say: milliseconds.
pub const BEAT_MS: u64 = 30_000;
/// Bounds of what a controller may say instead.
const BEATS_MS: (u64, u64) = (100, 600_000);
/// When what the core could not do is tried again.
const RETRY_MS: u64 = 60_000;
/// Longest that a controller may send somebody away.
const LATER_MS_MAX: u64 = 900_000;
/// How long one that refused is left alone at least.
const REFUSED_MS: u64 = 60_000;

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// There is a connection to a controller or a relay.
    Connected,
    /// The host has another certificate than the one that it showed on this connection.
    Renewed,
    /// It said something.
    Heard(Downward),
    /// The connection is gone, or whoever is there did not take it.
    Closed,
    /// Nobody is there to connect to.
    Unreached,
    /// The core says what is in force, and how the host is, where it was asked.
    InForce(InForce, Option<Pulse>),
    /// The core found the signatures of what it was ordered to apply right; the version of its snapshot.
    Verified(u64),
    /// The core did what it was ordered, or not.
    Done(Done),
    /// The tests of what was in force by this name were run here: those that fail, for people; empty where none does.
    Tested(Option<Digest>, String),
    /// Time passed.
    Tick,
}

/// What the core made of an order. Whatever it was, [`Input::InForce`] comes before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// It is done.
    Well,
    /// It is not to be done: the same order would be refused again.
    Refused(String),
    /// It did not work, and may later.
    Failed(String),
}

/// What is in force, by the names of targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InForce {
    /// For good; `None` where that did not come from a controller.
    pub current: Option<Digest>,
    /// On trial, if anything is.
    pub trial: Option<Digest>,
    /// The version of the snapshot in force, the trial's if there is one; 0 where it is not signed.
    pub snapshot: u64,
}

impl InForce {
    /// What decides now.
    pub fn now(&self) -> Option<Digest> {
        self.trial.or(self.current)
    }

    fn stage(&self) -> Stage {
        match (self.trial, self.current) {
            (Some(_), _) => Stage::Trial,
            (None, Some(_)) => Stage::Enforced,
            (None, None) => Stage::Unknown,
        }
    }
}

/// How a host is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// Flows denied since the agent began.
    pub denied: u64,
    /// Flows allowed since then.
    pub allowed: u64,
    /// What decides.
    pub stance: Stance,
    /// Seconds since when the policy has been stale; 0 while it is fresh.
    pub stale_s: u64,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { denied: 0, allowed: 0, stance: Stance::Policy, stale_s: 0 }
    }
}

/// What follows.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Say this.
    Send(Upward),
    /// End the connection; why, for people.
    Close(String),
    /// Connect at this time, to any endpoint.
    Dial(u64),
    /// Have the core do this. There is no other order before its [`Input::Done`].
    Order(Order),
    /// Write a piece or a target to disk, under its name.
    Keep(Digest, Vec<u8>),
    /// It is not needed on disk any more.
    Forget(Digest),
    /// Tell people that a target was refused.
    Tell(String),
}

/// What the core is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Verify and apply this.
    Apply(Box<Assignment>),
    /// Keep what is on trial for good, and call it by this name from now on.
    Confirm(Digest),
    /// End the trial.
    RollBack,
    /// The host is shut off (only the failsafe set is allowed), or not any more. No answer is awaited.
    Quarantine(bool),
}

/// Something to apply.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// Its name.
    pub target: Digest,
    /// A bundle, as JSON. It lacks documents that do not concern the host.
    pub bundle: String,
    /// Who there is, as JSON: the host, and those whom its documents speak of.
    pub inventory: String,
    /// The host itself, as the controller knows it.
    pub me: policy::Host,
    /// Seconds after which it goes back by itself; `None` for good.
    pub confirm_s: Option<u64>,
    /// On trial though tests of the policy fail.
    pub forced: bool,
}

/// The machine.
#[derive(Debug)]
pub struct Client {
    /// The host's id.
    host: String,
    program: String,
    backoff: Backoff,
    connected: bool,
    /// It showed a certificate on this connection that it has replaced since.
    outdated: bool,
    in_force: InForce,
    pulse: Pulse,
    /// Tests that fail here.
    failing: String,
    /// Pieces that are whole.
    pieces: BTreeMap<Digest, Vec<u8>>,
    /// Targets whose pieces are needed: what is in force, and what was.
    known: BTreeMap<Digest, Wanted>,
    /// What the controller wants, until it is so or was refused.
    wanted: Option<Wanted>,
    fetch: Fetch,
    /// What the core is doing.
    ordered: Option<Digest>,
    /// What is not tried again, and why; the last of them.
    refused: Option<(Digest, String)>,
    /// When what did not work is tried again.
    retry: Option<u64>,
    beat_ms: u64,
    /// When it last said how the host is; `None` if that is to be said now.
    beaten: Option<u64>,
    /// When the controller last said something.
    heard: Option<u64>,
}

impl Client {
    /// Begins. `kept` is what is on disk, by name: whatever does not fit its name is left out. `seed` is for the times of
    /// reconnecting, which must differ from host to host.
    pub fn begin(
        host: String,
        program: String,
        kept: impl IntoIterator<Item = (Digest, Vec<u8>)>,
        in_force: InForce,
        seed: u64,
    ) -> Self {
        let (mut pieces, mut known) = (BTreeMap::new(), BTreeMap::new());
        for (digest, bytes) in kept {
            if *blake3::hash(&bytes).as_bytes() == digest {
                pieces.insert(digest, bytes);
            } else if let Ok(target) = Target::decode(&*bytes)
                && let Ok(target) = Wanted::read(&target, &host)
                && target.digest == digest
            {
                known.insert(digest, target);
            }
        }
        known.retain(|_, target| target.learn_sections(&pieces).is_ok());
        Self {
            host,
            program,
            backoff: Backoff::new(seed),
            connected: false,
            outdated: false,
            in_force,
            pulse: Pulse::default(),
            failing: String::new(),
            pieces,
            known,
            wanted: None,
            fetch: Fetch::default(),
            ordered: None,
            refused: None,
            retry: None,
            beat_ms: BEAT_MS,
            beaten: None,
            heard: None,
        }
    }

    /// What follows from what happened.
    pub fn handle(&mut self, now: u64, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::Connected => self.greet(&mut effects),
            Input::Renewed => self.outdated = true,
            Input::Heard(said) => {
                self.heard = Some(now);
                self.hear(now, said, &mut effects);
            }
            Input::Closed => {
                self.connected = false;
                self.fetch.interrupted();
                effects.push(Effect::Dial(now + self.backoff.next_ms()));
            }
            Input::Unreached => effects.push(Effect::Dial(now + self.backoff.unreached_ms())),
            Input::InForce(in_force, pulse) => {
                self.pulse = pulse.unwrap_or_else(|| self.pulse.clone());
                self.learn(in_force, &mut effects);
            }
            Input::Verified(snapshot) => self.verified(snapshot, &mut effects),
            Input::Done(done) => self.done(now, done, &mut effects),
            Input::Tested(of, failing) => {
                if of == self.in_force.now() && self.failing != failing {
                    self.failing = failing;
                    // Nobody waits for the next beat to know.
                    self.beaten = None;
                }
            }
            Input::Tick => self.tick(now, &mut effects),
        }
        self.proceed(now, &mut effects);
        if !self.connected {
            // Whoever is there next hears how it stands by then.
            effects.retain(|effect| !matches!(effect, Effect::Send(_)));
        }
        effects
    }

    /// The target that the controller wants and that is not in force; its name.
    pub fn wanted(&self) -> Option<Digest> {
        self.wanted.as_ref().map(|wanted| wanted.digest)
    }

    /// Whether it is time to say how the host is: then whoever drives this says so first.
    pub fn is_beat_due(&self, now: u64) -> bool {
        self.connected && self.beaten.is_none_or(|beaten| beaten + self.beat_ms <= now)
    }

    /// What was refused last, and why.
    pub fn refused(&self) -> Option<(&Digest, &str)> {
        self.refused.as_ref().map(|(digest, why)| (digest, why.as_str()))
    }

    /// When the controller last said something.
    pub fn heard(&self) -> Option<u64> {
        self.heard
    }

    /// Ends the connection: nothing more is said on it.
    fn close(&mut self, effects: &mut Vec<Effect>, why: String) {
        self.connected = false;
        effects.push(Effect::Close(why));
    }

    fn greet(&mut self, effects: &mut Vec<Effect>) {
        (self.connected, self.outdated) = (true, false);
        // The first beat tells a controller that has just begun how the host is.
        self.beaten = None;
        // Whatever was wanted is said again by whoever is there now.
        self.wanted = None;
        effects.push(send(Up::Hello(Hello {
            program: self.program.clone(),
            enforced: self.in_force.now().map(Vec::from).unwrap_or_default(),
            stage: self.in_force.stage().into(),
        })));
    }

    fn hear(&mut self, now: u64, said: Downward, effects: &mut Vec<Effect>) {
        match said.say {
            Some(Down::Target(target)) => self.target(&target, effects),
            Some(Down::Part(part)) => match self.fetch.part(part, now, &self.pieces) {
                Ok(Some((digest, bytes))) => {
                    effects.push(Effect::Keep(digest, bytes.clone()));
                    self.pieces.insert(digest, bytes);
                }
                Ok(None) => {}
                Err(fetch::Trouble::Lost) => self.wanted = None,
                Err(fetch::Trouble::Garbage(why)) => self.close(effects, why),
            },
            Some(Down::Later(later)) => {
                let wait = later.after_ms.min(LATER_MS_MAX);
                self.backoff.not_before(wait);
                self.close(effects, format!("sent away: {}", later.why));
            }
            Some(Down::Refused(Refused { why })) => {
                // A certificate is worth nothing after two renewals, and the connection that it began may have lasted longer.
                if !self.outdated {
                    self.backoff.not_before(REFUSED_MS);
                }
                self.close(effects, format!("refused: {why}"));
            }
            // Relays' business, and what a later version may say.
            Some(Down::Assigned(_)) | None => {}
        }
    }

    fn target(&mut self, target: &Target, effects: &mut Vec<Effect>) {
        self.backoff.reset();
        if target.beat_ms != 0 {
            self.beat_ms = u64::from(target.beat_ms).clamp(BEATS_MS.0, BEATS_MS.1);
        }
        if !target.same.is_empty() {
            self.wanted = None;
            if self.in_force.now().is_none_or(|now| now[..] != target.same) {
                self.close(effects, "it names a target that is not here".to_owned());
            }
            return;
        }
        let digest = target.digest();
        let wanted = match Wanted::read(target, &self.host) {
            Ok(wanted) => wanted,
            Err(why) => return self.refuse(digest, why, effects),
        };
        if wanted.manifest.quarantine {
            effects.push(Effect::Order(Order::Quarantine(true)));
        }
        if let Some((refused, why)) = self.refused.clone()
            && refused == digest
        {
            self.wanted = None;
            effects.push(progress(digest, Stage::Refused, why, 0));
            return;
        }
        self.retry = None;
        self.fetch.want(wanted.pieces(), &self.pieces);
        for bytes in &target.along {
            let digest = *blake3::hash(bytes).as_bytes();
            if self.fetch.came(&digest) {
                effects.push(Effect::Keep(digest, bytes.clone()));
                self.pieces.insert(digest, bytes.clone());
            }
        }
        self.wanted = Some(wanted);
    }

    /// Fetches what is wanted, and has it applied once it is there.
    fn proceed(&mut self, now: u64, effects: &mut Vec<Effect>) {
        self.list_sections(effects);
        let Some(wanted) = &self.wanted else { return self.forget(effects) };
        if self.ordered.is_some() || self.retry.is_some() {
            return;
        }
        if self.in_force.now() == Some(wanted.digest) {
            let wanted = self.wanted.take().expect("it is there");
            self.is_so(&wanted, effects);
            return self.forget(effects);
        }
        let trial = self.in_force.trial;
        let order = if trial.is_some() && self.in_force.current == Some(wanted.digest) {
            Order::RollBack
        } else if !wanted.is_listed()
            || !wanted.pieces().all(|(digest, _)| self.pieces.contains_key(&digest))
        {
            if self.connected {
                let bases = self.bases();
                let wants = self.fetch.next(now, |name| bases.get(name).copied());
                effects.extend(wants.into_iter().map(|want| send(Up::Want(want))));
            }
            return;
        } else if let Some(trial) = trial {
            let is_same = self.known.get(&trial).is_some_and(|it| it.says_the_same(wanted));
            if is_same && wanted.manifest.confirm_within_s == 0 {
                self.keep_target(effects);
                Order::Confirm(self.wanted().expect("it is there"))
            } else {
                // What was in force before is, for a moment; then this follows.
                Order::RollBack
            }
        } else {
            match wanted.assignment(&self.pieces) {
                Ok(assignment) => {
                    self.keep_target(effects);
                    effects.push(progress(assignment.target, Stage::Received, String::new(), 0));
                    Order::Apply(Box::new(assignment))
                }
                Err(why) => {
                    let digest = wanted.digest;
                    return self.refuse(digest, why, effects);
                }
            }
        };
        self.ordered = self.wanted();
        effects.push(Effect::Order(order));
    }

    /// Sets of hosts that are here may name further pieces of what is wanted.
    fn list_sections(&mut self, effects: &mut Vec<Effect>) {
        let Some(wanted) = &mut self.wanted else { return };
        match wanted.learn_sections(&self.pieces) {
            Ok(true) => self.fetch.want_more(wanted.pieces(), &self.pieces),
            Ok(false) => {}
            Err(why) => {
                let digest = wanted.digest;
                self.refuse(digest, why, effects);
            }
        }
    }

    /// What is here that differences lead from, by what it is a version of.
    fn bases(&self) -> BTreeMap<String, Digest> {
        let targets = [self.in_force.current, self.in_force.trial].into_iter().flatten();
        let known = targets.filter_map(|digest| self.known.get(&digest));
        let bases = known.flat_map(Wanted::bases);
        let here = bases.filter(|(digest, _)| self.pieces.contains_key(digest));
        here.map(|(digest, piece)| (piece.name.clone(), *digest)).collect()
    }

    /// Has the target on disk before it is in force, so that after a reboot it is known what its name stands for.
    fn keep_target(&mut self, effects: &mut Vec<Effect>) {
        let Some(wanted) = &self.wanted else { return };
        effects.push(Effect::Keep(wanted.digest, wanted.target().encode_to_vec()));
        self.known.insert(wanted.digest, wanted.clone());
    }

    fn is_so(&self, wanted: &Wanted, effects: &mut Vec<Effect>) {
        if !wanted.manifest.quarantine {
            effects.push(Effect::Order(Order::Quarantine(false)));
        }
        let (stage, snapshot) = (self.in_force.stage(), self.in_force.snapshot);
        effects.push(progress(wanted.digest, stage, String::new(), snapshot));
    }

    fn learn(&mut self, in_force: InForce, effects: &mut Vec<Effect>) {
        let before = std::mem::replace(&mut self.in_force, in_force);
        if before.now() != in_force.now() {
            // Of this, nothing is known yet.
            self.failing.clear();
        }
        // Nobody here asked for its end: the kernel's deadline did, or somebody at the machine.
        if let Some(trial) = before.trial
            && self.ordered.is_none()
            && in_force.now() != Some(trial)
        {
            self.refuse(trial, "it was not confirmed in time".to_owned(), effects);
        }
    }

    fn verified(&self, snapshot: u64, effects: &mut Vec<Effect>) {
        if let Some(ordered) = self.ordered {
            effects.push(progress(ordered, Stage::Verified, String::new(), snapshot));
        }
    }

    fn done(&mut self, now: u64, done: Done, effects: &mut Vec<Effect>) {
        let Some(ordered) = self.ordered.take() else { return };
        match done {
            Done::Well => {}
            Done::Refused(why) => self.refuse(ordered, why, effects),
            Done::Failed(why) => {
                self.retry = Some(now + RETRY_MS);
                effects.push(progress(ordered, Stage::Refused, why, 0));
            }
        }
    }

    fn refuse(&mut self, digest: Digest, why: String, effects: &mut Vec<Effect>) {
        if self.wanted() == Some(digest) {
            self.wanted = None;
        }
        effects.push(Effect::Tell(why.clone()));
        effects.push(progress(digest, Stage::Refused, why.clone(), 0));
        self.refused = Some((digest, why));
    }

    fn tick(&mut self, now: u64, effects: &mut Vec<Effect>) {
        if self.retry.is_some_and(|retry| retry <= now) {
            self.retry = None;
        }
        if !self.connected {
            return;
        }
        if self.wanted.is_some() && self.ordered.is_none() && self.fetch.is_stuck(now) {
            self.close(effects, "nothing comes any more of what was asked for".to_owned());
            return;
        }
        if self.is_beat_due(now) {
            self.beaten = Some(now);
            let Pulse { denied, allowed, stance, stale_s } = self.pulse.clone();
            effects.push(send(Up::Beat(Beat {
                target: self.in_force.now().map(Vec::from).unwrap_or_default(),
                denied,
                allowed,
                stance: stance.into(),
                stale_s,
                failing: self.failing.clone(),
            })));
        }
    }

    /// Forgets what is needed neither for what is in force nor to go back to.
    fn forget(&mut self, effects: &mut Vec<Effect>) {
        if self.ordered.is_some() {
            return;
        }
        let InForce { current, trial, .. } = self.in_force;
        let needed = |digest: &Digest| Some(*digest) == current || Some(*digest) == trial;
        let gone = self.known.keys().filter(|digest| !needed(digest)).copied();
        let gone: Vec<Digest> = gone.collect();
        self.known.retain(|digest, _| needed(digest));
        let used: Vec<Digest> =
            self.known.values().flat_map(|it| it.pieces().map(|(digest, _)| digest)).collect();
        let unused = self.pieces.keys().filter(|digest| !used.contains(digest)).copied();
        let unused: Vec<Digest> = unused.collect();
        self.pieces.retain(|digest, _| used.contains(digest));
        effects.extend(gone.into_iter().chain(unused).map(Effect::Forget));
    }
}

fn send(say: Up) -> Effect {
    Effect::Send(Upward { say: Some(say) })
}

fn progress(target: Digest, stage: Stage, why: String, snapshot: u64) -> Effect {
    send(Up::Progress(Progress { target: target.to_vec(), stage: stage.into(), why, snapshot }))
}

/// What is asked for.
fn want(digest: Digest, base: Option<Digest>, offset: u64) -> Want {
    Want { digest: digest.to_vec(), base: base.map(Vec::from).unwrap_or_default(), offset }
}
