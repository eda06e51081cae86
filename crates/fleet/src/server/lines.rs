//! Lines as the machine of a controller or a relay knows them: it numbers them in its own way, and has frames sent.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use controller::{
    Digest,
    serving::{At, Frame, Link, Peer},
};
use jiff::Timestamp;

use super::{LineId, line::Mailbox};
use crate::subject::{Kind, Shown};

/// All that are open.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    links: BTreeMap<LineId, Link>,
    mailboxes: BTreeMap<Link, (LineId, Arc<Mailbox>)>,
}

impl Lines {
    /// The machine has given a line its number. What it sends comes after that.
    pub(crate) fn open(&mut self, line: LineId, link: Link, mailbox: Arc<Mailbox>) {
        self.links.insert(line, link);
        self.mailboxes.insert(link, (line, mailbox));
    }

    /// What the machine calls a line; nothing for one that it has ended.
    pub(crate) fn link(&self, line: LineId) -> Option<Link> {
        self.links.get(&line).copied()
    }

    /// Whether everything is written that was to be.
    pub(crate) fn is_drained(&self, link: Link) -> bool {
        self.mailboxes.get(&link).is_some_and(|(_, mailbox)| mailbox.unsent() == 0)
    }

    /// Has a frame sent.
    pub(crate) fn send(&self, link: Link, frame: Frame) {
        if let Some((_, mailbox)) = self.mailboxes.get(&link) {
            mailbox.put(frame.into());
        }
    }

    /// Ends a line once everything is sent. The machine hears nothing of it any more.
    pub(crate) fn close(&mut self, link: Link) {
        if let Some((line, mailbox)) = self.mailboxes.remove(&link) {
            self.links.remove(&line);
            mailbox.end();
        }
    }

    /// A line is gone; what the machine called it, unless it has ended it.
    pub(crate) fn gone(&mut self, line: LineId) -> Option<Link> {
        let link = self.links.remove(&line)?;
        self.mailboxes.remove(&link);
        Some(link)
    }
}

/// Who is at the other end, as machines know it; operators have no lines.
pub(crate) fn peer(shown: &Shown) -> Option<Peer> {
    let name = shown.subject.name().to_owned();
    let certificate = Digest(shown.fingerprint.0);
    match shown.subject.kind() {
        Kind::Host => Some(Peer::Host { id: name, certificate }),
        Kind::Relay => Some(Peer::Relay { name, certificate }),
        Kind::Controller => Some(Peer::Controller { name }),
        Kind::Operator => None,
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
