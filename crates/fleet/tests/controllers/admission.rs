//! Who gets in and what they may do there: tokens, certificates, and those who try what is not their business.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use fleet::{
    api::{
        ENROL, Enrolled, Enrolling, RENEW, Renewed, Renewing,
        client::{CallError, Client},
        orders::{Enroll, Hosts, Quarantine, Revoked, Token},
    },
    join,
    joining::{self, JoinError, Joined},
};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use tokio::time::sleep;

use crate::{
    people::root_text,
    running::{Fleet, PATIENCE, host, of, refused},
};

fn request() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
    STANDARD.encode(request.der())
}

#[track_caller]
fn unjoined(joined: Result<Joined, JoinError>, code: u16) -> String {
    match joined {
        Err(JoinError::Call(error)) => refused(Err::<(), _>(error), code),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_host_joins_once_and_is_what_the_operator_said() {
    let fleet = Fleet::new("joins").await;
    let mut enroll = host("web-1");
    enroll.labels = BTreeMap::from([("role".to_owned(), "web".to_owned())]);
    enroll.addresses = vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
    enroll.names = vec!["www".to_owned()];
    let token = fleet.token(enroll.clone()).await;
    assert_eq!(fleet.hosts().await.awaited.len(), 1);
    let Joined { membership, root: brought } = joining::join(&token).await.unwrap();
    assert_eq!(membership.id, "web-1");
    assert_eq!(brought, root_text().into_bytes());
    assert_eq!(membership.root, blake3::hash(&brought).to_hex().to_string());
    let hosts = fleet.hosts().await;
    assert!(hosts.awaited.is_empty());
    let [found] = hosts.hosts.as_slice() else { panic!("{hosts:?}") };
    assert_eq!((&found.labels, &found.addresses), (&enroll.labels, &enroll.addresses));
    assert_eq!((found.id.as_str(), found.names.as_slice()), ("web-1", &["www".to_owned()][..]));
    // Once.
    let why = unjoined(joining::join(&token).await, 403);
    assert!(why.contains("the token is not valid"), "{why}");
    // Who is enrolled is not enrolled again by accident.
    let again: Result<Token, _> = fleet.operator.post("/v1/fleet/tokens", &host("web-1")).await;
    refused(again, 409);
    // Loopback is nobody's address.
    fleet.host("web-2").await;
    assert!(fleet.hosts().await.hosts[1].addresses.is_empty());
    // An address is one host's.
    let mut thief = host("thief");
    thief.addresses = vec!["::ffff:192.0.2.1".parse().unwrap()];
    let taken: Result<Token, _> = fleet.operator.post("/v1/fleet/tokens", &thief).await;
    assert!(refused(taken, 409).contains("web-1"));
}

#[tokio::test]
async fn tokens_that_are_expired_another_s_or_made_up_are_refused() {
    let fleet = Fleet::new("tokens").await;
    let short = fleet.token(Enroll { valid_s: 1, ..host("late") }).await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut why = String::new();
    while !why.contains("expired") {
        assert!(tokio::time::Instant::now() < deadline, "{why}");
        let seen = fleet.hosts().await;
        let expired = seen.awaited.iter().all(|(_, until)| *until <= Timestamp::now());
        if expired {
            why = unjoined(joining::join(&short).await, 403);
        }
        sleep(Duration::from_millis(20)).await;
    }
    let token = fleet.token(host("web-1")).await;
    // The secret of one is not that of another, nor is it one that was guessed.
    for subject in ["fwnet:host/web-2", "fwnet:relay/web-1", "fwnet:host/never"] {
        let other = join::Token { subject: subject.parse().unwrap(), ..token.clone() };
        unjoined(joining::join(&other).await, 403);
    }
    let guessed = join::Token { secret: join::Secret::random(), ..token.clone() };
    unjoined(joining::join(&guessed).await, 403);
    // Nobody enrols as more than they are.
    let anybody = fleet.client(None);
    for subject in ["fwnet:operator/eve", "fwnet:controller/eve", "fwnet:host/../x", "eve"] {
        let body = Enrolling {
            subject: subject.to_owned(),
            secret: STANDARD.encode(token.secret.0),
            request: request(),
        };
        refused(anybody.post::<Enrolled>(ENROL, &body).await, 422);
    }
    for body in [
        Enrolling {
            subject: token.subject.to_string(),
            secret: "%".to_owned(),
            request: request(),
        },
        Enrolling {
            subject: token.subject.to_string(),
            secret: STANDARD.encode(token.secret.0),
            request: STANDARD.encode([0x30, 0x80]),
        },
    ] {
        refused(anybody.post::<Enrolled>(ENROL, &body).await, 422);
    }
    // A controller of another fleet, or another root, is not believed.
    let other = Fleet::new("tokens-other").await;
    let astray = join::Token { endpoints: vec![other.address().to_string()], ..token.clone() };
    let nobody = joining::join(&astray).await.unwrap_err();
    assert!(matches!(nobody, JoinError::Call(CallError::Nobody(_))), "{nobody}");
    assert_eq!(fleet.hosts().await.hosts.len(), 0);
    // After all that the token is still good.
    joining::join(&token).await.unwrap();
    let misled = join::Token { root: [9; 32], ..fleet.token(host("web-3")).await };
    let other_root = joining::join(&misled).await.unwrap_err();
    assert!(matches!(other_root, JoinError::Other("root")), "{other_root}");
}

#[tokio::test]
async fn certificates_follow_each_other_and_the_ones_before_are_worth_nothing() {
    let fleet = Fleet::new("renew").await;
    let first = fleet.host("web-1").await.membership;
    let second = joining::renew(&first).await.unwrap();
    assert_ne!(first.certificate, second.certificate);
    assert_ne!(first.key, second.key);
    // An answer that was lost: the one before may ask again.
    let third = joining::renew(&first).await.unwrap();
    let fourth = joining::renew(&third).await.unwrap();
    // Superseded.
    for old in [&second, &first] {
        let asked = fleet.client(Some(&of(old)));
        let answer = asked.post::<Renewed>(RENEW, &Renewing { request: request() }).await;
        assert!(refused(answer, 403).contains("replaced or revoked"));
    }
    // Enrolled again: whatever was before is worth nothing.
    let token = fleet.token(Enroll { again: true, ..host("web-1") }).await;
    joining::renew(&fourth).await.unwrap();
    let fresh = joining::join(&token).await.unwrap().membership;
    for old in [&third, &fourth] {
        assert!(joining::renew(old).await.is_err());
    }
    let fresh = joining::renew(&fresh).await.unwrap();
    // Removed.
    let delete = hyper::Method::DELETE;
    let removed = fleet.operator.call(delete.clone(), "/v1/fleet/hosts/web-1", None::<&()>);
    let () = removed.await.unwrap();
    let asked = fleet.client(Some(&of(&fresh)));
    refused(asked.post::<Renewed>(RENEW, &Renewing { request: request() }).await, 404);
    // A certificate of the authority for a host that nobody enrolled.
    let never = fleet.client(Some(&fleet.identity("fwnet:host/never")));
    refused(never.post::<Renewed>(RENEW, &Renewing { request: request() }).await, 404);
    let nobody = fleet.client(None);
    refused(nobody.post::<Renewed>(RENEW, &Renewing { request: request() }).await, 403);
    let operator = &fleet.operator;
    refused(operator.post::<Renewed>(RENEW, &Renewing { request: request() }).await, 403);
    // The same for relays.
    let relay = Enroll { subject: "fwnet:relay/r1".to_owned(), ..host("") };
    let relay = joining::join(&fleet.token(relay).await).await.unwrap().membership;
    let relay = joining::renew(&relay).await.unwrap();
    fleet.operator.call::<()>(delete, "/v1/fleet/relays/r1", None::<&()>).await.unwrap();
    assert!(joining::renew(&relay).await.is_err());
}

async fn everything<T: DeserializeOwned + std::fmt::Debug>(client: &Client, code: u16) {
    let get = ["/v1/fleet/hosts", "/v1/fleet/versions", "/v1/fleet/versions/1"];
    for path in get {
        refused(client.get::<T>(path).await, code);
    }
    let labels = BTreeMap::from([("role".to_owned(), Some("db".to_owned()))]);
    refused(client.post::<T>("/v1/fleet/hosts/web-1/labels", &labels).await, code);
    let addresses = ["192.0.2.66"];
    refused(client.post::<T>("/v1/fleet/hosts/web-1/addresses", &addresses).await, code);
    let quarantine = Quarantine { quarantined: true };
    refused(client.post::<T>("/v1/fleet/hosts/web-2/quarantine", &quarantine).await, code);
    refused(client.post::<T>("/v1/fleet/tokens", &host("eve")).await, code);
    for path in ["/v1/fleet/versions", "/v1/fleet/confirm", "/v1/fleet/rollback"] {
        refused(client.post::<T>(path, &()).await, code);
    }
    for path in ["/v1/fleet/hosts/web-2", "/v1/fleet/relays/r1"] {
        refused(client.call::<T>(hyper::Method::DELETE, path, None::<&()>).await, code);
    }
}

#[tokio::test]
async fn only_operators_give_orders() {
    let fleet = Fleet::new("orders").await;
    let web = fleet.host("web-1").await.membership;
    fleet.host("web-2").await;
    let before = fleet.hosts().await;
    everything::<serde_json::Value>(&fleet.client(Some(&of(&web))), 403).await;
    everything::<serde_json::Value>(&fleet.client(None), 403).await;
    for subject in ["fwnet:relay/r1", "fwnet:controller/c9", "fwnet:host/admin"] {
        let identity = fleet.identity(subject);
        everything::<serde_json::Value>(&fleet.client(Some(&identity)), 403).await;
    }
    assert_eq!(fleet.hosts().await, before);
    // Nor does an operator of another fleet.
    let other = Fleet::new("orders-other").await;
    let eve = other.identity("fwnet:operator/eve");
    let answer = fleet.client(Some(&eve)).get::<Hosts>("/v1/fleet/hosts").await;
    assert!(matches!(answer, Err(CallError::Lost { .. } | CallError::Nobody(_))), "{answer:?}");
    // And an operator does not turn up in somebody else's path.
    let odd = fleet.operator.get::<serde_json::Value>("/v1/fleet/hosts/../tokens").await;
    assert!(matches!(odd, Err(CallError::Refused { status: 404 | 405, .. })), "{odd:?}");
    let labels = BTreeMap::from([("role", Some("db"))]);
    let path = "/v1/fleet/hosts/web-1/labels";
    fleet.operator.post::<()>(path, &labels).await.unwrap();
    assert_eq!(fleet.hosts().await.hosts[0].labels["role"], "db");
}

#[tokio::test]
async fn an_operator_who_is_revoked_is_refused_at_once_and_may_be_one_again() {
    let fleet = Fleet::new("revoked").await;
    let eve = fleet.client(Some(&fleet.identity("fwnet:operator/eve")));
    let other = fleet.client(Some(&fleet.identity("fwnet:operator/eve-2")));
    eve.get::<Hosts>("/v1/fleet/hosts").await.unwrap();
    let all = "/v1/fleet/operators";
    assert_eq!(fleet.operator.get::<Vec<Revoked>>(all).await.unwrap(), []);
    fleet.operator.post::<()>("/v1/fleet/operators/eve/revoke", &()).await.unwrap();
    everything::<serde_json::Value>(&eve, 403).await;
    let why = refused(eve.get::<Hosts>("/v1/fleet/hosts").await, 403);
    assert!(why.contains("revoked by anna"), "{why}");
    // She cannot take it back, nor do it to others.
    refused(eve.post::<()>("/v1/fleet/operators/anna/revoke", &()).await, 403);
    other.get::<Hosts>("/v1/fleet/hosts").await.unwrap();
    let listed = fleet.operator.get::<Vec<Revoked>>(all).await.unwrap();
    let [Revoked { operator, until, by }] = listed.as_slice() else { panic!("{listed:?}") };
    assert_eq!((operator.as_str(), by.as_str()), ("eve", "anna"));
    // What is made afterwards is good; times are whole seconds.
    while Timestamp::now().as_second() <= until.as_second() {
        sleep(Duration::from_millis(20)).await;
    }
    let eve = fleet.client(Some(&fleet.identity("fwnet:operator/eve")));
    eve.get::<Hosts>("/v1/fleet/hosts").await.unwrap();
    let odd = fleet.operator.post::<()>("/v1/fleet/operators/a%20b/revoke", &()).await;
    refused(odd, 422);
}

#[tokio::test]
async fn what_is_too_long_is_not_read() {
    let fleet = Fleet::new("long").await;
    let long = Enrolling {
        subject: "fwnet:host/web-1".to_owned(),
        secret: String::new(),
        request: "A".repeat(100 << 10),
    };
    let answer = fleet.client(None).post::<Enrolled>(ENROL, &long).await;
    // The answer may be lost where the rest of the request is not read.
    assert!(
        matches!(
            answer,
            Err(CallError::Refused { .. } | CallError::Lost { .. } | CallError::Form(_))
        ),
        "{answer:?}"
    );
    fleet.host("web-1").await;
}
