//! What concerns a host: the documents it gets, and the hosts that those speak of.
//!
//! A rule concerns a host that it selects at either end. What the host must know of others to enforce the rule is whom
//! the other end means: for an address of each other host, whether it is meant because of whose it is. Hosts that no
//! selector of any version at hand tells apart are of one kind, kinds with the same documents and the same needs are of
//! one class, and a class has one manifest, encoded once. What is sent is exact: compiled with it, the policy says of
//! every flow of the host what the whole policy says with the whole inventory.
//!
//! Everything here follows from the records alone, so that two controllers send the same bytes.

mod bound;
mod class;
mod folk;
mod leaf;
mod library;
mod meant;
mod member;
mod pack;
mod prefixes;
mod section;
mod selectors;
mod set;
mod turn;
mod vocabulary;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub use folk::HostNumber;
pub use meant::Meant;

use self::{
    class::{Classes, Ground, Wanted},
    folk::{Folk, Known, Moved},
    leaf::{Leaves, Touch},
    library::Library,
    pack::{Pack, PackNumber},
    selectors::Selectors,
    set::Here,
};
use crate::{
    digest::Digest,
    model::{Changed, Model},
    orders::Refusal,
    records::RolloutRecord,
    sheets::Sheets,
};

/// What concerns whom.
#[derive(Debug, Default)]
pub struct Views {
    folk: Folk,
    selectors: Selectors,
    leaves: Leaves,
    /// The versions that hosts may have, oldest first.
    packs: Vec<Arc<Pack>>,
    /// Whom each of them touches; of the first, everybody.
    touches: Vec<Touch>,
    tried: Option<(Arc<Pack>, RolloutRecord)>,
    last_pack: PackNumber,
    /// The last version that touches hosts of a kind, of the kinds that were asked about.
    latest: BTreeMap<u32, PackNumber>,
    classes: Classes,
    library: Library,
    sheets: Sheets,
}

/// Whose targets may be others now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Touched {
    /// Everybody's.
    All,
    /// These hosts', ascending; none is left out, and of few it is the same after all.
    Some(Vec<HostNumber>),
}

/// What a host should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostTarget {
    /// The manifest, encoded: shared by all hosts of a class.
    pub manifest: Arc<[u8]>,
    /// Its digest.
    pub manifest_digest: Digest,
    /// The host itself, an encoded `Member`.
    pub me: Vec<u8>,
    /// The target's name.
    pub digest: Digest,
    /// The version that it is of.
    pub version: u64,
    /// Whether it is on trial.
    pub trial: bool,
}

/// A host, as its status is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) id: &'a Arc<str>,
    pub(crate) quarantined: bool,
    /// Whether it tries a version.
    pub(crate) tries: bool,
}

/// Idle selectors and kinds without hosts that are borne before all is made anew.
const IDLE_MAX: usize = 4_096;

impl Views {
    /// Of everything that the records say.
    ///
    /// # Errors
    /// If the store lacks a part of a version that hosts are to have.
    pub fn of(model: &Model) -> Result<Self, Refusal> {
        let mut views = Self::default();
        for (id, host) in model.hosts() {
            views.folk.put(id, Some(&host), &mut views.selectors.vocabulary);
        }
        views.take_versions(model)?;
        Ok(views)
    }

    /// Takes over what changed. `model` has it already.
    ///
    /// # Errors
    /// If the store lacks a part of a version that hosts are to have: the versions stay as they were then.
    pub fn change(&mut self, model: &Model, changed: &Changed) -> Result<Touched, Refusal> {
        let Self { folk, selectors, .. } = self;
        let put = |it: &crate::model::HostChange| {
            folk.put(&it.id, it.after.as_ref(), &mut selectors.vocabulary)
        };
        let moved: Vec<Moved> = changed.hosts.iter().filter_map(put).collect();
        self.moved(&moved);
        let mut touched = Touched::Some(Vec::new());
        if changed.current || changed.rollout {
            touched = self.take_versions(model)?;
            if self.is_littered() {
                *self = Self::of(model)?;
                return Ok(Touched::All);
            }
        }
        let kinds = self.refresh();
        let Touched::Some(hosts) = touched else { return Ok(Touched::All) };
        let mut hosts: BTreeSet<HostNumber> = hosts.into_iter().collect();
        hosts.extend(moved.iter().map(|it| it.host));
        hosts.extend(self.folk.of_kinds(&kinds));
        Ok(Touched::Some(hosts.into_iter().collect()))
    }

    fn is_littered(&self) -> bool {
        let (deserted, inhabited) = self.folk.kind_counts();
        let idle = self.selectors.idle();
        idle > self.selectors.in_use() + IDLE_MAX || deserted > inhabited + IDLE_MAX
    }

    /// Some hosts are others now: the sets in which others know them are to be made again.
    fn moved(&mut self, moved: &[Moved]) {
        let Self { folk, selectors, classes, .. } = self;
        for Moved { id, before, after, names, .. } in moved {
            for kind in [before, after].into_iter().flatten() {
                if let Some(kind) = folk.kind(*kind) {
                    classes.sets.changed(id, &selectors.needing(&kind.answers));
                }
            }
            for word in names.iter().chain([id]).filter(|it| selectors.vocabulary.calls(it)) {
                classes.speaks(word);
            }
        }
    }

    /// Works out again what is stale. The kinds whose hosts have another manifest by that.
    fn refresh(&mut self) -> BTreeSet<u32> {
        let Self { folk, selectors, leaves, classes, library, packs, tried, .. } = self;
        let ground = Ground { here: Here { folk, selectors }, leaves, packs };
        classes.refresh(ground, library, |number| {
            if let Some((pack, rollout)) = tried.as_ref().filter(|(pack, _)| pack.number == number)
            {
                return Some((&**pack, Some(rollout)));
            }
            Some((&**pack::find(ground.packs, number)?, None))
        })
    }

    /// The number of a host.
    pub fn number(&self, id: &str) -> Option<HostNumber> {
        self.folk.number(id)
    }

    /// The id of a host.
    pub fn id(&self, number: HostNumber) -> Option<&Arc<str>> {
        self.folk.host(number).map(|known| &known.id)
    }

    /// Numbers of all hosts, ascending.
    pub fn numbers(&self) -> impl Iterator<Item = HostNumber> {
        self.folk.all().map(|(number, _)| number)
    }

    /// How many hosts there are.
    pub fn count(&self) -> usize {
        self.folk.count()
    }

    /// How many different manifests there are, of those that were asked for since the versions last changed.
    pub fn class_count(&self) -> usize {
        self.classes.count()
    }

    /// What a host should have; `None` if there is no such host, or no policy yet.
    pub fn target(&mut self, number: HostNumber) -> Option<HostTarget> {
        let known = self.folk.host(number)?;
        let Known { kind, quarantined, since, .. } = *known;
        let me = known.encode_me(&self.selectors.vocabulary);
        let tries = self.tries(known);
        let at = if tries { None } else { Some(self.step(kind, since)?) };
        let Self { classes, folk, selectors, leaves, library, tried, packs, .. } = self;
        let (pack, trial) = match (at, tried) {
            (None, Some((pack, rollout))) => (&*pack, Some(&*rollout)),
            (at, _) => (packs.get(at?)?, None),
        };
        let wanted = Wanted { pack, kind, quarantined, trial };
        let ground = Ground { here: Here { folk, selectors }, leaves, packs };
        let (manifest, manifest_digest) = classes.manifest(wanted, ground, library)?;
        let digest = digest_of(&manifest_digest, &me);
        let version = pack.step.version;
        Some(HostTarget { manifest, manifest_digest, me, digest, version, trial: tries })
    }

    fn tries(&self, known: &Known) -> bool {
        let Known { id, quarantined, enrolled_at, .. } = known;
        self.tried
            .as_ref()
            .is_some_and(|(_, rollout)| rollout.tries(id, *quarantined, *enrolled_at))
    }

    /// The place of the step that hosts of a kind are to have: the last that touches them, and none older than what it was
    /// when the host changed.
    fn step(&mut self, kind: u32, since: u64) -> Option<usize> {
        let touched = match self.latest.get(&kind) {
            Some(number) => self.packs.partition_point(|pack| pack.number < *number),
            None => {
                let selected = self.selectors.selecting(&self.folk.kind(kind)?.answers);
                let touches = |touch: &Touch| match touch {
                    Touch::Everybody => true,
                    Touch::Those { ends, .. } if ends.len() < selected.len() => {
                        ends.iter().any(|it| selected.binary_search(it).is_ok())
                    }
                    Touch::Those { ends, .. } => selected.iter().any(|it| ends.contains(it)),
                };
                let touched = self.touches.iter().rposition(touches)?;
                self.latest.insert(kind, self.packs.get(touched)?.number);
                touched
            }
        };
        let at = self.packs.partition_point(|pack| pack.step.version <= since);
        (!self.packs.is_empty()).then(|| touched.max(at.saturating_sub(1)))
    }

    /// The bytes of a piece with hosts, as long as it is current or was lately.
    pub fn piece(&mut self, digest: &Digest) -> Option<Arc<[u8]>> {
        let kept = self.library.find(digest).or_else(|| self.classes.mentioned(digest));
        if kept.is_some() {
            return kept;
        }
        let here = Here { folk: &self.folk, selectors: &self.selectors };
        let bytes: Arc<[u8]> = self.classes.sets.bytes(digest, here)?.into();
        self.library.put(*digest, &bytes);
        Some(bytes)
    }

    /// What makes the piece `digest` of the earlier piece `base`, encoded, if that is less.
    pub fn difference(&mut self, base: &Digest, digest: &Digest) -> Option<Arc<[u8]>> {
        let name = between(base, digest);
        if let Some(known) = self.library.find(&name) {
            return Some(known);
        }
        let here = Here { folk: &self.folk, selectors: &self.selectors };
        let bytes = match self.classes.sets.difference(base, digest, here) {
            Some(bytes) => bytes,
            None => self.listed_otherwise(base, digest)?,
        };
        let bytes: Arc<[u8]> = bytes.into();
        self.library.put(name, &bytes);
        Some(bytes)
    }

    /// The same where both are snapshots; [`Views::difference`] knows it from then on.
    pub fn difference_of_snapshots(
        &mut self,
        base: &Digest,
        digest: &Digest,
        model: &Model,
    ) -> Option<Arc<[u8]>> {
        let bytes = self.sheets.difference(base, digest, |piece| model.piece(piece))?;
        let bytes: Arc<[u8]> = (bytes.len() < model.piece(digest)?.len()).then(|| bytes.into())?;
        self.library.put(between(base, digest), &bytes);
        Some(bytes)
    }

    /// The same where these list sections.
    fn listed_otherwise(&mut self, base: &Digest, digest: &Digest) -> Option<Vec<u8>> {
        let old = self.library.find(base).filter(|_| self.classes.sets.follows(base, digest))?;
        let new = self.piece(digest)?;
        let difference = wire::sync::difference(&old, &new).ok()?;
        (difference.len() < new.len()).then_some(difference)
    }

    /// All hosts, ascending by number.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = Seen<'_>> {
        self.folk.all().map(|(_, known)| Seen {
            id: &known.id,
            quarantined: known.quarantined,
            tries: self.tries(known),
        })
    }

    /// The hosts that are to try a version now.
    pub fn canaries(&self) -> Vec<Arc<str>> {
        let all = self.folk.all().filter(|(_, known)| self.tries(known));
        all.map(|(_, known)| Arc::clone(&known.id)).collect()
    }
}

/// What the difference from one piece to another is kept under.
fn between(base: &Digest, digest: &Digest) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&base.0).update(&digest.0);
    Digest(*hasher.finalize().as_bytes())
}

fn digest_of(manifest: &Digest, me: &[u8]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&manifest.0);
    hasher.update(&Digest::of(me).0);
    Digest(*hasher.finalize().as_bytes())
}
