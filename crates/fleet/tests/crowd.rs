//! Ten thousand connections that say nothing, or not enough, at a controller: it keeps a bounded number of them and a bounded
//! amount of memory, and who means it is served meanwhile. A process of its own, because its memory is measured.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

#[path = "controllers/line.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod line;
#[path = "controllers/people.rs"]
mod people;
#[path = "controllers/running.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod running;

use std::{
    fs,
    io::Write as _,
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use fleet::{api::client::connect, tls};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::{Instant, sleep};
use wire::sync::Down;

use crate::{
    line::{Heard, Line},
    running::{Fleet, PATIENCE, apply, of},
};

/// Descriptors of both ends are this process's: fewer than 20,000 in all.
const CROWD: usize = 10_000;
/// A host connects, proves who it is and is told what it should have, however many others call.
const SERVED: Duration = Duration::from_secs(3);
/// What a stranger costs at most, while it is here: a task, the buffers of its handshake, and what the allocator keeps.
const BYTES_EACH: usize = 48 << 10;

/// Resident bytes of this process (proc(5), statm).
fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * rustix::param::page_size()
}

/// One that says nothing, or begins a handshake and does not go on, or says what no handshake is.
fn caller(address: SocketAddr, number: usize) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    // It may have been cut off already.
    let _ended = match number % 4 {
        0 => stream.write_all(&[0x16, 3, 1, 1, 0, 1]),
        1 => {
            stream.write_all(&[0x16, 3, 1, 0x3f, 0xff]).and_then(|()| stream.write_all(&[1; 4_000]))
        }
        _ => Ok(()),
    };
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_silent_connections_cost_a_bounded_amount_and_nobody_is_kept_waiting() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let fleet = Fleet::new("crowd").await;
    let web = of(&fleet.host("web-1").await.membership);
    apply(&fleet.operator, 1, &[("all", "deny any -> any : tcp/23 reason=\"no telnet\"\n")]).await;
    // As an agent does: who is sent away comes again.
    let serve = async || {
        let began = Instant::now();
        loop {
            if let Ok(mut line) = Line::tried(&web, fleet.address()).await {
                line.begin().await;
                if let Heard::Said(Down::Target(_)) = line.hear().await {
                    return began.elapsed();
                }
            }
            assert!(began.elapsed() < PATIENCE);
            sleep(Duration::from_millis(50)).await;
        }
    };
    serve().await;
    let strangers = fleet::server::Limits::default().strangers;
    let before = resident();
    let (mut slowest, mut most) = (Duration::ZERO, 0);
    let mut crowd = Vec::with_capacity(CROWD);
    // Some have shaken hands, and then ask nothing.
    let believed = tls::Believed::Authority(fleet.house.authority.certificate().clone());
    let config = Arc::new(tls::client(None, believed, tls::HTTP).unwrap());
    let mut shaken = Vec::new();
    for number in 0..CROWD {
        let address = fleet.address();
        crowd.push(caller(address, number));
        if number % 100 == 0 {
            tokio::task::yield_now().await;
            shaken.extend(connect(&config, &address.to_string()).await);
        }
        if number % 500 == 499 {
            slowest = slowest.max(serve().await);
            most = most.max(resident());
        }
    }
    most = most.max(resident());
    slowest = slowest.max(serve().await);
    // An operator is answered too.
    assert_eq!(fleet.hosts().await.hosts.len(), 1);
    assert!(shaken.len() > CROWD / 200, "{}", shaken.len());
    let grown = most.saturating_sub(before);
    println!(
        "{CROWD} calls: {} KiB more at most, the slowest of {} hosts was served in {slowest:?}",
        grown >> 10,
        CROWD / 500 + 1,
    );
    assert!(slowest <= SERVED, "{slowest:?}");
    assert!(grown <= strangers * BYTES_EACH, "{grown} bytes");
}
