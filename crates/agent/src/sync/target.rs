//! What a controller wants a host to have, read and put together: pieces become a bundle and an inventory.

use std::collections::{BTreeMap, BTreeSet};

use policy::{Diagnostics, Host, Inventory, Source};
use prost::Message;
use verdict::Address;
use wire::{
    Bundle, Envelope,
    limits::{BUNDLE_BYTES_MAX, DOCUMENTS_MAX, ROOTS_MAX},
    sync::{Manifest, Member, Members, Piece, Target},
};

use super::{Assignment, Digest};

/// Bytes of all pieces of one target: the largest bundle, and as much again for the hosts.
pub(super) const PIECES_BYTES_MAX: u64 = 2 * BUNDLE_BYTES_MAX as u64;
/// Sets of hosts of one target, and the sections that they have.
const MEMBERS_MAX: usize = 4_096;
const SECTIONS_MAX: u64 = 65_536;

/// A target that makes sense by itself.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) digest: Digest,
    pub(super) manifest: Manifest,
    me: Member,
    /// As they came: their digests make the name.
    encoded: (Vec<u8>, Vec<u8>),
    /// All that the manifest names, and the sections that are known of.
    pieces: Vec<(Digest, Piece)>,
    /// The sets of hosts in sections of which it is not known what they list.
    unlisted: Vec<Digest>,
}

impl Wanted {
    /// Reads a target for `host`.
    ///
    /// # Errors
    /// What is wrong with it, in one sentence.
    pub(super) fn read(target: &Target, host: &str) -> Result<Self, String> {
        let manifest = Manifest::decode(&*target.manifest)
            .map_err(|error| format!("the manifest cannot be read: {error}"))?;
        let me = Member::decode(&*target.me)
            .map_err(|error| format!("what it says of this host cannot be read: {error}"))?;
        if me.id != host {
            return Err(format!("it is for the host `{}`, and this is `{host}`", me.id));
        }
        let Manifest { roots, timestamp, snapshot, documents, members, .. } = &manifest;
        if roots.len() > ROOTS_MAX || documents.len() > DOCUMENTS_MAX || members.len() > MEMBERS_MAX
        {
            return Err("it has too many pieces".to_owned());
        }
        let listing = || members.iter().filter(|piece| piece.sections != 0);
        let sections: u64 = listing().map(|piece| u64::from(piece.sections)).sum();
        if SECTIONS_MAX < sections {
            return Err(format!("it has {sections} sections of hosts, more than {SECTIONS_MAX}"));
        }
        let unlisted = listing().filter_map(|it| Digest::try_from(&*it.digest).ok()).collect();
        let (Some(timestamp), Some(snapshot)) = (timestamp, snapshot) else {
            return Err("it has no timestamp or no snapshot".to_owned());
        };
        let all = roots.iter().chain([timestamp, snapshot]).chain(documents).chain(members);
        let pieces = all.map(named).collect::<Result<Vec<_>, _>>()?;
        bounded(&pieces)?;
        let encoded = (target.manifest.clone(), target.me.clone());
        let digest = wire::sync::target_digest(&encoded.0, &encoded.1);
        Ok(Self { digest, manifest, me, encoded, pieces, unlisted })
    }

    /// Learns of the sections that its sets of hosts list, as far as those are here. Whether there were such.
    ///
    /// # Errors
    /// What is wrong with them, in one sentence.
    pub(super) fn learn_sections(
        &mut self,
        here: &BTreeMap<Digest, Vec<u8>>,
    ) -> Result<bool, String> {
        let before = self.unlisted.len();
        for set in std::mem::take(&mut self.unlisted) {
            let Some(bytes) = here.get(&set) else {
                self.unlisted.push(set);
                continue;
            };
            let count = self.manifest.members.iter().find(|it| it.digest == set);
            let count = count.map_or(0, |piece| piece.sections);
            let Members { hosts, sections } = Members::decode(&**bytes)
                .map_err(|error| format!("a set of hosts cannot be read: {error}"))?;
            let deep = sections.iter().any(|piece| piece.sections != 0);
            if !hosts.is_empty() || u32::try_from(sections.len()) != Ok(count) || deep {
                return Err("a set of hosts does not list what the manifest says".to_owned());
            }
            for section in &sections {
                self.pieces.push(named(section)?);
            }
            bounded(&self.pieces)?;
        }
        Ok(self.unlisted.len() < before)
    }

    /// Whether all pieces that are needed are known by name.
    pub(super) fn is_listed(&self) -> bool {
        self.unlisted.is_empty()
    }

    /// Everything that has hosts, as far as it is known.
    pub(super) fn members(&self) -> impl Iterator<Item = &(Digest, Piece)> {
        let Manifest { members, roots, documents, .. } = &self.manifest;
        // They stand last; behind them are the sections.
        let others = roots.len() + 2 + documents.len();
        debug_assert!(
            others + members.len() <= self.pieces.len(),
            "a manifest's pieces are all there"
        );
        self.pieces.iter().skip(others)
    }

    /// What differences lead from: its snapshot, and everything that has hosts.
    pub(super) fn bases(&self) -> impl Iterator<Item = &(Digest, Piece)> {
        // It stands behind the roots and the timestamp.
        let snapshot = self.pieces.get(self.manifest.roots.len() + 1);
        snapshot.into_iter().chain(self.members())
    }

    /// Everything it is made of.
    pub(super) fn pieces(&self) -> impl Iterator<Item = (Digest, &Piece)> {
        self.pieces.iter().map(|(digest, piece)| (*digest, piece))
    }

    /// As it came.
    pub(super) fn target(&self) -> Target {
        let (manifest, me) = self.encoded.clone();
        Target { manifest, me, ..Target::default() }
    }

    /// Whether the same is to be enforced, on trial or not, in whichever rollout.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        let bare = |it: &Self| {
            let manifest = it.manifest.clone();
            Manifest {
                confirm_within_s: 0,
                rollout: 0,
                quarantine: false,
                forced: false,
                ..manifest
            }
        };
        self.encoded.1 == other.encoded.1 && bare(self) == bare(other)
    }

    /// What the core is to apply. All pieces are there.
    ///
    /// # Errors
    /// Why they make no sense together.
    pub(super) fn assignment(
        &self,
        pieces: &BTreeMap<Digest, Vec<u8>>,
    ) -> Result<Assignment, String> {
        let Manifest { roots, timestamp, snapshot, documents, confirm_within_s, forced, .. } =
            &self.manifest;
        let bytes = |piece: &Piece| {
            let digest = Digest::try_from(&*piece.digest).ok();
            digest.and_then(|digest| pieces.get(&digest)).ok_or("a piece is not there")
        };
        let envelope = |piece: &Piece| {
            serde_json::from_slice::<Envelope>(bytes(piece)?)
                .map_err(|error| format!("the piece `{}` is no envelope: {error}", piece.name))
        };
        let all = |pieces: &[Piece]| pieces.iter().map(envelope).collect::<Result<Vec<_>, _>>();
        let one = |piece: &Option<Piece>| {
            envelope(piece.as_ref().expect("a target without it is not read"))
        };
        let documents = all(documents)?;
        let me = host(&self.me)?;
        let mut hosts = BTreeMap::from([(me.id.clone(), me.clone())]);
        for (_, piece) in self.members().filter(|(_, piece)| piece.sections == 0) {
            let read = Members::decode(&**bytes(piece)?)
                .map_err(|error| format!("the piece `{}` has no hosts: {error}", piece.name))?;
            if !read.sections.is_empty() {
                return Err(format!("the piece `{}` lists others, and should not", piece.name));
            }
            for member in &read.hosts {
                let host = host(member)?;
                // What it says of this host itself is in `me`.
                let known = hosts.entry(host.id.clone()).or_insert_with(|| host.clone());
                if host.id != me.id && *known != host {
                    return Err(format!("two pieces say different things of `{}`", host.id));
                }
            }
        }
        for word in called(&documents) {
            if !hosts.values().any(|it| it.id == word || it.names.contains(&word)) {
                hosts.insert(word.clone(), Host { id: word, ..Host::default() });
            }
        }
        let bundle = Bundle::new(all(roots)?, one(timestamp)?, one(snapshot)?, documents);
        let inventory = Inventory::new(hosts.into_values().collect()).map_err(|faults| {
            let first = faults.first().map(ToString::to_string).unwrap_or_default();
            format!("the hosts contradict each other: {first}")
        })?;
        Ok(Assignment {
            target: self.digest,
            bundle: bundle.to_json(),
            inventory: inventory.to_json(),
            me,
            confirm_s: (*confirm_within_s != 0).then_some(*confirm_within_s),
            forced: *forced,
        })
    }
}

/// A piece with its digest.
fn named(piece: &Piece) -> Result<(Digest, Piece), String> {
    let digest = Digest::try_from(&*piece.digest)
        .map_err(|_other| format!("the piece `{}` has no digest", piece.name))?;
    Ok((digest, piece.clone()))
}

fn bounded(pieces: &[(Digest, Piece)]) -> Result<(), String> {
    let bytes = pieces.iter().fold(0u64, |sum, (_, piece)| sum.saturating_add(piece.bytes));
    if PIECES_BYTES_MAX < bytes {
        return Err(format!("it has {bytes} bytes, more than {PIECES_BYTES_MAX}"));
    }
    Ok(())
}

/// Hosts that the documents call by name. Those that do not concern this host are not among its members: for it they are
/// hosts without addresses, and no unknown words. Nothing is verified yet; whatever is no document calls nobody.
fn called(documents: &[Envelope]) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for envelope in documents {
        let Ok(document) = envelope.unverified::<wire::Policy>() else { continue };
        let source = Source { name: &document.name, bytes: document.policy.as_bytes() };
        let (_text, parsed) = policy::read(source, 0, &mut Diagnostics::default());
        words.extend(parsed.document.hosts().into_iter().map(str::to_owned));
    }
    words
}

/// A host as the policy language knows it.
fn host(member: &Member) -> Result<Host, String> {
    let Member { id, names, addresses, labels } = member;
    let address =
        |bytes: &Vec<u8>| match (<[u8; 4]>::try_from(&**bytes), <[u8; 16]>::try_from(&**bytes)) {
            (Ok(v4), _) => Ok(Address::v4(u32::from_be_bytes(v4))),
            (_, Ok(v6)) => Ok(Address::from_bits(u128::from_be_bytes(v6))),
            _ => Err(format!("the host `{id}` has an address of {} bytes", bytes.len())),
        };
    Ok(Host {
        id: id.clone(),
        names: names.clone(),
        addresses: addresses.iter().map(address).collect::<Result<_, _>>()?,
        labels: labels.iter().map(|it| (it.key.clone(), it.value.clone())).collect(),
    })
}
