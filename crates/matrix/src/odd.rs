//! What is tried besides the doors: sockets from before the firewall or from elsewhere, odd states of the kernel, and
//! attempts of another root process to get around it.

mod before;
mod chosen;
mod elsewhere;
mod evasion;
mod inward;

use std::io;

use anyhow::Result;
use doors::{DETOURS, Detour, errno_name};

use crate::line::Situation;
use crate::stage::Stage;

pub(crate) use before::Before;
pub(crate) use elsewhere::alone;
pub(crate) use evasion::{Tampering, tamper};

/// Goes a detour once.
type Way = fn(&mut Stage) -> Result<Played>;

/// A detour, and how it is gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Odd {
    /// What the list says of it.
    pub(crate) detour: &'static Detour,
    /// Whether it takes hooks out of their places, so that the firewall must be loaded anew.
    pub(crate) ruins: bool,
    /// The only situation that it is played in, where that is not every one.
    pub(crate) only: Option<Situation>,
    pub(crate) play: Way,
}

impl Odd {
    /// All of them, in the order of the list.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        DETOURS.iter().map(|detour| {
            let (_, play) = WAYS
                .iter()
                .find(|(name, _)| *name == detour.name)
                .expect("a test holds that each detour is gone");
            let tampers = TAMPERS.contains(&detour.name);
            let ruins = detour.name == TAMPERS[0];
            Self { detour, ruins, only: tampers.then_some(Situation::Denied), play: *play }
        })
    }
}

/// What another root process does to the programs: it shows where something is denied.
const TAMPERS: [&str; 4] = ["detached", "map-opened", "pin-removed", "pin-renamed"];

/// How each detour is gone.
const WAYS: &[(&str, Way)] = &[
    ("made-before", before::connect),
    ("connected-before", before::send),
    ("socket-of-another", elsewhere::connect),
    ("new-namespaces", elsewhere::connect_in_namespaces),
    ("options-full", evasion::connect_full),
    ("overruled-below", evasion::overrule_below),
    ("overruled", evasion::overrule),
    ("map-opened", evasion::open_map),
    ("pin-removed", evasion::remove_pin),
    ("pin-renamed", evasion::rename_pin),
    ("detached", evasion::detach),
    ("listening-before", before::accept),
    ("queued-before", before::accept_queued),
    ("listener-of-another", elsewhere::accept),
    ("itself", inward::itself),
    ("syn-cookies", inward::cookies),
    ("time-wait", before::come_again),
    ("stale-listener", inward::stale),
    ("overruled-in", chosen::accept),
    ("new-namespaces-in", elsewhere::connect_in_namespaces),
];

/// What came of it at both ends.
#[derive(Debug)]
pub(crate) struct Played {
    pub(crate) local: String,
    pub(crate) peer: String,
}

impl Played {
    fn new(local: impl Into<String>, peer: impl Into<String>) -> Self {
        Self { local: local.into(), peer: peer.into() }
    }
}

/// An errno and the step that gave it.
fn refused(error: &io::Error, step: &str) -> String {
    if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) {
        return format!("silence at {step}");
    }
    format!("{} at {step}", errno_name(error.raw_os_error().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_detour_is_gone_and_nothing_else_is() {
        let listed: Vec<_> = DETOURS.iter().map(|detour| detour.name).collect();
        let gone: Vec<_> = WAYS.iter().map(|(name, _)| *name).collect();
        assert_eq!(listed, gone);
        assert_eq!(Odd::all().count(), DETOURS.len());
    }
}
