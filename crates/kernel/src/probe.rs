//! What this machine offers: each hook's program loaded once and let go.

use crate::{
    attach::{AttachError, load},
    features::Features,
    hook::Hook,
    object::{Numbers, ObjectError, open},
};

/// What loading found out.
#[derive(Debug)]
pub struct Probe {
    /// Each hook, and why its program does not load if it does not.
    pub hooks: Vec<(&'static Hook, Result<(), AttachError>)>,
    /// The optional features.
    pub features: Features,
}

/// Loads every program and attaches none.
///
/// # Errors
/// Where not even the maps can be made.
pub fn probe() -> Result<Probe, ObjectError> {
    let features = Features::probe()?;
    let mut object = open(&Numbers::probing(features.0), None)?;
    let hooks = Hook::ALL.iter().map(|hook| (hook, load(&mut object, hook).map(drop))).collect();
    Ok(Probe { hooks, features })
}
