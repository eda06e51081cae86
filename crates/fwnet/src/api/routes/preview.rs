//! What an apply would do to those who are connected, and to flows that were seen lately.

use std::{net::IpAddr, sync::Arc};

use agent::{
    edition::Written,
    flows::{Named, Record},
    preview::{self, Times, preview, recorded},
};
use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use kernel::Netns;
use policy::Facts;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use verdict::RuleNumber;

use crate::{
    agent::Core,
    connections::{
        Look, everywhere,
        shown::{named, protocol, way},
    },
    names::Names,
    orders::Ready,
    prefix::{canonical, standard},
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
}

/// What can be read beforehand: it takes longer than the core may wait.
#[derive(Debug, Default)]
pub(crate) struct Read {
    look: Look,
    namespaces: Vec<Netns>,
    recorded: preview::Preview,
}

impl Read {
    /// Reads the sockets of this machine, and what the candidate says of recorded flows. What cannot be read is not part
    /// of the preview.
    pub(crate) fn now(candidate: &Written, store: Option<&Arc<Store>>) -> Self {
        let namespaces = everywhere();
        let look = Look::at(&namespaces, &false.into());
        let records = store.map(|store| lately(store)).unwrap_or_default();
        let recorded = of_records(candidate, &records).unwrap_or_else(|error| {
            eprintln!("fwnet: recorded flows are not part of the preview: {error:#}");
            preview::Preview::default()
        });
        Self { look, namespaces, recorded }
    }

    /// What `new` would do, compared with what is in force.
    pub(crate) fn preview(self, core: &Core, new: &Ready) -> Preview {
        let scope = core.judged(&self.namespaces).scope();
        let id = |rule: RuleNumber| named(rule, &new.reasons).id;
        let old = Some(core.force.ready.image.lines());
        let seen = self.look.connections.seen(&scope);
        told(preview(old, new.image.lines(), &id, seen).and(self.recorded))
    }
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
fn of_records(candidate: &Written, records: &[Record]) -> anyhow::Result<preview::Preview> {
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
        ..Facts::new(&documents.inventory, &host, &named, documents.now)
    };
    let compiled = policy::compile(&documents.checked.policies, &facts)
        .context("compile the policy for recorded flows")?;
    let id = |rule| compiled.origin(rule).map_or_else(String::new, |origin| origin.id.clone());
    Ok(preview(None, compiled.image.lines(), &id, recorded(records)))
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
            let Row { process, direction, peer, service, rule, live, recorded } = row;
            let process = if process.is_empty() { "somebody" } else { process };
            let peer = peer.map_or_else(|| "anybody".to_owned(), |peer| peer.to_string());
            let to = if direction == "out" { "to" } else { "from" };
            let times = match (live, recorded) {
                (live, 0) => format!("{live} open"),
                (0, recorded) => format!("{recorded} recorded"),
                (live, recorded) => format!("{live} open, {recorded} recorded"),
            };
            let line =
                format!("  {process} {direction}: {service} {to} {peer}, {times}, by {rule}");
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
