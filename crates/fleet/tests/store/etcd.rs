//! The store in etcd: a real cluster of three members, which are killed, stopped and started again.

use std::{
    fs,
    future::Future,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use fleet::store::{
    Batch, CommitError, LEADER, Location, Revision, Store, Trouble, WatchEnd, digest,
};
use rustix::process::Signal;
use serde_json::{Value, json};
use testbed::{Directory, Host, Network, etcd::Cluster, etcd::Tls};

use crate::{
    promises::{self, lead, leader, put, records, soon},
    proxy::Proxy,
};

fn places(host: &Host, count: u8) -> Vec<(&Host, IpAddr)> {
    (1..=count).map(|last| (host, Ipv4Addr::new(127, 0, 0, last).into())).collect()
}

/// Does something where the members can be reached: on a thread that has entered the host's namespace.
fn on<T: Send>(host: &Host, work: impl Future<Output = T> + Send) -> T {
    host.namespace.inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work)
    })
}

async fn open(cluster: &Cluster<'_>, prefix: &str) -> Store {
    let location: Location = format!("etcd://{}/{prefix}", cluster.endpoints()).parse().unwrap();
    Store::open(&location).await.unwrap()
}

#[test]
fn it_keeps_the_promises_of_a_store() {
    let host = Host::new();
    let cluster = Cluster::start(&places(&host, 3), None);
    on(&host, async {
        promises::a_batch_happens_whole_or_not_at_all(open(&cluster, "a").await).await;
        promises::pieces_come_before_what_names_them(open(&cluster, "b").await).await;
        promises::a_load_is_of_one_moment(open(&cluster, "l").await).await;
        let store = open(&cluster, "collecting").await;
        crate::collecting::no_piece_of_a_version_goes_while_it_is_applied(store).await;
        let (one, two) = (open(&cluster, "c").await, open(&cluster, "c").await);
        promises::a_watch_has_no_gaps(one, two).await;
        let (one, two) = (open(&cluster, "d").await, open(&cluster, "d").await);
        promises::one_leads_and_the_next_one_waits(one, two).await;
        // Stores of one cluster do not see each other.
        assert_eq!(records(&open(&cluster, "e").await).await, []);
    });
}

/// A batch with its number, in a record of its own and in one that all share.
fn numbered(number: u64) -> Batch {
    let mut batch = put("last", &number.to_string());
    batch.put.push((format!("count/{number:06}"), number.to_string().into_bytes()));
    batch
}

/// Which numbered batch a change is.
fn number_of(changes: &fleet::store::Changes) -> Option<u64> {
    let (_, value) = changes.records.iter().find(|(key, _)| key == "last")?;
    assert_eq!(changes.records.len(), 2, "half a batch: {changes:?}");
    String::from_utf8(value.clone().unwrap()).unwrap().parse().ok()
}

#[test]
fn no_acknowledged_batch_is_lost_and_none_happens_twice_when_the_leading_member_is_killed() {
    const KILLS: u64 = 4;
    const END: u64 = u64::MAX;
    let host = Host::new();
    let mut cluster = Cluster::start(&places(&host, 3), None);
    let endpoints = cluster.endpoints();
    let location: Location = format!("etcd://{endpoints}/killed").parse().unwrap();
    // Batches that were begun, until END.
    let begun = AtomicU64::new(0);
    let stop = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let (begun, stop, host, location) = (&begun, &stop, &host, &location);
        let committing = scope.spawn(move || {
            on(host, async {
                let store = Store::open(location).await.unwrap();
                let from = soon("a load", store.load()).await.unwrap().revision;
                let mut watch = store.watch(from).await.unwrap();
                let watching = tokio::spawn(async move {
                    let mut seen: Vec<(u64, Revision)> = Vec::new();
                    loop {
                        let changes = soon("news", watch.next()).await.unwrap();
                        match number_of(&changes) {
                            Some(END) => return seen,
                            Some(number) => seen.push((number, changes.revision)),
                            None => assert!(changes.records.iter().all(|(key, _)| key == LEADER)),
                        }
                    }
                });
                let mut leading = lead(&store, "a").await;
                let (mut acknowledged, mut unknown) = (Vec::new(), Vec::new());
                let mut number = 0;
                while stop.load(Ordering::Relaxed) == 0 {
                    begun.store(number, Ordering::Relaxed);
                    match leading.commit(&numbered(number)).await {
                        Ok(revision) => acknowledged.push((number, revision)),
                        Err(CommitError::Unknown(_)) => unknown.push(number),
                        // The lease may end while there is no leader to renew it.
                        Err(CommitError::Deposed) => leading = lead(&store, "a").await,
                        Err(CommitError::Trouble(Trouble::Unreachable(_))) => {}
                        Err(error) => panic!("batch {number}: {error:?}"),
                    }
                    number += 1;
                }
                if !leading.leads() {
                    leading = lead(&store, "a").await;
                }
                leading.commit(&numbered(END)).await.unwrap();
                let seen = soon("the end of the watch", watching).await.unwrap();
                let found = records(&store).await;
                (acknowledged, unknown, seen, found)
            })
        });
        for kill in 0..KILLS {
            // Batches go on, and then any moment of one.
            let before = begun.load(Ordering::Relaxed);
            testbed::wait_until(Duration::from_secs(60), "batches that go on", || {
                committing.is_finished() || begun.load(Ordering::Relaxed) > before + 20 + 7 * kill
            });
            let leading = cluster.wait_for_leader();
            cluster.kill(leading);
            // Without it the others go on.
            let before = begun.load(Ordering::Relaxed);
            testbed::wait_until(Duration::from_secs(60), "batches without that member", || {
                committing.is_finished() || begun.load(Ordering::Relaxed) > before + 20
            });
            cluster.begin(leading);
            cluster.wait_for(leading);
        }
        stop.store(1, Ordering::Relaxed);
        let (acknowledged, unknown, seen, found) = committing.join().unwrap();
        assert!(acknowledged.len() > 40 * usize::try_from(KILLS).unwrap());
        // The watch told each batch once, in order, and every one that was acknowledged, at its revision.
        assert!(seen.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1), "{seen:?}");
        for one in &acknowledged {
            assert!(seen.contains(one), "{one:?} was acknowledged and is not told");
        }
        let others = seen.iter().filter(|(number, _)| !unknown.contains(number));
        assert_eq!(others.copied().collect::<Vec<_>>(), acknowledged);
        // What is there is what was told.
        let told =
            seen.iter().map(|(number, _)| (format!("count/{number:06}"), number.to_string()));
        let told: Vec<_> = told.collect();
        let counted = found
            .into_iter()
            .filter(|(key, _)| key.starts_with("count/") && *key != format!("count/{END:06}"));
        assert_eq!(counted.collect::<Vec<_>>(), told);
    });
}

#[test]
fn who_lost_the_lease_commits_nothing_and_the_next_one_leads() {
    let host = Host::new();
    let cluster = Cluster::start(&places(&host, 1), None);
    on(&host, async {
        let (one, two) = (open(&cluster, "x").await, open(&cluster, "x").await);
        let first = lead(&one, "a").await;
        first.commit(&put("k", "1")).await.unwrap();
        // An operator takes every lease away.
        let leases = cluster.post(0, "/v3/lease/leases", "{}");
        let leases: Value = serde_json::from_str(&leases).unwrap();
        for lease in leases["leases"].as_array().unwrap() {
            cluster.post(
                0,
                "/v3/lease/revoke",
                &serde_json::json!({ "ID": lease["ID"] }).to_string(),
            );
        }
        let second = lead(&two, "b").await;
        assert!(matches!(first.commit(&put("k", "2")).await, Err(CommitError::Deposed)));
        assert!(!first.leads());
        soon("the end of a leadership", first.lost()).await;
        second.commit(&put("k", "3")).await.unwrap();
        drop(first);
        second.commit(&put("k", "4")).await.unwrap();
        // Who does not commit notices too.
        let lost = second.lost();
        let gone = cluster.post(
            0,
            "/v3/kv/deleterange",
            &format!(r#"{{"key":"{}"}}"#, base64_of("/x/records/leader")),
        );
        assert!(gone.contains(r#""deleted":"1""#), "{gone}");
        soon("the end of the other", lost).await;
        let third = lead(&one, "c").await;
        assert_eq!(two.leader().await.unwrap(), Some(leader("c")));
        assert!(third.since() > second.since());
        assert_eq!(records(&two).await, [("k".to_owned(), "4".to_owned())]);
    });
}

fn base64_of(text: &str) -> String {
    STANDARD.encode(text)
}

#[test]
fn a_batch_whose_answer_is_lost_happens_once() {
    let host = Host::new();
    let cluster = Cluster::start(&places(&host, 1), None);
    on(&host, async {
        let proxy = Proxy::start("127.0.0.9:2379".parse().unwrap(), cluster.endpoint(0));
        let location: Location = format!("etcd://{}/x", proxy.address).parse().unwrap();
        let store = Store::open(&location).await.unwrap();
        let from = store.load().await.unwrap().revision;
        let mut watch = store.watch(from).await.unwrap();
        // The beginning of a leadership is a write as well.
        proxy.lose(|| ());
        let leading = lead(&store, "a").await;
        assert_eq!(proxy.lost(), 1);
        assert_eq!(soon("news", watch.next()).await.unwrap().revision, leading.since());
        for number in 0..20 {
            proxy.lose(|| ());
            let mut batch = numbered(number);
            if number % 2 == 1 {
                // What was expected is different by then: by this very batch.
                let before = digest((number - 1).to_string().as_bytes());
                batch.expect =
                    vec![("last".to_owned(), Some(before)), (format!("count/{number:06}"), None)];
            }
            let revision = leading.commit(&batch).await.unwrap();
            assert_eq!(proxy.lost(), number + 2);
            let changes = soon("news", watch.next()).await.unwrap();
            assert_eq!((number_of(&changes), changes.revision), (Some(number), revision));
        }
        // The answer is lost and somebody else leads and commits before it can be asked for again: nobody knows.
        let prefix = [base64_of("/x/records/leader"), base64_of("/x/last")];
        let member = cluster.endpoint(0);
        proxy.lose(move || {
            for (path, body) in [
                ("/v3/kv/deleterange", format!(r#"{{"key":"{}"}}"#, prefix[0])),
                ("/v3/kv/put", format!(r#"{{"key":"{}","value":"e30="}}"#, prefix[0])),
                ("/v3/kv/put", format!(r#"{{"key":"{}","value":"e30="}}"#, prefix[1])),
            ] {
                post(member, path, &body);
            }
        });
        let unknown = leading.commit(&numbered(20)).await;
        assert!(matches!(unknown, Err(CommitError::Unknown(_))), "{unknown:?}");
        let deposed = leading.commit(&numbered(21)).await;
        assert!(matches!(deposed, Err(CommitError::Deposed)), "{deposed:?}");
        assert_eq!(number_of(&soon("news", watch.next()).await.unwrap()), Some(20));
    });
}

#[test]
fn another_cluster_in_the_same_place_is_not_taken_for_this_one() {
    let host = Host::new();
    let all = places(&host, 2);
    let mut ours = Cluster::start(&all[..1], None);
    let other = Cluster::start(&all[1..], None);
    let both = format!("etcd://{},{}/x", ours.endpoints(), other.endpoints());
    let location: Location = both.parse().unwrap();
    host.namespace.inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (store, mut watch) = runtime.block_on(async {
            let store = Store::open(&location).await.unwrap();
            let from = store.load().await.unwrap().revision;
            let watch = store.watch(from).await.unwrap();
            (store, watch)
        });
        ours.kill(0);
        runtime.block_on(async {
            let refused = soon("a refusal", store.load()).await;
            assert!(matches!(refused, Err(Trouble::OtherCluster)), "{refused:?}");
            let end = soon("the end of the watch", watch.next()).await;
            assert!(matches!(end, Err(WatchEnd::Trouble(Trouble::OtherCluster))), "{end:?}");
        });
    });
}

/// Asks a member from a thread that is in its namespace.
fn post(member: SocketAddr, path: &str, body: &str) {
    let mut stream = TcpStream::connect(member).unwrap();
    let length = body.len();
    write!(stream, "POST {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(" 200 OK"), "{answer}");
}

#[test]
fn what_the_cluster_has_forgotten_is_loaded_again() {
    let host = Host::new();
    let cluster = Cluster::start(&places(&host, 1), None);
    on(&host, async {
        let store = open(&cluster, "x").await;
        let leading = lead(&store, "a").await;
        let first = leading.commit(&put("k", "1")).await.unwrap();
        let mut last = first;
        for number in 0..5 {
            last = leading.commit(&put("k", &number.to_string())).await.unwrap();
        }
        let asked = format!(r#"{{"revision":"{}","physical":true}}"#, last.0);
        cluster.post(0, "/v3/kv/compaction", &asked);
        assert!(matches!(store.watch(first).await, Err(WatchEnd::Behind)));
        let loaded = store.load().await.unwrap();
        assert!(loaded.revision >= last);
        let mut watch = store.watch(loaded.revision).await.unwrap();
        let next = leading.commit(&put("k", "new")).await.unwrap();
        assert_eq!(soon("news", watch.next()).await.unwrap().revision, next);
    });
}

/// What begins some trouble, and ends the one before.
type Begin<'a> = Box<dyn Fn() + Send + Sync + 'a>;

#[test]
fn a_member_that_is_cut_off_or_hangs_costs_time_and_nothing_else() {
    let network = Network::star(4);
    let members: Vec<_> = (0..3)
        .map(|number| (&network.hosts()[usize::from(number)], network.address(number).into()))
        .collect();
    let cluster = Cluster::start(&members, None);
    on(&network.hosts()[3], async {
        let store = open(&cluster, "x").await;
        let from = store.load().await.unwrap().revision;
        let mut watch = store.watch(from).await.unwrap();
        let mut leading = lead(&store, "a").await;
        let trouble: [(&str, Begin<'_>); 4] = [
            ("nothing", Box::new(|| ())),
            ("a member that has lost the others", Box::new(|| network.cut(&[0], &[1, 2]))),
            (
                "one member within reach",
                Box::new(|| {
                    network.heal(&[0], &[1, 2]);
                    network.cut(&[3], &[0, 1]);
                }),
            ),
            (
                "a member that hangs",
                Box::new(|| {
                    network.heal(&[3], &[0, 1]);
                    cluster.signal(2, Signal::STOP);
                }),
            ),
        ];
        for (number, (what, begin)) in trouble.iter().enumerate() {
            begin();
            let batch = put("k", &number.to_string());
            let revision = loop {
                match soon(what, leading.commit(&batch)).await {
                    Ok(revision) => break revision,
                    Err(CommitError::Deposed) => leading = lead(&store, "a").await,
                    // Those that lead the cluster need a moment to agree on another one.
                    Err(CommitError::Unknown(_) | CommitError::Trouble(_)) => {}
                    Err(error) => panic!("{what}: {error:?}"),
                }
            };
            loop {
                let changes = soon(what, watch.next()).await.unwrap();
                assert!(changes.revision <= revision, "{what}: {changes:?} after {revision:?}");
                if changes.revision == revision {
                    let told = &changes.records[..];
                    let [(key, Some(value))] = told else { panic!("{what}: {told:?}") };
                    assert_eq!((key.as_str(), &value[..]), ("k", number.to_string().as_bytes()));
                    break;
                }
            }
        }
        cluster.signal(2, Signal::CONT);
        assert_eq!(records(&store).await, [("k".to_owned(), "3".to_owned())]);
    });
}

#[test]
fn without_a_majority_nothing_is_promised_and_afterwards_all_goes_on() {
    let host = Host::new();
    let mut cluster = Cluster::start(&places(&host, 3), None);
    let location: Location = format!("etcd://{}/x", cluster.endpoints()).parse().unwrap();
    // All on one runtime: the watch lives through it.
    host.namespace.inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (store, leading, mut watch, last) = runtime.block_on(async {
            let store = Store::open(&location).await.unwrap();
            let leading = lead(&store, "a").await;
            let last = leading.commit(&put("k", "1")).await.unwrap();
            let watch = store.watch(last).await.unwrap();
            (store, leading, watch, last)
        });
        cluster.kill(0);
        cluster.kill(1);
        runtime.block_on(async {
            let refused = soon("a refusal", leading.commit(&put("k", "2"))).await;
            assert!(
                matches!(
                    refused,
                    Err(CommitError::Unknown(Trouble::Unreachable(_))
                        | CommitError::Trouble(Trouble::Unreachable(_)))
                ),
                "{refused:?}"
            );
            // Who cannot renew the lease does not lead for longer than it lasts.
            soon("the end of the leadership", leading.lost()).await;
            let unread = soon("a refusal", store.load()).await;
            assert!(matches!(unread, Err(Trouble::Unreachable(_))), "{unread:?}");
        });
        drop(leading);
        cluster.begin(0);
        cluster.begin(1);
        cluster.wait_for_leader();
        runtime.block_on(async {
            let leading = lead(&store, "b").await;
            let next = leading.commit(&put("k", "3")).await.unwrap();
            let mut before = last;
            loop {
                let changes = soon("news", watch.next()).await.unwrap();
                assert!(changes.revision > before);
                before = changes.revision;
                if before == next {
                    break;
                }
            }
            assert_eq!(records(&store).await, [("k".to_owned(), "3".to_owned())]);
        });
    });
}

/// An authority with what it vouches for, as files.
struct Authority {
    certificate: rcgen::Certificate,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut authority = rcgen::CertificateParams::default();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = authority.self_signed(&key).unwrap();
        Self { certificate, issuer: rcgen::Issuer::new(authority, key) }
    }

    fn write(&self, directory: &Path, name: &str) {
        fs::write(directory.join(name), self.certificate.pem()).unwrap();
    }

    /// NAME.pem and NAME.key, good for servers and clients at 127.0.0.1 to 127.0.0.3.
    fn vouch(&self, directory: &Path, name: &str) {
        let key = rcgen::KeyPair::generate().unwrap();
        let addresses: Vec<String> = (1..=3).map(|last| format!("127.0.0.{last}")).collect();
        let mut params = rcgen::CertificateParams::new(addresses).unwrap();
        params.extended_key_usages = vec![
            rcgen::ExtendedKeyUsagePurpose::ServerAuth,
            rcgen::ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(directory.join(format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(directory.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

#[test]
fn a_cluster_that_asks_for_users_knows_this_one() {
    let directory = Directory::new();
    let file = directory.path().join("password");
    let host = Host::new();
    let mut cluster = Cluster::start(&places(&host, 1), None);
    for (path, body) in [
        ("user/add", json!({"name": "root", "password": "r"})),
        ("user/grant", json!({"user": "root", "role": "root"})),
        ("role/add", json!({"name": "fleet"})),
        (
            "role/grant",
            json!({"name": "fleet", "perm": {
                "permType": "READWRITE", "key": base64_of("/x/"), "range_end": base64_of("/x0"),
            }}),
        ),
        ("user/add", json!({"name": "fwnet", "password": "secret"})),
        ("user/grant", json!({"user": "fwnet", "role": "fleet"})),
        ("user/add", json!({"name": "other", "password": "secret"})),
        ("enable", json!({})),
    ] {
        cluster.post(0, &format!("/v3/auth/{path}"), &body.to_string());
    }
    let place = |user: &str| {
        let text = format!("etcd://{user}{}/x?password={}", cluster.endpoints(), file.display());
        text.parse::<Location>().unwrap()
    };
    let (ours, others) = (place("fwnet@"), place("other@"));
    let nobody: Location = format!("etcd://{}/x", cluster.endpoints()).parse().unwrap();
    let forbidden: Location = ours.to_string().replace("/x?", "/y?").parse().unwrap();
    let store = on(&host, async {
        let missing = Store::open(&ours).await.unwrap_err().to_string();
        assert!(missing.contains("password"), "{missing}");
        fs::write(&file, "wrong\n").unwrap();
        let store = Store::open(&ours).await.unwrap();
        let refused = soon("a wrong password", store.load()).await;
        assert!(matches!(refused, Err(Trouble::Refused(_))), "{refused:?}");
        // The right one counts at once.
        fs::write(&file, "secret\n").unwrap();
        promises::a_batch_happens_whole_or_not_at_all(store.clone()).await;
        for (what, place) in [
            ("no user", &nobody),
            ("a user without rights", &others),
            ("records that are not this user's", &forbidden),
        ] {
            let store = Store::open(place).await.unwrap();
            let refused = soon(what, store.load()).await;
            assert!(matches!(refused, Err(Trouble::Refused(_))), "{what}: {refused:?}");
        }
        store
    });
    // What the user is known by is forgotten by a member that begins anew, and worth nothing once rights change.
    cluster.kill(0);
    cluster.begin(0);
    cluster.wait_for_leader();
    let root = json!({"name": "root", "password": "r"}).to_string();
    let root = cluster.post(0, "/v3/auth/authenticate", &root);
    let root: Value = serde_json::from_str(&root).unwrap();
    let host = &host;
    on(host, async {
        let from = soon("a load", store.load()).await.unwrap().revision;
        let mut watch = store.watch(from).await.unwrap();
        let leading = lead(&store, "again").await;
        assert_eq!(soon("news", watch.next()).await.unwrap().revision, leading.since());
        let asked = json!({"name": "fwnet", "password": "changed"}).to_string();
        let token = root["token"].as_str().unwrap();
        let changed = cluster.post_as(0, "/v3/auth/user/changepw", &asked, Some(token));
        assert!(changed.contains("revision"), "{changed}");
        fs::write(&file, "changed").unwrap();
        let revision = leading.commit(&put("k", "v")).await.unwrap();
        assert_eq!(soon("news", watch.next()).await.unwrap().revision, revision);
    });
}

#[test]
fn with_tls_both_sides_are_known() {
    let directory = Directory::new();
    let at = |name: &str| directory.path().join(name);
    let (ours, others) = (Authority::new(), Authority::new());
    ours.write(directory.path(), "ca.pem");
    others.write(directory.path(), "other-ca.pem");
    ours.vouch(directory.path(), "member");
    ours.vouch(directory.path(), "client");
    others.vouch(directory.path(), "stranger");
    let host = Host::new();
    let tls = Tls { ca: at("ca.pem"), certificate: at("member.pem"), key: at("member.key") };
    let cluster = Cluster::start(&places(&host, 1), Some(&tls));
    on(&host, async {
        let place = |ca: &str, name: &str| {
            let path = directory.path().display();
            let parameters = match name {
                "" => format!("ca={path}/{ca}.pem"),
                name => format!("ca={path}/{ca}.pem&cert={path}/{name}.pem&key={path}/{name}.key"),
            };
            let text = format!("etcds://{}/x?{parameters}", cluster.endpoints());
            text.parse::<Location>().unwrap()
        };
        let store = Store::open(&place("ca", "client")).await.unwrap();
        let from = store.load().await.unwrap().revision;
        let mut watch = store.watch(from).await.unwrap();
        let leading = lead(&store, "a").await;
        let large = "v".repeat(fleet::store::batch::VALUE_BYTES_MAX);
        let revision = leading.commit(&put("k", &large)).await.unwrap();
        assert_eq!(soon("news", watch.next()).await.unwrap().revision, leading.since());
        assert_eq!(soon("news", watch.next()).await.unwrap().revision, revision);
        assert_eq!(records(&store).await, [("k".to_owned(), large)]);
        for (what, ca, name) in [
            ("a member nobody known vouches for", "other-ca", "client"),
            ("a client without a certificate", "ca", ""),
            ("a client somebody else vouches for", "ca", "stranger"),
        ] {
            let store = Store::open(&place(ca, name)).await.unwrap();
            let refused = soon(what, store.leader()).await;
            assert!(matches!(refused, Err(Trouble::Unreachable(_))), "{what}: {refused:?}");
        }
        let missing = Store::open(&place("none", "client")).await.unwrap_err();
        assert!(missing.to_string().contains("none.pem"), "{missing}");
    });
}
