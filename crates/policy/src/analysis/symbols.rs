//! Numbers back to names, for answers.

use std::collections::BTreeMap;

use crate::{symbols::Symbols, syntax::Qualifier};

impl Symbols {
    /// The names of a number of each kind, as a qualifier writes them; a user or group without a name by its number.
    pub(super) fn names(&self, facet: Qualifier, number: u64) -> String {
        let short = |map: &BTreeMap<String, u32>| {
            map.iter().find(|(_, at)| u64::from(**at) == number).map(|(name, _)| name.clone())
        };
        let long = |map: &BTreeMap<String, u64>| {
            map.iter().find(|(_, at)| **at == number).map(|(name, _)| name.clone())
        };
        let name = match facet {
            Qualifier::User => short(&self.users),
            Qualifier::Group => short(&self.groups),
            Qualifier::Exe => long(&self.exes),
            Qualifier::Unit => long(&self.units),
            Qualifier::Container => long(&self.containers),
            Qualifier::Netns => long(&self.namespaces),
        };
        name.unwrap_or_else(|| number.to_string())
    }
}
