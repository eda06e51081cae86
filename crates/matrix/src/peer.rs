//! The peer: another process, outside of the cgroup where the firewall judges, in the same network namespace. It listens,
//! connects when it is asked to, and says what it saw.
//!
//! Between the two: a question on its standard input, an answer on its standard output, a line each.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use doors::{Attempt, DoorError, MADE_BY_HAND, Protocol, Side};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionbio;
use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, accept, ipproto, recv};
use rustix::net::{bind, listen, socket_with};

/// Where it listens, by every protocol that the kernel has.
pub(crate) const PORT: u16 = 10_000;
/// How long an answer to a datagram may take, which is none or an error.
const ANSWER_LIMIT: Duration = Duration::from_millis(40);

/// The running peer. It ends with the value.
#[derive(Debug)]
pub(crate) struct Peer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts it as this program's other role, and waits until it listens.
    pub(crate) fn start() -> Result<Self> {
        let own = std::env::current_exe().context("find this program")?;
        let mut child = Command::new(own)
            .arg("peer")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the peer")?;
        let input = child.stdin.take().expect("stdin is piped");
        let output = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut peer = Self { child, input, output };
        let ready = peer.line()?;
        if ready != "ready" {
            bail!("the peer: {ready}");
        }
        Ok(peer)
    }

    /// What has come to it, waiting at most `patience` for the first of it: `connection`, `datagram`, `packet`, `nothing`.
    pub(crate) fn saw(&mut self, patience: Duration) -> Result<String> {
        self.ask(&format!("saw {}", patience.as_millis()))
    }

    /// Has it go out to `address` by `protocol`: `connected`, `sent`, `refused`, `silence`, or an errno.
    pub(crate) fn reach(
        &mut self,
        protocol: Protocol,
        address: SocketAddr,
        patience: Duration,
    ) -> Result<String> {
        self.ask(&format!("reach {protocol} {address} {}", patience.as_millis()))
    }

    /// Has it make a `socket` or a `listener` of IPv4's TCP, and names the process and the descriptor; or the errno and
    /// the step that gave it.
    pub(crate) fn lends(&mut self, what: &str) -> Result<Result<(i32, i32), String>> {
        let answer = self.ask(&format!("lend {what}"))?;
        Ok(answer.parse().map(|number| (self.child.id().cast_signed(), number)).or(Err(answer)))
    }

    fn ask(&mut self, question: &str) -> Result<String> {
        writeln!(self.input, "{question}").context("ask the peer")?;
        self.line()
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line).context("hear the peer")? == 0 {
            bail!("the peer has ended");
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// === the peer's side ===

/// Answers until nobody asks any more.
pub(crate) fn run() -> Result<ExitCode> {
    let ears = Ears::new()?;
    // What connections brought stays open: an end of theirs would be another event.
    let mut kept = Vec::new();
    let mut lent = Vec::new();
    println_now("ready")?;
    for question in io::stdin().lines() {
        let question = question.context("read a question")?;
        let words: Vec<&str> = question.split(' ').collect();
        let answer = match words[..] {
            ["saw", patience] => {
                kept.clear();
                ears.heard(milliseconds(patience)?, &mut kept)?.to_owned()
            }
            ["lend", what] => match lend(what)? {
                Ok(socket) => {
                    let number = socket.as_raw_fd().to_string();
                    lent.push(socket);
                    number
                }
                Err(error) => {
                    let errno = error.raw_os_error().unwrap_or_default();
                    format!("{} at listen", doors::errno_name(errno))
                }
            },
            ["reach", protocol, address, patience] => {
                let address = address.parse().context("an address")?;
                reach(protocol, address, milliseconds(patience)?)?
            }
            _ => bail!("no question: {question}"),
        };
        println_now(&answer)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn println_now(line: &str) -> Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{line}").and_then(|()| output.flush()).context("answer")
}

fn milliseconds(text: &str) -> Result<Duration> {
    Ok(Duration::from_millis(text.parse().context("milliseconds")?))
}

/// Where things arrive.
struct Ears {
    listeners: Vec<OwnedFd>,
    datagrams: Vec<OwnedFd>,
    frames: Option<OwnedFd>,
}

impl Ears {
    fn new() -> Result<Self> {
        let anyone = SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT));
        let mut listeners: Vec<OwnedFd> = vec![TcpListener::bind(anyone).context("listen")?.into()];
        let mut datagrams: Vec<OwnedFd> = vec![UdpSocket::bind(anyone).context("bind")?.into()];
        let (stream, dccp) = (SocketType::STREAM, SocketType::from_raw(6));
        for (kind, protocol) in [(stream, ipproto::SCTP), (dccp, ipproto::DCCP)] {
            let made =
                socket_with(AddressFamily::INET6, kind, SocketFlags::CLOEXEC, Some(protocol));
            // Not every kernel has them.
            if let Ok(socket) = made {
                // Associations of an earlier run may still be ending.
                set_socket_reuseaddr(&socket, true).context("share a port")?;
                bind(&socket, &anyone).context("bind for SCTP or DCCP")?;
                listen(&socket, 8).context("listen for SCTP or DCCP")?;
                listeners.push(socket);
            }
        }
        let lite = socket_with(
            AddressFamily::INET6,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            Some(ipproto::UDPLITE),
        );
        if let Ok(socket) = lite {
            bind(&socket, &anyone).context("bind for UDP-Lite")?;
            datagrams.push(socket);
        }
        // ETH_P_ALL, in network order.
        let every = rustix::net::Protocol::from_raw(
            std::num::NonZeroU32::new(0x0300).expect("it is not zero"),
        );
        let frames = socket_with(
            AddressFamily::PACKET,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            Some(every),
        );
        for socket in listeners.iter().chain(&datagrams).chain(&frames) {
            ioctl_fionbio(socket, true).context("make a socket non-blocking")?;
        }
        Ok(Self { listeners, datagrams, frames: frames.ok() })
    }

    /// The most telling of what has come.
    fn heard(&self, patience: Duration, kept: &mut Vec<OwnedFd>) -> Result<&'static str> {
        let deadline = Instant::now() + patience;
        loop {
            let mut heard = "nothing";
            while self.frames.as_ref().is_some_and(|frames| self.takes_packet(frames, &mut heard)) {
            }
            for socket in &self.datagrams {
                while recv(socket, &mut [0; 64], RecvFlags::DONTWAIT).is_ok() {
                    heard = "datagram";
                }
            }
            for listener in &self.listeners {
                while let Ok(accepted) = accept(listener) {
                    kept.push(accepted);
                    heard = "connection";
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if heard != "nothing" || left.is_zero() {
                return Ok(heard);
            }
            let every = self.listeners.iter().chain(&self.datagrams).chain(&self.frames);
            let mut all: Vec<_> = every.map(|it| PollFd::new(it, PollFlags::IN)).collect();
            poll(&mut all, Some(&Timespec::try_from(left)?)).context("wait")?;
        }
    }

    /// Takes one packet; `heard` becomes `packet` where it was made by hand, or is an echo
    /// request.
    fn takes_packet(&self, frames: &OwnedFd, heard: &mut &str) -> bool {
        let mut bytes = [0; 128];
        let Ok((taken, _)) = recv(frames, &mut bytes, RecvFlags::DONTWAIT) else { return false };
        let packet = &bytes[..taken];
        let (next, header) = match packet.first().map(|byte| byte >> 4) {
            Some(4) => (packet.get(9), 20),
            Some(6) => (packet.get(6), 40),
            _ => return true,
        };
        let start = packet.get(header..header + 2);
        let by_hand = next == Some(&6) && start == Some(&MADE_BY_HAND.to_be_bytes());
        // Echo requests of ICMP and ICMPv6.
        let echo = matches!((next, start), (Some(1), Some([8, _])) | (Some(58), Some([128, _])));
        if by_hand || echo {
            *heard = "packet";
        }
        true
    }
}

fn lend(what: &str) -> Result<io::Result<OwnedFd>> {
    Ok(match what {
        "listener" => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map(OwnedFd::from),
        _ => {
            let family = AddressFamily::INET;
            let made = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None);
            Ok(made.context("make a socket")?)
        }
    })
}

/// Goes out by the plainest door of the protocol.
fn reach(protocol: &str, address: SocketAddr, patience: Duration) -> Result<String> {
    let name = match protocol {
        "tcp" => "connect",
        "udp" => "udp-sendto",
        "udp-lite" => "udp-lite",
        "sctp" => "sctp-connect",
        "dccp" => "dccp-connect",
        other => bail!("nobody goes out by {other}"),
    };
    let door = doors::ALL.iter().find(|door| door.name == name && door.side() == Side::Out);
    let door = door.context("a door of that name")?;
    let attempt = Attempt { first: b"knock", ..Attempt::new(address, patience) };
    Ok(match doors::open(door, &attempt) {
        Ok(mut opened) if matches!(door.protocol, Protocol::Udp | Protocol::UdpLite) => {
            match opened.receive(&mut [0; 8], Some(Instant::now() + ANSWER_LIMIT)) {
                Err(error @ DoorError::Refused { .. }) => outcome(&error),
                Ok(_) | Err(DoorError::TimedOut { .. } | DoorError::Unsupported { .. }) => {
                    "sent".to_owned()
                }
            }
        }
        Ok(_) => "connected".to_owned(),
        Err(error) => outcome(&error),
    })
}

fn outcome(error: &DoorError) -> String {
    match error.errno() {
        Some(errno) if doors::errno_name(errno) == "ECONNREFUSED" => "refused".to_owned(),
        Some(errno) => doors::errno_name(errno),
        None => "silence".to_owned(),
    }
}
