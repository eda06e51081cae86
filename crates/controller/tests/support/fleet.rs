//! A controller with many hosts, which are connected to it, and what it does.

use std::collections::BTreeMap;

use controller::{
    Batch, Change, Controller, Digest, Model, Settings,
    orders::{Apply, Canary, apply, found},
    serving::{At, Effect, Link, Peer},
};
use verdict::Address;
use wire::sync::{
    Beat, Decoder, Down, Downward, Hello, Progress, Stage, Stance, Target, Up, Upward, Want,
};

use crate::{
    enrolled::enrolled,
    people::{Making, at, policy, root_bytes},
    swap::swap,
};

/// All of it.
pub(crate) struct Fleet {
    pub(crate) controller: Controller,
    pub(crate) records: BTreeMap<String, Vec<u8>>,
    pub(crate) ms: u64,
    pub(crate) links: BTreeMap<Link, usize>,
    pub(crate) told: Vec<(Link, Downward)>,
    pub(crate) closed: Vec<(Link, &'static str)>,
    /// What it said to the leader.
    pub(crate) upward: Vec<Upward>,
}

/// The labels of the host of a number.
pub(crate) fn labels(number: usize) -> BTreeMap<String, String> {
    let role = ["web", "db", "cache", "log"][number % 4];
    let pairs = [("role", role.to_owned()), ("rack", format!("r{}", number / 40))];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

pub(crate) fn id(number: usize) -> String {
    format!("h{number:07}")
}

impl Fleet {
    /// With so many hosts and no policy.
    pub(crate) fn new(hosts: usize, settings: Settings) -> Self {
        let mut records = BTreeMap::new();
        let trusting = found(&Model::default(), &root_bytes()).unwrap();
        swap(&mut records, trusting).unwrap();
        for number in 0..hosts {
            let address = Address::v4(0x0a00_0001 + u32::try_from(number).unwrap());
            records.extend(enrolled(&id(number), labels(number), address));
        }
        let ms = 1_000_000;
        let now = At { wall: at(1), ms };
        let mut controller = Controller::load(records.clone(), settings, now).unwrap();
        controller.lead(true);
        let (links, told, closed) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { controller, records, ms, links, told, closed, upward: Vec::new() }
    }

    pub(crate) fn now(&self) -> At {
        let passed = i64::try_from(self.ms - 1_000_000).unwrap();
        let wall = at(1).saturating_add(jiff::SignedDuration::from_millis(passed)).unwrap();
        At { wall, ms: self.ms }
    }

    /// Carries out what follows.
    pub(crate) fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { link, frame } => {
                    let bytes = frame.to_vec();
                    let said = Decoder::default().next(&mut bytes.as_slice()).unwrap().unwrap();
                    self.told.push((link, said));
                }
                Effect::Close { link, why } => {
                    self.links.remove(&link);
                    self.closed.push((link, why));
                }
                Effect::Commit(batch) => self.commit(batch),
                Effect::Upstream(say) => self.upward.push(say),
                Effect::Enforced { .. } | Effect::Tell(_) => {}
            }
        }
    }

    pub(crate) fn commit(&mut self, batch: Batch) {
        let changes: Vec<Change> = swap(&mut self.records, batch).unwrap();
        let mut out = Vec::new();
        self.controller.changed(changes, self.now(), &mut out).unwrap();
        self.carry_out(out);
    }

    /// Applies documents as a version.
    pub(crate) fn apply(
        &mut self,
        version: u64,
        documents: &[(&str, u64, &str)],
        canary: Option<&Canary>,
    ) {
        let documents: Vec<_> =
            documents.iter().map(|(name, version, text)| policy(name, *version, text)).collect();
        let bundle = Making::of(&documents).numbered(version).bytes();
        let asked =
            Apply { bundle: &bundle, what: "", canary, force: false, by: "op", stamping: None };
        let batch = apply(self.controller.model(), &asked, self.now().wall).unwrap();
        self.commit(batch);
    }

    /// A host connects and says what it has.
    pub(crate) fn connect(&mut self, number: usize, enforced: &[u8]) -> Link {
        let id = id(number);
        let peer = Peer::Host { certificate: Digest::of(id.as_bytes()), id };
        let mut out = Vec::new();
        let link = self.controller.opened(&peer, self.now(), &mut out);
        self.links.insert(link, number);
        self.carry_out(out);
        let hello = Hello {
            program: "test".to_owned(),
            enforced: enforced.to_vec(),
            stage: Stage::Enforced.into(),
        };
        self.say(link, Up::Hello(hello));
        link
    }

    pub(crate) fn say(&mut self, link: Link, say: Up) {
        let mut out = Vec::new();
        self.controller.said(link, Upward { say: Some(say) }, self.now(), &mut out);
        self.carry_out(out);
    }

    /// Everything that was told was written.
    pub(crate) fn written(&mut self, link: Link) {
        let mut out = Vec::new();
        self.controller.written(link, self.now(), &mut out);
        self.carry_out(out);
    }

    pub(crate) fn pass(&mut self, ms: u64) {
        self.ms += ms;
        let mut out = Vec::new();
        self.controller.tick(self.now(), &mut out);
        self.carry_out(out);
    }

    pub(crate) fn want(&mut self, link: Link, digest: &[u8], base: &[u8], offset: u64) {
        self.say(link, Up::Want(Want { digest: digest.to_vec(), base: base.to_vec(), offset }));
    }

    pub(crate) fn progress(&mut self, link: Link, target: &[u8], stage: Stage, why: &str) {
        let (target, why) = (target.to_vec(), why.to_owned());
        self.say(link, Up::Progress(Progress { target, stage: stage.into(), why, snapshot: 1 }));
    }

    pub(crate) fn beat(&mut self, link: Link, target: &[u8], denied: u64) {
        self.say(
            link,
            Up::Beat(Beat {
                target: target.to_vec(),
                denied,
                allowed: 0,
                stance: Stance::Policy.into(),
                stale_s: 0,
                failing: String::new(),
            }),
        );
    }

    /// The targets that were told since this was last asked, by host.
    pub(crate) fn targets(&mut self) -> BTreeMap<usize, Target> {
        let told = std::mem::take(&mut self.told).into_iter();
        let target = |(link, said): (Link, Downward)| match said.say {
            Some(Down::Target(target)) => Some((*self.links.get(&link)?, target)),
            _ => None,
        };
        told.filter_map(target).collect()
    }
}
