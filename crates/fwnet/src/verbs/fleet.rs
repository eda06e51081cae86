//! `fwnet fleet`: what an operator does with a fleet, at any of its controllers.

mod backup;
mod hosts;
mod init;
mod operator;
mod reached;
mod status;
mod versions;

use std::process::ExitCode;

use clap::{Args, Subcommand};

pub(crate) use self::init::endpoint;
use self::reached::Reached;
use crate::answer;

/// Command line of `fwnet fleet`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    #[command(flatten)]
    reached: Reached,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a fleet: its authority, an operator's certificate, and keys for signing policy
    Init(init::Typed),
    /// Make what another operator proves who they are by
    Operator(operator::Typed),
    /// Refuse an operator's certificates that were made until now, or list whose are refused
    Revoke(operator::RevokeTyped),
    /// Let a host or a relay in: prints the one command to run there
    Enroll(hosts::EnrollTyped),
    /// List hosts, relays, and who has not come yet
    Hosts(hosts::HostsTyped),
    /// Give a host labels (KEY=VALUE), or take them away (KEY-)
    Label(hosts::LabelTyped),
    /// Say which addresses a host has, in place of those it had
    Address(hosts::AddressTyped),
    /// Forget a host or a relay: its certificate is worth nothing any more
    Remove(hosts::RemoveTyped),
    /// Shut a host off: only its failsafe set is allowed, and nobody else's policy knows its addresses
    Quarantine(hosts::QuarantineTyped),
    /// Release a host that was shut off
    Release(hosts::QuarantineTyped),
    /// Roll a bundle out, to all hosts or to some first
    Apply(versions::ApplyTyped),
    /// Have everybody take the version that is being tried
    Confirm(versions::PlainTyped),
    /// Have those who try a version go back to the one before
    Rollback(versions::PlainTyped),
    /// Say whether every host has what it should have, who has not, and why
    Status(status::Typed),
    /// List the versions there were
    History(versions::PlainTyped),
    /// Copy the store of a controller that keeps it in a file, while it runs
    Backup(backup::Typed),
    /// Say how two versions differ, line by line of their documents
    Diff(versions::DiffTyped),
}

/// Exit code 0 if it is done, 1 if the fleet refuses it or the answer is "not yet", 2 if the command line or a file is
/// wrong or no controller answers.
pub(crate) fn run(typed: &Typed) -> ExitCode {
    let reached = &typed.reached;
    answer::exit(match &typed.verb {
        Verb::Init(typed) => init::run(typed),
        Verb::Operator(typed) => operator::run(typed),
        Verb::Revoke(typed) => operator::revoke(reached, typed),
        Verb::Enroll(typed) => hosts::enroll(reached, typed),
        Verb::Hosts(typed) => hosts::list(reached, typed),
        Verb::Label(typed) => hosts::label(reached, typed),
        Verb::Address(typed) => hosts::address(reached, typed),
        Verb::Remove(typed) => hosts::remove(reached, typed),
        Verb::Quarantine(typed) => hosts::quarantine(reached, typed, true),
        Verb::Release(typed) => hosts::quarantine(reached, typed, false),
        Verb::Apply(typed) => versions::apply(reached, typed),
        Verb::Confirm(typed) => versions::confirm(reached, typed),
        Verb::Rollback(typed) => versions::rollback(reached, typed),
        Verb::Status(typed) => status::run(reached, typed),
        Verb::History(typed) => versions::history(reached, typed),
        Verb::Backup(typed) => backup::run(reached, typed),
        Verb::Diff(typed) => versions::diff(reached, typed),
    })
}
