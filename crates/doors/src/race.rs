//! The race for a rewritten address (acceptance.md B13): one thread connects while another rewrites the address between an
//! allowed and a denied one, in the memory that the call points to. A filter that reads the address a second time after
//! its check lets connections to the denied one through; getpeername() then tells.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kernel::raw::address::KernelAddress;
use kernel::raw::race::RacingAddress;
use rustix::net::SocketFlags;
use rustix::net::sockopt::{Timeout, set_socket_linger};

use crate::door::Protocol;
use crate::error::{DoorError, Stage, at};
use crate::socket::{self, canonical};
use crate::storm::key;

/// When one attempt gives up.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The call that is raced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// connect().
    Connect,
    /// sendto() with `MSG_FASTOPEN`.
    FastOpen,
}

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Race {
    /// An address that may be reached.
    pub allowed: SocketAddr,
    /// An address that must not. Of the same family; best it differs in one 32-bit word, or the kernel may see mixtures.
    pub denied: SocketAddr,
    /// Connects to make.
    pub count: u64,
    /// By which call.
    pub call: Call,
}

/// What came of it: the four add up to `attempts`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finish {
    /// Connects made.
    pub attempts: u64,
    /// Connections whose peer is the allowed address.
    pub reached_allowed: u64,
    /// Connections whose peer is the denied address: with enforcement, escapes.
    pub reached_denied: u64,
    /// Connections to a mixture of the two.
    pub reached_other: u64,
    /// Connects that failed, by the name of the errno, or `timeout`.
    pub failed: BTreeMap<String, u64>,
    /// How often the address was rewritten meanwhile.
    pub rewrites: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// Runs the race.
///
/// # Errors
/// `Unsupported` if the two addresses are of different families.
///
/// # Panics
/// If a thread cannot be started.
pub fn run(race: &Race) -> Result<Finish, DoorError> {
    if race.allowed.is_ipv4() != race.denied.is_ipv4() {
        return Err(DoorError::unsupported("both addresses of a race must be of one family"));
    }
    let started = Instant::now();
    let memory = RacingAddress::new(race.allowed);
    let over = AtomicBool::new(false);
    let begun = Barrier::new(2);
    let mut finish = thread::scope(|scope| {
        let rewriter = scope.spawn(|| rewrite(&memory, race, &begun, &over));
        begun.wait();
        let mut finish = Finish::default();
        for _ in 0..race.count {
            finish.count(race, one(&memory, race));
        }
        over.store(true, Ordering::Relaxed);
        finish.rewrites = rewriter.join().expect("the rewriting thread does not panic");
        finish
    });
    finish.elapsed = started.elapsed();
    Ok(finish)
}

impl Finish {
    fn count(&mut self, race: &Race, reached: Result<SocketAddr, DoorError>) {
        self.attempts += 1;
        match reached.map(canonical) {
            Ok(peer) if peer == canonical(race.allowed) => self.reached_allowed += 1,
            Ok(peer) if peer == canonical(race.denied) => self.reached_denied += 1,
            Ok(_) => self.reached_other += 1,
            Err(error) => *self.failed.entry(key(&error)).or_default() += 1,
        }
    }
}

/// Rewrites until the race is over. It begins when the address has been rewritten once, or short races would be over
/// before this thread has run.
fn rewrite(memory: &RacingAddress, race: &Race, begun: &Barrier, over: &AtomicBool) -> u64 {
    let pair = [KernelAddress::from(race.denied), KernelAddress::from(race.allowed)];
    let mut rewrites = 0;
    loop {
        for address in &pair {
            memory.store(address);
            rewrites += 1;
        }
        if rewrites == 2 {
            begun.wait();
        }
        if over.load(Ordering::Relaxed) {
            return rewrites;
        }
    }
}

fn one(memory: &RacingAddress, race: &Race) -> Result<SocketAddr, DoorError> {
    let deadline = Instant::now() + TIMEOUT;
    let socket = socket::create(race.allowed, Protocol::Tcp, SocketFlags::empty())?;
    let socket = socket.as_fd();
    socket::limit(socket, Timeout::Send, Some(deadline))?;
    match race.call {
        Call::Connect => memory.connect(socket),
        Call::FastOpen => memory.open_fast(socket),
    }
    .map_err(at(Stage::Connect))?;
    let peer = socket::connected(socket, deadline)?;
    set_socket_linger(socket, Some(Duration::ZERO)).map_err(at(Stage::Option))?;
    Ok(peer)
}
