//! What is told upward of the hosts that are connected here: who came and went, and the newest that each said.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use wire::sync::{Beat, Came, Carried, Gathered, Progress, Said, Up, Upward};

use super::seat::short;
use crate::digest::Digest;

/// Hosts of one message: some 100 bytes each, and 1,300 at most.
const HOSTS_MAX: usize = 150;

/// News of hosts. Collects nothing before somebody wants to hear it.
#[derive(Debug, Default)]
pub(crate) struct Reporter {
    /// Somebody is there to be told.
    open: bool,
    /// Who is connected, with the certificate.
    here: BTreeMap<Arc<str>, Digest>,
    came: BTreeSet<Arc<str>>,
    gone: BTreeSet<Arc<str>>,
    /// The newest of each: kept, so that another controller can be told.
    said: BTreeMap<Arc<str>, Said>,
    news: BTreeSet<Arc<str>>,
    /// Whether anything is kept at all.
    keeps: bool,
}

impl Reporter {
    /// From now on something may have to be told.
    pub(crate) fn keep(&mut self) {
        self.keeps = true;
    }

    pub(crate) fn came(&mut self, id: &Arc<str>, certificate: Digest) {
        if self.keeps {
            self.here.insert(Arc::clone(id), certificate);
            self.gone.remove(id);
            self.came.insert(Arc::clone(id));
            self.said.remove(id);
        }
    }

    pub(crate) fn gone(&mut self, id: &Arc<str>) {
        if self.keeps && self.here.remove(id).is_some() {
            self.came.remove(id);
            self.said.remove(id);
            self.news.remove(id);
            self.gone.insert(Arc::clone(id));
        }
    }

    pub(crate) fn progress(&mut self, id: &Arc<str>, progress: Progress) {
        if let Some(said) = self.of(id) {
            said.progress = Some(Progress { why: short(&progress.why).into(), ..progress });
        }
    }

    pub(crate) fn beat(&mut self, id: &Arc<str>, beat: Beat) {
        if let Some(said) = self.of(id) {
            said.beat = Some(Beat { failing: short(&beat.failing).into(), ..beat });
        }
    }

    fn of(&mut self, id: &Arc<str>) -> Option<&mut Said> {
        if !self.here.contains_key(id) {
            return None;
        }
        self.news.insert(Arc::clone(id));
        let new = || Said { host: id.to_string(), progress: None, beat: None };
        Some(self.said.entry(Arc::clone(id)).or_insert_with(new))
    }

    /// Somebody is there to be told: everything is news to them.
    pub(crate) fn opened(&mut self) {
        self.open = true;
        self.came = self.here.keys().cloned().collect();
        self.news = self.said.keys().cloned().collect();
        self.gone.clear();
    }

    /// Nobody is there to be told.
    pub(crate) fn closed(&mut self) {
        self.open = false;
    }

    /// What there is to say, and was not said.
    pub(crate) fn flush(&mut self) -> Vec<Upward> {
        let mut messages = Vec::new();
        if !self.open {
            return messages;
        }
        let gone: Vec<Arc<str>> = std::mem::take(&mut self.gone).into_iter().collect();
        let came: Vec<Arc<str>> = std::mem::take(&mut self.came).into_iter().collect();
        let mut say = |up: Up| messages.push(Upward { say: Some(up) });
        for gone in gone.chunks(HOSTS_MAX) {
            let gone = gone.iter().map(|id| id.to_string()).collect();
            say(Up::Carried(Carried { came: Vec::new(), gone }));
        }
        for came in came.chunks(HOSTS_MAX) {
            let came = came.iter().filter_map(|id| {
                let certificate = self.here.get(id)?.0.to_vec();
                Some(Came { host: id.to_string(), certificate })
            });
            say(Up::Carried(Carried { came: came.collect(), gone: Vec::new() }));
        }
        let news: Vec<Arc<str>> = std::mem::take(&mut self.news).into_iter().collect();
        for news in news.chunks(HOSTS_MAX) {
            let said = news.iter().filter_map(|id| self.said.get(id).cloned()).collect();
            say(Up::Gathered(Gathered { said }));
        }
        messages
    }
}
