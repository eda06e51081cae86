//! The server: a thread of its own, which never touches the firewall.

use std::{
    fs,
    io::ErrorKind,
    os::unix::{
        fs::{PermissionsExt, chown},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context, bail};
use axum::{Router, extract::DefaultBodyLimit, http::StatusCode, middleware};
use tokio::sync::oneshot;

use super::{Gate, Peer, Problem, peer::pass, routes, routes::status::Status};
use crate::agent::{Asking, Core, Shown};

/// Bytes of one body: some documents of the largest size, as JSON.
const BODY_BYTES_MAX: usize = 64 << 20;

/// What every route has at hand.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    asking: Asking,
    shown: Shown,
}

impl Api {
    /// For those who ask without a socket.
    pub(crate) fn new(asking: Asking, shown: Shown) -> Self {
        Self { asking, shown }
    }

    /// Has the core do `work`.
    ///
    /// # Errors
    /// Where the agent is ending.
    pub(crate) async fn core<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Core) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        Ok(self.asking.ask(work).await?)
    }

    /// Has the core do `work` before everything else that waits.
    ///
    /// # Errors
    /// Where the agent is ending.
    pub(crate) async fn core_first<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Core) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        Ok(self.asking.ask_first(work).await?)
    }

    /// Has `work` done by a thread of its own, which asks the core for what it needs.
    ///
    /// # Errors
    /// What `work` says, and where the agent is ending.
    pub(crate) async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Asking) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let asking = self.asking.clone();
        let working = tokio::task::spawn_blocking(move || work(&asking));
        working.await.map_err(anyhow::Error::from)?
    }

    /// What the core wrote down before what it is at.
    pub(crate) fn busy(&self) -> Option<Status> {
        self.shown.busy()
    }
}

/// The serving thread.
#[derive(Debug)]
pub(crate) struct Serving {
    stop: oneshot::Sender<()>,
    ended: mpsc::Receiver<()>,
}

/// Answers that are being given may take that long when the agent ends.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

impl Serving {
    /// Takes no more requests, and waits for the answers that are being given.
    pub(crate) fn end(self) {
        if self.stop.send(()).is_ok() {
            // Who reads slowly, or follows, is cut off.
            let _ended = self.ended.recv_timeout(LAST_ANSWERS);
        }
    }
}

/// Binds the socket so that those whom the gate lets in can connect. What a dead agent left at the path is replaced.
///
/// # Errors
/// Where another agent answers there, or the path cannot be used.
pub(crate) fn listen(path: &Path, gate: Gate) -> anyhow::Result<UnixListener> {
    let context = || path.display().to_string();
    if UnixStream::connect(path).is_ok() {
        bail!("another agent answers at {}", path.display());
    }
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(context)?;
    }
    // Bound beside its name, so that nobody connects before the permissions are right.
    let new = PathBuf::from(format!("{}.new", path.display()));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(context);
        }
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&new).with_context(context)?;
    if let Some(group) = gate.write {
        chown(&new, None, Some(group)).with_context(context)?;
    }
    // A socket has one group. Where there are two, everybody connects, and the gate looks at each.
    let mode = if gate.read.is_some() { 0o666 } else { 0o660 };
    fs::set_permissions(&new, fs::Permissions::from_mode(mode)).with_context(context)?;
    fs::rename(&new, path).with_context(context)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves on a thread of its own.
///
/// # Errors
/// Where it cannot be started.
pub(crate) fn serve(
    listener: UnixListener,
    gate: Gate,
    asking: Asking,
    shown: Shown,
) -> anyhow::Result<Serving> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .context("start the API")?;
    let listener = {
        let _inside = runtime.enter();
        tokio::net::UnixListener::from_std(listener).context("start the API")?
    };
    let service = router(Api { asking, shown }, gate).into_make_service_with_connect_info::<Peer>();
    let (stop, stopped) = oneshot::channel();
    let (end, ended) = mpsc::channel();
    let serving = move || {
        let served = runtime.block_on(async {
            let stopped = async { stopped.await.unwrap_or_default() };
            axum::serve(listener, service).with_graceful_shutdown(stopped).await
        });
        if let Err(error) = served {
            eprintln!("fwnet: the API ended: {error}");
        }
        let _heard = end.send(());
    };
    thread::Builder::new().name("api".to_owned()).spawn(serving).context("start the API")?;
    Ok(Serving { stop, ended })
}

fn router(api: Api, gate: Gate) -> Router {
    routes::all()
        .split_for_parts()
        .0
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "there is no such path"))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "the path does not take this method")
        })
        .layer(middleware::from_fn(move |request, next| pass(gate, request, next)))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(api)
}
