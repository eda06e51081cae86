//! What is committed at once, and how large it may be.
//!
//! The limits are those of etcd as it is installed (128 operations a transaction, 1.5 MiB a request), less what a store
//! adds of its own. They hold for the embedded store too: what fits into one fits into the other.

use std::collections::BTreeSet;

use super::LEADER;

/// Bytes of a key at most.
pub const KEY_BYTES_MAX: usize = 512;
/// Bytes of a value at most: a piece of 1 MiB with room for its wrapping.
pub const VALUE_BYTES_MAX: usize = (1 << 20) + (64 << 10);
/// Puts and removals of a batch at most, without its pieces.
pub const OPERATIONS_MAX: usize = 120;
/// Expectations of a batch at most.
pub const EXPECTATIONS_MAX: usize = 120;
/// Bytes of keys and values of a batch at most, without its pieces.
pub const BATCH_BYTES_MAX: usize = (1 << 20) + (128 << 10);

/// The BLAKE3 digest of a value.
pub type Digest = [u8; 32];

/// The digest by which a batch expects a value.
pub fn digest(value: &[u8]) -> Digest {
    *blake3::hash(value).as_bytes()
}

/// What is committed at once: where every record is as expected, all is put and removed, otherwise nothing is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Records that mean nothing until another one names them, such as pieces by their digest: they are put first, in
    /// batches of their own where they are too many, and may stay where the rest is refused. They are not counted in the
    /// batch's limits.
    pub pieces: Vec<(String, Vec<u8>)>,
    /// Keys with the digest that their value must have, or with nothing where there must be no record.
    pub expect: Vec<(String, Option<Digest>)>,
    /// Records that are written.
    pub put: Vec<(String, Vec<u8>)>,
    /// Records that are removed; it is no error if there is none.
    pub remove: Vec<String>,
}

/// What is wrong with a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// No text at all, or a long one, or a reserved one, or with a character that is not shown.
    #[error("{0:?} is no key: 1 to {KEY_BYTES_MAX} bytes of visible text, and not {LEADER:?}")]
    Key(String),
    /// A long value.
    #[error("the value of {key} has {bytes} bytes, and {VALUE_BYTES_MAX} are the most")]
    Value {
        /// Whose.
        key: String,
        /// How long.
        bytes: usize,
    },
    /// One key, two fates.
    #[error("the key {0} stands twice in one batch")]
    Twice(String),
    /// Too many.
    #[error("a batch of {count} operations, and {OPERATIONS_MAX} are the most")]
    Operations {
        /// Puts and removals.
        count: usize,
    },
    /// Too many.
    #[error("a batch of {count} expectations, and {EXPECTATIONS_MAX} are the most")]
    Expectations {
        /// How many.
        count: usize,
    },
    /// Too large.
    #[error("a batch of {bytes} bytes, and {BATCH_BYTES_MAX} are the most")]
    Bytes {
        /// Of keys and values.
        bytes: usize,
    },
}

impl Batch {
    /// Whether it keeps to the limits and to itself. A batch that changes nothing is in order.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), BatchError> {
        let count = self.put.len() + self.remove.len();
        if count > OPERATIONS_MAX {
            return Err(BatchError::Operations { count });
        }
        let count = self.expect.len();
        if count > EXPECTATIONS_MAX {
            return Err(BatchError::Expectations { count });
        }
        let mut keys = BTreeSet::new();
        let puts = self.pieces.iter().chain(&self.put).map(|(key, value)| (key, value.len()));
        for (key, bytes) in puts.chain(self.remove.iter().map(|key| (key, 0))) {
            check_key(key)?;
            if bytes > VALUE_BYTES_MAX {
                return Err(BatchError::Value { key: key.clone(), bytes });
            }
            if !keys.insert(key) {
                return Err(BatchError::Twice(key.clone()));
            }
        }
        let mut expected = BTreeSet::new();
        for (key, _) in &self.expect {
            check_key(key)?;
            if !expected.insert(key) {
                return Err(BatchError::Twice(key.clone()));
            }
        }
        let bytes = self.put.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>()
            + self.remove.iter().chain(expected).map(String::len).sum::<usize>();
        if bytes > BATCH_BYTES_MAX {
            return Err(BatchError::Bytes { bytes });
        }
        Ok(())
    }
}

fn check_key(key: &str) -> Result<(), BatchError> {
    let shown = !key.is_empty() && !key.chars().any(char::is_control);
    if shown && key.len() <= KEY_BYTES_MAX && key != LEADER {
        Ok(())
    } else {
        Err(BatchError::Key(key.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(count: usize, bytes: usize) -> Batch {
        let put = (0..count).map(|number| (format!("k/{number:04}"), vec![0; bytes])).collect();
        Batch { put, ..Batch::default() }
    }

    #[test]
    fn each_limit_holds_one_past_it() {
        assert_eq!(put(OPERATIONS_MAX, 1).check(), Ok(()));
        let count = OPERATIONS_MAX + 1;
        assert_eq!(put(count, 1).check(), Err(BatchError::Operations { count }));

        assert_eq!(put(1, VALUE_BYTES_MAX).check(), Ok(()));
        let refused = put(1, VALUE_BYTES_MAX + 1).check();
        assert!(matches!(refused, Err(BatchError::Value { .. })), "{refused:?}");

        let room = BATCH_BYTES_MAX - 2 * "k/0000".len();
        assert_eq!(put(2, room / 2).check(), Ok(()));
        let refused = put(2, room / 2 + 1).check();
        assert_eq!(refused, Err(BatchError::Bytes { bytes: BATCH_BYTES_MAX + 2 }));

        let expect = |count| Batch {
            expect: (0..count).map(|number| (number.to_string(), None)).collect(),
            ..Batch::default()
        };
        assert_eq!(expect(EXPECTATIONS_MAX).check(), Ok(()));
        let count = EXPECTATIONS_MAX + 1;
        assert_eq!(expect(count).check(), Err(BatchError::Expectations { count }));
    }

    #[test]
    fn a_key_is_text_that_is_nobody_else_s() {
        let key = |key: &str| Batch { remove: vec![key.to_owned()], ..Batch::default() }.check();
        assert_eq!(key(&"k".repeat(KEY_BYTES_MAX)), Ok(()));
        for wrong in ["", LEADER, "a\nb", "\0", &"k".repeat(KEY_BYTES_MAX + 1)] {
            assert_eq!(key(wrong), Err(BatchError::Key(wrong.to_owned())));
        }
    }

    #[test]
    fn a_key_has_one_fate() {
        let batch = Batch {
            put: vec![("a".to_owned(), Vec::new())],
            remove: vec!["a".to_owned()],
            ..Batch::default()
        };
        assert_eq!(batch.check(), Err(BatchError::Twice("a".to_owned())));
    }
}
