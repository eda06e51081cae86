//! `fwnet top`: what a host does, live: processes, peers and rules by their rates, and the last denials. Keys: `q` ends it,
//! `p` stops the clock.

mod model;
mod view;

use std::{
    io::{IsTerminal, stdout},
    ops::ControlFlow,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::bail;
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers},
};
use serde_json::Value;

use self::model::{Model, Sample};
use super::learn::recorded;
use crate::{
    api::{Client, Reached, routes::events::Query},
    report::{Format, host_name},
    seeing::{
        filter::{Filter, Wanted},
        line,
    },
    span::Ago,
};

/// Command line of `fwnet top`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    /// How often to look
    #[arg(long, value_name = "TIME", default_value = "2s")]
    every: Ago,
    #[command(flatten)]
    reached: Reached,
}

/// Looking more often costs more than it shows.
const EVERY_MIN: Duration = Duration::from_secs(1);
/// How long denials stay in sight.
const DENIALS: SignedDuration = SignedDuration::from_secs(3_600);
/// How long a key waits at most to be seen.
const KEYS: Duration = Duration::from_millis(200);

/// Until `q`.
pub(crate) fn run(typed: &Typed) -> anyhow::Result<ExitCode> {
    if !stdout().is_terminal() {
        bail!("top draws on a terminal; fwnet rules and fwnet events say it in lines");
    }
    let client = typed.reached.client()?;
    let mut model = Model::new(&host_name());
    // What cannot be asked is said before the screen is taken.
    model.update(sample(&client)?);
    let mut terminal = ratatui::try_init()?;
    let ended = attend(&mut terminal, &client, &mut model, typed.every.duration().max(EVERY_MIN));
    ratatui::try_restore()?;
    ended?;
    Ok(ExitCode::SUCCESS)
}

fn attend(
    terminal: &mut DefaultTerminal,
    client: &Client,
    model: &mut Model,
    every: Duration,
) -> anyhow::Result<()> {
    let mut looked = Instant::now();
    loop {
        terminal.draw(|frame| view::draw(frame, model))?;
        if event::poll(KEYS)? && pressed(&event::read()?, model).is_break() {
            return Ok(());
        }
        if looked.elapsed() >= every && !model.paused {
            looked = Instant::now();
            match sample(client) {
                Ok(sample) => model.update(sample),
                Err(error) => model.trouble = Some(format!("{error:#}")),
            }
        }
    }
}

/// Whether a key ends it.
fn pressed(event: &Event, model: &mut Model) -> ControlFlow<()> {
    let Some(key) = event.as_key_event().filter(|key| key.kind == KeyEventKind::Press) else {
        return ControlFlow::Continue(());
    };
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    let interrupted = control && key.code == KeyCode::Char('c');
    if interrupted || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
        return ControlFlow::Break(());
    }
    if matches!(key.code, KeyCode::Char('p' | ' ')) {
        model.paused = !model.paused;
    }
    ControlFlow::Continue(())
}

/// What the agent says now.
fn sample(client: &Client) -> anyhow::Result<Sample> {
    let time = Timestamp::now();
    let hour = SignedDuration::from_secs(time.as_second().rem_euclid(3_600));
    // The records of this hour: their counts are those of the hour, so that the difference of two looks is a rate.
    let records = recorded(client, time.checked_sub(hour)?)?;
    let rules = client.get("/v1/rules")?;
    let filter = Filter { verdict: Some(Wanted::Denied), ..Filter::default() };
    let query =
        Query { since: Some(time.checked_sub(DENIALS)?), ..Query::new(filter, Format::Ecs) };
    let mut denials = Vec::new();
    client.lines(&format!("/v1/events?{}", serde_urlencoded::to_string(query)?), |text| {
        if let Ok(object) = serde_json::from_str::<Value>(text) {
            denials.push(line::timed(&object));
        }
        ControlFlow::Continue(())
    })?;
    Ok(Sample { time, records, rules, denials })
}
