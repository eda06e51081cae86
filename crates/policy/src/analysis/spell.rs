//! Addresses and pieces of them, as policies write them.

use std::net::{Ipv4Addr, Ipv6Addr};

use verdict::Address;

use super::{
    bits::Bits,
    places::{PieceNumber, Pieces},
};

/// An address in its own family's form.
pub(super) fn address_text(address: Address) -> String {
    match address.as_v4() {
        Some(v4) => Ipv4Addr::from_bits(v4).to_string(),
        None => Ipv6Addr::from_bits(address.bits()).to_string(),
    }
}

/// Prefixes and ranges that together hold the pieces of `set` and of the others at most those that are `free` to be held,
/// because no address of theirs is meant anyway.
pub(super) fn pieces_text(
    pieces: &Pieces,
    set: &Bits,
    free: impl Fn(PieceNumber) -> bool,
) -> Vec<String> {
    let mut text = Vec::new();
    for v4 in [true, false] {
        let family = (0..pieces.len()).filter(|&piece| pieces.is_v4(piece) == v4);
        // Each run with its free ends, and without.
        let mut runs: Vec<Run> = Vec::new();
        let mut open: Option<Run> = None;
        for piece in family {
            let Some(ends) = pieces.ends(piece) else { continue };
            let (meant, free) = (set.contains(piece), free(piece));
            if !meant && !free {
                runs.extend(open.take());
                continue;
            }
            let run = open.get_or_insert(Run { whole: ends, meant: None });
            run.whole.1 = ends.1;
            if meant {
                run.meant = Some((run.meant.map_or(ends.0, |meant| meant.0), ends.1));
            }
        }
        runs.extend(open);
        text.extend(runs.iter().filter_map(Run::text));
    }
    text
}

/// Consecutive pieces of one family.
#[derive(Clone, Copy, Debug)]
struct Run {
    whole: (u128, u128),
    /// From the first to the last that is meant.
    meant: Option<(u128, u128)>,
}

impl Run {
    fn text(&self) -> Option<String> {
        let meant = self.meant?;
        let prefix = prefix_text(meant).or_else(|| prefix_text(self.whole));
        Some(prefix.unwrap_or_else(|| {
            let end = |bits| address_text(Address::from_bits(bits));
            format!("{}-{}", end(meant.0), end(meant.1))
        }))
    }
}

/// The range as an address or a prefix, if it is one.
fn prefix_text((first, last): (u128, u128)) -> Option<String> {
    let span = last - first;
    let is_prefix = span & span.wrapping_add(1) == 0 && first & span == 0;
    let bits = 128 - span.count_ones();
    let address = Address::from_bits(first);
    match (address.is_v4() && bits >= 96, is_prefix) {
        (_, false) => None,
        _ if bits == 128 => Some(address_text(address)),
        (true, true) => Some(format!("{}/{}", address_text(address), bits - 96)),
        (false, true) => Some(format!("{}/{bits}", address_text(address))),
    }
}

/// A list, cut short after a few.
pub(super) fn list_text(all: &[String]) -> String {
    const SHOWN: usize = 4;
    match all.split_at_checked(SHOWN) {
        Some((shown, rest)) if rest.len() > 1 => {
            format!("{} and {} more", shown.join(", "), rest.len())
        }
        Some(_) | None => all.join(", "),
    }
}
