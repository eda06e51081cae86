//! `fwnet up --join`: this host becomes a member of a fleet.
//!
//! Until its first policy comes, nothing is denied: the programs are in the kernel, they judge, and there is no rule. A
//! machine that joins is not cut off by joining. From then on it takes policy from its fleet only, verified by the root
//! that the token names.

use std::{fs, path::Path};

use ::fleet::{
    join::Token,
    joining::{self, Joined},
    membership::{DIRECTORY, Membership},
    subject::Kind,
};
use agent::{
    edition::{Applied, Edition, Written},
    trusted::Trusted,
};
use anyhow::{Context, bail};
use clap::Args;
use wire::Trust;

use crate::{
    agent::kept::{Kept, Settled},
    answer::Working,
};

/// What of it is typed.
#[derive(Debug, Args)]
pub(super) struct Joining {
    /// Become a member of the fleet that made this token (`fwnet fleet enroll`): policy comes from there
    #[arg(long, value_name = "TOKEN", conflicts_with_all = [
        "policy", "deny", "port", "root", "bundle", "inventory", "host",
    ])]
    join: Option<String>,
    /// Leave the fleet that this host is a member of
    #[arg(long, requires = "join")]
    rejoin: bool,
}

/// Whether a host with this state is a member of a fleet.
///
/// # Errors
/// If what is there cannot be read.
pub(super) fn is_member(state: &Path) -> anyhow::Result<bool> {
    Ok(Membership::load(&state.join(DIRECTORY))?.is_some())
}

impl Joining {
    /// Whether it is wanted.
    pub(super) fn wanted(&self) -> bool {
        self.join.is_some()
    }

    /// Joins, and keeps what the agent is to begin with. Where it does not work nothing is kept.
    ///
    /// # Errors
    /// Where the token is none, no controller can be reached, or it refuses.
    pub(super) fn settle(
        &self,
        state: &Path,
        settled: Settled,
        by: &Applied,
    ) -> anyhow::Result<()> {
        let text = self.join.as_deref().unwrap_or_default();
        let token: Token = text.parse()?;
        if token.subject.kind() != Kind::Host {
            bail!("this token is for a relay: fwnet relay --join");
        }
        settled.place.attachments(false)?;
        // The state is looked at, and locked, before the token is worth nothing any more.
        let fresh = !state.exists();
        let mut kept = Kept::open(state)?;
        let joined = self.joined(state, &kept, &token);
        let Joined { membership, root } = match joined {
            Ok(joined) => joined,
            Err(error) => {
                drop(kept);
                if fresh {
                    let _removed = fs::remove_dir_all(state);
                }
                return Err(error);
            }
        };
        let trust = Trust::begin(&root).context("the root of the fleet")?;
        let trust = match kept.store.trusted() {
            // The marks stay: what was seen was seen.
            Ok(Some(known)) if known.trust.has_root_of(&trust) => known.trust.clone(),
            Ok(_) | Err(_) => trust,
        };
        kept.store.set_place(settled)?;
        kept.store.set_trusted(Trusted { trust, audiences: Vec::new() })?;
        let version = kept.store.next_version();
        let rules = Written::Lists { deny: Vec::new(), ports: Vec::new() };
        let edition = Edition { version, rules, applied: by.clone(), signed: None };
        kept.store.commit(edition)?;
        membership.save(&state.join(DIRECTORY))?;
        eprintln!(
            "fwnet: this host is {} of the fleet at {} until {}, and renews that by itself",
            membership.id,
            membership.endpoints.join(", "),
            membership.expires
        );
        Ok(())
    }

    fn joined(&self, state: &Path, kept: &Kept, token: &Token) -> anyhow::Result<Joined> {
        if let Some(member) = Membership::load(&state.join(DIRECTORY))?
            && !self.rejoin
        {
            bail!("this host is {} in a fleet already: --rejoin leaves that one", member.id);
        }
        if kept.store.trusted().is_ok_and(|it| it.is_some()) && !self.rejoin {
            bail!(
                "this host trusts a root already: --rejoin trusts that of the fleet in its place"
            );
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let _working = Working::new("joining");
        Ok(runtime.block_on(joining::join(token))?)
    }
}
