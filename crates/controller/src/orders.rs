//! What operators, and hosts that enrol, ask for: a refusal that names the thing, or an order to the store.
//!
//! An order is worked out from the [`Model`] as it was read and says so: every record that it was worked out from is
//! expected to be as it was, so that of two controllers that answer at the same time one is told of a conflict and asks
//! again.

mod apply;
mod batch;
mod collect;
mod enrol;
mod inventory;
mod refusal;
mod revoke;
mod rollout;
mod stamp;

pub use apply::{Apply, Canary, apply};
pub use batch::Batch;
pub(crate) use collect::pieces;
pub use collect::{Keep, collect, idle};
pub(crate) use enrol::is_of;
pub use enrol::{Enrol, enrol, found, redeem, renew};
pub use inventory::{address, label, quarantine, remove, remove_relay};
pub use refusal::Refusal;
pub use revoke::revoke;
pub use rollout::{confirm, halt, raise};
pub use stamp::{Stamping, renew_timestamp, timestamp_due};

use crate::{model::Model, records::Key};

/// The version that is current, 0 before the first.
fn current_version(model: &Model) -> u64 {
    model.current().map_or(0, crate::records::CurrentRecord::version)
}

/// Whether `text` can stand in a key and in a certificate's name: ids of hosts, names of relays.
fn is_id(text: &str) -> bool {
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=ID_BYTES_MAX).contains(&text.len())
        && text.bytes().all(sound)
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
}

/// Bytes of an id of a host, and of a name of a relay: what a name in the DNS may have (RFC 1035, 2.3.4).
pub const ID_BYTES_MAX: usize = 253;

fn key_of(who: &crate::records::Who) -> Key {
    match who {
        crate::records::Who::Host(id) => Key::Host(id.clone()),
        crate::records::Who::Relay(name) => Key::Relay(name.clone()),
    }
}
