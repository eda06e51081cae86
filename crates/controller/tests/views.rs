//! What is sent to a host is what concerns it: compiled with it, the policy says of every flow what the whole policy says
//! with everybody known.
#![cfg(test)]

#[path = "support/chance.rs"]
mod chance;
#[path = "views/made.rs"]
mod made;
#[path = "support/people.rs"]
mod people;
#[path = "views/sent.rs"]
mod sent;
#[path = "support/store.rs"]
mod store;
#[path = "support/swap.rs"]
mod swap;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicUsize, Ordering},
};

use chance::{Chance, seeds};
use controller::{
    Change, Changed, Digest,
    orders::{self, Apply, Canary, apply, confirm, found, halt, label, quarantine, remove},
    records::{HostRecord, Key, Share, encode},
    views::{HostTarget, Touched, Views},
};
use made::{SELECTORS, address, host, labels, tests, text};
use people::{Making, at, policy, root_bytes};
use policy::{
    Checked, Facts, Inventory, NoIdentities, Own, Source, check, compile, run_tests, run_tests_at,
};
use prost::Message;
use sent::{Sent, flows};
use store::Store;
use verdict::{Address, decide};
use wire::sync::{Manifest, Members, patched};

struct World {
    store: Store,
    views: Views,
    chance: Chance,
    versions: u64,
    texts: Vec<String>,
    /// What is tried.
    tried: Vec<String>,
    /// How many documents there have been: none vanishes.
    documents: usize,
    hosts: u64,
    /// How often only some were touched by a version, and how often all.
    turns: (usize, usize),
    /// What each host was sent of others last, by name of the piece.
    held: BTreeMap<(String, String), (Digest, Vec<u8>)>,
    differences: usize,
    snapshots: usize,
    /// Documents have tests.
    tested: bool,
    /// Tests that hosts said something about, and those that failed there.
    said: [usize; 2],
}

impl World {
    fn new(seed: u64) -> Self {
        Self::begin(seed, false)
    }

    fn begin(seed: u64, tested: bool) -> Self {
        let mut world = Self {
            tested,
            store: Store::default(),
            views: Views::default(),
            chance: Chance::new(seed),
            versions: 0,
            texts: Vec::new(),
            tried: Vec::new(),
            documents: 0,
            hosts: 0,
            turns: (0, 0),
            held: BTreeMap::new(),
            differences: 0,
            snapshots: 0,
            said: [0; 2],
        };
        world.store.commit(found(&world.store.model, &root_bytes()).unwrap()).unwrap();
        for _ in 0..5 + world.chance.below(8) {
            world.enrol();
        }
        while !world.version() {}
        world
    }

    /// Takes changes in, and holds what the views say of whom they touch against what came of it.
    fn take(&mut self, changes: Vec<Change>) {
        let before = self.digests();
        for Change { key, value } in changes.clone() {
            match value {
                Some(value) => self.store.records.insert(key, value),
                None => self.store.records.remove(&key),
            };
        }
        let changed: Changed = self.store.model.apply(changes).unwrap();
        let touched = self.views.change(&self.store.model, &changed).unwrap();
        let after = self.digests();
        if changed.current {
            let all = touched == Touched::All;
            self.turns = (self.turns.0 + usize::from(!all), self.turns.1 + usize::from(all));
        }
        if let Touched::Some(touched) = touched {
            let said: BTreeSet<String> = touched
                .iter()
                .filter_map(|number| self.views.id(*number).map(|id| id.to_string()))
                .collect();
            for (id, digest) in &after {
                let new = before.get(id) != Some(digest);
                assert!(!new || said.contains(id), "{id} got a new target and was not named");
            }
        }
    }

    fn commit(&mut self, batch: controller::Batch) {
        let changes = swap::swap(&mut self.store.records, batch).unwrap();
        self.take(changes);
    }

    fn digests(&mut self) -> BTreeMap<String, Digest> {
        let numbers: Vec<u32> = self.views.numbers().collect();
        let target = |number: u32| {
            let digest = self.views.target(number)?.digest;
            Some((self.views.id(number)?.to_string(), digest))
        };
        numbers.into_iter().filter_map(target).collect()
    }

    fn enrol(&mut self) {
        let id = ["web-0", "h1", "h2"]
            .get(usize::try_from(self.hosts).unwrap())
            .map_or_else(|| format!("x{}", self.hosts), |id| (*id).to_owned());
        // What is only tried is no host's yet that has just come.
        let steps = self.store.model.current().map_or(&[][..], |it| &it.steps);
        let since = steps.last().map_or(0, |step| step.version);
        let changes = host(&mut self.chance, &id, self.hosts, since);
        self.hosts += 1;
        self.take(changes);
    }

    /// Another version; false if the documents that were made up make no sense.
    fn version(&mut self) -> bool {
        let count = 1 + self.chance.below(3);
        let edit = !self.texts.is_empty() && self.chance.percent(70);
        let mut texts = self.texts.clone();
        if edit {
            let which = self.chance.place(texts.len());
            let (from, to) = (self.chance.of(SELECTORS), self.chance.of(SELECTORS));
            if self.chance.percent(50) || texts[which].lines().count() < 2 {
                texts[which].push_str(&format!("allow {from} -> {to} : tcp/80\n"));
            } else {
                let lines: Vec<&str> = texts[which].lines().collect();
                texts[which] =
                    lines[..lines.len() - 1].iter().map(|it| format!("{it}\n")).collect();
            }
        } else {
            // Documents do not vanish: they are withdrawn.
            let had = texts.len() as u64;
            texts = (0..count.max(had)).map(|at| text(&mut self.chance, at == 0, count)).collect();
            for text in texts.iter_mut().filter(|_| self.tested) {
                text.push_str(&tests(text));
            }
        }
        texts.resize(texts.len().max(self.documents), String::new());
        let next = self.versions + 1;
        let documents: Vec<_> =
            (0..).zip(&texts).map(|(at, text)| policy(&format!("d{at}"), next, text)).collect();
        let bytes = Making::of(&documents).numbered(next).bytes();
        let canary = Canary { share: Share::Fraction(4_000), confirm_s: 600 };
        let canary = self.chance.percent(25).then_some(&canary);
        let asked =
            Apply { bundle: &bytes, what: "", canary, force: true, by: "op", stamping: None };
        match apply(&self.store.model, &asked, at(1)) {
            Ok(batch) => {
                (self.versions, self.documents) = (next, texts.len());
                if canary.is_some() && self.store.model.current().is_some() {
                    self.tried = texts;
                } else {
                    self.texts = texts;
                }
                self.commit(batch);
                true
            }
            Err(controller::Refusal::Policy(_) | controller::Refusal::NoCanary) => false,
            Err(other) => panic!("{other}"),
        }
    }

    /// What is tried is confirmed, or halted.
    fn decide(&mut self) -> bool {
        let open =
            self.store.model.rollout().is_some_and(controller::records::RolloutRecord::is_open);
        if open && self.chance.percent(50) {
            self.texts = self.tried.clone();
            self.commit(confirm(&self.store.model, at(1)).unwrap());
        } else if open {
            self.commit(halt(&self.store.model, "no").unwrap());
        }
        open
    }

    fn step(&mut self) {
        let ids: Vec<String> = self.store.model.hosts().map(|(id, _)| id.to_owned()).collect();
        if ids.is_empty() {
            return self.enrol();
        }
        let id = ids[self.chance.place(ids.len())].clone();
        match self.chance.below(7) {
            0 => self.enrol(),
            1 => {
                if let Ok(batch) = remove(&self.store.model, &id) {
                    self.commit(batch);
                }
            }
            2 => {
                let on = !self.store.model.host(&id).unwrap().quarantined;
                let batch = quarantine(&self.store.model, &id, on).unwrap();
                self.commit(batch);
            }
            3 => {
                if !self.decide() {
                    self.version();
                }
            }
            4 => {
                let number = self.chance.below(200);
                let count = self.chance.below(3);
                let mut wanted: Vec<Address> =
                    (0..count).map(|more| address(&mut self.chance, number + more)).collect();
                wanted.sort();
                wanted.dedup();
                if let Ok(batch) = orders::address(&self.store.model, &id, wanted) {
                    self.commit(batch);
                }
            }
            _ => {
                let had = self.store.model.host(&id).unwrap().labels;
                let gone = had.into_keys().map(|key| (key, None));
                let mut wanted: BTreeMap<String, Option<String>> = gone.collect();
                wanted.extend(labels(&mut self.chance).into_iter().map(|(k, v)| (k, Some(v))));
                let batch = label(&self.store.model, &id, &wanted).unwrap();
                self.commit(batch);
            }
        }
    }

    /// Compares what each host is sent with what it is sent by views that were made of the records just now, and that what
    /// leads from an earlier piece to the current one does.
    fn equal(&mut self) {
        let mut anew = Views::of(&self.store.model).unwrap();
        let ids: Vec<String> = self.store.model.hosts().map(|(id, _)| id.to_owned()).collect();
        for id in ids {
            let target = self.views.target(self.views.number(&id).unwrap()).unwrap();
            assert_eq!(anew.target(anew.number(&id).unwrap()).unwrap(), target, "{id}");
            let manifest = Manifest::decode(&*target.manifest).unwrap();
            let snapshot = manifest.snapshot.unwrap();
            let digest = Digest::read(&snapshot.digest).unwrap();
            let bytes = self.store.model.piece(&digest).unwrap();
            let held = self.held.insert((id.clone(), snapshot.name), (digest, bytes.to_vec()));
            if let Some((base, old)) = held
                && base != digest
            {
                let model = &self.store.model;
                let told = self.views.difference_of_snapshots(&base, &digest, model).unwrap();
                assert_eq!(patched(&old, &told, snapshot.bytes).unwrap(), *bytes);
                self.snapshots += 1;
            }
            for piece in manifest.members {
                let digest = Digest::read(&piece.digest).unwrap();
                let bytes = self.views.piece(&digest).unwrap();
                assert_eq!((Digest::of(&bytes), bytes.len() as u64), (digest, piece.bytes));
                assert_eq!(anew.piece(&digest).unwrap(), bytes);
                let held = self.held.insert((id.clone(), piece.name), (digest, bytes.to_vec()));
                let Some((base, old)) = held else { continue };
                if let Some(difference) = self.views.difference(&base, &digest) {
                    assert_eq!(patched(&old, &difference, bytes.len() as u64).unwrap(), *bytes);
                    self.differences += 1;
                }
            }
        }
    }

    /// Compares what each host is sent with everything there is.
    fn exact(&mut self) {
        self.equal();
        let whole = controller::inventory(&self.store.model);
        let texts = [self.texts.clone(), self.tried.clone()];
        let everything = texts.each_ref().map(|texts| {
            let names: Vec<String> = (0..texts.len()).map(|it| it.to_string()).collect();
            let sources: Vec<Source<'_>> = names
                .iter()
                .zip(texts)
                .map(|(name, text)| Source { name, bytes: text.as_bytes() })
                .collect();
            check(&sources, Some(&whole), at(1))
        });
        let failing = everything.each_ref().map(|checked| {
            if checked.diagnostics.has_errors() {
                return BTreeSet::new();
            }
            let results = run_tests(checked, &whole, at(1)).unwrap();
            let failed = results.into_iter().filter(|it| !it.passed);
            failed.map(|it| (it.file.parse().unwrap(), it.line)).collect::<BTreeSet<(usize, u32)>>()
        });
        let ids: Vec<String> = self.store.model.hosts().map(|(id, _)| id.to_owned()).collect();
        let mut addresses: Vec<Address> =
            whole.hosts().iter().flat_map(|host| host.addresses.clone()).collect();
        addresses.extend([0x0a00_0002, 0x0a00_0105, 0x0808_0808, 0x7f00_0001].map(Address::v4));
        addresses.extend([Address::LOOPBACK_V6, Address::v6([0x2001_0db8, 0, 1, 0])]);
        for id in ids {
            let target = self.views.target(self.views.number(&id).unwrap()).unwrap();
            let way = usize::from(target.trial);
            let (texts, everything, failing) = (&texts[way], &everything[way], &failing[way]);
            assert!(!everything.diagnostics.has_errors(), "{}", everything.short());
            let record = self.store.model.host(&id).unwrap();
            let manifest = Manifest::decode(&*target.manifest).unwrap();
            assert_eq!(manifest.quarantine, record.quarantined);
            if record.quarantined {
                continue;
            }
            let sent = Sent::read(&manifest, &target.me, &self.store.model, &mut self.views);
            let part = sent.inventory();
            let sources: Vec<Source<'_>> = sent
                .texts
                .iter()
                .zip(&sent.names)
                .map(|(text, name)| Source { name, bytes: text.as_bytes() })
                .collect();
            let policies = check(&sources, Some(&part), at(1));
            assert!(!policies.diagnostics.has_errors(), "{id}: {}", policies.short());
            self.said(&id, &policies, &part, texts, failing);
            let here = compile(&policies.policies, &Facts::new(&part, &id, &NoIdentities, at(1)));
            let here = here.unwrap();
            let there = Facts::new(&whole, &id, &NoIdentities, at(1));
            let there = compile(&everything.policies, &there).unwrap();
            for flow in flows(&record.addresses, &addresses) {
                let (here, there) = (decide(&flow, &here.now()), decide(&flow, &there.now()));
                assert_eq!(
                    (here.enforced.verdict, here.would.verdict),
                    (there.enforced.verdict, there.would.verdict),
                    "{id} version {} {flow:?}\n{}\nsent:\n{}",
                    target.version,
                    texts.join("---\n"),
                    sent.texts.join("---\n"),
                );
            }
        }
    }
}

impl World {
    /// What a host says of tests is so: whatever fails there fails where everything is known.
    fn said(
        &mut self,
        id: &str,
        policies: &Checked,
        part: &Inventory,
        texts: &[String],
        failing: &BTreeSet<(usize, u32)>,
    ) {
        let own = Own { host: id, addresses: &[], zero: at(0), front: &|_| Ok(()), shared: true };
        for result in run_tests_at(policies, part, &own, at(1)).unwrap() {
            // A host may have an earlier version of a document, with the same rules and other tests.
            let sent = policies.sources().iter().find(|(name, _)| *name == result.file).unwrap();
            let now = texts.iter().position(|text| *text == sent.1);
            let Some(place) = now else { continue };
            self.said[usize::from(!result.passed)] += 1;
            assert!(
                result.passed || failing.contains(&(place, result.line)),
                "{id} says that this fails: {}\n{}",
                result.line(),
                texts.join("---\n"),
            );
        }
    }
}

#[test]
fn what_a_host_is_sent_says_what_everything_says() {
    let (passed, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    seeds(40, |seed| {
        let mut world = World::begin(seed, true);
        for _ in 0..8 {
            world.step();
            world.exact();
        }
        passed.fetch_add(world.said[0], Ordering::Relaxed);
        failed.fetch_add(world.said[1], Ordering::Relaxed);
    });
    let (passed, failed) = (passed.into_inner(), failed.into_inner());
    assert!(100 < passed && 100 < failed, "hosts said much of tests: {passed} {failed}");
}

#[test]
fn what_is_kept_from_change_to_change_is_what_is_made_from_nothing() {
    let (mut some, mut all, mut differences, mut snapshots) = (0, 0, 0, 0);
    seeds(60, |seed| {
        let mut world = World::begin(seed, true);
        for _ in 0..12 {
            for _ in 0..world.chance.below(5) + 1 {
                world.step();
            }
            world.equal();
        }
        some += world.turns.0;
        all += world.turns.1;
        differences += world.differences;
        snapshots += world.snapshots;
    });
    if std::env::var_os("FWNET_SEED").is_none() {
        let counts = [some, all, differences, snapshots];
        assert!(counts.iter().all(|count| 50 < *count), "{counts:?}");
    }
}

#[test]
fn what_an_edit_of_one_of_many_documents_leaves_is_what_is_made_from_nothing() {
    let mut some = 0;
    seeds(8, |seed| {
        let (mut world, mut chance) = (World::new(seed), Chance::new(seed + 1_000));
        world.decide();
        let had = world.texts.iter().cloned();
        let mut documents: Vec<(u64, String)> =
            had.map(|text| (world.versions + 1, text)).collect();
        documents.resize(documents.len() + 12, (1, String::new()));
        for _ in 0..40 {
            let (which, before) = (chance.place(documents.len()), documents.clone());
            let (version, text) = &mut documents[which];
            *version += 1;
            let mut lines: Vec<String> = text.lines().map(|line| format!("{line}\n")).collect();
            if 3 < lines.len() {
                lines.remove(chance.place(lines.len()));
            }
            let (from, to) = (chance.of(SELECTORS), chance.of(SELECTORS));
            lines.push(format!("deny {from} -> {to} : tcp/{}\n", 80 + chance.below(3)));
            *text = lines.concat();
            let policies = (0..).zip(&documents);
            let policies =
                policies.map(|(at, (version, text))| policy(&format!("d{at}"), *version, text));
            let next = world.versions + 1;
            let bytes = Making::of(&policies.collect::<Vec<_>>()).numbered(next).bytes();
            let asked = Apply {
                bundle: &bytes,
                what: "",
                canary: None,
                force: true,
                by: "op",
                stamping: None,
            };
            match apply(&world.store.model, &asked, at(1)) {
                Ok(batch) => {
                    world.versions = next;
                    world.commit(batch);
                    world.equal();
                }
                Err(controller::Refusal::Policy(_)) => documents = before,
                Err(other) => panic!("{other}"),
            }
        }
        some += world.turns.0;
    });
    if std::env::var_os("FWNET_SEED").is_none() {
        assert!(150 < some, "{some}");
    }
}

#[test]
fn views_are_made_anew_when_what_is_kept_is_mostly_idle() {
    let mut world = World::new(7);
    let had = world.texts.clone();
    let rule = |at: usize| format!("deny 198.18.{}.{} -> role=web : tcp/7\n", at / 256, at % 256);
    for texts in [vec![(0..5_000).map(rule).collect::<String>()], vec![String::new()]] {
        let texts: Vec<String> = had.iter().cloned().chain(texts).collect();
        let next = world.versions + 1;
        let documents: Vec<_> =
            (0..).zip(&texts).map(|(at, text)| policy(&format!("d{at}"), next, text)).collect();
        let bytes = Making::of(&documents).numbered(next).bytes();
        let asked =
            Apply { bundle: &bytes, what: "", canary: None, force: true, by: "op", stamping: None };
        (world.versions, world.documents, world.texts) = (next, texts.len(), texts.clone());
        let batch = apply(&world.store.model, &asked, at(1)).unwrap();
        world.commit(batch);
        world.equal();
    }
    for _ in 0..20 {
        world.step();
        world.equal();
    }
}

/// Everything of a target that has hosts, by name: sections, too.
fn with_hosts(views: &mut Views, target: &HostTarget) -> BTreeMap<String, (Digest, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut more = Manifest::decode(&*target.manifest).unwrap().members;
    while let Some(piece) = more.pop() {
        let digest = Digest::read(&piece.digest).unwrap();
        let bytes = views.piece(&digest).unwrap();
        assert_eq!((Digest::of(&bytes), bytes.len() as u64), (digest, piece.bytes));
        let members = Members::decode(&*bytes).unwrap();
        assert!(members.hosts.is_empty() || members.sections.is_empty());
        assert_eq!(u32::try_from(members.sections.len()), Ok(piece.sections));
        more.extend(members.sections);
        found.insert(piece.name, (digest, bytes.to_vec()));
    }
    found
}

#[test]
fn of_many_hosts_a_few_sections_change_and_are_what_is_made_from_nothing() {
    let (mut store, mut chance) = (Store::default(), Chance::new(5));
    store.commit(found(&store.model, &root_bytes()).unwrap()).unwrap();
    let id = |number: u64| format!("x{number}");
    let role = |number: u64| if number < 3_900 { "web" } else { "db" };
    let record = |number: u64, role: &str| HostRecord {
        labels: [("role".to_owned(), role.to_owned())].into(),
        addresses: vec![Address::v4(0x0a00_0000 + u32::try_from(number).unwrap())],
        names: Vec::new(),
        certificate: Digest::of(b""),
        previous: None,
        enrolled_at: at(0),
        quarantined: false,
        since: 0,
    };
    let key = |number: u64| Key::Host(id(number)).text();
    let put = |number: u64, role: &str| Change {
        key: key(number),
        value: Some(encode(&record(number, role))),
    };
    store.model.apply((0..4_000).map(|number| put(number, role(number))).collect()).unwrap();
    let document = policy("d0", 1, "allow role=web -> role=db : tcp/5432\n");
    let bytes = Making::of(&[document]).numbered(1).bytes();
    let asked =
        Apply { bundle: &bytes, what: "", canary: None, force: true, by: "op", stamping: None };
    let batch = apply(&store.model, &asked, at(1)).unwrap();
    let pieces = batch.pieces.into_iter().chain(batch.put);
    let changes = pieces.map(|(key, value)| Change { key, value: Some(value) }).collect();
    store.model.apply(changes).unwrap();
    let mut views = Views::of(&store.model).unwrap();
    let target = |views: &mut Views| {
        let number = views.number(&id(3_999)).unwrap();
        views.target(number).unwrap()
    };
    let first = target(&mut views);
    let mut held = with_hosts(&mut views, &first);
    assert_eq!(held.len(), 5, "four sections and their list");
    let (mut kept, mut led) = (0, 0);
    for turn in 0..12 {
        // A few of them leave, come back, or are others; sometimes so many that there are fewer sections, or more.
        let count = if turn % 4 == 3 { 1_200 } else { 1 + chance.below(3) };
        let from = chance.below(2_600);
        let change = |number: u64| match (turn + number) % 3 {
            _ if turn == 3 => Change { key: key(number), value: None },
            0 => put(number, "cache"),
            _ => put(number, "web"),
        };
        let changes: Vec<Change> = (from..from + count).map(change).collect();
        let changed = store.model.apply(changes).unwrap();
        views.change(&store.model, &changed).unwrap();
        let (target_now, mut anew) = (target(&mut views), Views::of(&store.model).unwrap());
        assert_eq!(target(&mut anew), target_now);
        let now = with_hosts(&mut views, &target_now);
        assert_eq!(with_hosts(&mut anew, &target_now), now);
        for (name, (digest, bytes)) in &now {
            let Some((base, old)) = held.get(name) else { continue };
            kept += usize::from(base == digest);
            if let Some(difference) = views.difference(base, digest).filter(|_| base != digest) {
                assert_eq!(patched(old, &difference, bytes.len() as u64).unwrap(), *bytes);
                led += 1;
            }
        }
        held = now;
    }
    assert!(12 < kept && 12 < led, "{kept} {led}");
}
