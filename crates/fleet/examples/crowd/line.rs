//! One connection of the crowd: nothing of it ever waits.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use rustix::net::{self, AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, pki_types::ServerName};

use crate::Failure;

/// One side of a conversation with a server: what it says, and what it hears.
pub(crate) trait Listener {
    /// Whether the server says something before TLS begins, which ends with a line.
    const GREETED: bool = false;

    /// What it says first.
    fn hello(&mut self) -> Vec<u8>;

    /// Takes what has come, and adds what has to be answered.
    ///
    /// # Errors
    /// If the server complains.
    fn hear(&mut self, bytes: &[u8], answer: &mut Vec<u8>) -> Result<Heard, Failure>;

    /// What it says every so often to show that it is alive, and how often, where it does.
    fn beat(&self) -> Option<(Vec<u8>, Duration)> {
        None
    }
}

/// What a piece of a conversation told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    /// It is served from now on.
    pub(crate) waits: bool,
    /// Whole updates.
    pub(crate) updates: u32,
    /// It is to come again after so many milliseconds.
    pub(crate) later_ms: Option<u64>,
}

/// A connection.
pub(crate) struct Line {
    stream: TcpStream,
    tls: ClientConnection,
    /// The greeting, or as much of it as came; `None` once TLS may begin.
    greeting: Option<Vec<u8>>,
    connected: bool,
    said_hello: bool,
    /// Whether it is watched for room to write.
    pub(crate) watched_for_room: bool,
}

/// What a line does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// Nothing more for now.
    Nothing,
    /// So many bytes.
    Bytes(usize),
    /// The server has ended it, or it never began.
    End,
}

impl Line {
    /// Begins to connect.
    pub(crate) fn begin(
        server: SocketAddr,
        tls: &Arc<ClientConfig>,
        greeted: bool,
    ) -> Result<Self, Failure> {
        let kind = (SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC);
        let socket = net::socket_with(AddressFamily::INET, kind.0, kind.1, Some(ipproto::TCP))?;
        match net::connect(&socket, &server) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let tls = ClientConnection::new(Arc::clone(tls), ServerName::from(server.ip()))?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        let greeting = greeted.then(Vec::new);
        let (connected, said_hello) = (false, false);
        Ok(Self { stream, tls, greeting, connected, said_hello, watched_for_room: true })
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Whether the session was one from before.
    pub(crate) fn is_resumed(&self) -> bool {
        self.tls.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// There is room to write, or the connection is there, or not.
    pub(crate) fn room(&mut self) -> Result<bool, Failure> {
        if !self.connected {
            if self.stream.take_error()?.is_some() {
                return Ok(false);
            }
            self.connected = true;
        }
        self.write()
    }

    /// Whether there is no connection yet, or no greeting.
    pub(crate) fn is_connecting(&self) -> bool {
        !self.connected
    }

    /// Says something once there is TLS.
    pub(crate) fn say(&mut self, bytes: &[u8]) -> Result<bool, Failure> {
        self.tls.writer().write_all(bytes)?;
        self.write()
    }

    /// Whether everything is written that was said.
    pub(crate) fn is_done(&self) -> bool {
        !self.tls.wants_write()
    }

    fn write(&mut self) -> Result<bool, Failure> {
        if self.greeting.is_some() || !self.connected {
            return Ok(true);
        }
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.stream) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) if is_end(&error) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// Reads once what has come into `to`. `hello` is said as soon as it can be.
    pub(crate) fn read(
        &mut self,
        to: &mut [u8],
        hello: impl FnOnce() -> Vec<u8>,
    ) -> Result<Came, Failure> {
        if let Some(greeting) = &mut self.greeting {
            // A byte at a time: what follows the line is TLS.
            let mut byte = [0];
            loop {
                match self.stream.read(&mut byte) {
                    Ok(0) => return Ok(Came::End),
                    Ok(_) => greeting.push(byte[0]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        return Ok(Came::Nothing);
                    }
                    Err(error) if is_end(&error) => return Ok(Came::End),
                    Err(error) => return Err(error.into()),
                }
                if byte == *b"\n" {
                    break;
                }
            }
            self.greeting = None;
            return Ok(if self.write()? { Came::Nothing } else { Came::End });
        }
        match self.tls.read_tls(&mut self.stream) {
            Ok(0) => return Ok(Came::End),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Came::Nothing),
            Err(error) if is_end(&error) => return Ok(Came::End),
            Err(error) => return Err(error.into()),
        }
        self.tls.process_new_packets()?;
        if !self.said_hello && !self.tls.is_handshaking() {
            self.said_hello = true;
            self.tls.writer().write_all(&hello())?;
        }
        if !self.write()? {
            return Ok(Came::End);
        }
        self.more(to)
    }

    /// What more was read with what came before.
    pub(crate) fn more(&mut self, to: &mut [u8]) -> Result<Came, Failure> {
        match self.tls.reader().read(to) {
            Ok(0) => Ok(Came::End),
            Ok(count) => Ok(Came::Bytes(count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Came::Nothing),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(Came::End),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends it as a network does that is cut: nothing is said, and the other side gets a reset.
    pub(crate) fn cut(self) -> Result<(), Failure> {
        Ok(sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO))?)
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset
            | ErrorKind::BrokenPipe
            | ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionAborted
            | ErrorKind::UnexpectedEof
    )
}
