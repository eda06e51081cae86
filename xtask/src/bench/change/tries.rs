//! Filling BPF_MAP_TYPE_LPM_TRIE, which is how firewalls that use it put a whole list in force.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::figures::Change;
use crate::bench::tries::Pins;
use crate::programs::Programs;
use crate::step;

/// Lets the rival put `count` prefixes of the file `list` into a new trie, with a system call each.
pub(super) fn filled(
    rivals: &Programs,
    directory: &Path,
    list: &Path,
    count: usize,
) -> Result<Change> {
    let pins = Pins::mount(directory)?;
    let trie = pins.trie::<u32>("filled", count)?;
    let filled =
        step::output(Command::new(rivals.path("trie")?).arg(pins.path("filled")).arg(list))?;
    drop(trie);
    Ok(Change {
        what: "BPF_MAP_TYPE_LPM_TRIE, 1,000,000 updates",
        visible_ms: None,
        answered_ms: filled.parse().with_context(|| format!("{filled:?} is no time"))?,
    })
}
