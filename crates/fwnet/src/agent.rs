//! The agent: one process that keeps a host's policy in force. Its main thread is the core, which alone touches the
//! firewall and the state; a second thread serves the API and asks the core.
//!
//! The end of the agent changes nothing that is enforced.

mod bell;
mod core;
mod disk;
mod force;
mod lock;
pub(crate) mod paths;
pub(crate) mod state;

use std::{fs, time::Duration};

use anyhow::Context;
use jiff::Timestamp;
use kernel::require_privilege;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sd_notify::NotifyState;

use self::{bell::Asked, force::Force, lock::Lock, paths::Paths, state::State};
pub(crate) use self::{
    bell::{Asking, Gone},
    core::{Core, Ending},
};
use crate::{api, enforce::Signals, seeing::Seeing};

/// How often the core looks around when nothing happens: for new network namespaces, clocks that were set, and ends.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Runs until SIGTERM, SIGINT or the verb `down`.
///
/// # Errors
/// Where the agent cannot begin: another one holds the state directory, there is nothing to enforce, or the kernel
/// refuses.
pub(crate) fn run(paths: Paths) -> anyhow::Result<()> {
    require_privilege("fwnet agent")?;
    fs::create_dir_all(&paths.state).with_context(|| paths.state.display().to_string())?;
    let _lock = Lock::take(&paths.state)?;
    let signals = Signals::catch()?;
    let state = State::open(&paths.state);
    let place = state.place()?;
    let edition = state.current()?;
    let listener = api::listen(&paths.socket, place.socket_group.as_deref())?;
    let force = Force::begin(place.place.clone(), &edition, Timestamp::now())?;
    let seeing = Seeing::begin(&paths.state, &place.outputs)?;
    let (asking, asked) = bell::pair()?;
    api::serve(listener, asking)?;
    let mut core = Core::new(paths, force, edition, seeing);
    core.announce();
    tell(NotifyState::Ready);
    let ended = attend(&mut core, &signals, &asked);
    tell(NotifyState::Stopping);
    core.finish();
    ended
}

/// The loop of the core.
fn attend(core: &mut Core, signals: &Signals, asked: &Asked) -> anyhow::Result<()> {
    let watchdog = sd_notify::watchdog_enabled();
    let every = watchdog.map_or(LOOK_AGAIN, |limit| LOOK_AGAIN.min(limit / 2));
    loop {
        core.drain();
        wait(core, signals, asked, every)?;
        if signals.end_came() {
            return Ok(());
        }
        for request in asked.requests() {
            request(core);
        }
        if core.ending.is_some() {
            return Ok(());
        }
        core.look_around();
        if watchdog.is_some() {
            tell(NotifyState::Watchdog);
        }
    }
}

/// Until something happens, or for a moment.
fn wait(core: &Core, signals: &Signals, asked: &Asked, moment: Duration) -> anyhow::Result<()> {
    let timeout =
        Timespec { tv_sec: moment.as_secs().cast_signed(), tv_nsec: moment.subsec_nanos().into() };
    let [tamper, events] = core.force.firewall.event_sources();
    let [end, reload] = signals.sources();
    let mut sources = [tamper, events, end, reload, asked.source()]
        .map(|source| PollFd::from_borrowed_fd(source, PollFlags::IN));
    match poll(&mut sources, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(errno).context("wait for events"),
    }
}

/// Tells systemd, where it started us; nobody else listens.
fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        eprintln!("fwnet: the service manager does not listen: {error}");
    }
}
