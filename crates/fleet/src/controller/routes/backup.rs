//! A copy of the store, made while it is used.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::Path,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::Body,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use hyper::body::{Bytes, Frame};
use tokio::{sync::mpsc, task::spawn_blocking};

use super::super::{desk::Desk, problem::Problem};
use crate::{join::random, store::Store};

/// Bytes that are read at once.
const PART_BYTES: usize = 256 << 10;
/// Parts that were read and not sent.
const WAITING: usize = 4;

/// `GET /v1/fleet/backup`: the store of a controller that keeps it in a file, as it is at one moment. The answer is a store:
/// a controller can be started on it.
pub(super) async fn backup(State(desk): State<Desk>) -> Result<Response, Problem> {
    let Store::Embedded(store) = &desk.store else {
        let why =
            "the store is a cluster of etcd, which makes its own backups: etcdctl snapshot save";
        return Err(Problem::new(StatusCode::CONFLICT, why));
    };
    let wrong = |error: &dyn std::error::Error| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, crate::store::told(error))
    };
    let beside = format!("backup-{:016x}", u64::from_ne_bytes(random()));
    let target = store.path().with_extension(beside);
    store.backup(&target).await.map_err(|error| wrong(&error))?;
    let opened = spawn_blocking(move || unnamed(&target)).await;
    let (file, bytes) = opened
        .unwrap_or_else(|ended| Err(io::Error::other(ended)))
        .map_err(|error| wrong(&error))?;
    let (put, parts) = mpsc::channel(WAITING);
    spawn_blocking(move || read(file, &put));
    let kind = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, bytes.to_string()),
    ];
    Ok((kind, Body::new(Parts(parts))).into_response())
}

/// Opens a file and takes its name away: it is gone with whoever reads it.
fn unnamed(path: &Path) -> io::Result<(File, u64)> {
    let file = File::open(path);
    fs::remove_file(path)?;
    let file = file?;
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

fn read(mut file: File, put: &mpsc::Sender<io::Result<Bytes>>) {
    loop {
        let mut part = vec![0; PART_BYTES];
        let part = match file.read(&mut part) {
            Ok(0) => return,
            Ok(count) => {
                part.truncate(count);
                Ok(Bytes::from(part))
            }
            Err(error) => Err(error),
        };
        // Nobody may want the rest.
        if put.blocking_send(part).is_err() {
            return;
        }
    }
}

/// A body in parts.
struct Parts(mpsc::Receiver<io::Result<Bytes>>);

impl hyper::body::Body for Parts {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let part = self.get_mut().0.poll_recv(context);
        part.map(|part| part.map(|part| part.map(Frame::data)))
    }
}
