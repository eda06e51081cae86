//! What concerns a host: the documents it gets, and the hosts that those speak of.
//!
//! A rule concerns a host that it selects at either end. What the host must know of others to enforce the rule is whom
//! the other end means: for an address of each other host, whether it is meant because of whose it is. Hosts that no
//! selector of any version at hand tells apart are of one kind, kinds with the same documents and the same needs are of
//! one class, and a class has one manifest, encoded once. What is sent is exact: compiled with it, the policy says of
//! every flow of the host what the whole policy says with the whole inventory.
//!
//! Everything here follows from the records alone, so that two controllers send the same bytes.

mod class;
mod folk;
mod library;
mod meant;
mod pack;
mod vocabulary;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use prost::Message;

pub use folk::HostNumber;
pub(crate) use library::difference;
pub use meant::Meant;

use self::{
    class::Classes,
    folk::{Folk, Known, Moved},
    library::Library,
    pack::{Pack, SelectorNumber, Selectors, Touch},
    vocabulary::{Borders, Bound, Vocabulary},
};
use crate::{
    digest::Digest,
    edition::Edition,
    model::{Changed, Model},
    orders::Refusal,
    records::{RolloutRecord, Step},
};

/// What concerns whom.
#[derive(Debug, Default)]
pub struct Views {
    folk: Folk,
    asked: Asked,
    /// The versions that hosts may have, oldest first.
    packs: Vec<Pack>,
    /// Whom each of them touches; of the first, everybody.
    touches: Vec<Touch>,
    tried: Option<(Pack, RolloutRecord)>,
    /// The selectors that select hosts of a kind.
    selected: BTreeMap<u32, Arc<[SelectorNumber]>>,
    classes: Classes,
    library: Library,
}

/// What the versions at hand ask about hosts.
#[derive(Debug, Default)]
struct Asked {
    vocabulary: Vocabulary,
    meant: Vec<Meant>,
    selectors: Vec<(Bound, Borders)>,
    /// Selectors by a term without which they select nobody.
    by_term: Vec<Vec<SelectorNumber>>,
    /// Those without such terms.
    others: Vec<SelectorNumber>,
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

/// Which version a host is to have, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// For good: a place in the packs.
    Good(usize),
    /// On trial.
    Trial,
}

impl Views {
    /// Of everything that the records say.
    ///
    /// # Errors
    /// If the store lacks a part of a version that hosts are to have.
    pub fn of(model: &Model) -> Result<Self, Refusal> {
        let mut views = Self::default();
        for (id, host) in model.hosts() {
            views.folk.put(id, Some(&host), &views.asked.vocabulary);
        }
        views.take_versions(model)?;
        Ok(views)
    }

    /// Takes over what changed. `model` has it already.
    ///
    /// # Errors
    /// If the store lacks a part of a version that hosts are to have: the versions stay as they were then.
    pub fn change(&mut self, model: &Model, changed: &Changed) -> Result<Touched, Refusal> {
        let moved: Vec<Moved> = changed
            .hosts
            .iter()
            .filter_map(|it| self.folk.put(&it.id, it.after.as_ref(), &self.asked.vocabulary))
            .collect();
        if changed.current || changed.rollout {
            self.take_versions(model)?;
            return Ok(Touched::All);
        }
        if moved.is_empty() {
            return Ok(Touched::Some(Vec::new()));
        }
        let mut touched: BTreeSet<HostNumber> = moved.iter().map(|it| it.host).collect();
        touched.extend(self.moved(&moved));
        Ok(Touched::Some(touched.into_iter().collect()))
    }

    fn take_versions(&mut self, model: &Model) -> Result<(), Refusal> {
        let steps: Vec<&Step> = model.current().into_iter().flat_map(|it| &it.steps).collect();
        let open = model.rollout().filter(|rollout| rollout.is_open());
        let tried = open.map(|rollout| &rollout.step);
        let known: Vec<Arc<Edition>> = self
            .packs
            .iter()
            .chain(self.tried.as_ref().map(|(pack, _)| pack))
            .map(|pack| Arc::clone(&pack.edition))
            .collect();
        let mut selectors = Selectors::default();
        let mut read: Vec<Arc<Edition>> = known;
        let mut packs = Vec::new();
        for step in steps.into_iter().chain(tried) {
            let old = read.iter().find(|it| it.version == step.version).map(Arc::clone);
            let edition = match old {
                Some(edition) => edition,
                None => {
                    let others: Vec<&Edition> = read.iter().map(|it| &**it).collect();
                    let edition = Arc::new(Edition::sharing(model, step.version, &others)?);
                    read.push(Arc::clone(&edition));
                    edition
                }
            };
            packs.push(Pack::of(model, step, edition, &mut selectors));
        }
        self.tried = open.and_then(|rollout| Some((packs.pop()?, rollout.clone())));
        self.touches = std::iter::once(Touch::Everybody)
            .chain(packs.windows(2).filter_map(|pair| match pair {
                [before, after] => Some(after.touch(before)),
                _ => None,
            }))
            .collect();
        self.packs = packs;
        let asked = Asked::of(&selectors);
        if asked.vocabulary != self.asked.vocabulary {
            self.folk.regroup(&asked.vocabulary);
        }
        self.asked = asked;
        self.selected.clear();
        self.classes.clear();
        Ok(())
    }

    /// Some hosts are others now: which further hosts must be told of it.
    fn moved(&mut self, moved: &[Moved]) -> Vec<HostNumber> {
        let Self { folk, asked, classes, library, packs, tried, .. } = self;
        for Moved { before, after, .. } in moved {
            for kind in [before, after].into_iter().flatten() {
                if let Some(kind) = folk.kind(*kind) {
                    classes.stale(|selector| asked.needs(selector, &kind.answers));
                }
            }
        }
        let spoken = |moved: &Moved| {
            let Some(known) = folk.host(moved.host) else { return true };
            let mut words = known.facts.names.iter().chain([&known.id]);
            words.any(|word| asked.vocabulary.calls(word))
        };
        if moved.iter().any(spoken) {
            classes.stale_mentions();
        }
        let pack = |way| pack_of(packs, tried.as_ref(), way);
        let dirty = classes.refresh(folk, asked, library, pack);
        let kinds: BTreeSet<u32> = dirty.into_iter().collect();
        let shut_off = folk.all().filter(|(_, known)| known.quarantined);
        let shut_off = shut_off.filter(|(_, known)| kinds.contains(&known.kind));
        let open = kinds.iter().filter_map(|kind| folk.kind(*kind)).flat_map(|kind| &kind.hosts);
        open.copied().chain(shut_off.map(|(number, _)| number)).collect()
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
        let (kind, quarantined) = (known.kind, known.quarantined);
        let me = known.me().encode_to_vec();
        let (since, tries) = (known.since, self.tries(known));
        let selected = self.selected(kind);
        let way = if tries { Way::Trial } else { Way::Good(self.step(since, &selected)?) };
        let Self { classes, folk, asked, library, tried, packs, .. } = self;
        let pack = pack_of(packs, tried.as_ref(), way)?;
        let trial = tried.as_ref().filter(|_| tries).map(|(_, rollout)| rollout);
        let wanted = class::Wanted { way, kind, quarantined, selected: &selected, trial };
        let (manifest, manifest_digest) = classes.manifest(&wanted, pack, folk, asked, library)?;
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

    /// The step that a host is to have: the last that touches it, and none older than what it was when it changed.
    fn step(&self, since: u64, selected: &[SelectorNumber]) -> Option<usize> {
        let touches = |touch: &Touch| match touch {
            Touch::Everybody => true,
            Touch::Those(those) => selected.iter().any(|selector| those.contains(selector)),
        };
        let touched = self.touches.iter().rposition(touches)?;
        let at = self.packs.partition_point(|pack| pack.step.version <= since);
        (!self.packs.is_empty()).then(|| touched.max(at.saturating_sub(1)))
    }

    fn selected(&mut self, kind: u32) -> Arc<[SelectorNumber]> {
        if let Some(selected) = self.selected.get(&kind) {
            return Arc::clone(selected);
        }
        let answers = self.folk.kind(kind).map(|kind| &kind.answers);
        let selected: Arc<[SelectorNumber]> =
            answers.map(|answers| self.asked.selecting(answers)).unwrap_or_default().into();
        self.selected.insert(kind, Arc::clone(&selected));
        selected
    }

    /// The bytes of a piece with hosts, as long as it is current or was lately.
    pub fn piece(&self, digest: &Digest) -> Option<Arc<[u8]>> {
        self.library.piece(digest)
    }

    /// What makes the piece `digest` of the earlier piece `base`, encoded, if that is less.
    pub fn difference(&mut self, base: &Digest, digest: &Digest) -> Option<Arc<[u8]>> {
        self.library.difference(base, digest)
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

fn pack_of<'a>(
    packs: &'a [Pack],
    tried: Option<&'a (Pack, RolloutRecord)>,
    way: Way,
) -> Option<&'a Pack> {
    match way {
        Way::Good(at) => packs.get(at),
        Way::Trial => tried.map(|(pack, _)| pack),
    }
}

fn digest_of(manifest: &Digest, me: &[u8]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&manifest.0);
    hasher.update(&Digest::of(me).0);
    Digest(*hasher.finalize().as_bytes())
}

impl Asked {
    fn of(selectors: &Selectors) -> Self {
        let vocabulary = Vocabulary::of(selectors.all.iter());
        let mut by_term = vec![Vec::new(); vocabulary.terms()];
        let mut others = Vec::new();
        let mut bound = Vec::with_capacity(selectors.all.len());
        for (number, meant) in (0..).zip(&selectors.all) {
            let selector = vocabulary.bind(meant);
            match selector.anchors() {
                Some(anchors) => {
                    for anchor in anchors {
                        if let Some(selectors) = by_term.get_mut(anchor as usize) {
                            selectors.push(number);
                        }
                    }
                }
                None => others.push(number),
            }
            bound.push((selector, Borders::of(meant)));
        }
        Self { vocabulary, meant: selectors.all.clone(), selectors: bound, by_term, others }
    }

    /// The selectors that select a host, ascending.
    fn selecting(&self, answers: &vocabulary::Answers) -> Vec<SelectorNumber> {
        let of = |term: &u32| self.by_term.get(*term as usize).into_iter().flatten();
        let mut found: Vec<SelectorNumber> = answers
            .terms
            .iter()
            .flat_map(of)
            .chain(&self.others)
            .copied()
            .filter(|number| {
                let selector = self.selectors.get(*number as usize);
                selector.is_some_and(|(bound, borders)| bound.concerns(answers, borders))
            })
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    fn needs(&self, selector: SelectorNumber, answers: &vocabulary::Answers) -> bool {
        self.selectors.get(selector as usize).is_some_and(|(bound, _)| bound.needs(answers))
    }
}
