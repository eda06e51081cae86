//! Groups, counts and their order.

use image::{AddressSet, Image, Rule, RuleSet, Service, compile};
use verdict::{Endpoint, Flow, Subject, Verdict};

use super::*;

/// Everything is allowed but TCP port 25 to 10.0.0.0/8 going out, and port 80 coming in from anybody.
fn strict() -> Image {
    let rule = |direction, service, remote| Rule {
        verdict: Verdict::Deny,
        services: vec![service],
        remote,
        ..Rule::default(direction, Verdict::Allow, 0)
    };
    let rules = vec![
        rule(Direction::Out, Service::tcp(25..=25), Some(0)),
        rule(Direction::In, Service::tcp(80..=80), None),
        Rule::default(Direction::Out, Verdict::Allow, 1),
        Rule::default(Direction::In, Verdict::Allow, 1),
    ];
    let sets = vec![AddressSet::from_prefixes([(Address::v4(0x0a00_0000), 104)])];
    compile(&RuleSet { sets, rules, version: 1, ..RuleSet::default() }).unwrap()
}

fn flow(direction: Direction, local: u16, remote: (u32, u16)) -> Flow {
    let end = |address, port| Endpoint { address: Address::v4(address), port };
    Flow {
        direction,
        protocol: Protocol::TCP,
        local: end(0xc000_0201, local),
        remote: end(remote.0, remote.1),
        subject: Subject::UNKNOWN,
    }
}

fn seen(process: &str, case: Case, live: u64, recorded: u64) -> Seen {
    Seen { process: process.into(), case, times: Times { live, recorded } }
}

fn id(rule: RuleNumber) -> String {
    format!("rule-{}", rule.0)
}

#[test]
fn what_is_alike_is_one_row_and_the_most_frequent_comes_first() {
    use Direction::{In, Out};
    let new = strict();
    let peer = 0x0a00_0007;
    let all = [
        seen("mail", Case::Made(flow(Out, 1000, (peer, 25))), 1, 0),
        seen("mail", Case::Made(flow(Out, 1001, (peer, 25))), 1, 0),
        seen("mail", Case::Made(flow(Out, 1002, (peer, 25))), 0, 7),
        seen("mail", Case::Made(flow(Out, 1003, (0x0b00_0001, 25))), 1, 0),
        seen("web", Case::Claim(flow(In, 80, (0, 0))), 1, 0),
        seen("web", Case::Made(flow(In, 80, (peer, 2000))), 3, 0),
        // In one of two directions it would stay allowed.
        seen("?", Case::Either(flow(Out, 80, (1, 1)), flow(In, 80, (1, 1))), 1, 0),
    ];
    let found = preview(None, new.at(0), &id, all.clone());
    let row = |process: &str, direction, peer, port, rule: u16, live, recorded| Row {
        process: process.into(),
        direction,
        peer,
        protocol: Protocol::TCP,
        port,
        rule: format!("rule-{rule}"),
        times: Times { live, recorded },
    };
    let peer = Some(Address::v4(peer));
    assert_eq!(
        found.rows,
        [
            row("mail", Out, peer, 25, 0, 2, 7),
            row("web", In, peer, 80, 1, 3, 0),
            row("web", In, None, 80, 1, 1, 0),
        ]
    );
    assert_eq!((found.denied, found.left_out), (Times { live: 6, recorded: 7 }, 0));
    assert_eq!(found.seen, Times { live: 8, recorded: 7 });
    let twice = found.clone().and(found.clone());
    let doubled: Vec<_> = twice.rows.iter().map(|row| row.times.live).collect();
    assert_eq!((doubled, twice.seen), (vec![4, 6, 2], Times { live: 16, recorded: 14 }));
    let nothing = preview(Some(new.at(0)), new.at(0), &id, all);
    assert_eq!((nothing.rows.len(), nothing.seen), (0, found.seen), "what was denied is not news");
}

#[test]
fn rows_beyond_the_limit_are_counted() {
    let new = strict();
    let many =
        (0..1_005).map(|peer| seen("", Case::Made(flow(Direction::In, 80, (peer, 9))), 1, 0));
    let found = preview(None, new.at(0), &id, many);
    assert_eq!((found.rows.len(), found.left_out), (ROWS_MAX, 5));
    assert_eq!(found.denied.live, ROWS_MAX as u64 + 5);
}
