//! The agent: one process that keeps a host's policy in force. Its main thread is the core, which alone touches the
//! firewall and the state; a second thread serves the API and asks the core.
//!
//! The end of the agent changes nothing that is enforced.

mod aging;
mod bell;
pub(crate) mod centre;
mod clock;
mod core;
mod disk;
mod draft;
mod force;
mod guard;
pub(crate) mod kept;
pub(crate) mod lists;
mod lock;
mod making;
pub(crate) mod paths;
mod reload;
pub(crate) mod revoking;
mod shown;
mod steps;
pub(crate) mod trying;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use ::agent::store::{Stance, inspect};
use anyhow::Context;
use kernel::{WAKE_EVERY, require_privilege};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sd_notify::NotifyState;

use self::{bell::Asked, centre::Centre, kept::Kept, lists::Feeds, paths::Paths};
pub(crate) use self::{
    bell::{Asking, Gone},
    clock::{counted, wall_of},
    core::{Core, Ending},
    draft::{Unsound, sound},
    lists::feed,
    shown::Shown,
    steps::Undone,
};
use crate::{
    api::{self, Api, Gate},
    enforce::Signals,
    seeing::{Seeing, outputs::Outputs},
};

/// How often the core looks around when nothing happens: for programs that somebody detached, new network namespaces,
/// ends, and clocks that were set. Twice a second, so that tampering is mended within a second.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Runs until SIGTERM, SIGINT or the verb `down`.
///
/// # Errors
/// Where the agent cannot begin: another one holds the state directory, there is nothing to enforce, or the kernel
/// refuses.
pub(crate) fn run(paths: Paths) -> anyhow::Result<()> {
    require_privilege("fwnet agent")?;
    let kept = Kept::open(&paths.state)?;
    if let Some(taken) = kept.store.state().stance.as_ref().filter(|it| it.stance == Stance::Open) {
        eprintln!("fwnet: nothing is enforced since {}, when fwnet down was called", taken.by.at);
        return Ok(());
    }
    let signals = Signals::catch()?;
    let settled = kept.store.state().place.as_ref();
    let gate = Gate::of(settled)?;
    let seeing =
        Seeing::begin(&paths.state, &settled.map(|it| it.outputs.clone()).unwrap_or_default())?;
    let listener = api::listen(&paths.socket, gate)?;
    let (asking, asked) = bell::pair()?;
    let mut core = Core::begin(paths, kept, seeing, Some(asking.clone()))?;
    // Whoever waits for the agent waits for what its first policy ends, too.
    core.finish_sweeps();
    core.feeds = Feeds::new(asking.clone());
    let shown = Shown::default();
    let centre = Centre::begin(Api::new(asking.clone(), shown.clone()), &core.paths.state)?;
    let serving = api::serve(listener, gate, asking, shown.clone())?;
    core.announce();
    tell(&[NotifyState::Ready]);
    let ended = attend(&mut core, &signals, &asked, &shown);
    tell(&[NotifyState::Stopping]);
    drop(asked);
    centre.end();
    let socket = core.paths.socket.clone();
    core.finish();
    serving.end();
    // Nobody answers there any more.
    if let Err(error) = std::fs::remove_file(&socket) {
        eprintln!("fwnet: {} stays: {error}", socket.display());
    }
    ended
}

/// Whether there is anything to enforce.
pub(crate) enum Wanted {
    /// There is.
    Something,
    /// There is not, for this reason.
    Nothing(String),
}

/// What the state in `directory` says, which is read and not changed.
///
/// # Errors
/// If it cannot be listed.
pub(crate) fn wanted(directory: &Path) -> anyhow::Result<Wanted> {
    let nothing = |why: &str| Ok(Wanted::Nothing(why.to_owned()));
    if !directory.exists() {
        return nothing("nothing was ever put up here");
    }
    let context = || directory.display().to_string();
    let mut disk = disk::Directory::open(directory).with_context(context)?;
    let (state, _health) = inspect::<kept::Settled>(&mut disk).with_context(context)?;
    match &state.stance {
        Some(taken) if taken.stance == Stance::Open => {
            nothing(&format!("fwnet down was called at {}", taken.by.at))
        }
        _ if state.place.is_none() => nothing("nothing was ever put up here"),
        _ => Ok(Wanted::Something),
    }
}

/// Puts in force what the disk says, where nothing is yet, and leaves it there.
///
/// # Errors
/// As [`run`].
pub(crate) fn load(paths: Paths) -> anyhow::Result<()> {
    require_privilege("fwnet load")?;
    let kept = Kept::open(&paths.state)?;
    // Nobody is told anything yet: the agent will read what the kernel keeps.
    let seeing = Seeing::begin(&paths.state, &Outputs::default())?;
    let mut core = Core::begin(paths, kept, seeing, None)?;
    core.announce();
    core.finish_sweeps();
    Ok(())
}

/// The loop of the core.
fn attend(core: &mut Core, signals: &Signals, asked: &Asked, shown: &Shown) -> anyhow::Result<()> {
    let watchdog = sd_notify::watchdog_enabled();
    let every = watchdog.map_or(LOOK_AGAIN, |limit| LOOK_AGAIN.min(limit / 2));
    // What ended while no agent ran is over before anybody asks.
    core.look_around();
    let mut written = Instant::now();
    shown.write(core);
    loop {
        let came = core.drain();
        wait(core, signals, asked, every, came)?;
        if signals.end_came() {
            return Ok(());
        }
        if signals.reload_came() {
            reload(core)?;
        }
        for request in asked.requests() {
            // Whatever was done before is known by those who ask while this one takes its time.
            shown.write(core);
            written = Instant::now();
            request(core);
        }
        if core.ending.is_some() {
            return Ok(());
        }
        // Events wake this loop far more often.
        if written.elapsed() >= LOOK_AGAIN / 2 {
            shown.write(core);
            written = Instant::now();
        }
        core.look_around();
        if watchdog.is_some() {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

/// Until something happens, or for `every`, or where events `came`, for the moment in which those that follow
/// are told together.
fn wait(
    core: &Core,
    signals: &Signals,
    asked: &Asked,
    every: Duration,
    came: bool,
) -> anyhow::Result<()> {
    let timeout = Timespec::try_from(if came { WAKE_EVERY } else { every })?;
    let events = core.force.firewall.event_sources();
    let [end, reload] = signals.sources();
    let mut sources: Vec<_> = [end, reload, asked.source()]
        .into_iter()
        .chain(events.into_iter().filter(|_| !came))
        .chain(core.own.sources())
        .map(|source| PollFd::from_borrowed_fd(source, PollFlags::IN))
        .collect();
    match poll(&mut sources, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(errno).context("wait for events"),
    }
}

fn reload(core: &mut Core) -> anyhow::Result<()> {
    tell(&[NotifyState::Reloading, NotifyState::monotonic_usec_now()?]);
    core.seeing.reopen();
    match core.read_again() {
        Ok(said) => eprintln!("fwnet: {said}"),
        Err(error) => eprintln!("fwnet: nothing is changed: {error:#}"),
    }
    tell(&[NotifyState::Ready]);
    Ok(())
}

/// Tells systemd, where it started us; nobody else listens.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        eprintln!("fwnet: the service manager does not listen: {error}");
    }
}
