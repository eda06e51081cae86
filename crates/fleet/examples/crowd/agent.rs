//! A host of a fleet, as thin as an honest one can be: it reads its target, fetches the pieces that it lacks, checks the
//! digest of everything that comes, and acknowledges what it has received, verified and put in force.
//!
//! What a real host does once with what it got, all hosts of a process do once together: the signatures of a bundle are
//! verified by `wire::Trust` when the first of them has its pieces, and nothing is compiled or loaded into a kernel.
//! A real fleet has a processor for each host; this machine has two for all of them and for the servers.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    rc::Rc,
    time::Duration,
};

use fleet::settings;
use jiff::Timestamp;
use prost::Message as _;
use wire::{
    Bundle, Envelope, Moment, Trust,
    sync::{
        Beat, Decoder, Down, Downward, Hello, Manifest, Member, Members, Part, Piece, Progress,
        Stage, Target, Up, Upward, Want, encode,
    },
};

use crate::{
    Failure,
    line::{Heard, Listener},
};

type Digest = [u8; 32];

/// What all hosts of this process know.
#[derive(Clone)]
pub(crate) struct Known(Rc<RefCell<Inside>>);

struct Inside {
    trust: Trust,
    pieces: BTreeMap<Digest, Vec<u8>>,
    /// Bundles that were verified, by the digests of their envelopes, with the version of the snapshot.
    verified: BTreeMap<Vec<Digest>, u64>,
}

impl Known {
    /// With the root of the fleet in this directory.
    pub(crate) fn open(directory: &Path) -> Result<Self, Failure> {
        let trust = Trust::begin(&fs::read(directory.join(settings::ROOT))?)?;
        let (pieces, verified) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self(Rc::new(RefCell::new(Inside { trust, pieces, verified }))))
    }

    /// A host.
    pub(crate) fn agent(&self, id: String) -> Agent {
        Agent {
            id,
            known: self.clone(),
            decoder: Decoder::default(),
            has: Box::default(),
            lacks: BTreeSet::new(),
            wanted: None,
            enforced: None,
            snapshot: 0,
            beat: Duration::ZERO,
        }
    }

    /// The version of a snapshot whose bundle is in order.
    fn verify(&self, manifest: &Manifest) -> Result<u64, Failure> {
        let Inside { trust, pieces, verified } = &mut *self.0.borrow_mut();
        let Manifest { roots, timestamp, snapshot, documents, .. } = manifest;
        let (timestamp, snapshot) =
            (timestamp.as_ref().ok_or("no timestamp")?, snapshot.as_ref().ok_or("no snapshot")?);
        let parts = roots.iter().chain([timestamp, snapshot]).chain(documents);
        let name = parts.map(digest).collect::<Result<Vec<_>, _>>()?;
        if let Some(version) = verified.get(&name) {
            return Ok(*version);
        }
        let envelope = |piece: &Piece| -> Result<Envelope, Failure> {
            let bytes = pieces.get(&digest(piece)?).ok_or("a piece is not there")?;
            Ok(serde_json::from_slice(bytes)?)
        };
        let all = |list: &[Piece]| list.iter().map(&envelope).collect::<Result<Vec<_>, _>>();
        let (timestamp, snapshot) = (envelope(timestamp)?, envelope(snapshot)?);
        let bundle = Bundle::new(all(roots)?, timestamp, snapshot, all(documents)?).to_json();
        let moment = Moment { now: Timestamp::now(), names: None, host: None };
        let accepted = trust.verify(bundle.as_bytes(), moment)?;
        verified.insert(name, accepted.snapshot);
        Ok(accepted.snapshot)
    }
}

fn digest(piece: &Piece) -> Result<Digest, Failure> {
    Ok(piece.digest.as_slice().try_into()?)
}

/// A host.
pub(crate) struct Agent {
    id: String,
    known: Known,
    decoder: Decoder,
    /// Digests of the pieces that it has.
    has: Box<[Digest]>,
    lacks: BTreeSet<Digest>,
    /// What it is to have, until it has it.
    wanted: Option<Box<(Digest, Manifest)>>,
    enforced: Option<Digest>,
    snapshot: u64,
    beat: Duration,
}

impl Listener for Agent {
    fn hello(&mut self) -> Vec<u8> {
        // A new connection: what came of a frame on the old one is nothing.
        (self.decoder, self.wanted) = (Decoder::default(), None);
        frame(Up::Hello(Hello {
            program: "crowd".to_owned(),
            enforced: self.enforced.map(Vec::from).unwrap_or_default(),
            stage: if self.enforced.is_some() { Stage::Enforced } else { Stage::Unknown }.into(),
        }))
    }

    fn hear(&mut self, mut bytes: &[u8], answer: &mut Vec<u8>) -> Result<Heard, Failure> {
        let mut heard = Heard::default();
        while let Some(said) = self.decoder.next::<Downward>(&mut bytes)? {
            match said.say {
                Some(Down::Target(target)) => {
                    heard.waits = true;
                    self.target(&target, answer)?;
                }
                Some(Down::Part(part)) => self.part(part, answer)?,
                Some(Down::Later(later)) => heard.later_ms = Some(later.after_ms),
                Some(Down::Refused(refused)) => return Err(refused.why.into()),
                Some(Down::Assigned(_)) | None => return Err("a host is told nonsense".into()),
            }
            if self.lacks.is_empty()
                && let Some(wanted) = self.wanted.take()
            {
                self.enforce(*wanted, answer)?;
                heard.updates += 1;
            }
        }
        Ok(heard)
    }

    fn beat(&self) -> Option<(Vec<u8>, Duration)> {
        let target = self.enforced?;
        let beat = Beat { target: target.to_vec(), ..Beat::default() };
        (!self.beat.is_zero()).then(|| (frame(Up::Beat(beat)), self.beat))
    }
}

impl Agent {
    fn target(&mut self, target: &Target, answer: &mut Vec<u8>) -> Result<(), Failure> {
        if target.beat_ms != 0 {
            self.beat = Duration::from_millis(target.beat_ms.into());
        }
        if !target.same.is_empty() {
            let same = self.enforced.is_some_and(|enforced| enforced[..] == target.same);
            return if same { Ok(()) } else { Err("it names a target that is not here".into()) };
        }
        let manifest = Manifest::decode(&*target.manifest)?;
        if Member::decode(&*target.me)?.id != self.id {
            return Err(format!("a target of somebody else came to {}", self.id).into());
        }
        let Manifest { roots, timestamp, snapshot, documents, members, .. } = &manifest;
        let pieces = roots.iter().chain(timestamp).chain(snapshot).chain(documents).chain(members);
        let needed = pieces.map(digest).collect::<Result<BTreeSet<_>, _>>()?;
        self.lacks = needed.into_iter().filter(|it| !self.has.contains(it)).collect();
        for bytes in &target.along {
            let digest = *blake3::hash(bytes).as_bytes();
            if self.lacks.remove(&digest) {
                let known = &mut self.known.0.borrow_mut().pieces;
                known.entry(digest).or_insert_with(|| bytes.clone());
            }
        }
        self.wanted = Some(Box::new((target.digest(), manifest)));
        for digest in &self.lacks {
            answer.extend(want(digest));
        }
        Ok(())
    }

    fn part(&mut self, part: Part, answer: &mut Vec<u8>) -> Result<(), Failure> {
        let Part { digest, offset, total, bytes, base, lost } = part;
        let digest = Digest::try_from(digest.as_slice())?;
        if lost || !base.is_empty() {
            return Err("a piece is lost, or a difference that nobody asked for".into());
        }
        if offset != 0 || bytes.len() as u64 != total {
            return Err("a piece of more than one part is nothing for this crowd".into());
        }
        // Each host checks what came to it.
        if *blake3::hash(&bytes).as_bytes() != digest || !self.lacks.remove(&digest) {
            return Err("a piece is not what it should be".into());
        }
        for section in self.sections(&digest, &bytes)? {
            if !self.has.contains(&section) && self.lacks.insert(section) {
                answer.extend(want(&section));
            }
        }
        self.known.0.borrow_mut().pieces.entry(digest).or_insert(bytes);
        Ok(())
    }

    /// The pieces that a piece of what is wanted lists.
    fn sections(&self, piece: &Digest, bytes: &[u8]) -> Result<Vec<Digest>, Failure> {
        let manifest = self.wanted.as_ref().map(|wanted| &wanted.1);
        let mut members = manifest.into_iter().flat_map(|manifest| &manifest.members);
        if !members.any(|it| it.sections != 0 && it.digest == piece) {
            return Ok(Vec::new());
        }
        Members::decode(bytes)?.sections.iter().map(digest).collect()
    }

    /// Everything is there.
    fn enforce(
        &mut self,
        (target, manifest): (Digest, Manifest),
        answer: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let progress = |stage: Stage, snapshot: u64| {
            let (target, stage) = (target.to_vec(), stage.into());
            frame(Up::Progress(Progress { target, stage, why: String::new(), snapshot }))
        };
        answer.extend(progress(Stage::Received, 0));
        let snapshot = self.known.verify(&manifest)?;
        if snapshot < self.snapshot {
            return Err(format!("{} is to go back to snapshot {snapshot}", self.id).into());
        }
        answer.extend(progress(Stage::Verified, snapshot));
        let Manifest { roots, timestamp, snapshot: vouched, documents, members, .. } = &manifest;
        let pieces = roots.iter().chain(timestamp).chain(vouched).chain(documents).chain(members);
        let mut has = pieces.map(digest).collect::<Result<Vec<_>, _>>()?;
        for piece in members.iter().filter(|piece| piece.sections != 0) {
            let known = self.known.0.borrow();
            let list = known.pieces.get(&digest(piece)?).ok_or("a piece is not there")?;
            for section in &Members::decode(list.as_slice())?.sections {
                has.push(digest(section)?);
            }
        }
        self.has = has.into();
        (self.enforced, self.snapshot) = (Some(target), snapshot);
        answer.extend(progress(Stage::Enforced, snapshot));
        Ok(())
    }
}

fn want(digest: &Digest) -> Vec<u8> {
    frame(Up::Want(Want { digest: digest.to_vec(), base: Vec::new(), offset: 0 }))
}

fn frame(say: Up) -> Vec<u8> {
    encode(&Upward { say: Some(say) }).expect("what a host says is short")
}
