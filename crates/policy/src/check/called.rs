//! The hosts that a document calls by their ids and names.

use std::collections::BTreeSet;

use super::walk;
use crate::syntax::{Document, Expression};

/// Words of `document` that stand for hosts: those of its selectors that are no names of its own.
///
/// Whoever is told of some hosts only, because no others concern them, needs to know that these are hosts all the same.
pub fn hosts_called(document: &Document) -> BTreeSet<&str> {
    let mut words = BTreeSet::new();
    for (_, statement) in document.statements() {
        for selector in walk::selectors(statement) {
            walk::each(selector, &mut |selector| {
                if let Expression::Named(word) = &*selector.expression {
                    words.insert(word.as_str());
                }
            });
        }
    }
    for name in document.names() {
        words.remove(name.name.text.as_str());
    }
    words
}
