//! All connections of one process, looked after by one thread.

use std::{
    collections::{BTreeSet, VecDeque},
    io::stdin,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use rustix::{
    event::{Timespec, epoll},
    fd::OwnedFd,
};
use rustls::ClientConfig;
use serde_json::json;

use crate::{
    Failure,
    line::{Came, Line, Listener},
    publisher::Publish,
    say::{now_us, say},
};

/// Events of one look.
const EVENTS: usize = 1_024;
/// Bytes that are read at once.
const SCRATCH_BYTES: usize = 64 << 10;
/// Handshakes at a time while the crowd gathers; afterwards everybody comes when they like.
const AT_ONCE: usize = 256;
/// Hosts that begin to come before others are answered: each host of a real fleet has a processor of its own, and the answer
/// to a server does not wait until thousands of others have begun.
const DIALS: usize = 64;
/// How often beats are looked at: microseconds.
const TICK_US: u64 = 100_000;
/// What stands for standard input among the events.
const WORDS: u64 = u64::MAX;
/// The first wait of an agent before it comes again is up to this long, and the longest: milliseconds, as `agent::sync`.
const WAITS_MS: (u64, u64) = (1_000, 60_000);

struct Member<L> {
    tls: Arc<ClientConfig>,
    listener: L,
    line: Option<Line>,
    served: bool,
    failures: u32,
    /// Which update it heard last.
    heard: u32,
}

/// See the module.
pub(crate) struct Gathering<L> {
    server: SocketAddr,
    epoll: OwnedFd,
    members: Vec<Member<L>>,
    publisher: Option<Box<dyn Publish>>,
    /// Who comes next while the crowd gathers.
    queue: VecDeque<usize>,
    shaking: usize,
    /// Who comes when, microseconds.
    due: BTreeSet<(u64, usize)>,
    served: usize,
    /// When everybody was last without a connection, and whether they came for the first time.
    since: Option<(u64, bool)>,
    tick: u64,
    /// The update that is waited for, if any: when each heard it.
    update: u32,
    stamps: Option<Vec<u64>>,
    published: Option<u64>,
    words: Vec<u8>,
    random: u64,
    counts: Counts,
    scratch: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
struct Counts {
    /// Updates that were heard.
    updates: u64,
    /// Connections that were served.
    served: u64,
    /// Those of them that resumed a session.
    resumed: u64,
    /// Those that were told to come later.
    later: u64,
    /// Those that ended otherwise.
    ended: u64,
    /// Bytes that came, after TLS.
    bytes: u64,
}

impl<L: Listener> Gathering<L> {
    pub(crate) fn new(
        server: SocketAddr,
        members: Vec<(Arc<ClientConfig>, L)>,
        publisher: Option<Box<dyn Publish>>,
    ) -> Result<Self, Failure> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let words = epoll::EventData::new_u64(WORDS);
        epoll::add(&epoll, stdin(), words, epoll::EventFlags::IN)?;
        let queue = (0..members.len()).collect();
        let member = |(tls, listener)| Member {
            tls,
            listener,
            line: None,
            served: false,
            failures: 0,
            heard: 0,
        };
        Ok(Self {
            server,
            epoll,
            members: members.into_iter().map(member).collect(),
            publisher,
            queue,
            shaking: 0,
            due: BTreeSet::new(),
            served: 0,
            since: Some((now_us(), true)),
            tick: now_us() / TICK_US,
            update: 0,
            stamps: None,
            published: None,
            words: Vec::new(),
            random: u64::from(std::process::id()),
            counts: Counts::default(),
            scratch: vec![0; SCRATCH_BYTES],
        })
    }

    /// Goes on until standard input ends.
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            let more_are_due = self.come()?;
            events.clear();
            let patience =
                Timespec { tv_sec: 0, tv_nsec: if more_are_due { 0 } else { 20_000_000 } };
            let room = rustix::buffer::spare_capacity(&mut events);
            epoll::wait(&self.epoll, room, Some(&patience))?;
            for event in &events {
                let flags = event.flags;
                if event.data.u64() == WORDS {
                    if !self.hear_words()? {
                        return Ok(());
                    }
                    continue;
                }
                self.attend(usize::try_from(event.data.u64())?, flags)?;
            }
            self.beat()?;
        }
    }

    /// Who is to come now comes, or some of them. Whether there are more.
    fn come(&mut self) -> Result<bool, Failure> {
        while self.shaking < AT_ONCE
            && let Some(member) = self.queue.pop_front()
        {
            self.dial(member)?;
        }
        let now = now_us();
        for _ in 0..DIALS {
            let Some((_, member)) = self.due.pop_first_if_before(now) else { return Ok(false) };
            self.dial(member)?;
        }
        Ok(true)
    }

    fn dial(&mut self, number: usize) -> Result<(), Failure> {
        let Some(member) = self.members.get_mut(number) else { return Ok(()) };
        let line = Line::begin(self.server, &member.tls, L::GREETED)?;
        let data = epoll::EventData::new_u64(number as u64);
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT;
        epoll::add(&self.epoll, line.stream(), data, flags)?;
        member.line = Some(line);
        self.shaking += 1;
        Ok(())
    }

    fn attend(&mut self, number: usize, flags: epoll::EventFlags) -> Result<(), Failure> {
        let Self { members, scratch, counts, .. } = self;
        let Some(member) = members.get_mut(number) else { return Ok(()) };
        let Some(line) = member.line.as_mut() else { return Ok(()) };
        if flags.intersects(epoll::EventFlags::OUT | epoll::EventFlags::ERR)
            && line.watched_for_room
            && !line.room()?
        {
            return self.ended(number, None);
        }
        let mut later = None;
        if flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP) {
            let mut came = line.read(scratch, || member.listener.hello())?;
            let mut answer = Vec::new();
            let (mut updates, mut waits) = (0, false);
            while let Came::Bytes(count) = came {
                counts.bytes += count as u64;
                let bytes = scratch.get(..count).unwrap_or_default();
                let heard = member.listener.hear(bytes, &mut answer)?;
                updates += heard.updates;
                waits |= heard.waits;
                later = later.or(heard.later_ms);
                came = line.more(scratch)?;
            }
            let mut open = came != Came::End && later.is_none();
            if open && !answer.is_empty() {
                open = line.say(&answer)?;
            }
            if waits && open && !member.served {
                member.served = true;
                member.failures = 0;
                counts.served += 1;
                counts.resumed += u64::from(line.is_resumed());
                self.served += 1;
                self.shaking = self.shaking.saturating_sub(1);
            }
            if updates > 0 {
                counts.updates += u64::from(updates);
                if let Some(stamps) = &mut self.stamps
                    && member.heard != self.update
                {
                    member.heard = self.update;
                    stamps.push(now_us());
                }
            }
            if !open {
                return self.ended(number, later);
            }
        }
        self.watch(number)?;
        self.tell()
    }

    /// A line is watched for room as long as something waits to be written.
    fn watch(&mut self, number: usize) -> Result<(), Failure> {
        let Some(line) = self.members.get_mut(number).and_then(|it| it.line.as_mut()) else {
            return Ok(());
        };
        let wants = !line.is_done() || line.is_connecting();
        if wants != line.watched_for_room {
            line.watched_for_room = wants;
            let mut flags = epoll::EventFlags::IN;
            flags.set(epoll::EventFlags::OUT, wants);
            let data = epoll::EventData::new_u64(number as u64);
            epoll::modify(&self.epoll, line.stream(), data, flags)?;
        }
        Ok(())
    }

    /// What everybody was waited for is told.
    fn tell(&mut self) -> Result<(), Failure> {
        if let Some((since, first)) = self.since
            && self.served == self.members.len()
        {
            self.since = None;
            let seconds = Duration::from_micros(now_us() - since).as_secs_f64();
            let counts = self.counts;
            if first {
                say(&json!({"gathered": {"seconds": seconds, "counts": counts}}))?;
            } else {
                say(&json!({"back": {"since": since, "at": now_us(), "counts": counts}}))?;
            }
        }
        if self.stamps.as_ref().is_some_and(|stamps| stamps.len() == self.members.len()) {
            let stamps = self.stamps.take();
            say(&json!({"update": {"published": self.published.take(), "heard": stamps}}))?;
        }
        Ok(())
    }

    /// A connection has ended: an agent waits for a while that grows, and at least as long as it was told.
    fn ended(&mut self, number: usize, later_ms: Option<u64>) -> Result<(), Failure> {
        let Some(member) = self.members.get_mut(number) else { return Ok(()) };
        member.line = None;
        match later_ms {
            Some(_) => self.counts.later += 1,
            None => self.counts.ended += 1,
        }
        if std::mem::take(&mut member.served) {
            self.served -= 1;
        } else {
            self.shaking = self.shaking.saturating_sub(1);
        }
        let most = WAITS_MS.0.checked_shl(member.failures).unwrap_or(u64::MAX).min(WAITS_MS.1);
        member.failures = (member.failures + 1).min(16);
        let wait_ms = later_ms.unwrap_or_default() + self.draw() % (most + 1);
        self.due.insert((now_us() + wait_ms * 1_000, number));
        Ok(())
    }

    /// SplitMix64 (Steele, Lea and Flood, 2014).
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// In each tick, those whose turn it is say that they are alive.
    fn beat(&mut self) -> Result<(), Failure> {
        let now = now_us() / TICK_US;
        while self.tick < now {
            self.tick += 1;
            let Some(every) = self.members.iter().find_map(|it| it.listener.beat()) else {
                continue;
            };
            let ticks = (u64::try_from(every.1.as_micros())? / TICK_US).max(1);
            let first = usize::try_from(self.tick % ticks)?;
            for number in (first..self.members.len()).step_by(usize::try_from(ticks)?) {
                let Some(member) = self.members.get_mut(number).filter(|it| it.served) else {
                    continue;
                };
                let (Some((beat, _)), Some(line)) = (member.listener.beat(), &mut member.line)
                else {
                    continue;
                };
                if !line.say(&beat)? {
                    self.ended(number, None)?;
                } else {
                    self.watch(number)?;
                }
            }
        }
        Ok(())
    }

    /// Does what standard input says; false at its end.
    fn hear_words(&mut self) -> Result<bool, Failure> {
        let mut bytes = [0; 256];
        let count = rustix::io::read(stdin(), &mut bytes)?;
        self.words.extend_from_slice(bytes.get(..count).unwrap_or_default());
        while let Some(end) = self.words.iter().position(|it| *it == b'\n') {
            let line: Vec<u8> = self.words.drain(..=end).collect();
            match line.trim_ascii() {
                b"expect" => self.expect(),
                b"publish" => {
                    self.expect();
                    let publisher = self.publisher.as_mut().ok_or("nothing is published here")?;
                    self.published = Some(now_us());
                    publisher.publish()?;
                }
                b"cut" => self.cut()?,
                b"counts" => say(&json!({"counts": std::mem::take(&mut self.counts)}))?,
                other => {
                    return Err(format!("what is {:?}", String::from_utf8_lossy(other)).into());
                }
            }
        }
        Ok(count != 0)
    }

    fn expect(&mut self) {
        self.update += 1;
        self.stamps = Some(Vec::with_capacity(self.members.len()));
    }

    fn cut(&mut self) -> Result<(), Failure> {
        let now = now_us();
        self.since = Some((now, false));
        for number in 0..self.members.len() {
            let draw = self.draw();
            let Some(member) = self.members.get_mut(number) else { continue };
            if let Some(line) = member.line.take() {
                line.cut()?;
            }
            member.served = false;
            member.failures = 1;
            self.due.insert((now + draw % (WAITS_MS.0 * 1_000), number));
        }
        (self.served, self.shaking) = (0, 0);
        Ok(())
    }
}

/// The first of a set, if its time has come.
trait PopFirstIf {
    fn pop_first_if_before(&mut self, now: u64) -> Option<(u64, usize)>;
}

impl PopFirstIf for BTreeSet<(u64, usize)> {
    fn pop_first_if_before(&mut self, now: u64) -> Option<(u64, usize)> {
        self.first().filter(|(at, _)| *at <= now)?;
        self.pop_first()
    }
}
