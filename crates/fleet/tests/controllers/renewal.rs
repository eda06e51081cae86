//! Certificates of a few seconds: a controller and a relay renew their own, hosts do, and everybody goes on beyond the time at
//! which the first ones were good.

use std::time::Duration;

use fleet::{api::orders::Enroll, joining, membership::Membership};
use jiff::Timestamp;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    line::{Heard, Line},
    running::{Fleet, PATIENCE, Relaying, apply, host, of},
};
use wire::sync::Down;

const LIFETIME: Duration = Duration::from_secs(8);

#[tokio::test]
async fn certificates_are_renewed_in_time_by_whoever_has_one() {
    let fleet = Fleet::living("renewal", LIFETIME).await;
    let relay = Enroll { subject: "fwnet:relay/r1".to_owned(), ..host("") };
    let first = joining::join(&fleet.token(relay).await).await.unwrap().membership;
    let life = first.expires.duration_since(first.issued).as_secs();
    assert!((7..=8).contains(&life), "{first:?}");
    let relay = Relaying::start(&fleet.house, first.clone()).await;
    let mut web = joining::join(&fleet.token(host("web-1")).await).await.unwrap().membership;
    let begun = web.expires;
    apply(&fleet.operator, 1, &[("all", "deny any -> any : tcp/23 reason=\"no telnet\"\n")]).await;
    let deadline = Instant::now() + 2 * PATIENCE;
    // Until both have had two certificates more, and nothing that anybody began with is good any more.
    let past = begun.max(first.expires) + jiff::SignedDuration::from_secs(4);
    let mut served = 0;
    while Timestamp::now() < past {
        assert!(Instant::now() < deadline);
        if web.renew_at() <= Timestamp::now() {
            web = joining::renew(&web).await.unwrap();
        }
        for at in [fleet.address(), relay.address] {
            // A relay whose line upward is made anew has nothing to tell for a moment.
            if let Ok(mut line) = Line::tried(&of(&web), at).await {
                line.begin().await;
                let heard = timeout(Duration::from_secs(2), line.hear()).await;
                served += u32::from(matches!(heard, Ok(Heard::Said(Down::Target(_)))));
            }
        }
        sleep(Duration::from_millis(200)).await;
    }
    let renewed = Membership::load(&relay.directory).unwrap().unwrap();
    assert!(renewed.expires > first.expires && renewed.certificate != first.certificate);
    assert!(web.expires > begun);
    assert!(served > 10, "{served}");
    // By now with certificates of which none is the first.
    for at in [fleet.address(), relay.address] {
        loop {
            let mut line = Line::hello(&of(&web), at).await;
            if let Heard::Said(Down::Target(_)) = line.hear().await {
                break;
            }
            assert!(Instant::now() < deadline);
        }
    }
}
