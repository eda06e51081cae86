//! What is written into stores, and who watches them: the same with few hosts and with many.

use anyhow::Result;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;
use testbed::{Host, etcd};

use super::Tools;
use super::figures::Figures;
use super::own::{Fleet, count};
use crate::step::timed;

/// The smaller fleet.
const FEW: u32 = 1_000;
/// Two beats of every host.
const BEATS: Duration = Duration::from_secs(20);
/// An address of etcd's own: each listens to the same ports.
const ETCD: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
const ETCD_METRICS_PORT: u16 = 2381;
/// Of etcd 3.4: transactions and single writes, and watches.
const ETCD_WRITES: [&str; 2] = ["etcd_debugging_mvcc_txn_total", "etcd_debugging_mvcc_put_total"];
const ETCD_WATCHERS: &str = "etcd_debugging_mvcc_watcher_total";
const COMMITS: &str = "fwnet_controller_store_commit_duration_seconds_count";

/// While hosts connect, beat, take a change and come back after a storm.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Written {
    commits: f64,
    etcd: Option<[f64; 3]>,
}

/// Measures it.
pub(super) fn measure(tools: &Tools, agents: u32, figures: &mut Figures) -> Result<()> {
    let part = figures.part(&format!("stores, {FEW} and {agents} hosts"));
    for (in_etcd, name) in [(false, "a file"), (true, "etcd")] {
        let mut both = Vec::new();
        for hosts in [FEW, agents] {
            let what = format!("{hosts} hosts, the store is {name}");
            both.push(timed(&what, || written(tools, hosts, in_etcd))?);
        }
        let [few, many] = both[..] else { continue };
        part.exact(&format!("{name}: commits of the controller"), "", few.commits, many.commits);
        if let (Some(few), Some(many)) = (few.etcd, many.etcd) {
            part.exact("etcd: transactions", "", few[0], many[0]);
            part.exact("etcd: keys put", "", few[1], many[1]);
            part.exact("etcd: watchers", "", few[2], many[2]);
        }
    }
    Ok(())
}

fn written(tools: &Tools, hosts: u32, in_etcd: bool) -> Result<Written> {
    let host = Host::new();
    let cluster = in_etcd.then(|| etcd::Cluster::start(&[(&host, IpAddr::from(ETCD))], None));
    let store = cluster.as_ref().map(|it| format!("etcd://{}", it.endpoint(0)));
    let mut fleet = Fleet::begin(tools, &host, hosts, store.as_deref())?;
    let place = SocketAddr::from((ETCD, ETCD_METRICS_PORT));
    let of_etcd = |name: &str| count(&host, place, name);
    let look = |fleet: &Fleet<'_>| -> Result<Written> {
        let etcd = if in_etcd {
            let [txn, put] = ETCD_WRITES;
            Some([of_etcd(txn)?, of_etcd(put)?, of_etcd(ETCD_WATCHERS)?])
        } else {
            None
        };
        Ok(Written { commits: fleet.count(COMMITS)?, etcd })
    };
    let before = look(&fleet)?;
    let (mut crowd, _) = fleet.gather(hosts)?;
    let signed = fleet.sign("")?;
    crowd.tell("expect");
    fleet.apply(&signed)?;
    crowd.update()?;
    fleet.realised(hosts)?;
    crowd.storm()?;
    thread::sleep(BEATS);
    fleet.realised(hosts)?;
    let after = look(&fleet)?;
    let etcd = before.etcd.zip(after.etcd);
    Ok(Written {
        commits: after.commits - before.commits,
        // Watchers are as many as there are, and not more than before.
        etcd: etcd.map(|(before, after)| [after[0] - before[0], after[1] - before[1], after[2]]),
    })
}
