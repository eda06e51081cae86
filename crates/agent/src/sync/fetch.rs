//! Fetching pieces: a few at a time, each checked by its digest, resumed where a connection broke off, and as a difference
//! where an older piece of the same name is here.

use std::collections::BTreeMap;

use wire::sync::{Part, Piece, Want, patched};

use super::{Digest, want};

/// Pieces that are asked for at once.
const AT_ONCE: usize = 4;
/// Whoever has heard nothing for so long asks again, from where it is.
const AGAIN_MS: u64 = 5_000;
/// Whoever has heard nothing for so long asks somebody else.
const STUCK_MS: u64 = 30_000;
/// How often a piece may come wrong from one side.
const WRONG_MAX: u32 = 2;

/// What is wrong with a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nobody has the piece any more: a newer target is on its way.
    Lost,
    /// It is not what was asked for.
    Garbage(String),
}

/// A piece that is not whole.
#[derive(Clone, Debug)]
struct Missing {
    name: String,
    /// Bytes of the whole.
    total: u64,
    /// What came so far.
    came: Vec<u8>,
    /// A difference came and did not lead there: the whole is asked for.
    without_base: bool,
    /// When it was asked for and has not come since.
    asked: Option<u64>,
    wrong: u32,
}

/// What is missing, in the order of need.
#[derive(Clone, Debug, Default)]
pub(super) struct Fetch {
    missing: BTreeMap<Digest, Missing>,
    /// When something came, or was first asked for.
    moved: Option<u64>,
}

impl Fetch {
    /// Wants these pieces from now on, but for those that are here. What came already of one of them stays.
    pub(super) fn want<'a>(
        &mut self,
        pieces: impl Iterator<Item = (Digest, &'a Piece)>,
        here: &BTreeMap<Digest, Vec<u8>>,
    ) {
        let mut before = std::mem::take(&mut self.missing);
        self.moved = None;
        for (digest, piece) in pieces.filter(|(digest, _)| !here.contains_key(digest)) {
            let known = before.remove(&digest).filter(|known| known.total == piece.bytes);
            self.missing.insert(digest, known.unwrap_or_else(|| Missing::of(piece)));
        }
    }

    /// Wants these pieces, too, but for those that are here.
    pub(super) fn want_more<'a>(
        &mut self,
        pieces: impl Iterator<Item = (Digest, &'a Piece)>,
        here: &BTreeMap<Digest, Vec<u8>>,
    ) {
        for (digest, piece) in pieces.filter(|(digest, _)| !here.contains_key(digest)) {
            self.missing.entry(digest).or_insert_with(|| Missing::of(piece));
        }
    }

    /// A piece is here by another way. Whether it was missing.
    pub(super) fn came(&mut self, digest: &Digest) -> bool {
        self.missing.remove(digest).is_some()
    }

    /// The connection is gone: everything is to be asked for again, from where it is.
    pub(super) fn interrupted(&mut self) {
        self.moved = None;
        for missing in self.missing.values_mut() {
            missing.asked = None;
            missing.wrong = 0;
        }
    }

    /// What to ask for now. `base` finds an older piece of a name.
    pub(super) fn next(&mut self, now: u64, base: impl Fn(&str) -> Option<Digest>) -> Vec<Want> {
        let waiting = |it: &Missing| it.asked.is_some_and(|asked| now < asked + AGAIN_MS);
        let busy = self.missing.values().filter(|it| waiting(it)).count();
        let idle = self.missing.iter_mut().filter(|(_, it)| !waiting(it));
        let mut wants = Vec::new();
        for (digest, missing) in idle.take(AT_ONCE.saturating_sub(busy)) {
            missing.asked = Some(now);
            let fresh = missing.came.is_empty() && !missing.without_base;
            let base = fresh.then(|| base(&missing.name)).flatten();
            wants.push(want(*digest, base, missing.came.len() as u64));
        }
        if !wants.is_empty() && self.moved.is_none() {
            self.moved = Some(now);
        }
        wants
    }

    /// Whether nothing has come for too long.
    pub(super) fn is_stuck(&self, now: u64) -> bool {
        !self.missing.is_empty() && self.moved.is_some_and(|moved| moved + STUCK_MS <= now)
    }

    /// Takes a part. A piece that is whole by it comes back, verified.
    pub(super) fn part(
        &mut self,
        part: Part,
        now: u64,
        here: &BTreeMap<Digest, Vec<u8>>,
    ) -> Result<Option<(Digest, Vec<u8>)>, Trouble> {
        let Part { digest, offset, total, bytes, base, lost } = part;
        let Ok(digest) = Digest::try_from(&*digest) else {
            return Err(Trouble::Garbage("a part of nothing".to_owned()));
        };
        // Of something that is not wanted any more, or came twice.
        let Some(missing) = self.missing.get_mut(&digest) else { return Ok(None) };
        if lost {
            self.missing.clear();
            return Err(Trouble::Lost);
        }
        let base = (!base.is_empty()).then(|| Digest::try_from(&*base).ok());
        let base = match base {
            Some(None) => return Err(Trouble::Garbage("a difference from nothing".to_owned())),
            Some(base) => base.filter(|base| here.contains_key(base)),
            None => None,
        };
        if let Some(base) = base {
            // Whatever it is, it is not asked for again.
            missing.without_base = true;
            missing.asked = None;
            let before = here.get(&base).filter(|_| missing.came.is_empty());
            let whole = before.and_then(|before| patched(before, &bytes, missing.total));
            let Some(whole) = whole.filter(|it| blake3::hash(it) == digest) else {
                return Ok(None);
            };
            self.moved = Some(now);
            self.missing.remove(&digest);
            return Ok(Some((digest, whole)));
        }
        let have = missing.came.len() as u64;
        if offset != have || bytes.is_empty() && total != 0 {
            // It came twice, or nobody asked for it.
            return Ok(None);
        }
        let after = have + bytes.len() as u64;
        if total != missing.total || total < after {
            return missing
                .wrong(format!("the piece `{}` has other bytes than it should", missing.name));
        }
        missing.came.extend_from_slice(&bytes);
        // What follows is asked for at once.
        (missing.asked, self.moved) = (None, Some(now));
        if after < total {
            return Ok(None);
        }
        let whole = std::mem::take(&mut missing.came);
        if blake3::hash(&whole) != digest {
            return missing.wrong(format!("the piece `{}` is not what it should be", missing.name));
        }
        self.missing.remove(&digest);
        Ok(Some((digest, whole)))
    }
}

impl Missing {
    fn of(piece: &Piece) -> Self {
        Self {
            name: piece.name.clone(),
            total: piece.bytes,
            came: Vec::new(),
            without_base: false,
            asked: None,
            wrong: 0,
        }
    }

    /// It is asked for anew, unless that was done already.
    fn wrong(&mut self, why: String) -> Result<Option<(Digest, Vec<u8>)>, Trouble> {
        (self.came, self.asked) = (Vec::new(), None);
        self.wrong += 1;
        if self.wrong < WRONG_MAX { Ok(None) } else { Err(Trouble::Garbage(why)) }
    }
}
