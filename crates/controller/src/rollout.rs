//! Which hosts try a new version.

use jiff::Timestamp;

use crate::{
    digest::Digest,
    limits::PICKED_MAX,
    model::Model,
    orders::Refusal,
    records::{Pick, RolloutRecord, RolloutState, Share},
};

/// The place of a host in the order of a rollout: those with the lowest go first. Another order for each rollout, so that
/// it is not always the same hosts that try things.
pub fn rank(rollout: u64, host: &str) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&rollout.to_be_bytes());
    hasher.update(host.as_bytes());
    Digest(*hasher.finalize().as_bytes()).number()
}

/// Which of the hosts that there are a share means: at least one, none that is shut off.
///
/// # Errors
/// If that is nobody, or the selector cannot be read.
pub(crate) fn pick(model: &Model, rollout: u64, share: &Share) -> Result<Pick, Refusal> {
    let there = || model.hosts().filter(|(_, host)| !host.quarantined);
    let wanted = match share {
        Share::Fraction(hundredths) => {
            let of = there().count() as u64 * u64::from((*hundredths).min(10_000));
            usize::try_from(of.div_ceil(10_000)).unwrap_or(usize::MAX)
        }
        Share::Count(count) => *count as usize,
        Share::Selector(text) => {
            let selector = crate::views::Meant::read(text)
                .map_err(|why| Refusal::Selector { selector: text.clone(), why })?;
            let meant = there().filter(|(id, host)| selector.means(id, host));
            let hosts: Vec<String> = meant.map(|(id, _)| id.to_owned()).collect();
            return match hosts.len() {
                0 => Err(Refusal::NoCanary),
                some if PICKED_MAX < some => Err(Refusal::Picked(some)),
                _ => Ok(Pick::Hosts(hosts)),
            };
        }
    };
    let mut ranks: Vec<u64> = there().map(|(id, _)| rank(rollout, id)).collect();
    let last = wanted.clamp(1, ranks.len().max(1)) - 1;
    if ranks.is_empty() {
        return Err(Refusal::NoCanary);
    }
    let (_, rank, _) = ranks.select_nth_unstable(last);
    Ok(Pick::Rank(*rank))
}

impl RolloutRecord {
    /// The version that is tried.
    pub fn to(&self) -> u64 {
        self.step.version
    }

    /// Whether it goes on.
    pub fn is_open(&self) -> bool {
        self.state == RolloutState::Canary
    }

    /// Whether a host is to try its version now.
    pub fn tries(&self, id: &str, quarantined: bool, enrolled_at: Timestamp) -> bool {
        let picked = || match &self.pick {
            Pick::Rank(last) => rank(self.id, id) <= *last,
            Pick::Hosts(hosts) => hosts.binary_search_by(|it| it.as_str().cmp(id)).is_ok(),
        };
        self.is_open() && !quarantined && enrolled_at <= self.began && picked()
    }
}
