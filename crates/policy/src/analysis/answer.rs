//! What the analysis answers, as values that serialise. Rendering them for people is the program's job.
//!
//! Hosts and addresses appear as [`Group`]s, each listed once and referred to by its place. Entries are about all flows
//! from any member of one group to any member of another, and of one address family.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::limits;
use crate::compile::Stated;

/// Which of the two verdicts a question is about.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// What is enforced.
    #[default]
    Enforced,
    /// What would be if every rule in audit were enforced, too.
    Would,
}

/// Hosts and addresses that behave alike in an answer.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub struct Group {
    /// The shortest description that was found: a name of a policy, labels, ids or addresses. For people; what follows is
    /// exact.
    pub name: String,
    /// Ids of the hosts that are in the group with all their addresses, sorted; in entries about loopback, with all of
    /// loopback. Empty where there is no inventory: then the only host is whoever enforces the policies.
    pub hosts: Vec<String>,
    /// Other hosts, of which only some addresses are in the group.
    pub parts: Vec<Part>,
    /// Prefixes and ranges: of the addresses in them those are in the group that belong to no host of the inventory, and
    /// are neither loopback nor unspecified.
    pub outside: Vec<String>,
}

/// Hosts with some of their addresses.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub struct Part {
    /// Ids of the hosts, sorted.
    pub hosts: Vec<String>,
    /// Prefixes and ranges: of the hosts' addresses those in them are meant.
    pub addresses: Vec<String>,
}

/// How the two ends of a flow are related.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// Two hosts, or a host and an address outside the inventory. A host in both groups does not mean itself.
    Between,
    /// A host and itself, by addresses that others can reach, too.
    Itself,
    /// A host and itself, from loopback to loopback.
    Loopback,
}

/// Which processes of an end. The text of one is the qualifier that names it, such as `[user=www-data]`; `not in` stands
/// for every value but those listed. Names that differ are taken as different users, groups, executables and units, and
/// `root` as user and group 0, because only a host knows its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Processes {
    /// Every process; also where nothing is known of them, outside the inventory.
    Any,
    /// Those that any of these qualifiers means; never empty.
    Only(Vec<String>),
    /// Every process that none of these qualifiers means; never empty.
    AllBut(Vec<String>),
}

/// One connection as an example: it can be tried.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Connection {
    /// Id of the host that connects; `None` outside the inventory.
    pub from_host: Option<String>,
    /// Its address; `None` for a host whose addresses are not known.
    pub from_address: Option<String>,
    /// Id of the host that accepts; `None` outside the inventory.
    pub to_host: Option<String>,
    /// Its address.
    pub to_address: String,
    /// IP protocol number.
    pub protocol: u8,
    /// The port that is connected to; 0 for a protocol without ports.
    pub port: u16,
}

/// Flows from one group to another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct GroupFlows {
    /// Who connects: place among the answer's groups.
    pub from: usize,
    /// Who accepts: place among the answer's groups.
    pub to: usize,
    /// How the two are related.
    pub relation: Relation,
    /// The services, as a policy writes them.
    pub services: Vec<String>,
    /// By which processes where the flow starts.
    pub from_processes: Processes,
    /// By which processes where it ends.
    pub to_processes: Processes,
    /// One of these flows.
    pub example: Connection,
}

/// What changes from one set of policies to another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Diff {
    /// What the entries refer to.
    pub groups: Vec<Group>,
    /// Possible after, not before.
    pub allowed: Vec<GroupFlows>,
    /// Possible before, not after.
    pub denied: Vec<GroupFlows>,
    /// Ids of hosts without addresses: flows between them and other hosts cannot be judged and are left out; those
    /// between them and the outside are not.
    pub unplaced: Vec<String>,
}

impl Diff {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.allowed.is_empty() && self.denied.is_empty()
    }
}

/// Which groups may reach which.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Matrix {
    /// What the entries refer to.
    pub groups: Vec<Group>,
    /// What is possible; what is not listed is denied at one end or at both.
    pub allowed: Vec<GroupFlows>,
    /// As in [`Diff::unplaced`].
    pub unplaced: Vec<String>,
}

/// The rule, default or built-in baseline that decides.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Decider {
    /// The stable id, as events and `read_aloud` name it.
    pub id: String,
    /// What it says, on one line.
    pub text: String,
    /// Where it is stated; `None` for what is built in. Not part of the serialised form: the program turns it into a
    /// file and a line.
    #[serde(skip)]
    pub stated: Option<Stated>,
}

/// Sources that can reach the target, with the rules that let them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Source {
    /// Who connects: place among the answer's groups.
    pub from: usize,
    /// How it is related to the target.
    pub relation: Relation,
    /// By which addresses of the target: place among the answer's groups.
    pub to: usize,
    /// Which of the services that were asked about, as a policy writes them.
    pub services: Vec<String>,
    /// By which processes where the flow starts.
    pub from_processes: Processes,
    /// By which processes of the target.
    pub to_processes: Processes,
    /// What allows it where it starts; `None` outside the inventory.
    pub out: Option<Decider>,
    /// What allows it where it ends; `None` outside the inventory.
    pub into: Option<Decider>,
    /// One of these flows.
    pub example: Connection,
}

/// Who can reach one port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reach {
    /// What the entries refer to.
    pub groups: Vec<Group>,
    /// Every source; whoever is not listed is denied at one end or at both.
    pub sources: Vec<Source>,
    /// As in [`Diff::unplaced`].
    pub unplaced: Vec<String>,
}

/// What is wrong with a rule.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// No flow of any host of the inventory is meant by the rule.
    NeverMatching,
    /// Every flow that the rule means is decided by an earlier tier, or by a deny of its own tier: it has no say.
    Shadowed,
    /// The rule has a say, but without it every flow would get the same verdict.
    Redundant,
    /// An allowing rule of which at least two of FROM, TO and SERVICES are everything: an end that holds every address
    /// outside the inventory, or services that hold every port of TCP or UDP.
    OverBroad,
    /// An allowing and a denying rule of one tier mean some flows in common, and each means others: what the allowing one
    /// says is partly taken back.
    Correlated,
}

/// One flow at one end, with what is said of it: what proves a finding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Witness {
    /// Id of the host that judges the flow.
    pub host: String,
    /// Whether that host accepts (else it connects).
    pub inbound: bool,
    /// The connection.
    pub connection: Connection,
    /// The process at that host, as the qualifier that names it; empty for any.
    pub process: String,
    /// The rule that decides the flow.
    pub decided_by: String,
    /// Whether the flow is allowed.
    pub allowed: bool,
}

/// One finding about one rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// What is wrong.
    pub fault: Fault,
    /// The rule.
    pub rule: Decider,
    /// The rule that shadows it, makes it redundant (one of them) or is correlated with it.
    pub other: Option<Decider>,
    /// What is everything (over-broad), or which end means nothing (never matching): `from`, `to`, `services`.
    pub parts: Vec<String>,
    /// The flow that proves it; `None` for a rule that never matches, since there is none.
    pub witness: Option<Witness>,
}

/// What is wrong with rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lint {
    /// In the order of the text, then of the faults.
    pub findings: Vec<Finding>,
    /// As in [`Diff::unplaced`].
    pub unplaced: Vec<String>,
}

/// Why a question is not answered. The answers are exact, so what is too much work is refused rather than sampled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnalysisError {
    /// A limit of [`limits`] is broken.
    #[error("the analysis needs {needed} {what}, more than {max}")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How much of it, at least.
        needed: usize,
        /// The limit.
        max: usize,
    },
    /// The target is no host of the inventory and no address.
    #[error("`{0}` is neither a host of the inventory nor an address")]
    Target(String),
    /// The proof of a finding did not stand up against `read_aloud`: a fault of the analysis itself.
    #[error("rule {rule}: the analysis and the policy read aloud disagree about {flow}")]
    Disagreement {
        /// The rule that the finding is about.
        rule: String,
        /// The flow.
        flow: String,
    },
}

impl AnalysisError {
    /// Refuses what breaks a limit.
    pub(super) fn limit(what: &'static str, needed: usize, max: usize) -> Result<(), Self> {
        if needed > max { Err(Self::TooLarge { what, needed, max }) } else { Ok(()) }
    }
}

/// Steps of work that are left.
#[derive(Debug)]
pub(super) struct Effort {
    spent: usize,
}

impl Effort {
    pub(super) fn new() -> Self {
        Self { spent: 0 }
    }

    pub(super) fn spend(&mut self, steps: usize) -> Result<(), AnalysisError> {
        self.spent = self.spent.saturating_add(steps);
        AnalysisError::limit("steps", self.spent, limits::STEPS_MAX)
    }
}
