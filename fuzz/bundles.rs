//! What must hold for any bytes that say to be signed. The fuzz targets run these on new inputs; a test of crate `wire`
//! runs them on the corpus.

use jiff::{SignedDuration, Timestamp};
use wire::{
    Bundle, Envelope, Holders, Listed, Moment, NamedKey, Payload, Policy, Roles, Root, SecretKey,
    Snapshot, Stamp, Trust, digest, scope::Scope,
};

/// A root, as the corpus has it; its keys are of seeds that everybody knows.
const ROOT: &[u8] = include_bytes!("corpus/bundle/root.json");

/// A bundle: it is answered, whatever it is, and what is taken was signed: no byte of its documents can change.
pub(crate) fn bundle(bytes: &[u8]) {
    let trust = Trust::begin(ROOT).expect("the root of the corpus is sound");
    let moment = Moment { now: Timestamp::UNIX_EPOCH, names: None, host: None };
    let Ok(accepted) = trust.verify(bytes, moment) else { return };
    let read = Bundle::read(bytes).expect("what is accepted can be read");
    assert_eq!(read.documents.len(), accepted.documents.len(), "nothing is left out unseen");
    let again = accepted.trust.verify(read.to_json().as_bytes(), moment);
    let again = again.expect("what is accepted is accepted again, written anew");
    assert_eq!(again.trust, accepted.trust, "and teaches nothing new");
    assert!(trust.marks.seen <= accepted.trust.marks.seen, "marks never go back");
}

/// What stands between documents in the input of [`documents`].
const BETWEEN: &str = "\n---\n";

/// Payloads of documents, signed by whoever should, in a bundle that is otherwise in order: so that what comes after the
/// signatures is looked at, too. What is taken lies within every scope it stands under, and is taken no longer than it
/// says.
pub(crate) fn documents(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let documents: Vec<Envelope> = text
        .split(BETWEEN)
        .filter_map(|payload| Envelope::of_bytes::<Policy>(payload.as_bytes().to_vec()).ok())
        .collect();
    let policies: Vec<Policy> = documents.iter().filter_map(|it| it.unverified().ok()).collect();
    let delegations: Vec<_> = policies.iter().flat_map(|policy| &policy.delegations).collect();
    let by_whom = |(policy, mut envelope): (&Policy, Envelope)| {
        // What is delegated is not signed by the role.
        let delegated = delegations.iter().any(|it| it.name == policy.name);
        let seeds = if delegated { 3..=4 } else { 1..=2 };
        sign(&mut envelope, seeds);
        envelope
    };
    let documents: Vec<Envelope> = policies.iter().zip(documents).map(by_whom).collect();
    let (start, end) = (Timestamp::UNIX_EPOCH, Timestamp::MAX);
    let listed = |(policy, envelope): (&Policy, &Envelope)| Listed::of(policy, envelope.payload());
    let snapshot = by_roles(Envelope::new(&Snapshot {
        version: 1,
        expires: end,
        audience: Vec::new(),
        documents: policies.iter().zip(&documents).map(listed).collect(),
    }));
    let digest = digest(snapshot.payload());
    let stamp = by_roles(Envelope::new(&Stamp { version: 1, expires: end, snapshot: 1, digest }));
    let root = serde_json::to_vec(&their_root()).expect("it can be written");
    let trust = Trust::begin(&root).expect("it is signed");
    let bundle = Bundle::new(vec![their_root()], stamp, snapshot, documents).to_json();
    let at = |now| trust.verify(bundle.as_bytes(), Moment { now, names: None, host: None });
    let Ok(accepted) = at(start) else { return };
    for document in &accepted.documents {
        for under in &document.under {
            let delegation = delegations.iter().find(|it| it.name == *under);
            let scope = &delegation.expect("it stands in a document").scope;
            assert!(scope.covers(&document.policy).is_ok(), "{} under {under}", document.name);
        }
    }
    at(accepted.freshness.until).expect_err("by then something has expired");
    if let Ok(before) = accepted.freshness.until.checked_sub(SignedDuration::from_nanos(1)) {
        at(before.max(start)).expect("until then nothing has");
    }
}

fn by_roles(mut envelope: Envelope) -> Envelope {
    sign(&mut envelope, 1..=2);
    envelope
}

fn sign(envelope: &mut Envelope, seeds: std::ops::RangeInclusive<u8>) {
    seeds.into_iter().for_each(|seed| envelope.sign(&SecretKey::from_seed([seed; 32])));
}

fn their_root() -> Envelope {
    // Of seeds 1 and 2; the delegations of the corpus name those of 3 and 4.
    let holders = || Holders { keys: vec!["key-1".to_owned(), "key-2".to_owned()], threshold: 2 };
    let key = |seed: u8| NamedKey {
        name: format!("key-{seed}"),
        key: SecretKey::from_seed([seed; 32]).public(),
    };
    let root = Root {
        version: 1,
        expires: Timestamp::MAX,
        keys: (1..=2).map(key).collect(),
        roles: Roles {
            root: holders(),
            policy: holders(),
            snapshot: holders(),
            timestamp: holders(),
        },
        max_stale: None,
    };
    root.sound().expect("its keys differ");
    by_roles(Envelope::new(&root))
}

/// Every decoder: bytes are read or refused, and what was read is signed as it is.
pub(crate) fn envelope(bytes: &[u8]) {
    let _root = Trust::begin(bytes);
    let Ok(mut envelope) = serde_json::from_slice::<Envelope>(bytes) else { return };
    let _read = (
        envelope.unverified::<Root>().is_ok(),
        envelope.unverified::<Policy>().is_ok(),
        envelope.unverified::<Snapshot>().is_ok(),
        envelope.unverified::<Stamp>().is_ok(),
    );
    let payload = envelope.payload().to_vec();
    envelope.sign(&SecretKey::from_seed([1; 32]));
    assert_eq!(envelope.payload(), payload, "a signature changes nothing that is signed");
    let again: Envelope =
        serde_json::from_slice(&serde_json::to_vec(&envelope).expect("it can be written"))
            .expect("what is written can be read");
    assert_eq!(again, envelope);
}

/// A scope and a document, apart at the first line break: it is answered in bounded time, and what is within stays within
/// a wider scope.
pub(crate) fn scope(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some((flows, document)) = text.split_once('\n') else { return };
    let scope = |flows: &str| Scope {
        flows: flows.to_owned(),
        direction: None,
        effects: vec![
            policy::syntax::Effect::Allow,
            policy::syntax::Effect::Deny,
            policy::syntax::Effect::Refuse,
        ],
        tiers: vec![policy::Tier::Admin, policy::Tier::Team, policy::Tier::Baseline],
        until: None,
        rules: u32::MAX,
        depth: 0,
    };
    let narrow = scope(flows);
    if narrow.sound().is_err() {
        return;
    }
    if let Ok(rules) = narrow.covers(document) {
        assert_eq!(scope("any -> any : any").covers(document).ok(), Some(rules), "any is wider");
    }
}
