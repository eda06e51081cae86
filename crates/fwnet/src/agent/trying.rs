//! The tests that stand in the policy, run at this host of a fleet against what it compiles: see [`policy::run_tests_at`].
//!
//! A policy that comes on trial is put in force only if they hold; one that comes for good is in force first, and the
//! controller is told what fails. They are run again whenever something else is in force: another policy, other hosts,
//! other run-time denials, other addresses of this host.

use std::net::SocketAddr;

use ::agent::{
    edition::{Edition, Written},
    lists::{Front, FrontRule},
};
use jiff::Timestamp;
use policy::{Compiled, Origin, Own, TestResult, run_tests_at};
use verdict::Address;

use super::Core;
use crate::{
    documents::Documents,
    legacy::Inbound,
    orders::{allow_controllers, boot},
    rules,
};

/// Tests that are named; of the others it is said how many they are.
const NAMED_MAX: usize = 3;

/// What stands around a policy on this host.
#[derive(Clone, Debug)]
pub(crate) struct Around {
    addresses: Vec<Address>,
    front: Front,
    inbound: Inbound,
    controllers: Vec<SocketAddr>,
}

impl Core {
    /// What stands around a policy here.
    ///
    /// # Errors
    /// Where this host's addresses or the lists cannot be read.
    pub(crate) fn around(&mut self) -> anyhow::Result<Around> {
        let now = self.now();
        let place = &self.settled.place;
        Ok(Around {
            addresses: place.addresses()?,
            front: self.kept.store.fronts()?.at(&now),
            inbound: place.inbound.into(),
            controllers: self.controllers.clone(),
        })
    }

    /// The policy in force, with what stands around it.
    ///
    /// # Errors
    /// See [`Core::around`].
    pub(super) fn in_force_and_around(&mut self) -> anyhow::Result<Option<(Edition, Around)>> {
        let Some(edition) = self.edition().cloned() else { return Ok(None) };
        Ok(Some((edition, self.around()?)))
    }
}

/// Runs the tests of an edition, for as long as that takes. Those that fail, as far as this host can say.
///
/// # Errors
/// Where what another host would enforce does not fit into an image.
pub(crate) fn failing(edition: &Edition, around: &Around) -> anyhow::Result<Vec<TestResult>> {
    let Edition { rules, signed, .. } = edition;
    let Written::Documents { host, .. } = rules else { return Ok(Vec::new()) };
    let Some(documents) = rules::checked(rules, Timestamp::now())? else { return Ok(Vec::new()) };
    let Documents { inventory, checked, now } = &documents;
    let has_tests = checked.policies.iter().any(|it| it.document.tests().next().is_some());
    if checked.diagnostics.has_errors() || !has_tests {
        return Ok(Vec::new());
    }
    let host = documents.host(host.as_deref())?;
    let own = Own {
        host: &host,
        addresses: &around.addresses,
        zero: boot(),
        front: &|compiled| around.put(compiled),
        shared: signed.as_ref().is_some_and(|signed| !signed.selective),
    };
    let mut results = run_tests_at(checked, inventory, &own, *now)?;
    results.retain(|result| !result.passed);
    Ok(results)
}

impl Around {
    fn put(&self, compiled: &mut Compiled) -> Result<(), policy::CompileError> {
        let Compiled { rules, origins, image, .. } = compiled;
        let origin = |id: &str, text: String| Origin {
            id: id.to_owned(),
            stated: None,
            text,
            reason: None,
            owner: None,
        };
        let denied = |rule: &FrontRule| origin(&rule.id, rule.text.clone());
        self.front.clone().put(self.inbound.directions(), rules, origins, denied);
        allow_controllers(&self.controllers, rules, origins, origin);
        *image = image::compile(rules)?;
        Ok(())
    }
}

/// Failed tests in one line; empty where there are none.
pub(crate) fn line(failing: &[TestResult]) -> String {
    let named: Vec<String> = failing.iter().take(NAMED_MAX).map(TestResult::line).collect();
    let more = match failing.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    format!("{}{more}", named.join("; "))
}
