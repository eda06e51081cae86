//! The command line, exactly as typed: no file is opened and nothing is looked up here.

use std::process::ExitCode;

use clap::{Command, CommandFactory, Parser, Subcommand, ValueEnum, error::ErrorKind};

use crate::verbs::{
    agent, apply, bundle, check, completions, confirm, connections, controller, convert, deny,
    diff, doctor, down, events, explain, fleet, fmt, import, key, learn, lint, list, load, manual,
    matrix, panic, relay, replay, rules, run, sign, status, test, top, up, verify, watch,
    who_can_reach,
};

/// A distributed firewall for Linux: connections are judged inside the kernel when they are made.
#[derive(Debug, Parser)]
#[command(name = "fwnet", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Enforce in the foreground until Ctrl-C, and print what is denied
    Run(run::Typed),
    /// Hand rules over to an agent, which keeps them in force, and return
    Up(Box<up::Typed>),
    /// Take everything off and end the agent
    Down(down::Typed),
    /// Check another policy, and have the agent enforce it, on trial if so wanted
    Apply(apply::Typed),
    /// Keep the policy that is on trial
    Confirm(confirm::Typed),
    /// End a trial, or go back to the policy before
    Rollback(confirm::Typed),
    /// Allow only the failsafe set, now, with or without an agent
    Panic(panic::Typed),
    /// Put the policy in force again
    Resume(panic::Typed),
    /// Say what the agent enforces, and where
    Status(status::Typed),
    /// Deny addresses and ports from now on, for a time or until they are removed
    Deny(deny::Typed),
    /// Deny whole lists of addresses, which may follow a file
    List(list::Typed),
    /// Be the agent (what `fwnet up` and the service start)
    Agent(agent::Typed),
    /// Put the last good policy in force without an agent, as at boot, and return
    Load(load::Typed),
    /// List every socket with its process, unit and container, and say which a policy would deny
    Connections(connections::Typed),
    /// Show processes, peers and rules by their rates, and the last denials, on the whole terminal
    Top(top::Typed),
    /// Show events as they come
    Watch(watch::Typed),
    /// Show events that the agent remembers
    Events(events::Typed),
    /// Say how often each rule decided, and which never do
    Rules(rules::Typed),
    /// Draft a policy from the flows that are seen
    Learn(learn::Typed),
    /// Say which recorded flows a policy would newly deny or allow
    Replay(replay::Typed),
    /// Say which hooks work here, which tier is active and what is not covered
    Doctor(doctor::Typed),
    /// Say what is wrong with policies, whether they lock anybody out, and how large they are on each host
    Check(check::Typed),
    /// Say what happens to a connection, at each end, by which rule, and what would change it
    Explain(explain::Typed),
    /// Run the tests that stand in policies
    Test(test::Typed),
    /// Say which flows one policy allows that another does not
    Diff(diff::Typed),
    /// Say which groups may reach which by a service
    Matrix(matrix::Typed),
    /// Say who can reach a port of a host, and which rules let them
    WhoCanReach(who_can_reach::Typed),
    /// Say which rules do nothing, or too much, with the flow that proves it
    Lint(lint::Typed),
    /// Write policies the one way they are written
    Fmt(fmt::Typed),
    /// Turn a policy from text to JSON or back
    Convert(convert::Typed),
    /// Turn rules of nftables or Kubernetes into a policy, and name what cannot be expressed
    Import(import::Typed),
    /// Make a key for signing policy, or show one
    Key(key::Typed),
    /// Sign roots and policies
    Sign(sign::Typed),
    /// Put signed policies together, as hosts receive them
    Bundle(bundle::Typed),
    /// Say what a host would say of a bundle, offline
    Verify(verify::Typed),
    /// Serve a fleet's agents and operators
    Controller(controller::Typed),
    /// Serve hosts like a controller, without a store, fed by a controller
    Relay(relay::Typed),
    /// Make a fleet of hosts, enrol them, roll policy out to them, and say how far it is
    Fleet(Box<fleet::Typed>),
    /// Print what a shell needs to complete the command line
    Completions(completions::Typed),
    /// Write the man pages into a directory
    #[command(hide = true)]
    Manual(manual::Typed),
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// The whole command line as clap knows it, for those who describe it.
pub(crate) fn command() -> Command {
    Cli::command()
}

/// Parses the command line, or prints what is wrong with it on one line and gives the exit code.
pub(crate) fn parse() -> Result<Verb, ExitCode> {
    Cli::try_parse().map(|cli| cli.verb).map_err(|error| {
        if matches!(
            error.kind(),
            ErrorKind::DisplayHelp
                | ErrorKind::DisplayVersion
                | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        ) {
            // A closed standard output leaves nobody to tell.
            let _printed = error.print();
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
        let text = error.render().to_string();
        let first = text.lines().next().unwrap_or_default();
        eprintln!("fwnet: {} (see 'fwnet --help')", first.strip_prefix("error: ").unwrap_or(first));
        ExitCode::from(2)
    })
}
