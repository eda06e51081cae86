//! What is served: a protocol and its ports.

use std::{borrow::Cow, fmt, ops::RangeInclusive, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use verdict::Protocol;

use crate::span::Span;

/// Every port of a protocol, and what stands for a protocol without ports.
pub(crate) const ALL_PORTS: RangeInclusive<u16> = 0..=u16::MAX;

/// Protocols that have a word. Others are written as their number (`47/any`).
const PROTOCOLS: [(&str, Protocol); 6] = [
    ("tcp", Protocol::TCP),
    ("udp", Protocol::UDP),
    ("sctp", Protocol::SCTP),
    ("udplite", Protocol::UDPLITE),
    ("icmp", Protocol::ICMP),
    ("icmpv6", Protocol::ICMPV6),
];

/// A service, with its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Service {
    /// What is served.
    pub kind: ServiceKind,
    /// Where it stands.
    pub span: Span,
}

/// What a service can be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServiceKind {
    /// `any`: every protocol, every port.
    Any,
    /// `tcp/80-90`. All ports (0 to 65535) where `any` is written for them, and always for protocols other than TCP and
    /// UDP.
    Ports(Protocol, PortRange),
    /// A name of the document.
    Named(String),
}

/// Ports from the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRange {
    /// First port.
    pub first: u16,
    /// Last port, not below the first.
    pub last: u16,
}

/// Why a text is not a service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// Ports without a protocol.
    #[error("`{0}` has no protocol: `tcp/{0}` and `udp/{0}` have")]
    NoProtocol(String),
    /// A protocol without ports.
    #[error("`{0}` has no ports: all of them are `{0}/any`")]
    NoPorts(String),
    /// A protocol nobody knows.
    #[error(
        "`{0}` is not a protocol: tcp, udp, sctp, udplite, icmp, icmpv6 and numbers from 0 to 255 are"
    )]
    Protocol(String),
    /// Port 0 means "choose one for me" to the kernel and is never connected to.
    #[error("port 0 is not a port: 1 to 65535 are, and all of them are `any`")]
    PortZero,
    /// A port that is no number or too large.
    #[error("`{0}` is not a port: 1 to 65535 are, and all of them are `any`")]
    Port(String),
    /// A range that ends before it begins.
    #[error("the port range ends before it begins: write `{last}-{first}`")]
    Reversed {
        /// As written.
        first: u16,
        /// As written.
        last: u16,
    },
    /// Ports for a protocol whose ports are not looked at.
    #[error("ports of `{0}` are not looked at: write `{0}/any`")]
    Portless(String),
    /// Not a service and not a name.
    #[error("`{0}` is not a service: `tcp/5432`, `udp/any`, `any` or a name is")]
    Malformed(String),
}

impl Service {
    /// Every protocol and port.
    pub fn any(span: Span) -> Self {
        Self { kind: ServiceKind::Any, span }
    }
}

impl FromStr for ServiceKind {
    type Err = ServiceError;

    fn from_str(text: &str) -> Result<Self, ServiceError> {
        if text == "any" {
            return Ok(Self::Any);
        }
        let Some((protocol, ports)) = text.split_once('/') else { return word(text) };
        let canonical =
            protocol_of(protocol).ok_or_else(|| ServiceError::Protocol(protocol.to_owned()))?;
        let range = port_range(ports)?;
        let has_ports = canonical == Protocol::TCP || canonical == Protocol::UDP;
        if !has_ports && range != PortRange::ALL {
            return Err(ServiceError::Portless(protocol.to_owned()));
        }
        Ok(Self::Ports(canonical, range))
    }
}

/// A text without `/`: a name, or something whose other half is missing.
fn word(text: &str) -> Result<ServiceKind, ServiceError> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        Err(ServiceError::NoProtocol(text.to_owned()))
    } else if PROTOCOLS.iter().any(|&(name, _)| name == text) {
        Err(ServiceError::NoPorts(text.to_owned()))
    } else if is_name(text) {
        Ok(ServiceKind::Named(text.to_owned()))
    } else {
        Err(ServiceError::Malformed(text.to_owned()))
    }
}

/// Whether `text` can be a name: a letter or `_`, then letters, digits, `_`, `-` and `.`.
pub(crate) fn is_name(text: &str) -> bool {
    let mut characters = text.chars();
    characters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && characters.all(|next| next.is_ascii_alphanumeric() || matches!(next, '_' | '-' | '.'))
        && text.len() <= crate::limits::WORD_BYTES_MAX
}

/// Whether `text` is the word of a protocol.
pub(crate) fn is_protocol(text: &str) -> bool {
    PROTOCOLS.iter().any(|&(name, _)| name == text)
}

fn protocol_of(text: &str) -> Option<Protocol> {
    let named = PROTOCOLS.iter().find(|&&(name, _)| name == text).map(|&(_, protocol)| protocol);
    named.or_else(|| digits(text)?.parse().ok().map(Protocol))
}

/// `text` if it is a number as people write it: digits, no leading zero.
fn digits(text: &str) -> Option<&str> {
    let plain = !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'));
    plain.then_some(text)
}

fn port_range(text: &str) -> Result<PortRange, ServiceError> {
    if text == "any" {
        return Ok(PortRange::ALL);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    if last < first {
        return Err(ServiceError::Reversed { first, last });
    }
    Ok(PortRange { first, last })
}

fn port(text: &str) -> Result<u16, ServiceError> {
    match digits(text).and_then(|digits| digits.parse().ok()) {
        Some(0) => Err(ServiceError::PortZero),
        Some(port) => Ok(port),
        None => Err(ServiceError::Port(text.to_owned())),
    }
}

impl PortRange {
    /// Every port.
    pub const ALL: Self = Self { first: *ALL_PORTS.start(), last: *ALL_PORTS.end() };

    /// As a standard range.
    pub fn range(self) -> RangeInclusive<u16> {
        self.first..=self.last
    }
}

impl fmt::Display for ServiceKind {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => to.write_str("any"),
            Self::Named(name) => to.write_str(name),
            Self::Ports(protocol, ports) => {
                match PROTOCOLS.iter().find(|&&(_, known)| known == *protocol) {
                    Some((name, _)) => to.write_str(name)?,
                    None => write!(to, "{}", protocol.0)?,
                }
                match *ports {
                    PortRange::ALL => to.write_str("/any"),
                    PortRange { first, last } if first == last => write!(to, "/{first}"),
                    PortRange { first, last } => write!(to, "/{first}-{last}"),
                }
            }
        }
    }
}

impl TryFrom<String> for Service {
    type Error = ServiceError;

    fn try_from(text: String) -> Result<Self, ServiceError> {
        Ok(Self { kind: text.parse()?, span: Span::default() })
    }
}

impl From<Service> for String {
    fn from(service: Service) -> Self {
        service.kind.to_string()
    }
}

impl JsonSchema for Service {
    fn schema_name() -> Cow<'static, str> {
        "Service".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "any, a protocol with ports (tcp/5432, udp/8000-8999, tcp/any, 47/any), or a name.",
            "type": "string",
            "minLength": 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> String {
        match text.parse::<ServiceKind>() {
            Ok(service) => service.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn services_go_round() {
        for text in
            ["any", "tcp/1", "tcp/65535", "udp/8000-8999", "tcp/any", "47/any", "icmpv6/any", "pg"]
        {
            assert_eq!(written(text), text);
        }
        assert_eq!(written("6/22"), "tcp/22");
    }

    #[test]
    fn every_fault_is_named() {
        assert_eq!(written("5432"), "`5432` has no protocol: `tcp/5432` and `udp/5432` have");
        assert_eq!(written("tcp"), "`tcp` has no ports: all of them are `tcp/any`");
        assert_eq!(
            written("tcp/0"),
            "port 0 is not a port: 1 to 65535 are, and all of them are `any`"
        );
        assert_eq!(
            written("tcp/70000"),
            "`70000` is not a port: 1 to 65535 are, and all of them are `any`"
        );
        assert_eq!(written("tcp/90-80"), "the port range ends before it begins: write `80-90`");
        assert_eq!(written("sctp/80"), "ports of `sctp` are not looked at: write `sctp/any`");
        assert_eq!(
            written("256/any"),
            "`256` is not a protocol: tcp, udp, sctp, udplite, icmp, icmpv6 and numbers from 0 to 255 are"
        );
    }
}
