//! Reading again what lies outside of the state: the files that the policy was read from, users and groups, units,
//! executables, and addresses.

use std::{fs, time::Instant};

use ::agent::{
    edition::{Edition, Text, Written},
    machine::Event,
    trusted::Signed,
};
use anyhow::{Context, bail};

use super::{
    core::Core,
    draft::{Unsound, sound},
    steps::Undone,
};
use crate::seeing::Became;

impl Core {
    /// Reads the files of the policy in force again, where they are. If they say something else, that is applied for
    /// good; if not, the policy is compiled anew with what is known of users, units and addresses by now. Says what was
    /// done.
    ///
    /// # Errors
    /// Where a file cannot be read or is no good, or a policy waits to be confirmed: nothing is changed.
    pub(crate) fn read_again(&mut self) -> anyhow::Result<String> {
        let current = self.kept.store.state().current.as_ref().context("there is no policy")?;
        let signed = current.signed.clone();
        if self.kept.store.trusted()?.is_some() && signed.is_none() {
            bail!("this host takes signed policy only, and the one in force is not signed");
        }
        // What was signed lies in no file: of a signed policy only the inventory can be another one now.
        let rules = read(&current.rules)?;
        if rules == current.rules {
            self.follow_disk()?;
            return Ok("the policy is as it was, and compiled anew".to_owned());
        }
        let began = Instant::now();
        let version = self.apply_read(rules, signed);
        let became = match &version {
            Ok(_) => Became::Applied,
            Err(Unread::Unsound(_) | Unread::Undone(Undone::Refused(_))) => Became::Refused,
            Err(Unread::Undone(Undone::Failed(_))) => Became::Failed,
        };
        self.seeing.deeds.applied(became, began.elapsed());
        Ok(format!("now enforcing version {}", version?))
    }

    fn apply_read(&mut self, rules: Written, signed: Option<Signed>) -> Result<u64, Unread> {
        let by = self.itself();
        let _passed = sound(&rules)?;
        let edition = Edition { version: 0, rules, applied: by, signed };
        Ok(self.apply(edition, &Event::Apply { confirm: None })?)
    }
}

/// Why rules that were read again are not in force.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error("{}", spelled(.0))]
    Unsound(#[from] Unsound),
    #[error(transparent)]
    Undone(#[from] Undone),
}

fn spelled(unsound: &Unsound) -> String {
    match unsound {
        Unsound::File(_) => unsound.to_string(),
        Unsound::Errors { shown } | Unsound::Tests { shown, .. } => format!("{unsound}:\n{shown}"),
    }
}

fn read(rules: &Written) -> anyhow::Result<Written> {
    let Written::Documents { policies, inventory, host, target } = rules else {
        return Ok(rules.clone());
    };
    let again = |known: &Text| match &known.path {
        Some(path) => {
            let text = fs::read_to_string(path).with_context(|| path.clone())?;
            anyhow::Ok(Text { text, ..known.clone() })
        }
        None => Ok(known.clone()),
    };
    Ok(Written::Documents {
        policies: policies.iter().map(again).collect::<anyhow::Result<_>>()?,
        inventory: inventory.as_ref().map(again).transpose()?,
        host: host.clone(),
        target: target.clone(),
    })
}
