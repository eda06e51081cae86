//! Classes of services that no clause tells apart, and how to write which of them are meant.
//!
//! Port 0 is in none of them: nobody can listen at it.

use image::Service;
use verdict::Protocol;

use super::bits::{Bits, Numbered};
use crate::syntax::{PortRange, ServiceKind};

/// A set of service classes.
pub(super) type ServiceSet = Bits;

/// Ports of one protocol that are in one class: 1 to 65535, all of them for protocols without ports.
#[derive(Clone, Copy, Debug)]
struct Slice {
    /// `None` is every protocol that is not mentioned.
    protocol: Option<Protocol>,
    first: u16,
    last: u16,
    class: usize,
}

/// The classes.
#[derive(Debug)]
pub(super) struct ServiceClasses {
    slices: Vec<Slice>,
    /// Numbers of the lists that hold each class.
    held: Vec<Bits>,
    /// One service of each class: a protocol and a port.
    examples: Vec<(Protocol, u16)>,
    mentioned: Vec<Protocol>,
}

/// Protocols whose ports are looked at.
const PORTED: [Protocol; 2] = [Protocol::TCP, Protocol::UDP];

impl ServiceClasses {
    /// Cuts all services so that each of `lists` is made of whole classes.
    pub(super) fn new(lists: &[&[Service]]) -> Self {
        let all = || lists.iter().copied().flatten();
        let mut mentioned: Vec<Protocol> = all().filter_map(|service| service.protocol).collect();
        mentioned.extend(PORTED);
        mentioned.sort_unstable();
        mentioned.dedup();
        let mut classes = Self {
            slices: Vec::new(),
            held: Vec::new(),
            examples: Vec::new(),
            mentioned: mentioned.clone(),
        };
        let mut numbered = Numbered::new();
        for protocol in mentioned.iter().copied().map(Some).chain([None]) {
            let ported = protocol.is_some_and(|protocol| PORTED.contains(&protocol));
            let mut cuts: Vec<u32> = vec![1];
            if ported {
                let own = all().filter(|service| service.protocol == protocol);
                cuts.extend(own.flat_map(|service| {
                    [u32::from(service.ports.first), u32::from(service.ports.last) + 1]
                }));
            }
            cuts.push(u32::from(u16::MAX) + 1);
            cuts.retain(|&cut| cut > 0);
            cuts.sort_unstable();
            cuts.dedup();
            for ends in cuts.windows(2) {
                let &[first, after] = ends else { continue };
                let (first, last) = (narrow(first), narrow(after - 1));
                let held = Bits::of(lists.len(), |at| {
                    lists.get(at).is_some_and(|list| {
                        list.iter().any(|service| {
                            service.protocol.is_none_or(|named| Some(named) == protocol)
                                && (!ported
                                    || service.ports.first <= first && last <= service.ports.last)
                        })
                    })
                });
                let class = numbered.number(held);
                if class == classes.examples.len() {
                    let example = protocol.unwrap_or_else(|| unmentioned(&mentioned));
                    classes.examples.push((example, if ported { first } else { 0 }));
                }
                classes.slices.push(Slice { protocol, first, last, class });
            }
        }
        classes.held = numbered.values().to_vec();
        classes
    }

    pub(super) fn len(&self) -> usize {
        self.examples.len()
    }

    /// Whether the list of this number holds `class`.
    pub(super) fn holds(&self, list: usize, class: usize) -> bool {
        self.held.get(class).is_some_and(|held| held.contains(list))
    }

    /// A protocol and port of the class.
    pub(super) fn example(&self, class: usize) -> (Protocol, u16) {
        self.examples.get(class).copied().unwrap_or((Protocol::TCP, 1))
    }

    /// Whether `set` holds every port of TCP, or every port of UDP.
    pub(super) fn is_broad(&self, set: &ServiceSet) -> bool {
        PORTED.iter().any(|&protocol| {
            let own = self.slices.iter().filter(|slice| slice.protocol == Some(protocol));
            own.clone().all(|slice| set.contains(slice.class))
        })
    }

    /// The classes of `set` as a policy writes them.
    pub(super) fn describe(&self, set: &ServiceSet) -> Vec<String> {
        let meant = |slice: &&Slice| set.contains(slice.class);
        if self.slices.iter().all(|slice| meant(&slice)) {
            return vec![ServiceKind::Any.to_string()];
        }
        let mut ranges: Vec<Slice> = Vec::new();
        for slice in self.slices.iter().filter(meant) {
            match ranges.last_mut() {
                Some(last)
                    if last.protocol == slice.protocol
                        && last.last.checked_add(1) == Some(slice.first) =>
                {
                    last.last = slice.last;
                }
                Some(_) | None => ranges.push(*slice),
            }
        }
        ranges.iter().map(|range| self.text(range)).collect()
    }

    fn text(&self, slice: &Slice) -> String {
        let Some(protocol) = slice.protocol else {
            let words = self.mentioned.iter().map(|&protocol| {
                let text = ServiceKind::Ports(protocol, PortRange::ALL).to_string();
                text.trim_end_matches("/any").to_owned()
            });
            return format!("every protocol but {}", words.collect::<Vec<_>>().join(", "));
        };
        let all = (slice.first, slice.last) == (1, u16::MAX);
        let ports = PortRange { first: slice.first, last: slice.last };
        let ports = if all { PortRange::ALL } else { ports };
        ServiceKind::Ports(protocol, ports).to_string()
    }
}

fn narrow(port: u32) -> u16 {
    u16::try_from(port).expect("cuts lie in 0 to 65536 and a slice ends before the next")
}

/// A protocol that is not mentioned.
fn unmentioned(mentioned: &[Protocol]) -> Protocol {
    let mut others = (0..=u8::MAX).rev().map(Protocol);
    others.find(|protocol| !mentioned.contains(protocol)).unwrap_or(Protocol::RAW)
}
