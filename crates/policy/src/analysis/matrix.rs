//! Which groups may reach which, by given services.

use image::Service;

use super::{
    Question,
    answer::{AnalysisError, Matrix},
    entries::entries,
    flows::{Allowed, Sayings, group_flows, unplaced},
    groups::Groups,
    world::{Asked, World},
};
use crate::policy::Policy;

/// Who may reach whom by any of `services`, which [`services`](super::services()) reads from text.
///
/// # Errors
/// [`AnalysisError::TooLarge`].
pub fn matrix(
    policies: &[Policy],
    question: &Question<'_>,
    services: &[Service],
) -> Result<Matrix, AnalysisError> {
    let mut world = World::new(&[policies], question, Asked { services, ..Asked::ALL })?;
    let mut allowed = Allowed { sayings: Sayings::new() };
    let entries = entries(&mut world, &mut allowed)?;
    let mut groups = Groups::new(&mut world)?;
    let flows = group_flows(&mut world, &mut groups, &allowed.sayings, &entries)?;
    Ok(Matrix {
        groups: groups.into_groups(),
        allowed: flows.into_iter().map(|(_, flow)| flow).collect(),
        unplaced: unplaced(&world),
    })
}
