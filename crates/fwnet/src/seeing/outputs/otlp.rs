//! Events as log records of OpenTelemetry: OTLP/HTTP with JSON bodies (<https://opentelemetry.io/docs/specs/otlp/>), over
//! TLS or, meant for a collector on this host, without. A thread of its own with a bounded queue: a collector that is slow or
//! gone costs events, which are counted, and holds nothing up.

mod target;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use serde_json::{Value, json};

pub(crate) use self::target::Target;
use super::super::line;

/// Events that wait to be sent.
const QUEUE: usize = 2_048;
/// Events of one request.
const BATCH: usize = 512;
/// How long a batch waits to be filled.
const FILL: Duration = Duration::from_secs(2);
/// How long a collector may take for one request.
const ANSWER: Duration = Duration::from_secs(5);

/// The way to a collector.
#[derive(Debug)]
pub(crate) struct Collector {
    queue: SyncSender<Value>,
    lost: Arc<AtomicU64>,
}

impl Collector {
    /// Starts to send to `url`; `ca` is a file of the authorities that are trusted instead of the system's.
    ///
    /// # Errors
    /// Where the URL is none that can be sent to, or no thread can be started.
    pub(crate) fn new(url: &str, ca: Option<&Path>, host: &str) -> anyhow::Result<Self> {
        let to = Target::new(url, ca)?;
        let (queue, waiting) = sync_channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let sender = Sender { to, host: host.to_owned(), waiting, lost: Arc::clone(&lost) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new()
            .name("otlp".to_owned())
            .spawn(move || sender.run(&runtime))
            .context("start the thread that sends to --otlp")?;
        Ok(Self { queue, lost })
    }

    /// Sends one event, given as an object of the Elastic Common Schema, or counts it as lost.
    pub(crate) fn send(&self, object: Value) {
        if self.queue.try_send(object).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Events that no collector got.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

struct Sender {
    to: Target,
    host: String,
    waiting: Receiver<Value>,
    lost: Arc<AtomicU64>,
}

impl Sender {
    /// Until the other end of the queue is gone.
    fn run(mut self, runtime: &tokio::runtime::Runtime) {
        let mut reached = true;
        while let Some(batch) = self.batch() {
            let records: Vec<Value> = batch.iter().map(record).collect();
            let body = request(&records, &self.host).to_string();
            let sent = runtime.block_on(async {
                match tokio::time::timeout(ANSWER, self.to.post(body)).await {
                    Ok(sent) => sent,
                    Err(_elapsed) => bail!("no answer within {} s", ANSWER.as_secs()),
                }
            });
            if let Err(error) = &sent {
                self.lost.fetch_add(batch.len() as u64, Ordering::Relaxed);
                if reached {
                    eprintln!("fwnet: events are lost to --otlp {}: {error:#}", self.to.url());
                }
            }
            reached = sent.is_ok();
        }
    }

    fn batch(&self) -> Option<Vec<Value>> {
        let mut batch = vec![self.waiting.recv().ok()?];
        let full = Instant::now() + FILL;
        while batch.len() < BATCH {
            match self.waiting.recv_timeout(full.saturating_duration_since(Instant::now())) {
                Ok(object) => batch.push(object),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        Some(batch)
    }
}

/// An `ExportLogsServiceRequest`.
fn request(records: &[Value], host: &str) -> Value {
    json!({ "resourceLogs": [{
        "resource": { "attributes": [
            attribute("service.name", &json!("fwnet")),
            attribute("service.version", &json!(env!("CARGO_PKG_VERSION"))),
            attribute("host.name", &json!(host)),
        ] },
        "scopeLogs": [{ "scope": { "name": "fwnet" }, "logRecords": records }],
    }] })
}

/// One `LogRecord`, with the names of the semantic conventions; what they have none for is under `fwnet`.
fn record(object: &Value) -> Value {
    const NAMED: [(&str, &str); 20] = [
        ("source.address", "/source/ip"),
        ("source.port", "/source/port"),
        ("destination.address", "/destination/ip"),
        ("destination.port", "/destination/port"),
        ("network.transport", "/network/transport"),
        ("network.type", "/network/type"),
        ("process.pid", "/process/pid"),
        ("process.executable.path", "/process/executable"),
        ("process.executable.name", "/process/name"),
        ("user.id", "/user/id"),
        ("container.id", "/container/id"),
        ("fwnet.rule.id", "/rule/id"),
        ("fwnet.rule.version", "/rule/version"),
        ("fwnet.verdict.effective", "/fwnet/verdict/enforced"),
        ("fwnet.verdict.would", "/fwnet/verdict/would"),
        ("fwnet.mode", "/fwnet/mode"),
        ("fwnet.direction", "/network/direction"),
        ("fwnet.community_id", "/network/community_id"),
        ("fwnet.unit", "/fwnet/unit"),
        ("fwnet.count", "/fwnet/count"),
    ];
    let text = |path: &str| object.pointer(path).and_then(Value::as_str);
    let time = text("/@timestamp").and_then(|time| time.parse::<jiff::Timestamp>().ok());
    let nanoseconds = time.map_or(0, jiff::Timestamp::as_nanosecond);
    let alert = text("/event/kind") == Some("alert");
    let denied = text("/fwnet/verdict/enforced") == Some("denied");
    let (number, word) = match (alert, denied) {
        (true, _) => (17, "ERROR"),
        (false, true) => (13, "WARN"),
        (false, false) => (9, "INFO"),
    };
    let attributes: Vec<Value> = NAMED
        .into_iter()
        .filter_map(|(name, path)| object.pointer(path).map(|value| (name, value)))
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| attribute(name, value))
        .collect();
    json!({
        "timeUnixNano": nanoseconds.to_string(),
        "observedTimeUnixNano": nanoseconds.to_string(),
        "severityNumber": number,
        "severityText": word,
        "eventName": format!("fwnet.{}", text("/event/action").unwrap_or("event")),
        "body": { "stringValue": line::of(object) },
        "attributes": attributes,
    })
}

/// A `KeyValue`: 64-bit numbers are strings in JSON (protobuf's mapping).
fn attribute(name: &str, value: &Value) -> Value {
    let (kind, text) = match value.as_str() {
        Some(text) => ("stringValue", text.to_owned()),
        None if value.is_number() => ("intValue", value.to_string()),
        None => ("stringValue", value.to_string()),
    };
    json!({ "key": name, "value": { kind: text } })
}

#[cfg(test)]
mod tests;
