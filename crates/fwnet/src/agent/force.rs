//! What is in force: the firewall with its image, and the rules that the image was made of, so that events can be told.

use agent::edition::Edition;
use jiff::Timestamp;
use kernel::{Door, Event, Firewall, Hits, SwapError};

use crate::{orders::Ready, place::Place, rules, seeing::Seeing};

/// Rules in force.
pub(crate) struct Force {
    pub(crate) firewall: Firewall,
    place: Place,
    /// What is in force, and what was before: an event may still come from there.
    pub(crate) ready: Ready,
    before: Option<Ready>,
}

impl Force {
    /// Puts an edition in force that nobody has put in force before.
    ///
    /// # Errors
    /// Where its rules are no good, or the kernel refuses.
    pub(crate) fn begin(place: Place, edition: &Edition, now: Timestamp) -> anyhow::Result<Self> {
        let ready = compile(&place, edition, now)?;
        let firewall = Firewall::load(&ready.image, place.attachments(false)?)?;
        Ok(Self { firewall, place, ready, before: None })
    }

    /// Puts an edition in force, as it is at `now`. Returns how often the rules before decided.
    ///
    /// # Errors
    /// Whatever was in force stays.
    pub(crate) fn put(&mut self, edition: &Edition, now: Timestamp) -> anyhow::Result<Vec<Hits>> {
        let ready = compile(&self.place, edition, now)?;
        let retired = match self.firewall.swap(&ready.image) {
            Ok(retired) => retired,
            Err(SwapError::Size { .. }) => {
                let attachments = self.place.attachments(false)?;
                let beside = self.firewall.load_beside(&ready.image, attachments)?;
                self.firewall.stand_down()?;
                let hits = self.firewall.hits();
                self.firewall = beside;
                hits
            }
            Err(error) => return Err(error.into()),
        };
        self.before = Some(std::mem::replace(&mut self.ready, ready));
        Ok(retired)
    }

    /// The rules whose image judged the event.
    pub(crate) fn judged_by(&self, event: &Event) -> &Ready {
        let current =
            event.generation == Some(self.firewall.generation()) || event.door == Door::Tripwire;
        self.before.as_ref().filter(|_| !current).unwrap_or(&self.ready)
    }

    /// Has flows and counters read when that is due, or at once.
    pub(crate) fn show(&mut self, seeing: &mut Seeing, now: bool) {
        let generation = self.firewall.generation();
        let Self { firewall, ready, before, place: _ } = self;
        let (ready, before) = (&*ready, before.as_ref());
        let of =
            |judged: Option<u32>| before.filter(|_| judged != Some(generation)).unwrap_or(ready);
        if now || seeing.is_due() {
            seeing.read(firewall, ready, of);
        }
    }

    /// Network namespaces that appeared since the last look, where all are wanted.
    pub(crate) fn join_new(&mut self) {
        if !self.place.follows() {
            return;
        }
        for joined in self.firewall.follow() {
            if let Err(error) = joined.result {
                let error = anyhow::Error::from(error);
                eprintln!("fwnet: inbound is not judged in {}: {error:#}", joined.name);
            }
        }
    }
}

/// The rules of an edition as they are at `now`.
///
/// # Errors
/// Where they are no good.
pub(crate) fn compile(place: &Place, edition: &Edition, now: Timestamp) -> anyhow::Result<Ready> {
    let addresses = place.addresses()?;
    rules::compile(&edition.rules, place.inbound.into(), &addresses, edition.version, now)
}
