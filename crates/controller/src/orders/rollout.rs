//! How a version that is tried ends: confirmed, or halted.

use jiff::Timestamp;

use super::{Batch, Refusal};
use crate::{
    digest::Digest,
    limits::STEPS_MAX,
    model::Model,
    records::{CurrentRecord, Key, RolloutRecord, RolloutState, Step},
};

/// The version that is tried becomes everybody's.
///
/// # Errors
/// If none is.
pub fn confirm(model: &Model, now: Timestamp) -> Result<Batch, Refusal> {
    let open = open(model).ok_or(Refusal::NotOpen)?;
    let tried = model.version(open.to());
    let roots = tried.map(|record| record.bundle.roots.as_slice()).unwrap_or_default();
    let next = stepped(model, roots, open.step.clone(), now);
    let done = RolloutRecord { state: RolloutState::Done, ..open.clone() };
    let batch = Batch::default().replacing(model, &Key::Rollout, &done).replacing(
        model,
        &Key::Current,
        &next,
    );
    Ok(batch)
}

/// The version that is tried is nobody's any more: everybody is to have the one before.
///
/// # Errors
/// If none is tried: a version that was confirmed is left by a newer one only.
pub fn halt(model: &Model, why: &str) -> Result<Batch, Refusal> {
    let open = open(model).ok_or(Refusal::NoWayBack)?;
    let halted = RolloutRecord { state: RolloutState::Halted(why.to_owned()), ..open.clone() };
    Ok(Batch::default().replacing(model, &Key::Rollout, &halted))
}

/// Everybody is to have the current version, whether anything that concerns them has changed or not: the timestamps of
/// the earlier ones are getting old. `None` if none is, or if there is no earlier one.
pub fn raise(model: &Model, now: Timestamp) -> Option<Batch> {
    let current = model.current()?;
    if current.steps.len() < 2 || !ageing(current.floor(), current.last(), now) {
        return None;
    }
    let next = CurrentRecord { steps: vec![current.last().clone()] };
    Some(Batch::default().replacing(model, &Key::Current, &next))
}

/// What is current once `step` is, whose version comes with these roots.
pub(super) fn stepped(
    model: &Model,
    roots: &[Digest],
    step: Step,
    now: Timestamp,
) -> CurrentRecord {
    let same_roots = |earlier: &Step| {
        model.version(earlier.version).is_some_and(|record| record.bundle.roots == roots)
    };
    let before = model.current();
    let mut steps: Vec<Step> = before.map(|current| current.steps.clone()).unwrap_or_default();
    // A root must reach everybody; so must what is left when the earlier timestamps are soon too old.
    if steps.iter().any(|earlier| !same_roots(earlier) || ageing(earlier, &step, now)) {
        steps.clear();
    }
    if steps.len() >= STEPS_MAX {
        steps.clear();
    }
    steps.push(step);
    CurrentRecord { steps }
}

/// Whether what is left of a timestamp is less than half of what is left of a later one.
fn ageing(earlier: &Step, later: &Step, now: Timestamp) -> bool {
    let left = |step: &Step| step.fresh_until.duration_since(now).as_secs();
    left(earlier) * 2 < left(later)
}

fn open(model: &Model) -> Option<&RolloutRecord> {
    model.rollout().filter(|rollout| rollout.is_open())
}
