//! The figures of a controller in the text format of Prometheus (OpenMetrics 1.0), on a listener of their own.

use std::sync::atomic::AtomicU64;

use controller::{Reached, records::RolloutState, serving::Counts};
use prometheus_client::{
    encoding::text::encode,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};

use super::core::Core;
use crate::server::counted::Counted;

type Seconds = Gauge<f64, AtomicU64>;

/// What is counted as it happens. Copies count together.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    /// Seconds until the store had done an order.
    pub(crate) commits: Histogram,
    /// Callers.
    pub(crate) counted: Counted,
}

impl Default for Figures {
    fn default() -> Self {
        // From half a millisecond to some 16 seconds.
        let commits = Histogram::new(exponential_buckets(0.000_5, 2.0, 16));
        Self { commits, counted: Counted::default() }
    }
}

/// All of them, as they are now.
pub(crate) fn text(core: &Core, figures: &Figures, leads: bool) -> String {
    let mut registry = Registry::with_prefix("fwnet_controller");
    let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "Version of the program", build);
    figures.counted.register(&mut registry);
    registry.register_with_unit(
        "store_commit_duration",
        "Until the store had done an order",
        Unit::Seconds,
        figures.commits.clone(),
    );
    let gauge = |value: usize| {
        let gauge: Gauge = Gauge::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        gauge
    };
    registry.register("leader", "1 where this controller leads", gauge(usize::from(leads)));
    let (model, status) = (core.controller.model(), core.controller.status(core.clock.now()));
    let hosts = Family::<Vec<(&str, &str)>, Gauge>::default();
    let sum = |of: fn(&Reached) -> usize| status.versions.iter().map(of).sum::<usize>();
    for (state, count) in [
        ("enrolled", status.hosts),
        ("connected", status.connected),
        ("pending", sum(|it| it.pending)),
        ("in_progress", sum(|it| it.in_progress)),
        ("realised", sum(|it| it.realised)),
        ("refused", sum(|it| it.refused)),
        ("quarantined", status.quarantined.len()),
    ] {
        let gauge = hosts.get_or_create(&vec![("state", state)]).clone();
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    registry.register("hosts", "Hosts by how they are; those that this controller knows of", hosts);
    let version = usize::try_from(status.version.unwrap_or(0)).unwrap_or(usize::MAX);
    registry.register("policy_version", "Version that every host should have", gauge(version));
    let states = Family::<Vec<(&str, &str)>, Gauge>::default();
    let state = model.rollout().map(|rollout| match rollout.state {
        RolloutState::Canary => "canary",
        RolloutState::Halted(_) => "halted",
        RolloutState::Done => "done",
    });
    for word in ["canary", "halted", "done"] {
        states.get_or_create(&vec![("state", word)]).set(i64::from(state == Some(word)));
    }
    registry.register("rollout", "1 for how the newest rollout stands", states);
    let failing = status.failing.len();
    registry.register("policy_tests_failing", "Tests in the policy that fail", gauge(failing));
    if let Some(current) = model.current() {
        let left = Seconds::default();
        let now = jiff::Timestamp::now();
        left.set(current.last().expires.duration_since(now).as_secs_f64());
        let help = "Until the current timestamp expires";
        registry.register_with_unit("timestamp_left", help, Unit::Seconds, left);
    }
    serving(&mut registry, &core.controller.counts());
    let retargets: Counter = Counter::default();
    retargets.inc_by(core.controller.retargets());
    registry.register("retargets", "Targets sent because something changed", retargets);
    let bytes = core.controller.serving_bytes();
    registry.register("serving_bytes", "Bytes kept for connections and hosts", gauge(bytes));
    let mut text = String::new();
    encode(&mut text, &registry).expect("writing to a String cannot fail");
    text
}

/// What a controller and a relay count in the same way.
pub(crate) fn serving(registry: &mut Registry, counts: &Counts) {
    let Counts {
        targets_sent,
        same_sent,
        parts_sent,
        differences_sent,
        bytes_sent,
        refused,
        put_off,
        foreign,
        nonsense,
    } = *counts;
    for (name, help, count) in [
        ("targets_sent", "Targets that were sent to hosts in full", targets_sent),
        ("same_sent", "Hosts told that they have what they should", same_sent),
        ("parts_sent", "Parts of pieces that were sent", parts_sent),
        ("differences_sent", "Pieces sent as a difference from an earlier one", differences_sent),
        ("bytes_sent", "Bytes of frames that were sent", bytes_sent),
        (
            "admission_refusals",
            "Connections, and hosts at relays, refused after the handshake",
            refused,
        ),
        ("put_off", "Connections told to come again later", put_off),
        ("foreign_pieces", "Pieces refused to hosts and relays that they do not concern", foreign),
        ("nonsense", "Connections ended by a message that makes no sense", nonsense),
    ] {
        let counter: Counter = Counter::default();
        counter.inc_by(count);
        registry.register(name, help, counter);
    }
}
