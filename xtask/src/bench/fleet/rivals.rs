//! The servers that are compared: how each is started, and how an update is published.

use anyhow::{Context as _, Result};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;
use testbed::{Directory, Host, etcd};

use super::Tools;
use super::crowd::{Crowd, Update};
use super::figures::{Figures, Round};
use super::own::Fleet;
use super::processes::{processor_s, resident_kib};
use crate::step::{self, timed};

/// Updates before those that are measured.
const FIRST_UPDATES: u32 = 3;
/// Until a server says that it is ready.
const READY_DEADLINE: Duration = Duration::from_secs(60);
const NATS_PORT: u16 = 4222;
/// What ours is called in the table.
pub(super) const OURS: &str = "fwnet controller";
/// The rivals, and how much of their processor time for a delivery ours is to have at most.
pub(super) const RIVALS: [(&str, f64); 2] = [("nats-server", 0.4), ("etcd, one member", 0.2)];

/// Every round measures all of them, one after the other.
pub(super) fn measure(
    tools: &Tools,
    rounds: u32,
    subscribers: u32,
    updates: u32,
    figures: &mut Figures,
) -> Result<()> {
    let [(nats_name, _), (etcd_name, _)] = RIVALS;
    let mut measured = [Vec::new(), Vec::new(), Vec::new()];
    // Rivals show certificates of a fleet that does nothing else.
    let home = Directory::new();
    let fleet = home.path().join("fleet");
    let shown = fleet.display().to_string();
    step::output(std::process::Command::new(&tools.fwnet).args([
        "fleet",
        "init",
        &shown,
        "--listen",
        "127.0.0.1:8443",
    ]))?;
    let store = format!("redb:{shown}/store.redb");
    let count = subscribers.to_string();
    step::output(std::process::Command::new(&tools.crowd).args([
        "enrol",
        &shown,
        &store,
        &count,
        "0",
        "127.0.0.1:8443",
    ]))?;
    for number in 1..=rounds {
        let what = |name: &str| format!("round {number} of {rounds}, {name}");
        let host = Host::new();
        let round = timed(&what(nats_name), || nats(tools, &host, &fleet, [subscribers, updates]))?;
        measured[0].push(round);
        let host = Host::new();
        let round =
            timed(&what(etcd_name), || etcd_watch(tools, &host, &fleet, [subscribers, updates]))?;
        measured[1].push(round);
        let host = Host::new();
        measured[2].push(timed(&what(OURS), || ours(tools, &host, [subscribers, updates]))?);
    }
    let [nats, etcd, ours] = measured;
    figures.rivals(subscribers, updates, &[(nats_name, nats), (etcd_name, etcd), (OURS, ours)]);
    Ok(())
}

fn nats(tools: &Tools, host: &Host, fleet: &Path, asked: [u32; 2]) -> Result<Round> {
    let port = NATS_PORT.to_string();
    let file = |name: &str| fleet.join(name).display().to_string();
    let server = host.start(
        "nats-server",
        [
            "-a",
            "127.0.0.1",
            "-p",
            &port,
            "--tlsverify",
            "--tlscert",
            &file("rival.pem"),
            "--tlskey",
            &file("rival.key"),
            "--tlscacert",
            &file("authority.pem"),
        ],
    );
    server.wait_for_line("Server is ready", READY_DEADLINE);
    let place = SocketAddr::from((Ipv4Addr::LOCALHOST, NATS_PORT));
    told(asked, &[server.pid()], || Crowd::gather(tools, host, "nats", fleet, &[place], asked[0]))
}

fn etcd_watch(tools: &Tools, host: &Host, fleet: &Path, asked: [u32; 2]) -> Result<Round> {
    let tls = etcd::Tls {
        ca: fleet.join("authority.pem"),
        certificate: fleet.join("rival.pem"),
        key: fleet.join("rival.key"),
    };
    let here = IpAddr::from(Ipv4Addr::LOCALHOST);
    let cluster = etcd::Cluster::start(&[(host, here)], Some(&tls));
    let place = cluster.endpoint(0);
    let gather = || Crowd::gather(tools, host, "etcd", fleet, &[place], asked[0]);
    told(asked, &[cluster.pid(0)], gather)
}

/// A server that a crowd publishes to by itself.
fn told(
    [subscribers, updates]: [u32; 2],
    pids: &[u32],
    gather: impl FnOnce() -> Result<(Crowd, f64)>,
) -> Result<Round> {
    let (alone, begun) = (resident_kib(pids)?, processor_s(pids)?);
    let (mut crowd, _) = gather()?;
    let gathered = processor_s(pids)?;
    let mut tell = |_| -> Result<(Update, u64)> {
        crowd.tell("publish");
        let update = crowd.update()?;
        let since = update.published.context("when it was published")?;
        Ok((update, since))
    };
    (0..FIRST_UPDATES).try_for_each(|number| tell(number).map(drop))?;
    let before = processor_s(pids)?;
    let told = (0..updates).map(&mut tell).collect::<Result<Vec<_>>>()?;
    let spent = processor_s(pids)? - before;
    let memory = resident_kib(pids)? - alone;
    Ok(Round::of(subscribers, &told, [gathered - begun, spent, memory]))
}

/// Ours: each update is a policy, signed beforehand and applied by its verb.
fn ours(tools: &Tools, host: &Host, [subscribers, updates]: [u32; 2]) -> Result<Round> {
    let mut fleet = Fleet::begin(tools, host, subscribers, None)?;
    let pids = fleet.pids();
    let (alone, begun) = (resident_kib(&pids)?, processor_s(&pids)?);
    let (mut crowd, _) = fleet.gather(subscribers)?;
    let gathered = processor_s(&pids)?;
    let count = FIRST_UPDATES + updates;
    let signed = (0..count).map(|_| fleet.sign("")).collect::<Result<Vec<_>>>()?;
    let mut told = Vec::new();
    let mut before = 0.0;
    for (number, signed) in (0..).zip(&signed) {
        if number == FIRST_UPDATES {
            before = processor_s(&pids)?;
        }
        crowd.tell("expect");
        let since = fleet.apply(signed)?;
        told.push((crowd.update()?, since));
    }
    fleet.realised(subscribers)?;
    let spent = processor_s(&pids)? - before;
    let memory = resident_kib(&pids)? - alone;
    let told = told.get(FIRST_UPDATES as usize..).unwrap_or_default();
    Ok(Round::of(subscribers, told, [gathered - begun, spent, memory]))
}
