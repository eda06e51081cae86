//! The analysis on policies that people write: what the groups are called, what one host without an inventory is told, and
//! what is refused.

use policy::{
    Checked, Host, Inventory, Source,
    analysis::{
        AnalysisError, Basis, Diff, Group, GroupFlows, Question, ServiceTextError, diff, matrix,
        services, who_can_reach,
    },
    check,
};
use verdict::Address;

fn now() -> jiff::Timestamp {
    "2027-01-31T12:00:00Z".parse().expect("a moment")
}

fn inventory() -> Inventory {
    let host = |id: &str, address: u32, labels: &[(&str, &str)]| Host {
        id: id.to_owned(),
        names: Vec::new(),
        addresses: vec![Address::v4(address)],
        labels: labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
    };
    let hosts = vec![
        host("web-1", 0x0a00_010b, &[("role", "web"), ("env", "prod")]),
        host("web-2", 0x0a00_010c, &[("role", "web"), ("env", "prod")]),
        host("app-1", 0x0a00_020b, &[("role", "app"), ("env", "prod")]),
        host("db-1", 0x0a00_030b, &[("role", "db"), ("env", "prod")]),
        host("bastion", 0x0a00_0005, &[("role", "bastion"), ("env", "prod")]),
    ];
    Inventory::new(hosts).expect("hosts in order")
}

fn checked(text: &str, inventory: &Inventory) -> Checked {
    let source = Source { name: "example", bytes: text.as_bytes() };
    let checked = check(&[source], Some(inventory), now());
    assert_eq!(checked.diagnostics.errors(), 0, "{}", checked.render());
    checked
}

fn question(inventory: &Inventory) -> Question<'_> {
    Question { inventory, now: now(), basis: Basis::Enforced }
}

fn lines(groups: &[Group], flows: &[GroupFlows]) -> Vec<String> {
    let name = |at: usize| groups[at].name.as_str();
    let line = |flow: &GroupFlows| {
        format!(
            "{:?} {} -> {} : {}",
            flow.relation,
            name(flow.from),
            name(flow.to),
            flow.services.join(", ")
        )
    };
    flows.iter().map(line).collect()
}

const SHOP: &str = "name web = role=web & env=prod\n\
    name office = 203.0.113.0/24, 2001:db8:ff::/48\n\
    name pg = tcp/5432\n\
    allow any -> web : tcp/443\n\
    allow web -> role=app : tcp/8080\n\
    allow role=app -> role=db : pg\n\
    default deny in\n";

#[test]
fn a_diff_names_groups_as_the_policy_does() {
    let inventory = inventory();
    let before = checked(SHOP, &inventory);
    let after = checked(
        &SHOP
            .replace("allow role=app -> role=db : pg\n", "allow web, office -> role=db : pg\n")
            .replace("allow any -> web : tcp/443", "allow any -> web : tcp/443, tcp/80"),
        &inventory,
    );
    let diff = diff(&before.policies, &after.policies, &question(&inventory)).expect("fits");
    let mut allowed = lines(&diff.groups, &diff.allowed);
    allowed.sort();
    assert_eq!(
        allowed,
        [
            "Between any -> web : tcp/80",
            "Between web, office -> db-1 : tcp/5432",
            "Itself web -> web : tcp/80",
        ]
    );
    assert_eq!(lines(&diff.groups, &diff.denied), ["Between app-1 -> db-1 : tcp/5432"]);
    let json = serde_json::to_string(&diff).expect("answers serialise");
    assert_eq!(serde_json::from_str::<Diff>(&json).expect("and back"), diff);
}

#[test]
fn a_matrix_and_a_port_say_who() {
    let inventory = inventory();
    let shop = checked(SHOP, &inventory);
    let pg = services(&shop.policies, "pg").expect("a name of the policy");
    let told = matrix(&shop.policies, &question(&inventory), &pg).expect("fits");
    // Nobody but the application, and nothing is said about going out: that is allowed to everywhere outside.
    let rows = lines(&told.groups, &told.allowed);
    let to_db: Vec<&String> = rows.iter().filter(|line| line.contains("-> db-1")).collect();
    assert_eq!(to_db, ["Between app-1 -> db-1, outside : tcp/5432"]);
    let reach = who_can_reach(&shop.policies, &question(&inventory), "db-1", &pg).expect("fits");
    let between: Vec<_> = reach
        .sources
        .iter()
        .filter(|source| source.relation == policy::analysis::Relation::Between)
        .map(|source| {
            let id = |decider: &Option<policy::analysis::Decider>| {
                decider.as_ref().map(|decider| decider.text.clone())
            };
            (reach.groups[source.from].name.clone(), id(&source.out), id(&source.into))
        })
        .collect();
    let rule = || Some("allow role=app -> role=db : pg".to_owned());
    assert_eq!(between, [("app-1".to_owned(), rule(), rule())]);
}

/// Who may go from the web hosts to the database, by the qualifiers that say so.
fn processes(text: &str) -> policy::analysis::Processes {
    let inventory = inventory();
    let checked = checked(text, &inventory);
    let told =
        matrix(&checked.policies, &question(&inventory), &[image::Service::tcp(5432..=5432)])
            .expect("fits");
    let mut found = told.allowed.iter().filter(|flow| told.groups[flow.to].name == "db-1");
    found.next().expect("a flow").from_processes.clone()
}

#[test]
fn a_unit_is_all_that_is_below_it() {
    use policy::analysis::Processes;

    let only = |said: &str| Processes::Only(vec![said.to_owned()]);
    assert_eq!(
        processes("deny any[unit=/a] -> role=db\nallow any[unit=/a/b] -> role=db"),
        only("[unit not in (/a)]")
    );
    assert_eq!(
        processes(
            "default deny out\nallow any[unit=/a] -> role=db\ndeny any[unit=/a/b] -> role=db"
        ),
        only("[unit=/a except /a/b]")
    );
    assert_eq!(
        processes(
            "default deny out\ntier team\nallow any[unit in (/a, /x.service)] -> role=db\n\
             deny any[unit in (/a/b, /a/c)] -> role=db"
        ),
        only("[unit in (/a except (/a/b, /a/c), /x.service)]")
    );
    assert_eq!(
        processes("default deny out\nallow any[netns=blue container=web] -> role=db"),
        only("[container=web netns=blue]")
    );
}

#[test]
fn one_host_needs_no_inventory() {
    let nobody = Inventory::default();
    let before = checked("default deny in\nallow 10.0.0.0/8 -> me : tcp/22", &nobody);
    let after = checked("default deny in\nallow 10.0.0.0/16 -> me : tcp/22", &nobody);
    let diff = diff(&before.policies, &after.policies, &question(&nobody)).expect("fits");
    assert_eq!(diff.allowed, []);
    let denied: Vec<(&Vec<String>, &str)> = diff
        .denied
        .iter()
        .map(|flow| (&diff.groups[flow.from].outside, diff.groups[flow.to].name.as_str()))
        .collect();
    let gone = vec!["10.1.0.0-10.255.255.255".to_owned()];
    assert_eq!(denied, [(&gone, "me")]);
}

#[test]
fn what_cannot_be_answered_is_refused() {
    let inventory = inventory();
    let shop = checked(SHOP, &inventory);
    let unknown = services(&shop.policies, "gp");
    assert_eq!(unknown, Err(ServiceTextError::Unknown("gp".to_owned())));
    let any = services(&shop.policies, "any").expect("any");
    let nobody = who_can_reach(&shop.policies, &question(&inventory), "db-2", &any);
    assert_eq!(nobody, Err(AnalysisError::Target("db-2".to_owned())));
    // 65 users, groups and units each: more kinds of processes than are told apart.
    let mut text = SHOP.to_owned();
    for at in 0..65 {
        text += &format!("allow role=web[user=u{at}] -> role=db : tcp/{}\n", at + 1);
        text += &format!("allow role=web[unit=u{at}.service] -> role=db : tcp/{}\n", at + 1);
    }
    let crowded = checked(&text, &inventory);
    let refused = matrix(&crowded.policies, &question(&inventory), &any);
    let max = policy::analysis::limits::PROCESSES_MAX;
    let expected = AnalysisError::TooLarge { what: "kinds of processes", needed: 66 * 66, max };
    assert_eq!(refused, Err(expected));
}
