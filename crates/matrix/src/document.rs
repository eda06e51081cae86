//! What the documentation says of doors, made of the list of doors and of the lines that are expected of each kernel.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use doors::Extent;
use kernel::Hook;

use crate::line::{Golden, Situation};
use crate::row::Row;
use crate::say;

/// Prints the tables, each behind a line that names it: `== NAME`.
pub(crate) fn run(golden: &Path) -> Result<ExitCode> {
    let kernels = Golden::every(golden)?;
    let mut rows: Vec<(String, Vec<Row>)> = Vec::new();
    for row in Row::all() {
        match rows.iter_mut().find(|(name, _)| *name == row.door()) {
            Some((_, rows)) => rows.push(row),
            None => rows.push((row.door().to_owned(), vec![row])),
        }
    }
    for (title, is_detour) in [("doors", false), ("detours", true)] {
        say(&format!("== {title}"))?;
        let releases: Vec<_> = kernels.iter().map(|(release, _)| release.as_str()).collect();
        say(&format!("| name | way | what happens | seen by | {} |", releases.join(" | ")))?;
        say(&format!("|---|---|---|---|{}", "---|".repeat(releases.len())))?;
        for (name, rows) in rows.iter().filter(|(_, rows)| rows[0].is_detour() == is_detour) {
            let cells: Vec<_> = kernels.iter().map(|(_, golden)| cell(rows, golden)).collect();
            let (way, note) = rows[0].told();
            let seen = seen(rows, &kernels);
            say(&format!("| `{name}` | {way} | {note} | {seen} | {} |", cells.join(" | ")))?;
        }
    }
    say("== kernels")?;
    say("| Linux | hooks in place | open to a peer that rules deny |")?;
    say("|---|---|---|")?;
    for (release, golden) in &kernels {
        let hooks = golden.hooks();
        let attached = match hooks.attached.as_slice() {
            [] => "none: nothing is enforced".to_owned(),
            hooks => hooks.iter().map(|hook| short(hook)).collect::<Vec<_>>().join(", "),
        };
        let mut open: Vec<String> = Vec::new();
        for (name, rows) in &rows {
            let is_open = |row: &Row| {
                let listed = hooks.open.contains(&row.name());
                let bare = golden.expected(&row.name(), Situation::Bare);
                listed && bare.is_none_or(|line| !line.is_absent())
            };
            if rows.iter().any(is_open) {
                open.push(format!("`{name}`"));
            }
        }
        let open = match hooks.attached.as_slice() {
            [] => "everything".to_owned(),
            _ => open.join(", "),
        };
        say(&format!("| {release} | {attached} | {open} |"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What one kernel does of a door under a denial: by each family, once where they are alike.
fn cell(rows: &[Row], golden: &Golden) -> String {
    let mut told: Vec<String> = Vec::new();
    for row in rows {
        let of = |situation| golden.expected(&row.name(), situation);
        let told_now = match (of(Situation::Bare), of(Situation::Denied)) {
            (Some(bare), _) if bare.is_absent() => "-".to_owned(),
            (_, Some(denied)) if denied.is_absent() => "-".to_owned(),
            (_, Some(denied)) if denied.is_through() => {
                let hooks: Vec<_> = golden.hooks().attached.iter().map(String::as_str).collect();
                match row.extent(&hooks, (u32::MAX, 0)) {
                    Extent::Unjudged => "open, or closed with its protocol".to_owned(),
                    Extent::Judged | Extent::Open => "**open**".to_owned(),
                }
            }
            (_, Some(denied)) if denied.peer == "-" => denied.local.clone(),
            (_, Some(denied)) if row.is_inward() => format!("peer: {}", denied.peer),
            (_, Some(denied)) => denied.local.clone(),
            (Some(bare), None) if bare.is_through() => "**open**".to_owned(),
            (_, None) => "-".to_owned(),
        };
        if !told.contains(&told_now) {
            told.push(told_now);
        }
    }
    told.join(" / ")
}

/// The hooks whose programs ran for it on the newest kernel that has the door, allowed or denied: this end's only.
fn seen(rows: &[Row], kernels: &[(String, Golden)]) -> String {
    let mut seen: Vec<&str> = Vec::new();
    for row in rows {
        let newest = kernels.iter().rev().find_map(|(_, golden)| {
            golden.expected(&row.name(), Situation::Denied).map(|_| golden)
        });
        for situation in [Situation::Allowed, Situation::Denied] {
            let line = newest.and_then(|golden| golden.expected(&row.name(), situation));
            seen.extend(line.iter().flat_map(|line| &line.seen).map(String::as_str));
        }
    }
    let theirs: &[&str] = if rows[0].is_inward() { &GOING_OUT } else { &COMING_IN };
    let known = Hook::ALL.iter().map(|hook| hook.name);
    let told = known
        .filter(|name| seen.contains(name) && !theirs.contains(name) && !BESIDES.contains(name));
    told.map(short).collect::<Vec<_>>().join(", ")
}

/// Hooks of the peer that connects, or is connected to.
const GOING_OUT: [&str; 5] = [
    "cgroup/connect4",
    "cgroup/connect6",
    "cgroup/sendmsg4",
    "cgroup/sendmsg6",
    "lsm/socket_connect",
];
const COMING_IN: [&str; 4] =
    ["sk_lookup", "lsm/socket_listen", "lsm/inet_conn_request", "lsm/socket_accept"];
/// They run for what the matrix itself does.
const BESIDES: [&str; 5] =
    ["cgroup/sock_release", "lsm/bpf", "lsm/bpf_map", "lsm/inode_unlink", "lsm/inode_rename"];

/// A hook's name as it fits into a table.
fn short(hook: &str) -> String {
    let plain = hook.trim_start_matches("cgroup/").trim_start_matches("tp_btf/");
    format!("`{plain}`")
}
