//! What happens to the policy and to the programs themselves, and not to one flow.

use std::borrow::Cow;

use jiff::Timestamp;

/// One such happening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    /// When, by the wall clock.
    pub(crate) time: Timestamp,
    /// A word for it that stays the same: `policy-applied`, `link-mended`, ...
    pub(crate) action: Cow<'static, str>,
    /// What happened, in one sentence without a full stop.
    pub(crate) text: String,
    /// Whether somebody laid hands on the programs or hides from them.
    pub(crate) tamper: bool,
    /// Version of the policy in force afterwards.
    pub(crate) version: u64,
}
