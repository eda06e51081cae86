//! A relay: serves hosts as a controller does, without a store. What they should have comes from above, and so do pieces
//! that it does not have yet. It can hold things back and can change nothing: hosts verify what they get.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use prost::Message;
use wire::sync::{
    Assigned as AssignedFrame, Assignment, Came, Carried, Down, Downward, Manifest, Members, Part,
    Piece, Up, Upward, Want, difference, patched, target_digest,
};

use crate::{
    digest::Digest,
    serving::{Assigned, At, Counts, Desk, Effect, Find, Link, Peer, Serve, Source, Wanted},
    sheets::Sheets,
};

/// Bytes of pieces that are kept though no manifest names them: enough for a few versions.
const KEPT_BYTES_MAX: usize = 256 << 20;
/// How often news of hosts are told upward: milliseconds.
const NEWS_MS: u64 = 200;
/// How long it is remembered what a host should have that is gone: it may come again, and whoever is above may not know
/// yet that it went. Milliseconds.
const GONE_MS: u64 = 60_000;
/// How often it is looked for what can be forgotten: milliseconds.
const TIDY_MS: u64 = 10_000;
/// Bytes of one piece that is taken from above.
const PIECE_BYTES_MAX: u64 = 64 << 20;

/// A relay.
#[derive(Debug)]
pub struct Relay {
    desk: Desk,
    cache: Cache,
    news_ms: u64,
    tidied_ms: u64,
    connected: bool,
}

/// What came from above.
#[derive(Debug, Default)]
struct Cache {
    hosts: BTreeMap<Arc<str>, Told>,
    /// Hosts of them that are not here, and since when that is known.
    gone: BTreeMap<Arc<str>, u64>,
    /// Manifests of the hosts that are here, with how many have each.
    manifests: BTreeMap<Digest, (Arc<[u8]>, u32)>,
    pieces: BTreeMap<Digest, Arc<[u8]>>,
    /// Pieces in the order in which they came.
    order: VecDeque<Digest>,
    bytes: usize,
    /// Pieces that were asked for above, as far as they came.
    coming: BTreeMap<Digest, Vec<u8>>,
    /// Those that are to be asked for.
    asking: Vec<Want>,
    /// Those of `coming` that were asked for elsewhere. Nobody gives them before they are named in what the hosts here are
    /// to have.
    unasked: BTreeSet<Digest>,
    lost: BTreeMap<Digest, ()>,
    /// The last piece of each name: differences lead from there.
    named: BTreeMap<String, Digest>,
    sheets: Sheets,
    names: BTreeMap<Digest, Name>,
}

/// What a piece is called.
#[derive(Clone, Debug)]
struct Name {
    name: String,
    /// It lists others.
    lists: bool,
}

#[derive(Clone, Debug)]
enum Told {
    Target(Assigned),
    /// What it was to have when it was here before.
    Before(Assigned),
    Refused(String),
}

impl Relay {
    /// One that knows nothing yet.
    pub fn new(serve: Serve, now: At) -> Self {
        let mut desk = Desk::new(serve, now.ms);
        desk.keep_certificates();
        Self { desk, cache: Cache::default(), news_ms: now.ms, tidied_ms: now.ms, connected: false }
    }

    /// Somebody has connected, and the handshake is done.
    pub fn opened(&mut self, peer: &Peer, now: At, out: &mut Vec<Effect>) -> Link {
        if let Peer::Host { id, .. } = peer {
            // Whoever comes is judged anew above.
            self.cache.forget(id);
        }
        let link = self.desk.opened(peer, now.ms, &self.cache, out);
        self.news(out);
        link
    }

    /// They said something.
    pub fn said(&mut self, link: Link, message: Upward, now: At, out: &mut Vec<Effect>) {
        self.desk.said(link, message, now.ms, &mut self.cache, out);
        self.ask(out);
    }

    /// All that was to be written for them has been.
    pub fn written(&mut self, link: Link, now: At, out: &mut Vec<Effect>) {
        self.desk.written(link, now.ms, &mut self.cache, out);
        self.ask(out);
    }

    /// They are gone.
    pub fn closed(&mut self, link: Link) {
        self.desk.closed(link);
    }

    /// There is a connection to a controller, or to a relay that is nearer to one.
    pub fn upstream_opened(&mut self, out: &mut Vec<Effect>) {
        self.connected = true;
        self.desk.report();
        self.cache.begin_anew();
        self.news(out);
    }

    /// There is none any more. Hosts keep what they have, and get what is here.
    pub fn upstream_closed(&mut self) {
        self.connected = false;
        self.desk.reporter.closed();
    }

    /// Something came from above.
    pub fn heard(&mut self, message: Downward, now: At, out: &mut Vec<Effect>) {
        match message.say {
            Some(Down::Assigned(frame)) => {
                let Given { changed, unknown, came } = self.cache.assigned(frame);
                for digest in &came {
                    self.desk.arrived(digest, now.ms, &mut self.cache, out);
                }
                let ids = changed.iter().map(String::as_str);
                self.desk.retarget(ids, now.ms, &mut self.cache, out);
                self.come_again(unknown, out);
            }
            Some(Down::Part(part)) => {
                if let Some(digest) = self.cache.part(part) {
                    self.desk.arrived(&digest, now.ms, &mut self.cache, out);
                    self.cache.lost.remove(&digest);
                }
            }
            // The shell sees to these: the connection ends.
            Some(Down::Target(_) | Down::Later(_) | Down::Refused(_)) | None => {}
        }
        self.ask(out);
    }

    /// Hosts whose manifests are not here go above and come again, so that these are sent once more: what was forgotten
    /// here was not known to be above.
    fn come_again(&self, hosts: Vec<String>, out: &mut Vec<Effect>) {
        let came = |host: &String| {
            let certificate = self.desk.host(host)?.certificate.as_ref()?;
            Some(Came { host: host.clone(), certificate: certificate.0.to_vec() })
        };
        let came: Vec<Came> = hosts.iter().filter_map(came).collect();
        if !came.is_empty() {
            let gone = came.iter().map(|it| it.host.clone()).collect();
            let mut say = |carried| {
                out.push(Effect::Upstream(Upward { say: Some(Up::Carried(carried)) }));
            };
            say(Carried { came: Vec::new(), gone });
            say(Carried { came, gone: Vec::new() });
        }
    }

    fn ask(&mut self, out: &mut Vec<Effect>) {
        if self.connected {
            let wants = self.cache.asking.drain(..);
            out.extend(wants.map(|want| Effect::Upstream(Upward { say: Some(Up::Want(want)) })));
        }
    }

    fn news(&mut self, out: &mut Vec<Effect>) {
        out.extend(self.desk.news().into_iter().map(Effect::Upstream));
    }

    /// Time passed. To be called a few times a second.
    pub fn tick(&mut self, now: At, out: &mut Vec<Effect>) {
        self.desk.tick(now.ms, &mut self.cache, out);
        self.ask(out);
        if self.tidied_ms + TIDY_MS <= now.ms {
            self.tidied_ms = now.ms;
            let Self { desk, cache, .. } = self;
            for piece in cache.tidy(now.ms, |id| desk.host(id).is_some()) {
                // Whoever waits for it hears that it does not come.
                desk.arrived(&piece, now.ms, cache, out);
            }
        }
        if self.news_ms + NEWS_MS <= now.ms {
            self.news_ms = now.ms;
            self.news(out);
        }
    }

    /// Counts since the relay began.
    pub fn counts(&self) -> Counts {
        self.desk.counts
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.desk.open()
    }

    /// Bytes of pieces and of what is kept for connections.
    pub fn bytes(&self) -> usize {
        self.cache.bytes + self.desk.bytes()
    }

    /// What is remembered: hosts, manifests, and names and fates of pieces.
    pub fn remembered(&self) -> [usize; 3] {
        let Cache { hosts, manifests, names, named, lost, .. } = &self.cache;
        [hosts.len(), manifests.len(), names.len() + named.len() + lost.len()]
    }
}

impl Source for Cache {
    fn admits(&self, id: &str, _: &Digest) -> Result<Arc<str>, String> {
        Ok(id.into())
    }

    fn knows(&self, _: &str) -> Result<Arc<str>, String> {
        Err("a relay serves hosts only".to_owned())
    }

    fn admits_relay(&self, _: &str, _: &Digest) -> Result<(), String> {
        Err("a relay serves hosts only".to_owned())
    }

    fn target(&mut self, id: &str) -> Wanted {
        match self.hosts.get(id) {
            Some(Told::Target(assigned)) => Wanted::Target(assigned.clone()),
            Some(Told::Refused(why)) => Wanted::Refused(why.clone()),
            Some(Told::Before(_)) | None => Wanted::Nothing,
        }
    }

    fn manifest(&mut self, id: &str) -> Option<(Arc<[u8]>, Digest)> {
        match self.hosts.get(id)? {
            Told::Target(it) | Told::Before(it) => {
                Some((Arc::clone(&it.manifest), it.manifest_digest))
            }
            Told::Refused(_) => None,
        }
    }

    fn piece(&mut self, digest: &Digest) -> Find {
        if let Some(bytes) = self.pieces.get(digest) {
            return Find::Here(Arc::clone(bytes));
        }
        if self.lost.contains_key(digest) {
            return Find::Lost;
        }
        if !self.coming.contains_key(digest) {
            // Only what a manifest names: nobody makes a relay ask for what does not concern its hosts.
            let Some(name) = self.names.get(digest) else { return Find::Lost };
            let base = self.named.get(&name.name).filter(|base| self.pieces.contains_key(*base));
            self.coming.insert(*digest, Vec::new());
            self.asking.push(Want {
                digest: digest.0.to_vec(),
                base: base.map(|base| base.0.to_vec()).unwrap_or_default(),
                offset: 0,
            });
        }
        Find::Coming
    }

    fn difference(&mut self, base: &Digest, digest: &Digest) -> Option<Arc<[u8]>> {
        let (old, new) = (self.pieces.get(base)?, self.pieces.get(digest)?);
        let bytes = match difference(old, new) {
            Ok(bytes) => bytes,
            Err(_no_hosts) => {
                self.sheets.difference(base, digest, |piece| self.pieces.get(piece).cloned())?
            }
        };
        (bytes.len() < new.len()).then(|| bytes.into())
    }
}

/// What came of an assignment.
struct Given {
    /// Whose targets changed.
    changed: Vec<String>,
    /// Hosts whose manifests are not here.
    unknown: Vec<String>,
    /// Pieces that came along.
    came: Vec<Digest>,
}

impl Cache {
    /// Forgets hosts that have been gone for a while, and what pieces are called that neither are here nor may be asked
    /// for. Pieces that are not waited for any more.
    fn tidy(&mut self, now_ms: u64, here: impl Fn(&str) -> bool) -> Vec<Digest> {
        let away: Vec<Arc<str>> = self.hosts.keys().filter(|id| !here(id)).cloned().collect();
        self.gone.retain(|id, _| away.binary_search(id).is_ok());
        for id in away {
            let since = *self.gone.entry(Arc::clone(&id)).or_insert(now_ms);
            if now_ms < since + GONE_MS {
                continue;
            }
            self.gone.remove(&id);
            if let Some(Told::Target(told) | Told::Before(told)) = self.hosts.remove(&id) {
                self.unused(&told.manifest_digest);
            }
        }
        self.manifests.retain(|_, (_, users)| *users != 0);
        let mut asked = BTreeSet::new();
        for (manifest, _) in self.manifests.values() {
            each_piece(manifest, |digest, piece| {
                asked.insert(digest);
                let listed = self.pieces.get(&digest).filter(|_| piece.sections != 0);
                asked.extend(listed.iter().flat_map(|bytes| sections(bytes)).map(|(it, _)| it));
            });
        }
        let Self { names, named, pieces, coming, unasked, lost, order, .. } = self;
        let dropped = coming.keys().filter(|digest| !asked.contains(*digest)).copied().collect();
        coming.retain(|digest, _| asked.contains(digest));
        unasked.retain(|digest| asked.contains(digest));
        lost.retain(|digest, ()| asked.contains(digest));
        names.retain(|digest, _| asked.contains(digest) || pieces.contains_key(digest));
        named.retain(|_, digest| pieces.contains_key(digest));
        order.retain(|digest| pieces.contains_key(digest));
        dropped
    }

    fn begin_anew(&mut self) {
        self.asking.clear();
        self.unasked = self.coming.keys().copied().collect();
        self.gone.clear();
        self.lost.clear();
        // The controller counts from nothing again what this relay has.
        self.manifests.clear();
        self.hosts.clear();
    }

    /// A host has come, perhaps again: what it should have is said above.
    fn forget(&mut self, id: &str) {
        let Some(told) = self.hosts.get_mut(id) else { return };
        if let Told::Target(assigned) = told {
            *told = Told::Before(assigned.clone());
        } else if let Told::Refused(_) = told {
            self.hosts.remove(id);
        }
    }

    /// Takes what hosts should have.
    fn assigned(&mut self, frame: AssignedFrame) -> Given {
        let AssignedFrame { hosts, manifests, along } = frame;
        for manifest in manifests {
            let digest = Digest::of(&manifest);
            self.name(&manifest);
            self.manifests.entry(digest).or_insert((manifest.into(), 0));
        }
        let mut came = Vec::new();
        for piece in along {
            let digest = Digest::of(&piece);
            // Only what a manifest names is kept.
            if self.names.contains_key(&digest) && !self.pieces.contains_key(&digest) {
                self.coming.remove(&digest);
                self.lost.remove(&digest);
                self.keep(digest, piece);
                came.push(digest);
            }
        }
        let mut changed = Vec::with_capacity(hosts.len());
        let mut unknown = Vec::new();
        for Assignment { host, manifest, me, refused } in hosts {
            let told = match Digest::read(&manifest) {
                None => Told::Refused(refused),
                Some(manifest_digest) => {
                    let Some((manifest, users)) = self.manifests.get_mut(&manifest_digest) else {
                        unknown.push(host);
                        continue;
                    };
                    *users += 1;
                    let digest = Digest(target_digest(manifest, &me));
                    let manifest = Arc::clone(manifest);
                    Told::Target(Assigned { manifest, manifest_digest, me, digest })
                }
            };
            let before = self.hosts.insert(host.as_str().into(), told);
            if let Some(Told::Target(before) | Told::Before(before)) = before {
                self.unused(&before.manifest_digest);
            }
            changed.push(host);
        }
        self.manifests.retain(|_, (_, users)| *users != 0);
        Given { changed, unknown, came }
    }

    fn unused(&mut self, manifest: &Digest) {
        if let Some((_, users)) = self.manifests.get_mut(manifest) {
            *users = users.saturating_sub(1);
        }
    }

    /// Remembers what the pieces of a manifest are called. What was asked for elsewhere is asked for here, from where it
    /// stopped.
    fn name(&mut self, manifest: &[u8]) {
        let mut lists = Vec::new();
        each_piece(manifest, |digest, piece| {
            if piece.sections != 0 {
                lists.push(digest);
            }
            self.name_piece(digest, piece);
        });
        // Those that are here already, of an earlier manifest.
        lists.iter().for_each(|list| self.name_sections(list));
    }

    fn name_piece(&mut self, digest: Digest, Piece { name, bytes, sections, .. }: Piece) {
        if bytes <= PIECE_BYTES_MAX {
            self.names.insert(digest, Name { name, lists: sections != 0 });
        }
        if self.unasked.remove(&digest)
            && let Some(came) = self.coming.get(&digest)
        {
            let offset = came.len() as u64;
            self.asking.push(Want { digest: digest.0.to_vec(), base: Vec::new(), offset });
        }
    }

    /// Remembers what the pieces are called that a piece lists, if it is here.
    fn name_sections(&mut self, list: &Digest) {
        let Some(bytes) = self.pieces.get(list) else { return };
        for (digest, piece) in sections(bytes) {
            self.name_piece(digest, piece);
        }
    }

    /// Takes a part from above; the piece that is whole by it, or lost.
    fn part(&mut self, part: Part) -> Option<Digest> {
        let Part { digest, offset, total, bytes, base, lost } = part;
        let digest = Digest::read(&digest)?;
        let came = self.coming.get_mut(&digest)?;
        if lost {
            self.coming.remove(&digest);
            self.lost.insert(digest, ());
            return Some(digest);
        }
        let whole = if base.is_empty() {
            if offset != came.len() as u64
                || PIECE_BYTES_MAX < total
                || bytes.is_empty() && total != 0
            {
                // Of an earlier connection, or nonsense: what was asked for is asked for again.
                return None;
            }
            came.extend_from_slice(&bytes);
            if (came.len() as u64) < total {
                let offset = came.len() as u64;
                self.asking.push(Want { digest: digest.0.to_vec(), base, offset });
                return None;
            }
            std::mem::take(came)
        } else {
            let base = Digest::read(&base).and_then(|base| self.pieces.get(&base));
            base.and_then(|base| patched(base, &bytes, PIECE_BYTES_MAX)).unwrap_or_default()
        };
        if Digest::of(&whole) != digest {
            // Whoever is above does not have it right; without a base there is less to go wrong.
            came_again(came, &mut self.asking, digest);
            return None;
        }
        self.coming.remove(&digest);
        self.keep(digest, whole);
        Some(digest)
    }

    fn keep(&mut self, digest: Digest, bytes: Vec<u8>) {
        self.bytes += bytes.len();
        self.order.push_back(digest);
        self.pieces.insert(digest, bytes.into());
        if let Some(Name { name, lists }) = self.names.get(&digest) {
            let lists = *lists;
            self.named.insert(name.clone(), digest);
            if lists {
                self.name_sections(&digest);
            }
        }
        while KEPT_BYTES_MAX < self.bytes
            && let Some(old) = self.order.pop_front()
        {
            if let Some(bytes) = self.pieces.remove(&old) {
                self.bytes -= bytes.len();
            }
        }
    }
}

/// The pieces of a manifest.
fn each_piece(manifest: &[u8], mut each: impl FnMut(Digest, Piece)) {
    let Ok(manifest) = Manifest::decode(manifest) else { return };
    let Manifest { roots, timestamp, snapshot, documents, members, .. } = manifest;
    let single = timestamp.into_iter().chain(snapshot);
    for piece in roots.into_iter().chain(single).chain(documents).chain(members) {
        if let Some(digest) = Digest::read(&piece.digest) {
            each(digest, piece);
        }
    }
}

/// The pieces that a set of hosts lists.
fn sections(members: &[u8]) -> Vec<(Digest, Piece)> {
    let Members { sections, .. } = Members::decode(members).unwrap_or_default();
    let read = |piece: Piece| {
        // What it lists has hosts, and lists nothing.
        Some((Digest::read(&piece.digest)?, Piece { sections: 0, ..piece }))
    };
    sections.into_iter().filter_map(read).collect()
}

fn came_again(came: &mut Vec<u8>, asking: &mut Vec<Want>, digest: Digest) {
    came.clear();
    asking.push(Want { digest: digest.0.to_vec(), base: Vec::new(), offset: 0 });
}
