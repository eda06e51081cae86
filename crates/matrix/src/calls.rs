//! Calls of the socket API, right and wrong, with nothing attached, with everything allowed, and with ports of one protocol
//! denied: each must end as the kernel itself ends it, or be refused where the rules say so and be told of once.
//!
//! What is asked is what the kernel's own tests ask of its Landlock (tools/testing/selftests/landlock/net_test.c, Linux 6.7 to
//! 6.12, and of linux-next in 2026, which has datagrams), in words of our rules: a port that may not be bound there is closed
//! to every peer here, and one that may not be connected to is denied outbound. What that file asks of Landlock's own system
//! calls, and of several rulesets on top of each other, has no counterpart; tiers of a policy are tested with the language.

mod before;
mod ends;
mod kind;
mod ports;
mod sending;
mod without_family;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use doors::{errno_name, release};
use image::{Image, Rule, RuleSet, Service, compile};
use kernel::{Door, Event};
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};
use verdict::{Direction, Protocol, Verdict};

use crate::stage::Stage;
use crate::{Place, say};
use before::Before;
use kind::Kind;

/// The first Linux whose cgroup programs can choose an errno (`bpf_set_retval`).
const CHOOSES_ERRNO: (u32, u32) = (5, 18);
/// How often what is to be told is looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// What rules that deny say of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Zone {
    /// Nothing.
    Free,
    /// Nobody may come in.
    NoIn,
    /// Nothing may go out to it.
    NoOut,
    /// Neither.
    Neither,
}

impl Zone {
    const ALL: [Self; 4] = [Self::Free, Self::NoIn, Self::NoOut, Self::Neither];

    /// Its ports. With its two bytes changed round, none of a zone that is denied is one of a zone that is.
    const fn ports(self) -> RangeInclusive<u16> {
        match self {
            Self::Free => 20_000..=20_099,
            Self::NoIn => 20_100..=20_199,
            Self::NoOut => 20_200..=20_299,
            Self::Neither => 20_400..=20_499,
        }
    }

    /// Where a port is; the last one of all is of those that are denied both ways.
    fn of(port: u16) -> Self {
        let at = Self::ALL.into_iter().find(|zone| zone.ports().contains(&port));
        at.unwrap_or(if port == u16::MAX { Self::Neither } else { Self::Free })
    }
}

/// What is in force while a case is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Force {
    /// Nothing is attached.
    Nothing,
    /// Rules that deny nobody.
    Allowing,
    /// Rules that deny the zones to this protocol.
    Denying(Protocol),
}

const FORCES: [Force; 4] =
    [Force::Nothing, Force::Allowing, Force::Denying(Protocol::TCP), Force::Denying(Protocol::UDP)];

/// One question, which is asked of each kind of socket.
struct Case {
    name: &'static str,
    ask: fn(&mut Play<'_>) -> Result<()>,
}

const CASES: &[Case] = &[
    Case { name: "ends", ask: ends::ask },
    Case { name: "families of others", ask: ends::ask_of_other_families },
    Case { name: "claims without a family", ask: without_family::ask_of_claims },
    Case { name: "ends of connections", ask: without_family::ask_of_disconnects },
    Case { name: "datagrams without a family", ask: without_family::ask_of_datagrams },
    Case { name: "made before", ask: before::ask },
    Case { name: "streams", ask: sending::ask_of_streams },
    Case { name: "datagrams", ask: sending::ask_of_datagrams },
    Case { name: "port 0", ask: ports::ask_of_zero },
    Case { name: "the last port", ask: ports::ask_of_the_last },
    Case { name: "ports of privileged programs", ask: ports::ask_of_privileged },
    Case { name: "the bytes of a port", ask: ports::ask_of_bytes },
];

/// Asks everything and prints what is not as it should be. The exit code is 1 where something is not.
pub(crate) fn run(place: &Place) -> Result<ExitCode> {
    ports::set_aside()?;
    let mut stage = place.stage()?;
    stage.bare()?;
    let mut before = Before::default();
    let (mut steps, mut faults) = (0, 0);
    let mut kinds: Vec<Kind> = Vec::new();
    for kind in kind::KINDS {
        if kind.is_offered() {
            kinds.push(*kind);
        } else {
            say(&format!("calls: this kernel has no {}", kind.name))?;
        }
    }
    for force in FORCES {
        match force {
            Force::Nothing => before = Before::make(&kinds)?,
            Force::Allowing => stage.put(&image(None), &image(Some(Protocol::TCP)))?,
            Force::Denying(denied) => {
                stage.put(&image(Some(denied)), &image(Some(Protocol::TCP)))?;
            }
        }
        for kind in &kinds {
            for case in CASES {
                let mut play = Play {
                    stage: &mut stage,
                    before: &mut before,
                    kind: *kind,
                    force,
                    steps: 0,
                    faults: Vec::new(),
                };
                let what = format!("{} of {}, {force:?}", case.name, kind.name);
                play.told(false);
                (case.ask)(&mut play).with_context(|| what.clone())?;
                steps += play.steps;
                faults += play.faults.len();
                for fault in &play.faults {
                    say(&format!("wrong: {what}: {fault}"))?;
                }
            }
        }
    }
    say(&format!("calls: {steps} ended as they should, or not: {faults}"))?;
    Ok(if faults == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The rules that deny the zones to one protocol, or nothing.
fn image(denied: Option<Protocol>) -> Image {
    let mut rules = RuleSet::default();
    for direction in [Direction::Out, Direction::In] {
        let zones = match direction {
            Direction::Out => [Zone::NoOut, Zone::Neither],
            Direction::In => [Zone::NoIn, Zone::Neither],
        };
        if let Some(protocol) = denied {
            let ports = zones.map(Zone::ports).into_iter().chain([u16::MAX..=u16::MAX]);
            let service = |ports: RangeInclusive<u16>| Service {
                protocol: Some(protocol),
                ports: ports.into(),
            };
            let services = ports.map(service).collect();
            let deny = Rule { flags: 0, ..Rule::default(direction, Verdict::Deny, 0) };
            rules.rules.push(Rule { id: format!("zones {direction:?}"), services, ..deny });
        }
        rules.rules.push(Rule::default(direction, Verdict::Allow, 1));
    }
    compile(&rules).expect("four rules fit, and each direction has its default")
}

/// A case that is being played with one kind of socket.
struct Play<'a> {
    stage: &'a mut Stage,
    before: &'a mut Before,
    kind: Kind,
    force: Force,
    steps: usize,
    faults: Vec<String>,
}

impl Play<'_> {
    /// A new socket.
    fn socket(&self) -> Result<OwnedFd> {
        self.kind.socket(self.stage.patience()).context("make a socket")
    }

    /// A socket for each of `ports`, which claims it.
    fn bound(&mut self, ports: [u16; 2]) -> Result<[OwnedFd; 2]> {
        let sockets = [self.socket()?, self.socket()?];
        for (socket, port) in sockets.iter().zip(ports) {
            self.claim("bind", port, kind::bind(socket, &self.kind.address(port)));
        }
        Ok(sockets)
    }

    /// The port of a zone that is this kind's.
    fn port(&self, zone: Zone) -> u16 {
        zone.ports().start() + self.kind.number()
    }

    /// A call that no rule is about: it ends like this. What it returned, if it went well.
    fn call<T>(&mut self, what: &str, outcome: io::Result<T>, expected: &str) -> Option<T> {
        self.judge(what, outcome, &[expected], None)
    }

    /// A claim on `port`, which is refused where nobody may come in.
    fn claim<T>(&mut self, what: &str, port: u16, outcome: io::Result<T>) -> Option<T> {
        match self.denies(Direction::In, port) {
            true => self.judge(what, outcome, &[denial()], Some((Direction::In, port))),
            false => self.call(what, outcome, "ok"),
        }
    }

    /// connect() to `port`, which is refused here where nothing may go there, and there where nobody may come in; a datagram
    /// socket asks nobody there.
    fn reach<T>(
        &mut self,
        what: &str,
        port: u16,
        outcome: io::Result<T>,
        otherwise: &str,
    ) -> Option<T> {
        if self.denies(Direction::Out, port) {
            self.judge(what, outcome, &[denial()], Some((Direction::Out, port)))
        } else if self.kind.is_stream && self.denies(Direction::In, port) {
            self.judge(what, outcome, &["ECONNREFUSED"], Some((Direction::In, port)))
        } else {
            self.call(what, outcome, otherwise)
        }
    }

    /// A datagram that names `port`: refused here where nothing may go there, and lost without a word where nobody may come
    /// in.
    fn send<T>(&mut self, what: &str, port: u16, outcome: io::Result<T>) -> Option<T> {
        if self.denies(Direction::Out, port) {
            self.judge(what, outcome, &[denial()], Some((Direction::Out, port)))
        } else if self.denies(Direction::In, port) {
            self.judge(what, outcome, &["ok"], Some((Direction::In, port)))
        } else {
            self.call(what, outcome, "ok")
        }
    }

    /// connect() once more to `port` on a stream that is connected, which is what the kernel says of it; but where a security
    /// hook judges, that comes first.
    fn reach_again(&mut self, what: &str, port: u16, outcome: io::Result<()>) {
        if self.denies(Direction::Out, port) && self.stage.hooks().contains(&"lsm/socket_connect") {
            self.judge(what, outcome, &[denial()], Some((Direction::Out, port)));
        } else {
            self.call(what, outcome, "EISCONN");
        }
    }

    /// Whether rules deny `port` to sockets of this kind.
    fn denies(&self, direction: Direction, port: u16) -> bool {
        let zones = match direction {
            Direction::Out => [Zone::NoOut, Zone::Neither],
            Direction::In => [Zone::NoIn, Zone::Neither],
        };
        matches!(self.force, Force::Denying(protocol) if self.kind.carries == Some(protocol))
            && zones.contains(&Zone::of(port))
    }

    /// Holds a call to one of its expected ends, and to what was told of it: one denial that names the port, or none.
    fn judge<T>(
        &mut self,
        what: &str,
        outcome: io::Result<T>,
        expected: &[&str],
        tells: Option<(Direction, u16)>,
    ) -> Option<T> {
        self.steps += 1;
        let end = match &outcome {
            Ok(_) => "ok".to_owned(),
            Err(error) => errno_name(error.raw_os_error().unwrap_or_default()),
        };
        if !expected.contains(&end.as_str()) {
            self.faults.push(format!("{what}: {end}, not {}", expected.join(" or ")));
        }
        let told = self.told(tells.is_some());
        let named: Vec<_> = told.iter().map(|it| (it.direction, named_port(it))).collect();
        if named != Vec::from_iter(tells) {
            self.faults.push(format!("{what}: told of {named:?}, not of {tells:?}"));
        }
        outcome.ok()
    }

    /// What was told since it was last asked; where something is expected, it is waited for: a datagram may arrive after the
    /// call that sent it, on a thread of the kernel's (ksoftirqd). (The tripwire tells of every listener; what that is worth is
    /// decided by who hears it.)
    fn told(&mut self, expected: bool) -> Vec<Event> {
        let deadline = Instant::now() + self.stage.patience();
        loop {
            let mut told = self.stage.events();
            told.retain(|event| event.door != Door::Tripwire);
            if !told.is_empty() || !expected || Instant::now() > deadline {
                return told;
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }
}

/// The port that a denial is about: the peer's where something goes out, else this host's.
fn named_port(event: &Event) -> u16 {
    match event.direction {
        Direction::Out => event.remote.port,
        Direction::In => event.local.port,
    }
}

/// What a refused call ends with.
fn denial() -> &'static str {
    if release() >= CHOOSES_ERRNO { "EACCES" } else { "EPERM" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_denied_port_is_denied_the_other_way_round() {
        for zone in Zone::ALL {
            for port in zone.ports() {
                assert_eq!(Zone::of(port), zone);
                assert!(zone == Zone::Free || Zone::of(port.swap_bytes()) == Zone::Free, "{port}");
            }
        }
        assert_eq!(Zone::of(u16::MAX), Zone::Neither);
    }
}
