//! Where an edition comes from: on a host that trusts a root from a verified bundle and from nothing else.

use agent::{
    edition::{Applied, Edition, Text, Written},
    trusted::{Examined, Trusted},
};
use jiff::Timestamp;

use super::{Apply, Assigned, File};
use crate::{agent::Core, api::Problem, signing};

/// An edition that may be applied.
pub(super) struct Proposal {
    pub(super) edition: Edition,
    /// What the host trusted when the bundle was verified, and what it has seen since.
    pub(super) marks: Option<(Trusted, Trusted)>,
}

/// Why there is none.
pub(super) enum Refused {
    /// The request does not fit this host.
    Unfit(&'static str),
    /// The bundle is not in order.
    Bundle(String),
}

impl Proposal {
    /// # Errors
    /// Why there is none.
    pub(super) fn of(
        apply: &Apply,
        trusted: Option<&Trusted>,
        uid: u32,
        assigned: Option<&Assigned>,
    ) -> Result<Self, Refused> {
        let text = |file: &File| Text {
            name: file.name.clone(),
            path: file.path.clone(),
            text: file.text.clone(),
        };
        let applied = Applied { at: Timestamp::now(), uid, session: apply.session.clone() };
        let rules = |policies| Written::Documents {
            policies,
            inventory: apply.inventory.as_ref().map(text),
            host: apply.host.clone(),
            target: assigned.map(|assigned| assigned.target.clone()),
        };
        match (trusted, &apply.bundle) {
            (None, None) => {
                let rules = rules(apply.policies.iter().map(text).collect());
                Ok(Self {
                    edition: Edition { version: 0, rules, applied, signed: None },
                    marks: None,
                })
            }
            (None, Some(_)) => Err(Refused::Unfit(
                "this host trusts no root, so that no bundle can be verified: fwnet up --root",
            )),
            (Some(_), None) => {
                Err(Refused::Unfit("this host takes signed policy only: fwnet apply --bundle"))
            }
            (Some(before), Some(bundle)) => {
                let host = signing::host(apply.host.as_deref());
                let examined = before.examine(
                    bundle.as_bytes(),
                    &host,
                    assigned.map(|assigned| &assigned.me),
                    applied.at,
                );
                let Examined { trusted, policies, signed } =
                    examined.map_err(|error| Refused::Bundle(error.to_string()))?;
                let (rules, signed) = (rules(policies), Some(signed));
                Ok(Self {
                    edition: Edition { version: 0, rules, applied, signed },
                    marks: Some((before.clone(), trusted)),
                })
            }
        }
    }

    /// Has what was seen on disk, before any of it comes into force. What comes on trial is seen once it is confirmed: if it
    /// is not, what was there before is acceptable again.
    ///
    /// # Errors
    /// If it cannot be written, or another bundle came in between.
    pub(super) fn keep_marks(
        core: &mut Core,
        marks: Option<(Trusted, Trusted)>,
        on_trial: bool,
    ) -> Result<(), Problem> {
        let known = core.kept.store.trusted().map_err(Problem::conflict)?;
        match marks {
            None if known.is_none() => Ok(()),
            Some((before, _)) if known != Some(&before) => {
                Err(Problem::conflict("another bundle was applied in between: try again"))
            }
            None => Err(Problem::conflict("this host takes signed policy only")),
            Some((_, after)) if on_trial => {
                core.proposed_trust = Some(after);
                Ok(())
            }
            Some((_, after)) => {
                core.kept.store.set_trusted(after).map_err(anyhow::Error::from)?;
                Ok(())
            }
        }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Unfit(sentence) => Self::conflict(sentence),
            Refused::Bundle(sentence) => Self::unfit(format!("the bundle is refused: {sentence}")),
        }
    }
}
