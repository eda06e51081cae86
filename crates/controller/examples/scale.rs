//! What a controller costs at scale: `cargo run --release -p controller --example scale -- HOSTS RULES EDITS`.
//!
//! Virtual hosts go through the real serving code with nothing between: they connect, are told what they should have,
//! fetch what they lack and say that they enforce it; then everybody's policy changes a few times, and after that single
//! rules do, each of which must be told to exactly the hosts that it selects. The figures are JSON on standard output.
//!
//! Processor seconds are those of the one thread while the controller works (CLOCK_THREAD_CPUTIME_ID, clock_gettime(2));
//! what the virtual hosts themselves do, to read what they are told, is not counted.

#[path = "../tests/support/enrolled.rs"]
mod enrolled;
#[path = "../tests/support/people.rs"]
mod people;

use std::{collections::BTreeMap, fs, time::Instant};

use controller::{
    Batch, Change, Controller, Digest, Settings,
    orders::{Apply, apply, found},
    serving::{At, Effect, Link, Peer, Serve},
};
use enrolled::enrolled;
use people::{Making, at, policy, root_bytes};
use prost::Message;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use verdict::Address;
use wire::sync::{
    Decoder, Down, Downward, Hello, Manifest, Members, Progress, Stage, Target, Up, Upward, Want,
};

/// Hosts have one of so many roles, in turn.
const ROLES: u32 = 200;
/// And are of one of so many applications.
const APPS: u32 = 500;
/// Rules of one document: the larger ones of a real policy.
const DOCUMENT_RULES: u32 = 1_000;
/// Times that everybody's policy changes.
const GLOBAL: u32 = 3;
/// Hosts that read what they were told, and answer, before the controller hears them.
const CHUNK: usize = 4_096;

#[expect(clippy::print_stdout, reason = "what this program is for")]
fn main() {
    let numbers = std::env::args().skip(1).map(|text| text.parse::<u32>().expect("a number"));
    let numbers: Vec<u32> = numbers.collect();
    let [hosts, rules, edits] = numbers[..] else { panic!("HOSTS, RULES and EDITS are wanted") };
    assert!(rules >= edits.max(1), "each edit is of a rule of its own");
    let began = Instant::now();
    let mut fleet = Fleet::new(hosts, rules);
    let load_s = began.elapsed().as_secs_f64();
    let records_kib = resident_kib();
    let first = fleet.change();
    let connected = fleet.connect();
    let state = fleet.controller.serving_bytes() / hosts as usize;
    let mut changes = Vec::new();
    for _ in 0..GLOBAL {
        fleet.everybodys += 1;
        let spent = fleet.change();
        assert_eq!(spent.told, u64::from(hosts), "everybody is told of what is everybody's");
        changes.push(spent);
    }
    let mut touched = Vec::new();
    let mut exact = true;
    for edit in 0..edits {
        // A rule of another document each time, where there is more than one.
        let rule = (edit * (DOCUMENT_RULES + 1)) % rules;
        *fleet.edits.entry(rule).or_default() += 1;
        let spent = fleet.change();
        let expected = (0..hosts).filter(|host| selects(rule, *host)).count() as u64;
        exact &= expected == spent.told;
        touched
            .push(json!({"rule": rule, "expected": expected, "found": spent.told, "took": spent}));
    }
    let figures = json!({
        "hosts": hosts,
        "rules": rules,
        "documents": rules.div_ceil(DOCUMENT_RULES),
        "load_s": load_s,
        "resident_kib": {"loaded": records_kib, "at_the_end": resident_kib(), "peak": peak_kib()},
        "first_version": first,
        "connect": connected,
        "state_bytes_per_host": state,
        "global_change": changes,
        "rule_edits": touched,
        "exact": exact,
    });
    println!("{figures:#}");
}

/// What one step cost.
#[derive(serde::Serialize)]
struct Spent {
    /// Making the batch: verifying the bundle, checking it against the inventory.
    order_s: f64,
    /// Taking it over and working out whom it concerns.
    commit_s: f64,
    /// Everything after that: telling, answering, hearing.
    serve_s: f64,
    /// Hosts that were told something else than before.
    told: u64,
    /// Bytes that were written.
    bytes: u64,
}

/// Whether a rule selects a host at either end.
fn selects(rule: u32, host: u32) -> bool {
    let (from, app, to) = ends(rule);
    host % ROLES == from && host % APPS == app || host % ROLES == to
}

fn ends(rule: u32) -> (u32, u32, u32) {
    (rule % ROLES, rule % APPS, rule / 7 % ROLES)
}

struct Fleet {
    controller: Controller,
    hosts: u32,
    rules: u32,
    version: u64,
    /// Versions of the rule that is everybody's.
    everybodys: u32,
    /// Versions of single rules that are not the first.
    edits: BTreeMap<u32, u32>,
    /// What each document said last, and its version.
    documents: BTreeMap<u32, (u64, String)>,
    links: BTreeMap<Link, Virtual>,
}

/// What a virtual host has.
#[derive(Default)]
struct Virtual {
    pieces: Vec<[u8; 32]>,
    /// Pieces that list sections, and all sections that it ever had.
    lists: Vec<Vec<u8>>,
    sections: Vec<Vec<u8>>,
    lacks: usize,
    wanted: [u8; 32],
}

impl Fleet {
    fn new(hosts: u32, rules: u32) -> Self {
        let record = |number: u32| {
            let labels = [("role", number % ROLES, "role"), ("app", number % APPS, "app")];
            let labels = labels.map(|(key, at, value)| (key.to_owned(), format!("{value}-{at}")));
            enrolled(&id(number), labels.into(), Address::v4(0x0a00_0001 + number))
        };
        let trust = found(&controller::Model::default(), &root_bytes()).expect("a root");
        let records = (0..hosts).flat_map(record).chain(trust.put);
        let serve = Serve { connections_max: usize::MAX, ..Serve::default() };
        let settings = Settings { serve, ..Settings::default() };
        let controller = Controller::load(records, settings, now()).expect("records in order");
        let (version, everybodys) = (0, 0);
        let (edits, documents, links) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { controller, hosts, rules, version, everybodys, edits, documents, links }
    }

    /// The documents as they are now: rules between roles, and one with a rule that is everybody's.
    fn texts(&self) -> Vec<(u32, String)> {
        let rule = |at: u32| {
            let edit = self.edits.get(&at).copied().unwrap_or_default();
            let (from, app, to) = ends(at);
            let port = 1 + at % 50_000 + 50_000 * (edit % 2);
            format!("allow role=role-{from} & app=app-{app} -> role=role-{to} : tcp/{port}\n")
        };
        let of = |at: u32| {
            let end = ((at + 1) * DOCUMENT_RULES).min(self.rules);
            (at, (at * DOCUMENT_RULES..end).map(rule).collect())
        };
        let mut texts: Vec<(u32, String)> =
            (0..self.rules.div_ceil(DOCUMENT_RULES)).map(of).collect();
        let port = 1 + self.everybodys;
        texts.push((u32::MAX, format!("deny any -> 192.0.2.1 : tcp/{port}\n")));
        texts
    }

    /// Applies what the documents say now, and has everybody hear it, fetch what they lack and acknowledge.
    fn change(&mut self) -> Spent {
        self.version += 1;
        for (at, text) in self.texts() {
            let known = self.documents.entry(at).or_default();
            if known.1 != text {
                *known = (self.version, text);
            }
        }
        let documents = self
            .documents
            .iter()
            .map(|(at, (version, text))| policy(&format!("part-{at}"), *version, text));
        let documents: Vec<_> = documents.collect();
        let made = Making::of(&documents).numbered(self.version).bytes();
        let (before, began) = (self.controller.counts(), processor_s());
        let asked =
            Apply { bundle: &made, what: "", canary: None, force: true, by: "op", stamping: None };
        let batch = apply(self.controller.model(), &asked, now().wall).expect("it is in order");
        let ordered = processor_s();
        let Batch { pieces, expect: _, put, remove } = batch;
        let put = pieces.into_iter().chain(put).map(|(key, value)| (key, Some(value)));
        let changes = put.chain(remove.into_iter().map(|key| (key, None)));
        let changes = changes.map(|(key, value)| Change { key, value }).collect();
        let mut out = Vec::new();
        self.controller.changed(changes, now(), &mut out).expect("records in order");
        let committed = processor_s();
        let serve_s = self.converse(out);
        let after = self.controller.counts();
        Spent {
            order_s: ordered - began,
            commit_s: committed - ordered,
            serve_s,
            told: after.targets_sent - before.targets_sent,
            bytes: after.bytes_sent - before.bytes_sent,
        }
    }

    /// Everybody connects and gets what they should have.
    fn connect(&mut self) -> Spent {
        let before = self.controller.counts();
        let mut serve_s = 0.0;
        let numbers: Vec<u32> = (0..self.hosts).collect();
        for chunk in numbers.chunks(CHUNK) {
            let peers = chunk.iter().map(|number| id(*number));
            let peers: Vec<Peer> =
                peers.map(|id| Peer::Host { certificate: Digest::of(id.as_bytes()), id }).collect();
            let (mut out, mut links) = (Vec::new(), Vec::with_capacity(CHUNK));
            let began = processor_s();
            for peer in &peers {
                let link = self.controller.opened(peer, now(), &mut out);
                let hello = Upward { say: Some(Up::Hello(Hello::default())) };
                self.controller.said(link, hello, now(), &mut out);
                links.push(link);
            }
            serve_s += processor_s() - began;
            self.links.extend(links.into_iter().map(|link| (link, Virtual::default())));
            serve_s += self.converse(out);
        }
        let after = self.controller.counts();
        let told = after.targets_sent - before.targets_sent;
        let bytes = after.bytes_sent - before.bytes_sent;
        Spent { order_s: 0.0, commit_s: 0.0, serve_s, told, bytes }
    }

    /// Hosts hear and answer until nobody has anything to say. The processor seconds of the controller.
    fn converse(&mut self, mut effects: Vec<Effect>) -> f64 {
        let mut spent = 0.0;
        while !effects.is_empty() {
            let mut next = Vec::new();
            for chunk in effects.chunks(CHUNK) {
                let mut says = Vec::new();
                for effect in chunk {
                    let Effect::Send { link, frame } = effect else { continue };
                    let frame = frame.to_vec();
                    let heard = Decoder::default().next(&mut frame.as_slice());
                    let heard = heard.expect("a message").expect("a whole one");
                    let host = self.links.get_mut(link).expect("it is connected");
                    says.push((*link, host.hear(heard)));
                }
                let began = processor_s();
                for (link, answers) in says {
                    for say in answers {
                        self.controller.said(link, Upward { say: Some(say) }, now(), &mut next);
                    }
                    self.controller.written(link, now(), &mut next);
                }
                spent += processor_s() - began;
            }
            effects = next;
        }
        spent
    }
}

impl Virtual {
    fn hear(&mut self, said: Downward) -> Vec<Up> {
        match said.say {
            Some(Down::Target(target)) => self.target(&target),
            Some(Down::Part(part)) => {
                assert!(!part.lost, "every piece is there");
                let whole = part.offset + part.bytes.len() as u64 == part.total;
                if !whole {
                    let offset = part.offset + part.bytes.len() as u64;
                    return vec![Up::Want(Want { digest: part.digest, base: Vec::new(), offset })];
                }
                let mut wants = Vec::new();
                if self.lists.contains(&part.digest) {
                    assert_eq!(part.offset, 0, "a list of sections fits into one part");
                    wants = self.sections(&part.bytes);
                }
                self.pieces.push(part.digest.try_into().expect("a digest"));
                self.lacks += wants.len();
                self.lacks -= 1;
                if self.lacks == 0 { vec![self.enforced()] } else { wants }
            }
            other => panic!("a host is told {other:?}"),
        }
    }

    fn target(&mut self, target: &Target) -> Vec<Up> {
        self.wanted = target.digest();
        let manifest = Manifest::decode(&*target.manifest).expect("a manifest");
        let Manifest { roots, timestamp, snapshot, documents, members, .. } = manifest;
        let pieces = roots.into_iter().chain(timestamp).chain(snapshot).chain(documents);
        let came = target.along.iter().map(|bytes| Digest::of(bytes).0);
        self.pieces.extend(came);
        let lists = members.iter().filter(|it| it.sections != 0);
        self.lists = lists.map(|it| it.digest.clone()).collect();
        let digests: Vec<[u8; 32]> =
            pieces.chain(members).map(|it| it.digest.try_into().expect("a digest")).collect();
        self.pieces.retain(|have| digests.contains(have));
        let lacks = digests.into_iter().filter(|digest| !self.pieces.contains(digest));
        let wants: Vec<Up> = lacks
            .map(|digest| Want { digest: digest.to_vec(), base: Vec::new(), offset: 0 })
            .map(Up::Want)
            .collect();
        self.lacks = wants.len();
        if wants.is_empty() { vec![self.enforced()] } else { wants }
    }

    /// Asks for the sections of a set of hosts that are not there.
    fn sections(&mut self, list: &[u8]) -> Vec<Up> {
        let listed = Members::decode(list).expect("a set of hosts").sections;
        let digests = listed.into_iter().map(|it| it.digest);
        let lacks: Vec<Vec<u8>> = digests.filter(|it| !self.sections.contains(it)).collect();
        self.sections.extend(lacks.iter().cloned());
        let want = |digest| Up::Want(Want { digest, base: Vec::new(), offset: 0 });
        lacks.into_iter().map(want).collect()
    }

    fn enforced(&self) -> Up {
        let target = self.wanted.to_vec();
        let stage = Stage::Enforced.into();
        Up::Progress(Progress { target, stage, why: String::new(), snapshot: 1 })
    }
}

fn id(number: u32) -> String {
    format!("h{number:07}")
}

fn now() -> At {
    At { wall: at(1), ms: 1_000 }
}

/// Processor time of this thread so far, in seconds.
fn processor_s() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = time.tv_sec as f64;
    seconds + time.tv_nsec as f64 / 1e9
}

fn status(field: &str) -> Value {
    let text = fs::read_to_string("/proc/self/status").expect("status");
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    json!(line.split_ascii_whitespace().next().and_then(|it| it.parse::<u64>().ok()))
}

fn resident_kib() -> Value {
    status("VmRSS:")
}

fn peak_kib() -> Value {
    status("VmHWM:")
}
