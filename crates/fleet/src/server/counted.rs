//! What a server counts about those who call, for its metrics.

use std::time::Duration;

use prometheus_client::{
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

type Labels = Vec<(&'static str, &'static str)>;

/// Counters of one listener. Copies count together.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// TLS handshakes by how they ended.
    pub handshakes: Family<Labels, Counter>,
    /// Those who were turned away after the handshake, by why.
    pub refused: Family<Labels, Counter>,
    /// Connections of those who have not shown who they are yet, and of those who only ask once.
    pub strangers: Gauge,
    /// Connections that speak `fwnet-sync/1`.
    pub lines: Gauge,
    /// Bytes of frames that were sent, before TLS.
    pub sent_bytes: Counter,
    /// Bytes that were received, before TLS.
    pub received_bytes: Counter,
    /// Frames that were sent.
    pub sent_frames: Counter,
    /// Seconds from a change of what a connected host should have until it says that it enforces it.
    pub propagation: Propagation,
}

/// Seconds until hosts followed a change.
#[derive(Clone, Debug)]
pub struct Propagation(Histogram);

impl Default for Propagation {
    fn default() -> Self {
        // From ten milliseconds to some five minutes.
        Self(Histogram::new(exponential_buckets(0.01, 2.0, 16)))
    }
}

impl Propagation {
    /// One more followed, after so many milliseconds.
    pub fn observe(&self, after_ms: u64) {
        self.0.observe(Duration::from_millis(after_ms).as_secs_f64());
    }
}

/// How a handshake ended, or why somebody is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A full handshake.
    Full,
    /// A session was resumed.
    Resumed,
    /// What came was no TLS 1.3, or its certificate is not good.
    Failed,
    /// It took too long.
    Late,
    /// It had to go because too many were newer.
    Pushed,
    /// The certificate is none of a fleet's or expired.
    Certificate,
    /// It showed no certificate where one is needed.
    Nobody,
    /// It sent a frame that is too long, or no message.
    Frame,
    /// It speaks of what is not its business.
    Business,
}

impl Outcome {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
            Self::Failed => "failed",
            Self::Late => "late",
            Self::Pushed => "pushed_out",
            Self::Certificate => "certificate",
            Self::Nobody => "nobody",
            Self::Frame => "frame",
            Self::Business => "business",
        }
    }
}

impl Counted {
    /// Counts the end of a handshake.
    pub fn handshake(&self, outcome: Outcome) {
        self.handshakes.get_or_create(&vec![("outcome", outcome.word())]).inc();
    }

    /// Counts somebody who was turned away.
    pub fn refuse(&self, why: Outcome) {
        self.refused.get_or_create(&vec![("reason", why.word())]).inc();
    }

    /// How often somebody was turned away for this reason.
    pub fn refusals(&self, why: Outcome) -> u64 {
        self.refused.get_or_create(&vec![("reason", why.word())]).get()
    }

    /// Has all of them shown.
    pub fn register(&self, registry: &mut Registry) {
        let it = self.clone();
        registry.register("handshakes", "TLS handshakes by how they ended", it.handshakes);
        registry.register("refused", "Callers that were turned away, by why", it.refused);
        registry.register("strangers", "Connections that nobody has vouched for yet", it.strangers);
        registry.register("lines", "Connections of agents, relays and controllers", it.lines);
        registry.register("received_bytes", "Bytes received, before TLS", it.received_bytes);
        registry.register("sent_frames", "Frames sent", it.sent_frames);
        registry.register_with_unit(
            "policy_propagation",
            "From a change of what connected hosts should have until each says that it enforces it",
            Unit::Seconds,
            it.propagation.0,
        );
        registry.register("written_bytes", "Bytes of frames written, before TLS", it.sent_bytes);
    }
}
