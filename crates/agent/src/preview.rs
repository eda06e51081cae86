//! Who would newly be denied if one image replaced another: live sockets and recorded flows, grouped by what a person
//! would ask about them. Pure.

use std::{cmp::Reverse, collections::BTreeMap};

use image::At;
use policy::syntax::Answer;
use serde::Serialize;
use verdict::{Address, Direction, Flow, Protocol, RuleNumber};

use crate::{
    connections::{Case, Connections, Judged, Scope},
    flows::{Named, Record},
};

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
    /// Id of the rule that would deny it.
    pub rule: String,
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

/// What is alike.
type Key = (String, Direction, Option<Address>, Protocol, u16, String);

/// Compares what `old` and `new` say, each at its moment, of everything that was seen; without an old image everything was
/// allowed. `name` gives the ids of the new image's rules.
pub fn preview(
    old: Option<At<'_>>,
    new: At<'_>,
    name: &dyn Fn(RuleNumber) -> String,
    seen: impl IntoIterator<Item = Seen>,
) -> Preview {
    let mut rows: BTreeMap<Key, Times> = BTreeMap::new();
    let mut preview = Preview::default();
    for Seen { process, case, times } in seen {
        preview.seen.add(times);
        let Some(Judged { direction, judgement }) = case.turned(old.as_ref(), &new) else {
            continue;
        };
        preview.denied.add(times);
        let flow = Flow { direction, ..*case.flow() };
        let peer = match case {
            Case::Made(_) | Case::Either(..) => Some(flow.remote.address),
            Case::Claim(_) => None,
        };
        let rule = name(judgement.rule);
        let key = (process, direction, peer, flow.protocol, flow.service_port(), rule);
        rows.entry(key).or_default().add(times);
    }
    preview.put(rows);
    preview
}

impl Preview {
    /// Both together. Rows that either has left out stay left out.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let mut rows: BTreeMap<Key, Times> = BTreeMap::new();
        let mut both = Self { left_out: self.left_out + other.left_out, ..Self::default() };
        for Self { rows: own, left_out: _, denied, seen } in [self, other] {
            both.denied.add(denied);
            both.seen.add(seen);
            for Row { process, direction, peer, protocol, port, rule, times } in own {
                rows.entry((process, direction, peer, protocol, port, rule))
                    .or_default()
                    .add(times);
            }
        }
        both.put(rows);
        both
    }

    fn put(&mut self, rows: BTreeMap<Key, Times>) {
        self.rows = rows
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
        self.rows.sort_by_key(|row| Reverse(row.times.live.saturating_add(row.times.recorded)));
        self.left_out += self.rows.len().saturating_sub(ROWS_MAX);
        self.rows.truncate(ROWS_MAX);
    }
}

/// Recorded flows that were allowed, as a preview takes them. The image must be compiled with [`Named`] identities of the
/// same records: they are kept by names, not by the kernel's numbers.
pub fn recorded(records: &[Record]) -> impl Iterator<Item = Seen> + '_ {
    let allowed = records.iter().filter(|record| record.kind.verdict == Answer::Allow);
    allowed.map(|record| {
        let process = &record.kind.process;
        Seen {
            process: process.exe.clone().unwrap_or_else(|| record.name.clone()),
            case: Case::Made(record.kind.flow(Named::subject(process))),
            times: Times { live: 0, recorded: record.count },
        }
    })
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
