//! The process `fwnet controller`: a store, what it holds, and everybody who asks.
//!
//! Every controller of a fleet serves agents and answers questions; the one that leads also writes. What a controller
//! believes is made of the store's records, its own orders included: they are done when the store tells them back.

mod asking;
mod body;
mod core;
mod desk;
mod duties;
mod following;
mod leading;
pub(crate) mod metrics;
pub(crate) mod problem;
mod proving;
mod routes;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use rustls::ServerConfig;
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use wire::sync::PROTOCOL;

pub use self::core::KnowError;
use self::{
    core::{Core, Ears},
    desk::{Desk, Fixed, OrderError},
    metrics::Figures,
};
use crate::{
    authority::{self, Authority, SignError},
    server::{
        Limits, Server, TOLD,
        lines::among_lines,
        listening::{Listeners, measure},
    },
    settings,
    store::{self, Leader, Location, Store},
    subject::{Kind, Subject, SubjectError},
    tls,
    uplink::ABOVE,
    whole,
};

pub use crate::server::{ListenError, Listening};
pub use controller::orders::{Keep, Stamping};

/// What a controller is told.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where `fwnet fleet init` put the authority and the root.
    pub directory: PathBuf,
    /// What this controller is called.
    pub name: String,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where followers send orders on to while it leads.
    pub endpoint: String,
    /// Where hosts find controllers: its own endpoint and those of others.
    pub endpoints: Vec<String>,
    /// Where the truth is.
    pub store: Location,
    /// Makes timestamps.
    pub stamping: Option<Stamping>,
    /// Of how many of the newest versions the documents are kept.
    pub keep: usize,
    /// Where metrics are read.
    pub metrics: Option<SocketAddr>,
    /// How long certificates are good.
    pub lifetime: Duration,
}

/// Why a controller cannot begin, or has ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The authority.
    #[error(transparent)]
    Authority(#[from] authority::OpenError),
    /// The root that hosts begin with.
    #[error("{}", .0.display())]
    Root(PathBuf, #[source] io::Error),
    /// Its name.
    #[error(transparent)]
    Name(#[from] SubjectError),
    /// Its own certificate.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// TLS.
    #[error("set up TLS")]
    Tls(#[from] rustls::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] store::OpenError),
    /// What is in it.
    #[error("read the store")]
    Know(#[from] KnowError),
    /// A listener.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The root in the directory is not the one that the store trusts.
    #[error("tell the store which root the fleet begins with: {0}")]
    Found(String),
}

/// Runs until `stop` is done.
///
/// # Errors
/// See [`RunError`].
pub async fn run(
    setup: Setup,
    ready: impl FnOnce(Listening),
    stop: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let authority = Authority::open(&setup.directory)?;
    let path = setup.directory.join(settings::ROOT);
    let root = whole::read(&path).map_err(|error| RunError::Root(path, error))?.into_bytes();
    let subject = Subject::new(Kind::Controller, &setup.name)?;
    let (renewing, tls) = Renewing::begin(&authority, subject.clone(), setup.lifetime)?;
    let store = Store::open(&setup.store).await?;
    let (saw, seen) = watch::channel(store::Revision::default());
    let (duty, duties) = mpsc::channel(DUTIES);
    let settings = controller::Settings {
        stamping: setup.stamping.clone(),
        keep: Keep { versions: setup.keep, ..Keep::default() },
        ..Default::default()
    };
    let figures = Figures::default();
    let core = Core::load(&store, settings, saw, duty, figures.counted.clone()).await?;
    let clock = core.clock;
    let (asking, asked) = asking::pair();
    let (tell, told) = mpsc::channel(TOLD);
    let (leads, lead) = watch::channel(leading::Lead::default());
    let fixed = Arc::new(Fixed {
        authority,
        root,
        endpoints: setup.endpoints.clone(),
        lifetime: setup.lifetime,
    });
    let desk = Desk { asking, lead, store: store.clone(), seen, fixed, figures: figures.clone() };
    let server = Server {
        tls,
        router: routes::router(desk.clone()),
        told: tell,
        counted: figures.counted.clone(),
        limits: Limits::default(),
    };
    let Listeners { fleet, metrics, at } = Listeners::open(setup.listen, setup.metrics)?;
    let own = Leader { name: setup.name.clone(), endpoint: setup.endpoint.clone() };
    let (say, above) = mpsc::channel(ABOVE);
    let lead = desk.lead.clone();
    let ears = Ears { asked, told, above, lead, store: store.clone() };
    let knowing = among_lines(core.attend(ears));
    let measuring = desk.clone();
    let measured = move || measurements(measuring.clone());
    let work = async {
        tokio::select! {
            () = knowing => Ok(()),
            () = leading::stand(store.clone(), own, leads) => Ok(()),
            () = server.serve(fleet) => Ok(()),
            () = duties::go_on(desk.clone(), duties) => Ok(()),
            () = proving::go_on(desk.clone(), clock) => Ok(()),
            () = following::follow(desk.fixed.clone(), subject, desk.lead.clone(), say) => Ok(()),
            () = measure(metrics, measured) => Ok(()),
            () = renewing.go_on(desk.fixed.clone()) => Ok(()),
            error = found(&desk) => Err(error),
        }
    };
    ready(at);
    tokio::select! {
        ended = work => ended,
        () = stop => Ok(()),
    }
}

/// What is to be done and was not yet.
const DUTIES: usize = 16;

/// Tells a new store which root the fleet begins with, once this controller leads. Ends only where the store trusts
/// another one.
async fn found(desk: &Desk) -> RunError {
    loop {
        let fixed = Arc::clone(&desk.fixed);
        let founded = desk
            .order(move |model, _now| Ok((controller::orders::found(model, &fixed.root)?, ())))
            .await;
        match founded {
            Ok(()) => return std::future::pending().await,
            Err(OrderError::Refused(refusal)) => return RunError::Found(refusal.to_string()),
            // Whoever leads does it.
            Err(_not_now) => sleep(AGAIN).await,
        }
    }
}

/// How long to wait before something is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Its own certificate, made anew before it expires.
struct Renewing {
    subject: Subject,
    lifetime: Duration,
    tickets: Arc<dyn rustls::server::ProducesTickets>,
    config: watch::Sender<Arc<ServerConfig>>,
}

impl Renewing {
    fn begin(
        authority: &Authority,
        subject: Subject,
        lifetime: Duration,
    ) -> Result<(Self, watch::Receiver<Arc<ServerConfig>>), RunError> {
        let tickets = tls::tickets()?;
        let config = Arc::new(Self::config(authority, &subject, lifetime, &tickets)?);
        let (config, current) = watch::channel(config);
        Ok((Self { subject, lifetime, tickets, config }, current))
    }

    fn config(
        authority: &Authority,
        subject: &Subject,
        lifetime: Duration,
        tickets: &Arc<dyn rustls::server::ProducesTickets>,
    ) -> Result<ServerConfig, RunError> {
        let identity = authority.issue(subject, Timestamp::now(), lifetime)?;
        Ok(tls::server(&identity, &[PROTOCOL, tls::HTTP], Arc::clone(tickets))?)
    }

    async fn go_on(self, fixed: Arc<Fixed>) {
        loop {
            sleep(self.lifetime / 2).await;
            match Self::config(&fixed.authority, &self.subject, self.lifetime, &self.tickets) {
                Ok(config) => {
                    self.config.send_replace(Arc::new(config));
                }
                Err(error) => eprintln!("fwnet: renew the controller's certificate: {error}"),
            }
        }
    }
}

/// What metrics say.
async fn measurements(desk: Desk) -> Result<String, String> {
    let leads = desk.lead.borrow().own.is_some();
    let counted = desk.figures;
    let text = desk.asking.ask(move |core| metrics::text(core, &counted, leads)).await;
    text.map_err(|gone| gone.to_string())
}
