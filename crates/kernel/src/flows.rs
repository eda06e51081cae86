//! The table of counted flows, read by taking everything out.

use std::{io, os::fd::AsFd};

use aya::maps::{Array, MapData};
use verdict::{
    Address, Cell, Decision, Direction, Endpoint, Flow, Protocol, Subject,
    abi::{FlowCount, FlowKey, LOCKDOWN_SLOT},
};

use crate::sys::{Walk, take_batch};

/// Entries taken out at once: 120 KB of memory.
const BATCH: usize = 1_024;
/// Entries of one bucket at most: beyond this somebody made the kernel's hash collide, and a walk would take the
/// agent's memory.
const BATCH_MAX: usize = 16 * BATCH;

/// Flows that were alike, as the kernel counted them since they were last taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// What they have in common. Outbound the local end is all zero, inbound the peer's port is.
    pub flow: Flow,
    /// The network namespace's cookie; 0 where unknown.
    pub netns: u64,
    /// The verdicts.
    pub decision: Decision,
    /// Generation of the image that judged; `None` where it was the lockdown image.
    pub generation: Option<u32>,
    /// How many.
    pub count: u64,
    /// When the first was judged, CLOCK_BOOTTIME nanoseconds.
    pub first_ns: u64,
    /// When the last was judged, likewise.
    pub last_ns: u64,
    /// Process id of the first one's owner; 0 is unknown.
    pub pid: u32,
    /// Name of the first one's thread, zero padded; anyone can change it.
    pub comm: [u8; 16],
}

impl Counted {
    /// `None` for an entry of another make.
    fn parse(key: FlowKey, count: FlowCount) -> Option<Self> {
        let FlowKey {
            local_hi,
            local_lo,
            remote_hi,
            remote_lo,
            netns,
            exe,
            cgroup,
            uid,
            gid,
            cell,
            generation,
            service_port,
            direction,
            protocol,
            slot,
        } = key;
        let direction = match direction {
            0 => Direction::Out,
            1 => Direction::In,
            _ => return None,
        };
        let (local_port, remote_port) = match direction {
            Direction::Out => (0, service_port),
            Direction::In => (service_port, 0),
        };
        let FlowCount { count, first_ns, last_ns, pid, padding: _, comm } = count;
        Some(Self {
            flow: Flow {
                direction,
                protocol: Protocol(protocol),
                local: Endpoint {
                    address: Address { hi: local_hi, lo: local_lo },
                    port: local_port,
                },
                remote: Endpoint {
                    address: Address { hi: remote_hi, lo: remote_lo },
                    port: remote_port,
                },
                subject: Subject { uid, gid, exe, cgroup, ..Subject::UNKNOWN },
            },
            netns,
            decision: Cell(cell).unpack(),
            generation: (slot != LOCKDOWN_SLOT).then_some(generation),
            count,
            first_ns,
            last_ns,
            pid,
            comm,
        })
    }
}

/// The table, how many flows were ever taken out of it (kept in a map too, which a new agent finds), and how many were
/// missing when it was last read.
pub(crate) struct Flows {
    map: MapData,
    taken: Array<MapData, u64>,
    lost: u64,
}

impl Flows {
    pub(crate) fn new(map: MapData, taken: Array<MapData, u64>) -> Self {
        Self { map, taken, lost: 0 }
    }

    /// Flows that were missing when the table was last read.
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }

    /// Takes every entry out and gives it to `each`. `judged` flows had gone into the table before: programs count a
    /// flow there after it went in, so what was not found of them is gone, and no more than that is ever called lost.
    pub(crate) fn take(&mut self, judged: u64, each: &mut dyn FnMut(Counted)) -> io::Result<()> {
        let mut taken = self.taken.get(&0, 0).map_err(io::Error::other)?;
        let read = self.read(&mut |counted| {
            taken = taken.saturating_add(counted.count);
            each(counted);
        });
        self.taken.set(0, taken, 0).map_err(io::Error::other)?;
        read?;
        self.lost = self.lost.max(judged.saturating_sub(taken));
        Ok(())
    }

    fn read(&self, each: &mut dyn FnMut(Counted)) -> io::Result<()> {
        let mut room = BATCH;
        let mut keys = vec![FlowKey::default(); room];
        let mut counts = vec![FlowCount::default(); room];
        let mut walk = Walk::Start;
        while walk != Walk::Done {
            match take_batch(self.map.fd().as_fd(), walk, &mut keys, &mut counts) {
                Ok((found, next)) => {
                    for (&key, &count) in keys.iter().zip(&counts).take(found) {
                        if let Some(counted) = Counted::parse(key, count) {
                            each(counted);
                        }
                    }
                    walk = next;
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && room < BATCH_MAX => {
                    room *= 2;
                    keys.resize(room, FlowKey::default());
                    counts.resize(room, FlowCount::default());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
