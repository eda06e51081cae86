//! Answers about groups of hosts and addresses as text: "web[user=www-data] -> db : tcp/5432".

use policy::{
    Checked,
    analysis::{Basis, Connection, Decider, Group, GroupFlows, Processes, Question, Relation},
};
use serde_json::{Value, json};

use crate::documents::Documents;

/// Which verdict a question is about, as it is asked on command lines.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Asked {
    /// Answer as if the rules in audit were enforced, too
    #[arg(long)]
    would: bool,
}

impl Asked {
    pub(crate) fn basis(self) -> Basis {
        if self.would { Basis::Would } else { Basis::Enforced }
    }

    /// The question about what `documents` say.
    pub(crate) fn question(self, documents: &Documents) -> Question<'_> {
        let Documents { inventory, checked: _, now } = documents;
        Question { inventory, now: *now, basis: self.basis() }
    }
}

/// Members of a group that are listed in text; JSON has all of them.
const LISTED_MAX: usize = 8;

/// "web -> db : tcp/5432"
pub(crate) fn flows(flows: &GroupFlows, groups: &[Group]) -> String {
    let from = end(groups, flows.from, &flows.from_processes);
    let to = end(groups, flows.to, &flows.to_processes);
    format!("{from} -> {to} : {}{}", flows.services.join(", "), related(flows.relation))
}

/// One end with the processes that are meant there.
pub(crate) fn end(groups: &[Group], at: usize, processes: &Processes) -> String {
    let name = groups.get(at).map_or("?", |group| group.name.as_str());
    // A list before a bracket or an arrow would read as one thing.
    let name = if name.contains(',') { format!("({name})") } else { name.to_owned() };
    match processes {
        Processes::Any => name,
        Processes::Only(list) => format!("{name}{}", list.join(" or ")),
        Processes::AllBut(list) => format!("{name}[all but {}]", list.join(" and ")),
    }
}

/// What is said of flows that are not between two hosts.
pub(crate) fn related(relation: Relation) -> &'static str {
    match relation {
        Relation::Between => "",
        Relation::Itself => "  (each host to itself)",
        Relation::Loopback => "  (over loopback)",
    }
}

/// "10.0.1.11 -> 10.0.3.11 : tcp/5432", a connection that can be tried.
pub(crate) fn example(connection: &Connection) -> String {
    let Connection { from_host, from_address, to_host, to_address, protocol, port } = connection;
    let side = |host: &Option<String>, address: Option<&String>| match (host, address) {
        (Some(host), Some(address)) => format!("{host} ({address})"),
        (Some(host), None) => host.clone(),
        (None, Some(address)) => address.clone(),
        (None, None) => "any address".to_owned(),
    };
    let service = match (protocol, port) {
        (6, port) => format!("tcp/{port}"),
        (17, port) => format!("udp/{port}"),
        (protocol, _) => format!("protocol {protocol}"),
    };
    format!(
        "{} -> {} : {service}",
        side(from_host, from_address.as_ref()),
        side(to_host, Some(to_address))
    )
}

/// Who is in the groups that answers name, where the name does not say it already.
pub(crate) fn legend(groups: &[Group], used: impl IntoIterator<Item = usize>) -> String {
    let mut used: Vec<usize> = used.into_iter().collect();
    used.sort_unstable();
    used.dedup();
    let mut out = String::new();
    for group in used.into_iter().filter_map(|at| groups.get(at)) {
        let members = members(group);
        if !members.is_empty() && members != group.name {
            out.push_str(&format!("  {} = {members}\n", group.name));
        }
    }
    if out.is_empty() { out } else { format!("where\n{out}") }
}

fn members(group: &Group) -> String {
    let mut all: Vec<String> = group.hosts.clone();
    for part in &group.parts {
        all.push(format!("{} at {}", part.hosts.join(", "), part.addresses.join(", ")));
    }
    all.extend(group.outside.iter().map(|addresses| format!("{addresses} outside")));
    let more = all.len().saturating_sub(LISTED_MAX);
    all.truncate(LISTED_MAX);
    let mut text = all.join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

/// A line about hosts that could not be judged; empty if there are none.
pub(crate) fn unplaced(hosts: &[String]) -> String {
    if hosts.is_empty() {
        return String::new();
    }
    format!("note: without addresses, so not judged: {}\n", hosts.join(", "))
}

/// `rule` (file:line)
pub(crate) fn named(decider: &Decider, checked: &Checked) -> String {
    match place(decider, checked) {
        Some((file, line)) => format!("{} ({file}:{line})", decider.id),
        None => decider.id.clone(),
    }
}

/// A decider with the file and line where it is stated.
pub(crate) fn decider_json(decider: &Decider, checked: &Checked) -> Value {
    let place = place(decider, checked);
    json!({
        "rule": decider.id,
        "text": decider.text,
        "file": place.as_ref().map(|(file, _)| file),
        "line": place.as_ref().map(|(_, line)| line),
    })
}

fn place(decider: &Decider, checked: &Checked) -> Option<(String, u32)> {
    let stated = decider.stated?;
    let (file, _) = checked.sources().get(stated.source)?;
    Some((file.clone(), checked.position(stated.source, stated.span)?.line))
}
