//! Process qualifiers with their names looked up on this host.

use image::SubjectTest;
use verdict::{Subject, limits::ANCESTORS_MAX};

use crate::{
    facts::Identities,
    syntax::{Process, Word},
};

/// Which processes a qualifier means on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// Those that pass the test; every one if it tests nothing.
    These(SubjectTest),
    /// None: something is named that this host does not have.
    Nobody,
}

/// Whether a qualifier leaves out no process.
pub(crate) fn is_any_process(process: Option<&Process>) -> bool {
    process.is_none_or(Process::is_any)
}

/// Looks up a qualifier. What is not known here goes to `unknown` as [`Qualifier::word`](crate::syntax::Qualifier::word)
/// and its name.
///
/// A list of which nothing is known matches no process: it must not become the empty list, which would match all.
pub(crate) fn who(
    process: Option<&Process>,
    identities: &dyn Identities,
    unknown: &mut Vec<(&'static str, String)>,
) -> Who {
    let Some(Process { user, group, exe, unit, container, netns, span: _ }) = process else {
        return Who::These(SubjectTest::default());
    };
    let number = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u32>().ok().filter(|_| digits)
    };
    let users = known("user", user, unknown, |name| number(name).or_else(|| identities.user(name)));
    let groups =
        known("group", group, unknown, |name| number(name).or_else(|| identities.group(name)));
    let long = |number: Option<u64>| number.filter(|&number| number != 0);
    let exes = known("exe", exe, unknown, |path| long(identities.exe(path)));
    // What processes still run of a file that was replaced belongs to its name, too, even where nothing stands there now;
    // and so do the sockets of a unit from before it was started again.
    let exes = and_former(exes, exe, |path| identities.former_exes(path));
    let units = known("unit", unit, unknown, |name| long(identities.unit(name)));
    let units = and_former(units, unit, |name| identities.former_units(name));
    let containers =
        known("container", container, unknown, |name| long(identities.container(name)));
    let containers = and_former(containers, container, |name| identities.former_containers(name));
    let namespaces = known("netns", netns, unknown, |name| long(identities.netns(name)));
    let found = || {
        Some(SubjectTest {
            users: users?,
            groups: groups?,
            exes: exes?,
            units: units?,
            containers: containers?,
            namespaces: namespaces?,
        })
    };
    found().map_or(Who::Nobody, Who::These)
}

/// With the numbers that the names had before.
fn and_former(
    numbers: Option<Vec<u64>>,
    names: &[Word],
    former: impl Fn(&str) -> Vec<u64>,
) -> Option<Vec<u64>> {
    let former = names.iter().flat_map(|name| former(&name.text)).filter(|&number| number != 0);
    let former: Vec<u64> = former.collect();
    if former.is_empty() {
        return numbers;
    }
    let mut all = numbers.unwrap_or_default();
    all.extend(former);
    all.sort_unstable();
    all.dedup();
    Some(all)
}

/// The subject in a unit and in a container, by symbols that are never both; 0 is none. `above` are those above the unit,
/// the deepest first. Which of the two is in the other is not known, and does not matter.
pub(crate) fn placed(unit: u64, above: &[u64], container: u64, subject: Subject) -> Subject {
    let line = [container, unit].into_iter().chain(above.iter().copied());
    let mut line = line.filter(|&cgroup| cgroup != 0);
    let cgroup = line.next().unwrap_or(0);
    let mut known = [0; ANCESTORS_MAX];
    for (to, from) in known.iter_mut().zip(line) {
        *to = from;
    }
    Subject { cgroup, above: known, ..subject }
}

/// The numbers of `names`, sorted; `None` if there are names and none is known.
fn known<T: Ord>(
    kind: &'static str,
    names: &[Word],
    unknown: &mut Vec<(&'static str, String)>,
    look_up: impl Fn(&str) -> Option<T>,
) -> Option<Vec<T>> {
    let mut numbers = Vec::new();
    for name in names {
        match look_up(&name.text) {
            Some(number) => numbers.push(number),
            None => unknown.push((kind, name.text.clone())),
        }
    }
    numbers.sort_unstable();
    numbers.dedup();
    (names.is_empty() || !numbers.is_empty()).then_some(numbers)
}
