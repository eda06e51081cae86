//! The store in etcd: for any number of controllers, through the JSON gateway of its members (etcd 3.4 and later).
//!
//! Records are the keys `PREFIX/records/KEY`; `PREFIX/last` says which batch was the last one, and is watched with them. The record of who leads
//! hangs on a lease of [`LEASE`], which its holder renews; it is gone that long after its holder at the latest. Its
//! create_revision, another one for every leadership, is compared in every transaction, and so is the revision of
//! `PREFIX/last`, which makes a transaction that is sent again harmless: at most one of the copies is carried out.
//!
//! Every request goes to whichever member answers, within a deadline; a watch that is cut off goes on at another member
//! with the revision after the last that was told. Members have to be told to forget (`--auto-compaction-retention`), or
//! the cluster fills up; a watch that was cut off for longer than they remember has to load again. Where etcd asks for
//! users (`etcdctl auth enable`), this client has a name and a password ([`Login`]) beside a certificate: the gateway
//! forgets whose certificate it was.

mod cluster;
mod login;
mod member;
mod paging;
mod protocol;
mod reign;
mod watching;

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::sync::mpsc;

pub use login::{Login, LoginError, VARIABLE};
pub use member::{Endpoint, Tls, TlsError};
pub(super) use reign::Reign;

use super::{LEADER, Leader, Loaded, OpenError, Revision, Trouble, Watch, WatchEnd};
use cluster::{CallError, Cluster};
use protocol::{KeyValue, Range, encoded};

/// How long a leadership outlives the last sign of its holder at most.
pub const LEASE: Duration = Duration::from_secs(10);
/// Batches that were read and not taken: beyond them a watch is not read.
const WAITING_MAX: usize = 256;

/// A store in an etcd cluster.
#[derive(Clone, Debug)]
pub struct Etcd {
    shared: Arc<Shared>,
}

/// The cluster, and where in it the records are.
#[derive(Debug)]
struct Shared {
    cluster: Cluster,
    prefix: String,
}

impl Shared {
    /// The key of a record, as the gateway takes it.
    fn key(&self, record: &str) -> String {
        encoded(format!("{}{record}", self.records()))
    }

    /// What the keys of all records begin with.
    fn records(&self) -> String {
        format!("{}/records/", self.prefix)
    }

    /// The key after all records: 0 comes after the slash.
    fn records_end(&self) -> String {
        format!("{}/records0", self.prefix)
    }

    /// The key that says which batch was the last one: it comes before all records.
    fn last(&self) -> String {
        encoded(format!("{}/last", self.prefix))
    }

    /// Which record a key is.
    fn record(&self, kv: &KeyValue) -> Result<String, Trouble> {
        let key = std::str::from_utf8(&kv.key).ok();
        let record = key.and_then(|key| key.strip_prefix(&self.records()));
        let odd = || Trouble::Answer(format!("the key {}", String::from_utf8_lossy(&kv.key)));
        record.map(str::to_owned).ok_or_else(odd)
    }

    /// Whether a key is that of a record, and not the one before them or somebody else's in between.
    fn is_record(&self, kv: &KeyValue) -> bool {
        kv.key.starts_with(self.records().as_bytes())
    }

    async fn range(&self, range: Value) -> Result<Range, CallError> {
        Ok(self.cluster.call("/v3/kv/range", &range).await?.body)
    }

    /// The record of who leads, and the revision of the answer.
    async fn leader(&self) -> Result<(Option<KeyValue>, Revision), Trouble> {
        let mut range = self.range(json!({ "key": self.key(LEADER) })).await?;
        Ok((range.kvs.pop(), Revision(range.header.revision)))
    }
}

impl Etcd {
    /// The store below `prefix` in the cluster with these endpoints. Nothing is connected yet.
    ///
    /// # Errors
    /// Where the files of TLS cannot be used, or there is no password.
    pub fn new(
        endpoints: Vec<Endpoint>,
        prefix: String,
        tls: Option<Tls>,
        login: Option<Login>,
    ) -> Result<Self, OpenError> {
        if let Some(tls) = &tls {
            tls.config()?;
        }
        if let Some(login) = &login {
            login.secret()?;
        }
        let cluster = Cluster::new(endpoints, tls, login);
        Ok(Self { shared: Arc::new(Shared { cluster, prefix }) })
    }

    /// Every record, in pages of one revision.
    ///
    /// # Errors
    /// Where no member answers.
    pub async fn load(&self) -> Result<Loaded, Trouble> {
        paging::load(&self.shared).await
    }

    /// What happens after `from`.
    ///
    /// # Errors
    /// [`WatchEnd::Behind`] where the cluster does not remember that far back, or never was at that revision.
    pub async fn watch(&self, from: Revision) -> Result<Watch, WatchEnd> {
        // A watch from the future would wait for it in silence.
        let asked = json!({
            "key": self.shared.key(LEADER), "keys_only": true, "revision": from.0.to_string(),
        });
        match self.shared.range(asked).await {
            Ok(_range) => {}
            Err(CallError::Refused { message, .. }) if message.contains("revision") => {
                return Err(WatchEnd::Behind);
            }
            Err(error) => return Err(WatchEnd::Trouble(error.into())),
        }
        let (news, watch) = mpsc::channel(WAITING_MAX);
        tokio::spawn(watching::watch(Arc::clone(&self.shared), from, news));
        Ok(Watch::new(watch))
    }

    /// When the last batch was carried out, as most members know it (etcd's reads are linearizable unless they ask for
    /// less). The header's revision would not do: it counts the keys of others too.
    ///
    /// # Errors
    /// Where no member answers.
    pub async fn newest(&self) -> Result<Revision, Trouble> {
        let range = self.shared.range(json!({ "key": self.shared.last() })).await?;
        Ok(range.kvs.first().map(|kv| Revision(kv.mod_revision)).unwrap_or_default())
    }

    /// Waits until nobody leads, and leads.
    ///
    /// # Errors
    /// Where no member answers. A lease that was taken already ends by itself.
    pub(super) async fn campaign(&self, leader: &Leader) -> Result<Reign, Trouble> {
        loop {
            let (found, revision) = self.shared.leader().await?;
            if found.is_some() {
                self.vacant(revision).await?;
            } else if let Some(reign) = Reign::begin(&self.shared, leader).await? {
                return Ok(reign);
            }
        }
    }

    /// Waits until the record of who leads goes, at any time after `from`.
    async fn vacant(&self, from: Revision) -> Result<(), Trouble> {
        let mut watch = match self.watch(from).await {
            Ok(watch) => watch,
            Err(WatchEnd::Behind) => return Ok(()),
            Err(WatchEnd::Trouble(trouble)) => return Err(trouble),
        };
        loop {
            match watch.next().await {
                Ok(changes) => {
                    let mut records = changes.records.iter();
                    if records.any(|(key, value)| key == LEADER && value.is_none()) {
                        return Ok(());
                    }
                }
                Err(WatchEnd::Behind) => return Ok(()),
                Err(WatchEnd::Trouble(trouble)) => return Err(trouble),
            }
        }
    }

    /// Who leads.
    ///
    /// # Errors
    /// Where no member answers, or the record is not understood.
    pub async fn leader(&self) -> Result<Option<Leader>, Trouble> {
        let (found, _revision) = self.shared.leader().await?;
        let parsed = found.map(|kv| serde_json::from_slice(&kv.value)).transpose();
        parsed.map_err(|source| Trouble::Record { key: LEADER.to_owned(), source })
    }
}
