//! The figures of a controller in the text format of Prometheus (OpenMetrics 1.0), on a listener of their own.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::text::encode,
    metrics::{
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
    registry.register("enrolled_hosts", "Hosts that are enrolled", gauge(core.model.host_count()));
    let version = core.model.current().map_or(0, |current| current.version());
    let version = usize::try_from(version).unwrap_or(usize::MAX);
    registry.register("policy_version", "Version that every host should have", gauge(version));
    let open = core.model.rollout().is_some_and(|rollout| rollout.is_open());
    registry.register("rollout_open", "1 while a version is being tried", gauge(usize::from(open)));
    let failing = core.trials.failing().len();
    registry.register("policy_tests_failing", "Tests in the policy that fail", gauge(failing));
    if let Some(current) = core.model.current() {
        let left = Seconds::default();
        let now = jiff::Timestamp::now();
        left.set(current.last().expires.duration_since(now).as_secs_f64());
        registry.register_with_unit(
            "timestamp_left",
            "Until the current timestamp expires",
            Unit::Seconds,
            left,
        );
    }
    let mut text = String::new();
    encode(&mut text, &registry).expect("writing to a String cannot fail");
    text
}
