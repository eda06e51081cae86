//! How the hosts that try a version are: what they say of it, whether they are still there, how much they deny.

use std::{collections::BTreeMap, sync::Arc};

use wire::sync::Stage;

use crate::{model::Model, serving::Desk, views::Views};

/// What halts a rollout.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// So many percent of the hosts that try it and were connected may be lost; one may in any case.
    pub lost_percent: u32,
    /// Denials of one host may grow by this factor.
    pub denials_factor: f32,
    /// Denials of one host that are no reason in any case: so many a second.
    pub denials_per_s: f32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { lost_percent: 10, denials_factor: 10.0, denials_per_s: 10.0 }
    }
}

/// The hosts that try a version.
#[derive(Debug)]
pub(super) struct Health {
    limits: Limits,
    /// Which rollout.
    rollout: Option<u64>,
    /// It goes on though tests fail.
    forced: bool,
    hosts: BTreeMap<Arc<str>, Trying>,
}

/// One of them.
#[derive(Clone, Copy, Debug, Default)]
struct Trying {
    /// When it was last heard, while it was connected.
    heard_ms: Option<u64>,
    /// What it denied a second before it had the version, as far as that is known.
    before: Option<f32>,
}

impl Health {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, rollout: None, forced: false, hosts: BTreeMap::new() }
    }

    /// The rollout is another one, or stands otherwise.
    pub(super) fn rollout(&mut self, model: &Model, views: &Views, desk: &Desk, now_ms: u64) {
        let rollout = model.rollout().filter(|rollout| rollout.is_open());
        let open = rollout.map(|rollout| rollout.id);
        if self.rollout == open {
            return;
        }
        self.rollout = open;
        self.forced = rollout.is_some_and(|rollout| rollout.forced);
        // Nobody has been told of it yet: what a host denies is what it denied before, if it has said that.
        let before = |id: &Arc<str>| {
            let state = desk.host(id).filter(|state| state.beat_ms != 0);
            state.map(|state| state.denied_per_s)
        };
        let trying = |id| (Arc::clone(&id), Trying { heard_ms: None, before: before(&id) });
        self.hosts = views.canaries().into_iter().map(trying).collect();
        self.hear(desk, now_ms);
    }

    fn hear(&mut self, desk: &Desk, now_ms: u64) {
        let lost_ms = desk.serve().lost_ms();
        for (id, trying) in &mut self.hosts {
            let Some(state) = desk.host(id) else { continue };
            if now_ms.saturating_sub(state.heard_ms) <= lost_ms {
                trying.heard_ms = Some(state.heard_ms);
            }
            let has_it = matches!(state.stage, Stage::Trial | Stage::Enforced | Stage::Refused);
            if !has_it && state.beat_ms != 0 {
                trying.before = Some(state.denied_per_s);
            }
        }
    }

    /// Why the rollout is to be halted, if it is.
    pub(super) fn look(&mut self, desk: &Desk, now_ms: u64) -> Option<String> {
        self.rollout?;
        self.hear(desk, now_ms);
        let mut lost = Vec::new();
        let mut seen = 0;
        for (id, trying) in &self.hosts {
            let Some(heard_ms) = trying.heard_ms else { continue };
            seen += 1;
            if desk.serve().lost_ms() < now_ms.saturating_sub(heard_ms) {
                lost.push(id);
            }
            let Some(state) = desk.host(id) else { continue };
            if state.stage == Stage::Refused {
                let why = state.why().unwrap_or("it does not say why");
                return Some(format!("{id} refuses it: {why}"));
            }
            if !matches!(state.stage, Stage::Trial | Stage::Enforced) {
                continue;
            }
            if let Some(failing) = state.failing().filter(|_| !self.forced) {
                return Some(format!("tests fail on {id}: {failing}"));
            }
            let Some(before) = trying.before else { continue };
            let now = state.denied_per_s;
            let Limits { denials_factor, denials_per_s, .. } = self.limits;
            if denials_per_s < now && before * denials_factor < now {
                return Some(format!(
                    "{id} denies {now:.1} flows a second, and {before:.1} before"
                ));
            }
        }
        let allowed = 1.max(seen * self.limits.lost_percent as usize / 100);
        let first = lost.first()?;
        (allowed < lost.len()).then(|| {
            format!("{} of {seen} hosts that try it are lost, {first} among them", lost.len())
        })
    }
}
