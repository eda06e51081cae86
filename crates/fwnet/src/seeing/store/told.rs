//! What was told, in its order: the last events and notices, so that whoever asks later can go back further than the
//! agent's memory reaches, and past its start.

use std::ops::Bound;

use jiff::{SignedDuration, Timestamp};
use redb::{ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

use super::{Pace, Store, StoreError};
use crate::seeing::{outputs::Told, remembered};

/// What was told, by its number.
pub(super) const TOLD: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("told");
/// Events are told nearly in the order of their times: those of several processors and rings by that much not.
const DISORDER: SignedDuration = SignedDuration::from_secs(60);

impl Store {
    /// Keeps what was told, under its numbers; the oldest go where there are too many.
    ///
    /// # Errors
    /// Nothing is kept then.
    pub(crate) fn keep(&self, told: &[(u64, Vec<u8>)], pace: &mut Pace) -> Result<(), StoreError> {
        pace.bytes += told.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>();
        let write = self.write(pace)?;
        {
            let mut table = write.open_table(TOLD)?;
            for (number, bytes) in told {
                table.insert(number, bytes.as_slice())?;
            }
            while table.len()? > self.told_max && table.pop_first()?.is_some() {}
        }
        write.commit()?;
        Ok(())
    }

    /// The number of the last one that is kept; 0 where there is none.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub(crate) fn last_told(&self) -> Result<u64, StoreError> {
        let table = self.database.begin_read()?.open_table(TOLD)?;
        Ok(table.last()?.map_or(0, |(number, _)| number.value()))
    }

    /// The number before that of the first one that may be of `since` or later.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub(crate) fn told_before(&self, since: Timestamp) -> Result<u64, StoreError> {
        let since = since.saturating_sub(DISORDER).unwrap_or(Timestamp::MIN);
        let table = self.database.begin_read()?.open_table(TOLD)?;
        let ends = (table.first()?, table.last()?);
        let (Some((first, _)), Some((last, _))) = ends else { return Ok(0) };
        // Everything up to `early` is too early, and `late` and what follows may not be.
        let (mut early, mut late) = (first.value().saturating_sub(1), last.value() + 1);
        while late - early > 1 {
            let middle = early + (late - early) / 2;
            let time = match table.range(middle..late)?.next() {
                Some(entry) => Some(remembered::parse(entry?.1.value())?.time()),
                None => None,
            };
            if time.is_some_and(|time| time < since) { early = middle } else { late = middle }
        }
        Ok(early)
    }

    /// What was told after the number `after` and before `end`, at most `limit`, each with its number.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub(crate) fn told(
        &self,
        after: u64,
        end: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Told)>, StoreError> {
        if end <= after {
            return Ok(Vec::new());
        }
        let table = self.database.begin_read()?.open_table(TOLD)?;
        let range = (Bound::Excluded(after), Bound::Excluded(end));
        let entries = table.range::<u64>(range)?.take(limit);
        entries
            .map(|entry| {
                let (number, bytes) = entry?;
                Ok((number.value(), remembered::parse(bytes.value())?))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{report::Notice, seeing::store::tests::Directory};

    const NOW: i64 = 1_900_000_000;

    fn notice(number: u64) -> Told {
        Told::Notice(Arc::new(Notice {
            time: Timestamp::from_second(NOW + number.cast_signed()).unwrap(),
            action: "policy-applied".into(),
            text: format!("number {number}"),
            tamper: false,
            version: number,
        }))
    }

    fn keep(store: &Store, numbers: std::ops::RangeInclusive<u64>) {
        let told: Vec<_> =
            numbers.map(|number| (number, remembered::bytes(&notice(number)).unwrap())).collect();
        store.keep(&told, &mut Pace::default()).unwrap();
    }

    fn numbers(store: &Store, after: u64, end: u64, limit: usize) -> Vec<u64> {
        store.told(after, end, limit).unwrap().into_iter().map(|(number, _)| number).collect()
    }

    #[test]
    fn what_was_told_is_found_page_by_page_and_the_oldest_go() {
        let directory = Directory::new("told");
        let path = directory.0.join("flows.redb");
        let (store, _) = Store::bounded(&path, 10, 1_000).unwrap();
        assert_eq!(
            (store.last_told().unwrap(), store.told_before(Timestamp::MIN).unwrap()),
            (0, 0)
        );
        for first in (1..=2_400).step_by(100) {
            keep(&store, first..=first + 99);
        }
        assert_eq!(store.last_told().unwrap(), 2_400);
        let all = numbers(&store, 0, u64::MAX, 5_000);
        assert_eq!((all.first(), all.last(), all.len()), (Some(&1_401), Some(&2_400), 1_000));
        assert_eq!(numbers(&store, 1_500, 1_503, 9), [1_501, 1_502]);
        assert_eq!(numbers(&store, 1_500, u64::MAX, 2), [1_501, 1_502]);
        assert!(numbers(&store, 7, 7, 2).is_empty());
        for second in [0, 1_400, 1_777, 2_399, 2_400, 9_999] {
            let since = Timestamp::from_second(NOW + second + 60).unwrap();
            let before = store.told_before(since).unwrap();
            let wanted = (second - 1).clamp(1_400, 2_400).cast_unsigned();
            assert_eq!(before, wanted, "{second}");
        }
        drop(store);
        let (store, told) = Store::bounded(&path, 10, 1_000).unwrap();
        assert_eq!((told, store.last_told().unwrap()), (None, 2_400));
    }
}
