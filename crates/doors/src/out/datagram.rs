//! UDP: connected once, or with the address in every send. The first datagram leaves with the attempt, so that a refusal
//! shows at once.

use std::os::fd::{AsFd, OwnedFd};

use kernel::raw::option::{set_receive_errors_v4, set_receive_errors_v6};
use rustix::net::SocketFlags;

use crate::door::{Attempt, Protocol};
use crate::error::{DoorError, Stage, at};
use crate::opened::{Carrier, Opened, SendCall};
use crate::socket::{self, mapped};

pub(crate) fn connected_datagram(attempt: &Attempt<'_>) -> Result<Opened, DoorError> {
    let socket = create(attempt)?;
    rustix::net::connect(&socket, &attempt.target).map_err(at(Stage::Connect))?;
    opened(socket, Carrier::Connected, attempt)
}

pub(crate) fn sendto_datagram(attempt: &Attempt<'_>) -> Result<Opened, DoorError> {
    unconnected(attempt, SendCall::SendTo)
}

pub(crate) fn sendmsg_datagram(attempt: &Attempt<'_>) -> Result<Opened, DoorError> {
    unconnected(attempt, SendCall::SendMsg)
}

pub(crate) fn mapped_datagram(attempt: &Attempt<'_>) -> Result<Opened, DoorError> {
    unconnected(&Attempt { target: mapped(attempt.target), ..*attempt }, SendCall::SendTo)
}

fn unconnected(attempt: &Attempt<'_>, by: SendCall) -> Result<Opened, DoorError> {
    let socket = create(attempt)?;
    // Without this only a connected socket hears of ICMP errors.
    let answer = match attempt.target.is_ipv4() {
        true => set_receive_errors_v4(socket.as_fd()),
        // A mapped peer's errors arrive as IPv4's.
        false => set_receive_errors_v6(socket.as_fd())
            .and_then(|()| set_receive_errors_v4(socket.as_fd())),
    };
    answer.map_err(at(Stage::Option))?;
    opened(socket, Carrier::Unconnected { to: attempt.target, by, pending: None }, attempt)
}

fn create(attempt: &Attempt<'_>) -> Result<OwnedFd, DoorError> {
    socket::create(attempt.target, Protocol::Udp, SocketFlags::empty())
}

/// Sends the first datagram, then asks for the local address, which that send may have chosen.
fn opened(socket: OwnedFd, carrier: Carrier, attempt: &Attempt<'_>) -> Result<Opened, DoorError> {
    let unbound = attempt.target;
    let mut opened = Opened::new(socket, carrier, unbound, attempt.target);
    opened.send(attempt.first)?;
    opened.refresh_local()?;
    Ok(opened)
}
