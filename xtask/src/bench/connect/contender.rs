//! What is attached around the measured process, one at a time: by name, and how it is known to decide.

/// One thing to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Contender {
    /// Nothing, treated as the others are: what it shows is the noise.
    Control,
    /// A program that allows and does nothing else, at connect4.
    Empty,
    /// All of `fwnet run` with three rules.
    Fwnet,
    /// The same with only one of its programs left attached.
    Only(&'static str),
    /// `fwnet run` with a rule that asks for a process.
    Processes,
    /// An agent with a list of a million prefixes that counts no flows.
    Million(Ways),
    /// An agent that judges nobody's connections but what comes into the namespace, with the same list.
    Inbound,
    /// A packet filter in the input chain, by the peer's address.
    Input(Filter),
    /// As `Million`, as agents are: with flows counted, which is how allowed connections are told.
    Agent,
    /// `fwnet run --debug 1`: an event for each connection.
    Told,
    /// nftables with the same three rules as `Fwnet`.
    Nftables,
    /// A packet filter of the kernel with many addresses.
    Filter(Filter),
    /// A program at connect4 that looks a million prefixes up in tries of the kernel's.
    Tries(Tries),
    /// A program in user space that is asked, or told, about each connection.
    Decider(Decider),
}

/// Which connections a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ways {
    /// Those that are made: what a packet filter's output chain is about.
    Out,
    /// Those that are received, too.
    Both,
}

/// Packet filters, all of them in the output chain, as people write them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Filter {
    /// nftables, so many rules one behind the other.
    Linear(usize),
    /// The same behind a rule that accepts what belongs to an established connection.
    LinearEstablished(usize),
    /// nftables, one rule with a set of intervals.
    Intervals(usize),
    /// nftables, one rule with a set of networks and ranges of ports, looked up together (pipapo).
    Concatenation(usize),
    /// iptables, one rule with an ipset of networks.
    Ipset(usize),
}

/// What is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tries {
    /// The address, and nothing else.
    Address,
    /// The address's identity, then twice what is allowed.
    Policies,
}

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Decider {
    /// The smallest program behind NFQUEUE.
    Queue,
    /// The smallest program behind seccomp's user notification.
    Notify,
    /// Debian's audit daemon, which is told by a rule and refuses nobody.
    Audit,
    /// OpenSnitch.
    OpenSnitch,
}

/// Prefixes that fwnet holds where rivals have as many as they are known for.
pub(super) const MILLION: usize = 1_000_000;

impl Contender {
    /// Our own hooks, one by one. The programs are those that a connection to a listening server meets: the bind and
    /// sendmsg hooks never run in it.
    pub(super) const HOOKS: &[Self] = &[
        Self::Control,
        Self::Empty,
        Self::Only("connect4"),
        Self::Only("sock_create"),
        Self::Only("sock_release"),
        Self::Only("lookup"),
        Self::Fwnet,
        Self::Processes,
        Self::Nftables,
    ];

    /// A million prefixes, and what others do with fewer.
    pub(super) const RIVALS: &[Self] = &[
        Self::Control,
        Self::Empty,
        Self::Million(Ways::Out),
        Self::Million(Ways::Both),
        Self::Agent,
        Self::Told,
        Self::Filter(Filter::Linear(1_000)),
        Self::Filter(Filter::Linear(10_000)),
        Self::Filter(Filter::LinearEstablished(10_000)),
        Self::Filter(Filter::Intervals(100_000)),
        Self::Filter(Filter::Concatenation(10_000)),
        Self::Filter(Filter::Ipset(100_000)),
        Self::Tries(Tries::Address),
        Self::Tries(Tries::Policies),
        Self::Decider(Decider::Queue),
        Self::Decider(Decider::Notify),
        Self::Decider(Decider::Audit),
        Self::Decider(Decider::OpenSnitch),
    ];

    /// What a listener's peers meet, and nothing else.
    pub(super) const INBOUND: &[Self] = &[
        Self::Control,
        Self::Empty,
        Self::Inbound,
        Self::Input(Filter::Linear(1_000)),
        Self::Input(Filter::Linear(10_000)),
        Self::Input(Filter::Intervals(100_000)),
    ];

    /// Its name in the table.
    pub(super) fn name(self) -> String {
        match self {
            Self::Control => "nothing attached, again (control)".to_owned(),
            Self::Empty => "an empty program at cgroup/connect4".to_owned(),
            Self::Fwnet => "fwnet, 3 rules".to_owned(),
            Self::Only(program) => format!("fwnet, only {}", hook(program)),
            Self::Processes => "fwnet, and a rule about a process".to_owned(),
            Self::Million(Ways::Out) => "fwnet, 1,000,000 prefixes, outbound".to_owned(),
            Self::Million(Ways::Both) => "fwnet, 1,000,000 prefixes, both ways".to_owned(),
            Self::Inbound => "fwnet, 1,000,000 prefixes, inbound".to_owned(),
            Self::Input(filter) => format!("{}, input", filter.name()),
            Self::Agent => "fwnet, 1,000,000 prefixes, both ways, flows counted".to_owned(),
            Self::Told => "fwnet, 3 rules, an event per connection".to_owned(),
            Self::Nftables => "nftables, the same 3 rules".to_owned(),
            Self::Filter(filter) => filter.name(),
            Self::Tries(Tries::Address) => "LPM trie of 1,000,000, one look-up".to_owned(),
            Self::Tries(Tries::Policies) => {
                "LPM trie of 1,000,000, then twice one of 100,000 policies".to_owned()
            }
            Self::Decider(decider) => decider.name().to_owned(),
        }
    }

    /// A name for scripts: letters, digits and hyphens.
    pub(super) fn key(self) -> String {
        let words: Vec<String> = self
            .name()
            .replace(',', "")
            .split(|letter: char| !letter.is_ascii_alphanumeric())
            .filter(|word| !word.is_empty())
            .map(str::to_ascii_lowercase)
            .collect();
        words.join("-")
    }

    /// Whether it is ours, and so must work.
    pub(super) fn is_ours(self) -> bool {
        !matches!(
            self,
            Self::Nftables | Self::Filter(_) | Self::Input(_) | Self::Tries(_) | Self::Decider(_)
        )
    }

    /// Whether its programs' own time is counted: the whole firewall's, and the empty program's to subtract.
    pub(super) fn counted(self) -> bool {
        matches!(
            self,
            Self::Empty
                | Self::Fwnet
                | Self::Million(_)
                | Self::Inbound
                | Self::Agent
                | Self::Told
                | Self::Tries(_)
        )
    }

    /// How tcpcli must end that tries the denied address: 0 connected, 1 EACCES, 2 a reset, 3 no
    /// answer: a packet filter that drops says nothing.
    pub(super) fn probe_code(self) -> i32 {
        match self {
            Self::Fwnet
            | Self::Processes
            | Self::Only("connect4")
            | Self::Million(_)
            | Self::Agent
            | Self::Told
            | Self::Tries(_) => 1,
            Self::Only("lookup") | Self::Inbound => 2,
            Self::Decider(Decider::Notify) => 1,
            Self::Nftables
            | Self::Filter(_)
            | Self::Input(_)
            | Self::Decider(Decider::Queue | Decider::OpenSnitch) => 3,
            Self::Control | Self::Empty | Self::Only(_) | Self::Decider(Decider::Audit) => 0,
        }
    }

    /// Whether a program of a running fwnet stays attached.
    pub(super) fn keeps(self, program: &str) -> bool {
        !matches!(self, Self::Only(kept) if program != kept)
    }
}

impl Filter {
    fn name(self) -> String {
        match self {
            Self::Linear(rules) => format!("nftables, {} rules", thousands(rules)),
            Self::LinearEstablished(rules) => {
                format!("nftables, {} rules behind ct state established", thousands(rules))
            }
            Self::Intervals(networks) => {
                format!("nftables, interval set of {} networks", thousands(networks))
            }
            Self::Concatenation(pairs) => {
                format!("nftables, concatenation of {} networks and port ranges", thousands(pairs))
            }
            Self::Ipset(networks) => format!("iptables, ipset of {} networks", thousands(networks)),
        }
    }
}

impl Decider {
    fn name(self) -> &'static str {
        match self {
            Self::Queue => "NFQUEUE, the smallest decider",
            Self::Notify => "seccomp notification, the smallest decider",
            Self::Audit => "auditd, a rule on connect (observes only)",
            Self::OpenSnitch => "OpenSnitch, two rules",
        }
    }
}

/// `10,000`.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The name by which the kernel's documentation knows the hook of a program.
fn hook(program: &str) -> String {
    if program == "lookup" { "sk_lookup".to_owned() } else { format!("cgroup/{program}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_and_keys_are_each_contenders_own() {
        for all in [Contender::HOOKS, Contender::RIVALS, Contender::INBOUND] {
            let names: BTreeSet<_> = all.iter().map(|it| it.name()).collect();
            let keys: BTreeSet<_> = all.iter().map(|it| it.key()).collect();
            assert_eq!((names.len(), keys.len()), (all.len(), all.len()));
        }
        assert_eq!(Contender::Filter(Filter::Linear(10_000)).key(), "nftables-10000-rules");
        assert_eq!(thousands(1_000_000), "1,000,000");
        assert_eq!(thousands(999), "999");
    }
}
