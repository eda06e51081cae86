//! What the analysis answers is what reading the policies aloud at both ends says, on random policies, inventories and
//! connections: nothing is missing, and nothing is too much.

#[path = "support/connections.rs"]
mod connections;
#[path = "support/world.rs"]
#[expect(dead_code, reason = "each test uses a part of the world")]
mod world;

use connections::{Attempt, attempt, can_be, has, hear, runs, serves};
use policy::{
    Checked, Inventory,
    analysis::{
        Basis, Group, GroupFlows, Question, Symbols, diff, matrix, services, who_can_reach,
    },
};
use proptest::{prelude::*, test_runner::Config};
use world::{Choices, choices};

const WORLDS: u32 = 1_000;
const ATTEMPTS: usize = 300;

struct Told {
    texts: Vec<String>,
    checked: Checked,
}

fn policies(choices: &mut Choices, inventory: &Inventory) -> Result<Told, TestCaseError> {
    let texts = world::documents(choices);
    let checked = world::checked(&texts, inventory)
        .ok_or_else(|| TestCaseError::reject("errors in the documents"))?;
    Ok(Told { texts, checked })
}

fn inventory(choices: &mut Choices) -> Inventory {
    Inventory::new(world::hosts(choices)).expect("the hosts of the world are in order")
}

fn basis(choices: &mut Choices) -> Basis {
    if choices.once_in(2) { Basis::Would } else { Basis::Enforced }
}

/// How many entries hold a connection.
fn holding(groups: &[Group], flows: &[GroupFlows], attempt: &Attempt, symbols: &Symbols) -> usize {
    let holds = |flow: &&GroupFlows| {
        flow.relation == attempt.relation
            && has(&groups[flow.from], &attempt.from)
            && has(&groups[flow.to], &attempt.to)
            && serves(&flow.services, attempt.protocol, attempt.port)
            && runs(&flow.from_processes, &attempt.from_subject, symbols)
            && runs(&flow.to_processes, &attempt.to_subject, symbols)
    };
    flows.iter().filter(holds).count()
}

fn diffs_agree(choices: &mut Choices, attempts: &mut Choices) -> Result<(), TestCaseError> {
    let inventory = inventory(choices);
    let basis = basis(choices);
    let before = policies(choices, &inventory)?;
    let after = policies(choices, &inventory)?;
    let all = || before.checked.policies.iter().chain(&after.checked.policies);
    let symbols = Symbols::new(all());
    let question = Question { inventory: &inventory, now: world::now(), basis };
    let diff = diff(&before.checked.policies, &after.checked.policies, &question)
        .expect("a small world is within the limits");
    for _ in 0..ATTEMPTS {
        let attempt = attempt(attempts, &inventory, &symbols);
        if !can_be(&attempt, &inventory) {
            continue;
        }
        let was = hear(&before.checked.policies, &inventory, &symbols, &attempt).allowed(basis);
        let is = hear(&after.checked.policies, &inventory, &symbols, &attempt).allowed(basis);
        let told = || {
            format!(
                "{attempt:?}\n{diff:#?}\n{}\n=====\n{}",
                before.texts.join("\n---\n"),
                after.texts.join("\n---\n")
            )
        };
        let held = holding(&diff.groups, &diff.allowed, &attempt, &symbols);
        prop_assert_eq!(held, usize::from(is && !was), "allowed: {}", told());
        let held = holding(&diff.groups, &diff.denied, &attempt, &symbols);
        prop_assert_eq!(held, usize::from(was && !is), "denied: {}", told());
    }
    Ok(())
}

fn matrices_agree(choices: &mut Choices, attempts: &mut Choices) -> Result<(), TestCaseError> {
    let inventory = inventory(choices);
    let basis = basis(choices);
    let told = policies(choices, &inventory)?;
    let policies = &told.checked.policies;
    let symbols = Symbols::new(policies);
    let question = Question { inventory: &inventory, now: world::now(), basis };
    let text = choices.of(&["any", "tcp/80", "tcp/any", "tcp/81-1000, udp/53", "icmp/any"]);
    let asked = services(policies, text).expect("services");
    let matrix = matrix(policies, &question, &asked).expect("a small world is within the limits");
    let asked: Vec<String> = text.split(", ").map(str::to_owned).collect();
    for _ in 0..ATTEMPTS {
        let attempt = attempt(attempts, &inventory, &symbols);
        if !can_be(&attempt, &inventory) {
            continue;
        }
        let wanted = serves(&asked, attempt.protocol, attempt.port);
        let is = wanted && hear(policies, &inventory, &symbols, &attempt).allowed(basis);
        let held = holding(&matrix.groups, &matrix.allowed, &attempt, &symbols);
        let told = || format!("{attempt:?}\n{matrix:#?}\n{}", told.texts.join("\n---\n"));
        prop_assert_eq!(held, usize::from(is), "{}: {}", text, told());
    }
    Ok(())
}

fn reach_agrees(choices: &mut Choices, attempts: &mut Choices) -> Result<(), TestCaseError> {
    let inventory = inventory(choices);
    let basis = basis(choices);
    let told = policies(choices, &inventory)?;
    let policies = &told.checked.policies;
    let symbols = Symbols::new(policies);
    let question = Question { inventory: &inventory, now: world::now(), basis };
    let target = choices.of(&["web-1", "db-1.example", "db-2", "198.51.100.7", "10.0.1.1", "edge"]);
    let port = [80, 22, 443][choices.below(3)];
    let asked = services(policies, &format!("tcp/{port}")).expect("a service");
    let reach = who_can_reach(policies, &question, target, &asked).expect("a host or an address");
    let host = inventory.find(target).or_else(|| inventory.find_address(address_of(target)?));
    let host = host.map(|host| inventory.hosts()[host as usize].id.clone());
    for _ in 0..ATTEMPTS {
        let mut attempt = attempt(attempts, &inventory, &symbols);
        (attempt.protocol, attempt.port) = (verdict::Protocol::TCP, port);
        let address = if inventory.find(target).is_some() { None } else { address_of(target) };
        if !can_be(&attempt, &inventory) || attempt.to.host != host {
            continue;
        }
        if address.is_some_and(|address| attempt.to.address != Some(address)) {
            continue;
        }
        let heard = hear(policies, &inventory, &symbols, &attempt);
        let holds = |source: &&policy::analysis::Source| {
            source.relation == attempt.relation
                && has(&reach.groups[source.from], &attempt.from)
                && has(&reach.groups[source.to], &attempt.to)
                && runs(&source.from_processes, &attempt.from_subject, &symbols)
                && runs(&source.to_processes, &attempt.to_subject, &symbols)
        };
        let held: Vec<_> = reach.sources.iter().filter(holds).collect();
        let told = || format!("{attempt:?}\n{reach:#?}\n{}", told.texts.join("\n---\n"));
        prop_assert_eq!(held.len(), usize::from(heard.allowed(basis)), "{}", told());
        let rule = |spoken: &Option<policy::Spoken>| {
            spoken.as_ref().map(|spoken| match basis {
                Basis::Enforced => spoken.enforced.rule.clone(),
                Basis::Would => spoken.would.rule.clone(),
            })
        };
        if let [source] = held.as_slice() {
            let id = |decider: &Option<policy::analysis::Decider>| {
                decider.as_ref().map(|decider| decider.id.clone())
            };
            prop_assert_eq!(id(&source.out), rule(&heard.out), "{}", told());
            prop_assert_eq!(id(&source.into), rule(&heard.into), "{}", told());
        }
    }
    Ok(())
}

fn address_of(target: &str) -> Option<verdict::Address> {
    target.parse::<std::net::IpAddr>().ok().map(|_| world::address(target))
}

proptest! {
    #![proptest_config(Config {
        cases: WORLDS,
        failure_persistence: None,
        max_global_rejects: WORLDS * 10,
        ..Config::default()
    })]

    #[test]
    fn a_diff_is_what_reading_both_aloud_says(mut policies in choices(2_000), mut attempts in choices(18 * ATTEMPTS)) {
        diffs_agree(&mut policies, &mut attempts)?;
    }

    #[test]
    fn a_matrix_is_what_reading_aloud_says(mut policies in choices(1_000), mut attempts in choices(18 * ATTEMPTS)) {
        matrices_agree(&mut policies, &mut attempts)?;
    }

    #[test]
    fn who_can_reach_is_what_reading_aloud_says(mut policies in choices(1_000), mut attempts in choices(18 * ATTEMPTS)) {
        reach_agrees(&mut policies, &mut attempts)?;
    }
}
