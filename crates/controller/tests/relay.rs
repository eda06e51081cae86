//! What a relay remembers, and what it forgets.
#![cfg(test)]

use controller::{
    Digest, Relay,
    serving::{At, Effect, Link, Peer, Serve},
};
use jiff::Timestamp;
use prost::Message;
use wire::sync::{
    Assigned, Assignment, Beat, Carried, Decoder, Down, Downward, Hello, Manifest, Member, Members,
    Part, Piece, Up, Upward, Want,
};

fn at(ms: u64) -> At {
    At { wall: Timestamp::UNIX_EPOCH, ms }
}

fn certificate(number: u64) -> Digest {
    Digest::of(format!("certificate {number}").as_bytes())
}

/// A manifest of which every piece is its own.
fn manifest(number: u64) -> Vec<u8> {
    let piece = |name: &str| Piece {
        digest: Digest::of(format!("{name} {number}").as_bytes()).0.to_vec(),
        bytes: 5,
        name: format!("{name} {number}"),
        sections: 0,
    };
    Manifest {
        timestamp: Some(piece("timestamp")),
        snapshot: Some(piece("snapshot")),
        ..Manifest::default()
    }
    .encode_to_vec()
}

fn assignment(number: u64, manifest: &[u8]) -> Assignment {
    Assignment {
        host: format!("h{number}"),
        manifest: Digest::of(manifest).0.to_vec(),
        me: Member { id: format!("h{number}"), ..Member::default() }.encode_to_vec(),
        refused: String::new(),
    }
}

fn assigned(hosts: Vec<Assignment>, manifests: Vec<Vec<u8>>) -> Downward {
    Downward { say: Some(Down::Assigned(Assigned { hosts, manifests, ..Assigned::default() })) }
}

fn come(relay: &mut Relay, number: u64, now: At, out: &mut Vec<Effect>) -> Link {
    let id = format!("h{number}");
    let link = relay.opened(&Peer::Host { id, certificate: certificate(number) }, now, out);
    relay.said(link, Upward { say: Some(Up::Hello(Hello::default())) }, now, out);
    link
}

#[test]
fn hosts_that_are_gone_are_forgotten_with_what_was_theirs() {
    let (mut relay, mut out) = (Relay::new(Serve::default(), at(0)), Vec::new());
    relay.upstream_opened(&mut out);
    let mut ms = 0;
    let mut most = 0;
    // A thousand hosts, each for a moment, and one that stays.
    let staying = come(&mut relay, 0, at(ms), &mut out);
    let beat = || Upward { say: Some(Up::Beat(Beat::default())) };
    let stays = manifest(0);
    relay.heard(assigned(vec![assignment(0, &stays)], vec![stays]), at(ms), &mut out);
    for number in 1..=1_000 {
        ms += 1_000;
        let link = come(&mut relay, number, at(ms), &mut out);
        let own = manifest(number);
        relay.heard(assigned(vec![assignment(number, &own)], vec![own]), at(ms), &mut out);
        relay.closed(link);
        relay.said(staying, beat(), at(ms), &mut out);
        relay.tick(at(ms), &mut out);
        out.clear();
        most = most.max(relay.remembered().into_iter().max().unwrap());
    }
    assert!(most < 200, "those of some seventy seconds: {most}");
    for _ in 0..10 {
        ms += 10_000;
        relay.said(staying, beat(), at(ms), &mut out);
        relay.tick(at(ms), &mut out);
    }
    assert_eq!(relay.remembered(), [1, 1, 2], "the one that stays");
}

#[test]
fn a_manifest_that_was_forgotten_is_asked_for_again() {
    let (mut relay, mut out) = (Relay::new(Serve::default(), at(0)), Vec::new());
    relay.upstream_opened(&mut out);
    come(&mut relay, 1, at(0), &mut out);
    out.clear();
    // Whoever is above believes that it is here.
    relay.heard(assigned(vec![assignment(1, &manifest(1))], Vec::new()), at(0), &mut out);
    let carried: Vec<&Carried> = out
        .iter()
        .filter_map(|effect| {
            let Effect::Upstream(Upward { say: Some(Up::Carried(carried)) }) = effect else {
                return None;
            };
            Some(carried)
        })
        .collect();
    let [gone, came] = carried.as_slice() else { panic!("{carried:?}") };
    assert_eq!((gone.gone.as_slice(), gone.came.len()), (&["h1".to_owned()][..], 0));
    let [host] = came.came.as_slice() else { panic!("{came:?}") };
    assert_eq!((host.host.as_str(), &host.certificate), ("h1", &certificate(1).0.to_vec()));
}

#[test]
fn what_was_asked_for_elsewhere_is_asked_for_once_it_is_named_again() {
    let (mut relay, mut out) = (Relay::new(Serve::default(), at(0)), Vec::new());
    relay.upstream_opened(&mut out);
    let link = come(&mut relay, 1, at(0), &mut out);
    let own = manifest(1);
    let stamp = Digest::of(b"timestamp 1").0.to_vec();
    relay.heard(assigned(vec![assignment(1, &own)], vec![own.clone()]), at(0), &mut out);
    assert_eq!(asked(&mut out), Vec::<Vec<u8>>::new());
    let want = Want { digest: stamp.clone(), base: Vec::new(), offset: 0 };
    relay.said(link, Upward { say: Some(Up::Want(want)) }, at(0), &mut out);
    assert_eq!(asked(&mut out), std::slice::from_ref(&stamp));
    relay.upstream_closed();
    relay.upstream_opened(&mut out);
    // Whoever is above now does not know whose hosts these are.
    assert_eq!(asked(&mut out), Vec::<Vec<u8>>::new());
    relay.heard(assigned(vec![assignment(1, &own)], vec![own]), at(0), &mut out);
    assert_eq!(asked(&mut out), [stamp]);
}

/// What a relay asks for above.
fn asked(out: &mut Vec<Effect>) -> Vec<Vec<u8>> {
    let upward = |effect: Effect| {
        let Effect::Upstream(Upward { say: Some(Up::Want(want)) }) = effect else { return None };
        Some(want.digest)
    };
    out.drain(..).filter_map(upward).collect()
}

fn part(bytes: &[u8]) -> Downward {
    let digest = Digest::of(bytes).0.to_vec();
    let total = bytes.len() as u64;
    Downward {
        say: Some(Down::Part(Part { digest, total, bytes: bytes.to_vec(), ..Part::default() })),
    }
}

#[test]
fn a_relay_passes_on_sections_of_its_own_hosts_and_learns_of_them_by_what_lists_them() {
    let (mut relay, mut out) = (Relay::new(Serve::default(), at(0)), Vec::new());
    relay.upstream_opened(&mut out);
    let piece = |name: &str, bytes: &[u8], sections: u32| Piece {
        digest: Digest::of(bytes).0.to_vec(),
        bytes: bytes.len() as u64,
        name: name.to_owned(),
        sections,
    };
    let set = |id: &str| {
        let host = Member { id: id.to_owned(), ..Member::default() };
        Members { hosts: vec![host], ..Members::default() }.encode_to_vec()
    };
    let sections = [set("a"), set("b"), set("c")];
    let list = |of: &[Vec<u8>]| {
        let sections = of.iter().map(|it| piece("hosts/0", it, 0)).collect();
        Members { sections, ..Members::default() }.encode_to_vec()
    };
    let lists = [list(&sections[..2]), list(&sections[2..])];
    let manifests = lists.each_ref().map(|list| {
        let members = vec![piece("hosts", list, 2)];
        Manifest { members, ..Manifest::default() }.encode_to_vec()
    });
    let links = [1, 2].map(|number| come(&mut relay, number, at(0), &mut out));
    let hosts = (1..).zip(&manifests).map(|(number, it)| assignment(number, it)).collect();
    relay.heard(assigned(hosts, manifests.to_vec()), at(0), &mut out);
    for link in links {
        relay.written(link, at(0), &mut out);
    }
    out.clear();
    let want = |relay: &mut Relay, link: Link, bytes: &[u8], out: &mut Vec<Effect>| {
        let digest = Digest::of(bytes).0.to_vec();
        let want = Want { digest, base: Vec::new(), offset: 0 };
        relay.said(link, Upward { say: Some(Up::Want(want)) }, at(0), out);
    };
    let answers = |out: &[Effect]| -> Vec<Part> {
        let answer = |effect: &Effect| {
            let Effect::Send { frame, .. } = effect else { return None };
            let frame = frame.to_vec();
            let said = Decoder::default().next::<Downward>(&mut frame.as_slice()).unwrap();
            let Some(Down::Part(part)) = said?.say else { return None };
            Some(part)
        };
        out.iter().filter_map(answer).collect()
    };
    // Whether it is one of the host's is known when the list is here.
    want(&mut relay, links[0], &sections[1], &mut out);
    assert_eq!(asked(&mut out), [Digest::of(&lists[0]).0]);
    relay.heard(part(&lists[0]), at(0), &mut out);
    assert_eq!(asked(&mut out), [Digest::of(&sections[1]).0]);
    relay.heard(part(&sections[1]), at(0), &mut out);
    let [answer] = answers(&out).try_into().unwrap();
    assert_eq!((answer.bytes, answer.lost), (sections[1].clone(), false));
    out.clear();
    // The other host has another list, and gets nothing of this one.
    relay.written(links[1], at(0), &mut out);
    want(&mut relay, links[1], &sections[1], &mut out);
    assert_eq!(asked(&mut out), [Digest::of(&lists[1]).0]);
    relay.heard(part(&lists[1]), at(0), &mut out);
    let [answer] = answers(&out).try_into().unwrap();
    assert!(answer.lost && answer.bytes.is_empty());
}
