//! A controller that hears late from its store, or not at all: who comes to it is told nothing that is over.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use fleet::{
    api::{client::Client, orders::Hosts},
    joining,
    store::Location,
};
use hyper::Method;
use testbed::{Host, etcd::Cluster};
use tokio::time::{Instant, sleep, timeout};
use wire::sync::{Beat, Down, Up};

use crate::{
    line::{Heard, Line},
    proxy::{Held, Proxy},
    running::{House, PATIENCE, Running, apply, host, of, quarantine, token},
};

/// Many times as long as a controller that knows everything takes to tell a host what it should have.
const SILENCE: Duration = Duration::from_secs(2);

const POLICY: &str = "deny any except role=web -> role=db : tcp/5432 reason=\"the web's\"\n";

/// Whether a controller knows a host, and takes it for shut off.
async fn quarantined(operator: &Client, id: &str) -> Option<bool> {
    let hosts: Hosts = operator.get("/v1/fleet/hosts").await.unwrap();
    hosts.hosts.iter().find(|host| host.id == id).map(|host| host.quarantined)
}

async fn until_quarantined(operator: &Client, id: &str, expected: bool) {
    let deadline = Instant::now() + PATIENCE;
    while quarantined(operator, id).await != Some(expected) {
        assert!(Instant::now() < deadline, "{id} is not known to be so: {expected}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn what_is_over_is_not_told_by_a_controller_that_lags_behind_its_store() {
    let machine = Host::new();
    let members = [(&machine, IpAddr::from(Ipv4Addr::LOCALHOST))];
    let cluster = Cluster::start(&members, None);
    let member = cluster.endpoint(0);
    machine.namespace.inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(lags(&member.to_string(), member));
    });
}

async fn lags(member: &str, at: std::net::SocketAddr) {
    let house = House::new("lagging");
    let proxy = Proxy::start(at).await;
    let store = |at: &str| -> Location { format!("etcd://{at}/lagging").parse().unwrap() };
    let leader = Running::start(house.setup("c1", store(member))).await;
    let anna = house.identity("fwnet:operator/anna");
    let operator = house.client(Some(&anna), leader.address);
    let enrolled = token(&operator, host("web-1")).await;
    let follower = Running::start(house.setup("c2", store(&proxy.address.to_string()))).await;
    let asking = house.client(Some(&anna), follower.address);
    let web = of(&joining::join(&enrolled).await.unwrap().membership);
    apply(&operator, 1, &[("shop", POLICY)]).await;

    until_quarantined(&asking, "web-1", false).await;

    // A follower that hears everything tells the same as the leader.
    let mut line = Line::hello(&web, follower.address).await;
    assert!(!line.target().await.1.quarantine);

    for (held, shut_off) in [(Held::Watches, true), (Held::Everything, false)] {
        let mut stays = line;
        proxy.hold(held);
        quarantine(&operator, "web-1", shut_off).await;
        // The follower has not heard of it, and tells nothing else than that to whom is there already.
        stays.say(Up::Beat(Beat::default())).await;
        assert!(stays.is_silent(SILENCE).await);
        let mut led = Line::hello(&web, leader.address).await;
        assert_eq!(led.target().await.1.quarantine, shut_off);
        drop(led);
        // Whoever comes back from the leader is not told what was before.
        let mut back = Line::hello(&web, follower.address).await;
        assert!(back.is_silent(SILENCE).await, "what is over was told, {held:?}");
        // Everything else goes on there.
        let known = timeout(Duration::from_secs(1), quarantined(&asking, "web-1")).await;
        assert_eq!(known, Ok(Some(!shut_off)));
        proxy.hold(Held::Nothing);
        assert_eq!(back.target().await.1.quarantine, shut_off);
        until_quarantined(&asking, "web-1", shut_off).await;
        line = back;
    }
    drop(line);
    enrols(&proxy, (&house, &operator, &leader), &follower).await;
}

/// Somebody enrols, renews and is removed, of which a follower hears late.
async fn enrols(
    proxy: &Proxy,
    (house, operator, leader): (&House, &Client, &Running),
    follower: &Running,
) {
    proxy.hold(Held::Watches);
    let mut made = token(operator, host("db-1")).await;
    // The leader is found by way of the one that has not heard of the token.
    made.endpoints = vec![follower.address.to_string()];
    let mut member = joining::join(&made).await.unwrap().membership;
    let db = of(&member);
    let mut early = Line::hello(&db, follower.address).await;
    match early.hear().await {
        Heard::Said(Down::Later(later)) => assert!(later.why.contains("not known here yet")),
        other @ (Heard::Said(_) | Heard::End) => panic!("{other:?}"),
    }
    member.endpoints = vec![follower.address.to_string()];
    let next = of(&joining::renew(&member).await.unwrap());
    assert!(matches!(
        Line::hello(&db, leader.address).await.hear().await,
        Heard::Said(Down::Target(_))
    ));
    // Who waits while it hears again is served there.
    let mut waits = Line::hello(&next, follower.address).await;
    proxy.hold(Held::Nothing);
    waits.target().await;
    // And once it has heard of the end, who was removed is refused, whichever certificate it shows.
    let anna = house.identity("fwnet:operator/anna");
    let asking = house.client(Some(&anna), follower.address);
    operator.call::<()>(Method::DELETE, "/v1/fleet/hosts/db-1", None::<&()>).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    while quarantined(&asking, "db-1").await.is_some() {
        assert!(Instant::now() < deadline, "the removal is heard of");
        sleep(Duration::from_millis(20)).await;
    }
    for identity in [&db, &next] {
        let line = Line::hello(identity, follower.address).await;
        assert_eq!(line.ends().await, "`db-1` is not enrolled");
    }
}
