//! What an apply would do to those who are connected, and to flows that were seen lately.

use std::{net::IpAddr, sync::Arc};

use agent::{
    connections::is_beyond_revoking,
    edition::Written,
    flows::{Named, Record},
    lists::Front,
    lockdown::is_failsafe,
    preview::{self, Times, preview, recorded},
};
use anyhow::Context;
use image::{Image, Rule, RuleSet};
use jiff::{SignedDuration, Timestamp};
use kernel::{Netns, Stamps, boottime};
use policy::Facts;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use verdict::{Direction, RuleNumber, Verdict};

use crate::{
    agent::Core,
    connections::{
        Look, everywhere,
        shown::{named, protocol, way},
    },
    legacy::Inbound,
    names::Names,
    orders::{self, Ready},
    prefix::{canonical, standard},
    revoke::Judged,
    rules,
    seeing::store::Store,
};

/// How far back flows count.
const LATELY: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Kinds of flows that are looked at.
const RECORDS_MAX: usize = 65_536;
/// Rows that are told; what is beyond them is counted.
const ROWS: usize = 100;
/// Records that are read at once.
const PAGE: usize = 256;

/// Who would newly be denied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Preview {
    /// Connections, listeners and flows that are alike, the most frequent first.
    pub(crate) rows: Vec<Row>,
    /// Rows that are left out.
    pub(crate) left_out: usize,
    /// Sockets that exist now and would be denied, all rows.
    pub(crate) live: u64,
    /// Flows of the last seven days that were allowed and would be denied, all rows.
    pub(crate) recorded: u64,
}

/// What is alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Row {
    /// Executable, or name of a process; empty where that is not known.
    pub(crate) process: String,
    /// `out` or `in`
    pub(crate) direction: String,
    /// The peer's address; null for a listener, and a socket that gets what comes.
    #[schema(value_type = Option<String>)]
    pub(crate) peer: Option<IpAddr>,
    /// The service: `tcp/25`, `icmp`.
    pub(crate) service: String,
    /// Id of the rule that would deny it.
    pub(crate) rule: String,
    /// Sockets that exist now.
    pub(crate) live: u64,
    /// Flows of the last seven days.
    pub(crate) recorded: u64,
    /// Whether the sockets stay also where they are to be revoked, because nothing ends sockets of this protocol.
    #[serde(default)]
    pub(crate) cannot_be_ended: bool,
}

/// What can be read beforehand: it takes longer than the core may wait.
#[derive(Debug, Default)]
pub(crate) struct Read {
    look: Look,
    namespaces: Vec<Netns>,
    records: Vec<Record>,
    recorded: preview::Preview,
}

impl Read {
    /// Reads the sockets of this machine, and what the candidate says of recorded flows. What cannot be read is not part
    /// of the preview.
    ///
    /// What `ahead` denies is denied already, whatever the candidate says.
    pub(crate) fn now(
        candidate: &Written,
        ahead: Ahead,
        store: Option<&Arc<Store>>,
        stamps: Option<&Stamps>,
    ) -> Self {
        let mut read = Self::of_flows(store, stamps);
        let recorded = of_records(candidate, ahead, &read.records);
        read.recorded = recorded.unwrap_or_else(without_records);
        read
    }

    /// Reads the sockets of this machine and the flows of lately.
    pub(crate) fn of_flows(store: Option<&Arc<Store>>, stamps: Option<&Stamps>) -> Self {
        let namespaces = everywhere();
        let look = Look::stamped(&namespaces, stamps, &false.into());
        let records = store.map(|store| lately(store)).unwrap_or_default();
        Self { look, namespaces, records, recorded: preview::Preview::default() }
    }

    /// Where sockets were looked for.
    pub(crate) fn namespaces(&self) -> &[Netns] {
        &self.namespaces
    }

    /// What other run-time lists would do, where the policy stays: `new` is behind `after`, `old` in force.
    pub(crate) fn of_lists(
        mut self,
        judged: &Judged,
        old: &Ready,
        new: &Ready,
        [before, after]: [Ahead; 2],
    ) -> Preview {
        self.recorded =
            lists_of_records(new, before, after, &self.records).unwrap_or_else(without_records);
        self.compared(judged, old, new)
    }

    /// What `new` would do, compared with what is in force.
    pub(crate) fn preview(self, core: &Core, new: &Ready) -> Preview {
        let judged = core.judged(&self.namespaces);
        self.compared(&judged, &core.force.ready, new)
    }

    fn compared(self, judged: &Judged, old: &Ready, new: &Ready) -> Preview {
        let scope = judged.scope();
        let id = |rule: RuleNumber| named(rule, &new.reasons).id;
        let seen = self.look.connections.seen(&scope);
        told(preview(Some(old.now()), new.now(), &id, seen).and(self.recorded))
    }
}

/// What stands in front of a policy, in the directions that are judged.
pub(crate) struct Ahead {
    /// The entries and lists.
    pub(crate) front: Front,
    /// The directions.
    pub(crate) inbound: Inbound,
}

impl Ahead {
    /// Puts it in front of rules; `ids` are theirs, by number.
    fn put(self, rules: &mut RuleSet, ids: &mut Vec<String>) {
        self.front.put(self.inbound.directions(), rules, ids, |rule| rule.id.clone());
    }

    /// The image of it alone, behind the failsafe set of a policy and before nothing: with the ids of its rules.
    fn alone(self, policy: &RuleSet) -> anyhow::Result<(Image, Vec<String>)> {
        let failsafe = policy.rules.iter().filter(|rule| is_failsafe(rule)).cloned();
        let defaults =
            [Direction::Out, Direction::In].map(|way| Rule::default(way, Verdict::Allow, LAST));
        let mut rules = RuleSet { rules: failsafe.chain(defaults).collect(), ..policy.clone() };
        let mut ids = rules.rules.iter().map(|rule| rule.id.clone()).collect();
        self.put(&mut rules, &mut ids);
        Ok((image::compile(&rules).context("compile the run-time lists")?, ids))
    }
}

/// A tier behind all others.
const LAST: u8 = 5;

fn without_records(error: anyhow::Error) -> preview::Preview {
    eprintln!("fwnet: recorded flows are not part of the preview: {error:#}");
    preview::Preview::default()
}

fn lists_of_records(
    new: &Ready,
    before: Ahead,
    after: Ahead,
    records: &[Record],
) -> anyhow::Result<preview::Preview> {
    if records.is_empty() {
        return Ok(preview::Preview::default());
    }
    let (old, _ids) = before.alone(&new.rules)?;
    let (image, ids) = after.alone(&new.rules)?;
    let id = |rule: RuleNumber| ids.get(usize::from(rule.0)).cloned().unwrap_or_default();
    let now_ns = boottime();
    Ok(preview(Some(old.at(now_ns)), image.at(now_ns), &id, recorded(records)))
}

fn lately(store: &Store) -> Vec<Record> {
    let since = Timestamp::now() - LATELY;
    let (mut records, mut after) = (Vec::new(), None);
    while records.len() < RECORDS_MAX {
        let Ok(page) = store.page(since, after, PAGE) else { break };
        let Some((last, _)) = page.last() else { break };
        after = Some(*last);
        records.extend(page.into_iter().map(|(_, record)| record));
    }
    records
}

/// Recorded flows have names and not the kernel's numbers, so the candidate is compiled for those names.
fn of_records(
    candidate: &Written,
    ahead: Ahead,
    records: &[Record],
) -> anyhow::Result<preview::Preview> {
    let Written::Documents { host, .. } = candidate else {
        return Ok(preview::Preview::default());
    };
    let checked = rules::checked(candidate, Timestamp::now())?;
    let Some(documents) = checked.filter(|_| !records.is_empty()) else {
        return Ok(preview::Preview::default());
    };
    let people = Names::here();
    let named = Named::new(records, &people);
    let mut addresses: Vec<_> =
        records.iter().filter_map(|record| record.kind.local).map(canonical).collect();
    addresses.sort_unstable();
    addresses.dedup();
    let host = documents.host(host.as_deref())?;
    let facts = Facts {
        addresses: &addresses,
        // What is in front of the policy ends by that clock.
        zero: orders::boot(),
        ..Facts::new(&documents.inventory, &host, &named, documents.now)
    };
    let compiled = policy::compile(&documents.checked.policies, &facts)
        .context("compile the policy for recorded flows")?;
    let mut ids: Vec<String> = compiled.origins.iter().map(|origin| origin.id.clone()).collect();
    if ahead.front.is_empty() {
        let id = |rule: RuleNumber| ids.get(usize::from(rule.0)).cloned().unwrap_or_default();
        return Ok(preview(None, compiled.image.at(boottime()), &id, recorded(records)));
    }
    let mut rules = compiled.rules;
    let again = Ahead { front: ahead.front.clone(), inbound: ahead.inbound };
    let (old, _ids) = again.alone(&rules)?;
    ahead.put(&mut rules, &mut ids);
    let image = image::compile(&rules).context("compile the run-time lists with the policy")?;
    let id = |rule: RuleNumber| ids.get(usize::from(rule.0)).cloned().unwrap_or_default();
    let now_ns = boottime();
    Ok(preview(Some(old.at(now_ns)), image.at(now_ns), &id, recorded(records)))
}

fn told(preview: preview::Preview) -> Preview {
    let preview::Preview { mut rows, left_out, denied, seen: _ } = preview;
    let left_out = left_out + rows.len().saturating_sub(ROWS);
    rows.truncate(ROWS);
    let Times { live, recorded } = denied;
    let row = |row: preview::Row| Row {
        process: row.process,
        direction: way(row.direction).to_owned(),
        peer: row.peer.map(standard),
        service: match (protocol(row.protocol), row.port) {
            (protocol, 0) => protocol,
            (protocol, port) => format!("{protocol}/{port}"),
        },
        rule: row.rule,
        live: row.times.live,
        recorded: row.times.recorded,
        cannot_be_ended: row.times.live > 0 && is_beyond_revoking(row.protocol),
    };
    Preview { rows: rows.into_iter().map(row).collect(), left_out, live, recorded }
}

impl Preview {
    /// For people, a line for each row; nothing where nobody is denied.
    pub(crate) fn text(&self) -> String {
        if self.live == 0 && self.recorded == 0 {
            return String::new();
        }
        let mut out = format!(
            "newly denied: {} open sockets, {} flows of the last seven days\n",
            self.live, self.recorded
        );
        for row in &self.rows {
            let Row { process, direction, peer, service, rule, live, recorded, cannot_be_ended } =
                row;
            let process = if process.is_empty() { "somebody" } else { process };
            let peer = peer.map_or_else(|| "anybody".to_owned(), |peer| peer.to_string());
            let to = if direction == "out" { "to" } else { "from" };
            let times = match (live, recorded) {
                (live, 0) => format!("{live} open"),
                (0, recorded) => format!("{recorded} recorded"),
                (live, recorded) => format!("{live} open, {recorded} recorded"),
            };
            let stays = if *cannot_be_ended { " (cannot be ended)" } else { "" };
            let line = format!(
                "  {process} {direction}: {service} {to} {peer}, {times}{stays}, by {rule}"
            );
            // What a process calls itself must not move the cursor.
            let printable = |letter: char| if letter.is_control() { '\u{fffd}' } else { letter };
            out.extend(line.chars().map(printable));
            out.push('\n');
        }
        if self.left_out > 0 {
            out.push_str(&format!("  and {} more kinds\n", self.left_out));
        }
        out
    }
}
