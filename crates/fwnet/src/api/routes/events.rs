//! `GET /v1/events`: events as lines of JSON, those that are remembered and those that come.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::{
    body::Body,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use http_body_util::channel::{Channel, Sender};
use hyper::body::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::{
    api::{Api, Asked, Problem, Problems},
    report::Format,
    seeing::{
        Following,
        filter::{Filter, Wanted, Way},
        outputs::Told,
    },
};

/// A follower hears something at least this often: an empty line, by which both ends know that the other is there.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);
/// Lines on their way to one reader.
const ON_THE_WAY: usize = 16;

/// Which events.
#[derive(Clone, Debug, Default, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Query {
    /// From this moment on, as far back as is remembered; nothing that was before, if it is left out
    #[param(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<Timestamp>,
    /// Go on with what comes
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) follow: bool,
    /// Whose field names: `ecs` or `ocsf`
    #[serde(default)]
    #[param(inline)]
    pub(crate) format: FormatWord,
    /// Only this verdict
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(inline)]
    pub(crate) verdict: Option<Wanted>,
    /// Only a process of this name, path, id or unit
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) process: Option<String>,
    /// Only peers of this address or prefix
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer: Option<String>,
    /// Only this rule
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rule: Option<String>,
    /// Only this direction
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(inline)]
    pub(crate) direction: Option<Way>,
}

/// Whose field names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FormatWord {
    /// The Elastic Common Schema
    #[default]
    Ecs,
    /// The Open Cybersecurity Schema Framework
    Ocsf,
}

impl From<FormatWord> for Format {
    fn from(word: FormatWord) -> Self {
        match word {
            FormatWord::Ecs => Self::Ecs,
            FormatWord::Ocsf => Self::Ocsf,
        }
    }
}

impl From<Format> for FormatWord {
    fn from(format: Format) -> Self {
        match format {
            Format::Ecs => Self::Ecs,
            Format::Ocsf => Self::Ocsf,
        }
    }
}

impl Query {
    /// With a filter as it was typed.
    pub(crate) fn new(filter: Filter, format: Format) -> Self {
        let Filter { verdict, process, peer, rule, direction } = filter;
        let format = format.into();
        Self { since: None, follow: false, format, verdict, process, peer, rule, direction }
    }
}

/// Events, one JSON object a line; while following an empty line every five seconds, and `{"missed": N}` where the
/// reader did not keep up
#[utoipa::path(get, path = "/v1/events", tag = "seeing", params(Query),
    responses((status = 200, body = String, content_type = "application/x-ndjson"), Problems))]
pub(crate) async fn events(
    State(api): State<Api>,
    Asked(query): Asked<Query>,
) -> Result<Response, Problem> {
    let Query { since, follow, format, verdict, process, peer, rule, direction } = query;
    let sieve = Filter { verdict, process, peer, rule, direction };
    let sieve = sieve.sieve().map_err(Problem::unfit)?;
    let (host, before, following) = api
        .core(move |core| {
            // What comes after this and what was before meet without a gap: the core does both at once.
            let following = follow.then(|| core.seeing.follow(sieve.clone()));
            let before = since.map(|since| core.seeing.recent(since, &sieve)).unwrap_or_default();
            core.report_what_is_wanted();
            (core.seeing.host(), before, following)
        })
        .await?;
    let following = match following {
        Some(None) => {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            return Err(Problem::new(status, "too many follow the events already"));
        }
        Some(Some(following)) => Some(following),
        None => None,
    };
    let (sender, body) = Channel::<Bytes>::new(ON_THE_WAY);
    tokio::spawn(send(sender, before, following, format.into(), host));
    Ok(lines(Body::new(body)))
}

/// An answer of lines.
pub(super) fn lines(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

/// Until everything is told or nobody listens any more.
async fn send(
    mut sender: Sender<Bytes>,
    before: Vec<Told>,
    following: Option<Following>,
    format: Format,
    host: Arc<str>,
) {
    let line = |told: &Told| Bytes::from(format!("{}\n", told.object(format, &host)));
    for told in before {
        if sender.send_data(line(&told)).await.is_err() {
            return;
        }
    }
    let Some(Following { mut events, missed }) = following else { return };
    loop {
        let next = match timeout(SIGN_OF_LIFE, events.recv()).await {
            Ok(Some(told)) => line(&told),
            Ok(None) => return,
            Err(_elapsed) => Bytes::from_static(b"\n"),
        };
        let lost = missed.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let told = Bytes::from(format!("{}\n", json!({ "missed": lost })));
            if sender.send_data(told).await.is_err() {
                return;
            }
        }
        if sender.send_data(next).await.is_err() {
            return;
        }
    }
}
