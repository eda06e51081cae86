//! Pieces with hosts: the current ones, and some that were, from which differences lead to the current ones.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use prost::Message;
use wire::sync::{Difference, Member, Members};

use crate::digest::Digest;

/// Former pieces of one name that are kept.
const FORMER_MAX: usize = 8;
/// Names whose pieces are kept though they are not current.
const IDLE_MAX: usize = 256;
/// Differences that are kept.
const DIFFERENCES_MAX: usize = 256;

/// Pieces by digest, and by name in the order in which they were current.
#[derive(Debug, Default)]
pub(super) struct Library {
    pieces: BTreeMap<Digest, (Arc<[u8]>, Arc<str>)>,
    /// The newest last.
    shelves: BTreeMap<Arc<str>, VecDeque<Digest>>,
    /// Those of names that nobody needs now, in the order in which that began.
    idle: VecDeque<Arc<str>>,
    differences: BTreeMap<(Digest, Digest), Option<Arc<[u8]>>>,
}

impl Library {
    /// Puts the newest piece of a name.
    pub(super) fn put(&mut self, name: &Arc<str>, digest: Digest, bytes: Vec<u8>) {
        let shelf = self.shelves.entry(Arc::clone(name)).or_default();
        shelf.retain(|it| *it != digest);
        shelf.push_back(digest);
        if shelf.len() > FORMER_MAX
            && let Some(old) = shelf.pop_front()
        {
            self.forget(&old, name);
        }
        self.pieces.insert(digest, (bytes.into(), Arc::clone(name)));
        self.idle.retain(|it| it != name);
    }

    /// Nobody needs a name any more, for now.
    pub(super) fn rest(&mut self, name: &Arc<str>) {
        self.idle.retain(|it| it != name);
        self.idle.push_back(Arc::clone(name));
        if self.idle.len() > IDLE_MAX
            && let Some(name) = self.idle.pop_front()
        {
            for digest in self.shelves.remove(&name).into_iter().flatten() {
                self.forget(&digest, &name);
            }
        }
    }

    /// A piece may stand under several names: the bytes are those of the last that was put.
    fn forget(&mut self, digest: &Digest, name: &Arc<str>) {
        if self.pieces.get(digest).is_some_and(|(_, under)| under == name) {
            self.pieces.remove(digest);
            self.differences.retain(|(base, of), _| base != digest && of != digest);
        }
    }

    pub(super) fn piece(&self, digest: &Digest) -> Option<Arc<[u8]>> {
        self.pieces.get(digest).map(|(bytes, _)| Arc::clone(bytes))
    }

    /// See [`Views::difference`](super::Views::difference).
    pub(super) fn difference(&mut self, base: &Digest, digest: &Digest) -> Option<Arc<[u8]>> {
        if let Some(known) = self.differences.get(&(*base, *digest)) {
            return known.clone();
        }
        let (old, name) = self.pieces.get(base)?;
        let (new, other) = self.pieces.get(digest)?;
        if name != other {
            return None;
        }
        let found = difference(old, new).filter(|bytes| bytes.len() < new.len());
        let found: Option<Arc<[u8]>> = found.map(Arc::from);
        if self.differences.len() >= DIFFERENCES_MAX {
            self.differences.clear();
        }
        self.differences.insert((*base, *digest), found.clone());
        found
    }
}

/// What makes `new` of `old`.
pub(crate) fn difference(old: &[u8], new: &[u8]) -> Option<Vec<u8>> {
    let by_id = |bytes: &[u8]| -> Option<BTreeMap<String, Member>> {
        let members = Members::decode(bytes).ok()?;
        Some(members.hosts.into_iter().map(|host| (host.id.clone(), host)).collect())
    };
    let (old, new) = (by_id(old)?, by_id(new)?);
    let put = new.iter().filter(|(id, host)| old.get(*id) != Some(*host));
    let gone = old.keys().filter(|id| !new.contains_key(*id));
    let difference = Difference {
        put: put.map(|(_, host)| host.clone()).collect(),
        gone: gone.cloned().collect(),
    };
    Some(difference.encode_to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(ids: &[&str]) -> (Digest, Vec<u8>) {
        let host = |id: &&str| Member { id: (*id).to_owned(), ..Member::default() };
        let bytes = Members { hosts: ids.iter().map(host).collect() }.encode_to_vec();
        (Digest::of(&bytes), bytes)
    }

    #[test]
    fn a_difference_leads_from_one_to_the_next() {
        let mut library = Library::default();
        let name: Arc<str> = "a".into();
        let (old, bytes) = members(&["a", "b", "c"]);
        library.put(&name, old, bytes);
        let (new, bytes) = members(&["a", "c", "d"]);
        library.put(&name, new, bytes);
        let bytes = library.difference(&old, &new).unwrap();
        let Difference { put, gone } = Difference::decode(&*bytes).unwrap();
        assert_eq!((put.len(), put[0].id.as_str(), gone), (1, "d", vec!["b".to_owned()]));
        assert!(library.difference(&new, &Digest::of(b"x")).is_none());
        for many in 0..FORMER_MAX {
            let (digest, bytes) = members(&[&many.to_string()]);
            library.put(&name, digest, bytes);
        }
        assert!(library.piece(&old).is_none() && library.piece(&new).is_none());
    }
}
