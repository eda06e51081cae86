//! Where events go besides the agent's own memory: a file, the journal, a collector. Each output has its own losses; none
//! holds anything else up.

pub(crate) mod file;
pub(crate) mod journal;
pub(crate) mod otlp;

use std::{io, path::PathBuf, sync::Arc};

use ::agent::flows::Record;
use clap::Args;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::store::TOLD_MAX;
use crate::report::{Format, Notice, Seen, ecs, ocsf};

/// What is told.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    /// One event.
    Event(Arc<Seen>),
    /// Flows that were alike, with the version of the policy.
    Flows(Arc<Record>, u64),
    /// What happened to the policy or the programs.
    Notice(Arc<Notice>),
}

impl Told {
    /// When it was.
    pub(crate) fn time(&self) -> Timestamp {
        match self {
            Self::Event(seen) => seen.time,
            Self::Flows(record, _) => record.last,
            Self::Notice(notice) => notice.time,
        }
    }

    /// As one object.
    pub(crate) fn object(&self, format: Format, host: &str) -> Value {
        match (self, format) {
            (Self::Event(seen), format) => format.event(seen),
            (Self::Flows(record, version), Format::Ecs) => ecs::flows(record, host, *version),
            (Self::Flows(record, version), Format::Ocsf) => ocsf::flows(record, host, *version),
            (Self::Notice(notice), Format::Ecs) => ecs::notice(notice, host),
            (Self::Notice(notice), Format::Ocsf) => ocsf::notice(notice, host),
        }
    }
}

/// Bytes of an event file before the next one is begun.
const FILE_BYTES: u64 = 16 << 20;
/// Event files that are kept.
const FILES: u32 = 5;

/// Outputs as they are typed, and as they are kept.
#[derive(Clone, Debug, PartialEq, Eq, Args, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Outputs {
    /// Write events to this file, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub(crate) events_file: Option<PathBuf>,
    /// Begin a new event file after this many bytes; the old one becomes FILE.1, that FILE.2, ...
    #[arg(long, value_name = "BYTES", default_value_t = FILE_BYTES)]
    pub(crate) events_file_bytes: u64,
    /// Keep this many old event files
    #[arg(long, value_name = "NUMBER", default_value_t = FILES)]
    pub(crate) events_files: u32,
    /// Whose field names the file and the collector get
    #[arg(long, value_enum, default_value_t = Format::Ecs)]
    pub(crate) events_format: Format,
    /// Write events to the journal (the socket can be another one than systemd's)
    #[arg(long, value_name = "SOCKET", num_args = 0..=1, default_missing_value = journal::SOCKET)]
    pub(crate) journal: Option<PathBuf>,
    /// Send events as OTLP logs to this collector: https://HOST/v1/logs, or http:// for one on this host
    #[arg(long, value_name = "URL")]
    pub(crate) otlp: Option<String>,
    /// Authorities that may vouch for the collector, as PEM, instead of those that this system trusts
    #[arg(long, value_name = "FILE", requires = "otlp")]
    pub(crate) otlp_ca: Option<PathBuf>,
    /// Keep this many events in the state directory for `fwnet events`; the last 4096 are in memory besides
    #[arg(long, value_name = "NUMBER", default_value_t = TOLD_MAX)]
    pub(crate) events_kept: u64,
    /// Do not count which flows there are (then learn, replay and top have nothing to say)
    #[arg(long)]
    pub(crate) no_flows: bool,
}

impl Default for Outputs {
    fn default() -> Self {
        Self {
            events_file: None,
            events_file_bytes: FILE_BYTES,
            events_files: FILES,
            events_format: Format::Ecs,
            journal: None,
            otlp: None,
            otlp_ca: None,
            events_kept: TOLD_MAX,
            no_flows: false,
        }
    }
}

impl Outputs {
    /// The same for a process in any directory, once it is known that events can go there.
    ///
    /// # Errors
    /// Where the collector is none, or what it is trusted by cannot be read.
    pub(crate) fn settled(&self) -> anyhow::Result<Self> {
        if let Some(url) = &self.otlp {
            otlp::Target::new(url, self.otlp_ca.as_deref())?.trusts()?;
        }
        let absolute = |path: &Option<PathBuf>| -> io::Result<Option<PathBuf>> {
            path.as_deref().map(std::path::absolute).transpose()
        };
        let [events_file, journal, otlp_ca] =
            [absolute(&self.events_file)?, absolute(&self.journal)?, absolute(&self.otlp_ca)?];
        Ok(Self { events_file, journal, otlp_ca, ..self.clone() })
    }
}
