//! Services with their names looked up.

use std::collections::BTreeMap;

use image::Service;

use crate::{
    policy::Policy,
    syntax::{self, Meaning, ServiceKind},
};

/// What the names of a document's services mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServiceNames(BTreeMap<String, Vec<Service>>);

impl ServiceNames {
    /// Worked out in order, so that a chain of any length is not recursed into.
    pub(crate) fn new(policy: &Policy) -> Self {
        let mut names = Self::default();
        for name in policy.names_in_order() {
            if let Meaning::Services(services) = &name.means {
                let meant = names.of(services);
                names.0.insert(name.name.text.clone(), meant);
            }
        }
        names
    }

    /// The services meant, sorted, each once.
    pub(crate) fn of(&self, services: &[syntax::Service]) -> Vec<Service> {
        let mut meant = Vec::new();
        for service in services {
            match &service.kind {
                ServiceKind::Any => meant.push(Service::ANY),
                ServiceKind::Ports(protocol, ports) => {
                    meant.push(Service { protocol: Some(*protocol), ports: ports.range().into() });
                }
                ServiceKind::Named(name) => {
                    meant.extend(self.0.get(name).into_iter().flatten().cloned());
                }
            }
        }
        meant.sort_unstable();
        meant.dedup();
        meant
    }
}
