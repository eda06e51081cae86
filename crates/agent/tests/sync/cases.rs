//! One case after the other.

use agent::sync::{Digest, Input};
use prost::Message;
use wire::sync::{Assigned, Down, Downward, Later, Manifest, Part, Refused, Stage, Target};

use crate::world::{Wish, World, down};

fn connected() -> World {
    let mut world = World::new();
    world.connect();
    world
}

#[test]
fn a_target_is_fetched_verified_and_enforced() {
    let mut world = connected();
    let target = world.assign(Wish::of(1));
    assert_eq!(world.core.in_force().current, Some(target));
    assert_eq!(world.stages(target), [Stage::Received, Stage::Enforced]);
    assert_eq!(world.controller.heard.last().unwrap().snapshot, 1);
    // It is all on disk: the target, a root, a timestamp, a snapshot, two documents, the hosts.
    assert_eq!(world.disk.len(), 7);
    // Said again, it is known.
    let wants = world.controller.wants.len();
    world.assign(Wish::of(1));
    assert_eq!((world.controller.wants.len(), world.told.len()), (wants, 0));
}

#[test]
fn only_what_is_lacking_is_asked_for_and_hosts_as_a_difference() {
    let mut world = connected();
    world.assign(Wish::of(1));
    let (wants, sent) = (world.controller.wants.len(), world.controller.sent);
    let target = world.assign(Wish { hosts: 3, ..Wish::of(1) });
    assert_eq!(world.core.in_force().current, Some(target));
    let [want] = &world.controller.wants[wants..] else { panic!("one piece") };
    assert!(!want.base.is_empty());
    assert!(world.controller.sent - sent < 120, "{}", world.controller.sent - sent);
    // What is not needed any more is gone from disk.
    assert_eq!(world.disk.len(), 7);
}

#[test]
fn a_new_snapshot_comes_as_what_differs_from_the_one_in_force() {
    let mut world = connected();
    world.assign(Wish::of(1));
    let target = world.assign(Wish::of(2));
    assert_eq!(world.core.in_force().current, Some(target));
    let target = world.controller.target(Wish::of(2));
    let snapshot = Manifest::decode(&*target.manifest).unwrap().snapshot.unwrap();
    assert!(world.controller.led.contains(&snapshot.digest));
}

#[test]
fn of_hosts_in_sections_only_the_one_that_changed_is_asked_for() {
    let mut world = connected();
    world.assign(Wish { sections: true, ..Wish::of(1) });
    // Four sections of ten hosts, and the piece that lists them.
    assert_eq!(world.disk.len(), 11);
    let wants = world.controller.wants.len();
    let target = world.assign(Wish { hosts: 3, sections: true, ..Wish::of(1) });
    assert_eq!(world.core.in_force().current, Some(target));
    let [list, section] = &world.controller.wants[wants..] else { panic!("two pieces") };
    assert!(!list.base.is_empty() && !section.base.is_empty());
    assert_eq!(world.disk.len(), 11);
    // And after a restart, too.
    let wants = world.controller.wants.len();
    world.restart();
    world.connect();
    world.assign(Wish { hosts: 3, sections: true, ..Wish::of(1) });
    assert_eq!(world.controller.wants.len(), wants);
    world.assign(Wish { hosts: 33, sections: true, ..Wish::of(1) });
    // The section of host 3, that of host 33, and the list.
    assert_eq!(world.controller.wants.len(), wants + 3);
}

#[test]
fn a_set_of_hosts_that_lists_something_else_is_refused() {
    let mut world = connected();
    let before = world.assign(Wish::of(1));
    let good = world.controller.target(Wish { sections: true, ..Wish::of(2) });
    let manifest = Manifest::decode(&*good.manifest).unwrap();
    for sections in [3, 5, u32::MAX] {
        let mut odd = manifest.clone();
        odd.members[0].sections = sections;
        let target = Target { manifest: odd.encode_to_vec(), ..good.clone() };
        world.happen(Input::Heard(down(Down::Target(target))));
        world.settle();
        let told = world.told.last().unwrap();
        assert!(told.contains("does not list") || told.contains("sections of hosts"), "{told}");
    }
    // One that lists others and does not say so has no hosts of its own.
    let mut odd = manifest;
    odd.members[0].sections = 0;
    let target = Target { manifest: odd.encode_to_vec(), ..good };
    world.happen(Input::Heard(down(Down::Target(target))));
    world.settle();
    assert!(world.told.last().unwrap().ends_with("lists others, and should not"));
    assert_eq!(world.core.in_force().current, Some(before));
}

#[test]
fn after_a_restart_everything_is_still_there() {
    let mut world = connected();
    let target = world.assign(Wish::of(2));
    let wants = world.controller.wants.len();
    world.restart();
    world.connect();
    world.assign(Wish::of(2));
    assert_eq!(world.controller.wants.len(), wants);
    let same = Target { same: target.to_vec(), beat_ms: 5_000, ..Target::default() };
    world.happen(Input::Heard(down(Down::Target(same))));
    assert_eq!(world.closed, Vec::<String>::new());
    world.assign(Wish { hosts: 9, ..Wish::of(2) });
    assert!(!world.controller.wants[wants].base.is_empty(), "and serves as a base");
}

#[test]
fn a_trial_that_is_confirmed_stays_and_its_marks_with_it() {
    let mut world = connected();
    world.assign(Wish::of(1));
    let trial = world.assign(Wish::of(2).on_trial());
    assert_eq!(world.core.in_force().trial, Some(trial));
    assert_eq!(world.stages(trial), [Stage::Received, Stage::Trial]);
    let confirmed = world.assign(Wish::of(2));
    let in_force = world.core.in_force();
    assert_eq!((in_force.current, in_force.trial), (Some(confirmed), None));
    assert_eq!(world.stages(confirmed), [Stage::Enforced]);
    let old = world.assign(Wish::of(1));
    assert_eq!(world.core.in_force().current, Some(confirmed));
    assert!(world.stages(old).ends_with(&[Stage::Received, Stage::Refused]));
    let seen = "has version 1, and version 2 was seen already";
    assert!(world.told[0].contains(seen), "{:?}", world.told);
    assert_eq!(world.core.history, [(1, false), (2, false), (2, false)]);
}

#[test]
fn a_trial_that_is_not_confirmed_goes_back_and_what_was_before_is_acceptable_again() {
    let mut world = connected();
    let before = world.assign(Wish::of(1));
    let trial = world.assign(Wish::of(2).on_trial());
    world.core.end_trial();
    world.pass(1_000);
    assert_eq!(world.stages(trial), [Stage::Received, Stage::Trial, Stage::Refused]);
    assert_eq!(world.core.in_force().current, Some(before));
    // The same trial is not begun again, another one is.
    world.assign(Wish::of(2).on_trial());
    assert_eq!(world.core.in_force().trial, None);
    // Version 1 is acceptable, as another target, too.
    let again = world.assign(Wish { hosts: 5, ..Wish::of(1) });
    assert_eq!(world.core.in_force().current, Some(again));
    let second = world.assign(Wish { rollout: 7, ..Wish::of(2).on_trial() });
    assert_eq!(world.core.in_force().trial, Some(second));
}

#[test]
fn a_rollout_that_is_halted_has_the_host_go_back() {
    let mut world = connected();
    let before = world.assign(Wish::of(1));
    world.assign(Wish::of(2).on_trial());
    let wants = world.controller.wants.len();
    world.assign(Wish::of(1));
    let in_force = world.core.in_force();
    assert_eq!((in_force.current, in_force.trial), (Some(before), None));
    assert_eq!(world.controller.wants.len(), wants, "nothing needs to be fetched for that");
    assert_eq!(world.core.history.last(), Some(&(1, true)));
    // Somebody else is enrolled while a trial runs.
    world.assign(Wish::of(2).on_trial());
    let other = world.assign(Wish { hosts: 8, ..Wish::of(2).on_trial() });
    assert_eq!(world.core.in_force().trial, Some(other));
}

#[test]
fn a_document_that_is_held_back_is_refused() {
    let mut world = connected();
    let before = world.assign(Wish::of(1));
    let target = world.assign(Wish { held_back: true, ..Wish::of(2) });
    assert_eq!(world.stages(target), [Stage::Received, Stage::Refused]);
    assert!(world.told[0].starts_with("the document `web` (version 2) was held back"));
    assert_eq!(world.core.in_force().current, Some(before));
    // It is not tried again until something else is said.
    let heard = world.controller.heard.len();
    world.assign(Wish { held_back: true, ..Wish::of(2) });
    assert_eq!(world.controller.heard.len(), heard + 1);
    let whole = world.assign(Wish::of(2));
    assert_eq!(world.core.in_force().current, Some(whole));
}

#[test]
fn a_host_that_is_shut_off_is_so_at_once_and_until_it_is_not() {
    let mut world = connected();
    world.assign(Wish::of(1));
    world.announce(Wish { quarantine: true, ..Wish::of(2) });
    let said = world.under_way.pop_front().unwrap();
    world.happen(Input::Heard(said));
    assert!(world.core.quarantined, "before its pieces are there");
    world.settle();
    assert_eq!(world.core.in_force().snapshot, 2);
    assert!(world.core.quarantined);
    world.assign(Wish::of(2));
    assert!(!world.core.quarantined);
}

#[test]
fn a_connection_that_breaks_off_is_taken_up_where_it_was() {
    let mut world = connected();
    world.controller.cut = 50;
    let target = world.announce(Wish::of(1));
    for _ in 0..25 {
        let said = world.under_way.pop_front().unwrap();
        world.happen(Input::Heard(said));
    }
    world.disconnect();
    assert!(world.dial.unwrap() <= world.now + 1_000);
    let wants = world.controller.wants.len();
    world.connect();
    world.assign(Wish::of(1));
    assert_eq!(world.core.in_force().current, Some(target));
    let resumed = &world.controller.wants[wants..];
    assert!(resumed.iter().any(|want| want.offset > 0), "{resumed:?}");
}

#[test]
fn what_the_core_could_not_do_is_tried_again() {
    let mut world = connected();
    world.core.fails = true;
    let target = world.assign(Wish::of(1));
    assert_eq!(world.stages(target), [Stage::Received, Stage::Refused]);
    assert_eq!(world.core.in_force().current, None);
    (0..70).for_each(|_| world.pass(1_000));
    assert_eq!(world.core.in_force().current, Some(target));
    assert_eq!(world.stages(target).last(), Some(&Stage::Enforced));
}

#[test]
fn a_host_says_that_it_is_alive_as_often_as_it_was_told() {
    let mut world = connected();
    world.assign(Wish::of(1));
    let before = world.controller.beats;
    (0..50).for_each(|_| world.pass(200));
    assert_eq!(world.controller.beats - before, 10);
}

#[test]
fn whoever_is_sent_away_comes_later() {
    let mut world = connected();
    let later = Later { after_ms: 20_000, why: "too many at once".to_owned() };
    world.happen(Input::Heard(down(Down::Later(later))));
    assert!((20_000..22_000).contains(&world.dial.unwrap()), "{:?}", world.dial);
    world.connect();
    world.happen(Input::Heard(down(Down::Refused(Refused { why: "removed".to_owned() }))));
    assert!(world.dial.unwrap() >= 60_000);
    assert_eq!(world.closed, ["sent away: too many at once", "refused: removed"]);
}

#[test]
fn whoever_is_refused_by_a_certificate_that_it_has_replaced_comes_again_with_the_new_one() {
    let refused = || {
        let why = "the certificate of `web-1` was replaced or revoked".to_owned();
        Input::Heard(down(Down::Refused(Refused { why })))
    };
    let mut world = connected();
    world.happen(Input::Renewed);
    world.happen(refused());
    assert!(world.dial.unwrap() <= 1_000, "{:?}", world.dial);
    // The next connection begins with the new one, and its refusal counts.
    world.connect();
    world.happen(refused());
    assert!(world.dial.unwrap() >= 60_000, "{:?}", world.dial);
}

#[test]
fn what_makes_no_sense_is_refused_or_ends_the_connection() {
    let mut world = connected();
    let before = world.assign(Wish::of(1));
    let good = world.controller.target(Wish::of(2));
    for (target, why) in [
        (Target { manifest: vec![255], ..good.clone() }, "the manifest cannot be read"),
        (Target { me: vec![255], ..good.clone() }, "what it says of this host cannot be read"),
        (Target { me: Vec::new(), ..good.clone() }, "it is for the host ``"),
        (Target { manifest: Vec::new(), ..good.clone() }, "it has no timestamp"),
    ] {
        world.happen(Input::Heard(down(Down::Target(target))));
        assert!(world.told.last().unwrap().starts_with(why), "{:?}", world.told);
    }
    let part = |digest: &Digest| Part { digest: digest.to_vec(), ..Part::default() };
    for said in [
        Downward::default(),
        down(Down::Assigned(Assigned::default())),
        down(Down::Part(part(&[7; 32]))),
    ] {
        world.happen(Input::Heard(said));
    }
    assert!(world.connected);
    let same = Target { same: vec![7; 32], ..Target::default() };
    world.happen(Input::Heard(down(Down::Target(same))));
    assert_eq!(world.closed, ["it names a target that is not here"]);
    world.connect();
    world.happen(Input::Heard(down(Down::Part(Part::default()))));
    assert_eq!(world.closed.len(), 2);
    assert_eq!(world.core.in_force().current, Some(before));
}

#[test]
fn a_piece_that_comes_wrong_is_asked_for_again_and_then_of_somebody_else() {
    let mut world = connected();
    let target = world.announce(Wish::of(1));
    let mut flipped = 0;
    while let Some(mut said) = world.under_way.pop_front() {
        if let Some(Down::Part(part)) = &mut said.say
            && flipped < 2
        {
            part.bytes[0] ^= 1;
            flipped += 1;
        }
        world.happen(Input::Heard(said));
    }
    for _ in 0..20 {
        world.pass(1_000);
        world.connect();
        world.assign(Wish::of(1));
    }
    assert_eq!(world.core.in_force().current, Some(target));
}

#[test]
fn whoever_hears_nothing_asks_again_and_then_somebody_else() {
    let mut world = connected();
    world.announce(Wish::of(1));
    let said = world.under_way.pop_front().unwrap();
    world.happen(Input::Heard(said));
    world.under_way.clear();
    let asked = world.controller.wants.len();
    for _ in 0..6 {
        world.pass(1_000);
        world.under_way.clear();
    }
    assert!(world.controller.wants.len() > asked);
    for _ in 0..30 {
        world.pass(1_000);
        world.under_way.clear();
    }
    assert_eq!(world.closed, ["nothing comes any more of what was asked for"]);
}
