//! What a controller's metrics say of how long hosts take to follow a change.

use fleet::joining;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep},
};
use wire::sync::{Progress, Stage, Target, Up};

use crate::{
    line::Line,
    running::{Fleet, PATIENCE, apply, host, of},
};

const POLICY: &str = "deny any -> any : tcp/23 reason=\"no telnet\"\n";
const OTHER: &str = "deny any -> any : tcp/24 reason=\"no telnet\"\n";

/// The value of a sample, by what its line begins with.
async fn sample(fleet: &Fleet, name: &str) -> Option<f64> {
    let mut stream = TcpStream::connect(fleet.controller.metrics).await.unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.map(|value| value.trim().parse().unwrap())
}

async fn enforces(line: &mut Line, target: &Target) {
    let stage = Stage::Enforced.into();
    let target = target.digest().to_vec();
    line.say(Up::Progress(Progress { target, stage, ..Progress::default() })).await;
}

#[tokio::test]
async fn how_long_a_connected_host_took_to_follow_is_counted_once_for_each_change() {
    const COUNT: &str = "fwnet_controller_policy_propagation_seconds_count";
    const SUM: &str = "fwnet_controller_policy_propagation_seconds_sum";
    let fleet = Fleet::new("measured").await;
    let web = of(&joining::join(&fleet.token(host("web-1")).await).await.unwrap().membership);
    apply(&fleet.operator, 1, &[("all", POLICY)]).await;
    let mut line = Line::hello(&web, fleet.address()).await;
    // What it is told because it comes says nothing of how long news take.
    let (target, _) = line.target().await;
    enforces(&mut line, &target).await;
    assert!(line.want(&[1; 32]).await.lost);
    assert_eq!(sample(&fleet, COUNT).await, Some(0.0));
    let began = Instant::now();
    apply(&fleet.operator, 2, &[("all", OTHER)]).await;
    let (target, _) = line.target().await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        // A second word about the same counts for nothing.
        enforces(&mut line, &target).await;
        match sample(&fleet, COUNT).await {
            Some(count) if count > 0.0 => {
                assert!((count - 1.0).abs() < f64::EPSILON, "{count}");
                break;
            }
            _ => assert!(Instant::now() < deadline),
        }
        sleep(std::time::Duration::from_millis(20)).await;
    }
    let took = sample(&fleet, SUM).await.unwrap();
    assert!(took <= began.elapsed().as_secs_f64(), "{took}");
}
