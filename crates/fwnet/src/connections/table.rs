//! The sockets as a table for people: columns as wide as they need to be, empty columns left out.

use std::net::IpAddr;

use super::shown::{End, Report, Row};

/// What a column shows of a row.
type Column = (&'static str, fn(&Row) -> String);

const COLUMNS: [Column; 11] = [
    ("PROTO", |row| row.protocol.clone() + if row.mptcp { " (mptcp)" } else { "" }),
    ("STATE", state),
    ("WAY", |row| row.direction.clone().unwrap_or_else(|| "?".to_owned())),
    ("LOCAL", |row| spelled(&row.local)),
    ("PEER", |row| row.remote.as_ref().map_or_else(String::new, spelled)),
    ("PROCESS", process),
    ("USER", |row| row.user.name.clone().unwrap_or_else(|| row.user.id.to_string())),
    ("UNIT", |row| row.unit.clone().unwrap_or_default()),
    ("CONTAINER", container),
    ("NETNS", |row| row.namespace.name.clone()),
    ("FOUND", found),
];

/// Digits of a container's id that are shown, as its engine does.
const ID_DIGITS: usize = 12;

/// The table, a line for each row of `rows`, and a line that counts.
pub(crate) fn text(report: &Report, rows: &[&Row]) -> String {
    let one_place = rows.windows(2).all(|two| match two {
        [one, other] => one.namespace.inode == other.namespace.inode,
        _ => true,
    });
    let columns: Vec<(&str, Vec<String>)> = COLUMNS
        .iter()
        .filter(|(title, _)| !(one_place && *title == "NETNS"))
        .map(|(title, cell)| (*title, rows.iter().map(|row| printable(&cell(row))).collect()))
        .filter(|(_, cells): &(_, Vec<String>)| cells.iter().any(|cell| !cell.is_empty()))
        .collect();
    let widths: Vec<usize> = columns
        .iter()
        .map(|(title, cells)| {
            cells.iter().map(|cell| cell.chars().count()).chain([title.len()]).max().unwrap_or(0)
        })
        .collect();
    let mut out = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (cell, width) in cells.zip(&widths) {
            text.push_str(cell);
            let blanks = width.saturating_sub(cell.chars().count()) + 2;
            text.extend(std::iter::repeat_n(' ', blanks));
        }
        out.push_str(text.trim_end());
        out.push('\n');
    };
    if !columns.is_empty() {
        line(&mut columns.iter().map(|(title, _)| *title));
    }
    for index in 0..rows.len() {
        line(&mut columns.iter().map(|(_, cells)| cells.get(index).map_or("", String::as_str)));
    }
    out.push_str(&summary(report));
    out
}

fn summary(report: &Report) -> String {
    let counts = &report.counts;
    let mut text = match counts.sockets {
        1 => "1 socket".to_owned(),
        many => format!("{many} sockets"),
    };
    if counts.denied > 0 {
        text.push_str(&format!(", {} denied", counts.denied));
    }
    if counts.watched > 0 {
        text.push_str(&format!(", {} on the watch list", counts.watched));
    }
    if report.interrupted {
        text.push_str(" (interrupted: something may be missing)");
    }
    text + "\n"
}

fn state(row: &Row) -> String {
    match row.waiting {
        0 => row.state.clone(),
        waiting => format!("{} (+{waiting})", row.state),
    }
}

fn process(row: &Row) -> String {
    let Some(first) = row.processes.first() else { return "-".to_owned() };
    let more = match row.processes.len() - 1 {
        0 => String::new(),
        more => format!(" +{more}"),
    };
    format!("{}[{}]{more}", first.name, first.pid)
}

fn container(row: &Row) -> String {
    row.container.as_ref().map_or_else(String::new, |container| {
        let short: String = container.id.chars().take(ID_DIGITS).collect();
        let is_id = container.id.len() == 64;
        format!("{}:{}", container.runtime, if is_id { &short } else { &container.id })
    })
}

fn found(row: &Row) -> String {
    let mut found = Vec::new();
    if let Some(said) = row.verdict.as_ref().filter(|_| row.is_denied()) {
        let place = said.place.as_ref().map_or_else(String::new, |place| format!(" ({place})"));
        found.push(format!("denied by {}{place}", said.rule));
    }
    if let Some(watched) = &row.watched {
        let reason = if watched.reason.is_empty() { "no reason given" } else { &watched.reason };
        found.push(format!("{} port {}: {reason}", watched.end, watched.port));
    }
    found.join("; ")
}

fn spelled(end: &End) -> String {
    match end.address.parse() {
        Ok(IpAddr::V6(_)) => format!("[{}]:{}", end.address, end.port),
        _ => format!("{}:{}", end.address, end.port),
    }
}

/// A name that a stranger chose must not move the cursor.
fn printable(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter })
        .collect()
}
