//! What a switch does not carry: pairs of ports, in nftables of the switch's namespace (nft(8), family bridge).

use super::port;
use crate::Namespace;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};

/// Which hosts do not reach which: from, to.
#[derive(Debug, Default)]
pub(super) struct Cuts {
    pairs: Mutex<BTreeSet<(u8, u8)>>,
}

impl Cuts {
    #[track_caller]
    pub(super) fn cut(&self, switch: &Namespace, some: &[u8], others: &[u8]) {
        self.change(switch, |pairs| pairs.extend(both_ways(some, others)));
    }

    #[track_caller]
    pub(super) fn heal(&self, switch: &Namespace, some: &[u8], others: &[u8]) {
        self.change(switch, |pairs| {
            for pair in both_ways(some, others) {
                pairs.remove(&pair);
            }
        });
    }

    #[track_caller]
    fn change(&self, switch: &Namespace, change: impl FnOnce(&mut BTreeSet<(u8, u8)>)) {
        let mut pairs = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut pairs);
        load(switch, &ruleset(&pairs));
    }
}

fn both_ways(some: &[u8], others: &[u8]) -> impl Iterator<Item = (u8, u8)> {
    let pairs = some.iter().flat_map(move |a| others.iter().map(move |b| (*a, *b)));
    pairs.filter(|(a, b)| a != b).flat_map(|(a, b)| [(a, b), (b, a)])
}

/// The whole table: it takes the place of the one before in one step.
fn ruleset(pairs: &BTreeSet<(u8, u8)>) -> String {
    let elements: Vec<_> =
        pairs.iter().map(|(from, to)| format!("\"{}\" . \"{}\"", port(*from), port(*to))).collect();
    let elements = if elements.is_empty() {
        String::new()
    } else {
        format!("elements = {{ {} }}", elements.join(", "))
    };
    format!(
        "table bridge wire {{}}\ndelete table bridge wire\ntable bridge wire {{\n\
         set cut {{ type ifname . ifname; {elements} }}\n\
         chain forward {{ type filter hook forward priority 0; iifname . oifname @cut drop; }}\n}}\n"
    )
}

#[track_caller]
fn load(switch: &Namespace, ruleset: &str) {
    let mut command = switch.command("nft");
    command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("run nsenter: {error}"));
    let mut input = child.stdin.take().expect("stdin is piped");
    // An early end of nft shows in its status and message, which say more than this write's error.
    let _ = input.write_all(ruleset.as_bytes());
    drop(input);
    let output = child.wait_with_output().unwrap_or_else(|error| panic!("wait for nft: {error}"));
    assert!(
        output.status.success(),
        "nft (package nftables) refused:\n{ruleset}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
