//! Events as the kernel programs send them, parsed.

use verdict::{Address, Cell, Decision, Direction, Endpoint, Protocol, abi, abi::Owner};
use zerocopy::FromBytes;

/// Through which hook a flow was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Door {
    /// A connection was asked for.
    Connect,
    /// A datagram was sent to a named destination.
    Send,
    /// A local port was claimed.
    Bind,
    /// A peer's packet asked for a listener.
    Lookup,
    /// A socket of a refused protocol was asked for.
    Create,
    /// A socket connects or listens without a verdict.
    Tripwire,
    /// listen() was called.
    Listen,
    /// A peer's packet found a listener.
    Request,
    /// accept() was called on a port that is closed to every peer.
    Accept,
    /// accept() was called where somebody waits or may come whom the process may not take.
    Jammed,
    /// No hook: a sweep after a swap ended a connection or a listener that is newly denied.
    Sweep,
}

/// One report of the kernel programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// CLOCK_BOOTTIME, nanoseconds.
    pub time_ns: u64,
    /// The socket's cookie; 0 where the hook has none.
    pub socket: u64,
    /// The network namespace's cookie; 0 where unknown.
    pub netns: u64,
    /// Which hook saw it.
    pub door: Door,
    /// Connecting or accepting.
    pub direction: Direction,
    /// The protocol.
    pub protocol: Protocol,
    /// This host's end.
    pub local: Endpoint,
    /// The peer's end.
    pub remote: Endpoint,
    /// The verdicts.
    pub decision: Decision,
    /// Generation of the image that judged; `None` where it was the lockdown image.
    pub generation: Option<u32>,
    /// Whose socket it is, where the hook knew.
    pub owner: Option<Owner>,
}

impl Event {
    /// Parses one record; `None` for a record of another make, which can only come from another program's ring buffer.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let abi::Event {
            time_ns,
            socket,
            netns,
            local_hi,
            local_lo,
            remote_hi,
            remote_lo,
            owner,
            cell,
            generation,
            local_port,
            remote_port,
            hook,
            direction,
            protocol,
            slot,
        } = abi::Event::read_from_bytes(bytes).ok()?;
        Some(Self {
            time_ns,
            socket,
            netns,
            door: door(hook)?,
            direction: match direction {
                0 => Direction::Out,
                1 => Direction::In,
                _ => return None,
            },
            protocol: Protocol(protocol),
            local: Endpoint { address: Address { hi: local_hi, lo: local_lo }, port: local_port },
            remote: Endpoint {
                address: Address { hi: remote_hi, lo: remote_lo },
                port: remote_port,
            },
            decision: Cell(cell).unpack(),
            generation: (u32::from(slot) != abi::LOCKDOWN_SLOT).then_some(generation),
            owner: (owner != Owner::default()).then_some(owner),
        })
    }
}

fn door(hook: u8) -> Option<Door> {
    [
        (abi::Hook::Connect, Door::Connect),
        (abi::Hook::Send, Door::Send),
        (abi::Hook::Bind, Door::Bind),
        (abi::Hook::Lookup, Door::Lookup),
        (abi::Hook::Create, Door::Create),
        (abi::Hook::Tripwire, Door::Tripwire),
        (abi::Hook::Listen, Door::Listen),
        (abi::Hook::Request, Door::Request),
        (abi::Hook::Accept, Door::Accept),
        (abi::Hook::Jammed, Door::Jammed),
    ]
    .into_iter()
    .find(|&(number, _)| number as u8 == hook)
    .map(|(_, door)| door)
}
