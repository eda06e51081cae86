//! Drives the machine of [`agent::sync`]: sockets, clocks, the disk and the core on one side, its inputs and effects on the
//! other.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use ::agent::sync::{Assignment, Client, Digest, Done, Effect, InForce, Input, Order, Pulse};
use ::fleet::{
    joining::{self, JoinError},
    membership::Membership,
    server::line::Mailbox,
    tls::{self, Believed, Identity},
};
use anyhow::Context;
use jiff::Timestamp;
use rustls::ClientConfig;
use tokio::{
    sync::mpsc,
    task::AbortHandle,
    time::{MissedTickBehavior, interval, sleep_until},
};
use wire::sync::{PROTOCOL, encode};

use super::{
    Fleet, Got, addresses,
    asked::{named, spelled},
    line::{self, Said},
    pieces::Pieces,
};
use crate::{
    agent::{Core, Gone, Undone, trying},
    api::{
        Api, Problem,
        routes::apply::{Apply, Assigned, File, assign},
    },
    orders::Ready,
    signing::random,
};

/// How often the core is asked what is in force, and the clock is looked at.
const TICK: Duration = Duration::from_secs(1);
/// Ticks between two looks at the membership's file.
const LOOK_AT_FILE: u32 = 5;
/// What has happened and was not looked at yet.
const NEWS: usize = 64;
/// Bytes that wait to be sent; a controller that takes no more is left.
const UNSENT_BYTES_MAX: usize = 1 << 20;

/// What happened beside the line.
enum News {
    Verified(u64),
    Done(InForce, Pulse, Done),
    /// The tests of what is in force were run.
    Tested(Option<Digest>, String),
    Renewed(Box<Result<Membership, JoinError>>),
}

/// Why it ended.
pub(super) enum Ended {
    /// The agent ends.
    Agent,
    /// The membership is another one, or none.
    Membership,
}

/// A line to a controller.
struct Line {
    number: u64,
    /// How it was called, with which certificate.
    tls: Arc<ClientConfig>,
    mailbox: Arc<Mailbox>,
    task: AbortHandle,
    stands: bool,
}

/// Both ends of a channel.
type Ends<T> = (mpsc::Sender<T>, mpsc::Receiver<T>);

/// Everything that is needed.
pub(super) struct Driver {
    api: Api,
    directory: PathBuf,
    pieces: Pieces,
    membership: Membership,
    tls: Arc<ClientConfig>,
    client: Client,
    began: Instant,
    dial: Option<Instant>,
    line: Option<Line>,
    lines: u64,
    said: Ends<(u64, Said)>,
    news: Ends<News>,
    in_force: InForce,
    /// What the tests were run against last, and its name.
    tested: Option<(Arc<Ready>, Option<Digest>)>,
    /// They are being run.
    testing: bool,
    /// When a renewal is tried next; far away while one is.
    renew: Option<Instant>,
    shown: Fleet,
}

impl Driver {
    /// Takes up what is on disk.
    ///
    /// # Errors
    /// If the membership proves nothing, or the agent ends.
    pub(super) async fn begin(
        api: Api,
        directory: PathBuf,
        membership: Membership,
    ) -> anyhow::Result<Self> {
        let tls = configuration(&membership)?;
        let pieces = Pieces::of(&directory);
        let controllers = addresses(&membership);
        let in_force = api.core(move |core| {
            core.reach(controllers);
            core.targets()
        });
        let in_force = in_force.await.map_err(|problem| anyhow::anyhow!("{problem}"))?;
        let seed = random()?;
        let seed = u64::from_ne_bytes(*seed.first_chunk().context("randomness has bytes")?);
        let program = env!("CARGO_PKG_VERSION").to_owned();
        let client = Client::begin(membership.id.clone(), program, pieces.load(), in_force, seed);
        let shown = Fleet {
            host: membership.id.clone(),
            connected_to: None,
            since: Timestamp::now(),
            last_contact: None,
            target: None,
            stage: Got::Nothing,
            wanted: None,
            refused: None,
            failing: None,
            trouble: None,
            certificate_until: membership.expires,
        };
        Ok(Self {
            api,
            directory,
            pieces,
            membership,
            tls,
            client,
            began: Instant::now(),
            dial: None,
            line: None,
            lines: 0,
            said: mpsc::channel(NEWS),
            news: mpsc::channel(NEWS),
            in_force,
            tested: None,
            testing: false,
            renew: Some(Instant::now()),
            shown,
        })
    }

    /// Until the agent or the membership ends.
    pub(super) async fn drive(mut self) -> Ended {
        let ended = match self.drive_on().await {
            Ok(()) => Ended::Membership,
            Err(Gone) => Ended::Agent,
        };
        self.hang_up();
        // Where the agent ends, nobody asks for its status any more.
        let _shown = self.api.core(|core| core.show_fleet(None)).await;
        ended
    }

    async fn drive_on(&mut self) -> Result<(), Gone> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut until_file = LOOK_AT_FILE;
        // The first call is spread like all others.
        self.happen(Input::Closed).await?;
        loop {
            let dial = self.dial.filter(|_| self.line.is_none());
            let dialling = async {
                match dial {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some((number, said)) = self.said.1.recv() => self.hear(number, said).await?,
                Some(news) = self.news.1.recv() => self.learn(news).await?,
                () = dialling => self.call().await?,
                _ = ticks.tick() => {
                    until_file -= 1;
                    if until_file == 0 {
                        until_file = LOOK_AT_FILE;
                        if self.is_another_member() {
                            return Ok(());
                        }
                    }
                    self.tick().await?;
                }
            }
        }
    }

    /// Whether the file says something else than what was loaded or written here.
    fn is_another_member(&self) -> bool {
        match Membership::load(&self.directory) {
            Ok(found) => found.as_ref() != Some(&self.membership),
            // It is told by whoever looks for it.
            Err(_unreadable) => true,
        }
    }

    async fn tick(&mut self) -> Result<(), Gone> {
        self.renew();
        let wants_pulse = self.client.is_beat_due(self.now());
        let asked = self.core(move |core| {
            (core.targets(), wants_pulse.then(|| core.pulse()), Arc::clone(&core.force.ready))
        });
        let (in_force, pulse, ready) = asked.await?;
        self.in_force = in_force;
        self.test(ready);
        self.happen(Input::InForce(in_force, pulse)).await?;
        self.happen(Input::Tick).await?;
        self.show().await
    }

    /// Has the policy's tests run against what is in force, where that is something else than before.
    fn test(&mut self, ready: Arc<Ready>) {
        let name = self.in_force.now();
        let known = |(tested, of): &(Arc<Ready>, _)| Arc::ptr_eq(tested, &ready) && *of == name;
        if self.tested.as_ref().is_some_and(known) || self.testing {
            return;
        }
        (self.tested, self.testing) = (Some((ready, name)), true);
        let (api, news) = (self.api.clone(), self.news.0.clone());
        tokio::spawn(async move {
            // Otherwise the agent ends.
            let Ok(known) = api.core(Core::in_force_and_around).await else { return };
            let run = move || match known? {
                Some((edition, around)) => {
                    Ok((named(&edition), trying::failing(&edition, &around)?))
                }
                None => Ok((None, Vec::new())),
            };
            let ran = tokio::task::spawn_blocking(run).await.map_err(anyhow::Error::from);
            let (of, failing) = match ran.and_then(|ran| ran) {
                Ok((of, failing)) => (of, trying::line(&failing)),
                Err(error) => {
                    eprintln!("fwnet: the tests of the policy cannot be run here: {error:#}");
                    (name, String::new())
                }
            };
            let _told = news.send(News::Tested(of, failing)).await;
        });
    }

    /// Calls whoever answers first.
    async fn call(&mut self) -> Result<(), Gone> {
        self.dial = None;
        let mut endpoints = self.membership.endpoints.clone();
        let chance = random().unwrap_or_default();
        endpoints.sort_by_cached_key(|it| *blake3::keyed_hash(&chance, it.as_bytes()).as_bytes());
        if endpoints.iter().any(|endpoint| endpoint.parse::<std::net::SocketAddr>().is_err()) {
            // What names mean now is let through before it is needed.
            let found = line::resolved(&endpoints).await;
            if !found.is_empty() {
                self.core(move |core| core.reach(found)).await?;
            }
        }
        self.lines += 1;
        let (number, mailbox) = (self.lines, Arc::new(Mailbox::default()));
        let (tls, tell) = (Arc::clone(&self.tls), self.said.0.clone());
        let run = line::run(number, endpoints, Arc::clone(&tls), Arc::clone(&mailbox), tell);
        let task = tokio::spawn(run).abort_handle();
        self.line = Some(Line { number, tls, mailbox, task, stands: false });
        Ok(())
    }

    async fn hear(&mut self, number: u64, said: Said) -> Result<(), Gone> {
        let Some(line) = self.line.as_mut().filter(|line| line.number == number) else {
            // Of a line that was left.
            return Ok(());
        };
        match said {
            Said::Came(endpoint) => {
                line.stands = true;
                (self.shown.connected_to, self.shown.since) =
                    (Some(endpoint.clone()), Timestamp::now());
                self.shown.trouble = None;
                self.tell("fleet-connected", format!("connected to {endpoint}")).await?;
                self.happen(Input::Connected).await?;
                self.compare().await?;
                self.show().await
            }
            Said::Message(message) => {
                self.shown.last_contact = Some(Timestamp::now());
                self.happen(Input::Heard(message)).await
            }
            Said::Drained => Ok(()),
            Said::Gone(why) => {
                self.lost(why).await?;
                self.happen(Input::Closed).await?;
                self.show().await
            }
            Said::Unreached(why) => {
                self.lost(why).await?;
                self.happen(Input::Unreached).await?;
                self.show().await
            }
        }
    }

    /// The line is gone.
    async fn lost(&mut self, why: String) -> Result<(), Gone> {
        let stood = self.hang_up();
        if stood {
            self.shown.since = Timestamp::now();
            self.shown.connected_to = None;
            self.tell("fleet-lost", format!("no controller is reached any more: {why}")).await?;
        }
        self.shown.trouble = Some(why);
        Ok(())
    }

    /// Leaves the line; whether there was one.
    fn hang_up(&mut self) -> bool {
        let Some(line) = self.line.take() else { return false };
        if line.stands {
            // What is in its mailbox still goes out.
            line.mailbox.end();
        } else {
            line.task.abort();
        }
        line.stands
    }

    async fn learn(&mut self, news: News) -> Result<(), Gone> {
        match news {
            News::Verified(snapshot) => self.happen(Input::Verified(snapshot)).await,
            News::Done(in_force, pulse, done) => {
                self.in_force = in_force;
                self.happen(Input::InForce(in_force, Some(pulse))).await?;
                self.happen(Input::Done(done)).await?;
                self.show().await
            }
            News::Tested(of, failing) => {
                self.testing = false;
                if of == self.in_force.now() {
                    self.shown.failing = (!failing.is_empty()).then(|| failing.clone());
                }
                self.happen(Input::Tested(of, failing)).await
            }
            News::Renewed(renewed) => {
                self.renewed(*renewed);
                self.compare().await
            }
        }
    }

    /// Has the machine know what happened, and does what follows.
    async fn happen(&mut self, input: Input) -> Result<(), Gone> {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let now = self.now();
            for effect in self.client.handle(now, input) {
                match effect {
                    Effect::Send(said) => self.send(&said),
                    Effect::Close(why) => {
                        self.lost(why).await?;
                        inputs.push_back(Input::Closed);
                    }
                    Effect::Dial(at) => self.dial = Some(self.began + Duration::from_millis(at)),
                    Effect::Order(order) => self.order(order),
                    Effect::Keep(name, bytes) => {
                        if let Err(error) = self.pieces.keep(&name, &bytes) {
                            eprintln!("fwnet: a piece of the fleet's is not kept: {error}");
                        }
                    }
                    Effect::Forget(name) => self.pieces.forget(&name),
                    Effect::Tell(why) => {
                        let text = format!("what the controller wants is refused: {why}");
                        eprintln!("fwnet: {text}");
                        self.tell("fleet-refused", text).await?;
                    }
                }
            }
        }
        Ok(())
    }

    fn send(&self, said: &wire::sync::Upward) {
        let Some(line) = &self.line else { return };
        let frame = encode(said).expect("what a host says is far shorter than a frame");
        line.mailbox.put(frame.into());
        if line.mailbox.unsent() > UNSENT_BYTES_MAX {
            line.task.abort();
            let (tell, number) = (self.said.0.clone(), line.number);
            let why = "the controller takes nothing any more".to_owned();
            tokio::spawn(async move {
                let _told = tell.send((number, Said::Gone(why))).await;
            });
        }
    }

    /// Has the core do something; what came of it is news.
    fn order(&self, order: Order) {
        let (api, news) = (self.api.clone(), self.news.0.clone());
        tokio::spawn(async move {
            let done = match order {
                Order::Apply(assignment) => apply(&api, *assignment, news.clone()).await,
                Order::Confirm(name) => done(api.core(move |core| core.confirm_as(&name)).await),
                Order::RollBack => done(api.core(Core::end_trial).await),
                Order::Quarantine(on) => {
                    match done(api.core(move |core| core.quarantine(on)).await) {
                        Done::Well => {}
                        Done::Refused(why) | Done::Failed(why) => {
                            eprintln!("fwnet: quarantine: {why}");
                        }
                    }
                    return;
                }
            };
            let known = api.core(|core| (core.targets(), core.pulse())).await;
            // Otherwise the agent ends.
            if let Ok((in_force, pulse)) = known {
                let _told = news.send(News::Done(in_force, pulse, done)).await;
            }
        });
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    async fn core<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Core) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        self.api.core(work).await.map_err(|_ending| Gone)
    }

    async fn tell(&self, action: &'static str, text: String) -> Result<(), Gone> {
        self.core(move |core| core.tell_of_fleet(action, text)).await
    }

    /// Writes down how it stands.
    async fn show(&mut self) -> Result<(), Gone> {
        self.shown.target = self.in_force.now().as_ref().map(spelled);
        self.shown.stage = match (self.in_force.trial, self.in_force.current) {
            (Some(_), _) => Got::Trial,
            (None, Some(_)) => Got::Enforced,
            (None, None) => Got::Nothing,
        };
        self.shown.wanted = self.client.wanted().as_ref().map(spelled);
        self.shown.refused = self.client.refused().map(|(_, why)| why.to_owned());
        self.shown.certificate_until = self.membership.expires;
        let shown = self.shown.clone();
        self.core(move |core| core.show_fleet(Some(shown))).await
    }

    /// Has the certificate renewed once half of its life is over.
    fn renew(&mut self) {
        let due = self.renew.is_some_and(|at| at <= Instant::now());
        if !due || Timestamp::now() < self.membership.renew_at() {
            return;
        }
        self.renew = None;
        let (membership, news) = (self.membership.clone(), self.news.0.clone());
        tokio::spawn(async move {
            let renewed = Box::new(joining::renew(&membership).await);
            let _told = news.send(News::Renewed(renewed)).await;
        });
    }

    /// Has the machine know if the line began with another certificate than there is now.
    async fn compare(&mut self) -> Result<(), Gone> {
        match &self.line {
            Some(line) if line.stands && !Arc::ptr_eq(&line.tls, &self.tls) => {
                self.happen(Input::Renewed).await
            }
            _ => Ok(()),
        }
    }

    fn renewed(&mut self, renewed: Result<Membership, JoinError>) {
        let kept = renewed.map_err(anyhow::Error::from).and_then(|membership| {
            let tls = configuration(&membership)?;
            membership.save(&self.directory)?;
            Ok((membership, tls))
        });
        match kept {
            Ok((membership, tls)) => (self.membership, self.tls) = (membership, tls),
            Err(error) => eprintln!("fwnet: the certificate is not renewed: {error:#}"),
        }
        // A host whose clock is ahead has one that seems to be old at once.
        self.renew = Some(Instant::now() + self.membership.renew_again());
    }
}

/// How to call with a membership.
fn configuration(membership: &Membership) -> anyhow::Result<Arc<ClientConfig>> {
    let identity = Identity::of(membership)?;
    let believed = Believed::Authority(identity.authority.clone());
    Ok(Arc::new(tls::client(Some(&identity), believed, PROTOCOL)?))
}

/// Has the core verify and apply what a controller assigned.
async fn apply(api: &Api, assignment: Assignment, news: mpsc::Sender<News>) -> Done {
    let Assignment { target, bundle, inventory, me, confirm_s, forced } = assignment;
    let file = |name: &str, text| File { name: name.to_owned(), path: None, text };
    let confirm_s = match confirm_s.map(u32::try_from).transpose() {
        Ok(confirm_s) => confirm_s,
        Err(_wide) => return Done::Refused("a trial lasts a week at most".to_owned()),
    };
    let apply = Apply {
        policies: Vec::new(),
        bundle: Some(bundle),
        inventory: Some(file(&hosts_of(&target), inventory)),
        host: Some(me.id.clone()),
        confirm_s,
        // What is signed may change the failsafe set; controllers are reached in any case.
        force: true,
        dry_run: false,
        existing: Default::default(),
        session: None,
    };
    let verified = Box::new(move |snapshot| {
        // Called beside the runtime, where waiting harms nobody.
        let _told = news.blocking_send(News::Verified(snapshot));
    });
    // What is for good is in force first, and what fails is told.
    let tested = confirm_s.is_some() && !forced;
    let assigned = Assigned { target: spelled(&target), me, verified, tested };
    match assign(api, apply, assigned).await {
        Ok(_outcome) => Done::Well,
        Err(problem) if problem.is_for_good() => Done::Refused(told(&problem)),
        Err(problem) => Done::Failed(told(&problem)),
    }
}

/// What messages call the hosts of a target.
fn hosts_of(target: &Digest) -> String {
    let name = spelled(target);
    format!("hosts@{}", name.get(..8).unwrap_or_default())
}

fn told(problem: &Problem) -> String {
    problem.whole()
}

fn done(asked: Result<Result<(), Undone>, Problem>) -> Done {
    match asked {
        Ok(Ok(())) => Done::Well,
        Ok(Err(undone)) => Done::Failed(format!("{:#}", anyhow::Error::from(undone))),
        Err(problem) => Done::Failed(problem.to_string()),
    }
}
