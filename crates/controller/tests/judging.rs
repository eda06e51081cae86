//! Who comes in and gets what, by a controller that may not have heard of everything yet.

#![cfg(test)]

#[path = "support/enrolled.rs"]
mod enrolled;
#[path = "support/fleet.rs"]
#[expect(dead_code, reason = "other tests ask for more")]
mod fleet;
#[path = "support/people.rs"]
mod people;
#[path = "support/swap.rs"]
mod swap;

use std::collections::BTreeMap;

use controller::{
    Batch, Controller, Digest, Settings,
    orders::{label, remove, renew},
    records::{Key, RelayRecord, Who, encode},
    serving::{Link, Peer},
};
use fleet::{Fleet, id, labels};
use prost::Message;
use verdict::Address;
use wire::sync::{Assigned, Came, Carried, Down, Manifest, Members, Part, Up};

use crate::enrolled::enrolled;

const BASE: &str = "default allow in\ndeny any -> 192.0.2.1 : any\n";
const DB: &str = "allow role=web -> role=db : tcp/5432\n";

/// Web, database, cache, log; it was shown a moment ago that all is known.
fn served(hosts: usize) -> Fleet {
    let mut fleet = Fleet::new(hosts, Settings::default());
    fleet.apply(1, &[("base", 1, BASE), ("db", 1, DB)], None);
    prove(&mut fleet);
    fleet
}

/// The store is shown to hold nothing that is not known here; a moment passes.
fn prove(fleet: &mut Fleet) {
    fleet.ms += 1;
    let mut out = Vec::new();
    fleet.controller.proven(fleet.ms, fleet.now(), &mut out);
    fleet.carry_out(out);
    fleet.ms += 1;
}

fn open(fleet: &mut Fleet, peer: &Peer) -> Link {
    let mut out = Vec::new();
    let link = fleet.controller.opened(peer, fleet.now(), &mut out);
    fleet.carry_out(out);
    link
}

/// The store says that somebody was enrolled.
fn enrol(fleet: &mut Fleet, number: usize) {
    let address = Address::v4(0x0a00_0001 + u32::try_from(number).unwrap());
    let put = enrolled(&id(number), labels(number), address).to_vec();
    fleet.commit(Batch { put, ..Batch::default() });
}

fn relay(certificate: &str) -> Peer {
    Peer::Relay { name: "r1".to_owned(), certificate: Digest::of(certificate.as_bytes()) }
}

fn enrol_relay(fleet: &mut Fleet, certificate: &str) {
    let certificate = Digest::of(certificate.as_bytes());
    let record = RelayRecord { certificate, previous: None, enrolled_at: people::at(0) };
    let put = vec![(Key::Relay("r1".to_owned()).text(), encode(&record))];
    fleet.commit(Batch { put, ..Batch::default() });
}

fn renew_relay(fleet: &mut Fleet, shown: &str, next: &str) {
    let who = Who::Relay("r1".to_owned());
    let [shown, next] = [shown, next].map(|it| Digest::of(it.as_bytes()));
    let batch = renew(fleet.controller.model(), &who, shown, next).unwrap();
    fleet.commit(batch);
}

/// A relay carries hosts, by number.
fn carry(fleet: &mut Fleet, link: Link, numbers: &[usize]) {
    let came = |number: &usize| Came {
        host: id(*number),
        certificate: Digest::of(id(*number).as_bytes()).0.to_vec(),
    };
    let came = numbers.iter().map(came).collect();
    fleet.say(link, Up::Carried(Carried { came, gone: Vec::new() }));
}

/// What was said since this was last asked.
fn said(fleet: &mut Fleet) -> Vec<Down> {
    std::mem::take(&mut fleet.told).into_iter().filter_map(|(_, said)| said.say).collect()
}

fn assigned(fleet: &mut Fleet) -> Assigned {
    match said(fleet).as_slice() {
        [Down::Assigned(assigned)] => assigned.clone(),
        other => panic!("{other:?}"),
    }
}

fn refusals(fleet: &mut Fleet) -> Vec<String> {
    let said = said(fleet).into_iter();
    said.map(|said| {
        let Down::Refused(refused) = said else { panic!("{said:?}") };
        refused.why
    })
    .collect()
}

#[test]
fn who_is_unknown_is_refused_once_nobody_can_know_of_it() {
    let mut fleet = served(2);
    fleet.connect(2, b"");
    let other = Peer::Host { id: id(1), certificate: Digest::of(b"another") };
    open(&mut fleet, &other);
    open(&mut fleet, &relay("r"));
    assert_eq!(said(&mut fleet), [], "that may only not have been heard of");
    // What was shown before it came says nothing of it.
    let mut out = Vec::new();
    fleet.controller.proven(fleet.ms, fleet.now(), &mut out);
    fleet.carry_out(out);
    assert_eq!(said(&mut fleet), []);
    prove(&mut fleet);
    let mut why = refusals(&mut fleet);
    why.sort();
    assert_eq!(
        why,
        [
            "`h0000002` is not enrolled",
            "the certificate of `h0000001` was replaced or revoked",
            "the relay `r1` is not enrolled",
        ]
    );
    assert_eq!((fleet.controller.connections(), fleet.controller.counts().refused), (0, 3));
    assert_eq!(fleet.controller.counts().put_off, 0);
}

#[test]
fn who_was_enrolled_or_renewed_a_moment_ago_is_served_once_that_is_heard_of() {
    let mut fleet = served(2);
    let new = fleet.connect(2, b"");
    let renewed = Peer::Host { id: id(1), certificate: Digest::of(b"renewed") };
    let link = open(&mut fleet, &renewed);
    fleet.links.insert(link, 1);
    fleet.say(link, Up::Hello(wire::sync::Hello::default()));
    enrol(&mut fleet, 2);
    let first = Digest::of(id(1).as_bytes());
    let who = Who::Host(id(1));
    let next = Digest::of(b"renewed");
    let batch = renew(fleet.controller.model(), &who, first, next).unwrap();
    fleet.commit(batch);
    prove(&mut fleet);
    assert_eq!(fleet.targets().into_keys().collect::<Vec<_>>(), [1, 2]);
    assert_eq!(fleet.controller.connections(), 2);
    // Until it is removed: what came to be known once stays known.
    let batch = remove(fleet.controller.model(), &id(2)).unwrap();
    fleet.commit(batch);
    assert_eq!(fleet.closed, [(new, "its certificate is worth nothing any more")]);
    said(&mut fleet);
    fleet.connect(2, b"");
    prove(&mut fleet);
    assert_eq!(refusals(&mut fleet), ["`h0000002` is not enrolled"]);
}

#[test]
fn where_the_store_says_nothing_who_is_unknown_is_put_off() {
    let mut fleet = served(2);
    fleet.connect(2, b"");
    fleet.pass(1_500);
    assert_eq!(said(&mut fleet), []);
    fleet.pass(1_500);
    match said(&mut fleet).as_slice() {
        [Down::Later(later)] => assert_eq!(later.after_ms, 1_000, "{later:?}"),
        other => panic!("{other:?}"),
    }
    let counts = fleet.controller.counts();
    assert_eq!((counts.put_off, counts.refused, fleet.controller.connections()), (1, 0, 0));
    // So are those of a crowd that never ends, at once.
    for _ in 0..2_000 {
        open(&mut fleet, &relay("r"));
    }
    assert_eq!(fleet.controller.connections(), 1_024);
    assert_eq!(said(&mut fleet).len(), 2_000 - 1_024);
}

#[test]
fn a_relay_that_was_not_known_when_it_came_comes_again() {
    let mut fleet = served(2);
    let link = open(&mut fleet, &relay("first"));
    carry(&mut fleet, link, &[0, 1]);
    enrol_relay(&mut fleet, "first");
    prove(&mut fleet);
    match said(&mut fleet).as_slice() {
        [Down::Later(later)] => assert_eq!(later.after_ms, 0, "{later:?}"),
        other => panic!("{other:?}"),
    }
    let link = open(&mut fleet, &relay("first"));
    carry(&mut fleet, link, &[0, 1]);
    prove(&mut fleet);
    assert_eq!(assigned(&mut fleet).hosts.len(), 2);
}

#[test]
fn a_host_at_a_relay_that_is_unknown_waits_there() {
    let mut fleet = served(2);
    enrol_relay(&mut fleet, "first");
    let link = open(&mut fleet, &relay("first"));
    carry(&mut fleet, link, &[0, 2, 3]);
    prove(&mut fleet);
    let first = assigned(&mut fleet);
    let refused: BTreeMap<String, String> =
        first.hosts.iter().map(|it| (it.host.clone(), it.refused.clone())).collect();
    assert_eq!(refused[&id(0)], "");
    assert_eq!(refused[&id(2)], "`h0000002` is not enrolled");
    carry(&mut fleet, link, &[2]);
    assert_eq!(said(&mut fleet), []);
    enrol(&mut fleet, 2);
    prove(&mut fleet);
    let told = assigned(&mut fleet);
    let [host] = told.hosts.as_slice() else { panic!("{told:?}") };
    assert_eq!((host.host.clone(), host.refused.as_str()), (id(2), ""));
}

#[test]
fn a_relay_goes_with_a_certificate_that_was_replaced_twice() {
    let mut fleet = served(2);
    enrol_relay(&mut fleet, "first");
    let old = open(&mut fleet, &relay("first"));
    renew_relay(&mut fleet, "first", "second");
    let new = open(&mut fleet, &relay("second"));
    assert_eq!(fleet.closed, [], "the one before is good until it is replaced again");
    renew_relay(&mut fleet, "second", "third");
    assert_eq!(fleet.closed, [(old, "its certificate is worth nothing any more")]);
    fleet.commit(Batch { remove: vec![Key::Relay("r1".to_owned()).text()], ..Batch::default() });
    assert_eq!(fleet.closed[1..], [(new, "its certificate is worth nothing any more")]);
}

#[test]
fn a_leader_knows_of_relays_at_other_controllers() {
    let (mut leader, mut other) = (served(4), served(4));
    for fleet in [&mut leader, &mut other] {
        enrol_relay(fleet, "first");
    }
    let line = open(&mut leader, &Peer::Controller { name: "c1".to_owned() });
    other.controller.upstream_opened();
    assert_eq!(relays_told(&mut leader, line, &mut other), []);
    let link = open(&mut other, &relay("first"));
    carry(&mut other, link, &[1, 2]);
    assert_eq!(relays_told(&mut leader, line, &mut other), [("r1".to_owned(), 2)]);
    // On another line everything is news.
    other.controller.upstream_closed();
    leader.controller.closed(line);
    assert_eq!(leader.controller.status(leader.now()).relays, []);
    let line = open(&mut leader, &Peer::Controller { name: "c1".to_owned() });
    other.controller.upstream_opened();
    assert_eq!(relays_told(&mut leader, line, &mut other), [("r1".to_owned(), 2)]);
    other.controller.closed(link);
    assert_eq!(relays_told(&mut leader, line, &mut other), []);
}

/// Tells a leader what another controller has to say; the relays it knows of then, as the other one does.
fn relays_told(leader: &mut Fleet, line: Link, other: &mut Fleet) -> Vec<(String, usize)> {
    other.pass(100);
    for said in std::mem::take(&mut other.upward) {
        leader.say(line, said.say.unwrap());
    }
    let [known, there] = [leader, other].map(|it| it.controller.status(it.now()).relays);
    assert_eq!(known, there);
    known
}

#[test]
fn a_relay_gets_pieces_of_its_own_hosts_and_no_others() {
    let mut fleet = served(8);
    enrol_relay(&mut fleet, "first");
    // A web host, which is connected here, must know the databases; a cache at a relay need not.
    fleet.connect(0, b"");
    prove(&mut fleet);
    let target = fleet.targets().remove(&0).unwrap();
    let secret = Manifest::decode(&*target.manifest).unwrap().members.remove(0).digest;
    let link = open(&mut fleet, &relay("first"));
    carry(&mut fleet, link, &[2]);
    prove(&mut fleet);
    let own = assigned(&mut fleet).manifests.remove(0);
    let own = Manifest::decode(&*own).unwrap();
    let wants = |fleet: &mut Fleet, digest: &[u8]| -> Part {
        fleet.want(link, digest, b"", 0);
        fleet.written(link);
        match said(fleet).pop() {
            Some(Down::Part(part)) => part,
            other => panic!("{other:?}"),
        }
    };
    let foreign = |controller: &Controller| controller.counts().foreign;
    assert!(!wants(&mut fleet, &own.timestamp.unwrap().digest).lost);
    assert_eq!(foreign(&fleet.controller), 0);
    let part = wants(&mut fleet, &secret);
    assert!(part.lost && part.bytes.is_empty());
    assert_eq!(foreign(&fleet.controller), 1);
    // Once the host there is one that needs it, the relay gets it.
    let web = BTreeMap::from([("role".to_owned(), Some("web".to_owned()))]);
    let batch = label(fleet.controller.model(), &id(2), &web).unwrap();
    fleet.commit(batch);
    said(&mut fleet);
    let part = wants(&mut fleet, &secret);
    assert_eq!(Members::decode(&*part.bytes).unwrap().hosts.len(), 2);
    // And for a while after that host has left.
    let gone = vec![id(2)];
    fleet.say(link, Up::Carried(Carried { came: Vec::new(), gone }));
    assert!(!wants(&mut fleet, &secret).lost);
    for _ in 0..61 {
        fleet.pass(1_000);
    }
    said(&mut fleet);
    assert!(wants(&mut fleet, &secret).lost);
    assert_eq!(foreign(&fleet.controller), 2);
}
