//! The smallest decider behind NFQUEUE: denies packets to one IPv4 address, lets all others pass.
//!
//! `nfqueue DENIED` takes queue 0 of its network namespace and says `ready`.

use std::env;
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use nfq::{Queue, Verdict};

const QUEUE: u16 = 0;
/// An IPv4 header without options; only the destination is looked at.
const HEADER_BYTES: u16 = 20;

fn main() -> Result<()> {
    let denied: Ipv4Addr = env::args().nth(1).context("which address is denied?")?.parse()?;
    let mut queue = Queue::open().context("open netlink")?;
    queue.bind(QUEUE).context("take the queue")?;
    queue.set_copy_range(QUEUE, HEADER_BYTES).context("ask for headers")?;
    println!("ready");
    loop {
        let mut packet = queue.recv().context("wait for a packet")?;
        let refused = packet.get_payload().get(16..20) == Some(&denied.octets());
        packet.set_verdict(if refused { Verdict::Drop } else { Verdict::Accept });
        queue.verdict(packet).context("tell the verdict")?;
    }
}
