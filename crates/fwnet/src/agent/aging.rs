//! How old a signed policy is, and what follows: a stale one stays in force and raises an alarm; one that is too old is
//! kept or locked down, as its root says.

use wire::{Stale, Then};

use super::Core;

impl Core {
    /// What the policy in force is by now; fresh where it is not signed.
    pub(crate) fn age(&self) -> Stale {
        let (now, state) = (self.now().wall, self.kept.store.state());
        let signed = self.edition().and_then(|edition| edition.signed.as_ref());
        match (signed, &state.trusted) {
            (Some(signed), Some(trusted)) => trusted.age(signed, now),
            // What was seen is lost, so that the clock is all there is.
            (Some(signed), None) => signed.freshness.at(now),
            (None, _) => Stale::Fresh,
        }
    }

    /// Whether the policy is too old, and only the failsafe set allowed for that.
    pub(crate) fn is_locked_for_age(&self) -> bool {
        self.told_age == Stale::TooOld(Then::Lockdown)
    }

    /// Does what follows from the age, once it is another one than before.
    pub(super) fn look_at_age(&mut self) {
        let age = self.age();
        if age == Stale::TooOld(Then::Lockdown)
            && !self.force.firewall.is_locked_down()
            && let Err(error) = self.force.firewall.lock_down()
        {
            // It is tried again with the next look around.
            eprintln!("fwnet: the policy is too old, and lockdown does not begin: {error}");
            return;
        }
        if age == self.told_age {
            return;
        }
        if self.is_locked_for_age() && !self.is_locked_by_hand() {
            self.force.firewall.resume();
            self.behind = true;
        }
        self.told_age = age;
        let version = self.edition().map_or(0, |edition| edition.version);
        let (action, text) = match age {
            Stale::Fresh => ("policy-fresh", "the policy is vouched for again"),
            Stale::Stale => {
                ("policy-stale", "nobody vouches for the policy any more: it stays in force")
            }
            Stale::TooOld(Then::Keep) => {
                ("policy-too-old", "the policy is too old, and stays in force as its root says")
            }
            Stale::TooOld(Then::Lockdown) => (
                "policy-too-old",
                "the policy is too old: only the failsafe set is allowed, as its root says",
            ),
        };
        eprintln!("fwnet: {text}");
        self.seeing.notice(action, text.to_owned(), false, version);
    }

    /// Whether somebody locked this host down.
    fn is_locked_by_hand(&self) -> bool {
        let taken = self.kept.store.state().stance.as_ref();
        taken.is_some_and(|taken| taken.stance == ::agent::store::Stance::Lockdown)
    }
}
