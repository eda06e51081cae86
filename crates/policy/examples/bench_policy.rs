//! Measures the policy compiler in a process of its own, for `cargo xtask bench policy`: prints one JSON document.
//!
//! `bench_policy RULES HOSTS ROUNDS`. The world is the same in every run: hosts with a role, an environment, a zone, a team
//! and a serial number that no rule speaks of; rules with one to three label tests at each end, one in fifty of them broad.

use std::{collections::BTreeMap, error::Error, fmt::Write as _, io::Write as _, time::Instant};

use policy::{
    Change, Checked, Compiler, Diagnostics, Enforcer, Facts, Host, Inventory, NoIdentities, Rule,
    Source, check, compile, parse,
};
use serde_json::{Value, json};
use verdict::Address;

/// The host that is compiled for.
const HOST: &str = "host-0";
const EDITS: usize = 2_000;

/// A small generator (Steele, Lea, Flood: splitmix64): the same world on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, count: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % count
    }
}

fn host(dice: &mut Dice, number: u32) -> Host {
    let mut labels = BTreeMap::new();
    for (key, values) in [("role", 100), ("env", 4), ("zone", 10), ("team", 200)] {
        labels.insert(key.to_owned(), format!("{key}-{}", dice.below(values)));
    }
    labels.insert("serial".to_owned(), format!("s{number}"));
    Host {
        id: format!("host-{number}"),
        names: Vec::new(),
        addresses: vec![Address::v4(0x0a00_0000 + number * 3)],
        labels,
    }
}

fn end(dice: &mut Dice) -> String {
    if dice.below(50) == 0 {
        return match dice.below(3) {
            0 => "any".to_owned(),
            1 => format!("env=env-{}", dice.below(4)),
            _ => format!("zone=zone-{}", dice.below(10)),
        };
    }
    let mut tests = vec![match dice.below(2) {
        0 => format!("role=role-{}", dice.below(100)),
        _ => format!("team=team-{}", dice.below(200)),
    }];
    if dice.below(2) == 0 {
        tests.push(format!("env=env-{}", dice.below(4)));
    }
    if dice.below(3) == 0 {
        tests.push(format!("zone=zone-{}", dice.below(10)));
    }
    tests.join(" & ")
}

fn rule(dice: &mut Dice) -> String {
    let effect = if dice.below(4) == 0 { "deny" } else { "allow" };
    let (from, to) = (end(dice), end(dice));
    let protocol = if dice.below(5) == 0 { "udp" } else { "tcp" };
    format!("{effect} {from} -> {to} : {protocol}/{}", 1 + dice.below(60) * 17)
}

fn parse_rule(text: &str) -> Result<Rule, Box<dyn Error>> {
    let parsed = parse(text.as_bytes(), 0, &mut Diagnostics::default());
    let rule = parsed.document.rules().next().cloned();
    rule.ok_or_else(|| format!("`{text}` is not a rule").into())
}

/// Median, least and greatest, in microseconds.
fn summary(mut seconds: Vec<f64>) -> Value {
    seconds.sort_by(f64::total_cmp);
    let micros = |at: usize| seconds.get(at).map_or(0.0, |second| (second * 1e7).round() / 10.0);
    json!({
        "count": seconds.len(),
        "median_us": micros(seconds.len() / 2),
        "min_us": micros(0),
        "max_us": micros(seconds.len().saturating_sub(1)),
    })
}

fn timed<T>(into: &mut Vec<f64>, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = work();
    into.push(start.elapsed().as_secs_f64());
    done
}

/// The most memory this process had, in KiB.
fn peak_memory_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn main() -> Result<(), Box<dyn Error>> {
    let numbers: Vec<u32> =
        std::env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    let &[rules, hosts, rounds] = numbers.as_slice() else {
        return Err("bench_policy RULES HOSTS ROUNDS".into());
    };
    let mut dice = Dice(2015);
    let mut times = BTreeMap::<&str, Vec<f64>>::new();
    let mut inventory_times = Vec::new();
    let listed: Vec<Host> = (0..hosts).map(|number| host(&mut dice, number)).collect();
    let inventory = timed(&mut inventory_times, || Inventory::new(listed))
        .map_err(|faults| format!("{} faults in the inventory", faults.len()))?;
    times.insert("index the inventory", inventory_times);
    let mut text = String::from("default deny in\n");
    for _ in 0..rules {
        writeln!(text, "{}", rule(&mut dice))?;
    }
    let now = "2027-01-01T00:00:00Z".parse()?;
    let facts = Facts::new(&inventory, HOST, &NoIdentities, now);
    let sources = [Source { name: "bench.fwnet", bytes: text.as_bytes() }];
    let (mut parsing, mut checking, mut compiling, mut full) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut last: Option<(Checked, policy::Compiled)> = None;
    for _ in 0..rounds {
        drop(last.take());
        timed(&mut parsing, || parse(text.as_bytes(), 0, &mut Diagnostics::default()));
        let checked = timed(&mut checking, || check(&sources, Some(&inventory), now));
        if checked.diagnostics.has_errors() {
            return Err(checked.render().into());
        }
        let compiled = timed(&mut compiling, || compile(&checked.policies, &facts))?;
        full.extend(checking.last().zip(compiling.last()).map(|(check, compile)| check + compile));
        last = Some((checked, compiled));
    }
    times.extend([
        ("parse", parsing),
        ("parse + check", checking),
        ("compile", compiling),
        ("full", full),
    ]);
    let (checked, compiled) = last.ok_or("at least one round")?;
    let memory_full = peak_memory_kib();
    let sizes = json!({
        "rules": rules,
        "hosts": hosts,
        "document_bytes": text.len(),
        "rules_of_the_host": compiled.rules.rules.len(),
        "address_sets": compiled.rules.sets.len(),
        "addresses_in_sets": compiled.rules.sets.iter().map(|set| set.ranges().count()).sum::<usize>(),
        "image_bytes": compiled.image.line_count() * 64,
    });
    drop(compiled);

    let enforcer = Enforcer {
        host: HOST.to_owned(),
        addresses: Vec::new(),
        identities: Box::new(NoIdentities),
    };
    let mut compiler =
        Compiler::new(checked.policies.clone(), inventory.clone(), enforcer, now, 0)?;
    let (mut edits, mut edits_here, mut edits_elsewhere) = (Vec::new(), Vec::new(), Vec::new());
    let mut images = Vec::new();
    for _ in 0..EDITS {
        let place = usize::try_from(dice.below(u64::from(rules)))?;
        let line = rule(&mut dice);
        let mut took = Vec::new();
        let change = timed(&mut took, || -> Result<Change, Box<dyn Error>> {
            Ok(compiler.replace_rule(0, place, parse_rule(&line)?)?)
        })?;
        edits.extend(&took);
        if change == Change::None {
            edits_elsewhere.extend(took);
        } else {
            edits_here.extend(took);
            timed(&mut images, || compiler.compiled().map(|_| ()))?;
        }
    }
    let (mut labels, mut labels_here, mut labels_elsewhere) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..EDITS {
        let number = 1 + u32::try_from(dice.below(u64::from(hosts) - 1))?;
        let mut changed = compiler.inventory().hosts()[usize::try_from(number)?].clone();
        changed.labels.insert("role".to_owned(), format!("role-{}", dice.below(100)));
        let mut took = Vec::new();
        let change = timed(&mut took, || compiler.replace_host(changed))
            .map_err(|faults| format!("{} faults", faults.len()))?;
        labels.extend(&took);
        if change == Change::None { &mut labels_elsewhere } else { &mut labels_here }.extend(took);
    }
    // The last word: all those changes together give what a compilation from scratch gives.
    let fresh = compile(compiler.policies(), &compiler.facts())?;
    if *compiler.compiled()? != fresh {
        return Err("the incremental compiler went astray".into());
    }
    times.extend([
        ("edit a rule", edits),
        ("edit a rule that concerns the host", edits_here),
        ("edit a rule that does not", edits_elsewhere),
        ("image after such an edit", images),
        ("relabel a host", labels),
        ("relabel a host that is a peer", labels_here),
        ("relabel a host that is not", labels_elsewhere),
    ]);
    let times: BTreeMap<&str, Value> =
        times.into_iter().map(|(what, times)| (what, summary(times))).collect();
    let report = json!({
        "sizes": sizes,
        "times": times,
        "peak_memory_kib": { "full": memory_full, "incremental": peak_memory_kib() },
    });
    writeln!(std::io::stdout(), "{report}")?;
    Ok(())
}
