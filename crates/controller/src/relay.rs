//! A relay: serves hosts as a controller does, without a store. What they should have comes from above, and so do pieces
//! that it does not have yet. It can hold things back and can change nothing: hosts verify what they get.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use prost::Message;
use wire::sync::{
    Assigned as AssignedFrame, Assignment, Difference, Down, Downward, Member, Members, Part, Up,
    Upward, Want, target_digest,
};

use crate::{
    digest::Digest,
    serving::{Assigned, At, Counts, Desk, Effect, Find, Link, Peer, Serve, Source, Wanted},
};

/// Bytes of pieces that are kept though no manifest names them: enough for a few versions.
const KEPT_BYTES_MAX: usize = 256 << 20;
/// How often news of hosts are told upward: milliseconds.
const NEWS_MS: u64 = 200;
/// Bytes of one piece that is taken from above.
const PIECE_BYTES_MAX: u64 = 64 << 20;

/// A relay.
#[derive(Debug)]
pub struct Relay {
    desk: Desk,
    cache: Cache,
    news_ms: u64,
    connected: bool,
}

/// What came from above.
#[derive(Debug, Default)]
struct Cache {
    hosts: BTreeMap<Arc<str>, Told>,
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
    lost: BTreeMap<Digest, ()>,
    /// The last piece with hosts of each name: differences lead from there.
    named: BTreeMap<String, Digest>,
    names: BTreeMap<Digest, String>,
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
        Self { desk, cache: Cache::default(), news_ms: now.ms, connected: false }
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
        // What was asked for elsewhere is asked for here, from where it stopped.
        let want = |(digest, came): (&Digest, &Vec<u8>)| Want {
            digest: digest.0.to_vec(),
            base: Vec::new(),
            offset: came.len() as u64,
        };
        self.cache.asking = self.cache.coming.iter().map(want).collect();
        self.news(out);
        self.ask(out);
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
                let changed = self.cache.assigned(frame);
                let ids = changed.iter().map(String::as_str);
                self.desk.retarget(ids, now.ms, &mut self.cache, out);
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
            let base = self.named.get(name).filter(|base| self.pieces.contains_key(*base));
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
        let bytes = crate::views::difference(old, new)?;
        (bytes.len() < new.len()).then(|| bytes.into())
    }
}

impl Cache {
    fn begin_anew(&mut self) {
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

    /// Whose targets changed.
    fn assigned(&mut self, frame: AssignedFrame) -> Vec<String> {
        let AssignedFrame { hosts, manifests } = frame;
        for manifest in manifests {
            let digest = Digest::of(&manifest);
            self.name(&manifest);
            self.manifests.entry(digest).or_insert((manifest.into(), 0));
        }
        let mut changed = Vec::with_capacity(hosts.len());
        for Assignment { host, manifest, me, refused } in hosts {
            let told = match Digest::read(&manifest) {
                None => Told::Refused(refused),
                Some(manifest_digest) => {
                    let Some((manifest, users)) = self.manifests.get_mut(&manifest_digest) else {
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
        changed
    }

    fn unused(&mut self, manifest: &Digest) {
        if let Some((_, users)) = self.manifests.get_mut(manifest) {
            *users = users.saturating_sub(1);
        }
    }

    /// Remembers what the pieces of a manifest are called.
    fn name(&mut self, manifest: &[u8]) {
        let Ok(manifest) = wire::sync::Manifest::decode(manifest) else { return };
        let wire::sync::Manifest { roots, timestamp, snapshot, documents, members, .. } = manifest;
        let single = timestamp.into_iter().chain(snapshot);
        for piece in roots.into_iter().chain(single).chain(documents).chain(members) {
            if let Some(digest) =
                Digest::read(&piece.digest).filter(|_| piece.bytes <= PIECE_BYTES_MAX)
            {
                self.names.insert(digest, piece.name);
            }
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
            base.and_then(|base| patched(base, &bytes)).unwrap_or_default()
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
        if let Some(name) = self.names.get(&digest) {
            self.named.insert(name.clone(), digest);
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

fn came_again(came: &mut Vec<u8>, asking: &mut Vec<Want>, digest: Digest) {
    came.clear();
    asking.push(Want { digest: digest.0.to_vec(), base: Vec::new(), offset: 0 });
}

/// What a difference makes of a piece.
fn patched(base: &[u8], difference: &[u8]) -> Option<Vec<u8>> {
    let Members { hosts } = Members::decode(base).ok()?;
    let Difference { put, gone } = Difference::decode(difference).ok()?;
    let mut all: BTreeMap<String, Member> =
        hosts.into_iter().map(|host| (host.id.clone(), host)).collect();
    for id in gone {
        all.remove(&id);
    }
    all.extend(put.into_iter().map(|host| (host.id.clone(), host)));
    Some(Members { hosts: all.into_values().collect() }.encode_to_vec())
}
