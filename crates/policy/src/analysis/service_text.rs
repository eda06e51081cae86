//! Services that a question is about, from text.

use image::Service;

use crate::{
    policy::Policy,
    resolve::ServiceNames,
    span::Span,
    syntax::{self, Meaning, ServiceError, ServiceKind},
};

/// Why a text is not a list of services.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceTextError {
    /// One of them is malformed.
    #[error(transparent)]
    Malformed(#[from] ServiceError),
    /// No policy has a service of that name.
    #[error("`{0}` is not a service of these policies")]
    Unknown(String),
    /// Two policies have services of that name, and mean others.
    #[error("`{0}` means different services in different policies")]
    Ambiguous(String),
}

/// Reads `tcp/5432, pg`: services as policies write them, with the names that any of `policies` defines.
///
/// # Errors
/// [`ServiceTextError`] for the first that cannot be read.
pub fn services(policies: &[Policy], text: &str) -> Result<Vec<Service>, ServiceTextError> {
    let mut all = Vec::new();
    for word in text.split(',').map(str::trim) {
        let kind: ServiceKind = word.parse()?;
        let ServiceKind::Named(name) = &kind else {
            all.extend(
                ServiceNames::default().of(&[syntax::Service { kind, span: Span::default() }]),
            );
            continue;
        };
        let defining = policies
            .iter()
            .filter(|policy| matches!(policy.meaning(name), Some(Meaning::Services(_))));
        let mut meant = defining.map(|policy| {
            let named = syntax::Service { kind: kind.clone(), span: Span::default() };
            ServiceNames::new(policy).of(&[named])
        });
        let first = meant.next().ok_or_else(|| ServiceTextError::Unknown(name.clone()))?;
        if meant.any(|other| other != first) {
            return Err(ServiceTextError::Ambiguous(name.clone()));
        }
        all.extend(first);
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}
