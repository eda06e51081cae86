//! Messages of etcd's JSON gateway, version 3 of its API (etcd 3.4 and later: `/v3/kv/*`, `/v3/watch`, `/v3/lease/*`).
//!
//! The gateway speaks the JSON form of protocol buffers: 64 bit numbers are texts, bytes are base64, and a field with its
//! default value is left out.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, de::Error as _};

/// What every answer begins with.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Header {
    /// Which cluster: another one has another history.
    #[serde(default, deserialize_with = "number")]
    pub(super) cluster_id: u64,
    /// The revision of the member that answered; for a write, that of the write.
    #[serde(default, deserialize_with = "number")]
    pub(super) revision: u64,
}

/// An answer with a header.
pub(super) trait Headed {
    /// Its header.
    fn header(&self) -> &Header;
}

/// A key with its value and its history.
#[derive(Debug, Default, Deserialize)]
pub(super) struct KeyValue {
    #[serde(default, deserialize_with = "bytes")]
    pub(super) key: Vec<u8>,
    #[serde(default, deserialize_with = "bytes")]
    pub(super) value: Vec<u8>,
    /// When it came into being; another one after each removal.
    #[serde(default, deserialize_with = "number")]
    pub(super) create_revision: u64,
    /// When it was written last, or removed.
    #[serde(default, deserialize_with = "number")]
    pub(super) mod_revision: u64,
    /// The lease it ends with.
    #[serde(default, deserialize_with = "number")]
    pub(super) lease: u64,
}

/// Answer to `/v3/kv/range`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Range {
    #[serde(default)]
    pub(super) header: Header,
    #[serde(default)]
    pub(super) kvs: Vec<KeyValue>,
    /// There are more than the limit.
    #[serde(default)]
    pub(super) more: bool,
}

/// Answer to `/v3/kv/txn`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Transaction {
    #[serde(default)]
    pub(super) header: Header,
    /// Whether everything compared as expected.
    #[serde(default)]
    pub(super) succeeded: bool,
    #[serde(default)]
    responses: Vec<Response>,
}

#[derive(Debug, Default, Deserialize)]
struct Response {
    response_range: Option<Range>,
    response_delete_range: Option<Deleted>,
}

#[derive(Debug, Default, Deserialize)]
struct Deleted {
    #[serde(default, deserialize_with = "number")]
    deleted: u64,
}

impl Transaction {
    /// The only key of each range that was asked for, in that order.
    pub(super) fn found(&self) -> impl Iterator<Item = Option<&KeyValue>> {
        let ranges = self.responses.iter().filter_map(|response| response.response_range.as_ref());
        ranges.map(|range| range.kvs.first())
    }

    /// How many keys were removed.
    pub(super) fn removed(&self) -> u64 {
        let of = |response: &Response| response.response_delete_range.as_ref().map(|it| it.deleted);
        self.responses.iter().filter_map(of).sum()
    }
}

/// Answer to `/v3/lease/grant` and `/v3/lease/revoke`, and the inner part of `/v3/lease/keepalive`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Lease {
    #[serde(default)]
    pub(super) header: Header,
    #[serde(default, rename = "ID", deserialize_with = "number")]
    pub(super) id: u64,
    /// Seconds; 0 if there is no such lease.
    #[serde(default, rename = "TTL", deserialize_with = "number")]
    pub(super) ttl: u64,
}

/// Answer to `/v3/lease/keepalive`: the first of a stream.
#[derive(Debug, Deserialize)]
pub(super) struct Kept {
    pub(super) result: Lease,
}

/// Answer to `/v3/auth/authenticate`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Known {
    #[serde(default)]
    pub(super) header: Header,
    /// What the user is known by from now on.
    #[serde(default)]
    pub(super) token: String,
}

/// A line of `/v3/watch`.
#[derive(Debug, Deserialize)]
pub(super) struct Line {
    pub(super) result: Option<Told>,
    pub(super) error: Option<serde_json::Value>,
}

/// What a watch tells at once: whole revisions.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Told {
    #[serde(default)]
    pub(super) header: Header,
    /// It has ended.
    #[serde(default)]
    pub(super) canceled: bool,
    /// Because nothing before this is remembered.
    #[serde(default, deserialize_with = "number")]
    pub(super) compact_revision: u64,
    #[serde(default)]
    pub(super) events: Vec<Event>,
}

/// A change of one key.
#[derive(Debug, Deserialize)]
pub(super) struct Event {
    #[serde(default, rename = "type")]
    pub(super) kind: Kind,
    pub(super) kv: KeyValue,
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Kind {
    #[default]
    Put,
    Delete,
}

/// What an answer says that is none.
#[derive(Debug, Deserialize)]
pub(super) struct Fault {
    /// A status of gRPC.
    #[serde(default)]
    pub(super) code: u32,
    #[serde(default)]
    pub(super) message: String,
}

macro_rules! headed {
    ($($answer:ident)*) => {
        $(impl Headed for $answer {
            fn header(&self) -> &Header {
                &self.header
            }
        })*
    };
}

headed! { Range Transaction Lease Told Known }

impl Headed for Kept {
    fn header(&self) -> &Header {
        &self.result.header
    }
}

/// Bytes as the gateway takes them.
pub(super) fn encoded(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
    STANDARD.decode(text.as_bytes()).map_err(D::Error::custom)
}

/// A 64 bit number, as text; a plain one is taken too.
fn number<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Text(String),
        Plain(u64),
    }
    match Number::deserialize(from)? {
        Number::Text(text) => text.parse().map_err(D::Error::custom),
        Number::Plain(number) => Ok(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_member_said_is_understood() {
        let watch = r#"{"result":{"header":{"cluster_id":"14841639068965178418","member_id":"10276657743932975437",
            "revision":"3","raft_term":"2"},"events":[{"kv":{"key":"YS8y","create_revision":"3","mod_revision":"3",
            "version":"1","value":"eQ=="}},{"type":"DELETE","kv":{"key":"YS8x","mod_revision":"3"}}]}}"#;
        let told = serde_json::from_str::<Line>(watch).unwrap().result.unwrap();
        assert_eq!(told.header.cluster_id, 14_841_639_068_965_178_418);
        let [put, delete] = &told.events[..] else { panic!("{told:?}") };
        assert_eq!(
            (put.kind, &put.kv.key[..], &put.kv.value[..]),
            (Kind::Put, &b"a/2"[..], &b"y"[..])
        );
        assert_eq!(
            (delete.kind, &delete.kv.key[..], delete.kv.mod_revision),
            (Kind::Delete, &b"a/1"[..], 3)
        );

        let failed = r#"{"header":{"revision":"3"},"responses":[{"response_range":{"header":{"revision":"3"}}},
            {"response_range":{"kvs":[{"key":"YS8y","create_revision":"3","mod_revision":"4","lease":"77"}],"count":"1"}}]}"#;
        let failed: Transaction = serde_json::from_str(failed).unwrap();
        assert!(!failed.succeeded);
        let found: Vec<_> =
            failed.found().map(|kv| kv.map(|kv| (kv.mod_revision, kv.lease))).collect();
        assert_eq!(found, [None, Some((4, 77))]);

        let gone: Kept = serde_json::from_str(r#"{"result":{"header":{},"ID":"12345"}}"#).unwrap();
        assert_eq!((gone.result.id, gone.result.ttl), (12_345, 0));
    }
}
