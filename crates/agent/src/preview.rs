//! Who would newly be denied if one image replaced another: live sockets and recorded flows, grouped by what a person
//! would ask about them. Pure.

use std::collections::BTreeMap;

use serde::Serialize;
use verdict::{Address, Direction, Line, Protocol, RuleNumber};

use crate::connections::{Case, Connections, Judged, Scope};

/// Rows of one preview; what is beyond them is counted.
pub const ROWS_MAX: usize = 1_000;

/// Something that was seen on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Who does it: an executable, or the name of a process; empty where that is not known.
    pub process: String,
    /// What rules are asked about it.
    pub case: Case,
    /// How often.
    pub times: Times,
}

/// How often something was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Times {
    /// Sockets that exist now.
    pub live: u64,
    /// Attempts that were recorded.
    pub recorded: u64,
}

impl Times {
    fn add(&mut self, other: Self) {
        self.live = self.live.saturating_add(other.live);
        self.recorded = self.recorded.saturating_add(other.recorded);
    }
}

/// Connections of one kind that would newly be denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Who does it; empty where that is not known.
    pub process: String,
    /// Which way.
    pub direction: Direction,
    /// With whom; `None` where somebody waits for anybody.
    pub peer: Option<Address>,
    /// The protocol of the service.
    pub protocol: Protocol,
    /// The server's port; 0 where the protocol has none.
    pub port: u16,
    /// The rule that would deny it, in the new image.
    pub rule: RuleNumber,
    /// How often.
    pub times: Times,
}

/// What a new image changes for what was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preview {
    /// What would newly be denied, the most frequent first.
    pub rows: Vec<Row>,
    /// Rows that are left out.
    pub left_out: usize,
    /// How often all of them were seen, those that are left out among them.
    pub denied: Times,
    /// How often anything was seen.
    pub seen: Times,
}

/// Compares what `old` and `new` say of everything that was seen; without an old image everything was allowed.
pub fn preview(
    old: Option<&[Line]>,
    new: &[Line],
    seen: impl IntoIterator<Item = Seen>,
) -> Preview {
    type Key = (String, Direction, Option<Address>, Protocol, u16, RuleNumber);
    let mut rows: BTreeMap<Key, Times> = BTreeMap::new();
    let mut preview = Preview::default();
    for Seen { process, case, times } in seen {
        preview.seen.add(times);
        let Some(Judged { direction, judgement }) = case.turned(old, new) else { continue };
        preview.denied.add(times);
        let flow = case.flow();
        let flow = verdict::Flow { direction, ..*flow };
        let peer = match case {
            Case::Made(_) | Case::Either(..) => Some(flow.remote.address),
            Case::Claim(_) => None,
        };
        let key = (process, direction, peer, flow.protocol, flow.service_port(), judgement.rule);
        rows.entry(key).or_default().add(times);
    }
    preview.rows = rows
        .into_iter()
        .map(|((process, direction, peer, protocol, port, rule), times)| Row {
            process,
            direction,
            peer,
            protocol,
            port,
            rule,
            times,
        })
        .collect();
    // Stable, so rows that are equally frequent stay in the order of their keys.
    preview
        .rows
        .sort_by_key(|row| std::cmp::Reverse(row.times.live.saturating_add(row.times.recorded)));
    preview.left_out = preview.rows.len().saturating_sub(ROWS_MAX);
    preview.rows.truncate(ROWS_MAX);
    preview
}

impl Connections {
    /// The sockets that are judged in `scope`, as a preview takes them.
    pub fn seen<'a>(&'a self, scope: &'a Scope) -> impl Iterator<Item = Seen> + 'a {
        self.list.iter().filter_map(|connection| {
            let case = scope.case(self, connection)?;
            let process = self.process(connection).map_or_else(String::new, |process| {
                process.exe.clone().unwrap_or_else(|| process.name.clone())
            });
            Some(Seen { process, case, times: Times { live: 1, recorded: 0 } })
        })
    }
}

#[cfg(test)]
mod tests;
