//! Sections: a set of many hosts is several pieces of about a thousand hosts each, so that a host that comes, goes or
//! changes makes another one of its section, and nothing else.
//!
//! Hosts stand in the order of the digests of their ids. All of a set whose digests begin with the same bits are one section
//! if they are no more than [`HOSTS_MAX`], and are cut in two by the next bit if they are more. So the sections follow from
//! the hosts of a set alone, whatever it was before: controllers agree on them, and one host more or less cuts one section
//! or joins two at most.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::RangeInclusive,
};

use super::folk::HostNumber;
use crate::{digest::Digest, spot::Spot};

/// Hosts of one section.
pub(super) const HOSTS_MAX: usize = 1_500;
/// Earlier pieces that are remembered of one section.
const FORMER_MAX: usize = 8;

/// The spots that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stretch {
    first: Spot,
    /// How many bits are the same.
    bits: u8,
}

impl Stretch {
    /// All spots.
    pub(super) const ALL: Self = Self { first: 0, bits: 0 };

    /// The spots in it.
    pub(super) fn spots(self) -> RangeInclusive<Spot> {
        self.first..=self.first | Spot::MAX.checked_shr(self.bits.into()).unwrap_or(0)
    }

    /// The same, cut by the next bit; `None` if there is none.
    fn halves(self) -> Option<[Self; 2]> {
        let bits = self.bits + 1;
        let next = 1u32.checked_shl(Spot::BITS.checked_sub(bits.into())?)?;
        Some([Self { first: self.first, bits }, Self { first: self.first | next, bits }])
    }

    /// What it is a half of.
    fn wider(self) -> Option<Self> {
        let bits = self.bits.checked_sub(1)?;
        let keep = !Spot::MAX.checked_shr(bits.into()).unwrap_or(0);
        Some(Self { first: self.first & keep, bits })
    }

    fn covers(self, other: Self) -> bool {
        self.bits <= other.bits && self.spots().contains(&other.first)
    }

    /// Of how many hosts it may have one, if there are so many in all.
    pub(super) fn of(self, all: usize) -> usize {
        all.checked_shr(self.bits.into()).unwrap_or(0)
    }
}

/// The bits.
impl fmt::Display for Stretch {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = format!("{:032b}", self.first);
        to.write_str(bits.get(..self.bits.into()).unwrap_or_default())
    }
}

/// A host and where it stands.
pub(super) type Place = (Spot, HostNumber);

/// A section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) digest: Digest,
    pub(super) bytes: u64,
    /// How many hosts it has; with none it is no piece.
    pub(super) hosts: usize,
    /// What it was before, with the turn of the set that ended it; the newest last.
    pub(super) former: Vec<(Digest, u64)>,
}

/// The sections of one set, in their order. Together they cover all spots, once there are any.
#[derive(Clone, Debug, Default)]
pub(super) struct Sections(Vec<(Stretch, Section)>);

/// What is new in sections.
#[derive(Debug, Default)]
pub(super) struct Renewed {
    /// Pieces that were not there before.
    pub(super) put: Vec<(Stretch, Digest, Vec<u8>)>,
    /// Pieces that are not there any more.
    pub(super) gone: Vec<Digest>,
}

impl Sections {
    /// Those that have hosts.
    pub(super) fn all(&self) -> impl Iterator<Item = (Stretch, &Section)> {
        self.0.iter().filter(|(_, it)| it.hosts != 0).map(|(stretch, section)| (*stretch, section))
    }

    pub(super) fn find(&self, stretch: Stretch) -> Option<&Section> {
        let at = self.0.binary_search_by_key(&stretch, |(it, _)| *it).ok()?;
        self.0.get(at).map(|(_, section)| section)
    }

    /// How many hosts there are.
    pub(super) fn hosts(&self) -> usize {
        self.0.iter().map(|(_, section)| section.hosts).sum()
    }

    /// The stretch of the section of a spot: everything, where there are none.
    fn holding(&self, spot: Spot) -> Stretch {
        let after = self.0.partition_point(|(it, _)| it.first <= spot);
        let at = after.checked_sub(1).and_then(|at| self.0.get(at));
        at.map_or(Stretch::ALL, |(stretch, _)| *stretch)
    }

    /// Makes the sections again that hosts at these spots changed; `None` for all. `hosts` says who is in stretches, in their
    /// order, each in the order of spots; `encode` makes a piece of hosts. The turn is a number that grows each time.
    pub(super) fn renew(
        &mut self,
        spots: Option<&[Spot]>,
        turn: u64,
        hosts: impl Fn(&[Stretch]) -> Vec<Vec<Place>>,
        encode: impl Fn(&[Place]) -> Vec<u8>,
    ) -> Renewed {
        let mut stretches: Vec<Stretch> = match spots {
            Some(spots) => spots.iter().map(|spot| self.holding(*spot)).collect(),
            None => vec![Stretch::ALL],
        };
        stretches.sort_unstable();
        stretches.dedup();
        let found = hosts(&stretches);
        let mut found: BTreeMap<Stretch, Vec<Place>> = stretches.into_iter().zip(found).collect();
        for wide in self.joined(&found) {
            found.retain(|it, _| !wide.covers(*it));
            found.insert(wide, hosts(&[wide]).pop().unwrap_or_default());
        }
        let stale = |it: &Stretch| {
            let before = found.range(..=it).next_back();
            before.is_some_and(|(wide, _)| wide.covers(*it))
        };
        let (old, mut now): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.0).into_iter().partition(|(it, _)| stale(it));
        let mut old: BTreeMap<Stretch, Section> = old.into_iter().collect();
        let mut renewed = Renewed::default();
        for (stretch, places) in &found {
            let mut pieces = Vec::new();
            cut(*stretch, places, &mut pieces);
            for (stretch, places) in pieces {
                let bytes = encode(places);
                let before = old.remove(&stretch);
                now.push((
                    stretch,
                    section(before, stretch, places.len(), bytes, turn, &mut renewed),
                ));
            }
        }
        let gone = old.into_values().filter(|it| it.hosts != 0).map(|it| it.digest);
        renewed.gone.extend(gone);
        // What is a section by itself and was one with nobody else is the same piece.
        let put: BTreeSet<Digest> = renewed.put.iter().map(|(_, digest, _)| *digest).collect();
        renewed.gone.retain(|digest| !put.contains(digest));
        now.sort_unstable_by_key(|(stretch, _)| *stretch);
        self.0 = now;
        renewed
    }

    /// Stretches that are cut though they need not be, now that these have other hosts.
    fn joined(&self, found: &BTreeMap<Stretch, Vec<Place>>) -> Vec<Stretch> {
        let count = |wide: Stretch| -> usize {
            let from = self.0.partition_point(|(it, _)| it.first < wide.first);
            let within = self.0.iter().skip(from).take_while(|(it, _)| wide.covers(*it));
            within.map(|(it, old)| found.get(it).map_or(old.hosts, Vec::len)).sum()
        };
        let mut joined = Vec::new();
        for &stretch in found.keys() {
            let mut wide = stretch;
            while let Some(wider) = wide.wider().filter(|it| count(*it) <= HOSTS_MAX) {
                wide = wider;
            }
            if wide != stretch {
                joined.push(wide);
            }
        }
        joined.dedup();
        joined
    }
}

/// Cuts a stretch as often as it must be.
fn cut<'a>(stretch: Stretch, places: &'a [Place], pieces: &mut Vec<(Stretch, &'a [Place])>) {
    match stretch.halves().filter(|_| HOSTS_MAX < places.len()) {
        None => pieces.push((stretch, places)),
        Some([first, second]) => {
            let at = places.partition_point(|(spot, _)| *spot < second.first);
            let (left, right) = places.split_at(at);
            cut(first, left, pieces);
            cut(second, right, pieces);
        }
    }
}

/// A section as it is now, after what it was before.
fn section(
    before: Option<Section>,
    stretch: Stretch,
    hosts: usize,
    bytes: Vec<u8>,
    turn: u64,
    renewed: &mut Renewed,
) -> Section {
    let digest = Digest::of(&bytes);
    let mut former = Vec::new();
    if let Some(before) = before {
        if before.digest == digest {
            return Section { hosts, ..before };
        }
        former = before.former;
        if before.hosts != 0 {
            renewed.gone.push(before.digest);
            former.push((before.digest, turn));
        }
        if FORMER_MAX < former.len() {
            former.remove(0);
        }
    }
    let length = bytes.len() as u64;
    if hosts != 0 {
        renewed.put.push((stretch, digest, bytes));
    }
    Section { digest, bytes: length, hosts, former }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stretches_are_halves_of_each_other() {
        let [left, right] = Stretch::ALL.halves().unwrap();
        assert_eq!((left.spots(), right.spots()), (0..=u32::MAX / 2, u32::MAX / 2 + 1..=u32::MAX));
        assert_eq!((left.to_string(), right.to_string()), ("0".to_owned(), "1".to_owned()));
        assert_eq!(right.wider(), Some(Stretch::ALL));
        assert_eq!(Stretch::ALL.wider(), None);
        let mut one = Stretch::ALL;
        while let Some([_, right]) = one.halves() {
            assert!(one.covers(right) && !right.covers(one) && right.wider() == Some(one));
            one = right;
        }
        assert_eq!((one.spots(), one.to_string().len()), (u32::MAX..=u32::MAX, 32));
    }

    /// Hosts, each with what is said of it.
    type Hosts = BTreeMap<Place, u32>;

    fn renew(sections: &mut Sections, of: &Hosts, spots: Option<&[Spot]>, turn: u64) -> Renewed {
        let hosts = |stretches: &[Stretch]| -> Vec<Vec<Place>> {
            let within = |stretch: &Stretch| {
                let spots = stretch.spots();
                let range = (*spots.start(), 0)..=(*spots.end(), u32::MAX);
                of.range(range).map(|(place, _)| *place).collect()
            };
            stretches.iter().map(within).collect()
        };
        let encode = |places: &[Place]| -> Vec<u8> {
            places.iter().flat_map(|it| [it.0, it.1, of[it]]).flat_map(u32::to_le_bytes).collect()
        };
        sections.renew(spots, turn, hosts, encode)
    }

    fn told(sections: &Sections) -> Vec<(Stretch, Digest, u64, usize)> {
        sections.all().map(|(it, of)| (it, of.digest, of.bytes, of.hosts)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn sections_follow_from_the_hosts_and_not_from_what_was_before(
            shift in 0..24u32,
            turns in prop::collection::vec((0..12_000u32, 0..4_000u32, any::<bool>()), 1..6),
        ) {
            let (mut hosts, mut kept) = (Hosts::new(), Sections::default());
            renew(&mut kept, &hosts, None, 0);
            for (turn, (from, count, come)) in (1u32..).zip(turns) {
                let spot = |number: u32| number.wrapping_mul(0x9e37_79b9) >> shift;
                let changed: Vec<u32> = (from..from + count).collect();
                for &number in &changed {
                    if come {
                        hosts.insert((spot(number), number), turn);
                    } else {
                        hosts.remove(&(spot(number), number));
                    }
                }
                let before: Vec<Digest> = told(&kept).into_iter().map(|it| it.1).collect();
                let spots: Vec<Spot> = changed.into_iter().map(spot).collect();
                let renewed = renew(&mut kept, &hosts, Some(&spots), turn.into());
                let mut anew = Sections::default();
                renew(&mut anew, &hosts, None, 0);
                prop_assert_eq!(told(&kept), told(&anew));
                prop_assert_eq!(kept.hosts(), hosts.len());
                let after: Vec<Digest> = told(&kept).into_iter().map(|it| it.1).collect();
                let put: Vec<Digest> = renewed.put.iter().map(|it| it.1).collect();
                prop_assert!(after.iter().all(|it| before.contains(it) || put.contains(it)));
                prop_assert!(before.iter().all(|it| after.contains(it) != renewed.gone.contains(it)));
            }
        }
    }

    #[test]
    fn a_host_more_makes_one_other_section_of_many() {
        let spot = |number: u32| number.wrapping_mul(0x9e37_79b9);
        let mut hosts: Hosts = (0..40_000).map(|number| ((spot(number), number), 0)).collect();
        let mut sections = Sections::default();
        let first = renew(&mut sections, &hosts, None, 0);
        assert!((27..60).contains(&first.put.len()), "{}", first.put.len());
        assert!(sections.all().all(|(_, it)| it.hosts <= HOSTS_MAX));
        hosts.insert((spot(50_000), 50_000), 0);
        let second = renew(&mut sections, &hosts, Some(&[spot(50_000)]), 1);
        assert_eq!((second.put.len(), second.gone.len()), (1, 1));
        let section = sections.find(second.put[0].0).unwrap();
        assert_eq!(section.former, [(second.gone[0], 1)]);
    }
}
