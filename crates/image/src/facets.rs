//! Near classes: what this end of the flow is, as far as rules ask: its user, group, executable, unit, container, network
//! namespace and local address.

use std::collections::{BTreeMap, BTreeSet};

use verdict::{
    layout::{BUCKET_SLOTS, bucket, facet},
    limits::NEAR_CLASSES_MAX,
};

use crate::{
    Budget, SetIndex, SubjectTest,
    classes::{Classes, Labels},
};

/// What a rule asks of this end. The rules' distinct ones are numbered by [`crate::compile`].
pub(crate) type NearTest = (Option<SetIndex>, SubjectTest);

/// Rows of the table that joins the facets: at most this many combinations are spelled out, 2 bytes each.
const COMBINATIONS_MAX: u32 = 65_536;
/// Seeds tried before the buckets are doubled.
const SEEDS: u32 = 64;
/// Buckets of one facet, at most.
const BUCKETS_LOG2_MAX: u32 = 20;

/// The near classes and the tables that lead to them.
#[derive(Debug)]
pub(crate) struct NearTables {
    /// For each near class, which near tests hold.
    pub(crate) classes: Classes<Labels>,
    /// `None` where no rule asks anything of this end.
    pub(crate) tables: Option<Facets>,
}

/// See [`verdict::layout::facet`].
#[derive(Debug)]
pub(crate) struct Facets {
    pub(crate) hashed: [Option<Hashed>; facet::HASHED as usize],
    /// One local class for each remote class, and how many there are.
    pub(crate) locals: Option<(Vec<u32>, u32)>,
    pub(crate) joined: Vec<u32>,
}

/// The hash table of one facet.
#[derive(Debug)]
pub(crate) struct Hashed {
    pub(crate) log2: u32,
    pub(crate) seed: u32,
    pub(crate) classes: u32,
    pub(crate) lines: Vec<[u32; 16]>,
}

/// Which named cgroups are above a named one: [`crate::RuleSet::cgroups`].
type Above = BTreeMap<u64, BTreeSet<u64>>;

/// `tests` are the distinct near tests; `members` says for each remote class which sets hold it.
pub(crate) fn near_tables(
    tests: &[NearTest],
    members: &[Labels],
    above: &Above,
) -> Result<NearTables, Budget> {
    let alone = Above::new();
    let mut facets = vec![
        values(tests, |test| test.users.iter().map(|&user| u64::from(user)).collect(), &alone)?,
        values(tests, |test| test.groups.iter().map(|&group| u64::from(group)).collect(), &alone)?,
        values(tests, |test| test.exes.clone(), &alone)?,
        values(tests, |test| test.units.clone(), above)?,
        values(tests, |test| test.containers.clone(), above)?,
        values(tests, |test| test.namespaces.clone(), &alone)?,
    ];
    let (local, by_remote) = local_classes(tests, members)?;
    let locals = u32::try_from(local.classes.len()).expect("at most one for each remote class");
    let local_table = (locals > 1).then_some((by_remote, locals));
    facets.insert(0, local);
    let combinations =
        facets.iter().fold(1, |all: usize, facet| all.saturating_mul(facet.classes.len()));
    Budget::spend(
        "combinations of users, groups, executables, units, containers, network namespaces and local addresses",
        combinations,
        COMBINATIONS_MAX,
        None,
    )?;

    let mut classes: Option<Classes<Labels>> = None;
    let mut joined = Vec::with_capacity(combinations);
    let mut at = vec![0usize; facets.len()];
    for _ in 0..combinations {
        let holding = holding(&facets, &at);
        let numbered = classes.get_or_insert_with(|| {
            Classes::starting_with(Labels::clone(&holding), "near classes", NEAR_CLASSES_MAX)
        });
        joined.push(numbered.number(holding)?);
        advance(&mut at, &facets);
    }
    let classes = classes.expect("the product of non-empty facets is at least one");
    if combinations == 1 && facets.iter().all(|facet| facet.keys.is_empty()) {
        return Ok(NearTables { classes, tables: None });
    }
    let mut hashed: [Option<Hashed>; facet::HASHED as usize] = Default::default();
    for (slot, facet) in hashed.iter_mut().zip(facets.iter().skip(1)) {
        *slot = facet.hash()?;
    }
    Ok(NearTables { classes, tables: Some(Facets { hashed, locals: local_table, joined }) })
}

/// One facet: its classes and the class of each value that any rule names.
struct Facet {
    keys: BTreeMap<u64, u32>,
    /// Which tests ask for the value; class 0 is of values that none asks for.
    classes: Classes<Labels>,
    /// Tests that take any value.
    indifferent: Vec<u32>,
}

/// What holds `above` a value holds for the value too.
fn values(
    tests: &[NearTest],
    named: impl Fn(&SubjectTest) -> Vec<u64>,
    above: &Above,
) -> Result<Facet, Budget> {
    let mut takes: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    let mut indifferent: Vec<u32> = Vec::new();
    for (number, (_, test)) in (0u32..).zip(tests) {
        let mut own = named(test);
        if own.is_empty() {
            indifferent.push(number);
        }
        own.sort_unstable();
        own.dedup();
        for value in own {
            takes.entry(value).or_default().push(number);
        }
    }
    let mut classes = Classes::starting_with(Labels::default(), "values", COMBINATIONS_MAX);
    let mut keys = BTreeMap::new();
    for (&value, own) in &takes {
        let inherited = above.get(&value).into_iter().flatten();
        let inherited = inherited.filter_map(|above| takes.get(above)).flatten();
        let mut holding: Vec<u32> = own.iter().chain(inherited).copied().collect();
        holding.sort_unstable();
        holding.dedup();
        keys.insert(value, classes.number(holding.into())?);
    }
    Ok(Facet { keys, classes, indifferent })
}

/// The facet of the local address, which is known by its remote class, and the local class of each of those.
fn local_classes(tests: &[NearTest], members: &[Labels]) -> Result<(Facet, Vec<u32>), Budget> {
    let mut takes: BTreeMap<SetIndex, Vec<u32>> = BTreeMap::new();
    let mut indifferent = Vec::new();
    for (number, (local, _)) in (0u32..).zip(tests) {
        local.map_or(&mut indifferent, |set| takes.entry(set).or_default()).push(number);
    }
    let mut classes = Classes::starting_with(Labels::default(), "local classes", COMBINATIONS_MAX);
    let mut by_remote = Vec::with_capacity(members.len());
    for sets in members {
        let own = sets.iter().filter_map(|set| takes.get(set)).flatten();
        let mut holding: Vec<u32> = own.copied().collect();
        holding.sort_unstable();
        by_remote.push(classes.number(holding.into())?);
    }
    Ok((Facet { keys: BTreeMap::new(), classes, indifferent }, by_remote))
}

/// Which tests hold when each facet has the class that `at` names.
fn holding(facets: &[Facet], at: &[usize]) -> Labels {
    let takes: Vec<[&[u32]; 2]> = facets
        .iter()
        .zip(at)
        .filter_map(|(facet, &class)| {
            Some([facet.classes.signatures().get(class)?, &*facet.indifferent])
        })
        .collect();
    let fewest = takes.iter().min_by_key(|[own, any]| own.len() + any.len());
    let mut holding: Vec<u32> = fewest
        .into_iter()
        .flatten()
        .flat_map(|list| list.iter().copied())
        .filter(|test| {
            takes.iter().all(|lists| lists.iter().any(|list| list.binary_search(test).is_ok()))
        })
        .collect();
    holding.sort_unstable();
    holding.into()
}

/// The next combination, the last facet fastest.
fn advance(at: &mut [usize], facets: &[Facet]) {
    for (class, facet) in at.iter_mut().zip(facets).rev() {
        *class += 1;
        if *class < facet.classes.len() {
            return;
        }
        *class = 0;
    }
}

impl Facet {
    /// The hash table, or `None` where no rule names a value.
    fn hash(&self) -> Result<Option<Hashed>, Budget> {
        if self.keys.is_empty() {
            return Ok(None);
        }
        // Class 0 is what a key that is not found has, so keys of class 0 need no slot.
        let keys: Vec<(u64, u32)> =
            self.keys.iter().map(|(&key, &class)| (key, class)).filter(|&(_, c)| c != 0).collect();
        let classes = u32::try_from(self.classes.len()).expect("bounded by the combinations");
        let mut log2 =
            keys.len().div_ceil(BUCKET_SLOTS as usize / 2).next_power_of_two().trailing_zeros();
        while log2 <= BUCKETS_LOG2_MAX {
            for seed in 0..SEEDS {
                if let Some(lines) = fill(&keys, seed, log2) {
                    return Ok(Some(Hashed { log2, seed, classes, lines }));
                }
            }
            log2 += 1;
        }
        Err(Budget {
            what: "buckets of one facet",
            needed: 1 << log2,
            limit: 1 << BUCKETS_LOG2_MAX,
            rule: None,
        })
    }
}

/// The buckets, or `None` where one overflows.
fn fill(keys: &[(u64, u32)], seed: u32, log2: u32) -> Option<Vec<[u32; 16]>> {
    let mut lines = vec![[0u32; 16]; 1 << log2];
    let mut used = vec![0u32; 1 << log2];
    for &(key, class) in keys {
        let at = bucket(key, seed, log2) as usize;
        let (line, slot) = (lines.get_mut(at)?, used.get_mut(at)?);
        if *slot == BUCKET_SLOTS {
            return None;
        }
        let mut put =
            |index: u32, bits: u32| line.get_mut(index as usize).map(|word| *word |= bits);
        #[expect(clippy::cast_possible_truncation, reason = "the two halves of the key")]
        let (low, high) = (key as u32, (key >> 32) as u32);
        put(2 * *slot, low)?;
        put(2 * *slot + 1, high)?;
        put(10 + (*slot >> 1), class << ((*slot & 1) << 4))?;
        *slot += 1;
    }
    Some(lines)
}
