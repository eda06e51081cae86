//! Everything of the simulated fleet, and the network between.

#[path = "world/network.rs"]
mod network;
#[path = "world/trouble.rs"]
mod trouble;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::LazyLock,
};

use agent::sync::Input;
use controller::{
    Batch, Change, Controller, Digest, Model, Relay, Settings,
    orders::{
        Apply, Canary, Enrol, Keep, apply, confirm, enrol, found, halt, label, quarantine, redeem,
    },
    records::{RolloutState, Share, Who},
    serving::{At, Effect, Link, Peer, Serve},
    views::Views,
};
use jiff::SignedDuration;
use verdict::Address;
use wire::sync::{Decoder, Down, Downward, Upward};

use crate::{
    centre::{Member, Shared, certificate},
    chance::Chance,
    host::{Ask, Host},
    people::{Making, at, policy, root_bytes},
};

/// Milliseconds of one step.
const STEP: u64 = 100;
const CONTROLLERS: usize = 3;
const VERSIONS: u64 = 10;

/// Texts of all versions, and the bundles.
static SIGNED: LazyLock<(Vec<String>, Vec<Vec<u8>>)> = LazyLock::new(|| {
    let mut texts = Vec::new();
    let bundles = (1..=VERSIONS).map(|version| {
        let base = format!("deny any -> 192.0.2.{version} : any\ndefault allow in\n");
        let db = format!("allow role=web -> role=db : tcp/{}\n", 5_000 + version / 3);
        let web = format!("deny not role=db -> role=web : udp/{}\n", version / 2 + 1);
        let named = [("base", base), ("db", db), ("web", web)];
        let made = named.map(|(name, text)| {
            texts.push(text.clone());
            policy(name, version, &text)
        });
        Making::of(&made).numbered(version).bytes()
    });
    let bundles = bundles.collect();
    (texts, bundles)
});

/// What happened, so that a test can see that something did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum {
    pub(crate) versions: u64,
    pub(crate) confirmed: u64,
    pub(crate) halted: u64,
    pub(crate) broken: u64,
    pub(crate) crashed: u64,
    pub(crate) corrupted: u64,
    pub(crate) relayed: u64,
    pub(crate) collected: u64,
}

impl Sum {
    pub(crate) fn add(&mut self, other: &Self) {
        self.versions += other.versions;
        self.confirmed += other.confirmed;
        self.halted += other.halted;
        self.broken += other.broken;
        self.crashed += other.crashed;
        self.corrupted += other.corrupted;
        self.relayed += other.relayed;
        self.collected += other.collected;
    }
}

/// Who serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Server {
    Controller(usize),
    Relay,
}

/// Who connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Caller {
    Host(usize),
    Relay,
    Controller(usize),
}

/// A connection: each direction in order, as TCP does; what is under way is lost when it breaks.
struct Connection {
    caller: Caller,
    server: Server,
    /// Once the handshake is done.
    link: Option<Link>,
    opens: u64,
    delay: u64,
    up: VecDeque<(u64, Upward)>,
    down: VecDeque<(u64, Downward)>,
    unwritten: bool,
    closing: bool,
    dead: bool,
}

pub(crate) struct World {
    now: u64,
    chance: Chance,
    shared: Shared,
    members: Vec<Member>,
    relay: Option<Relay>,
    relay_restart: Option<u64>,
    hosts: Vec<Host>,
    connections: Vec<Connection>,
    /// Hosts that reach nobody until then.
    cut: BTreeMap<usize, u64>,
    settings: Settings,
    next: usize,
    troubled: bool,
    /// Hosts that an operator shut off and nobody released.
    shut_off: BTreeSet<usize>,
    pub(crate) sum: Sum,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let beat_ms = 2_000;
        let serve = Serve { beat_ms, hello_ms: 5_000, ..Serve::default() };
        let keep = Keep { versions: 2, idle_ms: 3_000 };
        let settings = Settings { serve, keep, ..Settings::default() };
        let members = (0..CONTROLLERS).map(|_| Member::new(chance.below(120) as i64 - 60));
        let members = members.collect();
        let hosts = 6 + chance.below(10);
        let mut world = Self {
            now: 0,
            shared: Shared::default(),
            members,
            relay: None,
            relay_restart: Some(0),
            hosts: Vec::new(),
            connections: Vec::new(),
            cut: BTreeMap::new(),
            settings,
            next: 0,
            troubled: true,
            shut_off: BTreeSet::new(),
            sum: Sum::default(),
            chance,
        };
        world.begin(hosts);
        world
    }

    fn begin(&mut self, hosts: u64) {
        self.shared.lease = Some((0, 3_000));
        let mut model = Model::default();
        let mut commit = |shared: &mut Shared, make: &dyn Fn(&Model) -> Batch| {
            let batch = make(&model);
            assert!(shared.commit(0, 0, batch));
            model.apply(shared.log.last().unwrap().clone()).unwrap();
        };
        commit(&mut self.shared, &|model| found(model, &root_bytes()).unwrap());
        let mut ids: Vec<Who> = (0..hosts).map(|it| Who::Host(format!("h{it}"))).collect();
        ids.push(Who::Relay("r".to_owned()));
        for (number, who) in (0u32..).zip(ids) {
            let (Who::Host(id) | Who::Relay(id)) = &who;
            let role = ["web", "db", "cache"][number as usize % 3];
            let asked = Enrol {
                who: who.clone(),
                labels: match &who {
                    Who::Host(_) => BTreeMap::from([("role".to_owned(), role.to_owned())]),
                    Who::Relay(_) => BTreeMap::new(),
                },
                addresses: Vec::new(),
                names: Vec::new(),
                again: false,
                secret: Digest::of(b"s"),
                valid_s: 60,
                by: "op".to_owned(),
            };
            commit(&mut self.shared, &|model| enrol(model, &asked, at(0)).unwrap());
            let address = Address::v4(0x0a00_0001 + number);
            commit(&mut self.shared, &|model| {
                redeem(model, &who, b"s", certificate(id), Some(address), at(0)).unwrap()
            });
        }
        for number in 0..hosts {
            let seed = self.chance.next();
            self.hosts.push(Host::new(format!("h{number}"), &root_bytes(), &SIGNED.0, seed));
        }
    }

    fn at(&self, skew_s: i64) -> At {
        let ms = SignedDuration::from_millis(i64::try_from(self.now).unwrap());
        let wall = at(1).saturating_add(ms + SignedDuration::from_secs(skew_s)).unwrap();
        At { wall, ms: self.now + 1_000 }
    }

    /// Everything goes wrong for so long.
    pub(crate) fn trouble(&mut self, ms: u64) {
        let until = self.now + ms;
        while self.now < until {
            self.harm();
            self.operate();
            self.step();
        }
    }

    /// From now on nothing goes wrong, and nobody asks for anything.
    pub(crate) fn heal(&mut self) {
        self.troubled = false;
        self.cut.clear();
        let now = self.now;
        for member in &mut self.members {
            member.cut_until = 0;
            member.restart = member.restart.map(|at| at.min(now + 1_000));
        }
        self.relay_restart = self.relay_restart.map(|at| at.min(now + 1_000));
        for host in &mut self.hosts {
            host.restart = host.restart.map(|at| at.min(now + 1_000));
        }
    }

    /// Waits until every host has what it should have, and holds that it does in time.
    pub(crate) fn settle(&mut self, ms: u64) {
        let until = self.now + ms;
        loop {
            let Err(why) = self.settled() else { return };
            assert!(self.now < until, "not settled: {why}");
            for _ in 0..10 {
                self.step();
            }
        }
    }

    fn settled(&self) -> Result<(), String> {
        let model = Model::load(self.shared.records.clone()).unwrap();
        if let Some(rollout) = model.rollout().filter(|it| it.is_open()) {
            return Err(format!("version {} is being tried", rollout.to()));
        }
        let mut views = Views::of(&model).unwrap();
        for host in &self.hosts {
            let wanted = views.number(&host.id).and_then(|number| views.target(number));
            let Some(record) = model.host(&host.id) else { continue };
            let has = host.in_force();
            let Some(wanted) = wanted else { continue };
            if has.current != Some(wanted.digest.0) || has.trial.is_some() {
                let number: usize = host.id[1..].parse().unwrap();
                let link = self.connections.iter().find(|it| it.caller == Caller::Host(number));
                return Err(format!(
                    "{} has {has:?} and not {} of version {}: {}, {:?}",
                    host.id,
                    wanted.digest,
                    wanted.version,
                    host.account(),
                    link.map(|it| (it.server, it.link, it.up.len(), it.down.len())),
                ));
            }
            if host.quarantined != record.quarantined {
                return Err(format!("{} is {} shut off", host.id, host.quarantined));
            }
            let documents = if record.labels.contains_key("role") { 1..=3 } else { 1..=2 };
            assert!(documents.contains(&host.texts().len()), "{:?}", host.texts());
        }
        let leader = self.shared.leader(self.now).ok_or("nobody leads")?;
        let controller = self.members[leader].alive.as_ref().ok_or("the leader is dead")?;
        let status = controller.status(self.at(0));
        if status.all_realised() { Ok(()) } else { Err(format!("{status:?}")) }
    }

    /// A tenth of a second.
    fn step(&mut self) {
        self.now += STEP;
        self.lead();
        self.follow();
        self.bury();
        self.connect();
        self.deliver();
        let wall = self.at(0).wall;
        for number in 0..self.hosts.len() {
            let was = self.hosts[number].quarantined;
            let asks = self.hosts[number].tick(self.now, wall);
            self.asked(number, asks);
            let is = self.hosts[number].quarantined;
            // Its release may be under way still; that it was never asked for may not be.
            let released = self.released(number);
            assert!(!was || is || released, "h{number} was released by nobody");
        }
        for number in 0..CONTROLLERS {
            let at = self.at(self.members[number].skew_s);
            let mut out = Vec::new();
            if let Some(controller) = &mut self.members[number].alive {
                controller.tick(at, &mut out);
            }
            self.carry_out(Server::Controller(number), out);
        }
        let at = self.at(0);
        let mut out = Vec::new();
        if let Some(relay) = &mut self.relay {
            relay.tick(at, &mut out);
        }
        self.carry_out(Server::Relay, out);
        self.bury();
    }

    /// Whether the records ever released a host after they shut it off.
    fn released(&self, number: usize) -> bool {
        let key = format!("host/h{number}");
        let changes = self.shared.log.iter().flatten().filter(|change| change.key == key);
        let shut = changes.map(|Change { value, .. }| {
            let value = value.as_deref().unwrap_or_default();
            String::from_utf8_lossy(value).contains("\"quarantined\":true")
        });
        let shut: Vec<bool> = shut.collect();
        shut.windows(2).any(|pair| pair == [true, false])
    }

    /// Who leads, and whose lease ends.
    fn lead(&mut self) {
        let now = self.now;
        let fit = |member: &Member| member.alive.is_some() && member.cut_until <= now;
        match self.shared.leader(now) {
            Some(leader) if fit(&self.members[leader]) => {
                self.shared.lease = Some((leader, now + 2_000));
            }
            Some(_) => {}
            None => {
                let start = self.chance.place(CONTROLLERS);
                let order = (0..CONTROLLERS).map(|it| (it + start) % CONTROLLERS);
                let next = order.into_iter().find(|it| fit(&self.members[*it]));
                self.shared.lease = next.map(|it| (it, now + 2_000));
            }
        }
        let leader = self.shared.leader(now);
        for (number, member) in self.members.iter_mut().enumerate() {
            // Who is cut off does not know that it leads no more.
            let leads = leader == Some(number);
            if member.cut_until <= now
                && let Some(controller) = &mut member.alive
                && controller.leads() != leads
            {
                controller.lead(leads);
            }
        }
    }

    /// Controllers hear what changed in the store, each in its time.
    fn follow(&mut self) {
        for number in 0..CONTROLLERS {
            let at = self.at(self.members[number].skew_s);
            let lags = self.troubled && self.chance.percent(60);
            let member = &mut self.members[number];
            if member.restart.is_some_and(|when| when <= self.now) && member.cut_until <= self.now {
                member.start(&self.shared, &self.settings, at);
            }
            if self.now < member.cut_until || lags {
                continue;
            }
            let mut out = Vec::new();
            if let Some(controller) = &mut member.alive {
                for changes in &self.shared.log[member.seen..] {
                    controller.changed(changes.clone(), at, &mut out).unwrap();
                }
                member.seen = self.shared.log.len();
                controller.proven(at.ms, at, &mut out);
            }
            self.carry_out(Server::Controller(number), out);
        }
        if self.relay_restart.is_some_and(|when| when <= self.now) {
            self.relay = Some(Relay::new(self.settings.serve.clone(), self.at(0)));
            self.relay_restart = None;
        }
    }

    fn count(&mut self) {
        let puts = self.shared.log.iter().flatten();
        let states: Vec<String> = puts
            .filter(|change| change.key == "rollout")
            .filter_map(|change| String::from_utf8(change.value.clone()?).ok())
            .collect();
        let with = |state: &RolloutState| {
            let text = match state {
                RolloutState::Done => "\"state\":\"done\"",
                RolloutState::Halted(_) => "\"state\":{\"halted\"",
                RolloutState::Canary => "\"state\":\"canary\"",
            };
            states.iter().filter(|it| it.contains(text)).count() as u64
        };
        self.sum.confirmed = with(&RolloutState::Done);
        self.sum.halted = with(&RolloutState::Halted(String::new()));
        let versions = self.shared.records.keys().filter(|key| key.starts_with("version/"));
        self.sum.versions = versions.count() as u64;
        self.whole();
    }

    /// What hosts are to have is there, whatever was collected.
    fn whole(&mut self) {
        let model = Model::load(self.shared.records.clone()).unwrap();
        let open = model.rollout().filter(|it| it.is_open()).map(|it| &it.step);
        for step in model.current().into_iter().flat_map(|it| &it.steps).chain(open) {
            let version = model.version(step.version).unwrap();
            assert!(model.is_whole(version), "a piece of version {} is gone", version.version);
            assert!(model.piece(&step.timestamp).is_some());
        }
        let gone = self.shared.log.iter().flatten();
        let gone = gone.filter(|it| it.key.starts_with("piece/") && it.value.is_none());
        self.sum.collected = gone.count() as u64;
    }
}
