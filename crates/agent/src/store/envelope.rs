//! The envelope around every file of the state: one line that says what the file is, then a JSON body.
//!
//! ```text
//! fwnet-state KIND VERSION LENGTH DIGEST
//! { ... }
//! ```
//! LENGTH counts the bytes of the body; DIGEST is BLAKE3, in hexadecimal, of `KIND VERSION LENGTH`, a line feed and the
//! body, so that no part of a file can change unseen.

use serde::{Serialize, de::DeserializeOwned};

/// The first word of every file of the state.
const FORMAT: &str = "fwnet-state";
/// The version of all bodies that this program writes.
pub const VERSION: u32 = 1;
/// The oldest version that it still reads.
pub const VERSION_OLDEST: u32 = 1;
/// Bytes of the longest header line, the line feed included: every field at its longest.
const HEADER_BYTES_MAX: usize = 128;

/// What a body is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Where the programs are attached.
    Place,
    /// A policy that was put in force for good.
    Policy,
    /// A policy that waits to be confirmed.
    Pending,
    /// Denied addresses and ports, one by one.
    Entries,
    /// One imported list of addresses.
    List,
    /// Whether the policy, the lockdown or nothing is enforced.
    Stance,
    /// Which root is trusted, and the newest versions that were seen.
    Trust,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::Place,
        Self::Policy,
        Self::Pending,
        Self::Entries,
        Self::List,
        Self::Stance,
        Self::Trust,
    ];

    const fn word(self) -> &'static str {
        match self {
            Self::Place => "place",
            Self::Policy => "policy",
            Self::Pending => "pending",
            Self::Entries => "entries",
            Self::List => "list",
            Self::Stance => "stance",
            Self::Trust => "trust",
        }
    }
}

/// Why a file of the state is not used.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It ends too early, as after a loss of power.
    #[error("it is truncated: {found} bytes of {stated}")]
    Truncated {
        /// Bytes of the body that the header promises; of the header itself where that is not whole.
        stated: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// Its bytes are not those that were written.
    #[error("it is torn: its digest is not that of its content")]
    Torn,
    /// A program before this one wrote it, too long ago.
    #[error(
        "it has the format of an older fwnet (version {version}, {VERSION_OLDEST} is the oldest that is read)"
    )]
    Older {
        /// Its version.
        version: u32,
    },
    /// A program after this one wrote it.
    #[error(
        "it has the format of a newer fwnet (version {version}, {VERSION} is the newest that is read)"
    )]
    Newer {
        /// Its version.
        version: u32,
    },
    /// No part of fwnet wrote it.
    #[error("it is no state of fwnet")]
    Foreign,
    /// It is a file of the state, but another one.
    #[error("it holds the state of something else: {found}")]
    Misplaced {
        /// The kind that its header names.
        found: &'static str,
    },
    /// What was written is not what this program writes.
    #[error("it is whole, but makes no sense")]
    Meaningless(#[source] serde_json::Error),
    /// It should be there and is not.
    #[error("it is missing")]
    Missing,
    /// The disk does not give it.
    #[error("it cannot be read")]
    Unreadable(#[source] std::io::Error),
}

/// A body in its envelope.
pub(super) fn seal(kind: Kind, body: &impl Serialize) -> Vec<u8> {
    let body =
        serde_json::to_vec(body).expect("records have string keys and no failing serializer");
    let fields = format!("{} {VERSION} {}", kind.word(), body.len());
    let digest = digest(&fields, &body);
    let mut bytes = format!("{FORMAT} {fields} {digest}\n").into_bytes();
    bytes.extend_from_slice(&body);
    bytes.push(b'\n');
    bytes
}

/// Takes a body out of its envelope.
pub(super) fn open<T: DeserializeOwned>(kind: Kind, bytes: &[u8]) -> Result<T, Fault> {
    serde_json::from_slice(body(kind, bytes)?).map_err(Fault::Meaningless)
}

/// The bytes of the body, once everything about the envelope is right.
fn body(kind: Kind, bytes: &[u8]) -> Result<&[u8], Fault> {
    let head = bytes.get(..HEADER_BYTES_MAX.min(bytes.len())).unwrap_or_default();
    let Some(end) = head.iter().position(|&byte| byte == b'\n') else {
        return Err(headless(bytes));
    };
    let (line, rest) =
        (head.get(..end).unwrap_or_default(), bytes.get(end + 1..).unwrap_or_default());
    let header = std::str::from_utf8(line).ok().and_then(Header::parse);
    let Some(header) = header else {
        let ours = line.starts_with(FORMAT.as_bytes());
        return Err(if ours { Fault::Torn } else { Fault::Foreign });
    };
    match header.version {
        version if version < VERSION_OLDEST => return Err(Fault::Older { version }),
        version if version > VERSION => return Err(Fault::Newer { version }),
        _ => {}
    }
    let stated = header.length.saturating_add(1);
    let found = rest.len() as u64;
    if found < stated {
        return Err(Fault::Truncated { stated, found });
    }
    let Some((b'\n', body)) = rest.split_last().filter(|_| found == stated) else {
        return Err(Fault::Torn);
    };
    if digest(header.fields, body) != header.digest {
        return Err(Fault::Torn);
    }
    if header.kind != kind.word() {
        let known = Kind::ALL.into_iter().map(Kind::word).find(|&word| word == header.kind);
        return Err(known.map_or(Fault::Foreign, |found| Fault::Misplaced { found }));
    }
    Ok(body)
}

/// What a file without a whole header line is.
fn headless(bytes: &[u8]) -> Fault {
    let common = bytes.len().min(FORMAT.len());
    if bytes.get(..common) != FORMAT.as_bytes().get(..common) {
        return Fault::Foreign;
    }
    if bytes.len() < HEADER_BYTES_MAX && bytes.iter().all(|byte| (b' '..=b'~').contains(byte)) {
        return Fault::Truncated { stated: HEADER_BYTES_MAX as u64, found: bytes.len() as u64 };
    }
    Fault::Torn
}

/// The words of a header line.
struct Header<'a> {
    kind: &'a str,
    version: u32,
    length: u64,
    digest: &'a str,
    /// `KIND VERSION LENGTH`, which the digest covers.
    fields: &'a str,
}

impl<'a> Header<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (fields, digest) = line.strip_prefix(FORMAT)?.strip_prefix(' ')?.rsplit_once(' ')?;
        let mut words = fields.split(' ');
        let header = Self {
            kind: words.next()?,
            version: words.next()?.parse().ok()?,
            length: words.next()?.parse().ok()?,
            digest,
            fields,
        };
        words.next().is_none().then_some(header)
    }
}

fn digest(fields: &str, body: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(fields.as_bytes()).update(b"\n").update(body);
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sealed() -> Vec<u8> {
        seal(Kind::Stance, &vec!["some", "words"])
    }

    fn fault(bytes: &[u8]) -> String {
        let opened = open::<Vec<String>>(Kind::Stance, bytes);
        opened.expect_err("a fault").to_string()
    }

    #[test]
    fn what_was_sealed_opens() {
        let opened: Vec<String> = open(Kind::Stance, &sealed()).unwrap();
        assert_eq!(opened, ["some", "words"]);
    }

    #[test]
    fn every_fault_has_its_name() {
        let text = String::from_utf8(sealed()).unwrap();
        for (bytes, said) in [
            (String::new(), "it is truncated: 0 bytes of 128"),
            ("fwnet-st".to_owned(), "it is truncated: 8 bytes of 128"),
            ("#!/bin/sh\n".to_owned(), "it is no state of fwnet"),
            ("\0".repeat(4096), "it is no state of fwnet"),
            (text.replace("stance 1", "stance 0"), "it has the format of an older fwnet"),
            (text.replace("stance 1", "stance 7"), "it has the format of a newer fwnet"),
            (text.replace("words", "sword"), "it is torn"),
            (format!("{text}more"), "it is torn"),
            (text.replace("stance 1", "place 1"), "it is torn"),
            (text.trim_end().to_owned(), "it is truncated: 16 bytes of 17"),
        ] {
            assert!(
                fault(bytes.as_bytes()).starts_with(said),
                "{bytes:?}: {}",
                fault(bytes.as_bytes())
            );
        }
        assert_eq!(fault(&seal(Kind::Place, &1)), "it holds the state of something else: place");
        assert_eq!(fault(&seal(Kind::Stance, &1)), "it is whole, but makes no sense");
    }

    proptest! {
        #[test]
        fn no_change_goes_unseen(at in 0usize..110, change in 1u8.., length in 0usize..110) {
            let whole = sealed();
            let mut changed = whole.clone();
            let at = at % changed.len();
            changed[at] ^= change;
            prop_assert!(open::<Vec<String>>(Kind::Stance, &changed).is_err());
            let cut = length % whole.len();
            prop_assert!(open::<Vec<String>>(Kind::Stance, &whole[..cut]).is_err());
        }
    }
}
