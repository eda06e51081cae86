//! Sockets that go from one process to another: made here and connected by a child, or made by a child and connected here.

use rustix::net::SocketFlags;

use super::{dial, dial_on};
use crate::child;
use crate::door::{Attempt, Protocol};
use crate::error::{DoorError, Stage, at};
use crate::opened::Opened;

/// The child inherits the socket and connects it; as both share it, the connection is ours as well.
pub(crate) fn inherited(attempt: &Attempt<'_>) -> Result<Opened, DoorError> {
    dial(attempt, Protocol::Tcp, SocketFlags::empty(), |socket| {
        child::connect(socket, attempt.target)?;
        Ok(0)
    })
}

/// A child makes the socket and sends it in an `SCM_RIGHTS` message; it is connected here.
pub(crate) fn passed(attempt: &Attempt<'_>) -> Result<Opened, DoorError> {
    dial_on(child::socket(attempt.target)?, attempt, |socket| {
        rustix::net::connect(socket, &attempt.target).map_err(at(Stage::Connect))?;
        Ok(0)
    })
}
