//! What leads from one snapshot to the next. A snapshot has a few lines for each document, and a rule that changes makes one
//! document another: two of thousands of lines differ. So a difference says which lines of the older one follow each other,
//! and what stands between them.
//!
//! Whoever makes it needs no more of an older snapshot than a number for each line, and may be wrong about a line, as good as
//! never: the piece that is put together has a digest, and who finds another one asks for the whole.

use std::collections::BTreeMap;

use prost::Message;

use super::{Difference, Run};
use crate::{Envelope, Payload as _, Snapshot};

/// A snapshot's lines, each as a part of its BLAKE3 digest.
#[derive(Clone, Debug)]
pub struct Lines(Vec<u64>);

/// A snapshot as a piece, to which differences lead.
#[derive(Clone, Debug)]
pub struct Sheet {
    /// The envelope with nothing in it.
    bare: Vec<u8>,
    payload: Vec<u8>,
    lines: Lines,
}

impl Sheet {
    /// Reads a piece; none if it is not the envelope of a snapshot, or not written as envelopes are here. Whether it is signed
    /// by anybody is not asked.
    pub fn read(piece: &[u8]) -> Option<Self> {
        // Other pieces have megabytes, too, and are seen to be others by their first bytes.
        let begin = format!("{{\"payloadType\":\"{}\"", Snapshot::TYPE);
        let envelope = piece.starts_with(begin.as_bytes()).then_some(piece);
        let envelope: Envelope = serde_json::from_slice(envelope?).ok()?;
        if written(&envelope)? != piece {
            return None;
        }
        let (bare, payload) = envelope.emptied();
        let lines = Lines(split(&payload).map(number).collect());
        Some(Self { bare: written(&bare)?, payload, lines })
    }

    /// Its lines.
    pub fn lines(&self) -> &Lines {
        &self.lines
    }

    /// What makes it of the snapshot with the lines `old`: an encoded [`Difference`].
    pub fn since(&self, old: &Lines) -> Vec<u8> {
        let places: BTreeMap<u64, u32> = (0..).zip(&old.0).map(|(at, line)| (*line, at)).collect();
        let mut runs: Vec<Run> = Vec::new();
        // Where it goes on in the older one, if all goes on as it was.
        let mut next = 0u32;
        for (line, number) in split(&self.payload).zip(&self.lines.0) {
            let goes_on = old.0.get(next as usize) == Some(number);
            match if goes_on { Some(next) } else { places.get(number).copied() } {
                Some(at) => {
                    match runs.last_mut() {
                        Some(run) if run.then.is_empty() && run.first + run.lines == at => {
                            run.lines += 1;
                        }
                        _ => runs.push(Run { first: at, lines: 1, then: Vec::new() }),
                    }
                    next = at + 1;
                }
                None => {
                    match runs.last_mut() {
                        Some(run) => run.then.extend_from_slice(line),
                        None => runs.push(Run { then: line.to_vec(), ..Run::default() }),
                    }
                    // Most likely it stands in the place of one.
                    next += 1;
                }
            }
        }
        Difference { envelope: self.bare.clone(), runs, ..Difference::default() }.encode_to_vec()
    }
}

/// The piece of at most `most` bytes that these make of the piece `old`; none if they do not.
pub(super) fn patched(old: &[u8], envelope: &[u8], runs: &[Run], most: u64) -> Option<Vec<u8>> {
    let (_, before) = serde_json::from_slice::<Envelope>(old).ok()?.emptied();
    let lines: Vec<&[u8]> = split(&before).collect();
    let mut payload = Vec::new();
    for Run { first, lines: count, then } in runs {
        let first = *first as usize;
        for line in lines.get(first..first.checked_add(*count as usize)?)? {
            payload.extend_from_slice(line);
            // A few bytes can ask for the same lines over and over.
            if most < payload.len() as u64 {
                return None;
            }
        }
        payload.extend_from_slice(then);
    }
    let envelope: Envelope = serde_json::from_slice(envelope).ok()?;
    written(&envelope.filled(payload))
}

fn split(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    payload.split_inclusive(|byte| *byte == b'\n')
}

fn number(line: &[u8]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(line).as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// As pieces with envelopes are written.
fn written(envelope: &Envelope) -> Option<Vec<u8>> {
    serde_json::to_vec(envelope).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Listed, SecretKey, sync};

    fn piece(version: u64, documents: &[(u8, u64)]) -> Vec<u8> {
        let listed = |&(name, version): &(u8, u64)| Listed {
            name: format!("d{name}"),
            version,
            digest: crate::digest(&[name, version.to_le_bytes()[0]]),
            concerns: (name % 3 != 0).then(|| format!("app=a{name} or\tenv=e{}", name % 4)),
        };
        let mut envelope = Envelope::new(&Snapshot {
            version,
            expires: "2030-01-01T00:00:00Z".parse().unwrap(),
            audience: Vec::new(),
            documents: documents.iter().map(listed).collect(),
        });
        envelope.sign(&SecretKey::from_seed([7; 32]));
        written(&envelope).unwrap()
    }

    fn led(old: &[u8], new: &[u8]) -> Vec<u8> {
        Sheet::read(new).unwrap().since(Sheet::read(old).unwrap().lines())
    }

    #[test]
    fn one_document_of_many_is_a_few_lines() {
        let before: Vec<_> = (0..=255).map(|name| (name, 1)).collect();
        let after: Vec<_> =
            before.iter().map(|&(name, _)| (name, 1 + u64::from(name == 100))).collect();
        let (old, new) = (piece(9, &before), piece(10, &after));
        let difference = led(&old, &new);
        // The head's version, the document's version and digest, and the envelope with its signature.
        assert!(difference.len() < 600, "{} of {} bytes", difference.len(), new.len());
        assert_eq!(sync::patched(&old, &difference, new.len() as u64), Some(new));
    }

    #[test]
    fn what_is_no_snapshot_or_is_written_otherwise_has_no_lines() {
        let new = piece(1, &[(1, 1)]);
        let spaced = String::from_utf8(new.clone()).unwrap().replace(":\"", ": \"");
        for other in [b"".as_slice(), b"\x0a\x00", spaced.as_bytes()] {
            assert!(Sheet::read(other).is_none());
        }
    }

    #[test]
    fn nothing_is_made_larger_than_it_may_be() {
        let old = piece(1, &[(1, 1), (2, 1)]);
        let sheet = Sheet::read(&old).unwrap();
        let lines = u32::try_from(sheet.lines.0.len()).unwrap();
        let run = |first, lines| Run { first, lines, then: Vec::new() };
        let made = |runs: Vec<Run>| {
            let it = Difference { envelope: sheet.bare.clone(), runs, ..Difference::default() };
            sync::patched(&old, &it.encode_to_vec(), old.len() as u64)
        };
        assert_eq!(made(vec![run(0, lines)]).as_ref(), Some(&old));
        for runs in [
            vec![run(0, lines); 1_000],
            vec![run(1, lines)],
            vec![run(u32::MAX, 1)],
            vec![run(1, u32::MAX)],
        ] {
            assert_eq!(made(runs), None);
        }
    }

    proptest! {
        #[test]
        fn a_difference_leads_from_one_to_the_next(
            [old, new] in prop::array::uniform2(
                (0u64..20, prop::collection::vec((0u8..9, 0u64..3), 0..20))
            ),
        ) {
            let [old, new] = [old, new].map(|(version, documents)| piece(version, &documents));
            prop_assert_eq!(sync::patched(&old, &led(&old, &new), new.len() as u64), Some(new));
        }
    }
}
