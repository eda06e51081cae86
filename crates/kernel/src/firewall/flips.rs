//! No mixed verdicts: while one thread changes what is in force as fast as it can, every connect() is judged by one whole
//! image.
//!
//! Every flow has a rule of its own in every image, and no two images use a number twice. So the counters, which are kept
//! for each slot and rule, show any mixture: one image's classes in another's matrix come to a number that the slot's
//! image does not have for that flow. And what connect() said is added up against what the rules counted.
//!
//! `FWNET_FLIPS=600000 cargo test -p kernel one_whole_image` goes on for ten minutes.

use std::{
    env,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use image::{AddressSet, Image, Rule, RuleSet, Service, compile};
use testbed::{Cgroup as TestCgroup, Namespace};
use verdict::{
    Address, Decision, Direction, Endpoint, Flow, Line, Protocol, Subject, Tables, Verdict, decide,
};

use super::{Attachments, Firewall, Hits};
use crate::{Cgroup, Netns};

/// Addresses, and ports of each: so many flows, each with a rule of its own.
const ADDRESSES: u8 = 8;
const PORTS: u16 = 8;
const FLOWS: usize = ADDRESSES as usize * PORTS as usize;
const FIRST_PORT: u16 = 7_001;

/// About a second.
const FLIPS: u32 = 1_000;
/// Each waits for a grace period.
const SWAPS: u32 = 30;
/// However busy the machine is.
const DEADLINE: Duration = Duration::from_secs(120);

fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, number + 1)
}

fn set_of(address: Ipv4Addr) -> AddressSet {
    AddressSet::from_address(Address::v4(address.to_bits()))
}

/// Every flow's rule says `verdict`; the first one is number `first`. The rules before these speak of other addresses and
/// ports and are there to give every class another number than in other images.
fn rules(first: u16, verdict: Verdict) -> RuleSet {
    let mut rules = RuleSet::default();
    let mut add = |set: AddressSet, port: u16, verdict| {
        let remote = u32::try_from(rules.sets.len()).ok();
        rules.sets.push(set);
        let default = Rule::default(Direction::Out, verdict, 0);
        let services = vec![Service::tcp(port..=port)];
        rules.rules.push(Rule { remote, services, flags: 0, ..default });
    };
    for other in 0..first {
        add(set_of(Ipv4Addr::from_bits(0x0a00_0000 + u32::from(other))), 1 + other, Verdict::Deny);
    }
    for flow in 0..FLOWS {
        let (to, port) = end_of(flow);
        add(set_of(to), port, verdict);
    }
    // Not marked as a default: one that denies has the inbound hook attached, whose verdicts would be counted, too.
    rules.rules.push(Rule { flags: 0, ..Rule::default(Direction::Out, verdict, 1) });
    rules.rules.push(Rule::default(Direction::In, Verdict::Allow, 1));
    rules
}

/// Where a flow goes.
fn end_of(flow: usize) -> (Ipv4Addr, u16) {
    let flow = u16::try_from(flow).expect("few flows");
    let number = u8::try_from(flow / PORTS).expect("few addresses");
    (address(number), FIRST_PORT + flow % PORTS)
}

fn image_of(first: u16, verdict: Verdict) -> Image {
    compile(&rules(first, verdict)).expect("a few rules fit")
}

/// What connect() said, by flow.
struct Said {
    allowed: [AtomicU64; FLOWS],
    denied: [AtomicU64; FLOWS],
}

impl Said {
    fn nothing() -> Self {
        let zeros = || std::array::from_fn(|_| AtomicU64::new(0));
        Self { allowed: zeros(), denied: zeros() }
    }

    /// Tries every flow once. Nobody listens: what is allowed is refused by the peer.
    fn try_all(&self) {
        for flow in 0..FLOWS {
            let (to, port) = end_of(flow);
            let told = TcpStream::connect(SocketAddr::from((to, port)));
            let error = told.expect_err("nobody listens");
            let is_denied = error.kind() == ErrorKind::PermissionDenied;
            assert!(
                is_denied || error.kind() == ErrorKind::ConnectionRefused,
                "{to}:{port}: {error}"
            );
            let counts = if is_denied { &self.denied } else { &self.allowed };
            counts[flow].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn of(&self, verdict: Verdict, flow: usize) -> u64 {
        let counts = match verdict {
            Verdict::Allow => &self.allowed,
            Verdict::Deny => &self.denied,
        };
        counts[flow].load(Ordering::Relaxed)
    }

    fn all(&self, verdict: Verdict) -> u64 {
        (0..FLOWS).map(|flow| self.of(verdict, flow)).sum()
    }
}

struct Bed {
    namespace: Namespace,
    cgroup: TestCgroup,
}

impl Bed {
    fn new() -> Self {
        Self { namespace: Namespace::new(), cgroup: TestCgroup::new() }
    }

    fn load(&self, image: &Image) -> Firewall {
        let attachments = Attachments {
            cgroup: Cgroup::open(self.cgroup.path()).expect("our own"),
            namespaces: vec![Netns::open(self.namespace.name()).expect("our own")].into(),
            tripwire: false,
            report_allowed: false,
            count_flows: false,
            accept_errno: None,
        };
        Firewall::load(image, attachments).expect("T0 works here")
    }

    /// One thread connects over and over while `change` is at work; it is given what that one was told so far.
    fn while_connecting(&self, change: impl FnOnce(&Said)) -> Said {
        let (said, done) = (Said::nothing(), AtomicBool::new(false));
        let _visit = self.cgroup.enter_current_process();
        /// Also where `change` panics: the scope waits for the thread.
        struct Done<'a>(&'a AtomicBool);
        impl Drop for Done<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        thread::scope(|scope| {
            scope.spawn(|| {
                self.namespace.inside(|| {
                    while !done.load(Ordering::Relaxed) {
                        said.try_all();
                    }
                });
            });
            let _done = Done(&done);
            change(&said);
        });
        said
    }
}

/// What the rules of one image counted: by flow, from rule number `first` on, and nothing by any other rule.
fn counted(hits: &[Hits], first: u16) -> Vec<u64> {
    let own = usize::from(first)..usize::from(first) + FLOWS;
    for (rule, hits) in hits.iter().enumerate() {
        assert_eq!(hits.would, 0, "no rule is in audit mode");
        assert!(own.contains(&rule) || hits.enforced == 0, "rule {rule} decided: {hits:?}");
    }
    hits[own].iter().map(|hits| hits.enforced).collect()
}

fn flips() -> u32 {
    env::var("FWNET_FLIPS").map_or(FLIPS, |text| text.parse().expect("a count of flips"))
}

/// Flips between two images that are staged in all four slots, and holds the counters to what connect() said.
fn flip(verdicts: [Verdict; 2]) {
    let firsts = [0, 64];
    let images = [0, 1].map(|which| image_of(firsts[which], verdicts[which]));
    let bed = Bed::new();
    let mut firewall = bed.load(&images[1]);
    let start = firewall.generation();
    let of = |generation: u32| usize::from(generation.wrapping_sub(start).is_multiple_of(2));
    for generation in start + 1..start + 4 {
        let slot = firewall.slots.slot(generation);
        firewall.slots.stage(slot, &images[of(generation)]).expect("nobody else writes there");
    }
    let mut generation = start;
    let began = Instant::now();
    let said = bed.while_connecting(|said| {
        let judged = |verdict: Verdict| said.all(verdict) > 1_000;
        while generation - start < flips() || !verdicts.into_iter().all(judged) {
            assert!(began.elapsed() < DEADLINE.max(Duration::from_millis(4 * u64::from(flips()))));
            generation += 1;
            firewall.slots.set_generation(generation);
            // The pace: a thousand times a second, less the time that it takes itself.
            thread::sleep(Duration::from_micros(900));
        }
    });
    firewall.barrier.wait().expect("a grace period");
    let mut by_image = [vec![0; FLOWS], vec![0; FLOWS]];
    for generation in start..start + 4 {
        let which = of(generation);
        let counts = counted(&firewall.hits_of(firewall.slots.slot(generation)), firsts[which]);
        for (sum, count) in by_image[which].iter_mut().zip(counts) {
            *sum += count;
        }
    }
    let [first, second] = &by_image;
    for (flow, counts) in first.iter().zip(second).map(|(one, other)| [*one, *other]).enumerate() {
        if verdicts[0] == verdicts[1] {
            assert_eq!(counts[0] + counts[1], said.of(verdicts[0], flow), "flow {flow}");
        } else {
            assert_eq!(counts, verdicts.map(|verdict| said.of(verdict, flow)), "flow {flow}");
        }
    }
    let sums: [u64; 2] = [0, 1].map(|which| by_image[which].iter().sum());
    assert!(sums.iter().all(|&sum| sum > 0), "both judged: {sums:?}");
    eprintln!("{} flips in {:?}; judged {sums:?}", generation - start, began.elapsed());
}

#[test]
fn one_whole_image_judges_where_two_disagree_on_every_verdict() {
    flip([Verdict::Allow, Verdict::Deny]);
}

#[test]
fn one_whole_image_judges_where_two_disagree_on_every_rule() {
    flip([Verdict::Deny, Verdict::Deny]);
}

/// Three images, by the numbers of their rules, and what they say.
const FIRSTS: [u16; 3] = [0, 64, 128];
const VERDICTS: [Verdict; 3] = [Verdict::Allow, Verdict::Deny, Verdict::Allow];

#[test]
fn a_slot_is_written_again_only_when_no_program_reads_it() {
    swap([0, 1, 2].map(|which| image_of(FIRSTS[which], VERDICTS[which])));
}

#[test]
fn a_slot_of_which_only_a_part_is_written_holds_one_whole_image() {
    let [first, second, third] = [0, 1, 2].map(|which| rules(FIRSTS[which], VERDICTS[which]));
    let first = compile(&first).expect("a few rules fit");
    let changed = |image: &Image, rules: &RuleSet| {
        let changed = image.changed(rules).expect("a few rules fit");
        assert_eq!(changed.anew, None, "what differs is little");
        changed.image
    };
    let second = changed(&first, &second);
    let third = changed(&second, &third);
    swap([first, second, third]);
}

/// Swaps three images in four slots: whatever is staged, the slot held another one.
fn swap(images: [Image; 3]) {
    let (firsts, verdicts) = (FIRSTS, VERDICTS);
    let bed = Bed::new();
    let mut firewall = bed.load(&images[2]);
    let mut sums = [[0; FLOWS]; 2];
    let mut add = |which: usize, hits: &[Hits]| {
        let by_verdict = &mut sums[verdicts[which] as usize];
        for (sum, count) in by_verdict.iter_mut().zip(counted(hits, firsts[which])) {
            *sum += count;
        }
    };
    let mut last = 2;
    let said = bed.while_connecting(|said| {
        let began = Instant::now();
        let mut swaps = 0;
        while swaps < SWAPS || said.all(Verdict::Allow).min(said.all(Verdict::Deny)) < 1_000 {
            assert!(began.elapsed() < DEADLINE);
            let next = (last + 1) % images.len();
            add(last, &firewall.swap(&images[next]).expect("the same size"));
            (last, swaps) = (next, swaps + 1);
        }
    });
    add(last, &firewall.hits());
    for verdict in [Verdict::Allow, Verdict::Deny] {
        for (flow, &sum) in sums[verdict as usize].iter().enumerate() {
            assert_eq!(sum, said.of(verdict, flow), "{verdict:?}, flow {flow}");
        }
    }
}

/// The first so many lines come from one image, what follows from another.
struct Mixed<'a> {
    images: [&'a Image; 2],
    left: std::cell::Cell<usize>,
}

impl Tables for Mixed<'_> {
    fn line(&self, index: u32) -> Option<&Line> {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        self.images[usize::from(left == 0)].line(index)
    }

    fn now_ns(&self) -> u64 {
        0
    }
}

#[test]
fn a_mixture_of_these_images_would_show() {
    let images = [image_of(0, Verdict::Allow), image_of(64, Verdict::Deny)];
    let mut shown = 0;
    for number in 0..FLOWS {
        let (to, port) = end_of(number);
        let flow = Flow {
            direction: Direction::Out,
            protocol: Protocol::TCP,
            local: Endpoint::default(),
            remote: Endpoint { address: Address::v4(to.to_bits()), port },
            subject: Subject::UNKNOWN,
        };
        let whole = [0, 1].map(|which: usize| decide(&flow, &images[which].at(0)));
        let mut seen: Vec<Decision> = (0..8)
            .map(|left| {
                let images = [&images[0], &images[1]];
                decide(&flow, &Mixed { images, left: std::cell::Cell::new(left) })
            })
            .collect();
        assert_eq!(seen.remove(0), whole[1], "nothing of the first");
        shown += usize::from(seen.iter().any(|seen| !whole.contains(seen)));
    }
    assert!(shown > FLOWS * 9 / 10, "of {shown} flows a mixture says what neither image does");
}
