//! A fleet of controllers in this process.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use fleet::{
    api::{
        client::{CallError, Client},
        orders::{Apply, Done, Enroll, Hosts, Quarantine, Token},
    },
    authority::Authority,
    controller::{Listening, Setup, run},
    join,
    joining::{self, Joined},
    membership::Membership,
    relay, settings,
    store::Location,
    tls::{Believed, Identity},
    whole,
};
use jiff::Timestamp;
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};

use crate::people::{bundle, root_text};

pub(crate) const HOUR: Duration = Duration::from_secs(3_600);
/// Nothing that works takes nearly as long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What `fwnet fleet init` makes, in a directory that goes with it.
pub(crate) struct House {
    pub(crate) directory: PathBuf,
    pub(crate) authority: Authority,
}

impl Drop for House {
    fn drop(&mut self) {
        let _removed = std::fs::remove_dir_all(&self.directory);
    }
}

impl House {
    pub(crate) fn new(name: &str) -> Self {
        let directory =
            std::env::temp_dir().join(format!("fwnet-controllers-{name}-{}", std::process::id()));
        let _old = std::fs::remove_dir_all(&directory);
        let authority = Authority::make(&directory, "test", Timestamp::now()).unwrap();
        whole::write(&directory, settings::ROOT, root_text().as_bytes()).unwrap();
        Self { directory, authority }
    }

    /// A controller at a free port of 127.0.0.1.
    pub(crate) fn setup(&self, name: &str, store: Location) -> Setup {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Setup {
            directory: self.directory.clone(),
            name: name.to_owned(),
            listen: port,
            endpoint: port.to_string(),
            endpoints: vec![port.to_string()],
            store,
            stamping: None,
            keep: 20,
            metrics: Some("127.0.0.1:0".parse().unwrap()),
            lifetime: HOUR,
        }
    }

    /// A certificate that nobody has enrolled.
    pub(crate) fn identity(&self, subject: &str) -> Identity {
        self.authority.issue(&subject.parse().unwrap(), Timestamp::now(), HOUR).unwrap()
    }

    pub(crate) fn client(&self, identity: Option<&Identity>, address: SocketAddr) -> Client {
        let believed = Believed::Authority(self.authority.certificate().clone());
        Client::new(identity, believed, vec![address.to_string()]).unwrap()
    }
}

/// A controller that runs until this is dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) metrics: SocketAddr,
    running: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Running {
    pub(crate) async fn start(setup: Setup) -> Self {
        let (tell, told) = oneshot::channel();
        let running = tokio::spawn(async {
            let ready = |listening: Listening| {
                let _heard = tell.send(listening);
            };
            run(setup, ready, std::future::pending()).await.unwrap();
        });
        let listening = timeout(PATIENCE, told).await.unwrap().unwrap();
        Self { address: listening.fleet, metrics: listening.metrics.unwrap(), running }
    }
}

/// A relay that runs until this is dropped; what it keeps goes with the house.
pub(crate) struct Relaying {
    pub(crate) address: SocketAddr,
    pub(crate) metrics: SocketAddr,
    pub(crate) directory: PathBuf,
    running: JoinHandle<()>,
}

impl Drop for Relaying {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Relaying {
    pub(crate) async fn start(house: &House, membership: Membership) -> Self {
        let directory = house.directory.join("relay");
        membership.save(&directory).unwrap();
        let (tell, told) = oneshot::channel();
        let free: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let kept = directory.clone();
        let setup = relay::Setup { directory, membership, listen: free, metrics: Some(free) };
        let running = tokio::spawn(async move {
            let ready = |listening: Listening| {
                let _heard = tell.send(listening);
            };
            relay::run(setup, ready, std::future::pending()).await.unwrap();
        });
        let listening = timeout(PATIENCE, told).await.unwrap().unwrap();
        let metrics = listening.metrics.unwrap();
        Self { address: listening.fleet, metrics, directory: kept, running }
    }
}

/// One controller, with an operator.
pub(crate) struct Fleet {
    pub(crate) operator: Client,
    pub(crate) controller: Running,
    pub(crate) house: House,
}

impl Fleet {
    pub(crate) async fn new(name: &str) -> Self {
        Self::living(name, HOUR).await
    }

    /// With certificates that are good for so long.
    pub(crate) async fn living(name: &str, lifetime: Duration) -> Self {
        let house = House::new(name);
        let store = Location::Embedded(house.directory.join("store"));
        let setup = Setup { lifetime, ..house.setup("c1", store) };
        let controller = Running::start(setup).await;
        let anna = house.identity("fwnet:operator/anna");
        let operator = house.client(Some(&anna), controller.address);
        Self { operator, controller, house }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.controller.address
    }

    pub(crate) fn client(&self, identity: Option<&Identity>) -> Client {
        self.house.client(identity, self.address())
    }

    pub(crate) fn identity(&self, subject: &str) -> Identity {
        self.house.identity(subject)
    }

    pub(crate) async fn token(&self, enroll: Enroll) -> join::Token {
        token(&self.operator, enroll).await
    }

    pub(crate) async fn host(&self, id: &str) -> Joined {
        joining::join(&self.token(host(id)).await).await.unwrap()
    }

    pub(crate) async fn hosts(&self) -> Hosts {
        self.operator.get("/v1/fleet/hosts").await.unwrap()
    }
}

pub(crate) async fn token(operator: &Client, enroll: Enroll) -> join::Token {
    let made: Token = operator.post("/v1/fleet/tokens", &enroll).await.unwrap();
    made.token.parse().unwrap()
}

/// Makes documents current.
pub(crate) async fn apply(operator: &Client, version: u64, documents: &[(&str, &str)]) {
    let asked = Apply { bundle: bundle(version, documents), ..Apply::default() };
    let done: Done = operator.post("/v1/fleet/versions", &asked).await.unwrap();
    assert_eq!(done.current, version);
}

pub(crate) async fn quarantine(operator: &Client, id: &str, quarantined: bool) {
    let path = format!("/v1/fleet/hosts/{id}/quarantine");
    operator.post::<()>(&path, &Quarantine { quarantined }).await.unwrap();
}

pub(crate) fn of(member: &Membership) -> Identity {
    Identity::of(member).unwrap()
}

pub(crate) fn host(id: &str) -> Enroll {
    Enroll { subject: format!("fwnet:host/{id}"), valid_s: 60, ..Enroll::default() }
}

#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(answer: Result<T, CallError>, code: u16) -> String {
    match answer {
        Err(CallError::Refused { status, wrong }) => {
            assert_eq!(status, code, "{}", wrong.error);
            wrong.error
        }
        other => panic!("{other:?}"),
    }
}
