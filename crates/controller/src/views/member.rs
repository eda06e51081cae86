//! Hosts as others are told of them, as bytes.

use std::sync::Arc;

use prost::{
    Message,
    encoding::{encode_varint, encoded_len_varint},
};
use verdict::Address;
use wire::sync::{Label, Member, Members};

use super::{
    folk::{Folk, HostNumber, Known},
    vocabulary::Vocabulary,
};

impl Known {
    /// As it is told of itself: everything that the operators say.
    fn me(&self, vocabulary: &Vocabulary) -> Member {
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
        let mut member = Member { id: String::from(&*self.id), ..self.me(vocabulary) };
        let asked = |word: &str| keys.iter().any(|key| vocabulary.words.text(*key) == word);
        member.labels.retain(|label| asked(&label.key));
        member.names.retain(|name| vocabulary.calls(name));
        member
    }

    /// That it is there, and nothing else.
    fn mention(&self, vocabulary: &Vocabulary) -> Member {
        let mut member = self.member(&[], vocabulary);
        member.addresses = Vec::new();
        member
    }

    /// What [`Known::me`] is, encoded.
    pub(super) fn encode_me(&self, vocabulary: &Vocabulary) -> Vec<u8> {
        let told = Told { known: self, vocabulary, called: |_: &str| true, asked: |_| true };
        let mut bytes = Vec::with_capacity(told.length());
        told.encode(&mut bytes);
        bytes
    }

    /// Puts what [`Known::member`] is, encoded as one of several, behind `bytes`.
    fn encode(&self, keys: &[u32], vocabulary: &Vocabulary, bytes: &mut Vec<u8>) {
        let called = |name: &str| vocabulary.calls(name);
        let asked = |key: u32| keys.binary_search(&key).is_ok();
        let told = Told { known: self, vocabulary, called, asked };
        begin(bytes, 1, told.length());
        told.encode(bytes);
    }
}

/// What is told of a host, which is encoded without making it first: there are many of them.
struct Told<'a, C, A> {
    known: &'a Known,
    vocabulary: &'a Vocabulary,
    /// Which names are told.
    called: C,
    /// Labels of which keys are.
    asked: A,
}

impl<C: Fn(&str) -> bool, A: Fn(u32) -> bool> Told<'_, C, A> {
    fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.known.facts.names.iter().filter(|name| (self.called)(name))
    }

    fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        let words = &self.vocabulary.words;
        let asked = self.known.facts.labels.iter().filter(|(key, _)| (self.asked)(*key));
        asked.map(|(key, value)| (words.text(*key), words.text(*value)))
    }

    fn length(&self) -> usize {
        let addresses = &self.known.facts.addresses;
        field(self.known.id.len())
            + self.names().map(|name| field(name.len())).sum::<usize>()
            + addresses.iter().map(|it| field(v4(it).map_or(16, |v4| v4.len()))).sum::<usize>()
            + self.labels().map(|(key, value)| field(pair(key, value))).sum::<usize>()
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        put(bytes, 1, self.known.id.as_bytes());
        self.names().for_each(|name| put(bytes, 2, name.as_bytes()));
        for address in &self.known.facts.addresses {
            match v4(address) {
                Some(v4) => put(bytes, 3, &v4),
                None => put(bytes, 3, &address.bits().to_be_bytes()),
            }
        }
        for (key, value) in self.labels() {
            begin(bytes, 4, pair(key, value));
            put(bytes, 1, key.as_bytes());
            put(bytes, 2, value.as_bytes());
        }
    }
}

fn v4(address: &Address) -> Option<[u8; 4]> {
    address.as_v4().map(u32::to_be_bytes)
}

/// Bytes of a field with so many in it, its tag less than 16.
fn field(length: usize) -> usize {
    1 + encoded_len_varint(length as u64) + length
}

/// Bytes of a label.
fn pair(key: &str, value: &str) -> usize {
    let some = |text: &str| if text.is_empty() { 0 } else { field(text.len()) };
    some(key) + some(value)
}

fn begin(bytes: &mut Vec<u8>, tag: u8, length: usize) {
    // Two: as many bytes as stand before it.
    bytes.push(tag << 3 | 2);
    encode_varint(length as u64, bytes);
}

fn put(bytes: &mut Vec<u8>, tag: u8, value: &[u8]) {
    // One of several that is empty is written; of one alone, nothing is, and no id or key is empty.
    if !value.is_empty() {
        begin(bytes, tag, value.len());
        bytes.extend_from_slice(value);
    }
}

/// Four bytes or sixteen.
fn bytes(address: Address) -> Vec<u8> {
    match v4(&address) {
        Some(v4) => v4.to_vec(),
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
    let mut bytes = Vec::new();
    known.into_iter().for_each(|known| known.encode(keys, vocabulary, &mut bytes));
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
    Members { hosts, sections: Vec::new() }.encode_to_vec()
}

/// Ids, sorted, each once.
pub(super) fn ids<'a>(all: impl Iterator<Item = &'a Arc<str>>) -> Vec<Arc<str>> {
    let mut ids: Vec<Arc<str>> = all.cloned().collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Digest, records::HostRecord};

    #[test]
    fn hosts_are_encoded_as_messages_are() {
        let (mut folk, mut vocabulary) = (Folk::default(), Vocabulary::default());
        let mut fresh = Vec::new();
        let ask = vocabulary.asks(&super::super::Meant::Host("nick".to_owned()));
        for ask in ask {
            let term = vocabulary.term(ask, &mut fresh);
            vocabulary.uses(term, true);
        }
        let pairs = |all: &[(&str, &str)]| {
            all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let long = "v".repeat(300);
        for (id, labels, addresses, names) in [
            ("a", pairs(&[]), vec![], vec![]),
            (
                "b",
                pairs(&[("env", ""), ("role", &long), ("team", "x")]),
                vec![1],
                vec!["nick", "b2"],
            ),
            (
                "c",
                pairs(&[("role", "db"), ("rack", "k")]),
                vec![0xffff_0a00_0001, 1 << 100],
                vec!["c2"],
            ),
        ] {
            let record = HostRecord {
                labels,
                addresses: addresses.into_iter().map(Address::from_bits).collect(),
                names: names.into_iter().map(str::to_owned).collect(),
                certificate: Digest::of(b""),
                previous: None,
                enrolled_at: jiff::Timestamp::UNIX_EPOCH,
                quarantined: false,
                since: 0,
            };
            folk.put(id, Some(&record), &mut vocabulary);
        }
        for words in [&[][..], &["role"], &["env", "role", "none"]] {
            let mut keys: Vec<u32> =
                words.iter().map(|word| vocabulary.words.number(word)).collect();
            keys.sort_unstable();
            let known = || (0..3).filter_map(|number| folk.host(number));
            let hosts = known().map(|known| known.member(&keys, &vocabulary)).collect();
            let wanted = Members { hosts, sections: Vec::new() }.encode_to_vec();
            assert_eq!(members([2, 0, 1].into_iter(), &keys, &folk, &vocabulary), wanted);
        }
        for known in (0..3).filter_map(|number| folk.host(number)) {
            assert_eq!(known.encode_me(&vocabulary), known.me(&vocabulary).encode_to_vec());
        }
    }
}
