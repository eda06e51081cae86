//! Runs the `test` lines of policies: every flow that a test speaks of must have the answer that it names.
//!
//! Exact without looking at every flow: hosts, addresses, ports and processes that no rule tells apart have one
//! representative, and each is judged by [`verdict::decide`] on the image of its host. A connection is allowed if every end
//! that enforces allows it; an end enforces if it is a host of the inventory.
//!
//! What a test speaks of: connections between different hosts. A host's connections to itself are looked at only if the
//! test speaks of nothing else (`test allow web-1 -> web-1 : tcp/80`), over its own addresses and not over loopback. A test
//! without a process in brackets speaks of every process. Tests of a policy in audit ask for the would-be verdict, and so
//! do those of a draft, which is taken as if it were in audit.
//!
//! A host of a fleet knows a part of all that: [`run_tests_at`] says what it can be sure of, and nothing else.

mod ends;
mod own;
mod points;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use verdict::{Direction, Endpoint, Flow, Subject, Verdict, decide};

use crate::{
    check::Checked,
    compile::{CompileError, Compiled, compile},
    explain::word,
    facts::Facts,
    format,
    inventory::{HostIndex, Inventory},
    policy::Policy,
    symbols::Symbols,
    syntax::{Answer, Mode, Process, Statement, Test},
};
use ends::{Classes, End, Whom};
pub use own::{Own, run_tests_at};
use points::{Point, points, subjects};

/// Judgements of one test; beyond, it is refused rather than run in part.
pub const JUDGEMENTS_MAX: u64 = 50_000_000;
/// Hosts that tests need an image of.
pub const IMAGES_MAX: usize = 4_096;
/// Combinations of users, groups, executables and units at one end.
pub const PROCESSES_MAX: usize = 65_536;
/// Flows named for one failed test.
const NAMED_MAX: usize = 3;

/// How one test came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TestResult {
    /// The document.
    pub file: String,
    /// The line in it, from 1.
    pub line: u32,
    /// What it says.
    pub text: String,
    /// Whether it holds.
    pub passed: bool,
    /// Why not, if it is not for some flow: it speaks of none, or of too many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// How many kinds of flows have another answer.
    pub failed: u64,
    /// The first few of them.
    pub flows: Vec<FailedFlow>,
}

/// A flow that has not the answer that a test names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailedFlow {
    /// The flow, as `explain` takes it.
    pub flow: String,
    /// `allow` or `deny`: what happens.
    pub verdict: &'static str,
    /// The host at which it is decided: one that denies, or the last one that allows.
    pub host: String,
    /// The id of the rule there.
    pub rule: String,
    /// The rule.
    pub rule_text: String,
}

impl TestResult {
    /// A failed test in one line: which, and the first flow that has another answer.
    pub fn line(&self) -> String {
        let Self { file, line, text, passed: _, fault, failed: _, flows } = self;
        let why = match (fault, flows.first()) {
            (Some(fault), _) => format!(": {fault}"),
            (None, Some(FailedFlow { flow, verdict, host, rule, rule_text: _ })) => {
                format!(": {flow} is {verdict} at {host} by {rule}")
            }
            (None, None) => String::new(),
        };
        format!("{file}:{line}: {text}{why}")
    }
}

impl Failures {
    fn extend(&mut self, failed: Option<FailedFlow>) {
        let Some(failed) = failed else { return };
        self.count += 1;
        if self.first.len() < NAMED_MAX {
            self.first.push(failed);
        }
    }
}

/// Why tests cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The policies do not fit into an image at one host.
    #[error("the policies cannot be enforced on {host}")]
    Compile {
        /// The host.
        host: String,
        /// Why.
        source: CompileError,
    },
}

/// Runs every test of `checked`, in the order of the documents and of the text.
///
/// # Errors
/// [`TrialError`]
pub fn run_tests(
    checked: &Checked,
    inventory: &Inventory,
    now: Timestamp,
) -> Result<Vec<TestResult>, TrialError> {
    let begin = |policies| Ok(Trial::new(policies, inventory, now));
    each_test(checked, begin, |trial, policy, test| trial.run(policy, test).map(Some))
}

/// What came of every test that `run` has an answer for. `begin` is given the policies that a test is held against.
fn each_test<'a, T>(
    checked: &'a Checked,
    begin: impl Fn(Vec<Policy>) -> Result<T, TrialError>,
    run: impl Fn(&mut T, &'a Policy, &'a Test) -> Result<Option<Ran>, TrialError>,
) -> Result<Vec<TestResult>, TrialError> {
    let mut results = Vec::new();
    let mut in_force: Option<T> = None;
    for policy in &checked.policies {
        let mut as_if: Option<T> = None;
        for (_, said) in policy.document.statements() {
            let Statement::Test(test) = said else { continue };
            let (begun, policies): (_, &dyn Fn() -> Vec<Policy>) = match policy.mode {
                Mode::Draft => (&mut as_if, &|| promoted(checked, policy)),
                Mode::Enforce | Mode::Audit => (&mut in_force, &|| checked.policies.clone()),
            };
            let trial = match begun {
                Some(trial) => trial,
                none => none.insert(begin(policies())?),
            };
            let Some(outcome) = run(trial, policy, test)? else { continue };
            let (file, line) = match (
                checked.sources().get(policy.source),
                checked.position(policy.source, test.span),
            ) {
                (Some((file, _)), Some(position)) => (file.clone(), position.line),
                _ => (String::new(), 0),
            };
            let (fault, failed, flows) = match outcome {
                Ok(failures) => (None, failures.count, failures.first),
                Err(fault) => (Some(fault), 0, Vec::new()),
            };
            let passed = fault.is_none() && failed == 0;
            results.push(TestResult {
                file,
                line,
                text: format::statement(said),
                passed,
                fault,
                failed,
                flows,
            });
        }
    }
    Ok(results)
}

/// The policies with one draft as if it were in audit.
fn promoted(checked: &Checked, draft: &Policy) -> Vec<Policy> {
    let mut policies = checked.policies.clone();
    for policy in policies.iter_mut().filter(|policy| policy.source == draft.source) {
        policy.mode = Mode::Audit;
    }
    policies
}

/// The failures of a test, or why it cannot be run.
type Ran = Result<Failures, String>;

#[derive(Default)]
struct Failures {
    count: u64,
    first: Vec<FailedFlow>,
}

/// Policies and hosts being tried.
struct Trial<'a> {
    policies: Vec<Policy>,
    inventory: &'a Inventory,
    now: Timestamp,
    symbols: Symbols,
    images: BTreeMap<HostIndex, Compiled>,
}

/// What one end says to one flow, over all processes.
struct Said {
    some_allowed: bool,
    /// The first process that is allowed and the first that is denied, with the rules.
    first: [Option<(Subject, verdict::RuleNumber)>; 2],
}

impl<'a> Trial<'a> {
    fn new(policies: Vec<Policy>, inventory: &'a Inventory, now: Timestamp) -> Self {
        let symbols = Symbols::asking(&policies, []);
        Self { policies, inventory, now, symbols, images: BTreeMap::new() }
    }

    /// The failures, or why the test cannot be run.
    fn run(&mut self, policy: &Policy, test: &Test) -> Result<Ran, TrialError> {
        let classes = Classes::new(&self.policies, test, &[]);
        let from = classes.ends(policy, &test.flows.from, self.inventory, Whom::All);
        let to = classes.ends(policy, &test.flows.to, self.inventory, Whom::All);
        let points = points(&self.policies, policy, &test.flows.services, &[]);
        let pairs = pairs(&from, &to);
        if pairs.is_empty() {
            return Ok(Err(
                "no flow between hosts of the inventory is one that this test speaks of".to_owned(),
            ));
        }
        if pairs.len() as u64 * points.len() as u64 > JUDGEMENTS_MAX {
            return Ok(Err(format!("the test needs more than {JUDGEMENTS_MAX} judgements")));
        }
        let hosts: std::collections::BTreeSet<HostIndex> =
            pairs.iter().flat_map(|(a, b)| [a.host, b.host]).flatten().collect();
        let missing = hosts.iter().filter(|host| !self.images.contains_key(host)).count();
        if self.images.len() + missing > IMAGES_MAX {
            return Ok(Err(format!(
                "the test needs the images of more than {IMAGES_MAX} kinds of hosts"
            )));
        }
        for host in hosts {
            self.provide(host)?;
        }
        let would = policy.mode != Mode::Enforce;
        let mut failures = Failures::default();
        for (a, b) in pairs {
            for &point in &points {
                let question = Asked { a, b, point, would, test };
                match self.judge(&question) {
                    Ok(failed) => failures.extend(failed),
                    Err(fault) => return Ok(Err(fault)),
                }
            }
        }
        Ok(Ok(failures))
    }

    fn provide(&mut self, index: HostIndex) -> Result<(), TrialError> {
        if self.images.contains_key(&index) {
            return Ok(());
        }
        let Some(host) = self.inventory.host(index) else { return Ok(()) };
        let facts = Facts::new(self.inventory, &host.id, &self.symbols, self.now);
        let compiled = compile(&self.policies, &facts)
            .map_err(|source| TrialError::Compile { host: host.id.clone(), source })?;
        self.images.insert(index, compiled);
        Ok(())
    }

    /// The failure, if the flow has another answer than the test names; an error if there are too many processes.
    fn judge(&self, asked: &Asked<'_>) -> Result<Option<FailedFlow>, String> {
        let out = self.one_end(asked, Direction::Out)?;
        let accepting = self.one_end(asked, Direction::In)?;
        Ok(self.unwanted(asked, [&out, &accepting]))
    }

    /// The failure, by what the ends say that say anything.
    fn unwanted(
        &self,
        asked: &Asked<'_>,
        said: [&Option<(HostIndex, Said)>; 2],
    ) -> Option<FailedFlow> {
        let ends = || said.into_iter().flatten();
        let subjects = |which: usize| {
            said.map(|end| {
                let found =
                    end.as_ref().and_then(|(_, said)| said.first.get(which).copied().flatten());
                found.map_or(Symbols::STRANGER, |(subject, _)| subject)
            })
        };
        let unwanted = match asked.test.answer {
            // Some process of one end is denied.
            Answer::Allow => ends().find_map(|(host, said)| {
                Some((*host, said.first[1]?.1, Verdict::Deny, subjects(1)))
            }),
            // At each end some process is allowed.
            Answer::Deny if ends().all(|(_, said)| said.some_allowed) => {
                ends().last().and_then(|(host, said)| {
                    Some((*host, said.first[0]?.1, Verdict::Allow, subjects(0)))
                })
            }
            Answer::Deny => None,
        };
        unwanted.map(|(host, rule, verdict, subjects)| {
            let origin = self.images.get(&host).and_then(|compiled| compiled.origin(rule));
            FailedFlow {
                flow: asked
                    .spell(self.inventory, subjects.map(|subject| self.symbols.spell(&subject))),
                verdict: word(verdict),
                host: self.inventory.host(host).map(|host| host.id.clone()).unwrap_or_default(),
                rule: origin.map(|origin| origin.id.clone()).unwrap_or_default(),
                rule_text: origin.map(|origin| origin.text.clone()).unwrap_or_default(),
            }
        })
    }

    /// What the end says that connects, or that accepts; nothing if it is not a host of the inventory.
    fn one_end(
        &self,
        asked: &Asked<'_>,
        direction: Direction,
    ) -> Result<Option<(HostIndex, Said)>, String> {
        let client = Endpoint { address: asked.a.address, port: 0 };
        let server = Endpoint { address: asked.b.address, port: asked.point.port };
        let (own, local, remote, process) = match direction {
            Direction::Out => (asked.a, client, server, &asked.test.flows.from.process),
            Direction::In => (asked.b, server, client, &asked.test.flows.to.process),
        };
        let Some((host, compiled)) =
            own.host.and_then(|host| Some((host, self.images.get(&host)?)))
        else {
            return Ok(None);
        };
        let mut said = Said { some_allowed: false, first: [None, None] };
        let process: Option<&Process> = process.as_ref();
        let subjects =
            subjects(&compiled.rules, direction, process, &self.symbols).ok_or_else(|| {
                format!("rules tell more than {PROCESSES_MAX} kinds of processes apart")
            })?;
        for subject in subjects {
            let flow = Flow { direction, protocol: asked.point.protocol, local, remote, subject };
            let decision = decide(&flow, &compiled.now());
            let judgement = if asked.would { decision.would } else { decision.enforced };
            said.some_allowed |= judgement.verdict == Verdict::Allow;
            let [allowed, denied] = &mut said.first;
            let first = if judgement.verdict == Verdict::Allow { allowed } else { denied };
            first.get_or_insert((subject, judgement.rule));
        }
        Ok(Some((host, said)))
    }
}

/// One kind of flow.
struct Asked<'a> {
    a: &'a End,
    b: &'a End,
    point: Point,
    would: bool,
    test: &'a Test,
}

impl Asked<'_> {
    fn spell(&self, inventory: &Inventory, [from, to]: [String; 2]) -> String {
        let end = |end: &End| match end.host.and_then(|host| inventory.host(host)) {
            Some(host) if host.addresses.len() == 1 => host.id.clone(),
            Some(_) | None => crate::compile::std_address(end.address).to_string(),
        };
        format!("{}{from} -> {}{to} : {}", end(self.a), end(self.b), self.point)
    }
}

/// One pair of different hosts for each pair of kinds; a host with itself if there is no other.
fn pairs<'a>(from: &'a [End], to: &'a [End]) -> Vec<(&'a End, &'a End)> {
    let every = || from.iter().flat_map(move |a| to.iter().map(move |b| (a, b)));
    let pairs = apart(from, to);
    if !pairs.is_empty() {
        return pairs;
    }
    every().filter(enforced).collect()
}

/// One pair of different hosts for each pair of kinds.
fn apart<'a>(from: &'a [End], to: &'a [End]) -> Vec<(&'a End, &'a End)> {
    let every = from.iter().flat_map(move |a| to.iter().map(move |b| (a, b)));
    let mut seen = std::collections::BTreeSet::new();
    every
        .filter(enforced)
        .filter(|(a, b)| a.host.is_none() || a.host != b.host)
        .filter(|(a, b)| seen.insert((a.class, b.class)))
        .collect()
}

/// Whether a flow is possible, and somebody judges it.
fn enforced((a, b): &(&End, &End)) -> bool {
    (a.host.is_some() || b.host.is_some()) && a.address.is_v4() == b.address.is_v4()
}
