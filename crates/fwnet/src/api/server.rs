//! The server: a thread of its own, which never touches the firewall.

use std::{
    fs,
    io::ErrorKind,
    os::unix::{
        fs::{PermissionsExt, chown},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context, bail};
use axum::{Router, extract::DefaultBodyLimit, http::StatusCode};

use super::{Peer, Problem, routes};
use crate::{
    agent::{Asking, Core},
    names::Names,
};

/// Bytes of one body: some documents of the largest size, as JSON.
const BODY_BYTES_MAX: usize = 64 << 20;

/// What every route has at hand.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    asking: Asking,
}

impl Api {
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
}

/// Binds the socket: only root and the members of `group` may connect. What a dead agent left at the path is replaced.
///
/// # Errors
/// Where another agent answers there, the group is unknown, or the path cannot be used.
pub(crate) fn listen(path: &Path, group: Option<&str>) -> anyhow::Result<UnixListener> {
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
    if let Some(group) = group {
        let number = policy::Identities::group(&Names::here(), group);
        let number = number.with_context(|| format!("there is no group {group}"))?;
        chown(&new, None, Some(number)).with_context(context)?;
    }
    fs::set_permissions(&new, fs::Permissions::from_mode(0o660)).with_context(context)?;
    fs::rename(&new, path).with_context(context)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves until the process ends.
///
/// # Errors
/// Where the thread cannot be started.
pub(crate) fn serve(listener: UnixListener, asking: Asking) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .context("start the API")?;
    let listener = {
        let _inside = runtime.enter();
        tokio::net::UnixListener::from_std(listener).context("start the API")?
    };
    let service = router(Api { asking }).into_make_service_with_connect_info::<Peer>();
    let serving = move || {
        // It never ends: what cannot be accepted is tried again.
        let _ended = runtime.block_on(async { axum::serve(listener, service).await });
    };
    thread::Builder::new().name("api".to_owned()).spawn(serving).context("start the API")?;
    Ok(())
}

fn router(api: Api) -> Router {
    routes::all()
        .split_for_parts()
        .0
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "there is no such path"))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "the path does not take this method")
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(api)
}
