//! The verbs, one file each.

pub(crate) mod agent;
pub(crate) mod apply;
pub(crate) mod bundle;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod confirm;
pub(crate) mod connections;
pub(crate) mod controller;
pub(crate) mod convert;
pub(crate) mod deny;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod down;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod fleet;
pub(crate) mod fmt;
pub(crate) mod import;
pub(crate) mod key;
pub(crate) mod learn;
pub(crate) mod lint;
pub(crate) mod list;
pub(crate) mod load;
pub(crate) mod manual;
pub(crate) mod matrix;
pub(crate) mod panic;
pub(crate) mod relay;
pub(crate) mod replay;
pub(crate) mod rules;
pub(crate) mod run;
pub(crate) mod sign;
pub(crate) mod status;
pub(crate) mod test;
pub(crate) mod top;
pub(crate) mod up;
pub(crate) mod verify;
pub(crate) mod watch;
pub(crate) mod who_can_reach;

use std::process::ExitCode;

use crate::cli::Verb;

/// Does what was asked.
pub(crate) fn run(verb: Verb) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Run(typed) => run::run(typed),
        Verb::Up(typed) => up::run(&typed),
        Verb::Down(typed) => down::run(&typed),
        Verb::Apply(typed) => Ok(apply::run(&typed)),
        Verb::Confirm(typed) => confirm::confirm(&typed),
        Verb::Rollback(typed) => confirm::rollback(&typed),
        Verb::Panic(typed) => panic::panic(&typed),
        Verb::Resume(typed) => panic::resume(&typed),
        Verb::Status(typed) => status::run(&typed),
        Verb::Deny(typed) => deny::run(typed),
        Verb::List(typed) => list::run(typed),
        Verb::Agent(typed) => agent::run(typed),
        Verb::Connections(typed) => Ok(connections::run(&typed)),
        Verb::Top(typed) => top::run(&typed),
        Verb::Watch(typed) => watch::run(&typed),
        Verb::Events(typed) => events::run(&typed),
        Verb::Rules(typed) => rules::run(&typed),
        Verb::Learn(typed) => learn::run(&typed),
        Verb::Replay(typed) => Ok(replay::run(&typed)),
        Verb::Load(typed) => load::run(typed),
        Verb::Doctor(typed) => doctor::run(&typed),
        Verb::Check(typed) => Ok(check::run(&typed)),
        Verb::Explain(typed) => Ok(explain::run(&typed)),
        Verb::Test(typed) => Ok(test::run(&typed)),
        Verb::Diff(typed) => Ok(diff::run(&typed)),
        Verb::Matrix(typed) => Ok(matrix::run(&typed)),
        Verb::WhoCanReach(typed) => Ok(who_can_reach::run(&typed)),
        Verb::Lint(typed) => Ok(lint::run(&typed)),
        Verb::Fmt(typed) => Ok(fmt::run(&typed)),
        Verb::Convert(typed) => Ok(convert::run(&typed)),
        Verb::Import(typed) => Ok(import::run(&typed)),
        Verb::Key(typed) => Ok(key::run(&typed)),
        Verb::Sign(typed) => Ok(sign::run(&typed)),
        Verb::Bundle(typed) => Ok(bundle::run(&typed)),
        Verb::Verify(typed) => Ok(verify::run(&typed)),
        Verb::Controller(typed) => controller::run(&typed),
        Verb::Relay(typed) => relay::run(&typed),
        Verb::Fleet(typed) => Ok(fleet::run(&typed)),
        Verb::Completions(typed) => completions::run(&typed),
        Verb::Manual(typed) => manual::run(&typed),
    }
}
