//! Whenever the power goes, what is read afterwards is the state before the operation or the one after it.

use std::{cell::Cell, collections::BTreeMap};

use agent::store::{Disk, inspect};
use proptest::prelude::*;

use crate::{
    operation::{Operation, Seen, Store, operations},
    simulated::{Simulated, Trouble},
};

type Image = BTreeMap<String, Vec<u8>>;

fn open(disk: &Simulated) -> Store {
    Store::open(disk.clone()).expect("the directory is listed")
}

/// What is read from these files, after it was held to be the same however often power is lost while reading.
fn read(image: &Image) -> Seen {
    let disk = Simulated::with(image.clone());
    let mut store = open(&disk);
    let seen = Seen::of(&mut store);
    let health = store.health();
    assert!(health.findings.is_empty(), "power loss damages nothing: {:?}", health.sentences());
    let left: Vec<&String> = image.keys().filter(|name| name.ends_with(".new")).collect();
    assert_eq!(health.unfinished.iter().collect::<Vec<_>>(), left, "what was cut short is told");
    assert!(disk.content().keys().all(|name| !name.ends_with(".new")), "and removed");
    let (state, _) = inspect(&mut Simulated::with(image.clone())).expect("listed");
    assert_eq!(&state, store.state(), "reading alone gives the same");
    seen
}

/// The same where power is lost once more, at every step of the start.
fn read_with_interruptions(image: &Image) -> Seen {
    let seen = read(image);
    let whole = Simulated::with(image.clone());
    drop(open(&whole));
    for steps in 0..whole.steps() {
        let disk = Simulated::with(image.clone());
        disk.trouble_after(steps, Trouble::PowerLoss);
        drop(open(&disk));
        for later in disk.after_power_loss() {
            assert_eq!(read(&later), seen, "a start that was cut short changes nothing");
        }
    }
    seen
}

/// Loses power at every step of `operation` and gives back every image that a disk may hold then.
fn interrupt(start: &Simulated, operation: Operation, thorough: bool) -> Vec<Image> {
    let before = Seen::of(&mut open(start));
    let settled = start.content();
    let whole = Simulated::with(settled.clone());
    let mut store = open(&whole);
    let began = whole.steps();
    operation.run(&mut store).expect("a disk without troubles");
    let after = Seen::of(&mut store);
    let steps = whole.steps() - began;
    assert_eq!(read(&whole.content()), after, "what was done is what is read");
    let mut images = vec![whole.content()];
    for step in 0..=steps {
        let disk = Simulated::with(settled.clone());
        let mut store = open(&disk);
        disk.trouble_after(step, Trouble::PowerLoss);
        let done = operation.run(&mut store).is_ok() && step == steps;
        for image in disk.after_power_loss() {
            let seen = if thorough { read_with_interruptions(&image) } else { read(&image) };
            assert!(
                seen == after || !done && seen == before,
                "{operation:?}, step {step} of {steps}: {seen:?}\nbefore {before:?}\nafter {after:?}"
            );
            images.push(image);
        }
    }
    images
}

/// One call fails at every step of `operation`: what it says is what it did.
fn fail(start: &Simulated, operation: Operation) {
    let before = Seen::of(&mut open(start));
    let settled = start.content();
    let whole = Simulated::with(settled.clone());
    let mut store = open(&whole);
    let began = whole.steps();
    operation.run(&mut store).expect("a disk without troubles");
    let after = Seen::of(&mut store);
    for step in 0..whole.steps() - began {
        let disk = Simulated::with(settled.clone());
        let mut store = open(&disk);
        disk.trouble_after(step, Trouble::OneError);
        let done = operation.run(&mut store);
        let expected = if done.is_ok() { &after } else { &before };
        let told = store.health().unwritten.is_some();
        assert!(told || done.is_ok(), "{operation:?}, step {step}: trouble is told");
        assert_eq!(&Seen::of(&mut store), expected, "{operation:?}, step {step}: in memory");
        assert_eq!(&read(&disk.content()), expected, "{operation:?}, step {step}: on disk");
        // And it succeeds when it is tried again.
        operation.run(&mut store).expect("there is room again");
        Operation::Place(0).run(&mut store).expect("there is room again");
        assert_eq!(store.health().unwritten, None, "{operation:?}, step {step}");
    }
}

/// Where the last step of all fails, the change is made and may yet be undone.
#[test]
fn what_a_loss_of_power_may_undo_is_told() {
    let disk = Simulated::default();
    let mut store = open(&disk);
    // The new file, its sync, the rename; then the directory is not made certain.
    disk.trouble_after(3, Trouble::OneError);
    Operation::Place(1).run(&mut store).expect("it is written");
    let told = store.health().unwritten.clone().expect("trouble is told");
    assert!(told.starts_with("place is written, but a loss of power may undo it"), "{told}");
    assert_eq!(read(&disk.content()), Seen::of(&mut store));
}

/// A past that has every kind of record, twice.
fn rich() -> Vec<Operation> {
    let once = |value: u8| {
        [
            Operation::Place(value),
            Operation::Stance(value),
            Operation::Entries(value),
            Operation::List(0, value),
            Operation::Commit(value),
            Operation::Propose(value),
        ]
    };
    once(0).into_iter().chain(once(1)).collect()
}

fn every() -> Vec<Operation> {
    let more = [Operation::RemoveList(0), Operation::Confirm, Operation::Withdraw];
    rich().into_iter().chain(more).collect()
}

fn disk_after(past: &[Operation]) -> Simulated {
    let disk = Simulated::default();
    let mut store = open(&disk);
    for operation in past {
        operation.run(&mut store).expect("a disk without troubles");
    }
    disk
}

#[test]
fn power_lost_at_every_step_of_every_operation_and_of_the_start_after_it() {
    for past in [vec![], rich()] {
        let disk = disk_after(&past);
        for operation in every() {
            interrupt(&disk, operation, true);
        }
    }
}

#[test]
fn every_step_of_every_operation_may_fail() {
    for past in [vec![], rich()] {
        let disk = disk_after(&past);
        for operation in every() {
            fail(&disk, operation);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// After a loss of power everything goes on from whatever was left, and power is lost again.
    #[test]
    fn power_is_lost_again_and_again(past in prop::collection::vec((operations(), any::<prop::sample::Index>()), 1..8)) {
        let mut disk = Simulated::default();
        for (operation, left) in past {
            fail(&disk.copy(), operation);
            let images = interrupt(&disk, operation, false);
            disk = Simulated::with(left.get(&images).clone());
            drop(open(&disk));
        }
    }
}

/// The simulated disk does lose what was not made certain, or the tests above would prove nothing.
#[test]
fn a_careless_writer_is_caught() {
    let images = |write: &dyn Fn(&mut Simulated)| {
        let mut disk = Simulated::with(BTreeMap::from([("name".to_owned(), b"before".to_vec())]));
        write(&mut disk);
        disk.after_power_loss()
    };
    let outcomes = |write: &dyn Fn(&mut Simulated)| {
        let (lost, other) = (Cell::new(false), Cell::new(false));
        for image in images(write) {
            match image.get("name").map(Vec::as_slice) {
                None => lost.set(true),
                Some(b"before" | b"after!") => {}
                Some(_) => other.set(true),
            }
        }
        (lost.get(), other.get())
    };
    let in_place = |disk: &mut Simulated| {
        disk.remove("name").unwrap();
        disk.write("name", b"after!").unwrap();
        disk.sync("name").unwrap();
    };
    assert_eq!(outcomes(&in_place), (true, false));
    let unsynced = |disk: &mut Simulated| {
        disk.write("new", b"after!").unwrap();
        disk.rename("new", "name").unwrap();
    };
    assert_eq!(outcomes(&unsynced), (false, true));
    let careful = |disk: &mut Simulated| {
        disk.write("new", b"after!").unwrap();
        disk.sync("new").unwrap();
        disk.rename("new", "name").unwrap();
    };
    assert_eq!(outcomes(&careful), (false, false));
    assert!(images(&careful).len() > 1, "without a sync of the directory both may be found");
}
