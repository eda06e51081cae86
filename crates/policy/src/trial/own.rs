//! What one host of a fleet can say of tests: it has the documents that concern it, and knows the hosts that their rules
//! set against it, not all there are.
//!
//! What it knows of itself is exact: compiled with these documents and these hosts, the policy says of each of its own
//! flows what the whole policy says. So a flow of a test that is to be allowed fails for certain where this end denies it.
//! A flow that is to be denied may be denied at the other end: it fails for certain if this end allows it and the other
//! one, a host that is known, does too. That end can be judged here as well, for flows between the two: a rule that means
//! both concerns both, and defaults and failsafe lines are in documents that everybody has.
//!
//! Nothing is said of flows between others, of hosts that are not known here, of this host with itself, and of tests that
//! would take too long: all of these are looked at where everybody is known.

use std::collections::BTreeSet;

use image::{AddressSet, RuleSet, Service};
use jiff::Timestamp;
use verdict::{Address, Direction};

use super::{
    Asked, Classes, End, Failures, IMAGES_MAX, JUDGEMENTS_MAX, Ran, TestResult, Trial, TrialError,
    Whom, apart, each_test, points,
};
use crate::{
    check::Checked,
    compile::{CompileError, Compiled, compile},
    facts::Facts,
    inventory::{HostIndex, Inventory},
    policy::Policy,
    syntax::{Answer, Mode, Test},
};

/// The host that runs tests.
#[derive(Clone, Copy)]
pub struct Own<'a> {
    /// Its id in the inventory.
    pub host: &'a str,
    /// Its addresses besides those of the inventory, as in [`Facts::addresses`].
    pub addresses: &'a [Address],
    /// When the clock showed zero by which rules that are put in front end, as in [`Facts::zero`].
    pub zero: Timestamp,
    /// Puts in front of the policy what stands there on this host: rules, each with its origin, and their image. Sets of
    /// addresses are added behind those that are there.
    pub front: &'a dyn Fn(&mut Compiled) -> Result<(), CompileError>,
    /// Whether every document is for everybody, so that other hosts have none that this one lacks, nor lack one that it
    /// has, of those that concern both. Without that nothing is said of what other hosts do.
    pub shared: bool,
}

/// Runs the tests of `checked` as far as the host can say anything about them: a test that it says nothing about has no
/// result. One that passes may fail elsewhere; one that fails does so wherever everything is known, unless it is by what
/// stands in front of the policy here. `checked` and `inventory` are what concerns the host.
///
/// # Errors
/// [`TrialError`]
pub fn run_tests_at(
    checked: &Checked,
    inventory: &Inventory,
    own: &Own<'_>,
    now: Timestamp,
) -> Result<Vec<TestResult>, TrialError> {
    let Some(index) = inventory.find(own.host) else { return Ok(Vec::new()) };
    let begin = |policies| Here::new(Trial::new(policies, inventory, now), index, own);
    each_test(checked, begin, Here::run)
}

/// Policies being tried at one host.
struct Here<'a> {
    trial: Trial<'a>,
    index: HostIndex,
    shared: bool,
    /// What tells flows apart besides the policies.
    addresses: Vec<AddressSet>,
    services: Vec<Service>,
}

impl<'a> Here<'a> {
    fn new(mut trial: Trial<'a>, index: HostIndex, own: &Own<'_>) -> Result<Self, TrialError> {
        let fails = |source| TrialError::Compile { host: own.host.to_owned(), source };
        let facts = Facts {
            addresses: own.addresses,
            zero: own.zero,
            ..Facts::new(trial.inventory, own.host, &trial.symbols, trial.now)
        };
        let mut compiled = compile(&trial.policies, &facts).map_err(fails)?;
        let (sets, known) = (compiled.rules.sets.len(), ids(&compiled.rules));
        (own.front)(&mut compiled).map_err(fails)?;
        let RuleSet { sets: all, rules, .. } = &compiled.rules;
        let addresses = all.iter().skip(sets).cloned().collect();
        let new = rules.iter().filter(|rule| !known.contains(&rule.id));
        let services = new.flat_map(|rule| rule.services.clone()).collect();
        trial.images.insert(index, compiled);
        Ok(Self { trial, index, shared: own.shared, addresses, services })
    }

    fn run(&mut self, policy: &Policy, test: &Test) -> Result<Option<Ran>, TrialError> {
        let classes = Classes::new(&self.trial.policies, test, &self.addresses);
        let ends = |end, whom| classes.ends(policy, end, self.trial.inventory, whom);
        let (from, to) = (&test.flows.from, &test.flows.to);
        let (only, others) = (Whom::Only(self.index), Whom::Others(self.index));
        let (own_from, own_to) = (ends(from, only), ends(to, only));
        if own_from.is_empty() && own_to.is_empty() {
            return Ok(None);
        }
        let (from, to) = (ends(from, others), ends(to, others));
        let points = points(&self.trial.policies, policy, &test.flows.services, &self.services);
        let out = apart(&own_from, &to).into_iter().map(|pair| (Direction::Out, pair));
        let accepting = apart(&from, &own_to).into_iter().map(|pair| (Direction::In, pair));
        let pairs: Vec<_> = out.chain(accepting).collect();
        if pairs.is_empty() || pairs.len() as u64 * points.len() as u64 > JUDGEMENTS_MAX {
            return Ok(None);
        }
        let mut failures = Failures::default();
        for (way, (a, b)) in pairs {
            for &point in &points {
                let would = policy.mode != Mode::Enforce;
                let asked = Asked { a, b, point, would, test };
                let Ok(own) = self.trial.one_end(&asked, way) else { return Ok(None) };
                let failed = match test.answer {
                    Answer::Allow => self.trial.unwanted(&asked, [&own, &None]),
                    Answer::Deny => {
                        let allowed = own.as_ref().is_some_and(|(_, said)| said.some_allowed);
                        if !allowed || !self.sees(if way == Direction::Out { b } else { a })? {
                            continue;
                        }
                        let Ok(failed) = self.trial.judge(&asked) else { return Ok(None) };
                        failed
                    }
                };
                failures.extend(failed);
            }
        }
        Ok(Some(Ok(failures)))
    }

    /// Whether it can be said what the other end does.
    fn sees(&mut self, end: &End) -> Result<bool, TrialError> {
        let Some(host) = end.host.filter(|_| self.shared) else { return Ok(false) };
        if !self.trial.images.contains_key(&host) && self.trial.images.len() >= IMAGES_MAX {
            return Ok(false);
        }
        self.trial.provide(host)?;
        Ok(true)
    }
}

fn ids(rules: &RuleSet) -> BTreeSet<String> {
    rules.rules.iter().map(|rule| rule.id.clone()).collect()
}
