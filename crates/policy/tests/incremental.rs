//! After each of 100,000 random edits the compiler holds exactly what a compilation from scratch gives.

#[path = "support/world.rs"]
#[expect(dead_code, reason = "each test uses a part of the world")]
mod world;

use policy::{
    Change, Compiler, Diagnostics, EditError, Enforcer, Inventory, Policy, Rule, compile, format,
    host_rules, parse,
};
use proptest::{prelude::*, test_runner::Config};
use world::{Choices, choices};

/// Together with [`EDITS`] at least 100,000 edits.
const WORLDS: u32 = 1_000;
const EDITS: usize = 100;

fn parsed(rule: &str) -> Option<Rule> {
    let mut report = Diagnostics::default();
    let parsed = parse(rule.as_bytes(), 0, &mut report);
    parsed.document.rules().next().cloned()
}

fn edit_rule(
    compiler: &mut Compiler,
    choices: &mut Choices,
) -> Result<Option<Change>, TestCaseError> {
    let source = choices.below(compiler.policies().len());
    let place = choices.below(compiler.policies()[source].rules().len());
    let mut text = world::rule(choices);
    if choices.once_in(8) {
        // The words of another rule, whose derived id then has to be told apart.
        let other = compiler.policies()[source].rules().next().map(|rule| rule.rule.clone());
        let Some(rule) = other else { return Ok(None) };
        return Ok(compiler.replace_rule(source, place, rule).ok());
    }
    if choices.once_in(8) {
        text.push_str(choices.of(&[" id=one", " id=two"]));
    }
    let rule = parsed(&text).expect("rules of the world are well-formed");
    match compiler.replace_rule(source, place, rule) {
        Ok(change) => Ok(Some(change)),
        Err(EditError::RepeatedId { .. }) => Ok(None),
        Err(error) => Err(TestCaseError::fail(format!("{text}: {error}"))),
    }
}

fn edit_host(compiler: &mut Compiler, choices: &mut Choices) -> Option<Change> {
    let which = choices.below(6);
    let mut host = world::host(choices, which);
    match choices.below(12) {
        0 => host.addresses.push(world::address("10.0.0.3")),
        1 => host.addresses.push(world::address("198.51.100.7")),
        2 => host.names.push("nobody".to_owned()),
        3 => host.id = "late".to_owned(),
        4 => host.addresses.clear(),
        _ => {}
    }
    compiler.replace_host(host).ok()
}

fn edit(compiler: &mut Compiler, choices: &mut Choices) -> Result<Option<Change>, TestCaseError> {
    Ok(match choices.below(16) {
        0..=7 => edit_rule(compiler, choices)?,
        8..=13 => edit_host(compiler, choices),
        14 => {
            let moment = choices.of(&[
                "2027-01-30T00:00:00Z",
                "2027-01-31T12:00:00Z",
                "2027-02-01T00:00:00Z",
            ]);
            compiler.advance(moment.parse().expect("a moment")).into()
        }
        _ => {
            let documents = world::documents(choices);
            world::checked(&documents, compiler.inventory())
                .map(|checked| compiler.replace_policies(checked.policies, 7))
        }
    })
}

/// The documents written out and read again: ids must come out the same, however they came about.
fn written_again(policies: &[Policy], inventory: &Inventory) -> Option<Vec<Policy>> {
    let documents: Vec<String> = policies.iter().map(|policy| format(&policy.document)).collect();
    world::checked(&documents, inventory).map(|checked| checked.policies)
}

fn keeps_up(choices: &mut Choices) -> Result<(), TestCaseError> {
    let inventory =
        Inventory::new(world::hosts(choices)).expect("the hosts of the world are in order");
    let Some(checked) = world::checked(&world::documents(choices), &inventory) else {
        return Err(TestCaseError::reject("errors in the documents"));
    };
    let enforcer = Enforcer {
        host: choices.of(&["web-1", "db-1.example", "db-2", "nobody", "late"]).to_owned(),
        addresses: world::added()[..choices.below(3)].to_vec(),
        identities: Box::new(world::Names),
    };
    let mut compiler = Compiler::new(checked.policies, inventory, enforcer, world::now(), 1)
        .expect("few rules fit");
    let mut before = compiler.rules();
    for at in 0..EDITS {
        let change = edit(&mut compiler, choices)?;
        let after = compiler.rules();
        prop_assert_eq!(&after, &host_rules(compiler.policies(), &compiler.facts()));
        if change == Some(Change::None) {
            prop_assert_eq!(&after.0, &before.0);
        }
        before = after;
        // An image follows from its rules alone, and takes most of the time.
        if at % 10 == 9 {
            let fresh = compile(compiler.policies(), &compiler.facts()).expect("few rules fit");
            let compiled = compiler.compiled().expect("few rules fit");
            prop_assert_eq!(compiled, &fresh);
            prop_assert_eq!(&compiled.image, &fresh.image);
        }
    }
    if let Some(policies) = written_again(compiler.policies(), compiler.inventory()) {
        let again = compile(&policies, &compiler.facts()).expect("few rules fit");
        let compiled = compiler.compiled().expect("few rules fit");
        prop_assert_eq!(&again.rules, &compiled.rules);
        prop_assert_eq!(&again.image, &compiled.image);
    }
    Ok(())
}

proptest! {
    #![proptest_config(Config { cases: WORLDS, failure_persistence: None, ..Config::default() })]

    #[test]
    fn every_edit_equals_a_compilation_from_scratch(mut choices in choices(60 * EDITS)) {
        keeps_up(&mut choices)?;
    }
}
