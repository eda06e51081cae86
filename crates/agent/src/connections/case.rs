//! One question to an image, and how the answers of two images differ.

use image::At;
use verdict::{Decision, Direction, Flow, Judgement, RuleNumber, Verdict, closed, decide};

use super::{Connection, Connections};

/// What rules are asked about a socket or a recorded flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Case {
    /// It was made, in the direction of the flow.
    Made(Flow),
    /// It was made in one of the two directions, and nobody knows in which: denied where both would be.
    Either(Flow, Flow),
    /// It waits for whatever comes to a local end, or may send to anybody: denied where nobody is allowed.
    Claim(Flow),
}

/// An answer, with the direction it was given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Judged {
    /// Which way.
    pub direction: Direction,
    /// Verdict and rule.
    pub judgement: Judgement,
}

impl Judged {
    /// Whether it is refused.
    pub fn denies(&self) -> bool {
        self.judgement.verdict == Verdict::Deny
    }
}

impl Case {
    /// What `image` says at its moment, audit rules aside.
    pub fn judge(&self, image: &At<'_>) -> Judged {
        match self {
            Self::Made(flow) => judged(flow, decide(flow, image)),
            Self::Claim(flow) => claim(flow, image),
            Self::Either(one, other) => {
                let [one, other] = [one, other].map(|flow| judged(flow, decide(flow, image)));
                if one.denies() { other_unless_denied(one, other) } else { one }
            }
        }
    }

    /// The denial of `new`, where `old` allows what it denies; without an old image everything was allowed. Of two
    /// possible directions both must turn.
    pub fn turned(&self, old: Option<&At<'_>>, new: &At<'_>) -> Option<Judged> {
        let allowed = |case: Self| old.is_none_or(|old| !case.judge(old).denies());
        let turned =
            |case: Self| Some(case.judge(new)).filter(Judged::denies).filter(|_| allowed(case));
        match *self {
            Self::Either(one, other) => {
                turned(Self::Made(other))?;
                turned(Self::Made(one))
            }
            Self::Made(_) | Self::Claim(_) => turned(*self),
        }
    }

    /// The flow that is asked about, the first where there are two.
    pub fn flow(&self) -> &Flow {
        match self {
            Self::Made(flow) | Self::Either(flow, _) | Self::Claim(flow) => flow,
        }
    }
}

fn other_unless_denied(one: Judged, other: Judged) -> Judged {
    if other.denies() { one } else { other }
}

fn judged(flow: &Flow, decision: Decision) -> Judged {
    Judged { direction: flow.direction, judgement: decision.enforced }
}

/// As the kernel judges a claim on a port: the rule that is named is the one that decides for a peer without an address.
fn claim(flow: &Flow, image: &At<'_>) -> Judged {
    let Judgement { verdict: _, rule } = decide(flow, image).enforced;
    let denied = closed(flow, image) || rule == RuleNumber::MALFORMED;
    let verdict = if denied { Verdict::Deny } else { Verdict::Allow };
    Judged { direction: flow.direction, judgement: Judgement { verdict, rule } }
}

/// Which sockets are judged at all, by where a firewall is attached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Who connects is judged below this cgroup; `None` is everywhere.
    pub cgroup: Option<u64>,
    /// What comes in is judged in the network namespaces of these inodes, sorted; `None` is everywhere.
    pub namespaces: Option<Vec<u64>>,
}

impl Scope {
    /// Whether a connection made in `direction` is judged. A socket whose cgroup is gone or unknown is judged only where
    /// all are: better to leave one alone than to end a stranger's.
    pub fn judges(
        &self,
        connections: &Connections,
        connection: &Connection,
        direction: Direction,
    ) -> bool {
        match (direction, self.cgroup, &self.namespaces) {
            (Direction::Out, None, _) | (Direction::In, _, None) => true,
            (Direction::Out, Some(above), _) => {
                connections.cgroup(connection).is_some_and(|cgroup| cgroup.line.contains(&above))
            }
            (Direction::In, _, Some(inodes)) => connections
                .namespace(connection)
                .is_some_and(|namespace| inodes.binary_search(&namespace.inode).is_ok()),
        }
    }

    /// The case of a connection, as far as it is judged. Where one of two possible directions is not judged, it may have
    /// been made in that one, and there is nothing to say.
    pub fn case(&self, connections: &Connections, connection: &Connection) -> Option<Case> {
        let case = connection.case()?;
        let judges = |flow: &Flow| self.judges(connections, connection, flow.direction);
        let judged = match &case {
            Case::Made(flow) | Case::Claim(flow) => judges(flow),
            Case::Either(one, other) => judges(one) && judges(other),
        };
        judged.then_some(case)
    }
}
