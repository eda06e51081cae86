//! Leading by a lease, and committing only while leading.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{
    runtime::Handle,
    sync::{Mutex, watch},
    time::{Instant, sleep, timeout_at},
};

use super::{
    LEASE, Shared,
    cluster::{Answer, CallError},
    protocol::{Kept, Lease, Transaction, encoded},
};
use crate::store::{
    Batch, CommitError, Digest, LEADER, Leader, Revision, Trouble,
    batch::{BATCH_BYTES_MAX, OPERATIONS_MAX},
    digest,
};

/// How often a lease is renewed: two renewals may fail.
const RENEWAL: Duration = Duration::from_secs(3);
/// After a renewal that failed.
const PAUSE: Duration = Duration::from_millis(300);
/// How often a batch is compared anew because something changed between two requests.
const ATTEMPTS: usize = 5;

/// A lease of this process. Its end is told to the cluster, which forgets it by itself where that fails.
#[derive(Debug)]
struct Held {
    shared: Arc<Shared>,
    id: u64,
}

impl Held {
    async fn grant(shared: &Arc<Shared>) -> Result<Self, Trouble> {
        let asked = json!({ "TTL": LEASE.as_secs().to_string() });
        let granted: Answer<Lease> = shared.cluster.call("/v3/lease/grant", &asked).await?;
        Ok(Self { shared: Arc::clone(shared), id: granted.body.id })
    }

    async fn revoke(&self) -> Result<(), Trouble> {
        revoke(&self.shared, self.id).await
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Ok(runtime) = Handle::try_current() {
            let (shared, id) = (Arc::clone(&self.shared), self.id);
            runtime.spawn(async move { revoke(&shared, id).await });
        }
    }
}

async fn revoke(shared: &Shared, id: u64) -> Result<(), Trouble> {
    let asked = json!({ "ID": id.to_string() });
    match shared.cluster.call::<Lease>("/v3/lease/revoke", &asked).await {
        // There is none any more, by an earlier attempt or by its time.
        Err(CallError::Refused { message, .. }) if message.contains("not found") => Ok(()),
        done => Ok(done.map(drop)?),
    }
}

/// A leadership of a store in etcd.
#[derive(Debug)]
pub(crate) struct Reign {
    shared: Arc<Shared>,
    lease: Held,
    since: Revision,
    /// What is known of the batch before the next one. Locked for the time of a commit.
    before: Mutex<Before>,
    /// Whether it has ended. The renewing stops with it.
    ended: watch::Sender<bool>,
}

/// The batch before.
#[derive(Debug)]
struct Before {
    /// When it was, by the key that says so; unknown after a commit of which nobody knows what it did.
    last: Option<u64>,
    /// When a batch of this leadership last changed something.
    changed: Revision,
    /// How many batches there were.
    count: u64,
}

impl Reign {
    /// Leads, unless somebody else was quicker.
    pub(super) async fn begin(
        shared: &Arc<Shared>,
        leader: &Leader,
    ) -> Result<Option<Self>, Trouble> {
        let begun = Instant::now();
        let lease = Held::grant(shared).await?;
        let key = shared.key(LEADER);
        let record = serde_json::to_vec(leader).expect("two texts are JSON");
        let asked = json!({
            "compare": [absent(&key)],
            "success": [{ "request_put": {
                "key": key, "value": encoded(record), "lease": lease.id.to_string(),
            }}],
            "failure": [get(&key)],
        });
        let answer: Answer<Transaction> = shared.cluster.call("/v3/kv/txn", &asked).await?;
        let transaction = answer.body;
        let since = if transaction.succeeded {
            transaction.header.revision
        } else {
            match transaction.found().next().flatten() {
                // An earlier attempt has done it.
                Some(kv) if kv.lease == lease.id => kv.create_revision,
                _ => return Ok(None),
            }
        };
        let since = Revision(since);
        let ended = watch::Sender::new(false);
        let renewing = Renewing { shared: Arc::clone(shared), id: lease.id, since };
        tokio::spawn(renewing.run(begun + LEASE, ended.clone()));
        let before = Mutex::new(Before { last: None, changed: since, count: 0 });
        Ok(Some(Self { shared: Arc::clone(shared), lease, since, before, ended }))
    }

    pub(crate) fn since(&self) -> Revision {
        self.since
    }

    pub(crate) fn leads(&self) -> bool {
        !*self.ended.borrow()
    }

    pub(crate) async fn lost(&self) {
        let mut ended = self.ended.subscribe();
        let _closed = ended.wait_for(|ended| *ended).await;
    }

    pub(crate) async fn resign(&self) -> Result<(), Trouble> {
        self.ended.send_replace(true);
        self.lease.revoke().await
    }

    /// Commits. Pieces that do not fit beside the rest go before it.
    pub(crate) async fn commit(&self, batch: &Batch) -> Result<Revision, CommitError> {
        let mut before = self.before.lock().await;
        let done = self.committed(&mut before, batch).await;
        if matches!(done, Err(CommitError::Deposed)) {
            self.ended.send_replace(true);
        }
        done
    }

    async fn committed(&self, before: &mut Before, batch: &Batch) -> Result<Revision, CommitError> {
        if !self.leads() {
            return Err(CommitError::Deposed);
        }
        let mut pieces = &batch.pieces[..];
        while !pieces.is_empty() {
            let (now, later) = pieces.split_at(fitting(pieces));
            let change = Change { expect: &[], put: now, remove: &[] };
            self.transact(before, &change).await?;
            pieces = later;
        }
        let Batch { pieces: _, expect, put, remove } = batch;
        self.transact(before, &Change { expect, put, remove }).await
    }

    /// One transaction, sent as often as it takes to know what became of it.
    async fn transact(
        &self,
        before: &mut Before,
        change: &Change<'_>,
    ) -> Result<Revision, CommitError> {
        before.count += 1;
        // No other batch of any leadership is called that.
        let name = format!("{}/{}/{}", self.since.0, self.lease.id, before.count);
        for attempt in 0..ATTEMPTS {
            // What must be absent is compared as it is; what must have a value is looked for first.
            let expects_value = change.expect.iter().any(|(_, value)| value.is_some());
            let known = match before.last {
                Some(last) if attempt == 0 && !expects_value => {
                    let revisions = change.expect.iter().map(|_absent| 0).collect();
                    Known { last, revisions }
                }
                _ => self.look(change.expect).await?,
            };
            // Until there is an answer, nobody knows.
            before.last = None;
            let asked = self.asked(change, &name, &known);
            let call = self.shared.cluster.call::<Transaction>("/v3/kv/txn", &asked);
            let Answer { body, doubted } = match call.await {
                Ok(answer) => answer,
                Err(CallError::Refused { message, doubted: false }) => {
                    return Err(CommitError::Trouble(Trouble::Refused(message)));
                }
                Err(error) => return Err(CommitError::Unknown(error.into())),
            };
            if body.succeeded {
                before.last = Some(body.header.revision);
                if !change.put.is_empty() || body.removed() > 0 {
                    before.changed = Revision(body.header.revision);
                }
                return Ok(before.changed);
            }
            let mut found = body.found();
            let (leader, last) = (found.next().flatten(), found.next().flatten());
            if let Some(last) = last.filter(|last| last.value == name.as_bytes()) {
                // An earlier copy was carried out.
                before.last = Some(last.mod_revision);
                before.changed = Revision(last.mod_revision);
                return Ok(before.changed);
            }
            if leader.is_none_or(|leader| leader.create_revision != self.since.0) {
                let untouched = last.map_or(0, |last| last.mod_revision) == known.last;
                return Err(if doubted && !untouched {
                    // A copy may have been carried out before somebody else led.
                    CommitError::Unknown(Trouble::Refused("another controller leads".to_owned()))
                } else {
                    CommitError::Deposed
                });
            }
        }
        let why = "records change faster than they can be compared".to_owned();
        Err(CommitError::Trouble(Trouble::Refused(why)))
    }

    /// Compares what is expected with what there is, and notes the revisions that have to be the same at the end.
    async fn look(&self, expect: &[(String, Option<Digest>)]) -> Result<Known, CommitError> {
        let (shared, keys) = (&self.shared, expect.iter().map(|(key, _)| self.shared.key(key)));
        let first = [get(&shared.key(LEADER)), get(&shared.last())].into_iter();
        let asked: Vec<Value> = first.chain(keys.map(|key| get(&key))).collect();
        let asked = json!({ "success": asked });
        let answer: Answer<Transaction> =
            shared.cluster.call("/v3/kv/txn", &asked).await.map_err(|error| {
                // Looking changes nothing.
                CommitError::Trouble(error.into())
            })?;
        let mut found = answer.body.found();
        let leader = found.next().flatten();
        if leader.is_none_or(|leader| leader.create_revision != self.since.0) {
            return Err(CommitError::Deposed);
        }
        let last = found.next().flatten().map_or(0, |last| last.mod_revision);
        let mut revisions = Vec::new();
        for ((key, expected), kv) in expect.iter().zip(found) {
            if kv.map(|kv| digest(&kv.value)) != *expected {
                return Err(CommitError::Conflict(key.clone()));
            }
            revisions.push(kv.map_or(0, |kv| kv.mod_revision));
        }
        Ok(Known { last, revisions })
    }

    fn asked(&self, change: &Change<'_>, name: &str, known: &Known) -> Value {
        let shared = &self.shared;
        let (leader, last) = (shared.key(LEADER), shared.last());
        let since = self.since.0.to_string();
        let mut compare = vec![
            json!({ "key": leader, "target": "CREATE", "result": "EQUAL", "create_revision": since }),
            unchanged(&last, known.last),
        ];
        let expected = change.expect.iter().zip(&known.revisions);
        compare.extend(expected.map(|((key, _), revision)| unchanged(&shared.key(key), *revision)));
        let mut success = vec![json!({ "request_put": { "key": last, "value": encoded(name) } })];
        success.extend(change.put.iter().map(|(key, value)| {
            json!({ "request_put": { "key": shared.key(key), "value": encoded(value) } })
        }));
        success.extend(
            change
                .remove
                .iter()
                .map(|key| json!({ "request_delete_range": { "key": shared.key(key) } })),
        );
        json!({ "compare": compare, "success": success, "failure": [get(&leader), get(&last)] })
    }
}

impl Drop for Reign {
    fn drop(&mut self) {
        self.ended.send_replace(true);
    }
}

/// What one transaction does.
struct Change<'a> {
    expect: &'a [(String, Option<Digest>)],
    put: &'a [(String, Vec<u8>)],
    remove: &'a [String],
}

/// Revisions that a transaction compares.
struct Known {
    last: u64,
    /// Of what is expected, in that order; 0 where there must be nothing.
    revisions: Vec<u64>,
}

/// How many of the pieces fit into one transaction; the first one does.
fn fitting(pieces: &[(String, Vec<u8>)]) -> usize {
    let mut bytes = 0;
    let fits = pieces.iter().take(OPERATIONS_MAX).take_while(|(key, value)| {
        bytes += key.len() + value.len();
        bytes <= BATCH_BYTES_MAX
    });
    fits.count().max(1)
}

fn get(key: &str) -> Value {
    json!({ "request_range": { "key": key } })
}

fn absent(key: &str) -> Value {
    json!({ "key": key, "target": "CREATE", "result": "EQUAL", "create_revision": "0" })
}

/// That a key was written last at a revision, or is not there if that is 0.
fn unchanged(key: &str, revision: u64) -> Value {
    let revision = revision.to_string();
    json!({ "key": key, "target": "MOD", "result": "EQUAL", "mod_revision": revision })
}

/// Keeps a lease alive, and says when it no longer can.
struct Renewing {
    shared: Arc<Shared>,
    id: u64,
    since: Revision,
}

impl Renewing {
    /// Renews until the leadership has ended, by whatever end. `until` is when the lease ends if it is not renewed, by the
    /// time of the request: never later than the cluster ends it.
    async fn run(self, mut until: Instant, ended: watch::Sender<bool>) {
        let mut stop = ended.subscribe();
        let mut pause = RENEWAL;
        loop {
            tokio::select! {
                _ended = stop.wait_for(|ended| *ended) => return,
                () = sleep(pause) => {}
            }
            let sent = Instant::now();
            pause = RENEWAL;
            match timeout_at(until, self.renew()).await {
                Ok(Ok(Some(left))) => until = sent + left,
                Ok(Err(_unanswered)) if Instant::now() < until => pause = PAUSE,
                Ok(Ok(None) | Err(_)) | Err(_) => break,
            }
        }
        ended.send_replace(true);
    }

    /// For how long the lease goes on, or nothing where this leadership has ended.
    async fn renew(&self) -> Result<Option<Duration>, Trouble> {
        let asked = json!({ "ID": self.id.to_string() });
        let kept: Answer<Kept> = self.shared.cluster.call("/v3/lease/keepalive", &asked).await?;
        if kept.body.result.ttl == 0 {
            return Ok(None);
        }
        // Somebody may have removed the record by hand.
        let (leader, _revision) = self.shared.leader().await?;
        let same = leader.is_some_and(|leader| leader.create_revision == self.since.0);
        Ok(same.then(|| Duration::from_secs(kept.body.result.ttl)))
    }
}
