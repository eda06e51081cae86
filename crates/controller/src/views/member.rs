//! Hosts as others are told of them, as bytes.

use std::sync::Arc;

use prost::Message;
use wire::sync::{Label, Member, Members};

use super::{
    folk::{Folk, HostNumber, Known},
    vocabulary::Vocabulary,
};

impl Known {
    /// As it is told of itself: everything that the operators say.
    pub(super) fn me(&self, vocabulary: &Vocabulary) -> Member {
        let label = |(key, value): &(u32, u32)| Label {
            key: vocabulary.words.text(*key).to_owned(),
            value: vocabulary.words.text(*value).to_owned(),
        };
        Member {
            id: String::from(&*self.id),
            names: self.facts.names.iter().map(|name| String::from(&**name)).collect(),
            addresses: self.facts.addresses.iter().map(|&address| bytes(address)).collect(),
            labels: self.facts.labels.iter().map(label).collect(),
        }
    }

    /// As others are told of it: with the labels that they ask for, and the names that anybody asks for.
    pub(super) fn member(&self, keys: &[u32], vocabulary: &Vocabulary) -> Member {
        let label = |(key, value): &(u32, u32)| Label {
            key: vocabulary.words.text(*key).to_owned(),
            value: vocabulary.words.text(*value).to_owned(),
        };
        let asked = self.facts.labels.iter().filter(|(key, _)| keys.binary_search(key).is_ok());
        let called = self.facts.names.iter().filter(|name| vocabulary.calls(name));
        Member {
            id: String::from(&*self.id),
            names: called.map(|name| String::from(&**name)).collect(),
            addresses: self.facts.addresses.iter().map(|&address| bytes(address)).collect(),
            labels: asked.map(label).collect(),
        }
    }

    /// That it is there, and nothing else.
    fn mention(&self, vocabulary: &Vocabulary) -> Member {
        let mut member = self.member(&[], vocabulary);
        member.addresses = Vec::new();
        member
    }
}

/// Four bytes or sixteen.
fn bytes(address: verdict::Address) -> Vec<u8> {
    match address.as_v4() {
        Some(v4) => v4.to_be_bytes().to_vec(),
        None => address.bits().to_be_bytes().to_vec(),
    }
}

/// An encoded `Members`: these hosts, with the labels of `keys`.
pub(super) fn members(
    numbers: impl Iterator<Item = HostNumber>,
    keys: &[u32],
    folk: &Folk,
    vocabulary: &Vocabulary,
) -> Vec<u8> {
    let mut known: Vec<&Known> = numbers.filter_map(|number| folk.host(number)).collect();
    known.sort_by(|a, b| a.id.cmp(&b.id));
    // The same as the encoding of all in one, without holding all of them.
    let mut bytes = Vec::new();
    for known in known {
        let one = Members { hosts: vec![known.member(keys, vocabulary)] };
        one.encode(&mut bytes).expect("a vector grows");
    }
    bytes
}

/// An encoded `Members`: that these hosts are there.
pub(super) fn mentions(
    numbers: impl Iterator<Item = HostNumber>,
    folk: &Folk,
    vocabulary: &Vocabulary,
) -> Vec<u8> {
    let known = numbers.filter_map(|number| folk.host(number));
    let mut hosts: Vec<Member> = known.map(|known| known.mention(vocabulary)).collect();
    hosts.sort_by(|a, b| a.id.cmp(&b.id));
    Members { hosts }.encode_to_vec()
}

/// Ids, sorted, each once.
pub(super) fn ids<'a>(all: impl Iterator<Item = &'a Arc<str>>) -> Vec<Arc<str>> {
    let mut ids: Vec<Arc<str>> = all.cloned().collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}
