//! What is compiled says what is read aloud: `decide` on the image against the linear evaluator over the policies as
//! written, on random policies, inventories, hosts and flows.

#[path = "support/world.rs"]
mod world;

use jiff::Timestamp;
use policy::{Compiled, Facts, Inventory, Said, compile, read_aloud};
use proptest::{prelude::*, test_runner::Config};
use verdict::{Judgement, decide};
use world::{Choices, choices};

/// Together with [`HOSTS`] and [`FLOWS`] more than a million pairs.
const WORLDS: u32 = 1_200;
const HOSTS: usize = 3;
const FLOWS: usize = 300;

fn said(compiled: &Compiled, judgement: Judgement) -> Said {
    let rule = compiled.origin(judgement.rule).map(|origin| origin.id.clone()).unwrap_or_default();
    Said { verdict: judgement.verdict, rule }
}

/// Now or later: when rules of the world end, and a nanosecond before.
fn later(choices: &mut Choices) -> Timestamp {
    let moment = choices.of(&[
        "2027-01-31T12:00:00Z",
        "2027-01-31T12:00:00.999999999Z",
        "2027-01-31T12:00:01Z",
        "2027-01-31T12:00:02Z",
        "2027-01-31T23:59:59.999999999Z",
        "2027-02-01T00:00:00Z",
        "2027-03-01T00:00:00Z",
    ]);
    moment.parse().expect("a moment")
}

/// As images tell it that are read by the clock on the wall.
fn told(moment: Timestamp) -> u64 {
    u64::try_from(moment.as_nanosecond()).expect("after 1970")
}

fn agrees(choices: &mut Choices, flows: &mut Choices) -> Result<(), TestCaseError> {
    let inventory =
        Inventory::new(world::hosts(choices)).expect("the hosts of the world are in order");
    let documents = world::documents(choices);
    let Some(checked) = world::checked(&documents, &inventory) else {
        return Err(TestCaseError::reject("errors in the documents"));
    };
    let added = world::added();
    for _ in 0..HOSTS {
        let facts = world::facts(choices, &inventory, &added);
        let compiled = compile(&checked.policies, &facts).expect("few rules fit");
        for _ in 0..FLOWS {
            let flow = world::flow(flows);
            // The image was made at one moment and is read at another.
            let later = Facts { now: later(flows), ..facts };
            let spoken = read_aloud(&checked.policies, &later, &flow);
            let decision = decide(&flow, &compiled.image.at(told(later.now)));
            let case = || {
                let documents = documents.join("\n---\n");
                format!("{flow:?} at {} at {}\n{documents}", facts.host, later.now)
            };
            prop_assert_eq!(said(&compiled, decision.enforced), spoken.enforced, "{}", case());
            prop_assert_eq!(said(&compiled, decision.would), spoken.would, "{}", case());
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(Config {
        cases: WORLDS,
        failure_persistence: None,
        max_global_rejects: WORLDS * 10,
        ..Config::default()
    })]

    #[test]
    fn compiled_agrees_with_read_aloud(mut policies in choices(1_000), mut flows in choices(10 * HOSTS * FLOWS)) {
        agrees(&mut policies, &mut flows)?;
    }
}

#[test]
fn names_of_names_are_worked_out_once() {
    let inventory = Inventory::new(Vec::new()).expect("no host is no fault");
    let mut document = String::from("name n0 = 10.0.0.1\nname s0 = tcp/80\n");
    // Each name doubles what it is made of; and the chain is longer than a stack is deep.
    for at in 1..20_000 {
        let before = at - 1;
        document.push_str(&format!("name n{at} = n{before} & not (not n{before})\n"));
        document.push_str(&format!("name s{at} = s{before}, tcp/81\n"));
    }
    document.push_str("deny n19999 -> n19999 : s19999\n");
    let checked = world::checked(&[document], &inventory).expect("a fine document");
    let policies = checked.policies;
    let added = [world::address("10.0.0.1")];
    let mut facts = Facts::new(&inventory, "me", &world::Names, world::now());
    facts.addresses = &added;
    let compiled = compile(&policies, &facts).expect("one rule fits");
    let mut flow = world::flow(&mut Choices::none());
    flow.remote = verdict::Endpoint { address: added[0], port: 80 };
    let spoken = read_aloud(&policies, &facts, &flow);
    assert_eq!(said(&compiled, decide(&flow, &compiled.now()).enforced), spoken.enforced);
    assert_eq!(spoken.enforced.verdict, verdict::Verdict::Deny);
}
