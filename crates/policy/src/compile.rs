//! Policies to the rules and the image of one host. Pure and deterministic: equal policies and facts give equal bytes.
//!
//! Three steps, shared by [`compile`] and the incremental [`Compiler`](crate::Compiler): each written rule is *placed*
//! (what it is at this host, at either end), selectors become address sets, and what concerns the host is *assembled*
//! into an [`image::RuleSet`].

mod assemble;
mod note;
mod origin;
mod place;
mod sets;

use image::{At, Image, RuleSet};

pub(crate) use assemble::{Gathered, gather};
pub use note::Note;
pub(crate) use note::std_address;
pub use origin::{Origin, Stated};
pub(crate) use place::{Placed, Scene, place_failsafe, place_rule};
pub(crate) use sets::{SetKey, Sets};

use crate::{
    facts::{Facts, Here},
    policy::Policy,
    resolve::AddressOrder,
    syntax::Way,
};

/// Tiers of the image. The policies' own lie between.
pub(crate) mod tier {
    use crate::syntax::Tier;

    /// What stays allowed whatever any rule says.
    pub(crate) const FAILSAFE: u8 = 0;
    /// Loopback, where no rule says anything about it.
    pub(crate) const LOOPBACK: u8 = 4;
    /// The defaults.
    pub(crate) const DEFAULT: u8 = 5;

    pub(crate) const fn of(tier: Tier) -> u8 {
        match tier {
            Tier::Admin => 1,
            Tier::Team => 2,
            Tier::Baseline => 3,
        }
    }
}

/// What policies are at one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// The rules that concern the host, in the order of the tiers and of the text. The number of a rule
    /// ([`verdict::RuleNumber`]) is its place.
    pub rules: RuleSet,
    /// The rules as tables: what the kernel reads.
    pub image: Image,
    /// Where each rule comes from, by number.
    pub origins: Vec<Origin>,
    /// What whoever enforces this should know.
    pub notes: Vec<Note>,
    /// The moment of the facts, as the image tells moments.
    pub now_ns: u64,
    /// Whether a datagram coming in can be denied, so that answers to allowed sends need the table of recent sends.
    pub answers_needed: bool,
}

impl Compiled {
    /// The image as it is at the moment of the facts.
    pub fn now(&self) -> At<'_> {
        self.image.at(self.now_ns)
    }

    /// Where the rule of this number comes from; `None` for a number that the image does not have, such as
    /// [`verdict::RuleNumber::MALFORMED`].
    pub fn origin(&self, rule: verdict::RuleNumber) -> Option<&Origin> {
        self.origins.get(usize::from(rule.0))
    }
}

/// Why policies cannot be enforced on a host: the rules do not fit into an image, by the named rule and budget.
pub type CompileError = image::CompileError;

/// Compiles `policies`, which were checked together without errors, for the host of `facts`.
///
/// A rule `FROM -> TO` is enforced at both ends: on hosts in FROM when they connect and on hosts in TO when they accept.
/// A process qualifier is judged at the end where the process lives. The other end cannot know the process, and leaves
/// the verdict to the end that can: there an allowing rule allows whatever the process, and a denying one says nothing.
///
/// # Errors
/// [`CompileError`] if the rules do not fit.
pub fn compile(policies: &[Policy], facts: &Facts<'_>) -> Result<Compiled, CompileError> {
    gathered(policies, facts).compile()
}

/// The first half of [`compile`]: the rules that concern the host of `facts`, and where each comes from.
pub fn host_rules(policies: &[Policy], facts: &Facts<'_>) -> (RuleSet, Vec<Origin>) {
    let Gathered { rules, origins, .. } = gathered(policies, facts);
    (rules, origins)
}

/// As [`host_rules`], with what whoever enforces them should know.
pub fn host_rules_with_notes(
    policies: &[Policy],
    facts: &Facts<'_>,
) -> (RuleSet, Vec<Origin>, Vec<Note>) {
    let Gathered { rules, origins, notes, .. } = gathered(policies, facts);
    (rules, origins, notes)
}

fn gathered(policies: &[Policy], facts: &Facts<'_>) -> Gathered {
    let here = Here::new(facts.inventory, facts.host, facts.addresses);
    let order = AddressOrder::new(facts.inventory);
    let mut sets = Sets::default();
    let mut placed = Vec::with_capacity(policies.len());
    for policy in policies {
        let scene = Scene::new(policy, facts.inventory, &here);
        let own = PlacedPolicy::new(policy, &scene, facts, &here);
        sets.fill(policy, own.all(), facts.inventory, &here, &order);
        placed.push(own);
    }
    gather(policies, &placed, &sets, facts, &here)
}

/// What one policy is at one host.
#[derive(Clone, Debug)]
pub(crate) struct PlacedPolicy {
    /// Its failsafe lines that concern the host.
    pub(crate) failsafe: Vec<Placed>,
    /// By place in [`Policy::rules`]; `None` where a rule does not concern the host.
    pub(crate) rules: Vec<Option<Box<Placed>>>,
}

impl PlacedPolicy {
    pub(crate) fn new(policy: &Policy, scene: &Scene, facts: &Facts<'_>, here: &Here) -> Self {
        Self {
            failsafe: place_failsafe(policy, scene, facts, here),
            rules: policy
                .rules()
                .map(|rule| place_rule(policy, rule, scene, facts, here))
                .collect(),
        }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Placed> {
        self.failsafe.iter().chain(self.rules.iter().flatten().map(|placed| &**placed))
    }
}

/// Both directions.
pub(crate) const WAYS: [Way; 2] = [Way::Out, Way::In];
