//! The one task that owns what a relay knows.

use std::{sync::Arc, time::Duration};

use controller::{
    Relay,
    serving::{At, Counts, Effect, Serve},
};
use prometheus_client::{
    encoding::text::encode,
    metrics::{gauge::Gauge, info::Info},
    registry::Registry,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval},
};
use wire::sync::Down;

use crate::{
    controller::metrics::serving,
    server::{
        Told,
        counted::Counted,
        line::Mailbox,
        lines::{Clock, Lines},
    },
    uplink::Above,
};

/// How often deadlines are looked at, and news are told upward.
const TICK: Duration = Duration::from_millis(100);
/// Things that are heard on lines before others have their turn.
const HEARD: usize = 512;

/// Asks how it is.
#[derive(Debug)]
pub(super) struct Question(pub(super) oneshot::Sender<Known>);

/// How a relay is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    counts: Counts,
    connections: usize,
    bytes: usize,
    above: bool,
}

impl Known {
    /// As Prometheus reads it.
    pub(super) fn text(&self, counted: &Counted) -> String {
        let mut registry = Registry::with_prefix("fwnet_relay");
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "Version of the program", build);
        counted.register(&mut registry);
        serving(&mut registry, &self.counts);
        for (name, help, value) in [
            ("connections", "Hosts that are connected", self.connections),
            ("kept_bytes", "Bytes of pieces and for connections", self.bytes),
            ("above", "1 while a controller is connected", usize::from(self.above)),
        ] {
            let gauge: Gauge = Gauge::default();
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            registry.register(name, help, gauge);
        }
        let mut text = String::new();
        encode(&mut text, &registry).expect("writing to a String cannot fail");
        text
    }
}

/// What a relay knows.
#[derive(Debug)]
pub(super) struct Core {
    relay: Relay,
    clock: Clock,
    lines: Lines,
    above: Option<Arc<Mailbox>>,
    out: Vec<Effect>,
}

impl Core {
    /// One that knows nothing yet.
    pub(super) fn new(counted: Counted) -> Self {
        let clock = Clock::start();
        let relay = Relay::new(Serve::default(), clock.now());
        Self { relay, clock, lines: Lines::new(counted), above: None, out: Vec::new() }
    }

    /// Hears and answers until nobody tells anything any more.
    pub(super) async fn attend(
        mut self,
        mut told: mpsc::Receiver<Told>,
        mut above: mpsc::Receiver<Above>,
        mut asked: mpsc::Receiver<Question>,
    ) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Vec::with_capacity(HEARD);
        loop {
            tokio::select! {
                count = told.recv_many(&mut heard, HEARD) => {
                    if count == 0 {
                        return;
                    }
                    let now = self.clock.now();
                    for one in heard.drain(..) {
                        self.hear(one, now);
                    }
                }
                one = above.recv() => match one {
                    Some(one) => self.hear_above(one),
                    None => return,
                },
                Some(Question(answer)) = asked.recv() => {
                    let (counts, connections) = (self.relay.counts(), self.relay.connections());
                    let (bytes, above) = (self.relay.bytes(), self.above.is_some());
                    // Nobody may wait any more.
                    let _heard = answer.send(Known { counts, connections, bytes, above });
                }
                _ = tick.tick() => self.relay.tick(self.clock.now(), &mut self.out),
            }
            self.carry_out();
        }
    }

    fn hear(&mut self, told: Told, now: At) {
        self.lines.hear(told, &mut self.relay, now, &mut self.out);
        self.carry_out();
    }

    fn hear_above(&mut self, above: Above) {
        match above {
            Above::Opened(mailbox) => {
                self.above = Some(mailbox);
                self.relay.upstream_opened(&mut self.out);
            }
            Above::Heard(message) => {
                if let Some(Down::Refused(refused)) = &message.say {
                    eprintln!("fwnet: the controller refuses this relay: {}", refused.why);
                }
                self.relay.heard(*message, self.clock.now(), &mut self.out);
            }
            Above::Closed => {
                self.above = None;
                self.relay.upstream_closed();
            }
        }
    }

    fn carry_out(&mut self) {
        for effect in self.out.drain(..) {
            // A relay has no store, and no policy of its own: nothing is left.
            let _rest = self.lines.carry_out(effect, self.above.as_ref());
        }
    }
}
