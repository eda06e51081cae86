//! Reading again what lies outside of the state: the files that the policy was read from, users and groups, units,
//! executables, and addresses.

use std::fs;

use ::agent::{
    edition::{Edition, Text, Written},
    machine::Event,
};
use anyhow::{Context, bail};

use super::{
    core::Core,
    draft::{Unsound, sound},
};

impl Core {
    /// Reads the files of the policy in force again, where they are. If they say something else, that is applied for
    /// good; if not, the policy is compiled anew with what is known of users, units and addresses by now. Says what was
    /// done.
    ///
    /// # Errors
    /// Where a file cannot be read or is no good, or a policy waits to be confirmed: nothing is changed.
    pub(crate) fn read_again(&mut self) -> anyhow::Result<String> {
        let current = self.kept.store.state().current.as_ref().context("there is no policy")?;
        let rules = read(&current.rules)?;
        if rules == current.rules {
            self.follow_disk()?;
            return Ok("the policy is as it was, and compiled anew".to_owned());
        }
        let by = self.itself();
        match sound(&rules) {
            Ok(_passed) => {}
            Err(Unsound::File(error)) => return Err(error),
            Err(Unsound::Errors { shown }) => bail!("the policy has errors:\n{shown}"),
            Err(Unsound::Tests { failed, shown }) => bail!("{failed} tests fail:\n{shown}"),
        }
        let edition = Edition { version: 0, rules, applied: by };
        let version = self.apply(edition, &Event::Apply { confirm: None })?;
        Ok(format!("now enforcing version {version}"))
    }
}

fn read(rules: &Written) -> anyhow::Result<Written> {
    let Written::Documents { policies, inventory, host } = rules else { return Ok(rules.clone()) };
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
    })
}
