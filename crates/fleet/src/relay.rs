//! The process `fwnet relay`: the same server as a controller's without a store, fed by a controller.
//!
//! What its hosts should have comes from above, and pieces that it lacks are fetched there once for all of them. While
//! nobody is above, hosts keep what they have and get what is here.

mod core;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::{Router, http::StatusCode};
use jiff::Timestamp;
use rustls::{ClientConfig, ServerConfig, server::ProducesTickets};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::sleep,
};
use wire::sync::PROTOCOL;

use self::core::{Core, Question};
use crate::{
    controller::problem::Problem,
    joining,
    membership::{Membership, SaveError},
    server::{
        Limits, Server, TOLD,
        counted::Counted,
        lines::among_lines,
        listening::{Listeners, measure},
    },
    tls::{self, Believed, Identity, IdentityError},
    uplink::{ABOVE, Above, Patience, hold},
};

pub use crate::server::{ListenError, Listening};

/// What a relay is told.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where its membership is kept.
    pub directory: PathBuf,
    /// Its membership.
    pub membership: Membership,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where metrics are read.
    pub metrics: Option<SocketAddr>,
}

/// Why a relay cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Its membership.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// TLS.
    #[error("set up TLS")]
    Tls(#[from] rustls::Error),
    /// A listener.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// How a relay speaks TLS, on both sides.
#[derive(Clone, Debug)]
struct Speaking {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    endpoints: Vec<String>,
}

impl Speaking {
    fn of(member: &Membership, tickets: &Arc<dyn ProducesTickets>) -> Result<Self, RunError> {
        let identity = Identity::of(member)?;
        let server = tls::server(&identity, &[PROTOCOL], Arc::clone(tickets))?;
        let believed = Believed::Authority(identity.authority.clone());
        let client = tls::client(Some(&identity), believed, PROTOCOL)?;
        let endpoints = member.endpoints.clone();
        Ok(Self { server: Arc::new(server), client: Arc::new(client), endpoints })
    }
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
    let tickets = tls::tickets()?;
    let first = Speaking::of(&setup.membership, &tickets)?;
    let (serving, tls) = watch::channel(Arc::clone(&first.server));
    let (speaking, spoken) = watch::channel(first);
    let (tell, told) = mpsc::channel(TOLD);
    let (say, above) = mpsc::channel(ABOVE);
    let (ask, asked) = mpsc::channel(QUESTIONS);
    let counted = Counted::default();
    let server = Server {
        tls,
        router: router(),
        told: tell,
        counted: counted.clone(),
        limits: Limits::default(),
    };
    let Listeners { fleet, metrics, at } = Listeners::open(setup.listen, setup.metrics)?;
    let renewing = renew(setup.membership, setup.directory, tickets, serving, speaking);
    ready(at);
    tokio::select! {
        () = among_lines(Core::new(counted.clone()).attend(told, above, asked)) => {}
        () = reach(spoken, say) => {}
        () = server.serve(fleet) => {}
        () = renewing => {}
        () = measure(metrics, move || figures(ask.clone(), counted.clone())) => {}
        () = stop => {}
    }
    Ok(())
}

/// Whoever asks by HTTP is told where to.
fn router() -> Router {
    let why = "a relay serves agents: ask a controller";
    Router::new().fallback(async move || Problem::new(StatusCode::NOT_FOUND, why))
}

/// Questions that wait.
const QUESTIONS: usize = 16;

/// Holds a line to one of the controllers, whichever answers.
async fn reach(spoken: watch::Receiver<Speaking>, say: mpsc::Sender<Above>) {
    let mut patience = Patience::new();
    let mut turn = usize::from(crate::join::random::<1>()[0]);
    loop {
        let Speaking { client, endpoints, .. } = spoken.borrow().clone();
        let at = turn.checked_rem(endpoints.len()).unwrap_or_default();
        if let Some(endpoint) = endpoints.get(at) {
            hold(&client, endpoint, &say, &mut patience).await;
        }
        turn = turn.wrapping_add(1);
        patience.wait().await;
    }
}

/// Renews the relay's own certificate whenever half of its time is over.
async fn renew(
    mut member: Membership,
    directory: PathBuf,
    tickets: Arc<dyn ProducesTickets>,
    serving: watch::Sender<Arc<ServerConfig>>,
    speaking: watch::Sender<Speaking>,
) {
    loop {
        let wait = member.renew_at().duration_since(Timestamp::now());
        sleep(Duration::try_from(wait).unwrap_or_default()).await;
        let renewed = joining::renew(&member).await;
        let kept = renewed.map_err(|error| error.to_string()).and_then(|next| {
            let kept: Result<(), SaveError> = next.save(&directory);
            kept.map_err(|error| error.to_string())?;
            let speaks = Speaking::of(&next, &tickets).map_err(|error| error.to_string())?;
            Ok((next, speaks))
        });
        match kept {
            Ok((next, speaks)) => {
                member = next;
                serving.send_replace(Arc::clone(&speaks.server));
                speaking.send_replace(speaks);
            }
            Err(error) => eprintln!("fwnet: the relay's certificate is not renewed: {error}"),
        }
        // A relay whose clock is ahead has one that seems to be old at once.
        sleep(member.renew_again()).await;
    }
}

/// What metrics say.
async fn figures(ask: mpsc::Sender<Question>, counted: Counted) -> Result<String, String> {
    let ending = || "the relay is ending".to_owned();
    let (answer, answered) = oneshot::channel();
    ask.send(Question(answer)).await.map_err(|_gone| ending())?;
    let known = answered.await.map_err(|_gone| ending())?;
    Ok(known.text(&counted))
}
