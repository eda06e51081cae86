//! `GET /v1/events`: events as lines of JSON, those that are remembered and those that come.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::Context;

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
        Before, Following,
        filter::{Filter, Sieve, Wanted, Way},
        outputs::Told,
        store::StoreError,
    },
};

/// A follower hears something at least this often: an empty line, by which both ends know that the other is there.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);
/// What is read from the store at once.
const READ_AT_ONCE: usize = 256;
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
    /// Those after the one with this number: what `next` said at the end of the page before
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) after: Option<u64>,
    /// No more than so many events of before: a page, whose last line `{"next": N, "more": true}` says where to go on,
    /// and whether there may be more already
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1)]
    pub(crate) limit: Option<u64>,
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
        let (since, after, limit, follow) = (None, None, None, false);
        Self { since, after, limit, follow, format, verdict, process, peer, rule, direction }
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
    let Query { since, after, limit, follow, format, verdict, process, peer, rule, direction } =
        query;
    let sieve = Filter { verdict, process, peer, rule, direction };
    let sieve = sieve.sieve().map_err(Problem::unfit)?;
    if limit == Some(0) {
        return Err(Problem::unfit("a page has one event at least"));
    }
    if limit.is_some() && follow {
        return Err(Problem::unfit("what follows has no limit: read the pages first"));
    }
    let wanted = since.is_some() || after.is_some() || limit.is_some();
    let followed = sieve.clone();
    let (host, before, following) = api
        .core(move |core| {
            // What comes after this and what was before meet without a gap: the core does both at once.
            let following = follow.then(|| core.seeing.follow(followed));
            let before = wanted.then(|| core.seeing.before());
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
    let page = Page { since, after: after.unwrap_or(0), limit: limit.unwrap_or(u64::MAX), sieve };
    let mut lines = Lines { sender, format: format.into(), host };
    tokio::spawn(async move {
        if let Some(before) = before
            && page.send(before, &mut lines).await.is_err()
        {
            return;
        }
        if let Some(following) = following {
            lines.follow(following).await;
        }
    });
    Ok(self::lines(Body::new(body)))
}

/// An answer of lines.
pub(super) fn lines(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

/// Nobody reads any more.
struct Gone;

/// The lines of one answer.
struct Lines {
    sender: Sender<Bytes>,
    format: Format,
    host: Arc<str>,
}

impl Lines {
    async fn line(&mut self, told: &Told) -> Result<(), Gone> {
        let object = told.object(self.format, &self.host);
        self.send(Bytes::from(format!("{object}\n"))).await
    }

    async fn send(&mut self, bytes: Bytes) -> Result<(), Gone> {
        self.sender.send_data(bytes).await.map_err(|_dropped| Gone)
    }

    /// Until the agent ends or nobody reads any more.
    async fn follow(mut self, following: Following) {
        let Following { mut events, missed } = following;
        loop {
            let next = timeout(SIGN_OF_LIFE, events.recv()).await;
            let lost = missed.swap(0, Ordering::Relaxed);
            if lost > 0 {
                let told = Bytes::from(format!("{}\n", json!({ "missed": lost })));
                if self.send(told).await.is_err() {
                    return;
                }
            }
            let sent = match next {
                Ok(Some(told)) => self.line(&told).await,
                Ok(None) => return,
                Err(_elapsed) => self.send(Bytes::from_static(b"\n")).await,
            };
            if sent.is_err() {
                return;
            }
        }
    }
}

/// Which of what was told before.
struct Page {
    since: Option<Timestamp>,
    after: u64,
    limit: u64,
    sieve: Sieve,
}

impl Page {
    /// Sends what the store has and then what is in memory. A store that cannot be read is said on standard error, and
    /// done without.
    async fn send(self, before: Before, lines: &mut Lines) -> Result<(), Gone> {
        let Before { store, recent, end } = before;
        let in_memory = recent.first().map_or(end, |(number, _)| *number);
        let mut at = self.after;
        let mut left = self.limit;
        if let Some((store, written)) = store
            && at + 1 < in_memory
        {
            // Whoever cannot be told that it is written is told what is.
            let _written = written.await;
            let (since, seeking) = (self.since, Arc::clone(&store));
            let seek = move || since.map_or(Ok(0), |since| seeking.told_before(since));
            match off_thread(seek).await {
                Ok(found) => at = at.max(found),
                Err(error) => eprintln!("fwnet: events of before cannot be read: {error:#}"),
            }
            while left > 0 {
                let store = Arc::clone(&store);
                let told = match off_thread(move || store.told(at, in_memory, READ_AT_ONCE)).await {
                    Ok(told) if told.is_empty() => break,
                    Ok(told) => told,
                    Err(error) => {
                        eprintln!("fwnet: events of before cannot be read: {error:#}");
                        break;
                    }
                };
                (at, left) = self.pass(&told, at, left, lines).await?;
            }
        }
        let rest = recent.iter().position(|(number, _)| *number > at).unwrap_or(recent.len());
        if left > 0 {
            (at, left) = self.pass(recent.get(rest..).unwrap_or_default(), at, left, lines).await?;
        }
        if self.limit < u64::MAX {
            let more = left == 0;
            let next = if more { at } else { at.max(end - 1) };
            let told = json!({ "next": next, "more": more });
            lines.send(Bytes::from(format!("{told}\n"))).await?;
        }
        Ok(())
    }

    /// Sends those of `told` that are wanted; the number of the last one that was looked at, and how many more may
    /// follow.
    async fn pass(
        &self,
        told: &[(u64, Told)],
        mut at: u64,
        mut left: u64,
        lines: &mut Lines,
    ) -> Result<(u64, u64), Gone> {
        for (number, told) in told {
            if left == 0 {
                break;
            }
            at = *number;
            if self.since.is_none_or(|since| told.time() >= since) && self.sieve.passes(told) {
                lines.line(told).await?;
                left -= 1;
            }
        }
        Ok((at, left))
    }
}

/// Reads where waiting for the disk holds nobody up.
async fn off_thread<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> anyhow::Result<T> {
    let read = tokio::task::spawn_blocking(read).await;
    Ok(read.context("read the store of events")??)
}
