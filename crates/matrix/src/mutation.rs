//! What would notice if a hook were missing: each is left out in turn, and the rows are played until one ends otherwise.

use std::process::ExitCode;

use anyhow::Result;

use crate::line::{Golden, Line, Situation};
use crate::play::SITUATIONS;
use crate::row::Row;
use crate::stage::Stage;
use crate::{Mutations, say};

/// Prints a line for each hook. The exit code is 1 where one is missed by no row.
pub(crate) fn run(typed: &Mutations) -> Result<ExitCode> {
    let golden = Golden::read(&typed.golden)?;
    let mut stage = typed.place.stage()?;
    stage.enforce(Situation::Bare, verdict::Direction::Out)?;
    let mut missed = 0;
    let every = golden.hooks().attached.iter().filter(|hook| hook.starts_with(&typed.hook));
    for hook in every {
        stage.leave_out(&[hook.to_owned()])?;
        match noticed(&mut stage, &golden, hook)? {
            Some((line, expected)) => {
                let Line { row, situation, local, peer, told, .. } = line;
                let now = format!("{local} | {peer} | {}", told.join(", "));
                let before = format!(
                    "{} | {} | {}",
                    expected.local,
                    expected.peer,
                    expected.told.join(", ")
                );
                say(&format!("{hook}: noticed by {row}, {situation}: {now} (with it: {before})"))?;
            }
            None => {
                missed += 1;
                say(&format!("{hook}: NOTICED BY NO ROW"))?;
            }
        }
    }
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The first row that ends otherwise than expected without `hook`: those are played first that nothing else closes, then
/// those of which such a hook told.
fn noticed(stage: &mut Stage, golden: &Golden, hook: &str) -> Result<Option<(Line, Line)>> {
    let mut turns = Vec::new();
    for (situation, direction) in SITUATIONS {
        let Some(direction) = direction else { continue };
        for row in Row::all().filter(|row| row.is_of(situation, Some(direction))) {
            let Some(expected) = golden.expected(&row.name(), situation) else { continue };
            let told =
                |told: &String| told.split(',').next().is_some_and(|told| hook.contains(told));
            let tells = expected.told.iter().any(told);
            turns.push((!row.is_closed_by(hook), !tells, situation, direction, row));
        }
    }
    turns.sort_by_key(|(alone, tells, ..)| (*alone, *tells));
    let mut enforced = None;
    for (_, _, situation, direction, row) in turns {
        if enforced != Some((situation, direction)) || !stage.is_enforcing() {
            stage.enforce(situation, direction)?;
            enforced = Some((situation, direction));
        }
        let Some(expected) = golden.expected(&row.name(), situation) else { continue };
        let line = stage.play(&row, situation)?;
        if !line.ends_like(expected) {
            return Ok(Some((line, expected.clone())));
        }
    }
    Ok(None)
}
