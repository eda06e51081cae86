//! Operators whose certificates are worth nothing any more.

use jiff::Timestamp;

use super::{Batch, Refusal, is_id};
use crate::{
    model::Model,
    records::{Key, RevokedRecord},
};

/// Whatever certificate an operator has been given until `now` is worth nothing any more. One that is made later is.
///
/// # Errors
/// If nobody can be called that.
pub fn revoke(model: &Model, operator: &str, by: &str, now: Timestamp) -> Result<Batch, Refusal> {
    if !is_id(operator) {
        return Err(Refusal::Name(operator.to_owned()));
    }
    let revoked = RevokedRecord { until: now, by: by.to_owned() };
    Ok(Batch::default().replacing(model, &Key::Operator(operator.to_owned()), &revoked))
}
