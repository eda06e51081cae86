//! Inventories: what is read from TOML and JSON, what is refused, and that an update equals a rebuild.

use std::collections::BTreeMap;

use policy::{Host, Inventory};
use proptest::prelude::*;
use verdict::Address;

const TOML: &str = r#"
[[hosts]]
id = "web-1"
names = ["www"]
addresses = ["10.0.0.1", "2001:db8::1"]
labels = { role = "web", env = "prod" }

[[hosts]]
id = "db-1"
addresses = ["::ffff:10.0.0.2"]
labels.role = "db"
"#;

fn refusal(text: &str) -> String {
    Inventory::read(text.as_bytes()).expect_err("the inventory is faulty").to_string()
}

#[test]
fn toml_and_json_say_the_same() {
    let inventory = Inventory::read(TOML.as_bytes()).unwrap();
    assert_eq!(Inventory::read(inventory.to_json().as_bytes()).unwrap(), inventory);
    assert_eq!(inventory.find("www"), Some(0));
    assert_eq!(
        inventory.find_address(Address::v4(0x0a00_0002)),
        Some(1),
        "a mapped address is its IPv4 address"
    );
    assert_eq!(inventory.labelled("role", "web"), [0]);
    assert_eq!(inventory.with_label("host", "db-1"), [1]);
    assert_eq!(inventory.with_key("role"), [0, 1]);
    let example = r#"{"hosts": [{"id": "web-1", "names": [], "addresses": ["10.0.0.1"], "labels": {"role": "web"}}]}"#;
    assert_eq!(Inventory::read(example.as_bytes()).unwrap().hosts().len(), 1);
}

#[test]
fn faults_name_their_place() {
    let said = refusal(
        r#"{"hosts": [
            {"id": "a", "addresses": ["10.0.0.1"]},
            {"id": "a", "addresses": ["::ffff:10.0.0.1", "0.0.0.0"]},
            {"id": "10.0.0.3", "labels": {"host": "x", "1 2": "y"}}
        ]}"#,
    );
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines,
        [
            "hosts[1] `a`: `a` is already an id or a name of hosts[0] `a`",
            "hosts[1] `a`: the address 10.0.0.1 already belongs to hosts[0] `a`",
            "hosts[1] `a`: 0.0.0.0 is not the address of one host",
            "hosts[2]: `10.0.0.3` cannot be an id or a name: it is an address",
            "hosts[2] `10.0.0.3`: the label `1 2` has a key that a policy cannot write: a letter or `_`, then letters, digits, `_`, `-`, `.` and `/`",
            "hosts[2] `10.0.0.3`: the label `host` is taken: it stands for the host's id",
        ]
    );
    assert!(
        refusal("{\"hosts\": [\n {\"id\": \"a\", \"lables\": {}}]}")
            .contains("unknown field `lables`")
    );
    assert!(refusal("{\"hosts\": [\n {\"id\": \"a\", \"lables\": {}}]}").contains("line 2"));
    assert!(
        refusal("[[hosts]]\nid = \"a\"\naddresses = [\"10.0.0.0/8\"]")
            .contains("more than one address")
    );
    assert!(refusal("[[hosts]]\nid = 3").contains("line 2"));
}

fn host() -> impl Strategy<Value = Host> {
    let labels = prop::collection::btree_map("[ab]", "[xyz]", 0..3);
    (0..6_u32, prop::collection::btree_set(0..4_u32, 0..3), labels).prop_map(
        |(id, addresses, labels): (u32, _, BTreeMap<_, _>)| Host {
            id: format!("h{id}"),
            names: vec![format!("name-{id}")],
            // Each host has addresses of its own.
            addresses: addresses
                .into_iter()
                .map(|address| Address::v4(0x0a00_0000 + id * 16 + address))
                .collect(),
            labels,
        },
    )
}

proptest! {
    #[test]
    fn an_update_equals_a_rebuild(changes in prop::collection::vec(host(), 1..20)) {
        let mut updated = Inventory::default();
        let mut hosts: Vec<Host> = Vec::new();
        for change in changes {
            match hosts.iter_mut().find(|host| host.id == change.id) {
                Some(host) => *host = change.clone(),
                None => hosts.push(change.clone()),
            }
            updated.replace(change).unwrap();
            prop_assert_eq!(&updated, &Inventory::new(hosts.clone()).unwrap());
        }
    }
}
