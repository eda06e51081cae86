//! Why something is not done.

use jiff::Timestamp;
use wire::VerifyError;

/// Why something is not done. Each names the thing.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// There is no such host.
    #[error("there is no host `{0}`")]
    NoHost(String),
    /// There is no such relay.
    #[error("there is no relay `{0}`")]
    NoRelay(String),
    /// An id or a name that cannot be one.
    #[error(
        "`{0}` cannot be a name here: letters, digits, `-`, `_` and `.`, at most 253, the first a letter or digit"
    )]
    Name(String),
    /// It is enrolled already.
    #[error(
        "`{0}` is enrolled already: remove it first, or enroll it again, by which its certificate is worth nothing any more"
    )]
    Enrolled(String),
    /// The labels, names or addresses are not in order.
    #[error("{0}")]
    Faulty(String),
    /// Somebody else's.
    #[error("the address {address} is that of `{host}`")]
    Address {
        /// The address.
        address: String,
        /// Whose it is.
        host: String,
    },
    /// Somebody else's.
    #[error("the name `{name}` is that of `{host}`")]
    Named {
        /// The name.
        name: String,
        /// Whose it is.
        host: String,
    },
    /// The token is not one, or was used. An outsider is not told which.
    #[error("the token is not valid: it was used, was never made, or is not this one's")]
    Token,
    /// The token is right, and too late.
    #[error("the token expired at {0}")]
    Expired(Timestamp),
    /// The certificate is not the one that was given out.
    #[error(
        "the certificate of `{0}` is not the one that it was given: it was replaced or revoked"
    )]
    Certificate(String),
    /// The policy speaks of it.
    #[error(
        "the policy speaks of `{host}` by its name, in {document}: apply one that does not first"
    )]
    Spoken {
        /// The host.
        host: String,
        /// The document.
        document: String,
    },
    /// Nobody told the controller which root to trust.
    #[error("the controller trusts no root yet")]
    NoRoot,
    /// It trusts one already.
    #[error("the controller trusts another root already: one that follows it comes with a bundle")]
    OtherRoot,
    /// The bundle is not in order.
    #[error("no host would take this bundle: {0}")]
    Bundle(#[from] VerifyError),
    /// The documents make no sense together with the hosts that there are.
    #[error("the policy does not fit the hosts that there are:\n{0}")]
    Policy(String),
    /// Tests in the policy fail.
    #[error("{} of the policy's tests fail:\n{}", .0.len(), .0.join("\n"))]
    Tests(Vec<String>),
    /// Nothing would change.
    #[error("version {0} is current already, with this very bundle")]
    Same(u64),
    /// Another rollout goes on.
    #[error("version {0} is being tried: confirm it or roll it back first")]
    Open(u64),
    /// Nothing goes on.
    #[error("no version is being tried")]
    NotOpen,
    /// There is nothing to go back to by itself.
    #[error(
        "no version is being tried, and what was signed never goes back: sign the documents of an earlier version \
         anew, with higher versions, and apply that bundle (`fwnet fleet history` names the versions, \
         `fwnet fleet diff` shows what changed)"
    )]
    NoWayBack,
    /// No host would be a canary.
    #[error("no enrolled host is among the canary hosts")]
    NoCanary,
    /// Too many would have to be named.
    #[error("{0} hosts are selected, and at most {max} can be: give a share of all hosts", max = crate::limits::PICKED_MAX)]
    Picked(usize),
    /// A selector that cannot be read.
    #[error("the selector `{selector}` cannot be read:\n{why}")]
    Selector {
        /// As it was given.
        selector: String,
        /// What is wrong.
        why: String,
    },
    /// A time that makes no sense.
    #[error("a version is tried for {min} seconds to {max}, and not for {0}", min = crate::limits::CONFIRM_S_MIN, max = crate::limits::CONFIRM_S_MAX)]
    Confirm(u64),
    /// There is no policy.
    #[error("no version has been applied yet")]
    NoVersion,
    /// The key may not sign timestamps.
    #[error("the timestamp key cannot sign for this root: {0}")]
    Stamp(String),
    /// Its documents were removed.
    #[error("the documents of version {0} are not kept any more: those of the newest versions are")]
    Collected(u64),
    /// A record that should be there is not.
    #[error("the store lacks {0}: restore it from a backup, or apply a bundle anew")]
    Lost(String),
}
