//! The session that asks for a denial is not to be cut off by it.

use ::agent::{
    lists::{Target, Transport},
    prefix::standard,
};
use image::AddressSet;
use verdict::{Address, Direction, Flow, Protocol, Subject, Verdict, decide};

use crate::{api::Problem, lockout::ends, orders::Ready};

/// Refuses what would deny `session` (`SSH_CONNECTION`: client address and port, server address and port) a new
/// connection, which `cuts` says of a flow; unless the failsafe set of what is in force allows it all the same.
///
/// # Errors
/// If it would.
pub(super) fn spare(
    session: Option<&str>,
    in_force: &Ready,
    cuts: impl Fn(&Flow) -> bool,
) -> Result<(), Problem> {
    let Some(flow) = session.and_then(coming_in) else { return Ok(()) };
    if !cuts(&flow) || is_failsafe(&flow, in_force) {
        return Ok(());
    }
    let (peer, port) = (standard(flow.remote.address), flow.local.port);
    Err(Problem::conflict(format!(
        "this would cut off the session that asks, from {peer} to port {port}: --force says that it is meant"
    )))
}

fn is_failsafe(flow: &Flow, ready: &Ready) -> bool {
    let judged = decide(flow, &ready.now()).enforced;
    let rule = ready.rules.rules.get(usize::from(judged.rule.0));
    judged.verdict == Verdict::Allow && rule.is_some_and(|rule| rule.tier == 0)
}

/// Whether a target is one that holds for a TCP connection that comes in.
pub(super) fn is_of(flow: &Flow, target: Target) -> bool {
    match target {
        Target::Addresses { first, bits } => {
            AddressSet::from_prefixes([(Address::from_bits(first), bits)])
                .contains(flow.remote.address)
        }
        Target::Ports { transport, first, last } => {
            transport == Transport::Tcp && (first..=last).contains(&flow.local.port)
        }
    }
}

/// A session as it was when it came in.
fn coming_in(session: &str) -> Option<Flow> {
    let (remote, local) = ends(session)?;
    let (direction, protocol, subject) = (Direction::In, Protocol::TCP, Subject::UNKNOWN);
    Some(Flow { direction, protocol, local, remote, subject })
}

#[cfg(test)]
mod tests {
    use ::agent::prefix::canonical;

    use super::*;

    #[test]
    fn sessions_are_read_as_sshd_writes_them() {
        let flow = coming_in("fe80::1%eth0 51234 fe80::2%eth0 22").unwrap();
        assert_eq!((flow.remote.port, flow.local.port), (51_234, 22));
        assert_eq!(flow.remote.address, canonical("fe80::1".parse().unwrap()));
        assert!(coming_in("192.0.2.1 5").is_none());
        assert!(coming_in("").is_none());
        for (target, cut) in [
            ("fe80::/64", true),
            ("fe80::1", true),
            ("fe80::2", false),
            ("tcp/20-23", true),
            ("tcp/51234", false),
            ("udp/22", false),
        ] {
            assert_eq!(is_of(&flow, target.parse().unwrap()), cut, "{target}");
        }
    }
}
