//! How a door ends when nothing comes through: the kernel's errno and the step that gave it, the deadline, or the fact
//! that this machine has no such door. Also names and texts of errnos, as errno(3) and strerror(3) give them.

use std::fmt;
use std::io;

use rustix::io::Errno;

/// Why nothing came through a door.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DoorError {
    /// The kernel said no.
    #[error("{stage}: {}", errno_text(*.errno))]
    Refused {
        /// The step that was refused.
        stage: Stage,
        /// The errno as the kernel gave it, positive.
        errno: i32,
    },
    /// No answer before the deadline. The kernel's own time limit shows as `Refused` with `ETIMEDOUT`.
    #[error("{stage}: no answer before the deadline")]
    TimedOut {
        /// The step that did not end.
        stage: Stage,
    },
    /// This machine has no such door. Nothing was attempted.
    #[error("not offered here: {reason}")]
    Unsupported {
        /// What is missing.
        reason: String,
    },
}

impl DoorError {
    /// The errno, if the kernel gave one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            Self::TimedOut { .. } | Self::Unsupported { .. } => None,
        }
    }

    /// The step that failed, if any was tried.
    pub fn stage(&self) -> Option<Stage> {
        match self {
            Self::Refused { stage, .. } | Self::TimedOut { stage } => Some(*stage),
            Self::Unsupported { .. } => None,
        }
    }

    pub(crate) fn unsupported(reason: impl Into<String>) -> Self {
        Self::Unsupported { reason: reason.into() }
    }

    /// The same error, but `Unsupported` for the one errno by which the kernel says that it has no such door.
    pub(crate) fn lacking(self, errno: Errno, reason: &str) -> Self {
        if self.errno() == Some(errno.raw_os_error()) { Self::unsupported(reason) } else { self }
    }
}

/// The steps of going through a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Making the socket.
    Socket,
    /// Setting an option of it.
    Option,
    /// Claiming the local address.
    Bind,
    /// Beginning to listen.
    Listen,
    /// The call that connects, or that connects and sends.
    Connect,
    /// After the call had returned: the handshake of a non-blocking or deferred connect.
    Handshake,
    /// Taking a connection.
    Accept,
    /// Sending.
    Send,
    /// Receiving.
    Receive,
    /// Starting the other process of a door that needs two, or hearing from it.
    Child,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Socket => "socket",
            Self::Option => "option",
            Self::Bind => "bind",
            Self::Listen => "listen",
            Self::Connect => "connect",
            Self::Handshake => "handshake",
            Self::Accept => "accept",
            Self::Send => "send",
            Self::Receive => "receive",
            Self::Child => "child",
        })
    }
}

/// Turns an errno into the error of `stage`. The errnos by which a call with a time limit (`SO_SNDTIMEO`, `SO_RCVTIMEO`,
/// a cancelled io_uring operation) reports that the time is up become `TimedOut`.
pub(crate) fn at<E: Into<io::Error>>(stage: Stage) -> impl Fn(E) -> DoorError {
    move |error| {
        let errno = error.into().raw_os_error().unwrap_or(Errno::IO.raw_os_error());
        let waits = matches!(
            stage,
            Stage::Connect | Stage::Handshake | Stage::Accept | Stage::Send | Stage::Receive
        );
        match Errno::from_raw_os_error(errno) {
            Errno::AGAIN | Errno::INPROGRESS | Errno::ALREADY | Errno::CANCELED if waits => {
                DoorError::TimedOut { stage }
            }
            _ => DoorError::Refused { stage, errno },
        }
    }
}

/// The symbolic name of an errno, for example `EACCES`. Those a socket call can give are known; any other is `E` and its
/// number.
pub fn errno_name(errno: i32) -> String {
    NAMES
        .iter()
        .find(|(known, _)| known.raw_os_error() == errno)
        .map_or_else(|| format!("E{errno}"), |(_, name)| (*name).to_owned())
}

/// The text of an errno as strerror(3) has it, for example `Permission denied`.
pub fn errno_text(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    match text.rsplit_once(" (os error ") {
        Some((text, _)) => text.to_owned(),
        None => text,
    }
}

const NAMES: [(Errno, &str); 40] = [
    (Errno::ACCESS, "EACCES"),
    (Errno::ADDRINUSE, "EADDRINUSE"),
    (Errno::ADDRNOTAVAIL, "EADDRNOTAVAIL"),
    (Errno::AFNOSUPPORT, "EAFNOSUPPORT"),
    (Errno::AGAIN, "EAGAIN"),
    (Errno::ALREADY, "EALREADY"),
    (Errno::BADF, "EBADF"),
    (Errno::CANCELED, "ECANCELED"),
    (Errno::CONNABORTED, "ECONNABORTED"),
    (Errno::CONNREFUSED, "ECONNREFUSED"),
    (Errno::CONNRESET, "ECONNRESET"),
    (Errno::DESTADDRREQ, "EDESTADDRREQ"),
    (Errno::FAULT, "EFAULT"),
    (Errno::HOSTUNREACH, "EHOSTUNREACH"),
    (Errno::INPROGRESS, "EINPROGRESS"),
    (Errno::INTR, "EINTR"),
    (Errno::INVAL, "EINVAL"),
    (Errno::IO, "EIO"),
    (Errno::ISCONN, "EISCONN"),
    (Errno::MFILE, "EMFILE"),
    (Errno::MSGSIZE, "EMSGSIZE"),
    (Errno::NETDOWN, "ENETDOWN"),
    (Errno::NETUNREACH, "ENETUNREACH"),
    (Errno::NFILE, "ENFILE"),
    (Errno::NOBUFS, "ENOBUFS"),
    (Errno::NOENT, "ENOENT"),
    (Errno::NOMEM, "ENOMEM"),
    (Errno::NOPROTOOPT, "ENOPROTOOPT"),
    (Errno::NOSYS, "ENOSYS"),
    (Errno::NOTCONN, "ENOTCONN"),
    (Errno::NOTSOCK, "ENOTSOCK"),
    (Errno::OPNOTSUPP, "EOPNOTSUPP"),
    (Errno::PERM, "EPERM"),
    (Errno::PIPE, "EPIPE"),
    (Errno::PROTO, "EPROTO"),
    (Errno::PROTONOSUPPORT, "EPROTONOSUPPORT"),
    (Errno::PROTOTYPE, "EPROTOTYPE"),
    (Errno::SOCKTNOSUPPORT, "ESOCKTNOSUPPORT"),
    (Errno::TIMEDOUT, "ETIMEDOUT"),
    (Errno::TOOBIG, "E2BIG"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errnos_have_the_names_and_texts_of_the_manual() {
        assert_eq!(
            (errno_name(13).as_str(), errno_text(13).as_str()),
            ("EACCES", "Permission denied")
        );
        assert_eq!((errno_name(5).as_str(), errno_text(5).as_str()), ("EIO", "Input/output error"));
        assert_eq!(
            (errno_name(111).as_str(), errno_text(111).as_str()),
            ("ECONNREFUSED", "Connection refused")
        );
        assert_eq!(errno_name(4095), "E4095");
    }

    #[test]
    fn messages_name_the_step() {
        let refused = at::<Errno>(Stage::Connect)(Errno::ACCESS);
        assert_eq!(refused.to_string(), "connect: Permission denied");
        assert_eq!(refused.errno(), Some(13));
        let late = at::<Errno>(Stage::Accept)(Errno::AGAIN);
        assert_eq!(late.to_string(), "accept: no answer before the deadline");
        assert_eq!(late.errno(), None);
        assert_eq!(
            refused.lacking(Errno::ACCESS, "no MPTCP").to_string(),
            "not offered here: no MPTCP"
        );
    }
}
