//! What is asked and answered by HTTP and JSON, by both sides: the bodies, and what an answer says when there is none.

pub mod client;
pub mod orders;

use serde::{Deserialize, Serialize};

/// Where those without a certificate bring their token.
pub const ENROL: &str = "/v1/enrol";
/// Where hosts and relays get their next certificate.
pub const RENEW: &str = "/v1/renew";

/// Somebody brings a token: the body of `POST /v1/enrol`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolling {
    /// Who they are to be: `fwnet:host/web-1`.
    pub subject: String,
    /// The token's secret, base64 (RFC 4648 section 4).
    pub secret: String,
    /// A request for a certificate (PKCS #10), DER in base64. Only its key counts.
    pub request: String,
}

impl std::fmt::Debug for Enrolling {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "{} brings a token", self.subject)
    }
}

/// They are enrolled: the answer to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    /// Their certificate, PEM.
    pub certificate: String,
    /// The authority's, PEM.
    pub authority: String,
    /// The envelope of the root that hosts begin with, base64.
    pub root: String,
    /// Controllers and relays from now on, `host:port` each.
    pub endpoints: Vec<String>,
}

/// The body of `POST /v1/renew`; who asks is said by their certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Renewing {
    /// See [`Enrolling::request`].
    pub request: String,
}

/// The answer to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewed {
    /// The new certificate, PEM.
    pub certificate: String,
    /// Controllers and relays from now on, `host:port` each.
    pub endpoints: Vec<String>,
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wrong {
    /// What is wrong, in one sentence.
    pub error: String,
    /// More of it, for people: lines of text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Where it can be done, `host:port`: with the status 421, by a controller that does not lead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
}
