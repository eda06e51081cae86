//! Sets of hosts and what leads from one to the next, as bytes: pieces are named by the digest of theirs, so whoever puts a
//! set together must write it exactly as it was.

use std::collections::BTreeMap;

use prost::{DecodeError, Message};

use super::{Difference, Member, Members, Piece};

/// What makes the encoded [`Members`] `new` of `old`: an encoded [`Difference`].
///
/// # Errors
/// If one of them is no `Members`.
pub fn difference(old: &[u8], new: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let (old, new) = (Contents::read(old)?, Contents::read(new)?);
    let (put, gone) = parted(old.hosts, new.hosts);
    let (sections, sections_gone) = parted(old.sections, new.sections);
    Ok(Difference { put, gone, sections, sections_gone, ..Difference::default() }.encode_to_vec())
}

/// The encoded [`Members`] that a [`Difference`] makes of `old`: sorted, whatever came.
///
/// # Errors
/// If `old` is no `Members`.
pub(super) fn patched(old: &[u8], difference: Difference) -> Result<Vec<u8>, DecodeError> {
    let Contents { mut hosts, sections: mut listed } = Contents::read(old)?;
    let Difference { put, gone, sections, sections_gone, .. } = difference;
    hosts.retain(|id, _| !gone.contains(id));
    hosts.extend(put.into_iter().map(|host| (host.id.clone(), host)));
    listed.retain(|name, _| !sections_gone.contains(name));
    listed.extend(sections.into_iter().map(|piece| (piece.name.clone(), piece)));
    let hosts = hosts.into_values().collect();
    Ok(Members { hosts, sections: listed.into_values().collect() }.encode_to_vec())
}

/// What there is in `Members`, by ids and names.
struct Contents {
    hosts: BTreeMap<String, Member>,
    sections: BTreeMap<String, Piece>,
}

impl Contents {
    fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let Members { hosts, sections } = Members::decode(bytes)?;
        Ok(Self {
            hosts: hosts.into_iter().map(|host| (host.id.clone(), host)).collect(),
            sections: sections.into_iter().map(|piece| (piece.name.clone(), piece)).collect(),
        })
    }
}

/// What is new or other in `new`, and the keys that are not there any more.
fn parted<T: PartialEq>(
    old: BTreeMap<String, T>,
    new: BTreeMap<String, T>,
) -> (Vec<T>, Vec<String>) {
    let gone = old.keys().filter(|key| !new.contains_key(*key)).cloned().collect();
    let put = new.into_iter().filter(|(key, value)| old.get(key) != Some(value));
    (put.map(|(_, value)| value).collect(), gone)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sync;

    fn members(hosts: &BTreeMap<u8, u8>, sections: &BTreeMap<u8, u8>) -> Vec<u8> {
        let host = |(id, address): (&u8, &u8)| Member {
            id: format!("h{id}"),
            addresses: vec![vec![10, 0, 0, *address]],
            ..Member::default()
        };
        let section = |(name, digest): (&u8, &u8)| Piece {
            name: format!("s{name}"),
            digest: vec![*digest; 32],
            ..Piece::default()
        };
        let mut members = Members {
            hosts: hosts.iter().map(host).collect(),
            sections: sections.iter().map(section).collect(),
        };
        members.hosts.sort_by(|a, b| a.id.cmp(&b.id));
        members.sections.sort_by(|a, b| a.name.cmp(&b.name));
        members.encode_to_vec()
    }

    #[test]
    fn only_what_differs_is_told() {
        let old = members(&[(1, 1), (2, 2), (3, 3)].into(), &[(1, 1), (2, 2)].into());
        let new = members(&[(1, 1), (3, 9), (4, 4)].into(), &[(2, 7)].into());
        let told = Difference::decode(&*difference(&old, &new).unwrap()).unwrap();
        let ids: Vec<&str> = told.put.iter().map(|host| host.id.as_str()).collect();
        assert_eq!((ids, told.gone), (vec!["h3", "h4"], vec!["h2".to_owned()]));
        let names: Vec<&str> = told.sections.iter().map(|it| it.name.as_str()).collect();
        assert_eq!((names, told.sections_gone), (vec!["s2"], vec!["s1".to_owned()]));
        assert!(difference(b"\x0a", b"").is_err());
        assert!(sync::patched(b"", b"\x0a", 9).is_none());
    }

    proptest! {
        #[test]
        fn a_difference_leads_from_one_to_the_next(
            [old_hosts, new_hosts, old_sections, new_sections] in
                prop::array::uniform4(prop::collection::btree_map(0..20u8, 0..3u8, 0..20)),
        ) {
            let old = members(&old_hosts, &old_sections);
            let new = members(&new_hosts, &new_sections);
            let told = difference(&old, &new).unwrap();
            prop_assert_eq!(sync::patched(&old, &told, new.len() as u64), Some(new));
        }
    }
}
