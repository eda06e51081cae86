//! The figures of an agent, scraped as Prometheus would, and held to the rules of OpenMetrics 1.0.

use std::{collections::BTreeMap, fs};

use testbed::wait_until;

use crate::{
    fixture::Bed,
    shared::{DEADLINE, EACCES, connect_errno, host, on},
};

/// One scrape, by the name and labels of each sample.
#[derive(Debug, Default)]
struct Figures {
    samples: BTreeMap<String, f64>,
    kinds: BTreeMap<String, String>,
    text: String,
}

/// What a family's samples may be called after its name, by its kind.
fn suffixes(kind: &str) -> &'static [&'static str] {
    match kind {
        "counter" => &["_total", "_created"],
        "gauge" => &[""],
        "info" => &["_info"],
        "histogram" => &["_bucket", "_sum", "_count", "_created"],
        other => panic!("a figure of kind {other}"),
    }
}

fn is_name(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(|first| first.is_ascii_lowercase())
        && letters
            .all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_')
}

/// The labels between braces, which are quoted.
fn labels(mut text: &str) -> Vec<(&str, String)> {
    let mut labels = Vec::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"").unwrap();
        assert!(is_name(name), "{name}");
        let mut value = String::new();
        let mut letters = rest.char_indices();
        let end = loop {
            match letters.next().unwrap() {
                (at, '"') => break at,
                (_, '\\') => value.push(letters.next().unwrap().1),
                (_, letter) => value.push(letter),
            }
        };
        labels.push((name, value));
        let after = &rest[end + 1..];
        text = after.strip_prefix(',').unwrap_or(after);
    }
    labels
}

impl Figures {
    #[track_caller]
    fn of(bed: &Bed) -> Self {
        let text = bed.get("/metrics");
        let (body, nothing) = text.split_once("# EOF\n").expect("an end");
        assert_eq!(nothing, "");
        let mut figures = Self::default();
        let mut family = String::new();
        for line in body.lines() {
            if let Some(rest) = line.strip_prefix("# ") {
                let (word, rest) = rest.split_once(' ').unwrap();
                let (name, said) = rest.split_once(' ').unwrap();
                match word {
                    "HELP" => {
                        assert!(is_name(name) && name.starts_with("fwnet_agent_"), "{line}");
                        assert!(!figures.kinds.contains_key(name), "{name} is told twice");
                        assert!(said.ends_with('.') && said.len() > 8, "{line}");
                        name.clone_into(&mut family);
                    }
                    "TYPE" => {
                        assert_eq!(name, family);
                        let _new = suffixes(said);
                        figures.kinds.insert(name.to_owned(), said.to_owned());
                    }
                    "UNIT" => {
                        assert!(matches!(said, "seconds" | "bytes"), "a base unit: {line}");
                        assert!(name == family && name.ends_with(&format!("_{said}")), "{line}");
                    }
                    other => panic!("{other}: {line}"),
                }
                continue;
            }
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let (name, inside) = match sample.split_once('{') {
                Some((name, rest)) => (name, rest.strip_suffix('}').unwrap()),
                None => (sample, ""),
            };
            let _labels = labels(inside);
            let kind = &figures.kinds[&family];
            let suffix = name.strip_prefix(family.as_str()).unwrap_or_else(|| panic!("{line}"));
            assert!(suffixes(kind).contains(&suffix), "a {kind} has no {suffix}: {line}");
            let value: f64 = value.parse().unwrap();
            assert!(kind == "gauge" || value >= 0.0, "{line}");
            let before = figures.samples.insert(sample.to_owned(), value);
            assert_eq!(before, None, "{sample} is told twice");
        }
        figures.text = text;
        figures.check_histograms();
        figures
    }

    /// Buckets grow, and the last one has everything.
    fn check_histograms(&self) {
        for (name, _) in self.kinds.iter().filter(|(_, kind)| *kind == "histogram") {
            let prefix = format!("{name}_bucket{{");
            let mut buckets: Vec<(f64, f64)> = self
                .samples
                .iter()
                .filter_map(|(sample, value)| Some((sample.strip_prefix(&prefix)?, *value)))
                .map(|(inside, value)| {
                    let le = labels(inside.strip_suffix('}').unwrap());
                    let bound = &le.iter().find(|(name, _)| *name == "le").unwrap().1;
                    (bound.parse().unwrap(), value)
                })
                .collect();
            buckets.sort_by(|(one, _), (other, _)| one.total_cmp(other));
            assert!(buckets.len() > 2 && buckets.iter().map(|(_, count)| count).is_sorted());
            let (last, all) = buckets.last().unwrap();
            assert_eq!((last.is_infinite(), *all), (true, self.at(&format!("{name}_count"))));
        }
    }

    #[track_caller]
    fn at(&self, sample: &str) -> f64 {
        let wanted = format!("fwnet_agent_{}", sample.trim_start_matches("fwnet_agent_"));
        *self.samples.get(&wanted).unwrap_or_else(|| panic!("{wanted} is not in\n{}", self.text))
    }
}

#[test]
fn what_the_agent_did_is_in_its_figures() {
    let host = host();
    let bed = Bed::new(&host);
    let events = bed.path("events.json");
    let first = bed.file("first.fwnet", "deny any -> 127.0.0.2\n");
    bed.up(&["--policy", &first, "--events-file", events.to_str().unwrap()]);
    let before = Figures::of(&bed);
    for (sample, wanted) in [
        ("applies_total{result=\"applied\"}", 0.0),
        ("applies_total{result=\"refused\"}", 0.0),
        ("applies_total{result=\"failed\"}", 0.0),
        ("apply_duration_seconds_count", 0.0),
        ("confirmations_total", 0.0),
        ("rollbacks_total{cause=\"asked\"}", 0.0),
        ("rollbacks_total{cause=\"unconfirmed\"}", 0.0),
        ("revoked_sockets_total{kind=\"connection\"}", 0.0),
        ("revoke_failures_total", 0.0),
        ("events_lost_total{stage=\"follower\"}", 0.0),
        ("store_flows", 0.0),
    ] {
        assert_eq!(before.at(sample), wanted, "{sample}");
    }
    let second = bed.file("second.fwnet", "deny any -> 127.0.0.3\n");
    let wrong = bed.file("wrong.fwnet", "deny any -> wbe : tcp/22\n");
    let failing = bed.file("fails.fwnet", "test deny me -> 127.0.0.9 : tcp/22\n");
    bed.done(&["apply", "--dry-run", &second]);
    bed.done(&["apply", "--confirm", "1h", &second]);
    bed.refused(&["apply", &second], 1);
    bed.done(&["confirm"]);
    bed.refused(&["apply", &wrong], 2);
    bed.refused(&["apply", &failing], 1);
    bed.done(&["apply", "--confirm", "1s", &first]);
    wait_until(DEADLINE, "the end of the trial", || {
        Figures::of(&bed).at("rollbacks_total{cause=\"unconfirmed\"}") == 1.0
    });
    bed.done(&["apply", &first, "--existing", "revoke"]);
    bed.done(&["rollback"]);
    on(&host, || assert_eq!(connect_errno("127.0.0.3:20000"), Some(EACCES)));
    // The agent goes on writing to the file: a figure is compared with what is there at both sides of it.
    let length = || fs::metadata(&events).map_or(0, |file| file.len());
    let mut after = Figures::of(&bed);
    wait_until(DEADLINE, "the connect in the figures, and the file's length", || {
        let written = length();
        after = Figures::of(&bed);
        let counted = after.at("store_bytes{store=\"events\"}") == written as f64;
        let judged = after.at("connections_total{direction=\"out\",verdict=\"denied\"}") == 1.0;
        counted && judged && written > 0 && written == length()
    });
    for (sample, wanted) in [
        ("applies_total{result=\"applied\"}", 3.0),
        ("confirmations_total", 1.0),
        ("rollbacks_total{cause=\"asked\"}", 1.0),
        ("rollbacks_total{cause=\"unconfirmed\"}", 1.0),
    ] {
        assert_eq!(after.at(sample), wanted, "{sample}\n{}", after.text);
    }
    let refused = after.at("applies_total{result=\"refused\"}");
    assert!(refused >= 1.0, "{}", after.text);
    assert_eq!(after.at("apply_duration_seconds_count"), refused + 3.0);
    assert!(after.at("apply_duration_seconds_sum") > 0.0);
    let swaps = |figures: &Figures| figures.at("swap_duration_seconds_count");
    assert!(swaps(&after) >= swaps(&before) + 4.0, "{}", after.text);
    assert!(after.at("store_bytes{store=\"state\"}") > 0.0);
    assert!(after.at("store_bytes{store=\"flows\"}") > 0.0);
}

/// `kernel.bpf_stats_enabled` for as long as this lives.
struct Stats(String);

const STATS: &str = "/proc/sys/kernel/bpf_stats_enabled";

impl Stats {
    fn set(value: &str) -> Self {
        let before = fs::read_to_string(STATS).unwrap();
        fs::write(STATS, value).unwrap();
        Self(before)
    }
}

impl Drop for Stats {
    fn drop(&mut self) {
        let _restored = fs::write(STATS, &self.0);
    }
}

#[test]
fn runs_of_the_programs_are_told_where_the_kernel_counts_them() {
    let host = host();
    let bed = Bed::new(&host);
    bed.up(&["--deny", "127.0.0.2"]);
    let connect = || on(&host, || assert_eq!(connect_errno("127.0.0.2:20000"), Some(EACCES)));
    let _off = Stats::set("0");
    connect();
    assert!(!Figures::of(&bed).text.contains("fwnet_agent_bpf_run"), "nobody counts them");
    let _on = Stats::set("1");
    for _ in 0..7 {
        connect();
    }
    let figures = Figures::of(&bed);
    assert_eq!(figures.at("bpf_runs_total{hook=\"cgroup/connect4\"}"), 7.0, "{}", figures.text);
    let seconds = figures.at("bpf_run_seconds_total{hook=\"cgroup/connect4\"}");
    assert!(seconds > 0.0 && seconds < 1.0, "{seconds}");
}
