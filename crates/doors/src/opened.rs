//! What comes of a door: a socket that carries data, whichever way it was had. Addresses are canonical.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{
    RecvFlags, SendAncillaryBuffer, SendFlags, recv, recvfrom, send, sendmsg_addr, sendto,
};

use crate::error::{DoorError, Stage, at};
use crate::socket::{self, canonical};

/// A connection, or for datagrams a socket and the peer it talks to.
#[derive(Debug)]
pub struct Opened {
    socket: OwnedFd,
    carrier: Carrier,
    local: SocketAddr,
    peer: SocketAddr,
}

/// How data leaves.
#[derive(Debug)]
pub(crate) enum Carrier {
    /// A connected stream.
    Stream,
    /// A connected datagram socket: send() names no address.
    Connected,
    /// An unconnected datagram socket. `to` is the peer in the socket's own family, `pending` the datagram that was
    /// received when the door opened.
    Unconnected { to: SocketAddr, by: SendCall, pending: Option<Vec<u8>> },
}

/// The call that sends a datagram with its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendCall {
    SendTo,
    SendMsg,
}

impl Opened {
    pub(crate) fn new(
        socket: OwnedFd,
        carrier: Carrier,
        local: SocketAddr,
        peer: SocketAddr,
    ) -> Self {
        Self { socket, carrier, local: canonical(local), peer: canonical(peer) }
    }

    /// The address at this end. Of an unconnected datagram socket the address may be the wildcard.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The address at the other end.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Asks the kernel again for the local address: a datagram socket has its port from the first send on.
    pub(crate) fn refresh_local(&mut self) -> Result<(), DoorError> {
        self.local = canonical(socket::local(&self.socket).map_err(at(Stage::Send))?);
        Ok(())
    }

    /// Sends all of `data`: on a stream as bytes, else as one datagram.
    ///
    /// # Errors
    /// The errno of send(2), sendto(2) or sendmsg(2); never a signal.
    pub fn send(&mut self, data: &[u8]) -> Result<(), DoorError> {
        let mut rest = data;
        loop {
            match self.send_once(rest) {
                // A datagram is sent whole or not at all.
                Ok(sent) if sent == rest.len() || !matches!(self.carrier, Carrier::Stream) => {
                    return Ok(());
                }
                Ok(sent) => rest = &rest[sent..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    socket::wait(self.socket.as_fd(), PollFlags::OUT, None)
                        .map_err(at(Stage::Send))?;
                }
                Err(errno) => return Err(at(Stage::Send)(errno)),
            }
        }
    }

    fn send_once(&self, data: &[u8]) -> Result<usize, Errno> {
        let flags = SendFlags::NOSIGNAL;
        match &self.carrier {
            Carrier::Stream | Carrier::Connected => send(&self.socket, data, flags),
            Carrier::Unconnected { to, by: SendCall::SendTo, .. } => {
                sendto(&self.socket, data, flags, to)
            }
            Carrier::Unconnected { to, by: SendCall::SendMsg, .. } => {
                let parts = [io::IoSlice::new(data)];
                sendmsg_addr(&self.socket, to, &parts, &mut SendAncillaryBuffer::default(), flags)
            }
        }
    }

    /// Receives into `buffer` and returns how many bytes came; 0 is the end of a stream, or an empty datagram. Datagrams
    /// of others than the peer are passed over. Waits for ever without a deadline.
    ///
    /// # Errors
    /// The errno of recv(2), for datagrams also one that ICMP brought; `TimedOut` past the deadline.
    pub fn receive(
        &mut self,
        buffer: &mut [u8],
        deadline: Option<Instant>,
    ) -> Result<usize, DoorError> {
        if let Carrier::Unconnected { pending, .. } = &mut self.carrier
            && let Some(data) = pending.take()
        {
            let taken = data.len().min(buffer.len());
            buffer[..taken].copy_from_slice(&data[..taken]);
            return Ok(taken);
        }
        loop {
            match self.receive_once(buffer) {
                Ok(Some(taken)) => return Ok(taken),
                Ok(None) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let ready = socket::wait(self.socket.as_fd(), PollFlags::IN, deadline);
                    if !ready.map_err(at(Stage::Receive))? {
                        return Err(DoorError::TimedOut { stage: Stage::Receive });
                    }
                }
                Err(errno) => return Err(at(Stage::Receive)(errno)),
            }
        }
    }

    /// `None` if the datagram came from somebody else.
    fn receive_once(&self, buffer: &mut [u8]) -> Result<Option<usize>, Errno> {
        match self.carrier {
            Carrier::Stream | Carrier::Connected => {
                recv(&self.socket, buffer, RecvFlags::DONTWAIT).map(|(taken, _)| Some(taken))
            }
            Carrier::Unconnected { .. } => {
                let (taken, _, from) = recvfrom(&self.socket, buffer, RecvFlags::DONTWAIT)?;
                let from = from.map(socket::internet).transpose()?;
                Ok((from.map(canonical) == Some(self.peer)).then_some(taken))
            }
        }
    }

    /// Closes a stream at once with a reset, so that no port stays behind in TIME-WAIT; of a datagram socket it is a
    /// plain close.
    ///
    /// # Errors
    /// The errno of setsockopt(2); the socket is closed in any case.
    pub fn reset(self) -> Result<(), DoorError> {
        set_socket_linger(&self.socket, Some(Duration::ZERO)).map_err(at(Stage::Option))
    }

    /// The stream as the standard library has it, blocking; `None` for datagrams.
    pub fn into_stream(self) -> Option<TcpStream> {
        match self.carrier {
            Carrier::Stream => {
                ioctl_fionbio(&self.socket, false).ok()?;
                Some(TcpStream::from(self.socket))
            }
            Carrier::Connected | Carrier::Unconnected { .. } => None,
        }
    }
}

impl AsFd for Opened {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
