//! The figures of an agent in the text format of Prometheus (OpenMetrics 1.0).
//!
//! Labels are words of a fixed list, hooks, and ids of rules up to a limit: never addresses, ports or processes. What is
//! beyond the limit is a figure of its own.

use std::{path::Path, sync::atomic::AtomicU64};

use jiff::Timestamp;
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::{Registry, Unit},
};
use verdict::{Direction, Verdict};

use super::{
    Seeing,
    hits::{Counted, effect, mode},
};
use crate::{
    agent::Core,
    orders::Ready,
    report::{ecs::direction_word, past},
};

/// Rules that have a figure of their own: those that decide most.
const RULES_MAX: usize = 500;

type Labels = Vec<(&'static str, String)>;
pub(super) type Counters = Family<Labels, Counter>;
type Gauges = Family<Labels, Gauge>;
type Seconds = Gauge<f64, AtomicU64>;

/// One label.
pub(super) fn label(name: &'static str, value: &str) -> Labels {
    vec![(name, value.to_owned())]
}

/// All of them, as they are now.
pub(crate) fn text(core: &mut Core) -> String {
    let mut registry = Registry::with_prefix("fwnet_agent");
    let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "Version of the program", build);
    policy(&mut registry, core);
    core.force.settle(&mut core.seeing);
    let hits = core.force.firewall.hits();
    let counted = core.seeing.rules(core.force.judging(), &hits);
    connections(&mut registry, core.force.judging(), &counted);
    rules(&mut registry, core.force.judging(), &counted);
    losses(&mut registry, core);
    programs(&mut registry, core);
    stores(&mut registry, core);
    let runs = core.force.firewall.runs();
    core.seeing.deeds.register(&mut registry, runs.as_deref());
    let mut text = String::new();
    encode(&mut text, &registry).expect("writing to a String cannot fail");
    text
}

fn policy(registry: &mut Registry, core: &Core) {
    let version: Gauge = Gauge::default();
    version.set(i64::try_from(core.force.ready.rules.version).unwrap_or(i64::MAX));
    registry.register("policy_version", "Version of the policy in force", version);
    let now = Timestamp::now();
    let age = Seconds::default();
    let applied = core.edition().map_or(now, |edition| edition.applied.at);
    age.set(now.duration_since(applied).as_secs_f64());
    registry.register_with_unit("policy_age", "Since the policy was applied", Unit::Seconds, age);
    let up = Seconds::default();
    up.set(now.duration_since(core.started).as_secs_f64());
    registry.register_with_unit("uptime", "Since the agent started", Unit::Seconds, up);
    let locked = core.force.firewall.is_locked_down();
    let modes = Gauges::default();
    for (name, on) in [("policy", !locked), ("lockdown", locked)] {
        modes.get_or_create(&vec![("mode", name.to_owned())]).set(i64::from(on));
    }
    registry.register("fail_mode", "1 for what is in force: the policy, or lockdown", modes);
}

/// By what was decided, summed over rules, so that the sums agree with the rules' own.
fn connections(registry: &mut Registry, ready: &Ready, counted: &[Counted]) {
    let (all, would) = (Counters::default(), Counters::default());
    for direction in [Direction::Out, Direction::In] {
        for verdict in [Verdict::Allow, Verdict::Deny] {
            all.get_or_create(&labels(direction, past(verdict))).inc_by(0);
        }
        let label = vec![("direction", direction_word(direction).to_owned())];
        would.get_or_create(&label).inc_by(0);
    }
    for one in counted {
        let Some(rule) = ready.rules.rules.get(one.number) else { continue };
        all.get_or_create(&labels(rule.direction, past(rule.verdict))).inc_by(one.enforced);
        if rule.verdict == Verdict::Deny {
            let label = vec![("direction", direction_word(rule.direction).to_owned())];
            would.get_or_create(&label).inc_by(one.would);
        }
    }
    let help =
        "Connections and datagrams judged by rules that are in force, since these are counted";
    registry.register("connections", help, all);
    registry.register("would_deny", "Those of them that rules in audit would deny", would);
}

fn labels(direction: Direction, verdict: &str) -> Labels {
    vec![("direction", direction_word(direction).to_owned()), ("verdict", verdict.to_owned())]
}

fn rules(registry: &mut Registry, ready: &Ready, counted: &[Counted]) {
    let mut most: Vec<&Counted> = counted.iter().collect();
    most.sort_by_key(|one| std::cmp::Reverse(one.enforced.saturating_add(one.would)));
    let (hits, would) = (Counters::default(), Counters::default());
    for one in most.iter().take(RULES_MAX) {
        let Some(rule) = ready.rules.rules.get(one.number) else { continue };
        let mut labels = labels(rule.direction, effect(rule.verdict));
        labels.push(("rule", rule.id.clone()));
        labels.push(("mode", mode(rule.mode).to_owned()));
        hits.get_or_create(&labels).inc_by(one.enforced);
        would.get_or_create(&labels).inc_by(one.would);
    }
    registry.register("rule_hits", "How often a rule decided", hits);
    registry.register("rule_would_hits", "How often it would have, where another did", would);
    let left_out: Gauge = Gauge::default();
    left_out.set(i64::try_from(most.len().saturating_sub(RULES_MAX)).unwrap_or(i64::MAX));
    registry.register("rules_left_out", "Rules without a figure of their own here", left_out);
}

fn losses(registry: &mut Registry, core: &Core) {
    let lost = core.force.firewall.lost();
    let seeing = &core.seeing;
    let stages = Counters::default();
    for (stage, count) in [
        ("limit", lost.limited),
        ("ringbuf", lost.overrun),
        ("tamper", lost.tamper),
        ("flows", lost.flows),
        ("queue", seeing.recorder.lost_in_queue()),
        ("export", seeing.recorder.lost_in_export()),
        ("follower", seeing.lost_to_followers()),
    ] {
        stages.get_or_create(&vec![("stage", stage.to_owned())]).inc_by(count);
    }
    registry.register("events_lost", "Events and flows that were not told, by where", stages);
    let Seeing { tampered, unanswered, kinds, .. } = seeing;
    let tamper: Counter = Counter::default();
    tamper.inc_by(*tampered);
    registry.register("tamper_events", "Times that somebody laid hands on the programs", tamper);
    let nobody: Counter = Counter::default();
    nobody.inc_by(*unanswered);
    registry.register("unanswered_flows", "Allowed flows to ports where nobody listened", nobody);
    let (entries, capacity) = (Gauges::default(), Gauges::default());
    let flows = vec![("map", "FLOWS".to_owned())];
    entries.get_or_create(&flows).set(i64::try_from(*kinds).unwrap_or(i64::MAX));
    capacity.get_or_create(&flows).set(verdict::abi::FLOWS_MAX.into());
    registry.register("map_entries", "Entries of a map when it was last read", entries);
    registry.register("map_capacity", "Entries that a map has room for", capacity);
}

fn programs(registry: &mut Registry, core: &Core) {
    let attached = Gauges::default();
    for hook in kernel::Hook::ALL {
        let label = vec![("hook", hook.name.to_owned())];
        attached.get_or_create(&label).set(0);
    }
    for (hook, _target) in core.force.firewall.attached() {
        attached.get_or_create(&vec![("hook", hook.name.to_owned())]).inc();
    }
    registry.register("bpf_program_attached", "Places that a hook's program is in", attached);
    let resident: Gauge = Gauge::default();
    if let Some(bytes) = resident_bytes() {
        resident.set(bytes);
        registry.register_with_unit("resident_memory", "Of the agent", Unit::Bytes, resident);
    }
}

/// What is kept on disk.
fn stores(registry: &mut Registry, core: &Core) {
    let bytes = Gauges::default();
    for (store, size) in sizes(&core.paths.state, core.settled.outputs.events_file.as_deref()) {
        bytes.get_or_create(&label("store", store)).set(i64::try_from(size).unwrap_or(i64::MAX));
    }
    let help = "Files of the state, of recorded flows, and of events";
    registry.register_with_unit("store", help, Unit::Bytes, bytes);
    if let Some(flows) = core.seeing.store.as_ref().and_then(|store| store.len().ok()) {
        let records: Gauge = Gauge::default();
        records.set(i64::try_from(flows).unwrap_or(i64::MAX));
        registry.register("store_flows", "Recorded flows, by kind and hour", records);
    }
}

/// Bytes of the state directory without the store of flows, of that, and of the event file that is written now.
fn sizes(state: &Path, events: Option<&Path>) -> Vec<(&'static str, u64)> {
    let entries = std::fs::read_dir(state).into_iter().flatten().flatten();
    let (mut state, mut flows) = (0, 0);
    for entry in entries {
        let Ok(metadata) = entry.metadata() else { continue };
        if entry.file_name() == super::STORE {
            flows += metadata.len()
        } else {
            state += metadata.len()
        }
    }
    let events = events.and_then(|path| std::fs::metadata(path).ok()).map(|file| file.len());
    [("state", Some(state)), ("flows", Some(flows)), ("events", events)]
        .into_iter()
        .filter_map(|(store, size)| Some((store, size?)))
        .collect()
}

/// Second field of `/proc/self/statm` (proc(5)), in pages.
fn resident_bytes() -> Option<i64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: i64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(i64::try_from(rustix::param::page_size()).ok()?)
}
