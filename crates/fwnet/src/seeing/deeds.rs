//! What the agent did, counted since it started: policies applied, confirmed and rolled back, swaps of images, connections
//! ended; and how long the kernel's programs ran.

use std::{collections::BTreeMap, sync::atomic::AtomicU64, time::Duration};

use kernel::Runs;
use prometheus_client::{
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::metrics::{Counters, label};
use crate::agent::revoking::Revoked;

/// Bounds of the times to apply a policy: from a small one on an idle machine to one that needs a second set of programs.
const APPLY_SECONDS: [f64; 9] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];
/// Bounds of the times to put images in force: mostly the wait for running programs to end.
const SWAP_SECONDS: [f64; 9] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5];

/// What became of a policy that somebody wanted applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Became {
    /// It is in force, on trial or for good.
    Applied,
    /// It is no good, locks somebody out, or must wait: whoever asked was told so.
    Refused,
    /// It could not be put in force or written.
    Failed,
}

impl Became {
    const ALL: [Self; 3] = [Self::Applied, Self::Refused, Self::Failed];

    fn word(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// Why the policy before is in force again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Back {
    /// Somebody said so.
    Asked,
    /// Nobody confirmed the trial in time.
    Unconfirmed,
}

impl Back {
    const ALL: [Self; 2] = [Self::Asked, Self::Unconfirmed];

    fn word(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Unconfirmed => "unconfirmed",
        }
    }
}

/// All of it.
pub(crate) struct Deeds {
    applies: Counters,
    apply_seconds: Histogram,
    confirmations: Counter,
    rollbacks: Counters,
    swap_seconds: Histogram,
    /// By how their tables of addresses were made.
    images: Counters,
    revoked: Counters,
    revoke_failures: Counter,
    /// By hook. A program that is replaced takes its own counts along.
    runs: BTreeMap<&'static str, (Duration, u64)>,
    /// What each program had counted at the last look.
    looked: BTreeMap<u32, (Duration, u64)>,
}

impl Default for Deeds {
    fn default() -> Self {
        let counters = |name, words: &[&'static str]| {
            let counters = Counters::default();
            for word in words {
                // A figure that is there from the beginning has a rate from the beginning.
                counters.get_or_create(&label(name, word)).inc_by(0);
            }
            counters
        };
        Self {
            applies: counters("result", &Became::ALL.map(Became::word)),
            apply_seconds: Histogram::new(APPLY_SECONDS),
            confirmations: Counter::default(),
            rollbacks: counters("cause", &Back::ALL.map(Back::word)),
            swap_seconds: Histogram::new(SWAP_SECONDS),
            images: counters("addresses", &["anew", "shared"]),
            revoked: counters("kind", &["connection", "listener"]),
            revoke_failures: Counter::default(),
            runs: BTreeMap::new(),
            looked: BTreeMap::new(),
        }
    }
}

impl Deeds {
    /// A policy was applied, or not, after so long.
    pub(crate) fn applied(&self, became: Became, took: Duration) {
        self.applies.get_or_create(&label("result", became.word())).inc();
        self.apply_seconds.observe(took.as_secs_f64());
    }

    /// A trial was confirmed.
    pub(crate) fn confirmed(&self) {
        self.confirmations.inc();
    }

    /// The policy before is in force again.
    pub(crate) fn rolled_back(&self, back: Back) {
        self.rollbacks.get_or_create(&label("cause", back.word())).inc();
    }

    /// Images were put in force, which took so long. `shared` says that their tables of addresses are those of the images
    /// before, but for what changed.
    pub(crate) fn swapped(&self, took: Duration, shared: bool) {
        let addresses = if shared { "shared" } else { "anew" };
        self.images.get_or_create(&label("addresses", addresses)).inc();
        self.swap_seconds.observe(took.as_secs_f64());
    }

    /// Existing connections were ended.
    pub(crate) fn revoked(&self, revoked: Revoked) {
        let Revoked { connections, listeners, failures } = revoked;
        self.revoked.get_or_create(&label("kind", "connection")).inc_by(connections);
        self.revoked.get_or_create(&label("kind", "listener")).inc_by(listeners);
        self.revoke_failures.inc_by(failures);
    }

    /// Adds what the kernel counted since the last look.
    fn look(&mut self, runs: &[Runs]) {
        for &Runs { hook, program, time, count } in runs {
            let (time_before, count_before) =
                self.looked.insert(program, (time, count)).unwrap_or_default();
            let (time_sum, count_sum) = self.runs.entry(hook.name).or_default();
            *time_sum += time.saturating_sub(time_before);
            *count_sum += count.saturating_sub(count_before);
        }
        self.looked.retain(|known, _| runs.iter().any(|run| run.program == *known));
    }

    /// Adds the figures; those of the programs' runs only where the kernel counts `runs`.
    pub(crate) fn register(&mut self, registry: &mut Registry, runs: Option<&[Runs]>) {
        let help = "Policies that somebody wanted applied, by what became of them";
        registry.register("applies", help, self.applies.clone());
        let help = "How long that took, the checks included";
        let unit = || Unit::Seconds;
        registry.register_with_unit("apply_duration", help, unit(), self.apply_seconds.clone());
        let help = "Policies on trial that were confirmed";
        registry.register("confirmations", help, self.confirmations.clone());
        let help = "Times that the policy before came into force again, by cause";
        registry.register("rollbacks", help, self.rollbacks.clone());
        let help = "How long it took to put images in force";
        registry.register_with_unit("swap_duration", help, unit(), self.swap_seconds.clone());
        let help = "Swaps of images, by whether their tables of addresses were made anew or shared with those before";
        registry.register("images", help, self.images.clone());
        let help = "Existing connections and listeners that were ended";
        registry.register("revoked_sockets", help, self.revoked.clone());
        let help = "Existing sockets that could not be ended or looked at";
        registry.register("revoke_failures", help, self.revoke_failures.clone());
        let Some(runs) = runs else { return };
        self.look(runs);
        let times = Family::<_, Counter<f64, AtomicU64>>::default();
        let counts = Counters::default();
        for (hook, (time, count)) in &self.runs {
            times.get_or_create(&label("hook", hook)).inc_by(time.as_secs_f64());
            counts.get_or_create(&label("hook", hook)).inc_by(*count);
        }
        let help = "How long a hook's programs ran";
        registry.register_with_unit("bpf_run", help, unit(), times);
        registry.register("bpf_runs", "How often they ran", counts);
    }
}

#[cfg(test)]
mod tests {
    use kernel::Hook;

    use super::*;

    fn runs(program: u32, milliseconds: u64, count: u64) -> Runs {
        let time = Duration::from_millis(milliseconds);
        Runs { hook: &Hook::ALL[0], program, time, count }
    }

    #[test]
    fn a_program_that_is_replaced_takes_nothing_away() {
        let mut deeds = Deeds::default();
        deeds.look(&[runs(1, 10, 100), runs(2, 1, 10)]);
        deeds.look(&[runs(1, 15, 150), runs(3, 2, 20)]);
        deeds.look(&[runs(3, 4, 40)]);
        let hook = Hook::ALL[0].name;
        assert_eq!(deeds.runs.get(hook), Some(&(Duration::from_millis(20), 200)));
    }
}
