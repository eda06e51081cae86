//! Services as sets: for each protocol, ports.

use policy::syntax::{Service, ServiceKind};
use verdict::Protocol;

use super::{escape::Why, names::Names};

/// Names that may be looked up one through the other.
const CHAIN_MAX: u32 = 64;
/// Services that one list of them may stand for, names looked up.
const SERVICES_MAX: usize = 65_536;

/// For each protocol by its number, ranges of ports.
pub(super) struct Served(Vec<Vec<(u16, u16)>>);

impl Served {
    /// # Errors
    /// A name that does not stand for services.
    pub(super) fn of(services: &[Service], names: &Names<'_>) -> Result<Self, Why> {
        let mut served = Self(vec![Vec::new(); 256]);
        let mut left = SERVICES_MAX;
        served.add(services, names, CHAIN_MAX, &mut left)?;
        for ranges in &mut served.0 {
            ranges.sort_unstable();
            let mut merged: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
            for &(first, last) in ranges.iter() {
                match merged.last_mut() {
                    Some(before) if first <= before.1.saturating_add(1) => {
                        before.1 = before.1.max(last)
                    }
                    Some(_) | None => merged.push((first, last)),
                }
            }
            *ranges = merged;
        }
        Ok(served)
    }

    fn add(
        &mut self,
        services: &[Service],
        names: &Names<'_>,
        chain: u32,
        left: &mut usize,
    ) -> Result<(), Why> {
        for service in services {
            *left = left.checked_sub(1).ok_or(Why::Involved)?;
            match &service.kind {
                ServiceKind::Any => {
                    self.0.iter_mut().for_each(|ranges| ranges.push((0, u16::MAX)));
                }
                ServiceKind::Ports(protocol, ports) => {
                    if let Some(ranges) = self.0.get_mut(usize::from(protocol.0)) {
                        ranges.push((ports.first, ports.last));
                    }
                }
                ServiceKind::Named(name) => {
                    let chain = chain.checked_sub(1).ok_or_else(|| Why::Name(name.clone()))?;
                    self.add(names.services(name)?, names, chain, left)?;
                }
            }
        }
        Ok(())
    }

    /// The first service that is not in `outer`, as it is written.
    pub(super) fn outside(&self, outer: &Self) -> Option<String> {
        for (number, (inner, outer)) in (0u8..=255).zip(self.0.iter().zip(&outer.0)) {
            for &(first, last) in inner {
                // Ranges of `outer` are merged, so that one of them holds all that is held.
                let holding = outer.iter().find(|range| range.0 <= first && first <= range.1);
                let port = match holding {
                    Some(&(_, end)) if last <= end => continue,
                    Some(&(_, end)) => end.saturating_add(1),
                    None => first,
                };
                return Some(spelled(Protocol(number), port));
            }
        }
        None
    }
}

fn spelled(protocol: Protocol, port: u16) -> String {
    let ports = policy::syntax::PortRange { first: port, last: port };
    let portless = protocol != Protocol::TCP && protocol != Protocol::UDP;
    let ports = if portless { policy::syntax::PortRange::ALL } else { ports };
    ServiceKind::Ports(protocol, ports).to_string()
}
