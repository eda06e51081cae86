//! Whatever happens in whatever order: what is enforced never goes back, and in the end it is what it should be.

use agent::sync::Input;
use proptest::prelude::*;
use wire::sync::{Down, Downward, Part, Target};

use crate::world::{Wish, World, down};

#[derive(Clone, Debug)]
enum Deed {
    Announce(Wish),
    /// So many messages arrive.
    Arrive(usize),
    Lose,
    Twice,
    /// The next two change places.
    Swap,
    /// A byte of the next one is another one.
    Spoil(usize, u8),
    Garbage(Vec<u8>),
    Disconnect,
    Connect,
    TrialEnds,
    CoreFails,
    Restart,
    Pass(u64),
}

fn wish() -> impl Strategy<Value = Wish> {
    let parts = (1..5u64, 0..3u64, any::<bool>(), 0..3u64, prop::bool::weighted(0.1));
    (parts, prop::bool::weighted(0.1), any::<bool>()).prop_map(
        |((version, hosts, trial, rollout, quarantine), held_back, sections)| Wish {
            version,
            hosts,
            trial,
            rollout,
            quarantine,
            held_back,
            sections,
        },
    )
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        6 => wish().prop_map(Deed::Announce),
        12 => (1..60usize).prop_map(Deed::Arrive),
        1 => Just(Deed::Lose),
        1 => Just(Deed::Twice),
        1 => Just(Deed::Swap),
        1 => (any::<usize>(), 1..=255u8).prop_map(|(at, by)| Deed::Spoil(at, by)),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Deed::Garbage),
        1 => Just(Deed::Disconnect),
        3 => Just(Deed::Connect),
        2 => Just(Deed::TrialEnds),
        1 => Just(Deed::CoreFails),
        1 => Just(Deed::Restart),
        3 => (0..20_000u64).prop_map(Deed::Pass),
    ]
}

impl World {
    fn suffer(&mut self, deed: Deed) {
        match deed {
            Deed::Announce(wish) => drop(self.announce(wish)),
            Deed::Arrive(count) => {
                for _ in 0..count {
                    let Some(said) = self.under_way.pop_front() else { break };
                    self.happen(Input::Heard(said));
                }
            }
            Deed::Lose => drop(self.under_way.pop_front()),
            Deed::Twice => {
                if let Some(said) = self.under_way.front().cloned() {
                    self.under_way.push_back(said);
                }
            }
            Deed::Swap => {
                if self.under_way.len() >= 2 {
                    self.under_way.swap(0, 1);
                }
            }
            Deed::Spoil(at, by) => {
                if let Some(said) = self.under_way.front_mut() {
                    spoil(said, at, by);
                }
            }
            Deed::Garbage(bytes) => {
                if self.connected {
                    let target = Target { manifest: bytes, ..Target::default() };
                    self.under_way.push_back(down(Down::Target(target)));
                }
            }
            Deed::Disconnect => self.disconnect(),
            Deed::Connect => self.connect(),
            Deed::TrialEnds => self.core.end_trial(),
            Deed::CoreFails => self.core.fails = true,
            Deed::Restart => self.restart(),
            Deed::Pass(ms) => self.pass(ms),
        }
    }
}

fn spoil(said: &mut Downward, at: usize, by: u8) {
    let flip = |bytes: &mut Vec<u8>| {
        if !bytes.is_empty() {
            let at = at % bytes.len();
            bytes[at] ^= by;
        }
    };
    match said.say.as_mut().unwrap() {
        Down::Target(target) => {
            flip(if by & 1 == 0 { &mut target.manifest } else { &mut target.me })
        }
        Down::Part(Part { bytes, digest, base, offset, total, .. }) => match by % 5 {
            0 => flip(bytes),
            1 => flip(digest),
            2 => *base = vec![by; 32],
            3 => *offset += u64::from(by),
            _ => *total += u64::from(by),
        },
        Down::Later(_) | Down::Refused(_) | Down::Assigned(_) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_enforced_never_goes_back_but_by_the_end_of_a_trial(
        deeds in prop::collection::vec(deed(), 1..60),
        cut in 40..2_000usize,
    ) {
        let mut world = World::new();
        world.controller.cut = cut;
        world.connect();
        for deed in deeds {
            world.suffer(deed);
            let steps = world.core.history.windows(2);
            let mut back = steps.filter(|step| step[1].0 < step[0].0 && !step[1].1);
            prop_assert_eq!(back.next(), None, "{:?}", world.core.history);
            for (digest, bytes) in &world.disk {
                let fits = blake3::hash(bytes).as_bytes() == digest
                    || prost::Message::decode(&**bytes).is_ok_and(|it: Target| it.digest() == *digest);
                prop_assert!(fits);
            }
        }
        // Once all goes well again, the newest is enforced.
        world.disconnect();
        world.core.fails = false;
        let wish = Wish::of(6);
        let mut newest = None;
        for _ in 0..100 {
            world.connect();
            newest = Some(world.assign(wish));
            world.pass(1_000);
        }
        prop_assert_eq!(world.core.in_force().current, newest);
        prop_assert_eq!(world.core.in_force().trial, None);
        prop_assert!(!world.core.quarantined);
        prop_assert_eq!(world.disk.len(), 7);
    }
}
