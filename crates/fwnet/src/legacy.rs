//! Denied addresses and ports as rules: what the 2015 module's two parameters meant, two independent lists.

use image::{AddressSet, Mode, Rule, RuleSet, Service, SubjectTest};
use verdict::{Direction, Verdict};

use crate::prefix::{Ports, Prefix};

/// Which directions are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inbound {
    /// What comes in is judged too, and refused with a reset.
    Reject,
    /// Only what goes out.
    Off,
}

impl Inbound {
    /// The directions that are judged.
    pub(crate) const fn directions(self) -> &'static [Direction] {
        match self {
            Self::Reject => &[Direction::Out, Direction::In],
            Self::Off => &[Direction::Out],
        }
    }
}

/// The rules of `--deny` and `--port`: an address is refused in both directions and by every protocol, a port by TCP
/// only, as the peer's when connecting and as our own when accepting. Everything else is allowed.
pub(crate) fn rules(addresses: &[Prefix], ports: &[Ports], inbound: Inbound) -> RuleSet {
    let mut rules = RuleSet { version: 1, ..RuleSet::default() };
    let directions = inbound.directions();
    for prefix in addresses {
        let set =
            u32::try_from(rules.sets.len()).expect("a command line is shorter than 2^32 words");
        rules.sets.push(AddressSet::from_prefixes([(prefix.address, prefix.bits)]));
        for &direction in directions {
            rules.rules.push(deny(
                format!("deny {}", prefix.text),
                direction,
                Some(set),
                Service::ANY,
            ));
        }
    }
    for ports in ports {
        for &direction in directions {
            let service = Service::tcp(ports.first..=ports.last);
            rules.rules.push(deny(format!("port {ports}"), direction, None, service));
        }
    }
    for direction in [Direction::Out, Direction::In] {
        rules.rules.push(Rule::default(direction, Verdict::Allow, 1));
    }
    rules
}

fn deny(id: String, direction: Direction, remote: Option<u32>, service: Service) -> Rule {
    Rule {
        id,
        tier: 0,
        verdict: Verdict::Deny,
        mode: Mode::Enforce,
        direction,
        remote,
        local: None,
        services: vec![service],
        subject: SubjectTest::default(),
        until_ns: None,
        flags: 0,
    }
}
