//! What an image may need at most, and what a rule set must not say.

/// Labels (sets that hold an address, lists that hold a port, tests that hold for a process) of all classes of one kind, 4
/// bytes each. 65,535 remote classes may be in 256 sets each; nested sets without end are found here before they fill the
/// memory.
pub(crate) const LABELS_MAX: u32 = 16 * 1024 * 1024;
/// Ranges of all address sets that rules name: more than the lines of an image have room for.
pub(crate) const RANGES_MAX: u32 = 4 * 1024 * 1024;
/// Labels that are looked at where ranges begin and end: a second's work or two.
pub(crate) const STEPS_MAX: u32 = 1 << 30;
/// Rules that are looked at for what follows when others end: 64 for each cell there may be.
pub(crate) const FOLLOWING_MAX: u32 = 1 << 28;
/// Words of 64 rules, by remote class, that have any rule about its addresses: 16 bytes each.
pub(crate) const COLUMNS_MAX: u32 = 16 * 1024 * 1024;

/// A limit of [`verdict::limits`], or of what compiling may take, that the rules would break. Nothing is built then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {needed} needed, {limit} is the budget{}", self.culprit())]
pub struct Budget {
    /// Which budget.
    pub what: &'static str,
    /// How much the rules need, at least: counting stops where the budget breaks.
    pub needed: u64,
    /// How much there is.
    pub limit: u64,
    /// The id of the rule at which the budget broke, where one rule is to blame.
    pub rule: Option<String>,
}

impl Budget {
    pub(crate) fn spend(
        what: &'static str,
        needed: usize,
        limit: u32,
        rule: Option<&str>,
    ) -> Result<(), Self> {
        let needed = needed as u64;
        if needed <= u64::from(limit) {
            return Ok(());
        }
        Err(Self { what, needed, limit: u64::from(limit), rule: rule.map(str::to_owned) })
    }

    fn culprit(&self) -> String {
        self.rule.as_ref().map_or_else(String::new, |rule| format!(", broken by rule {rule}"))
    }
}

/// A rule set that has no meaning: a fault of whoever made it, found before anything is built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A rule names a set that is not there.
    #[error("rule {rule} names address set {set}, and there are only {sets}")]
    Set {
        /// The rule.
        rule: String,
        /// The set it names.
        set: u32,
        /// How many there are.
        sets: usize,
    },
    /// A rule without services matches nothing.
    #[error("rule {rule} has no services")]
    Services {
        /// The rule.
        rule: String,
    },
    /// Ports on a protocol that has none, or a range that ends before it begins.
    #[error("rule {rule} has ports {first}-{last} on protocol {protocol}")]
    Ports {
        /// The rule.
        rule: String,
        /// First port.
        first: u16,
        /// Last port.
        last: u16,
        /// The protocol's number, or "any".
        protocol: String,
    },
    /// A local address on an outbound rule: the address is not chosen yet when the rule is judged.
    #[error("rule {rule} is outbound and names a local address")]
    Local {
        /// The rule.
        rule: String,
    },
    /// Some flow would be decided by no rule.
    #[error("no rule of the last tier matches everything {direction} for good")]
    Default {
        /// "going out" or "coming in".
        direction: &'static str,
    },
}
