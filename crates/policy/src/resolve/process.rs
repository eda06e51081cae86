//! Process qualifiers with their names looked up on this host.

use image::SubjectTest;

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
    process.is_none_or(|Process { user, group, exe, unit, span: _ }| {
        [user, group, exe, unit].into_iter().all(Vec::is_empty)
    })
}

/// Looks up a qualifier. What is not known here goes to `unknown` as "user", "group", "exe" or "unit" and its name.
///
/// A list of which nothing is known matches no process: it must not become the empty list, which would match all.
pub(crate) fn who(
    process: Option<&Process>,
    identities: &dyn Identities,
    unknown: &mut Vec<(&'static str, String)>,
) -> Who {
    let Some(Process { user, group, exe, unit, span: _ }) = process else {
        return Who::These(SubjectTest::default());
    };
    let number = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u32>().ok().filter(|_| digits)
    };
    let users = known("user", user, unknown, |name| number(name).or_else(|| identities.user(name)));
    let groups =
        known("group", group, unknown, |name| number(name).or_else(|| identities.group(name)));
    let exes = known("exe", exe, unknown, |path| identities.exe(path).filter(|&exe| exe != 0));
    // What processes still run of a file that was replaced belongs to its name, too, even where nothing stands there now.
    let former: Vec<u64> = exe
        .iter()
        .flat_map(|path| identities.former_exes(&path.text))
        .filter(|&exe| exe != 0)
        .collect();
    let exes = match exes {
        Some(mut known) => {
            known.extend(former);
            known.sort_unstable();
            known.dedup();
            Some(known)
        }
        None => (!former.is_empty()).then_some(former),
    };
    let units = known("unit", unit, unknown, |name| identities.unit(name).filter(|&id| id != 0));
    match (users, groups, exes, units) {
        (Some(users), Some(groups), Some(exes), Some(units)) => {
            Who::These(SubjectTest { users, groups, exes, units, ..SubjectTest::default() })
        }
        _ => Who::Nobody,
    }
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
