//! The other process of the doors that need two: it connects or accepts on a socket it inherited, or makes a socket and
//! sends it back in an `SCM_RIGHTS` message (unix(7)).
//!
//! The child is `tcpcli`, `tcpserv` or `matrix` started with a hidden first argument; each calls [`serve`] before anything else. A
//! program that is neither finds one of them in its own directory or the one above (where cargo puts tests), or by the
//! environment variable [`PROGRAM`]; otherwise those doors are `Unsupported`.
//! Between the two: the errno as decimal text on standard output, or four bytes (little end first) with the descriptor.

use std::env;
use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, accept_with, recvmsg, sendmsg,
};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use crate::door::Protocol;
use crate::error::{DoorError, Stage, at};
use crate::listen::bound;
use crate::socket::create;

/// Names the program that plays the child, where it is not to be found beside the running one.
pub const PROGRAM: &str = "FWNET_DOORS_CHILD";

/// The programs that call [`serve`].
const SERVES: [&str; 3] = ["tcpcli", "tcpserv", "matrix"];

/// The hidden first argument.
const ROLE: &str = "door-child";

// === the parent's side ===

/// A child connects the socket that it inherits.
pub(crate) fn connect(socket: BorrowedFd<'_>, target: SocketAddr) -> Result<(), DoorError> {
    let stdin = socket.try_clone_to_owned().map_err(at(Stage::Child))?;
    let mut child = spawn(&["connect", &target.to_string()], stdin, Stdio::piped())?;
    let mut answer = String::new();
    let read = child.stdout.take().map(|mut stdout| stdout.read_to_string(&mut answer));
    child.wait().map_err(at(Stage::Child))?;
    match (read, answer.trim().parse()) {
        (Some(Ok(_)), Ok(0)) => Ok(()),
        (Some(Ok(_)), Ok(errno)) => Err(at(Stage::Connect)(Errno::from_raw_os_error(errno))),
        _ => Err(silent()),
    }
}

/// A child makes a stream socket of the family of `target` and passes it here.
pub(crate) fn socket(target: SocketAddr) -> Result<OwnedFd, DoorError> {
    let (ours, theirs) = UnixStream::pair().map_err(at(Stage::Child))?;
    let child = spawn(&["socket", &target.to_string()], theirs.into(), Stdio::null())?;
    passed(child, &ours, Stage::Socket)
}

/// A child makes a listener and passes it here.
pub(crate) fn listener(address: SocketAddr, backlog: i32) -> Result<OwnedFd, DoorError> {
    let (ours, theirs) = UnixStream::pair().map_err(at(Stage::Child))?;
    let arguments = ["listen", &address.to_string(), &backlog.to_string()];
    let child = spawn(&arguments, theirs.into(), Stdio::null())?;
    passed(child, &ours, Stage::Bind)
}

/// A child accepts from the listener that it inherits, and passes the connection here.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> Result<OwnedFd, DoorError> {
    let (ours, theirs) = UnixStream::pair().map_err(at(Stage::Child))?;
    let stdin = listener.try_clone_to_owned().map_err(at(Stage::Child))?;
    let child = spawn(&["accept"], stdin, Stdio::from(OwnedFd::from(theirs)))?;
    passed(child, &ours, Stage::Accept)
}

fn spawn(arguments: &[&str], stdin: OwnedFd, stdout: Stdio) -> Result<Child, DoorError> {
    let parent = std::process::id().to_string();
    Command::new(program()?)
        .args([ROLE, &parent])
        .args(arguments)
        .stdin(Stdio::from(stdin))
        .stdout(stdout)
        .spawn()
        .map_err(at(Stage::Child))
}

/// Takes the descriptor that the child sends, and waits for the child to end. Its errno belongs to `stage`.
fn passed(mut child: Child, ours: &UnixStream, stage: Stage) -> Result<OwnedFd, DoorError> {
    let answer = receive(ours);
    child.wait().map_err(at(Stage::Child))?;
    match answer {
        Ok((0, Some(fd))) => Ok(fd),
        Ok((errno @ 1.., _)) => Err(at(stage)(Errno::from_raw_os_error(errno))),
        Ok(_) => Err(silent()),
        Err(errno) => Err(at(Stage::Child)(errno)),
    }
}

/// The child ended without an answer.
fn silent() -> DoorError {
    at(Stage::Child)(Errno::PROTO)
}

fn program() -> Result<PathBuf, DoorError> {
    if let Some(named) = env::var_os(PROGRAM) {
        return Ok(named.into());
    }
    let own = env::current_exe().map_err(at(Stage::Child))?;
    if own.file_name().is_some_and(|name| SERVES.iter().any(|serves| name == *serves)) {
        return Ok(own);
    }
    own.ancestors()
        .skip(1)
        .take(2)
        .flat_map(|directory| [directory.join("tcpcli"), directory.join("tcpserv")])
        .find(|program| program.is_file())
        .ok_or_else(|| {
            DoorError::unsupported(format!(
                "no tcpcli beside {} ({PROGRAM} names one)",
                own.display()
            ))
        })
}

fn receive(from: &UnixStream) -> Result<(i32, Option<OwnedFd>), Errno> {
    let mut bytes = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let taken = loop {
        match recvmsg(
            from,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Err(Errno::INTR) => {}
            answer => break answer?.bytes,
        }
    };
    if taken < bytes.len() {
        return Err(Errno::PROTO);
    }
    let mut fd = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message {
            fd = fds.next();
        }
    }
    Ok((i32::from_le_bytes(bytes), fd))
}

// === the child's side ===

/// Plays the child if the arguments say so, and returns its exit code; `None` in every ordinary start.
pub fn serve(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    if arguments.nth(1)? != ROLE {
        return None;
    }
    let arguments: Option<Vec<String>> =
        arguments.map(|argument| argument.into_string().ok()).collect();
    let played = arguments.and_then(|arguments| play(&arguments));
    Some(if played.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `None` if the arguments make no sense or nobody listens; the parent then misses the answer.
fn play(arguments: &[String]) -> Option<()> {
    let (parent, arguments) = arguments.split_first()?;
    // A child that waits in accept() must not outlive the parent, which may be killed.
    set_parent_process_death_signal(Some(Signal::KILL)).ok()?;
    if getppid().map(|pid| pid.as_raw_pid()) != parent.parse().ok() {
        return None;
    }
    let stdin = io::stdin();
    let stdin = stdin.as_fd();
    match arguments {
        [role, target] if role == "connect" => {
            let answer = rustix::net::connect(stdin, &target.parse::<SocketAddr>().ok()?);
            let mut stdout = io::stdout();
            writeln!(stdout, "{}", answer.err().map_or(0, Errno::raw_os_error)).ok()?;
            stdout.flush().ok()
        }
        [role, target] if role == "socket" => {
            let made = create(target.parse().ok()?, Protocol::Tcp, SocketFlags::empty());
            pass(stdin, made.map_err(|error| errno(&error)))
        }
        [role, address, backlog] if role == "listen" => {
            let made = bound(address.parse().ok()?, backlog.parse().ok()?);
            pass(stdin, made.map_err(|error| errno(&error)))
        }
        [role] if role == "accept" => {
            let accepted = accept_with(stdin, SocketFlags::CLOEXEC);
            pass(io::stdout().as_fd(), accepted.map_err(Errno::raw_os_error))
        }
        _ => None,
    }
}

fn errno(error: &DoorError) -> i32 {
    error.errno().unwrap_or(Errno::AFNOSUPPORT.raw_os_error())
}

fn pass(to: BorrowedFd<'_>, made: Result<OwnedFd, i32>) -> Option<()> {
    let errno = made.as_ref().err().copied().unwrap_or(0).to_le_bytes();
    let fds: Vec<BorrowedFd<'_>> = made.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return None;
    }
    sendmsg(to, &[IoSlice::new(&errno)], &mut control, SendFlags::NOSIGNAL).ok().map(drop)
}
