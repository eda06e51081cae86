//! Everything that is in the cluster, page after page, all of one revision.
//!
//! A member makes a whole page in memory, so pages are measured: they keep to one kind of records (what comes before the
//! first slash), whose values are of a size, and grow or shrink with what came before.

use serde_json::json;

use super::{
    CallError, Shared,
    protocol::{Range, encoded},
};
use crate::store::{Loaded, Revision, Trouble};

/// Bytes of values that a page should have.
const PAGE_BYTES: usize = 2 << 20;
/// Records of the first page of a kind: even the largest fit.
const FIRST_LIMIT: usize = 8;
/// Records of a page at most.
const LIMIT_MAX: usize = 4_096;
/// How often a load begins anew because the cluster has forgotten the revision meanwhile.
const ATTEMPTS: usize = 3;

/// Loads everything.
pub(super) async fn load(shared: &Shared) -> Result<Loaded, Trouble> {
    let mut attempts = 1;
    loop {
        match attempt(shared).await {
            Err(CallError::Refused { message, .. })
                if message.contains("compacted") && attempts < ATTEMPTS =>
            {
                attempts += 1;
            }
            done => return Ok(done?),
        }
    }
}

async fn attempt(shared: &Shared) -> Result<Loaded, CallError> {
    let mut loaded = Loaded::default();
    let end = shared.records_end();
    let mut from = shared.records();
    while let Some(kind) = next_kind(shared, &mut loaded.revision, &from, &end).await? {
        let mut limit = FIRST_LIMIT;
        from.clone_from(&kind.begin);
        loop {
            let range = page(shared, loaded.revision, &from, &kind.end, limit).await?;
            let count = range.kvs.len().max(1);
            let bytes = range.kvs.iter().map(|kv| kv.value.len()).sum::<usize>();
            limit = (PAGE_BYTES / (bytes / count).max(1)).clamp(1, LIMIT_MAX);
            for kv in range.kvs {
                let key = shared.record(&kv).map_err(CallError::Unanswered)?;
                from = format!("{}{key}\0", shared.records());
                loaded.records.push((key, kv.value));
            }
            if !range.more {
                break;
            }
        }
        from = kind.end;
    }
    Ok(loaded)
}

/// The keys of one kind.
struct Kind {
    begin: String,
    end: String,
}

/// The kind of the first record at `from` or after. The first answer decides on the revision.
async fn next_kind(
    shared: &Shared,
    revision: &mut Revision,
    from: &str,
    end: &str,
) -> Result<Option<Kind>, CallError> {
    let range = shared
        .range(json!({
            "key": encoded(from), "range_end": encoded(end), "limit": "1", "keys_only": true,
            "revision": revision.0.to_string(),
        }))
        .await?;
    if *revision == Revision::default() {
        *revision = Revision(range.header.revision);
    }
    let Some(first) = range.kvs.first() else { return Ok(None) };
    let key = shared.record(first).map_err(CallError::Unanswered)?;
    let records = shared.records();
    let end = match key.split_once('/') {
        // 0 comes after the slash.
        Some((kind, _rest)) => format!("{records}{kind}0"),
        None => format!("{records}{key}\0"),
    };
    Ok(Some(Kind { begin: format!("{records}{key}"), end }))
}

async fn page(
    shared: &Shared,
    revision: Revision,
    from: &str,
    end: &str,
    limit: usize,
) -> Result<Range, CallError> {
    shared
        .range(json!({
            "key": encoded(from), "range_end": encoded(end), "limit": limit.to_string(),
            "revision": revision.0.to_string(),
        }))
        .await
}
