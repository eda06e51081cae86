//! Containment against two slow twins. One enumerates every host and stranger of a small world that can differ in what
//! selectors ask, and asks each in turn; the other has the policy language itself judge flows on random inventories.

#![expect(clippy::unwrap_used, reason = "a test's helpers panic as its test does")]

use jiff::Timestamp;
use policy::{
    Diagnostics, Host, Inventory, NoIdentities, Source, check,
    syntax::{Expression, LabelTest, Selector, Statement},
};
use proptest::prelude::*;
use verdict::{Address, Direction, Flow, Protocol, Subject};
use wire::scope::Scope;

const ADDRESSES: [&str; 9] = [
    "9.255.255.255",
    "10.0.0.0",
    "10.0.0.1",
    "10.0.0.3",
    "10.0.0.4",
    "127.0.0.1",
    "::1",
    "2001:db8::1",
    "::",
];
const NAMES: [&str; 2] = ["h1", "h2"];
const VALUES: [Option<&str>; 4] = [None, Some("a"), Some("b"), Some("other")];

/// Somebody: one address of one host, or of a stranger.
#[derive(Clone, Debug)]
struct Somebody {
    known: bool,
    me: bool,
    /// Its id: a name of [`NAMES`], or another one.
    id: usize,
    /// Names beside the id.
    also: [bool; 2],
    role: Option<&'static str>,
    env: Option<&'static str>,
    address: Address,
}

fn everybody() -> Vec<Somebody> {
    let mut all = Vec::new();
    for text in ADDRESSES {
        let address: policy::syntax::Addresses = text.parse().unwrap();
        let address = address.first();
        for me in [false, true] {
            // Loopback is the host's own.
            if address.is_loopback() && !me {
                continue;
            }
            let nobody = Somebody {
                known: false,
                me,
                id: 2,
                also: [false; 2],
                role: None,
                env: None,
                address,
            };
            all.push(nobody.clone());
            for id in 0..3 {
                for also in [[false, false], [true, false], [false, true], [true, true]] {
                    for role in VALUES {
                        for env in VALUES {
                            all.push(Somebody {
                                known: true,
                                id,
                                also,
                                role,
                                env,
                                ..nobody.clone()
                            });
                        }
                    }
                }
            }
        }
    }
    all
}

/// Whether a selector means somebody, by the words of the language and nothing else.
fn means(selector: &Selector, who: &Somebody) -> bool {
    match &*selector.expression {
        Expression::Any => true,
        Expression::Me => who.me,
        Expression::Named(word) => {
            who.known && (0..2).any(|at| NAMES[at] == word && (who.id == at || who.also[at]))
        }
        Expression::Addresses(addresses) => {
            let address = who.address.bits();
            addresses.ranges().any(|(first, last)| first <= address && address <= last)
        }
        Expression::Label { key, test } => {
            let id = NAMES.get(who.id).copied().unwrap_or("another");
            let value = match key.text.as_str() {
                "host" => Some(id),
                "role" => who.role,
                "env" => who.env,
                other => panic!("{other} is not asked for"),
            };
            who.known
                && match test {
                    LabelTest::Is(word) => value == Some(&word.text),
                    LabelTest::IsNot(word) => value != Some(&word.text),
                    LabelTest::In(words) => words.iter().any(|word| value == Some(&word.text)),
                    LabelTest::NotIn(words) => !words.iter().any(|word| value == Some(&word.text)),
                    LabelTest::Present => value.is_some(),
                }
        }
        Expression::Not(inner) => !means(inner, who),
        Expression::AllOf(members) => members.iter().all(|member| means(member, who)),
        Expression::AnyOf(members) => members.iter().any(|member| means(member, who)),
        Expression::Except(from, without) => means(from, who) && !means(without, who),
    }
}

fn selectors() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "any",
        "me",
        "h1",
        "h2",
        "host=h1",
        "host!=h2",
        "has host",
        "role=a",
        "role!=a",
        "role=b",
        "role in (a, b)",
        "role not in (a)",
        "has role",
        "env=a",
        "env!=b",
        "has env",
        "10.0.0.0/30",
        "10.0.0.0/31",
        "::ffff:10.0.0.0/126",
        "10.0.0.4",
        "9.255.255.255-10.0.0.1",
        "127.0.0.0/8",
        "::1",
        "::/0",
        "0.0.0.0/0",
        "2001:db8::/32",
    ]);
    leaf.prop_map(str::to_owned).prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|it| format!("(not ({it}))")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("(({a}) & ({b}))")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("(({a}) | ({b}))")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("(({a}) except ({b}))")),
        ]
    })
}

fn selector(text: &str) -> Selector {
    let mut report = Diagnostics::default();
    let rule = format!("allow {text} -> any : any");
    let document = policy::parse(rule.as_bytes(), 0, &mut report).document;
    let Some((_, Statement::Rule(rule))) = document.statements().next() else { panic!("{text}") };
    rule.from.selector.clone()
}

fn scope(flows: &str) -> Scope {
    serde_json::from_value(serde_json::json!({"flows": flows, "effects": ["allow"], "rules": 1}))
        .unwrap()
}

/// Whether `inner` lies within `outer`, by the code that is tested.
fn contained(inner: &str, outer: &str) -> bool {
    scope(&format!("{outer} -> any : any")).covers(&format!("allow {inner} -> any : any\n")).is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Exact in both directions.
    #[test]
    fn containment_is_what_the_enumeration_says(inner in selectors(), outer in selectors()) {
        let (a, b) = (selector(&inner), selector(&outer));
        let escape = everybody().into_iter().find(|who| means(&a, who) && !means(&b, who));
        prop_assert_eq!(contained(&inner, &outer), escape.is_none(), "{} in {}: {:?}", inner, outer, escape);
    }

    /// Narrowing is always within, and a thing is within itself.
    #[test]
    fn a_narrowed_selector_is_within(outer in selectors(), more in selectors()) {
        prop_assert!(contained(&outer, &outer));
        let (both, except) = (format!("({outer}) & ({more})"), format!("({outer}) except ({more})"));
        prop_assert!(contained(&both, &outer));
        prop_assert!(contained(&except, &outer));
        let either = format!("({outer}) | ({more})");
        prop_assert!(contained(&outer, &either));
    }

    /// What is within matches no flow that the scope, read as a rule, does not, on any host of any inventory.
    #[test]
    fn no_host_judges_a_flow_outside_of_the_scope(
        inner in (selectors(), selectors(), services()),
        outer in (selectors(), selectors(), services()),
        hosts in inventories(),
        local in prop::sample::select(&ADDRESSES[..]),
        remote in prop::sample::select(&ADDRESSES[..]),
        port in 21u16..26,
    ) {
        // Narrowed, so that most pairs are within.
        let flows = |(from, to, service): &(String, String, String)| format!("{from} -> {to} : {service}");
        let rule = format!("({}) & ({}) -> ({}) & ({}) : {}", inner.0, outer.0, inner.1, outer.1, inner.2);
        if scope(&flows(&outer)).covers(&format!("allow {rule}\n")).is_err() {
            return Ok(());
        }
        let address = |text: &str| text.parse::<policy::syntax::Addresses>().unwrap().first();
        for direction in [Direction::In, Direction::Out] {
            for host in ["h1", "h2", "stranger"] {
                let judge = |rule: &str| matches(rule, &hosts, host, &Flow {
                    direction,
                    protocol: Protocol::TCP,
                    local: verdict::Endpoint { address: address(local), port: if direction == Direction::In { port } else { 40_000 } },
                    remote: verdict::Endpoint { address: address(remote), port: if direction == Direction::In { 40_000 } else { port } },
                    subject: Subject::UNKNOWN,
                });
                if judge(&rule) {
                    prop_assert!(judge(&flows(&outer)), "{:?} at {host}: {} of {}", direction, rule, flows(&outer));
                }
            }
        }
    }
}

fn services() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "any",
        "tcp/22",
        "tcp/22-24",
        "tcp/23, tcp/24",
        "tcp/any",
        "udp/22",
        "tcp/22, udp/22",
    ])
    .prop_map(str::to_owned)
}

fn inventories() -> impl Strategy<Value = Inventory> {
    let label = prop::sample::select(&VALUES[..]);
    let one = (label.clone(), label, prop::collection::btree_set(0usize..ADDRESSES.len(), 0..3));
    (one.clone(), one).prop_map(|(first, second)| {
        let mut taken = Vec::new();
        let hosts = [("h1", first), ("h2", second)].map(|(id, (role, env, addresses))| {
            let labels = [("role", role), ("env", env)].into_iter();
            let labels =
                labels.filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())));
            let mut own = Vec::new();
            for at in addresses {
                let text = ADDRESSES[at];
                let address = text.parse::<policy::syntax::Addresses>().unwrap().first();
                // No two hosts share an address, and no inventory holds loopback or the unspecified one.
                if !address.is_loopback() && text != "::" && !taken.contains(&at) {
                    taken.push(at);
                    own.push(address);
                }
            }
            Host { id: id.to_owned(), names: Vec::new(), addresses: own, labels: labels.collect() }
        });
        Inventory::new(hosts.to_vec()).unwrap()
    })
}

/// Whether a rule, alone, decides a flow at a host.
fn matches(rule: &str, inventory: &Inventory, host: &str, flow: &Flow) -> bool {
    let text = format!("deny {rule} id=\"asked\"\n");
    let sources = [Source { name: "p", bytes: text.as_bytes() }];
    let checked = check(&sources, Some(inventory), Timestamp::UNIX_EPOCH);
    let facts = policy::Facts::new(inventory, host, &NoIdentities, Timestamp::UNIX_EPOCH);
    let said = policy::read_aloud(&checked.policies, &facts, flow);
    said.enforced.rule == "asked"
}
