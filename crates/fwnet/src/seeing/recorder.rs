//! The thread that writes: to the store, to files, to the journal. The core hands over and never waits; what does not fit
//! into the queue is lost, and counted.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use ::agent::flows::Record;
use anyhow::Context;
use tokio::sync::oneshot;

use super::{
    hits::Remembered,
    outputs::{Outputs, Told, file::EventFile, journal::Journal, otlp::Collector},
    remembered,
    store::{Pace, Store},
};
use crate::report::Format;

/// Events that wait to be written.
const EVENTS: usize = 8_192;
/// Room in the queue for everything else, so that no flood of events takes the place of flows, which stand for many.
const OTHERS: usize = 256;
/// Flows in the queue count one by one up to this many at once.
const WRITTEN_AT_ONCE: usize = 256;

/// What the thread is given.
enum Work {
    /// One that is kept under its number.
    Tell(u64, Told),
    /// Flows for the store and the outputs, with the version of the policy.
    Flows(Vec<Record>, u64),
    /// Counts of rules, and keys of those to be forgotten.
    Rules(Vec<(String, Remembered)>, Vec<String>),
    /// Nothing but a look whether the event file is to be opened again.
    Look,
    /// Answers once everything before it is written.
    Written(oneshot::Sender<()>),
    /// The same, on the disk.
    Settled(std::sync::mpsc::Sender<()>),
}

/// What was lost on the way to the outputs.
#[derive(Debug, Default)]
struct Losses {
    queue: AtomicU64,
    export: AtomicU64,
}

/// The way to the thread.
#[derive(Clone)]
pub(crate) struct Recorder {
    work: SyncSender<Work>,
    /// Events among it.
    events: Arc<AtomicUsize>,
    losses: Arc<Losses>,
    collector: Arc<Option<Collector>>,
    reopen: Arc<AtomicBool>,
    outputs: bool,
}

impl Recorder {
    /// Starts the thread.
    ///
    /// # Errors
    /// Where an output cannot be one, or no thread can be started.
    pub(crate) fn start(
        outputs: &Outputs,
        store: Option<Arc<Store>>,
        host: &Arc<str>,
    ) -> anyhow::Result<Self> {
        let ca = outputs.otlp_ca.as_deref();
        let collector = outputs.otlp.as_deref().map(|url| Collector::new(url, ca, host));
        let collector = collector.transpose()?;
        let collector = Arc::new(collector);
        let losses = Arc::new(Losses::default());
        let reopen = Arc::new(AtomicBool::new(false));
        let (work, waiting) = sync_channel(EVENTS + OTHERS);
        let events = Arc::new(AtomicUsize::new(0));
        let events_file =
            |path: &Path| EventFile::new(path, outputs.events_file_bytes, outputs.events_files);
        let writer = Writer {
            waiting,
            events: Arc::clone(&events),
            store,
            pace: Pace::default(),
            kept: Vec::new(),
            file: outputs.events_file.as_deref().map(events_file),
            journal: outputs.journal.as_deref().map(Journal::new),
            collector: Arc::clone(&collector),
            format: outputs.events_format,
            host: Arc::clone(host),
            losses: Arc::clone(&losses),
            reopen: Arc::clone(&reopen),
            told: [false; 3],
        };
        let any = writer.file.is_some()
            || writer.journal.is_some()
            || collector.is_some()
            || writer.store.is_some();
        thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || writer.run())
            .context("start the thread that records")?;
        Ok(Self { work, events, losses, collector, reopen, outputs: any })
    }

    /// Tells the outputs and the store, if there are any.
    pub(crate) fn tell(&self, number: u64, told: Told) {
        if !self.outputs {
            return;
        }
        // Counted before the thread can take it out again.
        let before = self.events.fetch_add(1, Ordering::Relaxed);
        if before >= EVENTS || self.work.try_send(Work::Tell(number, told)).is_err() {
            self.events.fetch_sub(1, Ordering::Relaxed);
            self.losses.queue.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Has the event file opened again, after somebody moved it away: what is written from now on is in the new one.
    pub(crate) fn reopen(&self) {
        self.reopen.store(true, Ordering::Release);
        // Where there is no room the thread is awake, and looks.
        let _awake = self.work.try_send(Work::Look);
    }

    /// Records flows.
    pub(crate) fn flows(&self, records: Vec<Record>, version: u64) {
        let count = records.len() as u64;
        self.give(Work::Flows(records, version), count);
    }

    /// Remembers counts of rules.
    pub(crate) fn rules(&self, rules: Vec<(String, Remembered)>, gone: Vec<String>) {
        if !rules.is_empty() || !gone.is_empty() {
            self.give(Work::Rules(rules, gone), 0);
        }
    }

    /// Is answered once everything given before is written.
    pub(crate) fn written(&self) -> oneshot::Receiver<()> {
        let (answer, answered) = oneshot::channel();
        // A full queue answers at once: whoever asks gets what is there.
        let _asked = self.work.try_send(Work::Written(answer));
        answered
    }

    /// Waits until everything is on the disk: the last thing that is asked for.
    pub(crate) fn settle(&self) {
        let (answer, answered) = std::sync::mpsc::channel();
        if self.work.send(Work::Settled(answer)).is_ok() {
            let _settled = answered.recv();
        }
    }

    /// Events and records that the queue had no room for.
    pub(crate) fn lost_in_queue(&self) -> u64 {
        self.losses.queue.load(Ordering::Relaxed)
    }

    /// Events and records that an output or the store did not take.
    pub(crate) fn lost_in_export(&self) -> u64 {
        let collector = (*self.collector).as_ref().map_or(0, Collector::lost);
        self.losses.export.load(Ordering::Relaxed).saturating_add(collector)
    }

    fn give(&self, work: Work, count: u64) {
        if self.work.try_send(work).is_err() {
            self.losses.queue.fetch_add(count, Ordering::Relaxed);
        }
    }
}

/// The thread's own.
struct Writer {
    waiting: Receiver<Work>,
    /// Events among what waits.
    events: Arc<AtomicUsize>,
    store: Option<Arc<Store>>,
    pace: Pace,
    /// What was told and waits for the store.
    kept: Vec<(u64, Vec<u8>)>,
    file: Option<EventFile>,
    journal: Option<Journal>,
    collector: Arc<Option<Collector>>,
    format: Format,
    host: Arc<str>,
    losses: Arc<Losses>,
    /// The event file is to be opened again.
    reopen: Arc<AtomicBool>,
    /// Whether it was said that file, journal and store do not take what they are given.
    told: [bool; 3],
}

impl Writer {
    /// Until the other end is gone.
    fn run(mut self) {
        let mut lines = Vec::new();
        while let Ok(work) = self.waiting.recv() {
            let mut next = Some(work);
            let mut count = 0;
            // What has come meanwhile is written by the same call.
            while let Some(work) = next {
                count += self.take(work, &mut lines);
                next = if count < WRITTEN_AT_ONCE as u64 {
                    self.waiting.try_recv().ok()
                } else {
                    None
                };
            }
            self.write(&mut lines, count);
        }
    }

    /// Does the work; lines for the file are collected. Returns how many those are.
    fn take(&mut self, work: Work, lines: &mut Vec<u8>) -> u64 {
        match work {
            Work::Tell(number, told) => {
                self.events.fetch_sub(1, Ordering::Relaxed);
                if self.store.is_some() {
                    self.kept.extend(remembered::bytes(&told).map(|bytes| (number, bytes)));
                }
                if self.has_outputs() {
                    self.tell(&told, lines);
                }
                1
            }
            Work::Flows(records, version) => {
                if let Some(store) = self.store.clone() {
                    let added = store.add(&records, &mut self.pace);
                    self.note(2, added.map_err(anyhow::Error::from), records.len() as u64);
                }
                let count = records.len() as u64;
                if self.has_outputs() {
                    for record in records {
                        self.tell(&Told::Flows(Arc::new(record), version), lines);
                    }
                }
                count
            }
            Work::Rules(rules, gone) => {
                if let Some(store) = self.store.clone() {
                    let done = store.remember(&rules, &gone, &mut self.pace);
                    self.note(2, done.map_err(anyhow::Error::from), 0);
                }
                0
            }
            Work::Look => 0,
            Work::Written(answer) => {
                self.write(lines, 0);
                let _heard = answer.send(());
                0
            }
            Work::Settled(answer) => {
                self.write(lines, 0);
                if let Some(store) = self.store.clone() {
                    self.note(2, store.settle().map_err(anyhow::Error::from), 0);
                }
                let _heard = answer.send(());
                0
            }
        }
    }

    fn has_outputs(&self) -> bool {
        self.file.is_some() || self.journal.is_some() || self.collector.is_some()
    }

    fn tell(&mut self, told: &Told, lines: &mut Vec<u8>) {
        let own = told.object(Format::Ecs, &self.host);
        if let Some(journal) = &mut self.journal {
            let written = journal.write(&own);
            self.note(1, written.map_err(anyhow::Error::from), 1);
        }
        if self.file.is_some() {
            let object = match self.format {
                Format::Ecs => own.to_string(),
                Format::Ocsf => told.object(Format::Ocsf, &self.host).to_string(),
            };
            lines.extend_from_slice(object.as_bytes());
            lines.push(b'\n');
        }
        if let Some(collector) = &*self.collector {
            collector.send(own);
        }
    }

    fn write(&mut self, lines: &mut Vec<u8>, count: u64) {
        let kept = std::mem::take(&mut self.kept);
        if let (Some(store), false) = (self.store.clone(), kept.is_empty()) {
            let done = store.keep(&kept, &mut self.pace);
            self.note(2, done.map_err(anyhow::Error::from), kept.len() as u64);
        }
        if let Some(file) = &mut self.file
            && self.reopen.swap(false, Ordering::AcqRel)
        {
            let opened = file.reopen();
            self.note(0, opened.map_err(anyhow::Error::from), 0);
        }
        if let (Some(file), false) = (&mut self.file, lines.is_empty()) {
            let written = file.write(lines);
            self.note(0, written.map_err(anyhow::Error::from), count);
        }
        lines.clear();
    }

    /// Counts what was not taken, and says so when it begins.
    fn note(&mut self, which: usize, done: anyhow::Result<()>, count: u64) {
        const NAMES: [&str; 3] = ["the event file", "the journal", "the store of flows and events"];
        let (Some(told), Some(name)) = (self.told.get_mut(which), NAMES.get(which)) else { return };
        if let Err(error) = &done {
            self.losses.export.fetch_add(count, Ordering::Relaxed);
            if !*told {
                eprintln!("fwnet: {name} does not take what is recorded: {error:#}");
            }
        }
        *told = done.is_err();
    }
}
