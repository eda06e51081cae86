//! A copy of the store that is made while its controller runs, and a controller that is started on it.

use std::fs;

use fleet::{
    api::orders::{Hosts, Versions},
    store::Location,
};

use crate::{
    line::Line,
    running::{Fleet, Running, apply, of, refused},
};

#[tokio::test]
async fn a_controller_on_a_backup_knows_what_was_there_when_it_was_made() {
    let fleet = Fleet::new("backup").await;
    let web = of(&fleet.host("web-1").await.membership);
    let policy = "deny any -> any : tcp/23 reason=\"no telnet\"\n";
    apply(&fleet.operator, 1, &[("all", policy)]).await;
    let mut line = Line::hello(&web, fleet.address()).await;
    let (target, _) = line.target().await;
    let before = fleet.hosts().await;
    let mut copy = Vec::new();
    let saved = fleet.operator.save("/v1/fleet/backup", |part| {
        copy.extend_from_slice(part);
        Ok(())
    });
    let bytes = saved.await.unwrap();
    assert_eq!(bytes, copy.len() as u64);
    // The controller goes on, and what comes later is not in the copy. Nothing is left beside the store.
    fleet.host("web-2").await;
    let left = fs::read_dir(&fleet.house.directory).unwrap();
    let left: Vec<_> =
        left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(left.iter().all(|name| !name.contains("backup")), "{left:?}");

    let restored = fleet.house.directory.join("restored");
    fs::write(&restored, copy).unwrap();
    let second = Running::start(fleet.house.setup("c2", Location::Embedded(restored))).await;
    let anna = fleet.identity("fwnet:operator/anna");
    let operator = fleet.house.client(Some(&anna), second.address);
    assert_eq!(operator.get::<Hosts>("/v1/fleet/hosts").await.unwrap(), before);
    assert_eq!(operator.get::<Versions>("/v1/fleet/versions").await.unwrap().versions.len(), 1);
    let mut line = Line::hello(&web, second.address).await;
    assert_eq!(line.target().await.0.digest(), target.digest());
    // Orders are taken there as well.
    operator.post::<()>("/v1/fleet/hosts/web-1/addresses", &["192.0.2.7"]).await.unwrap();
    // Nobody else gets a copy.
    for client in [fleet.client(None), fleet.client(Some(&web))] {
        refused(client.save("/v1/fleet/backup", |_| Ok(())).await, 403);
    }
}
