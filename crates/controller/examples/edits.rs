//! What an edit of one rule costs a controller: `cargo run --release -p controller --example edits -- HOSTS RULES EDITS`.
//!
//! The world: documents of a hundred rules, one of a team's applications each; hosts with six or seven labels, of which
//! policies ask for four (`app`, `env`, `region`, `team`), and one address each, in the network of its region. Of a hundred
//! rules, 74 are from an application in an environment to one of the team's own, 15 name a region too, 5 are from a
//! network to an application, 3 from a whole team, 3 to an address outside; one in a thousand is from a whole environment.
//! Every edit puts another such rule in the place of one, at random, and is signed, verified, stored and read like any
//! other. Every tenth host is connected.
//!
//! Prints percentiles of the time between the records of a version, as the store hands them out, and the targets of all
//! connected hosts whom it touches, and of the processor's time in that: of this one thread, which does everything. What
//! comes before that (the bundle read and verified, the policy checked against all hosts, the records made) is told apart,
//! and so is a version that is told to everybody because hosts would be left with too many. Every edit's order is made by a
//! model of the same policy without hosts; what it costs with them is measured once.

#[path = "../tests/support/enrolled.rs"]
mod enrolled;
#[path = "../tests/support/people.rs"]
mod people;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use controller::{
    Batch, Change, Controller, Digest, Model, Settings,
    orders::{Apply, apply, found, label},
    serving::{At, Effect, Peer, Serve},
};
use enrolled::enrolled;
use people::{Making, at, key, policy, root_bytes};
use verdict::Address;
use wire::sync::{Hello, Progress, Stage, Up, Upward};

/// Rules of one document.
const DOCUMENT_RULES: u32 = 100;
/// Milliseconds from one change to the next.
const BETWEEN_MS: u64 = 3_000;
/// Hosts of one application.
const APP_HOSTS: u32 = 500;

#[expect(clippy::print_stdout, reason = "what this program is for")]
fn main() {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u32>().expect("a number"));
    let hosts = numbers.next().unwrap_or(10_000);
    let rules = numbers.next().unwrap_or(1_000);
    let edits = numbers.next().unwrap_or(200);
    let step = Instant::now();
    let mut fleet = Fleet::new(hosts, rules);
    tell("records of all hosts are read", step, String::new());
    let step = Instant::now();
    fleet.version = 1;
    let spent = fleet.version();
    let more = format!("{:.3} s of it after the order", spent.time.as_secs_f64());
    tell("the first version is applied", step, more);
    let step = Instant::now();
    let connected = fleet.connect();
    tell("hosts connect and are told", step, format!("{connected} hosts"));
    let (mut found, mut alls) = (Vec::new(), Vec::new());
    for _ in 0..edits {
        let spent = fleet.edit();
        if spent.all { alls.push(spent) } else { found.push(spent) }
    }
    percentiles("an edit", &found);
    percentiles("  and to everybody", &alls);
    told("an edit", &found);
    let moves: Vec<Spent> =
        (0..edits).map(|number| fleet.relabel(number.wrapping_mul(7_919) % hosts)).collect();
    percentiles("a host becomes another application's", &moves);
    told("that", &moves);
    println!("resident {}, at most {}", memory("VmRSS:"), memory("VmHWM:"));
    let bundle = fleet.bundle();
    let step = Instant::now();
    let asked =
        Apply { bundle: &bundle, what: "", canary: None, force: true, by: "op", stamping: None };
    let _same = apply(fleet.controller.model(), &asked, at(1));
    tell("the order of the same again", step, String::new());
    fleet.edit_text();
    let bundle = fleet.bundle();
    let step = Instant::now();
    let asked = Apply { bundle: &bundle, ..asked };
    apply(fleet.controller.model(), &asked, at(1)).expect("it is in order");
    tell("an order with all hosts", step, String::new());
}

#[expect(clippy::print_stdout, reason = "what this program is for")]
fn tell(what: &str, since: Instant, more: String) {
    let seconds = since.elapsed().as_secs_f64();
    println!("{what:<34} {seconds:>9.3} s  {more}; {}", memory("VmHWM:"));
}

#[expect(clippy::print_stdout, reason = "what this program is for")]
fn told(of: &str, all: &[Spent]) {
    let told: Vec<u64> = all.iter().map(|it| it.told).collect();
    println!(
        "connected hosts told of {of}: mean {:.1}, most {}",
        told.iter().sum::<u64>() as f64 / told.len().max(1) as f64,
        told.iter().max().copied().unwrap_or(0),
    );
}

#[expect(clippy::print_stdout, reason = "what this program is for")]
fn percentiles(what: &str, all: &[Spent]) {
    let told = |of: fn(&Spent) -> Duration| -> String {
        let mut all: Vec<Duration> = all.iter().map(of).collect();
        all.sort_unstable();
        let at = |percent: usize| {
            let place = (all.len() * percent).div_ceil(100).saturating_sub(1);
            all.get(place).map_or(0.0, |it| it.as_secs_f64() * 1e3)
        };
        format!("p50 {:.3} p90 {:.3} p99 {:.3} worst {:.3} ms", at(50), at(90), at(99), at(100))
    };
    println!(
        "{what} ({}): {}; of the processor {}",
        all.len(),
        told(|it| it.time),
        told(|it| it.cpu)
    );
}

/// A line of `/proc/self/status`.
fn memory(line: &str) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let found = status.lines().find_map(|text| text.strip_prefix(line));
    let kib: u64 =
        found.and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or_default();
    format!("{} MiB", kib / 1_024)
}

/// What a change of the records cost.
struct Spent {
    time: Duration,
    cpu: Duration,
    told: u64,
    /// The version was everybody's.
    all: bool,
}

/// The processor's time that this thread has had.
fn cpu() -> Duration {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        spent.tv_sec.cast_unsigned(),
        u32::try_from(spent.tv_nsec).expect("a part of a second"),
    )
}

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u32) -> u32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % u64::from(end.max(1))) as u32
    }
}

struct Fleet {
    controller: Controller,
    /// The same policy without hosts.
    orders: Model,
    dice: Dice,
    hosts: u32,
    apps: u32,
    documents: Vec<Vec<String>>,
    versions: Vec<u64>,
    signed: Vec<Option<(wire::Envelope, wire::Listed)>>,
    version: u64,
    /// Milliseconds that have passed.
    ms: u64,
}

impl Fleet {
    fn new(hosts: u32, rules: u32) -> Self {
        let documents = rules.div_ceil(DOCUMENT_RULES);
        let apps = (hosts / APP_HOSTS).max(20);
        let record =
            move |number: u32| enrolled(&id(number), labels(number, apps), address(number));
        let trust = found(&Model::default(), &root_bytes()).expect("a root");
        let records = (0..hosts).flat_map(record).chain(trust.put);
        // Nobody is heard here, however long it takes.
        let serve = Serve { connections_max: usize::MAX, beat_ms: u32::MAX, ..Serve::default() };
        let settings = Settings { serve, ..Settings::default() };
        let controller = Controller::load(records, settings, now(0)).expect("records in order");
        let mut orders = Model::default();
        let trust = found(&orders, &root_bytes()).expect("a root");
        orders.apply(changes(trust)).expect("records in order");
        let mut fleet = Self {
            controller,
            orders,
            dice: Dice(1),
            hosts,
            apps,
            documents: Vec::new(),
            versions: vec![1; documents as usize],
            signed: vec![None; documents as usize + 1],
            version: 0,
            ms: 0,
        };
        for document in 0..documents {
            let rules = (0..DOCUMENT_RULES).map(|_| fleet.rule(document)).collect();
            fleet.documents.push(rules);
        }
        fleet
    }

    /// A rule of a team.
    fn rule(&mut self, document: u32) -> String {
        let own = document.wrapping_mul(2).wrapping_add(self.dice.below(2)) % self.apps;
        let other = self.dice.below(self.apps);
        let port = 1_000 + self.dice.below(60_000);
        let env = env(self.dice.below(10));
        let region = self.dice.below(REGIONS);
        if self.dice.below(1_000) == 0 {
            return format!("allow env={env} -> app=a{own} & env={env} : tcp/{port}\n");
        }
        match self.dice.below(100) {
            0..74 => {
                format!("allow app=a{other} & env={env} -> app=a{own} & env={env} : tcp/{port}\n")
            }
            74..89 => format!(
                "allow app=a{own} & region=r{region} -> app=a{other} & region=r{region} & env={env} : tcp/{port}\n"
            ),
            89..94 => {
                let net = self.dice.below(200);
                format!(
                    "allow 10.{}.{net}.0/24 -> app=a{own} & env={env} : tcp/{port}\n",
                    net % 8 * 16
                )
            }
            94..97 => {
                let team = self.dice.below(self.apps / 2);
                format!("allow team=t{team} -> app=a{own} & env={env} : tcp/{port}\n")
            }
            _ => {
                let outside = self.dice.below(200);
                format!("allow app=a{own} & env={env} -> 198.51.100.{outside} : tcp/{port}\n")
            }
        }
    }

    /// The bundle as it is now: what did not change keeps its signature.
    fn bundle(&mut self) -> Vec<u8> {
        let base = "default deny in\nallow any -> 192.0.2.53 : udp/53\n".to_owned();
        let texts = self.documents.iter().map(|rules| rules.concat()).chain([base]);
        let policies: Vec<wire::Policy> = texts
            .enumerate()
            .map(|(at, text)| {
                policy(&format!("d{at}"), self.versions.get(at).copied().unwrap_or(1), &text)
            })
            .collect();
        for (policy, signed) in policies.iter().zip(&mut self.signed) {
            if signed.is_none() {
                let mut envelope = wire::Envelope::new(policy);
                envelope.sign(&key("dora"));
                let listed = wire::Listed::of(policy, envelope.payload());
                *signed = Some((envelope, listed));
            }
        }
        let (documents, listed) = self.signed.iter().flatten().cloned().unzip();
        let mut making = Making::of(&[]);
        making.snapshot.documents = listed;
        making.documents = documents;
        making.numbered(self.version).bytes()
    }

    fn version(&mut self) -> Spent {
        let bundle = self.bundle();
        let asked = Apply {
            bundle: &bundle,
            what: "",
            canary: None,
            force: true,
            by: "op",
            stamping: None,
        };
        let batch = apply(&self.orders, &asked, at(1)).expect("it is in order");
        drop(bundle);
        self.orders.apply(changes(batch.clone())).expect("records in order");
        let steps = self.orders.current().map_or(0, |current| current.steps.len());
        Spent { all: steps == 1, ..self.commit(batch) }
    }

    fn edit(&mut self) -> Spent {
        self.edit_text();
        self.version()
    }

    /// Puts another rule in the place of one.
    fn edit_text(&mut self) {
        let document = self.dice.below(u32::try_from(self.documents.len()).expect("few"));
        let place = self.dice.below(DOCUMENT_RULES) as usize;
        let rule = self.rule(document);
        let at = document as usize;
        let rules = self.documents.get_mut(at).expect("one of them");
        *rules.get_mut(place).expect("one of them") = rule;
        *self.versions.get_mut(at).expect("one of them") += 1;
        *self.signed.get_mut(at).expect("one of them") = None;
        self.version += 1;
    }

    fn relabel(&mut self, number: u32) -> Spent {
        let app = format!("a{}", self.dice.below(self.apps));
        let wanted = BTreeMap::from([("app".to_owned(), Some(app))]);
        let batch = label(self.controller.model(), &id(number), &wanted).expect("it is there");
        self.commit(batch)
    }

    fn commit(&mut self, batch: Batch) -> Spent {
        let changes = changes(batch);
        let told = self.controller.retargets();
        let mut out = Vec::new();
        let at = now(self.ms);
        let (began, before) = (Instant::now(), cpu());
        self.controller.changed(changes, at, &mut out).expect("records in order");
        let (time, cpu) = (began.elapsed(), cpu() - before);
        self.written(out);
        // What is new now is not for ever.
        self.ms += BETWEEN_MS;
        self.controller.tick(now(self.ms), &mut Vec::new());
        Spent { time, cpu, told: self.controller.retargets() - told, all: false }
    }

    /// The network takes everything.
    fn written(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            if let Effect::Send { link, .. } = effect {
                self.controller.written(link, now(self.ms), &mut Vec::new());
            }
        }
    }

    fn connect(&mut self) -> u32 {
        let each = 10;
        for number in (0..self.hosts).step_by(each) {
            let id = id(number);
            let peer = Peer::Host { certificate: Digest::of(id.as_bytes()), id };
            let mut out = Vec::new();
            let now = now(self.ms);
            let link = self.controller.opened(&peer, now, &mut out);
            let hello = Up::Hello(Hello::default());
            self.controller.said(link, Upward { say: Some(hello) }, now, &mut out);
            let progress = Progress { stage: Stage::Enforced.into(), ..Progress::default() };
            let say = Upward { say: Some(Up::Progress(progress)) };
            self.controller.said(link, say, now, &mut out);
            self.written(out);
        }
        self.hosts.div_ceil(10)
    }
}

/// What a store hands out.
fn changes(batch: Batch) -> Vec<Change> {
    let Batch { pieces, expect: _, put, remove } = batch;
    let put = pieces.into_iter().chain(put).map(|(key, value)| (key, Some(value)));
    let changes = put.chain(remove.into_iter().map(|key| (key, None)));
    changes.map(|(key, value)| Change { key, value }).collect()
}

const REGIONS: u32 = 8;

fn env(ten: u32) -> &'static str {
    match ten {
        0..6 => "prod",
        6..8 => "test",
        _ => "dev",
    }
}

fn labels(number: u32, apps: u32) -> BTreeMap<String, String> {
    let app = number % apps;
    let mut labels: BTreeMap<String, String> = [
        ("app", format!("a{app}")),
        ("team", format!("t{}", app / 2)),
        ("env", env(number / apps % 10).to_owned()),
        ("region", format!("r{}", region(number))),
        ("rack", format!("k{}", number / 40)),
        ("os", ["trixie", "bookworm", "noble"].map(str::to_owned)[number as usize % 3].clone()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    if number.is_multiple_of(2) {
        labels.insert("owner".to_owned(), format!("o{}", number % 977));
    }
    labels
}

fn region(number: u32) -> u32 {
    number / 254 % REGIONS
}

/// Networks of 254 hosts, those of a region next to each other.
fn address(number: u32) -> Address {
    let net = number / 254;
    let (region, net) = (net % REGIONS, net / REGIONS);
    Address::v4(0x0a00_0001 + (region << 20) + (net << 8) + number % 254)
}

fn id(number: u32) -> String {
    format!("h{number:07}")
}

fn now(ms: u64) -> At {
    At { wall: at(1), ms: 1_000 + ms }
}
