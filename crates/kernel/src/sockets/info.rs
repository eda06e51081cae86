//! Who opened a TCP connection, told from `struct tcp_info` (include/uapi/linux/tcp.h).
//!
//! The kernel keeps no word for it, but its counts do. `tcpi_bytes_acked` counts what the peer acknowledged of our
//! sequence space; the SYN has a number there (RFC 9293, 3.4) and so counts as one byte, where we sent one that asked
//! for the connection. The child of a listener begins its count behind the handshake (`tcp_create_openreq_child`). So
//! acknowledged bytes less acknowledged payload is 1 for who connected and 0 for who accepted, and one more where our
//! FIN was acknowledged too.

use verdict::Direction;

use super::State;

/// Byte offsets in `struct tcp_info`: UAPI, they never change. Those from `SENT` on exist since 4.19.
const UNACKED: usize = 24;
const ACKED: usize = 120;
const NOT_SENT: usize = 144;
const SENT: usize = 200;
const RETRANSMITTED: usize = 208;

/// Who asked for a connection in `state` that has `queued` bytes between the oldest unacknowledged one and the last that
/// was written. `None` where that cannot be told: in states where our FIN may or may not count, on kernels that are too
/// old, or where an acknowledgement arrived between two reads of the kernel.
pub(super) fn opened(state: State, queued: u32, info: &[u8]) -> Option<Direction> {
    let fin = match state {
        State::SynSent => return Some(Direction::Out),
        State::SynReceived => return Some(Direction::In),
        State::Established | State::CloseWait => 0,
        State::FinWait2 => 1,
        State::FinWait1
        | State::TimeWait
        | State::Closed
        | State::LastAck
        | State::Listen
        | State::Closing => return None,
    };
    let in_flight =
        if word(info, UNACKED)? == 0 { 0 } else { queued.checked_sub(word(info, NOT_SENT)?)? };
    let payload = double(info, SENT)?.checked_sub(double(info, RETRANSMITTED)?)?;
    let acked_payload = payload.checked_sub(u64::from(in_flight))?;
    match double(info, ACKED)?.checked_sub(acked_payload)?.checked_sub(fin)? {
        0 => Some(Direction::In),
        1 => Some(Direction::Out),
        _ => None,
    }
}

fn word(info: &[u8], at: usize) -> Option<u32> {
    info.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn double(info: &[u8], at: usize) -> Option<u64> {
    info.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(unacked: u32, acked: u64, not_sent: u32, sent: u64, retransmitted: u64) -> Vec<u8> {
        let mut bytes = vec![0; 216];
        let mut put = |at: usize, value: &[u8]| {
            bytes[at..at + value.len()].copy_from_slice(value);
        };
        put(UNACKED, &unacked.to_ne_bytes());
        put(ACKED, &acked.to_ne_bytes());
        put(NOT_SENT, &not_sent.to_ne_bytes());
        put(SENT, &sent.to_ne_bytes());
        put(RETRANSMITTED, &retransmitted.to_ne_bytes());
        bytes
    }

    #[test]
    fn the_syn_that_was_acknowledged_tells() {
        let (out, into) = (Some(Direction::Out), Some(Direction::In));
        for (state, queued, bytes, expected) in [
            (State::Established, 0, info(0, 1, 0, 0, 0), out),
            (State::Established, 0, info(0, 0, 0, 0, 0), into),
            (State::CloseWait, 0, info(0, 1001, 0, 1500, 500), out),
            (State::FinWait2, 0, info(0, 2, 0, 0, 0), out),
            (State::FinWait2, 0, info(0, 1, 0, 0, 0), into),
            // 600 written, 400 of them sent, 300 acknowledged.
            (State::Established, 300, info(1, 301, 200, 400, 0), out),
            (State::Established, 300, info(1, 300, 200, 400, 0), into),
            // Not one of the two: counts that were read at different moments.
            (State::Established, 300, info(1, 377, 200, 400, 0), None),
            (State::Established, 300, info(1, 30, 200, 400, 0), None),
            (State::LastAck, 0, info(0, 1, 0, 0, 0), None),
            (State::Established, 0, vec![0; 200], None),
            (State::SynSent, 0, Vec::new(), out),
            (State::SynReceived, 0, Vec::new(), into),
        ] {
            assert_eq!(opened(state, queued, &bytes), expected, "{state:?} {queued}");
        }
    }
}
