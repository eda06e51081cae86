//! Everything of the simulated fleet, and the network between.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::LazyLock,
};

use agent::sync::Input;
use controller::{
    Batch, Change, Controller, Digest, Model, Relay, Settings,
    orders::{Apply, Canary, Enrol, apply, confirm, enrol, found, halt, label, quarantine, redeem},
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
        let settings = Settings { serve, ..Settings::default() };
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

    fn harm(&mut self) {
        for number in 0..self.connections.len() {
            if self.chance.percent(1) && self.chance.percent(60) {
                self.connections[number].dead = true;
                self.sum.broken += 1;
            }
        }
        for number in 0..self.hosts.len() {
            if self.chance.below(300) == 0 {
                let (until, done) = (self.now + self.chance.below(8_000), self.chance.percent(50));
                let (wall, now) = (self.at(0).wall, self.now);
                if self.hosts[number].client.is_some() {
                    self.hosts[number].crash(until, done, wall, now);
                    self.hang_up(Caller::Host(number));
                    self.sum.crashed += 1;
                }
            }
            if self.chance.below(400) == 0 {
                self.cut.insert(number, self.now + self.chance.below(15_000));
                self.hang_up(Caller::Host(number));
            }
        }
        for number in 0..CONTROLLERS {
            if self.chance.below(150) == 0 && self.members[number].alive.is_some() {
                self.members[number].alive = None;
                self.members[number].restart = Some(self.now + self.chance.below(8_000));
                self.hang_up(Caller::Controller(number));
                self.serverless(Server::Controller(number));
                self.sum.crashed += 1;
            }
            if self.chance.below(200) == 0 {
                self.members[number].cut_until = self.now + self.chance.below(8_000);
            }
        }
        if self.chance.below(150) == 0 && self.relay.is_some() {
            self.relay = None;
            self.relay_restart = Some(self.now + self.chance.below(5_000));
            self.hang_up(Caller::Relay);
            self.serverless(Server::Relay);
            self.sum.crashed += 1;
        }
    }

    fn hang_up(&mut self, caller: Caller) {
        let of = self.connections.iter_mut().filter(|it| it.caller == caller);
        of.for_each(|connection| connection.dead = true);
    }

    fn serverless(&mut self, server: Server) {
        let of = self.connections.iter_mut().filter(|it| it.server == server);
        of.for_each(|connection| (connection.dead, connection.link) = (true, None));
    }

    /// An operator asks for something.
    fn operate(&mut self) {
        if !self.chance.percent(3) {
            return;
        }
        let Some(leader) = self.shared.leader(self.now) else { return };
        if self.now < self.members[leader].cut_until {
            return;
        }
        let wall = self.at(self.members[leader].skew_s).wall;
        let chance = &mut self.chance;
        let Some(controller) = &self.members[leader].alive else { return };
        let model = controller.model();
        let which = chance.place(self.hosts.len());
        let id = &self.hosts[which].id;
        let mut shut = None;
        let batch = match chance.below(12) {
            0..=4 => {
                let Some(bundle) = SIGNED.1.get(self.next) else { return };
                let share = match chance.below(3) {
                    0 => Share::Fraction(2_000),
                    1 => Share::Count(2),
                    _ => Share::Selector("role=web".to_owned()),
                };
                let canary = Canary { share, confirm_s: 10 + chance.below(20) };
                let asked = Apply {
                    bundle,
                    what: "",
                    canary: Some(&canary).filter(|_| chance.percent(70)),
                    force: false,
                    by: "op",
                    stamping: None,
                };
                self.next += 1;
                apply(model, &asked, wall)
            }
            5 | 6 => confirm(model, wall),
            7 => halt(model, "an operator said so"),
            8 => {
                shut = Some(model.host(id).is_some_and(|host| !host.quarantined));
                quarantine(model, id, shut == Some(true))
            }
            _ => {
                let role = *chance.of(&[&"web", &"db", &"cache"]);
                let role = Some(role.to_owned()).filter(|_| chance.percent(80));
                label(model, id, &BTreeMap::from([("role".to_owned(), role)]))
            }
        };
        let Ok(batch) = batch else { return };
        if self.shared.commit(leader, self.now, batch)
            && let Some(shut) = shut
        {
            if shut {
                self.shut_off.insert(which);
            } else {
                self.shut_off.remove(&which);
            }
        }
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

    fn connect(&mut self) {
        let mut calls = Vec::new();
        for number in 0..self.hosts.len() {
            let host = &mut self.hosts[number];
            if host.client.is_none() || host.dial.is_none_or(|at| self.now < at) {
                continue;
            }
            host.dial = None;
            let reached = self.cut.get(&number).is_none_or(|until| *until <= self.now);
            let server = match self.chance.below(4) {
                0 | 1 => Server::Relay,
                _ => Server::Controller(self.chance.place(CONTROLLERS)),
            };
            if reached && self.is_up(server) {
                calls.push((Caller::Host(number), server));
            } else {
                let asks = self.hosts[number].handle(self.now, Input::Closed);
                assert!(asks.is_empty());
            }
        }
        if self.relay.is_some() && !self.connections.iter().any(|it| it.caller == Caller::Relay) {
            let server = Server::Controller(self.chance.place(CONTROLLERS));
            if self.is_up(server) {
                calls.push((Caller::Relay, server));
            }
        }
        let leader = self.shared.leader(self.now);
        for number in 0..CONTROLLERS {
            let caller = Caller::Controller(number);
            let Some(leader) = leader.filter(|leader| *leader != number) else { continue };
            let server = Server::Controller(leader);
            let mut own = self.connections.iter_mut().filter(|it| it.caller == caller);
            if let Some(own) = own.find(|it| !it.dead) {
                own.dead = own.server != server;
            } else if self.members[number].alive.is_some() && self.is_up(server) {
                calls.push((caller, server));
            }
        }
        for (caller, server) in calls {
            self.connections.push(Connection {
                caller,
                server,
                link: None,
                opens: self.now + self.chance.below(300),
                delay: self.chance.below(300),
                up: VecDeque::new(),
                down: VecDeque::new(),
                unwritten: false,
                closing: false,
                dead: false,
            });
        }
    }

    fn is_up(&self, server: Server) -> bool {
        match server {
            Server::Controller(number) => self.members[number].alive.is_some(),
            Server::Relay => self.relay.is_some(),
        }
    }

    fn deliver(&mut self) {
        for place in 0..self.connections.len() {
            self.open(place);
            self.upward(place);
            self.downward(place);
        }
    }

    /// The handshake is done.
    fn open(&mut self, place: usize) {
        let Connection { caller, server, link, opens, dead, .. } = self.connections[place];
        if dead || link.is_some() || self.now < opens {
            return;
        }
        let peer = match caller {
            Caller::Host(number) => {
                let id = self.hosts[number].id.clone();
                Peer::Host { certificate: certificate(&id), id }
            }
            Caller::Relay => Peer::Relay { name: "r".to_owned(), certificate: certificate("r") },
            Caller::Controller(number) => Peer::Controller { name: format!("c{number}") },
        };
        let mut out = Vec::new();
        let link = self.serve(server, |server, at| server.opened(&peer, at, &mut out));
        self.connections[place].link = link;
        self.carry_out(server, out);
        let mut out = Vec::new();
        match caller {
            Caller::Host(number) => {
                let asks = self.hosts[number].handle(self.now, Input::Connected);
                self.asked(number, asks);
            }
            Caller::Relay => {
                if let Some(relay) = &mut self.relay {
                    relay.upstream_opened(&mut out);
                }
                self.carry_out(Server::Relay, out);
            }
            Caller::Controller(number) => {
                if let Some(controller) = &mut self.members[number].alive {
                    controller.upstream_opened();
                }
            }
        }
    }

    fn serve<T>(
        &mut self,
        server: Server,
        ask: impl FnOnce(&mut dyn Serves, At) -> T,
    ) -> Option<T> {
        match server {
            Server::Controller(number) => {
                let at = self.at(self.members[number].skew_s);
                let controller = self.members[number].alive.as_mut()?;
                Some(ask(controller, at))
            }
            Server::Relay => {
                let at = self.at(0);
                Some(ask(self.relay.as_mut()?, at))
            }
        }
    }

    fn upward(&mut self, place: usize) {
        loop {
            let now = self.now;
            let connection = &mut self.connections[place];
            let Some(link) = connection.link.filter(|_| !connection.dead) else { return };
            let server = connection.server;
            let mut out = Vec::new();
            if std::mem::take(&mut connection.unwritten) {
                self.serve(server, |server, at| server.written(link, at, &mut out));
            } else if connection.up.front().is_some_and(|(at, _)| *at <= now) {
                let Some((_, said)) = connection.up.pop_front() else { return };
                self.serve(server, |server, at| server.said(link, said, at, &mut out));
            } else {
                return;
            }
            self.carry_out(server, out);
        }
    }

    fn downward(&mut self, place: usize) {
        loop {
            let now = self.now;
            let corrupt = self.troubled && self.chance.below(60) == 0;
            let connection = &mut self.connections[place];
            if connection.dead {
                return;
            }
            if connection.down.front().is_none_or(|(at, _)| now < *at) {
                connection.dead = connection.closing && connection.down.is_empty();
                return;
            }
            let Some((_, mut said)) = connection.down.pop_front() else { return };
            let (caller, server) = (connection.caller, connection.server);
            // A relay that lies: what it passes on is another thing.
            if server == Server::Relay {
                self.sum.relayed += 1;
                if corrupt && let Some(Down::Part(part)) = &mut said.say {
                    self.sum.corrupted += u64::from(!part.bytes.is_empty());
                    part.bytes.iter_mut().step_by(7).for_each(|byte| *byte ^= 0x55);
                }
            }
            match caller {
                Caller::Host(number) => {
                    let asks = self.hosts[number].handle(now, Input::Heard(said));
                    self.asked(number, asks);
                }
                Caller::Relay => {
                    let (at, mut out) = (self.at(0), Vec::new());
                    if let Some(relay) = &mut self.relay {
                        relay.heard(said, at, &mut out);
                    }
                    self.carry_out(Server::Relay, out);
                }
                // The leader tells other controllers nothing.
                Caller::Controller(_) => {}
            }
        }
    }

    fn asked(&mut self, number: usize, asks: Vec<Ask>) {
        let now = self.now;
        let own = |it: &&mut Connection| it.caller == Caller::Host(number) && !it.dead;
        for ask in asks {
            let Some(connection) = self.connections.iter_mut().find(own) else { return };
            match ask {
                Ask::Send(say) => {
                    let due = now + connection.delay;
                    connection.up.push_back((due, say));
                }
                Ask::Close => connection.dead = true,
            }
        }
    }

    fn carry_out(&mut self, by: Server, effects: Vec<Effect>) {
        for effect in effects {
            let own = |it: &&mut Connection, link| it.server == by && it.link == Some(link);
            match effect {
                Effect::Send { link, frame } => {
                    let bytes = frame.to_vec();
                    let said = Decoder::default().next(&mut bytes.as_slice()).unwrap().unwrap();
                    // One that is being opened has no link yet here.
                    let mut found = self.connections.iter_mut().find(|it| own(it, link));
                    if found.is_none() {
                        let fresh = |it: &&mut Connection| it.server == by && it.link.is_none();
                        found = self.connections.iter_mut().find(|it| fresh(it) && !it.dead);
                    }
                    let Some(connection) = found else { continue };
                    connection.down.push_back((self.now + connection.delay, said));
                    connection.unwritten = true;
                }
                Effect::Close { link, .. } => {
                    let mut all = self.connections.iter_mut();
                    if let Some(connection) = all.find(|it| own(it, link)) {
                        connection.closing = true;
                    }
                }
                Effect::Commit(batch) => {
                    let Server::Controller(number) = by else { panic!("a relay commits") };
                    if self.members[number].cut_until <= self.now {
                        self.shared.commit(number, self.now, batch);
                    }
                }
                Effect::Upstream(say) => {
                    let caller = match by {
                        Server::Controller(number) => Caller::Controller(number),
                        Server::Relay => Caller::Relay,
                    };
                    let mut all = self.connections.iter_mut();
                    let Some(connection) = all.find(|it| it.caller == caller && !it.dead) else {
                        continue;
                    };
                    connection.up.push_back((self.now + connection.delay, say));
                }
                Effect::Tell(_) => {}
            }
        }
    }

    /// Both ends of connections that broke are told.
    fn bury(&mut self) {
        let mut dead = Vec::new();
        self.connections.retain(|it| {
            if it.dead {
                dead.push((it.caller, it.server, it.link, it.closing));
            }
            !it.dead
        });
        for (caller, server, link, _) in dead {
            if let Some(link) = link {
                self.serve(server, |server, _| server.closed(link));
            }
            match caller {
                Caller::Host(number) => {
                    self.hosts[number].handle(self.now, Input::Closed);
                }
                Caller::Relay => {
                    if let Some(relay) = &mut self.relay {
                        relay.upstream_closed();
                    }
                }
                Caller::Controller(number) => {
                    if let Some(controller) = &mut self.members[number].alive {
                        controller.upstream_closed();
                    }
                }
            }
        }
        let model = self.shared.log.len() as u64;
        if model != 0 && self.now.is_multiple_of(1_000) {
            self.count();
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
    }
}

/// A controller or a relay.
trait Serves {
    fn opened(&mut self, peer: &Peer, at: At, out: &mut Vec<Effect>) -> Link;
    fn said(&mut self, link: Link, said: Upward, at: At, out: &mut Vec<Effect>);
    fn written(&mut self, link: Link, at: At, out: &mut Vec<Effect>);
    fn closed(&mut self, link: Link);
}

macro_rules! serves {
    ($($type:ty),*) => {
        $(impl Serves for $type {
            fn opened(&mut self, peer: &Peer, at: At, out: &mut Vec<Effect>) -> Link {
                <$type>::opened(self, peer, at, out)
            }

            fn said(&mut self, link: Link, said: Upward, at: At, out: &mut Vec<Effect>) {
                <$type>::said(self, link, said, at, out);
            }

            fn written(&mut self, link: Link, at: At, out: &mut Vec<Effect>) {
                <$type>::written(self, link, at, out);
            }

            fn closed(&mut self, link: Link) {
                <$type>::closed(self, link);
            }
        })*
    };
}

serves!(Controller, Relay);
