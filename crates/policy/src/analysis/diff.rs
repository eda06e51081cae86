//! What changes from one set of policies to another: flows, not lines of text.

use super::{
    Question,
    answer::{AnalysisError, Diff},
    entries::{NOTHING, Teller, entries},
    flows::{Said, Sayings, allowed, group_flows, unplaced},
    groups::Groups,
    processes::ProcessSet,
    world::{Asked, Decided, World},
};
use crate::policy::Policy;

/// The flows that are possible by `after` and not by `before`, and the reverse. Each of the two was checked, by itself and
/// without errors, with the inventory of the question.
///
/// # Errors
/// [`AnalysisError::TooLarge`].
pub fn diff(
    before: &[Policy],
    after: &[Policy],
    question: &Question<'_>,
) -> Result<Diff, AnalysisError> {
    let mut world = World::new(&[before, after], question, Asked::ALL)?;
    let mut changes = Changes { sayings: Sayings::new() };
    let entries = entries(&mut world, &mut changes)?;
    let mut groups = Groups::new(&mut world)?;
    let flows = group_flows(&mut world, &mut groups, &changes.sayings, &entries)?;
    let (denied, allowed): (Vec<_>, Vec<_>) = flows.into_iter().partition(|(denied, _)| *denied);
    let plain = |flows: Vec<(bool, _)>| flows.into_iter().map(|(_, flow)| flow).collect();
    Ok(Diff {
        groups: groups.into_groups(),
        allowed: plain(allowed),
        denied: plain(denied),
        unplaced: unplaced(&world),
    })
}

struct Changes {
    sayings: Sayings,
}

impl Teller for Changes {
    fn what(&mut self, world: &World<'_>, decided: &[Decided], service: usize) -> usize {
        let &[before, after] = decided else { return NOTHING };
        self.sayings.number(world, decided, service, || {
            let before = allowed(world, 0, before, service);
            let after = allowed(world, 1, after, service);
            let (Some(before), Some(after)) = (before, after) else { return Vec::new() };
            let mut said = beyond(&before, &after, false);
            said.extend(beyond(&after, &before, true));
            said
        })
    }
}

/// The pairs of processes that are allowed in `new` and not in `old`, as boxes.
fn beyond(
    old: &(ProcessSet, ProcessSet),
    new: &(ProcessSet, ProcessSet),
    denied: bool,
) -> Vec<Said> {
    let ((old_from, old_to), (from, to)) = (old, new);
    let boxes = if old_from.is_empty() || old_to.is_empty() {
        vec![(from.clone(), to.clone())]
    } else {
        vec![(from.without(old_from), to.clone()), (from.and(old_from), to.without(old_to))]
    };
    let some = boxes.into_iter().filter(|(from, to)| !from.is_empty() && !to.is_empty());
    some.map(|(from, to)| Said { denied, from, to, deciders: None }).collect()
}
