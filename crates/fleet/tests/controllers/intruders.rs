//! Those who have a certificate and try what is not their business: they are told nothing that does not concern them,
//! nobody takes their word for another's, and a certificate that is worth nothing any more ends what it began.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use fleet::{
    api::{ENROL, Enrolled, Enrolling, orders::Enroll},
    joining::{self, Joined},
    subject::{Shown, Subject},
    tls::Identity,
};
use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use wire::sync::{
    Beat, Came, Carried, Down, Gathered, Part, Progress, RelayAt, Relays, Said, Stage, Up,
};

use crate::{
    line::{Heard, Line},
    running::{Fleet, PATIENCE, apply, host, of},
};

const SHOP: &str = "deny role=web -> role=db : tcp/22 reason=\"no shell\"\n";
const OPS: &str = "deny role=cache -> role=ops : tcp/22 reason=\"no shell\"\n";

async fn enrolled(fleet: &Fleet, id: &str, role: &str, last: u8) -> Joined {
    let mut enroll = host(id);
    enroll.labels = BTreeMap::from([("role".to_owned(), role.to_owned())]);
    enroll.addresses = vec![std::net::Ipv4Addr::new(192, 0, 2, last).into()];
    joining::join(&fleet.token(enroll).await).await.unwrap()
}

/// A fleet of three hosts, and a policy of which one part is about two of them and the other about the third.
async fn shop(name: &str) -> (Fleet, [Identity; 3]) {
    let fleet = Fleet::new(name).await;
    let mut members = Vec::new();
    for (id, role, last) in [("web-1", "web", 1), ("db-1", "db", 2), ("ops-1", "ops", 3)] {
        members.push(of(&enrolled(&fleet, id, role, last).await.membership));
    }
    apply(&fleet.operator, 1, &[("shop", SHOP), ("ops", OPS)]).await;
    (fleet, members.try_into().unwrap())
}

async fn status(fleet: &Fleet) -> Value {
    fleet.operator.get("/v1/fleet/status").await.unwrap()
}

/// What the fleet says of a host that has not what it should have; `None` if it has.
async fn lagging(fleet: &Fleet, id: &str) -> Option<String> {
    let status = status(fleet).await;
    let laggards = status["laggards"].as_array().unwrap().iter();
    let mut of = laggards.filter(|it| it["host"] == id);
    of.next().map(|it| it["state"].as_str().unwrap().to_owned())
}

async fn until_lagging(fleet: &Fleet, id: &str, expected: Option<&str>) {
    let deadline = Instant::now() + PATIENCE;
    while lagging(fleet, id).await.as_deref() != expected {
        assert!(Instant::now() < deadline, "{id} is not {expected:?}: {}", status(fleet).await);
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_host_gets_the_pieces_of_its_own_policy_and_no_others() {
    let (fleet, [web, _, ops]) = shop("pieces").await;
    let mut curious = Line::hello(&web, fleet.address()).await;
    let (_, own) = curious.target().await;
    let mut other = Line::hello(&ops, fleet.address()).await;
    let (_, others) = other.target().await;
    let documents = |manifest: &wire::sync::Manifest| -> Vec<Vec<u8>> {
        manifest.documents.iter().map(|piece| piece.digest.clone()).collect()
    };
    assert_eq!((own.documents.len(), others.documents.len()), (1, 1));
    assert_ne!(documents(&own), documents(&others));
    // What a part says of a piece that nobody has.
    let never = curious.want(&[0xee; 32]).await;
    let unknown = |digest: &[u8]| Part { digest: digest.to_vec(), ..never.clone() };
    assert!(never.lost && never.bytes.is_empty() && never.total == 0, "{never:?}");
    let foreign = others.documents.iter().chain(&others.members);
    let foreign: Vec<_> = foreign.filter(|it| !own.members.contains(it)).collect();
    assert!(!foreign.is_empty());
    for piece in foreign {
        assert_eq!(curious.want(&piece.digest).await, unknown(&piece.digest));
        // Not because it is not there.
        let part = other.want(&piece.digest).await;
        assert_eq!(blake3::hash(&part.bytes).as_bytes()[..], piece.digest[..]);
    }
    // Nor is one's own withheld afterwards.
    let single = own.timestamp.iter().chain(&own.snapshot);
    for piece in own.roots.iter().chain(single).chain(&own.documents).chain(&own.members) {
        let part = curious.want(&piece.digest).await;
        assert!(!part.lost && part.total == piece.bytes, "{part:?}");
    }
    // Nor is anything answered before it has been told what it is to have.
    let mut silent = Line::open(&web, fleet.address()).await;
    silent
        .say(Up::Want(wire::sync::Want { digest: vec![0; 32], base: Vec::new(), offset: 0 }))
        .await;
    silent.ends().await;
    // What is another's only now may have been its own a moment ago, and is not any more.
    let labels = BTreeMap::from([("role", Some("cache"))]);
    fleet.operator.post::<()>("/v1/fleet/hosts/web-1/labels", &labels).await.unwrap();
    let mut curious = Line::hello(&web, fleet.address()).await;
    let (_, next) = curious.target().await;
    assert_eq!(documents(&next), documents(&others));
    assert_eq!(curious.want(&own.documents[0].digest).await, unknown(&own.documents[0].digest));
}

#[tokio::test]
async fn nobody_speaks_for_another_host() {
    let (fleet, [web, db, _]) = shop("another").await;
    let came = || Came { host: "db-1".to_owned(), certificate: vec![7; 32] };
    let beat = Beat { denied: 1 << 40, ..Beat::default() };
    let said = || Said { host: "db-1".to_owned(), progress: None, beat: Some(beat.clone()) };
    // As a relay would.
    for say in [
        Up::Carried(Carried { came: vec![came()], gone: Vec::new() }),
        Up::Gathered(Gathered { said: vec![said()] }),
        Up::Relays(Relays { relays: vec![RelayAt { name: "r1".to_owned(), hosts: 9 }] }),
    ] {
        let mut line = Line::hello(&web, fleet.address()).await;
        line.target().await;
        line.say(say).await;
        line.ends().await;
    }
    assert_eq!(lagging(&fleet, "db-1").await.as_deref(), Some("not-connected"));
    // With the target of another: it counts for nobody.
    let mut known = Line::hello(&db, fleet.address()).await;
    let (target, _) = known.target().await;
    let progress = Progress {
        target: target.digest().to_vec(),
        stage: Stage::Enforced.into(),
        ..Progress::default()
    };
    let mut line = Line::hello(&web, fleet.address()).await;
    line.target().await;
    line.say(Up::Progress(progress.clone())).await;
    // Everything before an answer has been heard.
    assert!(line.want(&[1; 32]).await.lost);
    assert_eq!(lagging(&fleet, "db-1").await.as_deref(), Some("told"));
    assert_eq!(lagging(&fleet, "web-1").await.as_deref(), Some("told"));
    // One's own word counts.
    known.say(Up::Progress(progress)).await;
    until_lagging(&fleet, "db-1", None).await;

    // A relay has hosts only by their certificates, and says nothing of those that it does not have.
    let relay = Enroll { subject: "fwnet:relay/r1".to_owned(), ..host("") };
    let relay = of(&joining::join(&fleet.token(relay).await).await.unwrap().membership);
    let mut relay = Line::open(&relay, fleet.address()).await;
    let refusing = Progress {
        target: target.digest().to_vec(),
        stage: Stage::Refused.into(),
        why: "the relay says so".to_owned(),
        ..Progress::default()
    };
    let gathered =
        vec![Said { host: "db-1".to_owned(), progress: Some(refusing), beat: Some(beat) }];
    relay.say(Up::Gathered(Gathered { said: gathered })).await;
    relay.say(Up::Carried(Carried { came: vec![came()], gone: vec!["db-1".to_owned()] })).await;
    match relay.hear().await {
        Heard::Said(Down::Assigned(assigned)) => {
            let [one] = assigned.hosts.as_slice() else { panic!("{assigned:?}") };
            assert!(one.refused.contains("replaced or revoked") && one.manifest.is_empty());
            assert!(assigned.manifests.is_empty(), "{assigned:?}");
        }
        other @ (Heard::Said(_) | Heard::End) => panic!("{other:?}"),
    }
    assert_eq!(lagging(&fleet, "db-1").await, None);
    assert!(!known.want(&[1; 32]).await.bytes.contains(&1));
    // Nor is it a host itself.
    relay.say(Up::Beat(Beat::default())).await;
    relay.ends().await;
}

#[tokio::test]
async fn labels_names_and_addresses_are_nobody_s_own_to_say() {
    let fleet = Fleet::new("own").await;
    let token = fleet.token(host("web-1")).await;
    let key = rcgen::KeyPair::generate().unwrap();
    // A request that asks to be an operator, and an authority.
    let mut wishes = rcgen::CertificateParams::default();
    let operator = "fwnet:operator/eve".to_owned().try_into().unwrap();
    wishes.subject_alt_names = vec![rcgen::SanType::URI(operator)];
    wishes.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let request = STANDARD.encode(wishes.serialize_request(&key).unwrap().der());
    let secret = STANDARD.encode(token.secret.0);
    let subject = token.subject.to_string();
    let anybody = fleet.client(None);
    for (field, value) in [("labels", json!({"role": "db"})), ("addresses", json!(["192.0.2.9"]))] {
        let mut body = json!({"subject": subject, "secret": secret, "request": request});
        body[field] = value;
        // The answer is a sentence of the parser's, and no enrolment.
        let answer = anybody.post::<Enrolled>(ENROL, &body).await;
        assert!(answer.is_err(), "{answer:?}");
    }
    let body = Enrolling { subject, secret, request };
    let enrolled: Enrolled = anybody.post(ENROL, &body).await.unwrap();
    let certificate = CertificateDer::from_pem_slice(enrolled.certificate.as_bytes()).unwrap();
    assert_eq!(Shown::read(&certificate).unwrap().subject, "fwnet:host/web-1".parse().unwrap());
    let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).unwrap();
    assert!(!parsed.is_ca());
    let [found] = fleet.hosts().await.hosts.try_into().unwrap();
    assert!(found.labels.is_empty() && found.addresses.is_empty(), "{found:?}");
}

/// The line ends soon, and so does a new one, whatever is said on it.
async fn is_cut_off(mut line: Line, identity: &Identity, fleet: &Fleet) {
    loop {
        if let Heard::End = timeout(PATIENCE, line.hear()).await.unwrap() {
            break;
        }
    }
    let why = Line::hello(identity, fleet.address()).await.ends().await;
    assert!(why.contains("replaced or revoked") || why.contains("not enrolled"), "{why}");
}

#[tokio::test]
async fn a_certificate_that_is_worth_nothing_any_more_ends_its_line() {
    let (fleet, [_, db, _]) = shop("worthless").await;
    let first = enrolled(&fleet, "web-2", "web", 4).await.membership;
    let mut line = Line::hello(&of(&first), fleet.address()).await;
    line.target().await;
    // The next one may be shown, and this one still.
    let second = joining::renew(&first).await.unwrap();
    let mut newer = Line::hello(&of(&second), fleet.address()).await;
    newer.target().await;
    // A host has one line: the one before has gone.
    while !matches!(line.hear().await, Heard::End) {}
    let mut line = Line::hello(&of(&first), fleet.address()).await;
    line.target().await;
    // Superseded.
    let third = joining::renew(&second).await.unwrap();
    is_cut_off(line, &of(&first), &fleet).await;
    // Enrolled again: nothing of before is good.
    let mut line = Line::hello(&of(&third), fleet.address()).await;
    line.target().await;
    let again = fleet.token(Enroll { again: true, ..host("web-2") }).await;
    let fresh = joining::join(&again).await.unwrap().membership;
    is_cut_off(line, &of(&third), &fleet).await;
    is_cut_off(Line::open(&of(&second), fleet.address()).await, &of(&second), &fleet).await;
    // Removed.
    let mut line = Line::hello(&of(&fresh), fleet.address()).await;
    let mut other = Line::hello(&db, fleet.address()).await;
    other.target().await;
    drop(line.hear().await);
    let removed =
        fleet.operator.call(hyper::Method::DELETE, "/v1/fleet/hosts/web-2", None::<&()>).await;
    let () = removed.unwrap();
    is_cut_off(line, &of(&fresh), &fleet).await;
    // Nobody else's has ended.
    assert!(other.want(&[9; 32]).await.lost);
}

#[tokio::test]
async fn a_certificate_that_has_expired_lets_nobody_in_and_nobody_stay() {
    let fleet = Fleet::new("expired").await;
    let subject: Subject = "fwnet:controller/c9".parse().unwrap();
    let issue = |from: i64, seconds: u64| {
        let from = Timestamp::now() + SignedDuration::from_secs(from);
        let lifetime = Duration::from_secs(seconds);
        fleet.house.authority.issue(&subject, from, lifetime).unwrap()
    };
    // Another controller's: nobody enrols those, so that it is the time alone that counts.
    let mut short = Line::open(&issue(0, 4), fleet.address()).await;
    let began = Instant::now();
    assert!(matches!(short.hear().await, Heard::End));
    assert!(began.elapsed() <= Duration::from_secs(5), "{:?}", began.elapsed());
    let late = Line::open(&issue(-100, 50), fleet.address()).await;
    assert_eq!(late.ends().await, "");
}

#[tokio::test]
async fn garbage_and_frames_that_are_too_long_end_the_line_of_who_sends_them() {
    let (fleet, [web, db, _]) = shop("garbage").await;
    let mut good = Line::hello(&db, fleet.address()).await;
    good.target().await;
    for bytes in
        [&[0, 0, 0, 3, 0xff, 0xff, 0xff][..], &[0xff; 64], &[0, 4, 0, 1], b"GET / HTTP/1.1\r\n\r\n"]
    {
        let mut line = Line::hello(&web, fleet.address()).await;
        line.target().await;
        line.write(bytes).await;
        line.ends().await;
        let mut line = Line::open(&web, fleet.address()).await;
        line.write(bytes).await;
        line.ends().await;
    }
    // More at once than anybody needs.
    let mut line = Line::hello(&web, fleet.address()).await;
    line.target().await;
    line.write(b"\0\0\0\x02\x0a\0").await;
    line.ends().await;
    assert!(good.want(&[3; 32]).await.lost);
    let mut line = Line::hello(&web, fleet.address()).await;
    line.target().await;
}
