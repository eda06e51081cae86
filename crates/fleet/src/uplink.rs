//! The line upward: of a relay to a controller, of a controller that does not lead to the one that does.

use std::{sync::Arc, time::Duration};

use rustls::ClientConfig;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use wire::sync::{Downward, FRAME_BYTES_MAX, Upward, encode};

use crate::{
    api::client::connect,
    join::random,
    server::{
        counted::Counted,
        line::{Allowed, Heard, Mailbox, carry},
    },
};

/// What happens on it.
#[derive(Debug)]
pub(crate) enum Above {
    /// There is one.
    Opened(Arc<Mailbox>),
    /// Something came.
    Heard(Box<Downward>),
    /// There is none any more.
    Closed,
}

/// What whoever is above said and was not heard yet.
pub(crate) const ABOVE: usize = 64;
/// How long whoever is above may take to be connected to.
const CONNECT: Duration = Duration::from_secs(10);
/// Messages in one second: parts of pieces.
const MESSAGES: u32 = 10_000;
/// The shortest and the longest time until it is tried again: a partition that heals is noticed within five seconds.
const AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(3));
/// A line that was open so long was a good one.
const GOOD: Duration = Duration::from_secs(10);
/// Bytes that wait to be said; whoever is above and takes no more is left, and told anew later.
const UNSENT_BYTES_MAX: usize = 8 << 20;

/// Waits so that not all come again at the same time: any time up to a longest one that grows.
#[derive(Debug)]
pub(crate) struct Patience(Duration);

impl Patience {
    pub(crate) fn new() -> Self {
        Self(AGAIN.0)
    }

    /// Waits.
    pub(crate) async fn wait(&mut self) {
        let share = f64::from(u32::from_ne_bytes(random())) / f64::from(u32::MAX);
        sleep(self.0.mul_f64(share)).await;
        self.0 = (self.0 * 2).min(AGAIN.1);
    }
}

/// Connects to `endpoint` and carries what is said until the line is gone.
pub(crate) async fn hold(
    tls: &Arc<ClientConfig>,
    endpoint: &str,
    tell: &mpsc::Sender<Above>,
    patience: &mut Patience,
) {
    let Ok(Ok(stream)) = timeout(CONNECT, connect(tls, endpoint)).await else { return };
    let mailbox = Arc::new(Mailbox::default());
    if tell.send(Above::Opened(Arc::clone(&mailbox))).await.is_err() {
        return;
    }
    let began = Instant::now();
    let allowed = Allowed { frame_bytes: FRAME_BYTES_MAX, messages: MESSAGES };
    let tag = |heard| match heard {
        Heard::Message(message) => Some(Above::Heard(Box::new(message))),
        Heard::Drained => None,
    };
    // What is drained needs nobody's attention.
    let (hear, mut heard) = mpsc::channel(64);
    let counted = Counted::default();
    let carried = carry(stream, &mailbox, &hear, tag, allowed, &counted);
    let passed_on = async {
        while let Some(one) = heard.recv().await {
            if let Some(one) = one
                && tell.send(one).await.is_err()
            {
                return;
            }
        }
    };
    tokio::select! {
        _end = carried => {}
        () = passed_on => {}
    }
    if began.elapsed() > GOOD {
        *patience = Patience::new();
    }
    let _told = tell.send(Above::Closed).await;
}

/// Says something upward. Whoever is above and takes nothing is left: what is said next is all of it again.
pub(crate) fn say(mailbox: &Mailbox, message: &Upward) {
    if UNSENT_BYTES_MAX < mailbox.unsent() {
        return mailbox.end();
    }
    match encode(message) {
        Ok(frame) => mailbox.put(frame.into()),
        Err(error) => eprintln!("fwnet: something is not said upward: {error}"),
    }
}
