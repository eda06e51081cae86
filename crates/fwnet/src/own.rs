//! This host's own addresses, which rules may mean by `me`: they come after the policy where that is loaded before the network,
//! and change with leases.

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::Context;
use kernel::{AddressWatch, Netns};
use verdict::Address;

use crate::place::Place;

/// The addresses that were last seen, and word of changes.
#[derive(Debug, Default)]
pub(crate) struct OwnAddresses {
    /// Sorted, each once.
    pub(crate) seen: Vec<Address>,
    watches: Vec<AddressWatch>,
    /// There was word, and the addresses could not be listed since.
    behind: bool,
}

impl OwnAddresses {
    /// Those of `place`, which are followed from now on.
    ///
    /// # Errors
    /// Where a namespace is gone, or does not tell.
    pub(crate) fn begin(place: &Place) -> anyhow::Result<Self> {
        let watch = |namespace: &Netns| {
            AddressWatch::of(namespace)
                .with_context(|| format!("follow the addresses in {}", namespace.name()))
        };
        // Before they are listed: what comes in between is heard of.
        let watches = place.namespaces()?.iter().map(watch).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Self { seen: place.addresses()?, watches, behind: false })
    }

    /// Poll readable once there is word of a change.
    pub(crate) fn sources(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.watches.iter().map(AsFd::as_fd)
    }

    /// Whether they are others than those last seen. Costs a system call for each namespace where nothing happened.
    pub(crate) fn have_changed(&mut self, place: &Place) -> bool {
        let heard = self.watches.iter().filter(|watch| watch.has_word()).count() > 0;
        if !heard && !self.behind {
            return false;
        }
        let listed = place.addresses();
        // A namespace that is gone tells nothing, and nobody is in it: what was known stays.
        self.behind = listed.is_err();
        let Ok(addresses) = listed else { return false };
        let changed = addresses != self.seen;
        self.seen = addresses;
        changed
    }
}
