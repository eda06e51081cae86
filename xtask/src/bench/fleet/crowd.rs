//! Many connections that wait for the same thing, read by one thread.

use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::{Timespec, epoll};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Nothing that works takes nearly as long.
const DEADLINE: Duration = Duration::from_secs(120);
/// Events of one look.
const EVENTS: usize = 1_024;

/// One side of a conversation with a server: what it says, and what it hears.
pub(super) trait Listener: Default {
    /// What it says first.
    fn hello() -> Vec<u8>;

    /// Takes what has come, and adds what has to be answered. Returns what was told with it.
    ///
    /// # Errors
    /// If the server complains.
    fn hear(&mut self, bytes: &[u8], answer: &mut Vec<u8>) -> Result<Heard>;
}

/// What a piece of a conversation told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// It waits for updates from now on.
    pub waits: bool,
    /// Whole updates.
    pub updates: u32,
}

struct Subscriber<L> {
    stream: TcpStream,
    listener: L,
}

/// The connections. They end with the value.
pub(super) struct Crowd<L> {
    epoll: OwnedFd,
    subscribers: Vec<Subscriber<L>>,
    buffer: Vec<u8>,
}

impl<L: Listener> Crowd<L> {
    /// Connects so many, from the thread's namespace, and returns when the server has heard all of them.
    pub(super) fn gather(server: SocketAddr, count: u32) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("make an epoll")?;
        let mut crowd = Self { epoll, subscribers: Vec::new(), buffer: vec![0; 64 << 10] };
        let hello = L::hello();
        let mut waiting = 0;
        for number in 0..count {
            let mut stream = TcpStream::connect(server)
                .with_context(|| format!("connect subscriber {number} to {server}"))?;
            stream.write_all(&hello).context("say hello")?;
            stream.set_nonblocking(true).context("read without waiting")?;
            let data = epoll::EventData::new_u64(u64::from(number));
            epoll::add(&crowd.epoll, &stream, data, epoll::EventFlags::IN).context("watch it")?;
            crowd.subscribers.push(Subscriber { stream, listener: L::default() });
            // No more than a few connections wait to be accepted.
            if number % 64 == 63 {
                waiting += crowd.look(Duration::ZERO)?.0;
            }
        }
        let begun = Instant::now();
        while waiting < count {
            ensure!(begun.elapsed() < DEADLINE, "{waiting} of {count} subscribers were heard");
            waiting += crowd.look(Duration::from_millis(100))?.0;
        }
        Ok(crowd)
    }

    /// Waits until every subscriber has heard one update more.
    pub(super) fn hear_one(&mut self) -> Result<()> {
        let (begun, wanted) = (Instant::now(), self.subscribers.len());
        let mut heard = 0;
        while heard < wanted {
            ensure!(begun.elapsed() < DEADLINE, "{heard} of {wanted} subscribers heard an update");
            heard += self.look(Duration::from_millis(100))?.1 as usize;
        }
        ensure!(heard == wanted, "{heard} updates where {wanted} were published");
        Ok(())
    }

    /// Reads what has come, or comes within `patience`: how many began to wait, and how many updates there were.
    fn look(&mut self, patience: Duration) -> Result<(u32, u32)> {
        let mut events = Vec::with_capacity(EVENTS);
        let patience = Timespec { tv_sec: 0, tv_nsec: i64::from(patience.subsec_nanos()) };
        let room = rustix::buffer::spare_capacity(&mut events);
        epoll::wait(&self.epoll, room, Some(&patience)).context("wait for news")?;
        let (mut waits, mut updates) = (0, 0);
        for event in events {
            let number = usize::try_from(event.data.u64()).context("a number of ours")?;
            let subscriber = &mut self.subscribers[number];
            let count = match subscriber.stream.read(&mut self.buffer) {
                Ok(0) => bail!("the server has ended subscriber {number}"),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error).context("read what a subscriber is told"),
            };
            let mut answer = Vec::new();
            let heard = subscriber.listener.hear(&self.buffer[..count], &mut answer)?;
            waits += u32::from(heard.waits);
            updates += heard.updates;
            if !answer.is_empty() {
                // A few bytes into a connection that has not much to say.
                subscriber.stream.write_all(&answer).context("answer the server")?;
            }
        }
        Ok((waits, updates))
    }
}
