//! Which hosts there are, as far as a check asks: so that whoever knows them in a form of their own need not copy them.

use crate::inventory::Inventory;

/// Knows which hosts there are.
pub trait Roll {
    /// The id of the host of this id or name.
    fn id(&self, word: &str) -> Option<&str>;

    /// Whether a host has this label; the key is not `host`.
    fn has_label(&self, key: &str, value: &str) -> bool;

    /// Every label key in use, sorted; `host` is not among them.
    fn keys(&self) -> Box<dyn Iterator<Item = &str> + '_>;

    /// Every value in use of a label, sorted; the key is not `host`.
    fn values<'a>(&'a self, key: &'a str) -> Box<dyn Iterator<Item = &'a str> + 'a>;

    /// Ids and names of all hosts.
    fn words(&self) -> Box<dyn Iterator<Item = &str> + '_>;
}

impl Roll for Inventory {
    fn id(&self, word: &str) -> Option<&str> {
        self.host(self.find(word)?).map(|host| host.id.as_str())
    }

    fn has_label(&self, key: &str, value: &str) -> bool {
        !self.labelled(key, value).is_empty()
    }

    fn keys(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(Self::keys(self))
    }

    fn values<'a>(&'a self, key: &'a str) -> Box<dyn Iterator<Item = &'a str> + 'a> {
        Box::new(Self::values(self, key))
    }

    fn words(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(Self::words(self))
    }
}
