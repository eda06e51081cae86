//! A fleet with real sockets: a change for everybody, a change for some, a storm.

use anyhow::{Result, ensure};
use testbed::Host;

use super::Tools;
use super::figures::Figures;
use super::own::{Fleet, ROLES, now_us};
use super::processes::{processor_s, resident_kib};
use crate::step::{announce, timed};

/// Changes before those that are measured.
const FIRST_CHANGES: u32 = 1;
/// Rules of one role that are changed, one after the other.
const EDITS: u32 = 3;
/// Whom nothing concerns keeps what it has for so many versions (`STEPS_MAX` of the controller): the next one after them
/// is told to everybody.
const STEPS: u64 = 8;

/// What the expectations are, in milliseconds, seconds and hosts.
const P50_MS: f64 = 300.0;
const P99_MS: f64 = 1_000.0;
const STORM_S: f64 = 20.0;

/// Measures it.
pub(super) fn measure(
    tools: &Tools,
    agents: u32,
    changes: u32,
    storms: u32,
    figures: &mut Figures,
) -> Result<()> {
    let host = Host::new();
    let mut fleet = timed(&format!("enrol {agents} hosts, start the servers"), || {
        Fleet::begin(tools, &host, agents, None)
    })?;
    let part = figures.part(&format!("{agents} hosts"));
    part.one("making certificates", "s", fleet.enrolled_s[0]);
    part.one("writing their records", "s", fleet.enrolled_s[1]);
    part.one("relays", "", if fleet.places.len() > 1 { fleet.places.len() as f64 } else { 0.0 });
    let servers = fleet.pids();
    let alone = resident_kib(&servers)?;
    let begun = processor_s(&servers)?;
    let (mut crowd, seconds) = timed("all connect", || fleet.gather(agents))?;
    let each = f64::from(agents);
    part.one("all connect, full handshakes", "s", seconds);
    part.one("processor, one connection", "us", (processor_s(&servers)? - begun) * 1e6 / each);
    let waiting = crowd.pids();
    let mut figure = [const { Vec::new() }; 6];
    let [p50, p99, slowest, known, ours, theirs] = &mut figure;
    let signed =
        (0..FIRST_CHANGES + changes).map(|_| fleet.sign("")).collect::<Result<Vec<_>>>()?;
    for (number, signed) in (0..).zip(&signed) {
        let (before, theirs_before) = (processor_s(&servers)?, processor_s(&waiting)?);
        crowd.tell("expect");
        let since = fleet.apply(signed)?;
        let update = crowd.update()?;
        fleet.realised(agents)?;
        let until = now_us();
        if number < FIRST_CHANGES {
            continue;
        }
        p50.push(update.ms(since, 0.5));
        p99.push(update.ms(since, 0.99));
        slowest.push(update.ms(since, 1.0));
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        known.push((until - since) as f64 / 1e3);
        ours.push((processor_s(&servers)? - before) * 1e6 / each);
        theirs.push((processor_s(&waiting)? - theirs_before) * 1e6 / each);
    }
    part.expected("from apply to the host's acknowledgement, p50", "ms", p50, P50_MS);
    part.expected("from apply to the host's acknowledgement, p99", "ms", p99, P99_MS);
    part.all("the slowest host", "ms", slowest);
    part.all("until the controller knows of all", "ms", known);
    part.all("servers' processor, one host's change", "us", ours);
    part.all("crowd's processor, one host's change", "us", theirs);
    part.one("servers' memory, one host", "KiB", (resident_kib(&servers)? - alone) / each);
    // None of the edits is to be the one that everybody is told.
    while STEPS - u64::from(EDITS) <= (fleet.version() - 1) % STEPS {
        let signed = fleet.sign("")?;
        crowd.tell("expect");
        fleet.apply(&signed)?;
        crowd.update()?;
        fleet.realised(agents)?;
    }
    let base = fleet.version();
    for edit in 0..EDITS {
        let role = 7 + edit * 11;
        let more = format!("allow role=r{role} -> 198.51.100.0/24 : tcp/{}\n", 443 + edit);
        let signed = fleet.sign_edit(base, &more)?;
        // Of the rule that goes, and of the one that comes.
        let selected = |role: u32| (agents + ROLES - 1 - role % ROLES) / ROLES;
        let gone = edit.checked_sub(1).map_or(0, |before| selected(7 + before * 11));
        let before = fleet.count("fwnet_controller_targets_sent_total")?;
        crowd.counts()?;
        fleet.apply(&signed)?;
        fleet.realised(agents)?;
        let found = crowd.counts()?.updates;
        let sent = fleet.count("fwnet_controller_targets_sent_total")? - before;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let found = found as f64;
        ensure!(found <= sent, "{found} hosts took what was sent to {sent}");
        let what = format!("hosts told of edit {} of a rule", edit + 1);
        part.exact(&what, "", f64::from(selected(role) + gone), sent.max(found));
    }
    let (mut back, mut full, mut again) = (Vec::new(), Vec::new(), Vec::new());
    for number in 1..=storms {
        let (seconds, counts) = timed(&format!("storm {number} of {storms}"), || crowd.storm())?;
        announce(&format!("{seconds:.1} s, {counts:?}"));
        fleet.realised(agents)?;
        back.push(seconds);
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        {
            full.push(counts.served.saturating_sub(counts.resumed) as f64);
            again.push((counts.later + counts.ended) as f64 / each);
        }
    }
    if storms == 0 {
        return Ok(());
    }
    part.expected("a storm: until all are served again", "s", &back, STORM_S);
    part.all("a storm: full handshakes", "", &full);
    part.all("a storm: attempts in vain, of one host", "", &again);
    Ok(())
}
