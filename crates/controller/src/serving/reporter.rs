//! What is told upward of the hosts that are connected here: who came and went, and the newest that each said. What it
//! is stands with the hosts; here is only whose it is that nobody has told yet.

use std::{collections::BTreeSet, sync::Arc};

use wire::sync::{
    Beat, Came, Carried, Gathered, Progress, RelayAt, Relays, Said, Stage, Up, Upward,
};

use super::HostState;

/// Hosts of one message: some 100 bytes each, and 1,300 at most.
const HOSTS_MAX: usize = 150;

/// News of hosts, by number. Nothing is collected while nobody is there to be told.
#[derive(Debug, Default)]
pub(crate) struct Reporter {
    /// Somebody is there to be told.
    open: bool,
    came: BTreeSet<u32>,
    gone: BTreeSet<Arc<str>>,
    news: BTreeSet<u32>,
    /// The relays that were told last.
    relays: Vec<RelayAt>,
}

impl Reporter {
    pub(super) fn came(&mut self, host: u32, id: &Arc<str>) {
        if self.open {
            self.gone.remove(id);
            self.came.insert(host);
        }
    }

    pub(super) fn gone(&mut self, host: u32, id: &Arc<str>) {
        if self.open {
            self.came.remove(&host);
            self.news.remove(&host);
            self.gone.insert(Arc::clone(id));
        }
    }

    pub(super) fn said(&mut self, host: u32) {
        if self.open {
            self.news.insert(host);
        }
    }

    /// Somebody is there to be told: of `hosts`, everything is news to them.
    pub(super) fn opened(&mut self, hosts: impl Iterator<Item = u32>) {
        self.open = true;
        self.came = hosts.collect();
        self.news = self.came.clone();
        self.gone.clear();
        self.relays.clear();
    }

    /// Nobody is there to be told.
    pub(crate) fn closed(&mut self) {
        *self = Self::default();
    }

    /// What there is to say of hosts and `relays`, and was not said.
    pub(super) fn flush<'a>(
        &mut self,
        host: impl Fn(u32) -> Option<&'a HostState>,
        relays: Vec<RelayAt>,
    ) -> Vec<Upward> {
        let mut messages = Vec::new();
        let mut say = |up: Up| messages.push(Upward { say: Some(up) });
        let gone: Vec<Arc<str>> = std::mem::take(&mut self.gone).into_iter().collect();
        for gone in gone.chunks(HOSTS_MAX) {
            let gone = gone.iter().map(|id| id.to_string()).collect();
            say(Up::Carried(Carried { came: Vec::new(), gone }));
        }
        let came: Vec<u32> = std::mem::take(&mut self.came).into_iter().collect();
        for came in came.chunks(HOSTS_MAX) {
            let came = came.iter().filter_map(|number| host(*number)).map(|state| Came {
                host: state.id.to_string(),
                certificate: state.certificate.as_ref().map(|it| it.0.to_vec()).unwrap_or_default(),
            });
            say(Up::Carried(Carried { came: came.collect(), gone: Vec::new() }));
        }
        let news: Vec<u32> = std::mem::take(&mut self.news).into_iter().collect();
        for news in news.chunks(HOSTS_MAX) {
            let said: Vec<Said> =
                news.iter().filter_map(|number| host(*number)).filter_map(said).collect();
            if !said.is_empty() {
                say(Up::Gathered(Gathered { said }));
            }
        }
        if self.open && self.relays != relays {
            self.relays.clone_from(&relays);
            say(Up::Relays(Relays { relays }));
        }
        messages
    }
}

/// The newest that a host said; `None` if it has not said anything.
fn said(state: &HostState) -> Option<Said> {
    let words = state.words.as_deref();
    let progress = (state.stage != Stage::Unknown).then(|| Progress {
        target: state.told.0.to_vec(),
        stage: state.stage.into(),
        why: words.and_then(|words| words.why.as_deref()).unwrap_or_default().to_owned(),
        snapshot: 0,
    });
    let enforced = matches!(state.stage, Stage::Trial | Stage::Enforced);
    let beat = (state.beat_ms != 0).then(|| Beat {
        target: if enforced { state.told.0.to_vec() } else { Vec::new() },
        denied: state.denied,
        allowed: 0,
        stance: state.stance.into(),
        stale_s: state.stale_s.into(),
        failing: words.and_then(|words| words.failing.as_deref()).unwrap_or_default().to_owned(),
    });
    let host = state.id.to_string();
    (progress.is_some() || beat.is_some()).then_some(Said { host, progress, beat })
}
