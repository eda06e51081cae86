//! A controller that signs and serves, a core that verifies and applies, and what is under way between the controller and
//! the machine that is tested.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::LazyLock,
};

use agent::{
    sync::{Client, Digest, Done, Effect, InForce, Input, Order, Pulse},
    trusted::Trusted,
};
use jiff::{SignedDuration, Timestamp};
use prost::Message;
use testbed::Signers;
use wire::{
    Bundle, Envelope, Trust,
    sync::{
        Down, Downward, Label, Manifest, Member, Members, Part, Piece, Progress, Sheet, Stage,
        Target, Up, Upward, Want, difference,
    },
};

pub(crate) const HOST: &str = "web-1";
const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn signers() -> Signers {
    Signers::one(NOW.saturating_add(SignedDuration::from_hours(1_000)).unwrap())
}

/// The bundle of a version: one document for everybody, one for the web hosts, one for others.
pub(crate) fn bundle(version: u64) -> &'static Bundle {
    static BUNDLES: LazyLock<Vec<Bundle>> = LazyLock::new(|| (1..=6).map(make).collect());
    &BUNDLES[usize::try_from(version).unwrap() - 1]
}

fn make(version: u64) -> Bundle {
    let base = format!("deny any -> 192.0.2.{version} : any\n");
    let web = format!("deny role=app -> role=web : tcp/{version}\n");
    let db = "allow role=app -> role=db : tcp/5432\n";
    signers().bundle(version, &[("base", &base), ("db", db), ("web", &web)])
}

/// What a controller says a host should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) version: u64,
    /// Which hosts there are.
    pub(crate) hosts: u64,
    pub(crate) trial: bool,
    pub(crate) rollout: u64,
    pub(crate) quarantine: bool,
    /// The document for web hosts is missing.
    pub(crate) held_back: bool,
    /// Hosts come in sections of ten.
    pub(crate) sections: bool,
}

impl Wish {
    pub(crate) fn of(version: u64) -> Self {
        Self {
            version,
            hosts: 0,
            trial: false,
            rollout: 0,
            quarantine: false,
            held_back: false,
            sections: false,
        }
    }

    pub(crate) fn on_trial(self) -> Self {
        Self { trial: true, rollout: self.version, ..self }
    }
}

/// Serves pieces, and remembers what the host said.
#[derive(Default)]
pub(crate) struct Controller {
    pieces: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) heard: Vec<Progress>,
    pub(crate) hellos: usize,
    pub(crate) beats: usize,
    pub(crate) wants: Vec<Want>,
    /// Pieces that it gave as differences.
    pub(crate) led: Vec<Vec<u8>>,
    /// Bytes of parts that were sent.
    pub(crate) sent: usize,
    /// Bytes of one part.
    pub(crate) cut: usize,
}

impl Controller {
    fn piece(&mut self, name: &str, bytes: Vec<u8>) -> Piece {
        let digest = blake3::hash(&bytes).as_bytes().to_vec();
        let piece = Piece {
            digest: digest.clone(),
            bytes: bytes.len() as u64,
            name: name.to_owned(),
            sections: 0,
        };
        self.pieces.insert(digest, bytes);
        piece
    }

    fn members(&mut self, wish: Wish) -> Piece {
        let members = members(wish.hosts);
        if !wish.sections {
            return self.piece("members", members.encode_to_vec());
        }
        let sections = (0u32..).zip(members.hosts.chunks(10)).map(|(at, hosts)| {
            let section = Members { hosts: hosts.to_vec(), ..Members::default() };
            self.piece(&format!("members/{at}"), section.encode_to_vec())
        });
        let sections: Vec<Piece> = sections.collect();
        let listed = u32::try_from(sections.len()).unwrap();
        let whole = Members { sections, ..Members::default() };
        Piece { sections: listed, ..self.piece("members", whole.encode_to_vec()) }
    }

    pub(crate) fn target(&mut self, wish: Wish) -> Target {
        let bundle = bundle(wish.version);
        let json = |envelope: &Envelope| serde_json::to_vec(envelope).unwrap();
        // The second document concerns others.
        let documents = bundle.documents.iter().enumerate();
        let documents = documents.filter(|(at, _)| *at != 1 && !(wish.held_back && *at == 2));
        let manifest = Manifest {
            roots: bundle.roots.iter().map(|it| self.piece("root", json(it))).collect(),
            timestamp: Some(self.piece("timestamp", json(&bundle.timestamp))),
            snapshot: Some(self.piece("snapshot", json(&bundle.snapshot))),
            documents: documents
                .map(|(at, it)| self.piece(&format!("document/{at}"), json(it)))
                .collect(),
            members: vec![self.members(wish)],
            confirm_within_s: if wish.trial { 600 } else { 0 },
            rollout: wish.rollout,
            quarantine: wish.quarantine,
            forced: false,
        };
        let me = Member {
            id: HOST.to_owned(),
            addresses: vec![vec![10, 0, 0, 1]],
            labels: vec![Label { key: "role".to_owned(), value: "web".to_owned() }],
            ..Member::default()
        };
        Target {
            manifest: manifest.encode_to_vec(),
            me: me.encode_to_vec(),
            beat_ms: 1_000,
            ..Target::default()
        }
    }

    /// What it answers.
    pub(crate) fn hear(&mut self, said: Upward) -> Vec<Downward> {
        match said.say.unwrap() {
            Up::Hello(_) => self.hellos += 1,
            Up::Beat(_) => self.beats += 1,
            Up::Progress(progress) => self.heard.push(progress),
            Up::Want(want) => {
                self.wants.push(want.clone());
                return self.parts(&want);
            }
            Up::Carried(_) | Up::Gathered(_) | Up::Relays(_) => panic!("hosts carry nobody"),
        }
        Vec::new()
    }

    fn parts(&mut self, want: &Want) -> Vec<Downward> {
        let Some(piece) = self.pieces.get(&want.digest) else {
            let part = Part { digest: want.digest.clone(), lost: true, ..Part::default() };
            return vec![down(Down::Part(part))];
        };
        let difference = self.pieces.get(&want.base).and_then(|base| {
            let snapshot = || Some(Sheet::read(piece)?.since(Sheet::read(base)?.lines()));
            difference(base, piece).ok().or_else(snapshot).filter(|it| it.len() < piece.len())
        });
        if difference.is_some() {
            self.led.push(want.digest.clone());
        }
        let (bytes, base) = match difference {
            Some(difference) => (difference, want.base.clone()),
            None => (piece.clone(), Vec::new()),
        };
        let from = if base.is_empty() { usize::try_from(want.offset).unwrap() } else { 0 };
        let whole = self.cut.max(1).max(if base.is_empty() { 0 } else { bytes.len() });
        let part = bytes[from..].chunks(whole).next().unwrap_or_default();
        self.sent += part.len();
        vec![down(Down::Part(Part {
            digest: want.digest.clone(),
            offset: from as u64,
            total: bytes.len() as u64,
            bytes: part.to_vec(),
            base,
            lost: false,
        }))]
    }
}

fn members(hosts: u64) -> Members {
    // Each number is a host that has another label.
    let host = |at: u64| Member {
        id: format!("app-{at:04}"),
        addresses: vec![vec![10, 1, 0, u8::try_from(at).unwrap()]],
        labels: vec![Label {
            key: "role".to_owned(),
            value: if at == hosts { "db" } else { "app" }.to_owned(),
        }],
        ..Member::default()
    };
    Members { hosts: (0..40).map(host).collect(), ..Members::default() }
}

pub(crate) fn down(say: Down) -> Downward {
    Downward { say: Some(say) }
}

/// Verifies and applies, as the agent's core does.
pub(crate) struct Core {
    trusted: Trusted,
    current: Option<(Digest, u64)>,
    /// With what is to be trusted once it is confirmed.
    trial: Option<(Digest, u64, Trusted)>,
    pub(crate) quarantined: bool,
    /// The next order does not work.
    pub(crate) fails: bool,
    /// Snapshots that were in force, one after the other; and whether a trial had ended before.
    pub(crate) history: Vec<(u64, bool)>,
}

impl Core {
    fn new() -> Self {
        let root = signers().root_text();
        Self {
            trusted: Trusted {
                trust: Trust::begin(root.as_bytes()).unwrap(),
                audiences: Vec::new(),
            },
            current: None,
            trial: None,
            quarantined: false,
            fails: false,
            history: Vec::new(),
        }
    }

    pub(crate) fn in_force(&self) -> InForce {
        let current = self.current.as_ref();
        let trial = self.trial.as_ref();
        let snapshot = trial.map(|it| it.1).or(current.map(|it| it.1));
        InForce {
            current: current.map(|it| it.0),
            trial: trial.map(|it| it.0),
            snapshot: snapshot.unwrap_or_default(),
        }
    }

    /// The trial ends, by itself or because somebody says so.
    pub(crate) fn end_trial(&mut self) {
        if self.trial.take().is_some() {
            self.history.push((self.in_force().snapshot, true));
        }
    }

    fn order(&mut self, order: Order) -> Option<Done> {
        if std::mem::take(&mut self.fails) {
            return Some(Done::Failed("the disk is full".to_owned()));
        }
        match order {
            Order::Quarantine(on) => {
                self.quarantined = on;
                return None;
            }
            Order::RollBack => self.end_trial(),
            Order::Confirm(name) => {
                let Some((_, snapshot, trusted)) = self.trial.take() else {
                    return Some(Done::Well);
                };
                self.trusted = trusted;
                self.current = Some((name, snapshot));
                self.history.push((snapshot, false));
            }
            Order::Apply(assignment) => {
                assert!(self.trial.is_none(), "a trial is ended before something else is applied");
                let (bundle, me) = (assignment.bundle.as_bytes(), &assignment.me);
                let examined = match self.trusted.examine(bundle, HOST, Some(me), NOW) {
                    Ok(examined) => examined,
                    Err(error) => return Some(Done::Refused(error.to_string())),
                };
                policy::Inventory::read(assignment.inventory.as_bytes()).unwrap();
                let snapshot = examined.signed.snapshot;
                if assignment.confirm_s.is_some() {
                    self.trial = Some((assignment.target, snapshot, examined.trusted));
                } else {
                    self.trusted = examined.trusted;
                    self.current = Some((assignment.target, snapshot));
                }
                self.history.push((snapshot, false));
            }
        }
        Some(Done::Well)
    }
}

/// All of it.
pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) core: Core,
    pub(crate) controller: Controller,
    pub(crate) under_way: VecDeque<Downward>,
    pub(crate) disk: BTreeMap<Digest, Vec<u8>>,
    pub(crate) connected: bool,
    pub(crate) now: u64,
    pub(crate) told: Vec<String>,
    pub(crate) closed: Vec<String>,
    pub(crate) dial: Option<u64>,
}

impl World {
    pub(crate) fn new() -> Self {
        let core = Core::new();
        let client = Client::begin(HOST.to_owned(), "test".to_owned(), [], InForce::default(), 1);
        let controller = Controller { cut: 300, ..Controller::default() };
        Self {
            client,
            core,
            controller,
            under_way: VecDeque::new(),
            disk: BTreeMap::new(),
            connected: false,
            now: 0,
            told: Vec::new(),
            closed: Vec::new(),
            dial: None,
        }
    }

    pub(crate) fn happen(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for effect in self.client.handle(self.now, input) {
                match effect {
                    Effect::Send(said) => {
                        let framed = wire::sync::encode(&said).unwrap();
                        assert!(self.connected, "nothing is said to nobody: {framed:?}");
                        self.under_way.extend(self.controller.hear(said));
                    }
                    Effect::Close(why) => {
                        self.closed.push(why);
                        if self.connected {
                            (self.connected, self.under_way) = (false, VecDeque::new());
                            inputs.push_back(Input::Closed);
                        }
                    }
                    Effect::Dial(at) => self.dial = Some(at),
                    Effect::Order(order) => {
                        if let Some(done) = self.core.order(order) {
                            inputs.push_back(self.in_force());
                            inputs.push_back(Input::Done(done));
                        }
                    }
                    Effect::Keep(digest, bytes) => drop(self.disk.insert(digest, bytes)),
                    Effect::Forget(digest) => drop(self.disk.remove(&digest)),
                    Effect::Tell(why) => self.told.push(why),
                }
            }
        }
    }

    fn in_force(&self) -> Input {
        Input::InForce(self.core.in_force(), Some(Pulse::default()))
    }

    pub(crate) fn connect(&mut self) {
        if !self.connected {
            self.connected = true;
            self.happen(Input::Connected);
        }
    }

    pub(crate) fn disconnect(&mut self) {
        if self.connected {
            (self.connected, self.under_way) = (false, VecDeque::new());
            self.happen(Input::Closed);
        }
    }

    /// The agent starts again, with what is on disk.
    pub(crate) fn restart(&mut self) {
        (self.connected, self.under_way) = (false, VecDeque::new());
        let (host, program) = (HOST.to_owned(), "test".to_owned());
        self.client =
            Client::begin(host, program, self.disk.clone(), self.core.in_force(), self.now);
    }

    pub(crate) fn pass(&mut self, ms: u64) {
        self.now += ms;
        let in_force = self.in_force();
        self.happen(in_force);
        self.happen(Input::Tick);
    }

    pub(crate) fn announce(&mut self, wish: Wish) -> Digest {
        let target = self.controller.target(wish);
        let digest = target.digest();
        if self.connected {
            self.under_way.push_back(down(Down::Target(target)));
        }
        digest
    }

    /// Everything that is under way arrives, and what follows from it.
    pub(crate) fn settle(&mut self) {
        for _ in 0..10_000 {
            let Some(said) = self.under_way.pop_front() else { return };
            self.happen(Input::Heard(said));
        }
        panic!("it never ends");
    }

    /// A target, and everything that follows.
    pub(crate) fn assign(&mut self, wish: Wish) -> Digest {
        let digest = self.announce(wish);
        self.settle();
        digest
    }

    /// The stages that were acknowledged of a target, each once, in their order.
    pub(crate) fn stages(&self, target: Digest) -> Vec<Stage> {
        let of = self.controller.heard.iter().filter(|it| it.target == target);
        let mut stages: Vec<Stage> = of.map(Progress::stage).collect();
        stages.dedup();
        stages
    }
}
