//! The records of hosts as enrolments leave them, for those that have never enrolled.

use std::collections::BTreeMap;

use controller::{
    Digest,
    records::{HostRecord, Key, Taken, encode},
};
use verdict::Address;

use crate::people::at;

/// The record of a host with one address, and that of its address.
pub(crate) fn enrolled(
    id: &str,
    labels: BTreeMap<String, String>,
    address: Address,
) -> [(String, Vec<u8>); 2] {
    let host = HostRecord {
        labels,
        addresses: vec![address],
        names: Vec::new(),
        certificate: Digest::of(id.as_bytes()),
        previous: None,
        enrolled_at: at(0),
        quarantined: false,
        since: 0,
    };
    let taken = Taken { host: id.to_owned() };
    [
        (Key::Host(id.to_owned()).text(), encode(&host)),
        (Key::Address(address).text(), encode(&taken)),
    ]
}
