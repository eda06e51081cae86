//! `fwnet doctor`: which hooks load here, which tier is active, and what is therefore not covered: the doors that none of
//! them closes, from the list that the matrix of kernels plays.

use std::{io::Write, process::ExitCode};

use clap::Args;
use doors::{DETOURS, Extent, Side};
use kernel::{CgroupTree, Probe, Scope, probe, require_privilege};
use serde_json::json;

use crate::cli::Output;

/// Command line of `fwnet doctor`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Show also where the kernel's structures have what the programs read
    #[arg(long)]
    fields: bool,
}

/// What no hook of any kernel covers, and no door: it is not a way out or in.
const NEVER: [&str; 1] = ["a root process that runs this program, or loads a module"];

/// Where user space has no cookie of a network namespace to tell the inbound programs.
const UNKNOWN_NAMESPACES: &str = "inbound, rules about the process of a listener hold for nobody, and a default deny refuses answers \
     to datagrams of unconnected sockets";

/// Exit code 0 where everything that is required works, 1 where something is missing.
pub(crate) fn run(typed: &Typed) -> anyhow::Result<ExitCode> {
    require_privilege("loading a program to see whether the kernel takes it")?;
    let tree = CgroupTree::mounted();
    let probe = probe()?;
    let works =
        tree.is_ok() && probe.hooks.iter().all(|(hook, result)| !hook.required || result.is_ok());
    let mount =
        tree.as_ref().map(|tree| tree.mount().display().to_string()).map_err(ToString::to_string);
    let text = match typed.output {
        Output::Text => text(&probe, &mount, works, typed.fields),
        Output::Json => format!("{}\n", document(&probe, &mount, works)),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(if works { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The hooks that work, by tier: those of every kernel, and security hooks besides.
fn tier(probe: &Probe, works: bool) -> Option<(&'static str, &'static str)> {
    let mut security = probe.hooks.iter().filter(|(hook, _)| hook.is_lsm());
    match (works, security.all(|(_, result)| result.is_ok())) {
        (false, _) => None,
        (true, false) => Some(("T0", "cgroup and sk_lookup hooks")),
        (true, true) => Some(("T1", "cgroup, sk_lookup and security hooks")),
    }
}

fn text(probe: &Probe, mount: &Result<String, String>, works: bool, fields: bool) -> String {
    let mut lines = vec![
        format!("kernel      {}", rustix::system::uname().release().to_string_lossy()),
        format!("cgroup v2   {}", mount.as_ref().unwrap_or_else(|error| error)),
        format!(
            "tier        {}",
            tier(probe, works).map_or("none".into(), |(name, hooks)| format!("{name} ({hooks})"))
        ),
        String::new(),
    ];
    for (hook, result) in &probe.hooks {
        let mark = match result {
            Ok(()) => "works".to_owned(),
            Err(error) => format!("MISSING: {error}"),
        };
        lines.push(format!("{:<28}{mark}\n{:<28}{}", hook.name, "", hook.covers));
    }
    lines.push(String::new());
    for (feature, has) in probe.features.list() {
        lines.push(format!("{} {feature}", if has { "yes" } else { "no " }));
    }
    if fields {
        lines.push("\nfields of the kernel's structures, by its BTF".into());
        lines.extend(probe.read_fields().map(|(field, offset)| {
            let at = offset.map_or("not as it is read".into(), |at| format!("at byte {at}"));
            format!("  {:<30}{at}", format!("{}.{}", field.structure, field.name))
        }));
    }
    lines.push("\nnot covered".into());
    lines.extend(uncovered(probe).map(|gap| format!("  - {gap}")));
    lines.push("\nopen to a peer that rules deny".into());
    lines.extend(open(probe).map(|open| match open.extent {
        Extent::Judged | Extent::Open => format!("  - {}: {}", open.name, open.note),
        Extent::Unjudged => {
            format!("  - {}: {}; closed where no rule allows its protocol", open.name, open.note)
        }
    }));
    lines.join("\n") + "\n"
}

fn document(probe: &Probe, mount: &Result<String, String>, works: bool) -> serde_json::Value {
    json!({
        "kernel": rustix::system::uname().release().to_string_lossy(),
        "cgroup2": mount.as_ref().ok(),
        "tier": tier(probe, works).map(|(name, _)| name),
        "hooks": probe.hooks.iter().map(|(hook, result)| json!({
            "name": hook.name,
            "scope": match hook.scope { Scope::Cgroup => "cgroup", Scope::Netns => "netns", Scope::Host => "host" },
            "required": hook.required,
            "works": result.is_ok(),
            "error": result.as_ref().err().map(ToString::to_string),
            "covers": hook.covers,
        })).collect::<Vec<_>>(),
        "features": probe.features.list().map(|(name, has)| json!({ "name": name, "works": has })).collect::<Vec<_>>(),
        "fields": probe.read_fields().map(|(field, offset)| json!({
            "structure": field.structure,
            "field": field.name,
            "offset": offset,
        })).collect::<Vec<_>>(),
        "not_covered": uncovered(probe).collect::<Vec<_>>(),
        "open": open(probe).map(|open| json!({
            "name": open.name,
            "side": open.side.to_string(),
            "note": open.note,
            "closed_by_protocol": open.extent == Extent::Unjudged,
        })).collect::<Vec<_>>(),
    })
}

fn uncovered(probe: &Probe) -> impl Iterator<Item = &'static str> + '_ {
    let missing =
        probe.hooks.iter().filter(|(_, result)| result.is_err()).map(|(hook, _)| hook.without);
    let unknown = if probe.tells_namespaces { None } else { Some(UNKNOWN_NAMESPACES) };
    missing.chain(unknown).chain(NEVER)
}

/// A door or a detour that no hook closes here.
struct Open {
    name: &'static str,
    side: Side,
    note: &'static str,
    extent: Extent,
}

/// What is open where the hooks that load are attached to the root of the cgroup tree and every network namespace.
fn open(probe: &Probe) -> impl Iterator<Item = Open> {
    // Nothing is attached where one of those is missing that are required.
    let complete = probe.hooks.iter().all(|(hook, result)| !hook.required || result.is_ok());
    let loaded = probe.hooks.iter().filter(|(_, result)| complete && result.is_ok());
    let loaded: Vec<_> = loaded.map(|(hook, _)| hook.name).collect();
    let release = doors::release();
    let of_doors = loaded.clone();
    let doors = doors::ALL.iter().map(move |door| {
        let extent = door.extent(&of_doors, release);
        Open { name: door.name, side: door.side(), note: door.note, extent }
    });
    let detours = DETOURS.iter().map(move |detour| {
        let extent = detour.extent(&loaded);
        Open { name: detour.name, side: detour.side, note: detour.note, extent }
    });
    doors.chain(detours).filter(|open| open.extent != Extent::Judged)
}
