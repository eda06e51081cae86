//! `GET /v1/flows`: recorded flows as lines of JSON.

use axum::{body::Body, extract::State, http::StatusCode, response::Response};
use http_body_util::channel::{Channel, Sender};
use hyper::body::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::events::lines;
use crate::{
    api::{Api, Asked, Problem, Problems},
    seeing::store::Store,
};

/// Records that are read at once.
const PAGE: usize = 256;

/// Which flows.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Query {
    /// Seen at this moment or later. The counts are those of whole hours
    #[param(value_type = String, format = DateTime)]
    pub(crate) since: Timestamp,
    /// Read what the kernel has counted first, and do not wait for the next time that is due
    #[serde(default)]
    pub(crate) fresh: bool,
}

/// Recorded flows, one JSON object a line: those that were alike within an hour, with their number and the time of the
/// first and the last
#[utoipa::path(get, path = "/v1/flows", tag = "seeing", params(Query),
    responses((status = 200, body = String, content_type = "application/x-ndjson"), Problems))]
pub(crate) async fn flows(
    State(api): State<Api>,
    Asked(query): Asked<Query>,
) -> Result<Response, Problem> {
    let (store, written) = api
        .core(move |core| {
            let written = query.fresh.then(|| {
                core.read_what_was_seen();
                core.seeing.written()
            });
            (core.seeing.store(), written)
        })
        .await?;
    let Some(store) = store else {
        return Err(Problem::new(StatusCode::NOT_FOUND, "this agent has no store of flows"));
    };
    if let Some(written) = written {
        // A recorder that is too busy to answer has recorded less; what there is can be read all the same.
        let _written = written.await;
    }
    let (sender, body) = Channel::<Bytes>::new(2);
    tokio::spawn(send(sender, store, query.since));
    Ok(lines(Body::new(body)))
}

async fn send(mut sender: Sender<Bytes>, store: std::sync::Arc<Store>, since: Timestamp) {
    let mut after = None;
    loop {
        let page = match store.page(since, after, PAGE) {
            Ok(page) => page,
            Err(error) => {
                eprintln!("fwnet: recorded flows cannot be read: {:#}", anyhow::Error::from(error));
                return;
            }
        };
        let Some((last, _)) = page.last() else { return };
        after = Some(*last);
        let mut text = Vec::new();
        for (_, record) in &page {
            if serde_json::to_writer(&mut text, record).is_ok() {
                text.push(b'\n');
            }
        }
        if sender.send_data(Bytes::from(text)).await.is_err() {
            return;
        }
    }
}
