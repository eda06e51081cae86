//! The question: who connects to whom by which service.

use verdict::{Address, Protocol};

use super::ExplainError;
use crate::{
    diagnostic::Diagnostics,
    format,
    inventory::{HOST_KEY, HostIndex, Inventory},
    parse::parse,
    syntax::{End, Expression, Flows, LabelTest, Process, ServiceKind},
};

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// The host of the inventory, if it is one.
    pub host: Option<HostIndex>,
    /// Its address in this connection.
    pub address: Address,
    /// The process there, if it is described.
    pub process: Option<Process>,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Who connects.
    pub from: Party,
    /// Who accepts.
    pub to: Party,
    /// By which protocol.
    pub protocol: Protocol,
    /// To which port; 0 for a protocol without ports.
    pub port: u16,
    /// The service as written.
    pub service: ServiceKind,
}

impl Question {
    /// Reads `FROM -> TO : SERVICE`, an end being a host of the inventory or one address, with a process in brackets.
    ///
    /// A host with several addresses takes part with the first one of a family that the other end has, too.
    ///
    /// # Errors
    /// [`ExplainError`]
    pub fn read(text: &str, inventory: &Inventory) -> Result<Self, ExplainError> {
        let mut report = Diagnostics::default();
        let parsed = parse(format!("test allow {text}\n").as_bytes(), 0, &mut report);
        let mut tests = parsed.document.tests();
        let (Some(test), None, false) = (tests.next(), tests.next(), report.has_errors()) else {
            return Err(ExplainError::Malformed(text.to_owned(), report));
        };
        let Flows { from, to, services } = &test.flows;
        let (service, protocol, port) = match services.as_slice() {
            [one] => match &one.kind {
                ServiceKind::Ports(protocol, ports) if ports.first == ports.last => {
                    (one.kind.clone(), *protocol, ports.first)
                }
                ServiceKind::Ports(protocol, _) if !has_ports(*protocol) => {
                    (one.kind.clone(), *protocol, 0)
                }
                ServiceKind::Ports(..) | ServiceKind::Any | ServiceKind::Named(_) => {
                    return Err(ExplainError::Service(one.kind.to_string()));
                }
            },
            _ => return Err(ExplainError::Service(text.to_owned())),
        };
        let (from_host, from_addresses) = candidates(from, inventory)?;
        let (to_host, to_addresses) = candidates(to, inventory)?;
        let (from_address, to_address) = from_addresses
            .iter()
            .flat_map(|&a| to_addresses.iter().map(move |&b| (a, b)))
            .find(|(a, b)| a.is_v4() == b.is_v4())
            .or_else(|| Some((*from_addresses.first()?, *to_addresses.first()?)))
            .ok_or_else(|| ExplainError::NoAddress(text.to_owned()))?;
        // Loopback is at the host that the other end names.
        let at = |address: Address, own: Option<HostIndex>, other: Option<HostIndex>| {
            if address.is_loopback() { other.or(own) } else { own }
        };
        let host = [at(from_address, from_host, to_host), at(to_address, to_host, from_host)];
        // Who connects to its own loopback address does so from there.
        let from_address = match (to_address.is_loopback(), to_address.is_v4()) {
            (true, true) => Address::LOOPBACK_V4,
            (true, false) => Address::LOOPBACK_V6,
            (false, _) => from_address,
        };
        Ok(Self {
            from: Party { host: host[0], address: from_address, process: from.process.clone() },
            to: Party { host: host[1], address: to_address, process: to.process.clone() },
            protocol,
            port,
            service,
        })
    }
}

fn has_ports(protocol: Protocol) -> bool {
    protocol == Protocol::TCP || protocol == Protocol::UDP
}

/// The host that an end is, and the addresses that it may have.
fn candidates(
    end: &End,
    inventory: &Inventory,
) -> Result<(Option<HostIndex>, Vec<Address>), ExplainError> {
    let written = || format::selector_text(&end.selector);
    let found = match &*end.selector.expression {
        Expression::Named(word) => inventory.find(word),
        Expression::Label { key, test: LabelTest::Is(id) } if key.text == HOST_KEY => {
            inventory.with_label(HOST_KEY, &id.text).first().copied()
        }
        Expression::Addresses(addresses) if addresses.first() == addresses.last() => {
            let address = addresses.first().as_destination();
            let host = inventory.find_address(address).filter(|_| !address.is_loopback());
            return Ok((host, vec![address]));
        }
        Expression::Addresses(_)
        | Expression::Label { .. }
        | Expression::Any
        | Expression::Me
        | Expression::Not(_)
        | Expression::AllOf(_)
        | Expression::AnyOf(_)
        | Expression::Except(..) => None,
    };
    let (index, host) = found
        .and_then(|index| Some((index, inventory.host(index)?)))
        .ok_or_else(|| ExplainError::Party(written()))?;
    if host.addresses.is_empty() {
        return Err(ExplainError::NoAddress(host.id.clone()));
    }
    Ok((Some(index), host.addresses.clone()))
}
