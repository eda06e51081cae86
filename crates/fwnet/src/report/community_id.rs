//! The Community ID of a flow, version 1: the same string for the same flow in every tool that knows it (Zeek,
//! Suricata, ...). Defined by <https://github.com/corelight/community-id-spec>.

use std::net::IpAddr;

use base64::{Engine, engine::general_purpose::STANDARD};
use sha1::{Digest, Sha1};
use verdict::{Endpoint, Protocol};

use crate::prefix::standard;

/// Seed of the hash: the default, which every tool has unless told otherwise.
const SEED: [u8; 2] = [0, 0];

/// The id of a flow between two ends; `None` where an end is not known whole, or the protocol has no ports (for ICMP the
/// specification wants types and codes, which no hook sees).
pub(super) fn community_id(protocol: Protocol, one: Endpoint, other: Endpoint) -> Option<String> {
    let has_ports = matches!(protocol, Protocol::TCP | Protocol::UDP | Protocol::SCTP);
    let known = |end: Endpoint| end.port != 0 && !end.address.is_unspecified();
    if !has_ports || !known(one) || !known(other) {
        return None;
    }
    let mut ends = [one, other].map(|end| (octets(standard(end.address)), end.port.to_be_bytes()));
    ends.sort();
    let [(first, first_port), (second, second_port)] = ends;
    let mut hash = Sha1::new();
    hash.update(SEED);
    hash.update(first);
    hash.update(second);
    hash.update([protocol.0, 0]);
    hash.update(first_port);
    hash.update(second_port);
    Some(format!("1:{}", STANDARD.encode(hash.finalize())))
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prefix::canonical;

    fn id(protocol: Protocol, one: &str, other: &str) -> Option<String> {
        let end = |text: &str| {
            let at: std::net::SocketAddr = text.parse().unwrap();
            Endpoint { address: canonical(at.ip()), port: at.port() }
        };
        community_id(protocol, end(one), end(other))
    }

    #[test]
    fn the_ids_are_those_that_the_specification_gives() {
        let rows = [
            (
                Protocol::TCP,
                "128.232.110.120:34855",
                "66.35.250.204:80",
                "1:LQU9qZlK+B5F3KDmev6m5PMibrg=",
            ),
            (Protocol::UDP, "192.168.1.52:54585", "8.8.8.8:53", "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
            (
                Protocol::SCTP,
                "192.168.170.8:7",
                "192.168.170.56:7",
                "1:MP2EtRCAUIZvTw6MxJHLV7N7JDs=",
            ),
        ];
        for (protocol, one, other, wanted) in rows {
            assert_eq!(id(protocol, one, other).as_deref(), Some(wanted), "{one} {other}");
            assert_eq!(id(protocol, other, one).as_deref(), Some(wanted), "{other} {one}");
        }
    }

    #[test]
    fn what_is_not_known_whole_has_no_id() {
        assert_eq!(id(Protocol::TCP, "0.0.0.0:0", "192.0.2.1:80"), None);
        assert_eq!(id(Protocol::TCP, "192.0.2.2:0", "192.0.2.1:80"), None);
        assert_eq!(id(Protocol::ICMP, "192.0.2.2:8", "192.0.2.1:8"), None);
    }
}
