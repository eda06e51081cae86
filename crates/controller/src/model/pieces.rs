//! Pieces as the store holds them: in chunks, put together once all of them are there.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    digest::Digest,
    records::{CHUNK_BYTES, Key, RecordError},
};

/// Pieces by their digests.
#[derive(Clone, Debug, Default)]
pub(super) struct Store(BTreeMap<Digest, Piece>);

#[derive(Clone, Debug)]
enum Piece {
    /// All of it, and in how many chunks the store has it.
    Whole(Arc<[u8]>, u32),
    /// What there is of it.
    Chunks(BTreeMap<u32, Vec<u8>>),
}

impl Store {
    /// Takes a chunk, or that it is gone.
    pub(super) fn put(
        &mut self,
        digest: Digest,
        at: u32,
        value: Option<Vec<u8>>,
    ) -> Result<(), RecordError> {
        let Some(value) = value else {
            // A piece goes as it came, all of it: what is left is no use to anybody.
            self.0.remove(&digest);
            return Ok(());
        };
        let piece = self.0.entry(digest).or_insert_with(|| Piece::Chunks(BTreeMap::new()));
        // The bytes of a digest are always the same: what is whole stays.
        let Piece::Chunks(chunks) = piece else { return Ok(()) };
        chunks.insert(at, value);
        let short = |bytes: &Vec<u8>| bytes.len() < CHUNK_BYTES;
        let Some((&last, _)) = chunks.last_key_value().filter(|(_, bytes)| short(bytes)) else {
            return Ok(());
        };
        if u32::try_from(chunks.len()) != Ok(last + 1) {
            return Ok(());
        }
        let bytes = together(chunks.values());
        if Digest::of(&bytes) != digest {
            let key = Key::Piece(digest, at).text();
            let why = "its bytes have another digest".to_owned();
            return Err(RecordError::Contradiction { key, why });
        }
        *piece = Piece::Whole(bytes, last + 1);
        Ok(())
    }

    pub(super) fn whole(&self, digest: &Digest) -> Option<Arc<[u8]>> {
        match self.0.get(digest)? {
            Piece::Whole(bytes, _) => Some(Arc::clone(bytes)),
            Piece::Chunks(_) => None,
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (Digest, u32)> {
        self.0.iter().map(|(digest, piece)| match piece {
            Piece::Whole(_, chunks) => (*digest, *chunks),
            Piece::Chunks(chunks) => {
                (*digest, chunks.last_key_value().map_or(0, |(last, _)| last + 1))
            }
        })
    }
}

/// Chunks behind each other, copied once: a piece may have megabytes.
fn together<'a>(chunks: impl Iterator<Item = &'a Vec<u8>> + Clone) -> Arc<[u8]> {
    let length = chunks.clone().map(Vec::len).sum();
    let mut bytes: Arc<[u8]> = std::iter::repeat_n(0, length).collect();
    let mut left = Arc::get_mut(&mut bytes).expect("nobody else has what was made just now");
    for chunk in chunks {
        let (here, behind) = left.split_at_mut(chunk.len());
        here.copy_from_slice(chunk);
        left = behind;
    }
    bytes
}

/// How the store holds the bytes of a piece: with a short chunk, perhaps an empty one, at the end.
pub(crate) fn chunks(bytes: &[u8]) -> Vec<(Key, Vec<u8>)> {
    let digest = Digest::of(bytes);
    let mut chunks: Vec<Vec<u8>> = bytes.chunks(CHUNK_BYTES).map(<[u8]>::to_vec).collect();
    if chunks.last().is_none_or(|last| last.len() == CHUNK_BYTES) {
        chunks.push(Vec::new());
    }
    (0..).zip(chunks).map(|(at, chunk)| (Key::Piece(digest, at), chunk)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_comes_together_in_any_order() {
        for bytes in [0, 5, CHUNK_BYTES - 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 3] {
            let piece: Vec<u8> = (0u8..=250).cycle().take(bytes).collect();
            let digest = Digest::of(&piece);
            let mut parts = chunks(&piece);
            parts.reverse();
            let mut store = Store::default();
            for (key, chunk) in parts {
                assert!(store.whole(&digest).is_none());
                let Key::Piece(found, at) = key else { panic!("{key:?}") };
                store.put(found, at, Some(chunk)).unwrap();
            }
            assert_eq!(store.whole(&digest).as_deref(), Some(&*piece));
        }
    }

    #[test]
    fn changed_bytes_are_named() {
        let digest = Digest::of(b"one");
        let error = Store::default().put(digest, 0, Some(b"two".to_vec())).unwrap_err();
        assert!(error.to_string().contains(&digest.to_string()), "{error}");
    }
}
