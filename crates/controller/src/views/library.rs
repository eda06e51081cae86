//! Bytes that were encoded lately: a bounded number of them. What is not here is encoded again when it is wanted.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use crate::digest::Digest;

/// Bytes that are kept.
const BYTES_MAX: usize = 64 << 20;

/// Manifests, pieces with hosts and differences by their digests.
#[derive(Debug, Default)]
pub(super) struct Library {
    kept: BTreeMap<Digest, Arc<[u8]>>,
    /// Oldest first.
    order: VecDeque<Digest>,
    bytes: usize,
}

impl Library {
    /// Keeps some bytes for a while.
    pub(super) fn put(&mut self, digest: Digest, bytes: &Arc<[u8]>) {
        if self.kept.insert(digest, Arc::clone(bytes)).is_some() {
            return;
        }
        self.bytes += bytes.len();
        self.order.push_back(digest);
        // The newest stays, however large it is: it is being fetched.
        while self.bytes > BYTES_MAX && self.order.len() > 1 {
            let Some(old) = self.order.pop_front() else { return };
            let bytes = self.kept.remove(&old);
            self.bytes -= bytes.map_or(0, |bytes| bytes.len());
        }
    }

    pub(super) fn find(&self, digest: &Digest) -> Option<Arc<[u8]>> {
        self.kept.get(digest).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_when_there_is_too_much() {
        let mut library = Library::default();
        let bytes = |at: u8| -> Arc<[u8]> { vec![at; BYTES_MAX / 3].into() };
        let digest = |at: u8| Digest::of(&bytes(at));
        for at in 0..4 {
            library.put(digest(at), &bytes(at));
        }
        assert!(library.find(&digest(0)).is_none());
        assert!((1..4).all(|at| library.find(&digest(at)) == Some(bytes(at))));
        let large: Arc<[u8]> = vec![9; 2 * BYTES_MAX].into();
        library.put(Digest::of(&large), &large);
        assert_eq!(library.find(&Digest::of(&large)), Some(large));
        assert!(library.find(&digest(3)).is_none());
    }
}
