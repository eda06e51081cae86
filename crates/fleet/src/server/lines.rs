//! Lines as the machine of a controller or a relay knows them: it numbers them in its own way, and has frames sent.

use std::{collections::BTreeMap, panic::resume_unwind, sync::Arc, time::Instant};

use controller::{
    Batch, Controller, Digest, Relay,
    serving::{At, Effect, Frame, Link, Peer, Told as News},
};
use jiff::Timestamp;
use tokio::task::JoinSet;
use wire::sync::Upward;

use super::{LineId, Told, counted::Counted, line::Mailbox};
use crate::{
    subject::{Kind, Shown},
    uplink,
};

/// A machine at the other end of lines: a controller's, or a relay's.
pub(crate) trait Machine {
    /// Somebody has connected.
    fn opened(&mut self, peer: &Peer, now: At, out: &mut Vec<Effect>) -> Link;
    /// They said something.
    fn said(&mut self, link: Link, message: Upward, now: At, out: &mut Vec<Effect>);
    /// All that was to be written for them has been.
    fn written(&mut self, link: Link, now: At, out: &mut Vec<Effect>);
    /// They are gone.
    fn closed(&mut self, link: Link);
}

macro_rules! machines {
    ($($machine:ident)*) => {$(
        impl Machine for $machine {
            fn opened(&mut self, peer: &Peer, now: At, out: &mut Vec<Effect>) -> Link {
                Self::opened(self, peer, now, out)
            }

            fn said(&mut self, link: Link, message: Upward, now: At, out: &mut Vec<Effect>) {
                Self::said(self, link, message, now, out);
            }

            fn written(&mut self, link: Link, now: At, out: &mut Vec<Effect>) {
                Self::written(self, link, now, out);
            }

            fn closed(&mut self, link: Link) {
                Self::closed(self, link);
            }
        }
    )*};
}

machines!(Controller Relay);

/// What follows and is no matter of lines.
pub(crate) enum Rest {
    /// See [`Effect::Commit`].
    Commit(Batch),
    /// See [`Effect::Tell`].
    Tell(News),
}

/// All that are open.
#[derive(Debug)]
pub(crate) struct Lines {
    counted: Counted,
    links: BTreeMap<LineId, Link>,
    mailboxes: BTreeMap<Link, (LineId, Arc<Mailbox>)>,
}

impl Lines {
    /// None, of a server that counts so.
    pub(crate) fn new(counted: Counted) -> Self {
        Self { counted, links: BTreeMap::new(), mailboxes: BTreeMap::new() }
    }

    /// Something happened on a line: the machine is told.
    pub(crate) fn hear(
        &mut self,
        told: Told,
        machine: &mut impl Machine,
        now: At,
        out: &mut Vec<Effect>,
    ) {
        match told {
            Told::Came { line, shown, mailbox } => match peer(&shown) {
                Some(peer) => {
                    let link = machine.opened(&peer, now, out);
                    self.open(line, link, mailbox);
                }
                None => mailbox.end(),
            },
            Told::Said { line, message } => {
                if let Some(link) = self.link(line) {
                    machine.said(link, message, now, out);
                }
            }
            Told::Drained { line } => {
                if let Some(link) = self.link(line).filter(|link| self.is_drained(*link)) {
                    machine.written(link, now, out);
                }
            }
            Told::Gone { line } => {
                if let Some(link) = self.gone(line) {
                    machine.closed(link);
                }
            }
        }
    }

    /// Does what follows on lines, and on the one upward if there is one; the rest comes back.
    pub(crate) fn carry_out(
        &mut self,
        effect: Effect,
        above: Option<&Arc<Mailbox>>,
    ) -> Option<Rest> {
        match effect {
            Effect::Send { link, frame } => self.send(link, frame),
            Effect::Close { link, why: _ } => self.close(link),
            Effect::Upstream(message) => {
                if let Some(above) = above {
                    uplink::say(above, &message);
                }
            }
            Effect::Enforced { after_ms } => self.counted.propagation.observe(after_ms),
            Effect::Commit(batch) => return Some(Rest::Commit(batch)),
            Effect::Tell(told) => return Some(Rest::Tell(told)),
        }
        None
    }

    /// The machine has given a line its number. What it sends comes after that.
    fn open(&mut self, line: LineId, link: Link, mailbox: Arc<Mailbox>) {
        self.links.insert(line, link);
        self.mailboxes.insert(link, (line, mailbox));
    }

    /// What the machine calls a line; nothing for one that it has ended.
    fn link(&self, line: LineId) -> Option<Link> {
        self.links.get(&line).copied()
    }

    /// Whether everything is written that was to be.
    fn is_drained(&self, link: Link) -> bool {
        self.mailboxes.get(&link).is_some_and(|(_, mailbox)| mailbox.unsent() == 0)
    }

    /// Has a frame sent.
    fn send(&self, link: Link, frame: Frame) {
        if let Some((_, mailbox)) = self.mailboxes.get(&link) {
            mailbox.put(frame.into());
        }
    }

    /// Ends a line once everything is sent. The machine hears nothing of it any more.
    fn close(&mut self, link: Link) {
        if let Some((line, mailbox)) = self.mailboxes.remove(&link) {
            self.links.remove(&line);
            mailbox.end();
        }
    }

    /// A line is gone; what the machine called it, unless it has ended it.
    fn gone(&mut self, line: LineId) -> Option<Link> {
        let link = self.links.remove(&line)?;
        self.mailboxes.remove(&link);
        Some(link)
    }
}

/// Who is at the other end, as machines know it; operators have no lines.
fn peer(shown: &Shown) -> Option<Peer> {
    let name = shown.subject.name().to_owned();
    let certificate = Digest(shown.fingerprint.0);
    match shown.subject.kind() {
        Kind::Host => Some(Peer::Host { id: name, certificate }),
        Kind::Relay => Some(Peer::Relay { name, certificate }),
        Kind::Controller => Some(Peer::Controller { name }),
        Kind::Operator => None,
    }
}

/// Runs what hears lines as a task among theirs, on the same threads: a task that wakes one of its own thread makes no
/// system call for it, and wakes another thread only where one is idle. Ends when this is dropped.
pub(crate) async fn among_lines(hearing: impl Future<Output = ()> + Send + 'static) {
    let mut task = JoinSet::new();
    task.spawn(hearing);
    if let Some(Err(error)) = task.join_next().await
        && let Ok(panic) = error.try_into_panic()
    {
        resume_unwind(panic);
    }
}

/// The time as machines know it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    /// Begins to count.
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Now.
    pub(crate) fn now(self) -> At {
        let ms = u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX);
        At { wall: Timestamp::now(), ms }
    }
}
