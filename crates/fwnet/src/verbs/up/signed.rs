//! Whose signatures a host asks for from its first policy on.

use std::path::PathBuf;

use agent::{
    edition::Written,
    store::{Disk, Store},
    trusted::{Examined, Signed, Trusted},
};
use anyhow::{Context, bail};
use clap::Args;
use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    rules::{self, Rules},
    signing,
};

/// What of it is typed.
#[derive(Debug, Args)]
pub(super) struct Signing {
    /// Trust this signed root from now on: the host takes signed policy only
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// Trust it in the place of another one
    #[arg(long, requires = "root")]
    replace_root: bool,
    /// An audience that this host belongs to (repeatable)
    #[arg(long, value_name = "NAME", requires = "root")]
    audience: Vec<String>,
    /// The signed policies to begin with
    #[arg(long, value_name = "BUNDLE", conflicts_with_all = ["policy", "deny", "port"])]
    bundle: Option<PathBuf>,
}

/// The first rules of a host.
pub(super) struct First {
    /// The rules.
    pub(super) rules: Written,
    /// Who vouches for them.
    pub(super) signed: Option<Signed>,
    /// What is to be kept before them.
    pub(super) trusted: Option<Trusted>,
}

impl Signing {
    /// Whether anything of it is named.
    pub(super) fn named(&self) -> bool {
        self.root.is_some() || self.bundle.is_some()
    }

    /// The rules to begin with; none where those that are there already are meant.
    ///
    /// # Errors
    /// Where the host asks for signatures and the rules have none, or the bundle is not in order.
    pub(super) fn first<D: Disk, P: Serialize + DeserializeOwned>(
        &self,
        typed: &Rules,
        store: &Store<D, P>,
        known: bool,
        now: Timestamp,
    ) -> anyhow::Result<Option<First>> {
        let trusted = self.trusted(store)?;
        match (trusted, &self.bundle) {
            (Some(_), None) if typed.named() => {
                bail!("this host takes signed policy only: --bundle BUNDLE")
            }
            (Some(trusted), None) => {
                let current = store.state().current.as_ref();
                if !known || current.is_none_or(|edition| edition.signed.is_none()) {
                    bail!(
                        "this host takes signed policy only, and there is none yet: --bundle BUNDLE"
                    );
                }
                if Some(&trusted) != store.state().trusted.as_ref() {
                    bail!(
                        "another root or audience needs a bundle that is verified by it: --bundle BUNDLE"
                    );
                }
                Ok(None)
            }
            (None, Some(_)) => {
                bail!("no root is trusted, so that no bundle can be verified: --root FILE")
            }
            (None, None) if !typed.named() && known => Ok(None),
            (None, None) => {
                Ok(Some(First { rules: typed.written()?, signed: None, trusted: None }))
            }
            (Some(trusted), Some(bundle)) => {
                let (bundle, host) =
                    (signing::bundle(bundle)?, signing::host(typed.host.as_deref()));
                let examined = trusted.examine(bundle.as_bytes(), &host, None, now);
                let Examined { trusted, policies, signed } =
                    examined.context("the bundle is refused")?;
                let inventory = typed.files.inventory()?.map(rules::text).transpose()?;
                let host = typed.host.clone();
                let rules = Written::Documents { policies, inventory, host, target: None };
                Ok(Some(First { rules, signed: Some(signed), trusted: Some(trusted) }))
            }
        }
    }

    /// Whom the host is to trust from now on.
    fn trusted<D: Disk, P: Serialize + DeserializeOwned>(
        &self,
        store: &Store<D, P>,
    ) -> anyhow::Result<Option<Trusted>> {
        let known = store.trusted();
        let Some(path) = &self.root else { return Ok(known?.cloned()) };
        let trust = signing::root(path)?;
        let audiences = self.audience.clone();
        match known {
            // The marks stay: what was seen was seen.
            Ok(Some(known)) if known.trust.has_root_of(&trust) => {
                Ok(Some(Trusted { trust: known.trust.clone(), audiences }))
            }
            Ok(Some(_)) if !self.replace_root => {
                bail!(
                    "this host trusts another root already, or a later version of this one: --replace-root takes this one instead"
                )
            }
            // A root that is lost is told again.
            Ok(_) | Err(_) => Ok(Some(Trusted { trust, audiences })),
        }
    }
}
