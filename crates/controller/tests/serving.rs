//! What a controller says to whom, and what it costs.

#![cfg(test)]

#[path = "support/enrolled.rs"]
mod enrolled;
#[path = "support/fleet.rs"]
mod fleet;
#[path = "support/people.rs"]
mod people;
#[path = "support/swap.rs"]
mod swap;

use std::collections::{BTreeMap, BTreeSet};

use controller::{
    Batch, Digest, Lagging, Settings,
    orders::{Canary, confirm, label, quarantine, remove},
    records::{Key, RolloutState, Share},
    serving::{Link, Peer, Serve},
};
use fleet::{Fleet, id, labels};
use prost::Message;
use wire::sync::{
    Difference, Down, Hello, Manifest, Members, PART_BYTES_MAX, Part, Piece, Stage, Up, patched,
};

const BASE: &str = "default allow in\ndeny any -> 192.0.2.1 : any\n";
const DB: &str = "allow role=web -> role=db : tcp/5432\n";

fn served(hosts: usize) -> Fleet {
    let mut fleet = Fleet::new(hosts, Settings::default());
    fleet.apply(1, &[("base", 1, BASE), ("db", 1, DB)], None);
    fleet
}

/// Every host connects; what each is told.
fn all(fleet: &mut Fleet, hosts: usize) -> BTreeMap<usize, Vec<u8>> {
    for number in 0..hosts {
        fleet.connect(number, b"");
    }
    let told = fleet.targets();
    assert_eq!(told.len(), hosts);
    let digests: BTreeMap<usize, Vec<u8>> =
        told.into_iter().map(|(number, target)| (number, target.digest().to_vec())).collect();
    realise(fleet, &digests);
    digests
}

fn realise(fleet: &mut Fleet, digests: &BTreeMap<usize, Vec<u8>>) {
    for (link, number) in fleet.links.clone() {
        fleet.written(link);
        if let Some(digest) = digests.get(&number) {
            fleet.progress(link, digest, Stage::Enforced, "");
        }
    }
}

#[test]
fn a_connected_host_costs_less_than_300_bytes() {
    let hosts = 20_000;
    let mut fleet = served(hosts);
    let empty = fleet.controller.serving_bytes();
    all(&mut fleet, hosts);
    let each = (fleet.controller.serving_bytes() - empty) / hosts;
    assert!(each <= 300, "{each} bytes");
    assert!(100 < each, "{each} bytes: something is not counted");
}

#[test]
fn who_has_it_already_hears_32_bytes() {
    let mut fleet = served(8);
    let digests = all(&mut fleet, 8);
    let sent = fleet.controller.counts().bytes_sent;
    // It comes again, as after a network that was away: the newer connection counts.
    let before: Vec<_> = fleet.links.keys().copied().collect();
    let link = fleet.connect(3, &digests[&3]);
    let told = fleet.targets();
    assert_eq!(told[&3].same, digests[&3]);
    assert!(told[&3].manifest.is_empty());
    assert!(fleet.controller.counts().bytes_sent - sent < 60);
    assert_eq!(fleet.closed.len(), 1);
    assert!(before.contains(&fleet.closed[0].0));
    assert_eq!(fleet.controller.connections(), 8);
    let status = fleet.controller.status(fleet.now());
    assert!(status.all_realised(), "{status:?}");
    let _ = link;
}

#[test]
fn a_relabel_and_a_rule_touch_whom_they_concern_and_nobody_else() {
    let hosts = 400;
    let mut fleet = served(hosts);
    all(&mut fleet, hosts);
    let of = |wanted: &[&str]| -> BTreeSet<usize> {
        let is = |number: &usize| wanted.contains(&labels(*number)["role"].as_str());
        (0..hosts).filter(is).collect()
    };
    // A cache becomes a database: all web hosts must know of it, and nobody else.
    let relabel = BTreeMap::from([("role".to_owned(), Some("db".to_owned()))]);
    let batch = label(fleet.controller.model(), &id(2), &relabel).unwrap();
    let before = fleet.controller.retargets();
    fleet.commit(batch);
    let told: BTreeSet<usize> = fleet.targets().into_keys().collect();
    let mut wanted = of(&["web"]);
    wanted.insert(2);
    assert_eq!(told, wanted);
    assert_eq!(fleet.controller.retargets() - before, wanted.len() as u64);
    // A label that no policy asks for: the host itself.
    let aside = BTreeMap::from([("owner".to_owned(), Some("anna".to_owned()))]);
    let batch = label(fleet.controller.model(), &id(7), &aside).unwrap();
    fleet.commit(batch);
    assert_eq!(fleet.targets().into_keys().collect::<Vec<_>>(), [7]);
    // A rule for logs and caches: those, and not the host that is none any more.
    let more = format!("{DB}allow role=log -> role=cache : tcp/1\n");
    fleet.apply(2, &[("base", 1, BASE), ("db", 2, &more)], None);
    let told: BTreeSet<usize> = fleet.targets().into_keys().collect();
    let mut wanted = of(&["log", "cache"]);
    wanted.remove(&2);
    assert_eq!(told, wanted);
    // A rule that is everybody's.
    let base = format!("{BASE}deny any -> 192.0.2.2 : any\n");
    fleet.apply(3, &[("base", 2, &base), ("db", 2, &more)], None);
    assert_eq!(fleet.targets().len(), hosts);
}

/// What the first host should have.
fn manifest(fleet: &mut Fleet) -> Manifest {
    let target = fleet.targets().remove(&0).unwrap();
    Manifest::decode(&*target.manifest).unwrap()
}

/// What was just sent.
fn part(fleet: &mut Fleet, link: Link) -> Part {
    let (_, said) = fleet.told.pop().unwrap();
    fleet.written(link);
    let Some(Down::Part(part)) = said.say else { panic!("{said:?}") };
    part
}

/// The bytes of a piece, and in how many parts they came.
fn whole(fleet: &mut Fleet, link: Link, piece: &Piece) -> (Vec<u8>, usize) {
    let (mut bytes, mut parts) = (Vec::new(), 0);
    while (bytes.len() as u64) < piece.bytes {
        fleet.want(link, &piece.digest, b"", bytes.len() as u64);
        let part = part(fleet, link);
        assert_eq!((part.offset, part.total), (bytes.len() as u64, piece.bytes));
        let ends = (bytes.len() + part.bytes.len()) as u64 == part.total;
        assert!(part.bytes.len() == PART_BYTES_MAX || ends);
        bytes.extend(part.bytes);
        parts += 1;
    }
    assert_eq!(blake3::hash(&bytes).as_bytes().as_slice(), piece.digest);
    (bytes, parts)
}

#[test]
fn pieces_come_in_parts_and_as_differences() {
    let hosts = 20_000;
    let mut fleet = Fleet::new(hosts, Settings::default());
    let line = |number: u32| format!("deny any -> 192.0.{}.{} : any\n", number / 250, number % 250);
    let long: String = (0..6_000).map(line).collect();
    fleet.apply(1, &[("base", 1, BASE), ("db", 1, DB), ("long", 1, &long)], None);
    let link = fleet.connect(0, b"");
    let first = manifest(&mut fleet);
    let large = first.documents.iter().find(|it| PART_BYTES_MAX as u64 <= it.bytes).unwrap();
    assert!(1 < whole(&mut fleet, link, large).1);
    // Many hosts are a list of sections, and those.
    let [set] = first.members.as_slice() else { panic!("{:?}", first.members) };
    let listed = Members::decode(&*whole(&mut fleet, link, set).0).unwrap().sections;
    assert!(3 < listed.len() && u32::try_from(listed.len()) == Ok(set.sections));
    let of = |piece| Members::decode(&*whole(&mut fleet, link, piece).0).unwrap().hosts;
    let mut ids: Vec<String> = listed.iter().flat_map(of).map(|host| host.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), hosts / 4);
    // Somebody becomes a database: what changed is all that is sent.
    let relabel = BTreeMap::from([("role".to_owned(), Some("db".to_owned()))]);
    let batch = label(fleet.controller.model(), &id(2), &relabel).unwrap();
    fleet.commit(batch);
    let second = manifest(&mut fleet);
    assert_eq!(second.members[0].name, set.name);
    fleet.want(link, &second.members[0].digest, &set.digest, 0);
    let part_of = part(&mut fleet, link);
    assert_eq!(part_of.base, set.digest);
    let told = Difference::decode(&*part_of.bytes).unwrap();
    let [section] = told.sections.as_slice() else { panic!("{told:?}") };
    assert_eq!((told.put.len(), told.gone.len(), told.sections_gone.len()), (0, 0, 0));
    let before = listed.iter().find(|it| it.name == section.name).unwrap();
    fleet.want(link, &section.digest, &before.digest, 0);
    let part_of = part(&mut fleet, link);
    assert_eq!(part_of.base, before.digest);
    let Difference { put, gone, .. } = Difference::decode(&*part_of.bytes).unwrap();
    assert_eq!((put.len(), put[0].id.clone(), gone.len()), (1, id(2), 0));
    // A section that the new list does not name is none of its own any more.
    fleet.want(link, &before.digest, b"", 0);
    assert!(part(&mut fleet, link).lost);
    // What is no piece of what it should have is lost, whoever has it.
    fleet.want(link, &[9; 32], b"", 0);
    assert!(part(&mut fleet, link).lost);
    fleet.want(link, &set.digest, b"", 0);
    assert!(part(&mut fleet, link).lost);
    fleet.pass(2_500);
    assert_eq!(fleet.targets().len(), 0);
    // What is one and nobody has is lost too, and the host is told again what it should have.
    let stamp = second.timestamp.unwrap().digest;
    let key = Key::Piece(Digest(stamp.clone().try_into().unwrap()), 0);
    fleet.commit(Batch { remove: vec![key.text()], ..Batch::default() });
    fleet.want(link, &stamp, b"", 0);
    assert!(part(&mut fleet, link).lost);
    fleet.pass(2_500);
    assert_eq!(fleet.targets().len(), 1);
}

#[test]
fn of_a_new_snapshot_the_lines_that_differ_are_sent() {
    let mut fleet = Fleet::new(4, Settings::default());
    fleet.apply(1, &[("base", 1, BASE), ("db", 1, DB)], None);
    let link = fleet.connect(0, b"");
    let before = manifest(&mut fleet).snapshot.unwrap();
    let old = whole(&mut fleet, link, &before).0;
    let base = format!("{BASE}deny any -> 192.0.2.2 : any\n");
    fleet.apply(2, &[("base", 2, &base), ("db", 1, DB)], None);
    let second = manifest(&mut fleet);
    let (now, document) = (second.snapshot.unwrap(), second.documents[0].digest.clone());
    fleet.want(link, &now.digest, &before.digest, 0);
    let led = part(&mut fleet, link);
    assert_eq!(led.base, before.digest);
    let new = patched(&old, &led.bytes, now.bytes).unwrap();
    assert_eq!(blake3::hash(&new).as_bytes().as_slice(), now.digest);
    assert_eq!(whole(&mut fleet, link, &now).0, new);
    // From what nobody has no difference leads there, nor from what is no snapshot.
    for base in [vec![9; 32], document] {
        fleet.want(link, &now.digest, &base, 0);
        assert!(part(&mut fleet, link).base.is_empty());
    }
}

#[test]
fn nonsense_strangers_and_silence_end_connections() {
    let mut fleet = served(4);
    let link = fleet.connect(0, b"");
    fleet.say(link, Up::Hello(Hello::default()));
    assert_eq!(fleet.closed.pop().unwrap().1, "it said hello again");
    let link = fleet.connect(0, b"");
    fleet.say(link, Up::Carried(wire::sync::Carried::default()));
    assert_eq!(fleet.closed.pop().unwrap().1, "a host spoke for others");
    let link = fleet.connect(0, b"");
    fleet.want(link, b"short", b"", 0);
    assert_eq!(fleet.closed.pop().unwrap().1, "it wants what is no piece");
    assert_eq!(fleet.controller.counts().nonsense, 3);
    // Another's certificate, and somebody who is nobody.
    for peer in [
        Peer::Host { id: id(1), certificate: Digest::of(b"other") },
        Peer::Host { id: "nobody".to_owned(), certificate: Digest::of(b"nobody") },
        Peer::Relay { name: "r".to_owned(), certificate: Digest::of(b"r") },
    ] {
        let (now, mut out) = (fleet.now(), Vec::new());
        fleet.controller.opened(&peer, now, &mut out);
        fleet.carry_out(out);
        assert_eq!(fleet.closed.pop().unwrap().1, "it is not enrolled");
        let (_, said) = fleet.told.pop().unwrap();
        assert!(matches!(said.say, Some(Down::Refused(_))), "{said:?}");
    }
    // Who says no hello, and who says nothing more.
    let peer = Peer::Host { id: id(2), certificate: Digest::of(id(2).as_bytes()) };
    let now = fleet.now();
    fleet.controller.opened(&peer, now, &mut Vec::new());
    fleet.connect(3, b"");
    fleet.pass(11_000);
    assert_eq!(fleet.closed.pop().unwrap().1, "it said no hello");
    fleet.pass(20_000);
    assert_eq!(fleet.closed.pop().unwrap().1, "it has said nothing for three beats");
    assert_eq!(fleet.controller.connections(), 0);
    // A host that is removed must go, and its certificate is worth nothing any more.
    fleet.connect(1, b"");
    let batch = remove(fleet.controller.model(), &id(1)).unwrap();
    fleet.commit(batch);
    assert_eq!(fleet.controller.connections(), 0);
}

#[test]
fn who_is_one_too_many_is_told_to_come_later() {
    let serve = Serve { connections_max: 2, ..Serve::default() };
    let mut fleet = Fleet::new(3, Settings { serve, ..Settings::default() });
    fleet.connect(0, b"");
    fleet.connect(1, b"");
    fleet.told.clear();
    fleet.connect(2, b"");
    let (_, said) = fleet.told.pop().unwrap();
    assert!(matches!(said.say, Some(Down::Later(_))), "{said:?}");
    assert_eq!(fleet.controller.connections(), 2);
}

#[test]
fn a_slow_host_hears_the_newest_and_nothing_between() {
    let mut fleet = served(4);
    let link = fleet.connect(0, b"");
    fleet.targets();
    // More than may lie unsent.
    let big = Manifest::decode(&*{
        fleet.written(link);
        fleet.connect(0, b"");
        fleet.targets().remove(&0).unwrap().manifest
    });
    let link = *fleet.links.keys().next_back().unwrap();
    let snapshot = big.unwrap().snapshot.unwrap();
    while fleet.controller.counts().bytes_sent < 600_000 {
        let sent = fleet.controller.counts().parts_sent;
        fleet.want(link, &snapshot.digest, b"", 0);
        if fleet.controller.counts().parts_sent == sent {
            break;
        }
    }
    fleet.told.clear();
    for version in 2..5 {
        let base = format!("{BASE}deny any -> 192.0.2.{version} : any\n");
        fleet.apply(version, &[("base", version, &base), ("db", 1, DB)], None);
        assert!(fleet.targets().is_empty(), "there is no room");
    }
    fleet.written(link);
    assert_eq!(fleet.targets().len(), 1);
}

fn tried(share: Share) -> (Fleet, BTreeMap<usize, Vec<u8>>) {
    let mut fleet = served(40);
    let before = all(&mut fleet, 40);
    for beat in 0..2 {
        fleet.ms += 1_000 * beat;
        for link in fleet.links.keys().copied().collect::<Vec<_>>() {
            let digest = before[&fleet.links[&link]].clone();
            fleet.beat(link, &digest, beat);
        }
    }
    let canary = Canary { share, confirm_s: 600 };
    let base = format!("{BASE}deny any -> 192.0.2.2 : any\n");
    fleet.apply(2, &[("base", 2, &base), ("db", 1, DB)], Some(&canary));
    let told = fleet.targets();
    let told = told.into_iter().map(|(number, target)| (number, target.digest().to_vec()));
    (fleet, told.collect())
}

fn link_of(fleet: &Fleet, number: usize) -> Link {
    *fleet.links.iter().find(|(_, of)| **of == number).unwrap().0
}

fn why(fleet: &Fleet) -> String {
    match &fleet.controller.model().rollout().unwrap().state {
        RolloutState::Halted(why) => why.clone(),
        other @ (RolloutState::Canary | RolloutState::Done) => format!("{other:?}"),
    }
}

#[test]
fn a_version_that_a_host_refuses_is_halted() {
    let (mut fleet, told) = tried(Share::Fraction(1_000));
    assert_eq!(told.len(), 4, "10 % of 40");
    let (number, digest) = told.first_key_value().unwrap();
    let link = link_of(&fleet, *number);
    fleet.progress(link, digest, Stage::Refused, "it does not fit");
    fleet.pass(100);
    assert_eq!(why(&fleet), format!("{} refuses it: it does not fit", id(*number)));
    // All who tried it are to have what was before.
    assert_eq!(
        fleet.targets().into_keys().collect::<Vec<_>>(),
        told.into_keys().collect::<Vec<_>>()
    );
}

#[test]
fn a_version_that_denies_too_much_is_halted() {
    let (mut fleet, told) = tried(Share::Count(2));
    for (number, digest) in &told {
        let link = link_of(&fleet, *number);
        fleet.progress(link, digest, Stage::Trial, "");
        fleet.pass(1_000);
        fleet.beat(link, digest, 5);
    }
    fleet.pass(1_000);
    assert!(fleet.controller.model().rollout().unwrap().is_open(), "{}", why(&fleet));
    let (number, digest) = told.last_key_value().unwrap();
    let link = link_of(&fleet, *number);
    fleet.beat(link, digest, 5_000);
    fleet.pass(100);
    assert!(why(&fleet).starts_with(&format!("{} denies ", id(*number))), "{}", why(&fleet));
}

#[test]
fn a_version_whose_hosts_are_lost_is_halted() {
    let (mut fleet, told) = tried(Share::Fraction(5_000));
    assert_eq!(told.len(), 20);
    let silent: BTreeSet<usize> = told.keys().copied().take(3).collect();
    for _ in 0..40 {
        for (number, digest) in told.iter().filter(|(number, _)| !silent.contains(number)) {
            if let Some((&link, _)) = fleet.links.iter().find(|(_, of)| *of == number) {
                fleet.progress(link, digest, Stage::Trial, "");
            }
        }
        fleet.pass(1_000);
    }
    assert!(why(&fleet).starts_with("3 of 20 hosts that try it are lost"), "{}", why(&fleet));
}

#[test]
fn a_version_that_nobody_confirms_is_halted_and_one_that_is_is_everybodys() {
    let (mut fleet, told) = tried(Share::Selector("role=web & rack=r0".to_owned()));
    assert_eq!(told.len(), 10);
    for (number, digest) in &told {
        let link = link_of(&fleet, *number);
        fleet.progress(link, digest, Stage::Trial, "");
    }
    let status = fleet.controller.status(fleet.now());
    let of = |version| status.versions.iter().find(|it| it.version == version).unwrap();
    assert_eq!((of(1).hosts, of(2).hosts, of(2).realised), (30, 10, 10));
    let batch = confirm(fleet.controller.model(), fleet.now().wall).unwrap();
    fleet.commit(batch);
    let targets = fleet.targets();
    assert_eq!(targets.len(), 40);
    let trial = |manifest: &[u8]| Manifest::decode(manifest).unwrap().confirm_within_s;
    assert!(targets.values().all(|target| trial(&target.manifest) == 0));
    let (mut fleet, _) = tried(Share::Count(1));
    for _ in 0..700 {
        for link in fleet.links.keys().copied().collect::<Vec<_>>() {
            fleet.beat(link, b"", 0);
        }
        fleet.pass(1_000);
    }
    assert_eq!(why(&fleet), "nobody confirmed it in time");
}

#[test]
fn a_host_that_is_shut_off_is_told_so_and_others_forget_it() {
    let mut fleet = served(8);
    all(&mut fleet, 8);
    let batch = quarantine(fleet.controller.model(), &id(1), true).unwrap();
    fleet.commit(batch);
    let told = fleet.targets();
    assert_eq!(told.keys().copied().collect::<Vec<_>>(), [0, 1, 4], "the host, and the web hosts");
    let manifest = Manifest::decode(&*told[&1].manifest).unwrap();
    assert!(manifest.quarantine);
    let status = fleet.controller.status(fleet.now());
    assert_eq!(status.quarantined, [id(1)]);
    assert!(status.laggards.iter().all(|it| it.state == Lagging::Told), "{status:?}");
}
