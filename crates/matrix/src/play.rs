//! Playing all rows in all situations, and holding what came of it to three things: the firewall changes nothing that is
//! allowed; what gets through a denial is exactly what the list of doors says is open; and the lines are those expected.

use std::process::ExitCode;

use anyhow::Result;
use doors::{Extent, release};
use verdict::Direction;

use crate::line::{Golden, Hooks, Line, Situation};
use crate::row::Row;
use crate::{Rows, say};

/// The situations in the order in which they are played; ways in and out share those that deny nobody.
pub(crate) const SITUATIONS: [(Situation, Option<Direction>); 6] = [
    (Situation::Bare, None),
    (Situation::Allowed, None),
    (Situation::Closed, Some(Direction::Out)),
    (Situation::Denied, Some(Direction::Out)),
    (Situation::Closed, Some(Direction::In)),
    (Situation::Denied, Some(Direction::In)),
];

/// Plays, prints, compares. The exit code is 1 where something is not as it should be.
pub(crate) fn run(typed: &Rows) -> Result<ExitCode> {
    let golden = typed.golden.as_deref().map(Golden::read).transpose()?;
    let mut stage = typed.place.stage()?;
    stage.leave_out(&typed.without)?;
    let mut rows: Vec<Row> = Row::all().filter(|row| row.name().starts_with(&typed.only)).collect();
    let mut lines: Vec<Line> = Vec::new();
    let mut hooks = Hooks::default();
    for (situation, direction) in SITUATIONS {
        if let Err(error) = stage.enforce(situation, direction.unwrap_or(Direction::Out)) {
            // Where the programs do not load there is nothing to play, and that is what is to be said.
            hooks.error = Some(format!("{error:#}").lines().next().unwrap_or_default().to_owned());
            break;
        }
        hooks.attached = stage.hooks().iter().map(|name| (*name).to_owned()).collect();
        rows.retain(|row| {
            // What the kernel does not offer is said once.
            !lines.iter().any(|line| line.row == row.name() && line.is_absent())
        });
        for row in rows.iter().filter(|row| row.is_of(situation, direction)) {
            let line = stage.play(row, situation)?;
            say(&serde_json::to_string(&line)?)?;
            lines.push(line);
        }
    }
    let attached: Vec<&str> = hooks.attached.iter().map(String::as_str).collect();
    let release = release();
    let open = Row::all().filter(|row| row.extent(&attached, release) != Extent::Judged);
    hooks.open = open.map(|row| row.name()).collect();
    say(&serde_json::to_string(&hooks)?)?;
    let mut wrong = changed(&lines);
    if typed.without.is_empty() && hooks.error.is_none() {
        wrong.extend(rows.iter().filter_map(|row| {
            let judged = row.extent(&attached, release);
            contradiction(row, judged, stage.is_root(), &lines)
        }));
    }
    if let Some(golden) = &golden {
        wrong.extend(golden.differences(&lines, &hooks, typed)?);
    }
    for line in &wrong {
        say(line)?;
    }
    Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What ends otherwise with the firewall, although everything is allowed.
fn changed(lines: &[Line]) -> Vec<String> {
    let of = |situation| lines.iter().filter(move |line| line.situation == situation);
    of(Situation::Allowed)
        .filter_map(|line| {
            let bare = of(Situation::Bare).find(|bare| bare.row == line.row)?;
            let same = (&bare.local, &bare.peer) == (&line.local, &line.peer);
            (!same).then(|| format!("changed: {} was {} | {}", line.row, bare.local, bare.peer))
        })
        .collect()
}

/// Whether a row gets through against what the list says, or does not although the list says that it is open.
fn contradiction(row: &Row, extent: Extent, root: bool, lines: &[Line]) -> Option<String> {
    if row.is_at_root() && !root {
        return None;
    }
    let of =
        |situation| lines.iter().find(|line| line.row == row.name() && line.situation == situation);
    // What does not get through by itself says nothing; but of tampering there is nothing to see without a firewall.
    let tampers = matches!(row, Row::Odd(odd) if odd.only.is_some());
    if !tampers && !of(Situation::Bare)?.is_through() {
        return None;
    }
    let through = of(Situation::Denied)?.is_through();
    if through != (extent != Extent::Judged) {
        let name = row.name();
        return Some(format!("denied: {name} is listed as {extent:?}, and got through: {through}"));
    }
    let through = of(Situation::Closed).is_some_and(Line::is_through);
    (through && extent != Extent::Open)
        .then(|| format!("closed: {} is listed as {extent:?}, and got through", row.name()))
}
