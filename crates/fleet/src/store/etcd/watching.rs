//! A watch that outlives the member it began at.
//!
//! A member that goes away closes its connection; one that has lost its cluster says so; one that is cut off from here,
//! or hangs, is silent like one that has nothing to tell. So a watch that heard nothing for a while begins again at
//! another member, after the last revision that was told.

use std::{sync::Arc, time::Duration};

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::json;
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use super::{
    Shared,
    member::Member,
    protocol::{Kind, Line, Told, encoded},
};
use crate::store::{Changes, Revision, Trouble, WatchEnd};

/// A watch that heard nothing for so long asks another member.
const QUIET: Duration = Duration::from_secs(10);
/// For how long a member may take to begin a watch.
const BEGIN_DEADLINE: Duration = Duration::from_secs(4);
/// Between two attempts that told nothing.
const PAUSE: Duration = Duration::from_millis(200);
/// Bytes of one line at most: a member tells many revisions at once to who is behind.
const LINE_BYTES_MAX: usize = 256 << 20;

type News = mpsc::Sender<Result<Arc<Changes>, WatchEnd>>;

/// Why a watch at one member has ended.
enum End {
    /// Another member may have more to tell.
    Elsewhere,
    /// Nobody listens any more.
    Unheard,
    /// Nobody can tell.
    For(WatchEnd),
}

/// Tells everything after `from` until nobody listens, or the cluster cannot tell.
pub(super) async fn watch(shared: Arc<Shared>, from: Revision, news: News) {
    let mut telling = Telling { shared, told: from, news: news.clone() };
    let mut number = 0;
    loop {
        let before = telling.told;
        let end = tokio::select! {
            end = telling.at(number) => end,
            () = news.closed() => End::Unheard,
        };
        match end {
            End::Elsewhere => {}
            End::Unheard => return,
            End::For(end) => {
                // Whoever has just stopped listening need not know.
                let _unheard = news.send(Err(end)).await;
                return;
            }
        }
        number += 1;
        if telling.told == before {
            sleep(PAUSE).await;
        }
    }
}

/// A watch, and how far it has told.
struct Telling {
    shared: Arc<Shared>,
    told: Revision,
    news: News,
}

impl Telling {
    /// Watches at one member.
    async fn at(&mut self, number: usize) -> End {
        let shared = Arc::clone(&self.shared);
        let begun = timeout(BEGIN_DEADLINE, begin(&shared, self.told, number)).await;
        let Ok(Ok((member, body))) = begun else { return End::Elsewhere };
        let mut lines = Lines { body, kept: Vec::new() };
        loop {
            let Ok(Some(line)) = timeout(QUIET, lines.next()).await else { break };
            let Ok(line) = serde_json::from_slice::<Line>(&line) else { break };
            let (Some(told), None) = (line.result, line.error) else { break };
            if !shared.cluster.is_same(&told) {
                return End::For(WatchEnd::Trouble(Trouble::OtherCluster));
            }
            if told.compact_revision > 0 {
                return End::For(WatchEnd::Behind);
            }
            if told.canceled {
                // Perhaps because the user is not known there any more.
                shared.cluster.forget();
                break;
            }
            if let Some(end) = self.tell(told).await {
                return end;
            }
        }
        drop(member);
        End::Elsewhere
    }

    /// Tells whole revisions.
    async fn tell(&mut self, told: Told) -> Option<End> {
        let mut events = told.events.into_iter().peekable();
        while let Some(first) = events.peek() {
            let revision = Revision(first.kv.mod_revision);
            let mut records = Vec::new();
            while let Some(event) = events.next_if(|it| it.kv.mod_revision == revision.0) {
                if !self.shared.is_record(&event.kv) {
                    continue;
                }
                match self.shared.record(&event.kv) {
                    Ok(key) => {
                        records.push((key, (event.kind == Kind::Put).then_some(event.kv.value)));
                    }
                    Err(trouble) => return Some(End::For(WatchEnd::Trouble(trouble))),
                }
            }
            if revision <= self.told {
                continue;
            }
            if self.news.send(Ok(Arc::new(Changes { revision, records }))).await.is_err() {
                return Some(End::Unheard);
            }
            self.told = revision;
        }
        None
    }
}

/// Begins a watch at one member: the connection, and what comes of it.
async fn begin(
    shared: &Shared,
    told: Revision,
    number: usize,
) -> Result<(Member, Incoming), String> {
    let asked = json!({ "create_request": {
        "key": shared.last(), "range_end": encoded(shared.records_end()),
        "start_revision": (told.0 + 1).to_string(),
    }});
    shared.cluster.begin(number, "/v3/watch", &asked).await
}

/// The lines of an answer that does not end.
struct Lines {
    body: Incoming,
    kept: Vec<u8>,
}

impl Lines {
    /// The next one, or nothing at the end and where it is too long.
    async fn next(&mut self) -> Option<Vec<u8>> {
        let mut looked = 0;
        loop {
            if let Some(end) = self.kept[looked..].iter().position(|byte| *byte == b'\n') {
                let rest = self.kept.split_off(looked + end + 1);
                return Some(std::mem::replace(&mut self.kept, rest));
            }
            looked = self.kept.len();
            if looked > LINE_BYTES_MAX {
                return None;
            }
            let frame = self.body.frame().await?.ok()?;
            if let Ok(data) = frame.into_data() {
                self.kept.extend_from_slice(&data);
            }
        }
    }
}
