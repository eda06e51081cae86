//! What a host is sent, read as the host reads it.

use std::collections::{BTreeMap, BTreeSet};

use controller::{Digest, Model, views::Views};
use policy::{Host, Inventory, Source};
use prost::Message;
use verdict::{Address, Direction, Endpoint, Flow, Protocol, Subject};
use wire::sync::{Manifest, Member, Members};

/// Everything that a host is sent.
pub(crate) struct Sent {
    pub(crate) names: Vec<String>,
    pub(crate) texts: Vec<String>,
    pub(crate) hosts: BTreeMap<String, Host>,
}

impl Sent {
    pub(crate) fn read(manifest: &Manifest, me: &[u8], model: &Model, views: &mut Views) -> Self {
        let me = known(&Member::decode(me).unwrap());
        let read = |piece: &wire::sync::Piece| {
            let bytes = model.piece(&Digest::read(&piece.digest).unwrap()).unwrap();
            assert_eq!(bytes.len() as u64, piece.bytes);
            let envelope: wire::Envelope = serde_json::from_slice(&bytes).unwrap();
            envelope.unverified::<wire::Policy>().unwrap()
        };
        let documents: Vec<wire::Policy> = manifest.documents.iter().map(read).collect();
        let keys: BTreeSet<String> =
            ["role", "env", "team"].iter().map(|&key| key.to_owned()).collect();
        let asked: BTreeSet<&String> = keys
            .iter()
            .filter(|key| documents.iter().any(|it| it.policy.contains(key.as_str())))
            .collect();
        let mut hosts = BTreeMap::new();
        for piece in &manifest.members {
            let bytes = views.piece(&Digest::read(&piece.digest).unwrap()).unwrap();
            assert_eq!(bytes.len() as u64, piece.bytes);
            for member in Members::decode(&*bytes).unwrap().hosts {
                let host = known(&member);
                assert!(host.labels.keys().all(|key| asked.contains(key)), "{host:?}");
                let other = hosts.insert(host.id.clone(), host.clone());
                assert!(other.is_none_or(|other| other == host), "{host:?} is two");
            }
        }
        hosts.insert(me.id.clone(), me);
        let names = documents.iter().map(|it| it.name.clone()).collect();
        Self { names, texts: documents.into_iter().map(|it| it.policy).collect(), hosts }
    }

    /// As the host puts it together: whoever is called by name and is not known is somebody without addresses.
    pub(crate) fn inventory(&self) -> Inventory {
        let mut hosts = self.hosts.clone();
        for text in &self.texts {
            let source = Source { name: "d", bytes: text.as_bytes() };
            let (_, parsed) = policy::read(source, 0, &mut policy::Diagnostics::default());
            for word in parsed.document.hosts() {
                if !hosts.values().any(|it| it.id == word || it.names.iter().any(|it| it == word)) {
                    let host = Host { id: word.to_owned(), ..Host::default() };
                    hosts.insert(host.id.clone(), host);
                }
            }
        }
        Inventory::new(hosts.into_values().collect()).unwrap()
    }
}

/// A host as others are told of it.
pub(crate) fn known(member: &Member) -> Host {
    let address = |bytes: &Vec<u8>| match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(v4) => Address::v4(u32::from_be_bytes(v4)),
        Err(_) => Address::from_bytes(bytes.as_slice().try_into().unwrap()),
    };
    Host {
        id: member.id.clone(),
        names: member.names.clone(),
        addresses: member.addresses.iter().map(address).collect(),
        labels: member.labels.iter().map(|it| (it.key.clone(), it.value.clone())).collect(),
    }
}

/// Flows between addresses of a host and all others, both ways.
pub(crate) fn flows(own: &[Address], all: &[Address]) -> Vec<Flow> {
    let mut flows = Vec::new();
    let locals: Vec<Address> =
        own.iter().copied().chain([Address::LOOPBACK_V4, Address::v4(0xac10_0001)]).collect();
    for &local in &locals {
        for &remote in all {
            for direction in [Direction::In, Direction::Out] {
                for (protocol, port) in
                    [(Protocol::TCP, 80), (Protocol::UDP, 53), (Protocol::TCP, 7)]
                {
                    let (at_local, at_remote) =
                        if direction == Direction::In { (port, 4_000) } else { (0, port) };
                    flows.push(Flow {
                        direction,
                        protocol,
                        local: Endpoint { address: local, port: at_local },
                        remote: Endpoint { address: remote, port: at_remote },
                        subject: Subject::UNKNOWN,
                    });
                }
            }
        }
    }
    flows
}
