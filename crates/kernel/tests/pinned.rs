//! Programs that outlive whoever loaded them: taken over, timed, locked down, mended, removed.

#![expect(clippy::unwrap_used, reason = "a test's helpers panic as its test does")]

#[path = "shared/bed.rs"]
mod bed;

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use aya::{
    Ebpf,
    programs::{CgroupAttachMode, CgroupSockAddr},
};
use bed::Bed;
use image::{AddressSet, Image, Rule, RuleSet, Service, compile};
use kernel::{Adopted, Attachments, Firewall, LoadError, PinError, Scheduled, boottime, pinned};
use testbed::{Directory, wait_until};
use verdict::{Address, Direction, Verdict};

const DEADLINE: Duration = Duration::from_secs(10);

/// A bed with a directory for pins.
struct Scene {
    bed: Bed,
    directory: Directory,
}

impl Scene {
    fn new() -> Self {
        Self { bed: Bed::new(), directory: Directory::new() }
    }

    fn pins(&self) -> PathBuf {
        self.directory.path().join("pins")
    }

    fn attachments(&self) -> Attachments {
        self.bed.attachments()
    }

    fn up(&self, scheduled: Scheduled<'_>) -> Firewall {
        Firewall::up(&self.pins(), scheduled, &denying(0..=255), self.attachments()).unwrap()
    }

    fn adopt(&self) -> Adopted {
        Firewall::adopt(&self.pins(), self.attachments()).unwrap().expect("something to take over")
    }

    /// The names of the sets; the kernel keeps two files of its own beside them.
    fn sets(&self) -> Vec<String> {
        let entries = fs::read_dir(self.pins()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("set-")).collect()
    }

    /// Whether connecting to 127.0.0.`last` is allowed.
    fn allows(&self, last: u8) -> bool {
        self.bed.inside(|| allows(last))
    }
}

fn allows(last: u8) -> bool {
    let address = Ipv4Addr::new(127, 0, 0, last);
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    TcpStream::connect((address, listener.local_addr().unwrap().port())).is_ok()
}

/// Denies connecting to 127.0.0.LAST, for each of `lasts`.
fn denying(lasts: impl IntoIterator<Item = u8>) -> Image {
    let mut rules = RuleSet::default();
    let addresses = lasts.into_iter().map(|last| (Address::v4(0x7f00_0000 | u32::from(last)), 128));
    rules.sets.push(AddressSet::from_prefixes(addresses));
    rules.rules.push(Rule {
        id: "denied".to_owned(),
        remote: Some(0),
        services: vec![Service::ANY],
        ..Rule::default(Direction::Out, Verdict::Deny, 0)
    });
    for direction in [Direction::Out, Direction::In] {
        rules.rules.push(Rule::default(direction, Verdict::Allow, 1));
    }
    compile(&rules).unwrap()
}

#[test]
fn a_client_that_hammers_sees_no_wrong_verdict_while_programs_change_hands() {
    let scene = Scene::new();
    let image = denying([9]);
    drop(scene.up(Scheduled::forever(&image)));
    assert!(!scene.allows(9) && scene.allows(8), "enforced after its loader is gone");

    let stop = AtomicBool::new(false);
    let rounds = scene.bed.inside(|| {
        thread::scope(|scope| {
            let hammer = scope.spawn(|| {
                scene.bed.namespace.inside(|| {
                    let mut rounds = 0u64;
                    while !stop.load(Ordering::Relaxed) {
                        assert!(!allows(9), "denied, round {rounds}");
                        assert!(allows(8), "allowed, round {rounds}");
                        rounds += 1;
                    }
                    rounds
                })
            });
            for change in 0..60 {
                let Adopted { mut firewall, notes } = scene.adopt();
                assert_eq!(notes, [""; 0]);
                assert_eq!(firewall.scheduled(), Some((image.digest(), None)));
                if change % 10 == 0 {
                    firewall.swap(&denying([9, 100 + change])).unwrap();
                    firewall.swap(&image).unwrap();
                }
            }
            // Larger tables: a second set, and the first one goes.
            let Adopted { mut firewall, .. } = scene.adopt();
            let beside = firewall
                .up_beside(Scheduled::forever(&image), &denying(0..=255), scene.attachments())
                .unwrap();
            firewall.stand_down().unwrap();
            beside.supersede().unwrap();
            drop(firewall);
            drop(beside);
            stop.store(true, Ordering::Relaxed);
            hammer.join().unwrap()
        })
    });
    assert!(rounds > 50, "{rounds} rounds");
    assert_eq!(scene.sets(), ["set-2"], "the first set is gone");
    let removed = scene.adopt().firewall.remove().unwrap();
    assert_eq!(removed.left, [""; 0]);
    assert!(removed.links.iter().any(|link| link == "connect4"), "{removed:?}");
    assert!(scene.allows(9));
}

#[test]
fn an_image_that_ends_is_followed_without_its_loader() {
    let scene = Scene::new();
    let (first, second) = (denying([1]), denying([2]));
    let until = boottime() + 1_500_000_000;
    let scheduled = Scheduled { image: &first, then: Some((until, &second)) };
    let firewall = scene.up(scheduled);
    let told = Some((first.digest(), Some((until, second.digest()))));
    assert_eq!(firewall.scheduled(), told);
    drop(firewall);
    assert!(!scene.allows(1) && scene.allows(2), "the first image holds at the beginning");
    wait_until(DEADLINE, "the second image", || scene.allows(1) && !scene.allows(2));
    assert!(boottime() >= until);

    // Whoever takes over sees the second, counts what the first did, and goes on from there.
    let Adopted { mut firewall, .. } = scene.adopt();
    assert_eq!(firewall.scheduled(), Some((second.digest(), None)));
    let retired = firewall.advance().unwrap();
    assert_eq!(retired.len(), 1, "{retired:?}");
    assert!(retired[0].hits[0].enforced > 0, "{retired:?}");
    assert!(firewall.advance().unwrap().is_empty());
    firewall.remove().unwrap();
}

/// Denies connecting to 127.0.1.N until the Nth of `ends`, and accepting on port 7 until the last.
fn ending(ends: &[u64]) -> Image {
    let mut rules = RuleSet::default();
    for (set, (last, &until)) in (0..).zip((1u32..).zip(ends)) {
        rules.sets.push(AddressSet::from_address(Address::v4(0x7f00_0100 | last)));
        rules.rules.push(Rule {
            id: format!("until-{until}"),
            remote: Some(set),
            until_ns: Some(until),
            ..Rule::default(Direction::Out, Verdict::Deny, 0)
        });
    }
    rules.rules.push(Rule {
        services: vec![Service::tcp(7..=7)],
        until_ns: ends.last().copied(),
        ..Rule::default(Direction::In, Verdict::Deny, 0)
    });
    for direction in [Direction::Out, Direction::In] {
        rules.rules.push(Rule::default(direction, Verdict::Allow, 1));
    }
    compile(&rules).unwrap()
}

#[test]
fn a_hundred_rules_of_one_image_end_on_time_without_their_loader() {
    let scene = Scene::new();
    let begin = boottime() + 1_000_000_000;
    let ends: Vec<u64> = (0..100).map(|step| begin + step * 30_000_000).collect();
    drop(scene.up(Scheduled::forever(&ending(&ends))));
    let denied = |last: usize| {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let to = (
            Ipv4Addr::new(127, 0, 1, u8::try_from(last).unwrap()),
            listener.local_addr().unwrap().port(),
        );
        TcpStream::connect(to).is_err()
    };
    let seen = scene.bed.inside(|| {
        let claim = || TcpListener::bind("127.0.0.1:7").is_err();
        assert!(claim(), "the port is closed");
        let mut seen = vec![0u64; ends.len()];
        for (last, until) in (1..).zip(&ends) {
            // What the kernel says between two readings of its clock is what holds at both, if they agree.
            loop {
                let (before, is_denied, after) = (boottime(), denied(last), boottime());
                assert!(is_denied || after >= *until, "rule {last} ended before its time");
                assert!(!is_denied || before < *until, "rule {last} did not end");
                seen[last - 1] += u64::from(is_denied);
                if !is_denied {
                    break;
                }
            }
            if last < ends.len() {
                let (claimed, after) = (claim(), boottime());
                assert!(claimed || after >= ends[ends.len() - 1], "the port is still closed");
            }
        }
        assert!(!claim(), "the port is open");
        seen
    });
    assert!(seen.iter().any(|&times| times > 0), "some rules were seen denying");
    let Adopted { firewall, .. } = scene.adopt();
    let counted: Vec<u64> = firewall.hits().iter().take(100).map(|hits| hits.enforced).collect();
    assert_eq!(counted, seen, "each has counted what it denied");
    firewall.remove().unwrap();
}

#[test]
fn an_unconfirmed_image_goes_and_a_confirmed_one_stays() {
    let scene = Scene::new();
    let (old, new) = (denying([1]), denying([2]));
    let mut firewall = scene.up(Scheduled::forever(&old));
    for confirmed in [false, true] {
        let until = boottime() + 700_000_000;
        let scheduled = Scheduled { image: &new, then: Some((until, &old)) };
        firewall.schedule(scheduled).unwrap();
        assert!(scene.allows(1) && !scene.allows(2));
        assert_eq!(firewall.until(), Some(until));
        if confirmed {
            firewall.hold();
        }
        wait_until(DEADLINE, "the deadline", || boottime() > until);
        assert_eq!((scene.allows(1), scene.allows(2)), (confirmed, !confirmed));
    }
    firewall.remove().unwrap();
}

#[test]
fn images_follow_each_other_without_end() {
    let scene = Scene::new();
    let images: Vec<Image> = (1..=4).map(|last| denying([last])).collect();
    let far = boottime() + 3_600_000_000_000;
    let mut firewall = scene.up(Scheduled::forever(&images[3]));
    for round in 0..60usize {
        let [now, later] = [round % 4, (round + 1) % 4];
        // On trial, on trial behind a trial, for good behind a trial.
        let then = (round % 3 < 2).then_some((far, &images[later]));
        let before = firewall.generation();
        let retired = firewall.schedule(Scheduled { image: &images[now], then }).unwrap();
        assert_eq!(retired[0].generation, before);
        let told = (images[now].digest(), then.map(|(until, image)| (until, image.digest())));
        assert_eq!(firewall.scheduled(), Some(told), "round {round}");
        assert!(!scene.allows(u8::try_from(now).unwrap() + 1));
        assert!(scene.allows(u8::try_from(later).unwrap() + 1));
    }
    firewall.remove().unwrap();
}

#[test]
fn lockdown_needs_no_agent_and_ends_where_it_began() {
    let scene = Scene::new();
    let empty = Directory::new();
    let nothing = pinned::lock_down(empty.path(), scene.attachments()).unwrap_err();
    assert!(matches!(nothing, LoadError::Pin(PinError::Empty { .. })), "{nothing}");

    let mut firewall = scene.up(Scheduled::forever(&denying([9])));
    assert!(scene.allows(8));
    // Beside a living agent that does nothing.
    pinned::lock_down(&scene.pins(), scene.attachments()).unwrap();
    assert!(firewall.is_locked_down() && !scene.allows(8) && !scene.allows(9));
    // Whatever the agent puts in force meanwhile.
    firewall.swap(&denying([7])).unwrap();
    assert!(!scene.allows(8));
    assert!(!firewall.stage_lockdown(&denying([1])).unwrap(), "not while it is in force");
    drop(firewall);
    // And without one.
    pinned::resume(&scene.pins()).unwrap();
    assert!(scene.allows(8) && scene.allows(9) && !scene.allows(7));
    pinned::lock_down(&scene.pins(), scene.attachments()).unwrap();
    assert!(!scene.allows(8));
    let removed = pinned::remove(&scene.pins()).unwrap();
    assert_eq!(removed.left, [""; 0]);
    assert!(scene.allows(7) && scene.allows(8));
}

#[test]
fn what_a_dead_loader_has_left_is_removed_and_what_it_finished_is_kept() {
    let scene = Scene::new();
    let (old, new) = (denying([1]), denying([2]));
    let first = scene.up(Scheduled::forever(&old));
    let held = Firewall::adopt(&scene.pins(), scene.attachments()).unwrap_err();
    assert!(held.to_string().ends_with("is kept by another agent"), "{held}");
    drop(first);

    // Killed after the new set was complete, before the old one went: both judge.
    drop(scene.up(Scheduled::forever(&new)));
    assert!(!scene.allows(1) && !scene.allows(2));
    // And another one was killed half-way.
    for directory in ["", "maps", "links"] {
        fs::create_dir(scene.pins().join("set-7").join(directory)).unwrap();
    }
    let Adopted { firewall, notes } = scene.adopt();
    assert_eq!(
        notes,
        [
            "removed the superseded set 1 that was left beside set 2",
            "removed the half-made set 7 that was left beside set 2",
        ]
    );
    // The kernel detaches what nothing names any more behind a grace period.
    wait_until(DEADLINE, "the end of the superseded set", || scene.allows(1));
    assert!(!scene.allows(2));
    assert_eq!(firewall.scheduled(), Some((new.digest(), None)));
    firewall.remove().unwrap();
    assert!(!scene.pins().join("set-2").exists());
}

/// `r1 = 0; call bpf_set_retval; r0 = 1; exit`: undoes whatever the programs before it have decided.
const UNDO: [u8; 32] = [
    0xb7, 1, 0, 0, 0, 0, 0, 0, 0x85, 0, 0, 0, 187, 0, 0, 0, 0xb7, 0, 0, 0, 1, 0, 0, 0, 0x95, 0, 0,
    0, 0, 0, 0, 0,
];

#[test]
fn a_program_that_undoes_verdicts_loses_the_last_word() {
    let scene = Scene::new();
    let mut firewall = scene.up(Scheduled::forever(&denying([9])));
    // Another fwnet at the same place is no stranger.
    let beside = Firewall::load(&denying([8]), scene.attachments()).unwrap();
    assert!(firewall.mend().is_empty());

    let object = testbed::bpf_object("cgroup/connect4", "undo", &UNDO);
    let mut stranger = Ebpf::load(&object).unwrap();
    let program: &mut CgroupSockAddr = stranger.program_mut("undo").unwrap().try_into().unwrap();
    program.load().unwrap();
    let cgroup = fs::File::open(scene.bed.cgroup.path()).unwrap();
    // By a link, which goes beside what others attached; a mode is for the older way.
    program.attach(cgroup, CgroupAttachMode::Single).unwrap();
    assert!(scene.allows(9), "undone by whoever comes last");

    let mended = firewall.mend();
    assert_eq!(mended.len(), 1, "{mended:?}");
    assert_eq!(mended[0].hook.name, "cgroup/connect4");
    assert_eq!(mended[0].found, "followed by a program that can undo it");
    assert!(mended[0].result.is_ok() && !scene.allows(9));
    assert!(firewall.mend().is_empty(), "once is enough");
    drop((beside, stranger));
    assert!(!scene.allows(9) && scene.allows(8));
    firewall.remove().unwrap();
}

#[test]
fn links_that_somebody_detached_and_pins_that_went_are_put_back() {
    let scene = Scene::new();
    let mut firewall = scene.up(Scheduled::forever(&denying([9])));
    assert!(firewall.mend().is_empty(), "nothing to mend");

    let pin =
        fs::read_dir(scene.pins()).unwrap().next().unwrap().unwrap().path().join("links/connect4");
    let detached = Command::new("bpftool").args(["link", "detach", "pinned"]).arg(&pin).status();
    assert!(detached.unwrap().success());
    assert!(scene.allows(9), "somebody with the power to do so has opened the door");
    let mended = firewall.mend();
    assert_eq!(mended.len(), 1, "{mended:?}");
    assert_eq!((mended[0].hook.name, mended[0].found), ("cgroup/connect4", "detached"));
    assert!(mended[0].result.is_ok() && !scene.allows(9));

    // The whole file system is unmounted: what this process holds goes on, and is pinned anew.
    let unmounted = Command::new("umount").arg("--lazy").arg(scene.pins()).status();
    assert!(unmounted.unwrap().success());
    assert!(!scene.allows(9));
    let mended = firewall.mend();
    assert!(mended.len() > 1 && mended.iter().all(|mended| mended.result.is_ok()), "{mended:?}");
    assert!(firewall.mend().is_empty());
    drop(firewall);
    assert!(!scene.allows(9), "pinned again, it outlives its keeper");
    scene.adopt().firewall.remove().unwrap();
    assert!(scene.allows(9));
}
