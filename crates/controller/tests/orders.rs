//! What operators ask for, against a store that compares and swaps.
#![cfg(test)]

#[path = "support/people.rs"]
mod people;
#[path = "support/store.rs"]
mod store;
#[path = "support/swap.rs"]
mod swap;

use std::collections::BTreeMap;

use controller::{
    Digest, Refusal,
    orders::{
        Apply, Canary, Enrol, Keep, Stamping, address, apply, collect, confirm, enrol, found, halt,
        idle, label, quarantine, raise, redeem, remove, renew, renew_timestamp, timestamp_due,
    },
    records::{Pick, RolloutState, Share, Who},
};
use jiff::SignedDuration;
use people::{Making, at, key, policy, root_bytes};
use store::Store;
use swap::Conflict;
use verdict::Address;
use wire::{Bundle, Envelope, Root};

const TEXT: &str = "deny role=web -> 192.0.2.0/24 : any\n";

fn host(id: &str) -> Who {
    Who::Host(id.to_owned())
}

fn labels(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split_whitespace().filter_map(|it| it.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn asked(id: &str, secret: &str) -> Enrol {
    Enrol {
        who: host(id),
        labels: labels("role=web"),
        addresses: Vec::new(),
        names: Vec::new(),
        again: false,
        secret: Digest::of(secret.as_bytes()),
        valid_s: 3_600,
        by: "op".to_owned(),
    }
}

fn v4(last: u32) -> Address {
    Address::v4(0x0a00_0000 + last)
}

fn store() -> Store {
    let mut store = Store::default();
    store.commit(found(&store.model, &root_bytes()).unwrap()).unwrap();
    store
}

fn enrolled(store: &mut Store, id: &str, last: u32) {
    store.commit(enrol(&store.model, &asked(id, "s"), at(0)).unwrap()).unwrap();
    let order =
        redeem(&store.model, &host(id), b"s", Digest::of(id.as_bytes()), Some(v4(last)), at(0));
    store.commit(order.unwrap()).unwrap();
}

fn bundle<'a>(bundle: &'a [u8]) -> Apply<'a> {
    Apply { bundle, what: "", canary: None, force: false, by: "op", stamping: None }
}

#[test]
fn a_token_is_redeemed_once_and_in_time() {
    let mut store = store();
    store.commit(enrol(&store.model, &asked("web-1", "s"), at(0)).unwrap()).unwrap();
    let certificate = Digest::of(b"one");
    let bring = |store: &Store, secret: &[u8], hour| {
        redeem(&store.model, &host("web-1"), secret, certificate, Some(v4(7)), at(hour))
    };
    assert!(matches!(bring(&store, b"wrong", 0), Err(Refusal::Token)));
    assert!(matches!(bring(&store, b"s", 1), Err(Refusal::Expired(_))));
    let other = redeem(&store.model, &host("web-2"), b"s", certificate, None, at(0));
    assert!(matches!(other, Err(Refusal::Token)));
    // Two controllers hear it at the same time: one wins.
    let (one, two) = (bring(&store, b"s", 0).unwrap(), bring(&store, b"s", 0).unwrap());
    store.commit(one).unwrap();
    assert_eq!(store.commit(two), Err(Conflict("token/host/web-1".to_owned())));
    assert!(matches!(bring(&store, b"s", 0), Err(Refusal::Token)));
    let known = store.model.host("web-1").unwrap();
    assert_eq!((known.certificate, &*known.addresses), (certificate, &[v4(7)][..]));
    assert_eq!(store.model.owner(v4(7)).as_deref(), Some("web-1"));
    assert!(matches!(enrol(&store.model, &asked("web-1", "t"), at(0)), Err(Refusal::Enrolled(_))));
    // Again: the certificate is another one, and the host is what it was.
    let again = Enrol { again: true, labels: labels("role=db"), ..asked("web-1", "t") };
    store.commit(enrol(&store.model, &again, at(1)).unwrap()).unwrap();
    let order = redeem(&store.model, &host("web-1"), b"t", Digest::of(b"two"), None, at(1));
    store.commit(order.unwrap()).unwrap();
    let known = store.model.host("web-1").unwrap();
    assert_eq!((known.certificate, known.labels), (Digest::of(b"two"), labels("role=web")));
    assert_eq!(known.previous, None, "what it had before is worth nothing");
}

#[test]
fn a_certificate_follows_another_and_no_third_is_taken() {
    let mut store = store();
    enrolled(&mut store, "web-1", 1);
    let (first, second) = (Digest::of(b"web-1"), Digest::of(b"2"));
    store.commit(renew(&store.model, &host("web-1"), first, second).unwrap()).unwrap();
    // The answer was lost: it asks again, with what it has.
    let third = Digest::of(b"3");
    store.commit(renew(&store.model, &host("web-1"), first, third).unwrap()).unwrap();
    assert!(matches!(
        renew(&store.model, &host("web-1"), second, first),
        Err(Refusal::Certificate(_))
    ));
    store.commit(renew(&store.model, &host("web-1"), third, second).unwrap()).unwrap();
    assert!(renew(&store.model, &host("web-1"), first, third).is_err());
}

#[test]
fn an_address_is_one_hosts() {
    let mut store = store();
    enrolled(&mut store, "web-1", 1);
    enrolled(&mut store, "web-2", 2);
    let error = address(&store.model, "web-2", vec![v4(1)]).unwrap_err().to_string();
    assert_eq!(error, "the address 10.0.0.1 is that of `web-1`");
    // At the same time, on two controllers.
    let one = address(&store.model, "web-1", vec![v4(9)]).unwrap();
    let two = address(&store.model, "web-2", vec![v4(9)]).unwrap();
    store.commit(one).unwrap();
    assert_eq!(store.commit(two), Err(Conflict("address/10.0.0.9".to_owned())));
    assert_eq!(store.model.owner(v4(1)), None, "what it had is free");
    let error = enrol(&store.model, &Enrol { addresses: vec![v4(9)], ..asked("x", "s") }, at(0));
    assert!(matches!(error, Err(Refusal::Address { .. })));
    let named = Enrol { names: vec!["web-2".to_owned()], ..asked("x", "s") };
    assert!(matches!(enrol(&store.model, &named, at(0)), Err(Refusal::Named { .. })));
    let odd = Enrol { labels: labels("host=x"), ..asked("x", "s") };
    assert!(matches!(enrol(&store.model, &odd, at(0)), Err(Refusal::Faulty(_))));
    store.commit(remove(&store.model, "web-1").unwrap()).unwrap();
    assert_eq!((store.model.host("web-1"), store.model.owner(v4(9))), (None, None));
    assert_eq!(store.model.host_count(), 1);
}

#[test]
fn a_host_that_the_policy_names_is_not_removed() {
    let mut store = store();
    enrolled(&mut store, "web-1", 1);
    let text = "name front = web-1\nallow front -> role=web : any\n";
    let made = Making::of(&[policy("base", 1, text)]).bytes();
    store.commit(apply(&store.model, &bundle(&made), at(1)).unwrap()).unwrap();
    let error = remove(&store.model, "web-1").unwrap_err().to_string();
    assert!(error.contains("`web-1` by its name, in base"), "{error}");
    let unknown = Making::of(&[policy("base", 2, "allow web-3 -> any : any\n")]).numbered(2);
    let error = apply(&store.model, &bundle(&unknown.bytes()), at(1)).unwrap_err().to_string();
    assert!(error.contains("web-3"), "{error}");
}

#[test]
fn versions_follow_each_other_and_tests_hold_them() {
    let mut store = store();
    enrolled(&mut store, "web-1", 1);
    let one = Making::of(&[policy("base", 1, TEXT)]).bytes();
    store.commit(apply(&store.model, &bundle(&one), at(1)).unwrap()).unwrap();
    assert_eq!(store.model.current().unwrap().version(), 1);
    assert!(matches!(apply(&store.model, &bundle(&one), at(1)), Err(Refusal::Same(1))));
    let failing = format!("{TEXT}test allow web-1 -> 192.0.2.1 : tcp/80\n");
    let two = Making::of(&[policy("base", 2, &failing)]).numbered(2).bytes();
    let error = apply(&store.model, &bundle(&two), at(2)).unwrap_err();
    assert!(matches!(&error, Refusal::Tests(failing) if failing.len() == 1), "{error}");
    let forced = Apply { force: true, ..bundle(&two) };
    let (one_of, another) = (
        apply(&store.model, &forced, at(2)).unwrap(),
        apply(&store.model, &forced, at(2)).unwrap(),
    );
    store.commit(one_of).unwrap();
    assert!(store.commit(another).is_err());
    let current = store.model.current().unwrap();
    assert_eq!(current.steps.iter().map(|step| step.version).collect::<Vec<_>>(), [1, 2]);
    let old = Making::of(&[policy("base", 1, TEXT)]).numbered(3).bytes();
    assert!(matches!(apply(&store.model, &bundle(&old), at(3)), Err(Refusal::Bundle(_))));
}

#[test]
fn a_canary_is_confirmed_or_halted() {
    let mut store = store();
    for at in 1..=20 {
        enrolled(&mut store, &format!("web-{at}"), at);
    }
    let one = Making::of(&[policy("base", 1, TEXT)]).bytes();
    store.commit(apply(&store.model, &bundle(&one), at(1)).unwrap()).unwrap();
    let two = Making::of(&[policy("base", 2, "")]).numbered(2).bytes();
    let canary = |share| Canary { share, confirm_s: 600 };
    let tried = |share: Share| {
        let canary = canary(share);
        apply(&store.model, &Apply { canary: Some(&canary), ..bundle(&two) }, at(2))
    };
    assert!(matches!(tried(Share::Selector("role=db".to_owned())), Err(Refusal::NoCanary)));
    assert!(matches!(tried(Share::Selector("role=".to_owned())), Err(Refusal::Selector { .. })));
    tried(Share::Selector("web-3, web-4".to_owned())).unwrap();
    let order = tried(Share::Fraction(1_000)).unwrap();
    store.commit(order).unwrap();
    let rollout = store.model.rollout().unwrap().clone();
    assert!(matches!(rollout.pick, Pick::Rank(_)));
    let tries = store
        .model
        .hosts()
        .filter(|(id, host)| rollout.tries(id, host.quarantined, host.enrolled_at))
        .count();
    assert_eq!(tries, 2, "10 % of 20");
    assert_eq!(store.model.current().unwrap().version(), 1);
    let three = Making::of(&[policy("base", 3, "")]).numbered(3).bytes();
    assert!(matches!(apply(&store.model, &bundle(&three), at(2)), Err(Refusal::Open(2))));
    store.commit(halt(&store.model, "somebody said so").unwrap()).unwrap();
    assert!(matches!(halt(&store.model, ""), Err(Refusal::NoWayBack)));
    assert!(matches!(confirm(&store.model, at(2)), Err(Refusal::NotOpen)));
    let again = canary(Share::Count(3));
    let order = apply(&store.model, &Apply { canary: Some(&again), ..bundle(&three) }, at(3));
    store.commit(order.unwrap()).unwrap();
    assert_eq!(store.model.rollout().unwrap().id, 2);
    let (yes, no) = (confirm(&store.model, at(3)).unwrap(), halt(&store.model, "").unwrap());
    store.commit(yes).unwrap();
    assert!(store.commit(no).is_err(), "either is right, both are not");
    assert_eq!(store.model.current().unwrap().version(), 3);
    assert_eq!(store.model.rollout().unwrap().state, RolloutState::Done);
}

#[test]
fn a_timestamp_is_renewed_in_time() {
    let mut store = store();
    enrolled(&mut store, "web-1", 1);
    let lifetime = SignedDuration::from_hours(100);
    let stamping = Stamping { key: key("clock"), lifetime };
    let one = Making::of(&[policy("base", 1, TEXT)]).bytes();
    let two = Making::of(&[policy("base", 2, "")]).numbered(2).bytes();
    store.commit(apply(&store.model, &bundle(&one), at(1)).unwrap()).unwrap();
    store.commit(apply(&store.model, &bundle(&two), at(2)).unwrap()).unwrap();
    assert_eq!(store.model.current().unwrap().steps.len(), 2);
    assert_eq!(timestamp_due(&store.model, lifetime), Some(at(168 - 50)));
    assert_eq!(raise(&store.model, at(2)), None);
    store.commit(renew_timestamp(&store.model, &stamping, at(118)).unwrap()).unwrap();
    let current = store.model.current().unwrap().clone();
    assert_eq!((current.version(), current.steps.len()), (2, 1));
    assert_eq!(current.last().expires, at(218));
    assert!(store.model.piece(&current.last().timestamp).is_some());
    let other = Stamping { key: key("dora"), lifetime };
    assert!(matches!(renew_timestamp(&store.model, &other, at(118)), Err(Refusal::Stamp(_))));
    // A bundle whose own timestamp is older than the controller's: the controller makes one for it.
    let three = Making::of(&[policy("base", 3, TEXT)]).numbered(3);
    let mut old = three.clone();
    old.stamp.version = 2;
    let old = old.bytes();
    assert!(matches!(apply(&store.model, &bundle(&old), at(119)), Err(Refusal::Bundle(_))));
    let stamped = Apply { stamping: Some(&stamping), ..bundle(&old) };
    store.commit(apply(&store.model, &stamped, at(119)).unwrap()).unwrap();
    assert_eq!(store.model.current().unwrap().last().expires, at(219));
}

#[test]
fn documents_of_old_versions_go_and_what_relied_on_them_is_worked_out_anew() {
    let mut store = store();
    enrolled(&mut store, "web-1", 1);
    let keep = Keep { versions: 2, ..Keep::default() };
    let text = |version: u64| match version {
        7 => TEXT.to_owned(),
        other => format!("{TEXT}deny role=web -> 198.51.100.{other} : any\n"),
    };
    let made = |version: u64| {
        // The document of version 3 stays what it is, and comes back in version 7.
        let third = policy("other", 1, "deny role=web -> 203.0.113.0/24 : any\n");
        let base = policy("base", version, &text(version));
        Making::of(&[base, third]).numbered(version).bytes()
    };
    for version in 1..=5 {
        store.commit(apply(&store.model, &bundle(&made(version)), at(1)).unwrap()).unwrap();
    }
    // All of them are steps still: hosts may have any.
    assert_eq!(store.model.current().unwrap().steps.len(), 5);
    assert_eq!(idle(&store.model, keep), BTreeMap::new());
    let stamping = Stamping { key: key("clock"), lifetime: SignedDuration::from_hours(100) };
    store.commit(renew_timestamp(&store.model, &stamping, at(118)).unwrap()).unwrap();
    let gone = idle(&store.model, keep);
    // Of three versions: timestamp, snapshot, and the document that changes.
    assert_eq!(gone.len(), 9, "{gone:?}");
    let canary = Canary { share: Share::Count(1), confirm_s: 600 };
    let six = made(6);
    let tried = Apply { canary: Some(&canary), stamping: Some(&stamping), ..bundle(&six) };
    let (order, collected) =
        (apply(&store.model, &tried, at(119)).unwrap(), collect(&store.model, &gone).unwrap());
    // Either comes first, and the other one is worked out anew.
    let records = store.records.clone();
    store.commit(collected.clone()).unwrap();
    assert_eq!(store.commit(order.clone()), Err(Conflict("collected".to_owned())));
    assert_eq!(store.model.collected().unwrap().batches, 1);
    for version in 1..=3 {
        let record = store.model.version(version).unwrap();
        assert!(!store.model.is_whole(record));
        let error = controller::Edition::read(&store.model, version).unwrap_err();
        assert!(matches!(error, Refusal::Collected(it) if it == version), "{error}");
    }
    for version in 4..=5 {
        controller::Edition::read(&store.model, version).unwrap();
    }
    let mut other = Store { model: controller::Model::load(records.clone()).unwrap(), records };
    other.commit(order).unwrap();
    assert!(other.commit(collected).is_err());
    // What is tried is kept, however few are.
    let none = Keep { versions: 0, ..keep };
    let order = apply(&store.model, &tried, at(119)).unwrap();
    store.commit(order).unwrap();
    while let Some(batch) = collect(&store.model, &idle(&store.model, none)) {
        store.commit(batch).unwrap();
    }
    for version in [5, 6] {
        controller::Edition::read(&store.model, version).unwrap();
    }
    store.commit(confirm(&store.model, at(119)).unwrap()).unwrap();
    // What was removed comes again where a version needs it.
    let seven = made(7);
    let seven = Apply { stamping: Some(&stamping), ..bundle(&seven) };
    store.commit(apply(&store.model, &seven, at(119)).unwrap()).unwrap();
    controller::Edition::read(&store.model, 7).unwrap();
}

#[test]
fn a_host_that_is_shut_off_is_known_and_nothing_else() {
    let mut store = store();
    enrolled(&mut store, "web-1", 1);
    store.commit(quarantine(&store.model, "web-1", true).unwrap()).unwrap();
    let known = controller::inventory(&store.model);
    let [host] = known.hosts() else { panic!("{known:?}") };
    assert!(host.addresses.is_empty() && host.labels.is_empty());
    let labels = BTreeMap::from([("role".to_owned(), None), ("env".to_owned(), Some("x".into()))]);
    store.commit(label(&store.model, "web-1", &labels).unwrap()).unwrap();
    assert!(store.model.host("web-1").unwrap().quarantined);
    store.commit(quarantine(&store.model, "web-1", false).unwrap()).unwrap();
    assert_eq!(controller::inventory(&store.model).labelled("env", "x").len(), 1);
}

/// The root, changed, and signed by whoever should sign it.
fn root(change: impl FnOnce(&mut Root), by: &str) -> Envelope {
    let first: Envelope = serde_json::from_slice(&root_bytes()).unwrap();
    let mut root: Root = first.unverified().unwrap();
    change(&mut root);
    let mut envelope = Envelope::new(&root);
    envelope.sign(&key(by));
    envelope
}

#[test]
fn a_controller_that_begins_with_the_first_root_goes_on_after_a_rotation() {
    let mut store = store();
    let second = root(|root| root.version = 2, "anna");
    let bytes = Making::of(&[policy("base", 1, TEXT)]).numbered(1).bytes();
    let mut bundle = Bundle::read(&bytes).unwrap();
    bundle.roots.push(second.clone());
    let bytes = bundle.to_json();
    let asked = Apply {
        bundle: bytes.as_bytes(),
        what: "",
        canary: None,
        force: false,
        by: "op",
        stamping: None,
    };
    store.commit(apply(&store.model, &asked, at(1)).unwrap()).unwrap();
    assert_eq!(store.model.trust().unwrap().root().unwrap().version, 2);
    // What its directory says is where the chain begins, or any root on it.
    assert_eq!(found(&store.model, &root_bytes()).unwrap(), controller::Batch::default());
    let second = serde_json::to_vec(&second).unwrap();
    assert_eq!(found(&store.model, &second).unwrap(), controller::Batch::default());
    // The same people's root that nobody was shown, and one of somebody else.
    for other in [
        root(|root| root.version = 3, "anna"),
        root(
            |root| {
                for it in &mut root.keys {
                    it.key = key(&format!("{} of another fleet", it.name)).public();
                }
            },
            "anna of another fleet",
        ),
    ] {
        let other = serde_json::to_vec(&other).unwrap();
        assert!(matches!(found(&store.model, &other), Err(Refusal::OtherRoot)));
    }
}
