//! Everything that can be done to a store, as values, and everything that can be seen of one.

use std::collections::BTreeMap;

use agent::{
    edition::{Applied, Edition, Written},
    lists::{Entries, Entry, List, ListName},
    store::{Pending, Stance, State, Taken, WriteError},
};
use image::AddressSet;
use jiff::Timestamp;
use proptest::prelude::*;
use verdict::Address;

use crate::simulated::Simulated;

/// One change.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation {
    Place(u8),
    Stance(u8),
    Entries(u8),
    List(u8, u8),
    RemoveList(u8),
    Propose(u8),
    Confirm,
    Withdraw,
    Commit(u8),
}

/// Any of them, with one of few values so that values repeat.
pub(crate) fn operations() -> impl Strategy<Value = Operation> {
    let value = 0u8..3;
    prop_oneof![
        value.clone().prop_map(Operation::Place),
        value.clone().prop_map(Operation::Stance),
        value.clone().prop_map(Operation::Entries),
        (0u8..2, value.clone()).prop_map(|(name, value)| Operation::List(name, value)),
        (0u8..2).prop_map(Operation::RemoveList),
        value.clone().prop_map(Operation::Propose),
        Just(Operation::Confirm),
        Just(Operation::Withdraw),
        value.prop_map(Operation::Commit),
    ]
}

/// Where to attach is the shell's business; any value will do.
pub(crate) type Store = agent::store::Store<Simulated, String>;

/// Who does all of it.
fn author() -> Applied {
    Applied { at: Timestamp::UNIX_EPOCH, uid: 0, session: None }
}

/// Editions that differ by `value`.
pub(crate) fn edition(value: u8) -> Edition {
    let rules = Written::Lists { deny: vec![format!("192.0.2.{value}")], ports: Vec::new() };
    Edition { version: 0, rules, applied: author(), signed: None }
}

/// Where to attach, by `value`.
pub(crate) fn place(value: u8) -> String {
    format!("/test/{value}")
}

/// A list's name.
pub(crate) fn list_name(value: u8) -> ListName {
    format!("list-{value}").parse().expect("sound")
}

fn entry(value: u8) -> Entry {
    let target = format!("192.0.2.{value}").parse().expect("sound");
    Entry { target, end: None, reason: None, by: author() }
}

fn list(name: u8, value: u8) -> (List, AddressSet) {
    let name = list_name(name);
    let about =
        List { name, lines: u32::from(value), end: None, reason: None, feed: None, by: author() };
    (about, AddressSet::from_address(Address::v4(0x0a00_0000 + u32::from(value))))
}

impl Operation {
    pub(crate) fn run(self, store: &mut Store) -> Result<(), WriteError> {
        match self {
            Self::Place(value) => store.set_place(place(value)),
            Self::Stance(value) => {
                let stances = [Stance::Policy, Stance::Lockdown, Stance::Open];
                let stance = stances[usize::from(value) % 3];
                store.set_stance(Taken { stance, by: author() })
            }
            Self::Entries(value) => store.set_entries(Entries::from(vec![entry(value)])),
            Self::List(name, value) => {
                let (list, addresses) = list(name, value);
                store.set_list(list, &addresses)
            }
            Self::RemoveList(name) => store.remove_list(&list_name(name)),
            Self::Propose(value) => store.propose(Pending {
                edition: edition(value),
                until_boottime_ns: 1,
                boot: "boot".to_owned(),
                trusted: None,
            }),
            Self::Confirm => store.confirm(),
            Self::Withdraw => store.withdraw(),
            Self::Commit(value) => store.commit(edition(value)),
        }
    }
}

/// All that a store says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    state: State<String>,
    addresses: BTreeMap<ListName, AddressSet>,
}

impl Seen {
    pub(crate) fn of(store: &mut Store) -> Self {
        let state = store.state().clone();
        let names = state.lists.keys().cloned();
        let addresses = names
            .map(|name| (name.clone(), store.addresses(&name).expect("a list that is known")))
            .collect();
        Self { state, addresses }
    }
}
