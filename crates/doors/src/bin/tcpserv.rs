//! `tcpserv`: a line-echo server that accepts through any way in. Flags, texts and exit codes are those of the server of
//! 2015 (acceptance.md H1 to H5), with a thread per client in place of a process; the rest is new.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use clap::builder::ArgAction;
use doors::tool::{self, EXIT_DENIED, EXIT_UNSUPPORTED, Format};
use doors::{Door, DoorError, Listener, Opened, Protocol, Side, Stage, errno_name};
use serde_json::json;

const USE: &str = "tcpserv [-p<TCP port>] [-v[v]]";

/// Bytes of a line that are echoed at once; a longer line is echoed in parts.
const LINE_BYTES_MAX: u64 = 65_536;

/// How long to wait after a peer was denied, as the server of 2015 did.
const PAUSE_AFTER_DENIAL: Duration = Duration::from_millis(500);

/// A line-echo server that accepts through any door.
///
/// Exit codes: 1 bad option or an error that ends the server, 4 this machine has no such door. The server runs until it is
/// killed.
#[derive(Parser)]
#[command(name = "tcpserv", disable_help_flag = true, version)]
struct Typed {
    /// The port, 1 to 65535
    #[arg(short, value_name = "PORT", default_value_t = 60_000, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// The local address
    #[arg(short = 'h', value_name = "ADDRESS", default_value_t = Ipv4Addr::UNSPECIFIED.into())]
    address: IpAddr,
    /// Say who connects; twice: also what is echoed
    #[arg(short, action = ArgAction::Count)]
    verbose: u8,
    /// The way in (--list shows all)
    #[arg(long, value_name = "DOOR", value_parser = |name: &str| tool::via(name, Side::In))]
    via: Option<&'static Door>,
    /// Echo datagrams: the same as --via udp-receive
    #[arg(long, conflicts_with = "via")]
    udp: bool,
    /// Connections that may wait to be accepted; a storm wants thousands, as each one too many costs its client a second
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(i32).range(0..))]
    backlog: i32,
    /// How to print what happens
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: Format,
    /// Show the ways in and end
    #[arg(long)]
    list: bool,
    /// Show this text and end
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

fn main() -> ExitCode {
    if let Some(code) = doors::child::serve(std::env::args_os()) {
        return code;
    }
    let typed = match Typed::try_parse() {
        Ok(typed) => typed,
        Err(error) => return tool::usage(&error, USE).into(),
    };
    if typed.list {
        print(&tool::list(Side::In, typed.output));
        return ExitCode::SUCCESS;
    }
    let fallback = if typed.udp { "udp-receive" } else { "accept" };
    let door =
        typed.via.or_else(|| doors::named(fallback)).expect("the list has the doors named here");
    let say = Say { door, verbose: typed.verbose, format: typed.output };
    serve(&typed, say).into()
}

/// Listens, and accepts until an error ends it. Returns the exit code.
fn serve(typed: &Typed, say: Say) -> u8 {
    let address = SocketAddr::new(typed.address, typed.port);
    // The port of `autobind` is known only when it listens; the server of 2015 said it before binding.
    let port_known = say.door.name != "autobind";
    if port_known {
        say.listening(address);
    }
    let mut listener = match doors::listen(say.door, address, typed.backlog) {
        Ok(listener) => listener,
        Err(error) => return say.cannot_listen(&error),
    };
    if !port_known {
        say.listening(listener.local());
    }
    loop {
        let started = Instant::now();
        let ended = match listener.accept(None) {
            Ok(client) => say.accepted(client, &listener, started),
            Err(error) => say.not_accepted(&error, &listener, started),
        };
        if let Some(code) = ended {
            return code;
        }
    }
}

/// What the server does when accept() has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AfterError {
    /// A client that left before it was accepted: accept(2) says to go on.
    GoOn,
    /// A denied peer: say so, wait a moment, go on.
    Pause,
    /// Say what it was and end.
    End(&'static str),
}

impl AfterError {
    fn of(error: &DoorError) -> Self {
        match error.errno().map(errno_name).as_deref() {
            Some("ECONNABORTED") => Self::GoOn,
            Some("EACCES") => Self::Pause,
            Some("EIO") => Self::End("denied TCP port"),
            _ => Self::End("accept error"),
        }
    }
}

/// What is printed, and how. Copied into each client's thread.
#[derive(Clone, Copy)]
struct Say {
    door: &'static Door,
    verbose: u8,
    format: Format,
}

impl Say {
    fn listening(self, at: SocketAddr) {
        let protocol = if self.door.protocol == Protocol::Udp { "UDP" } else { "TCP" };
        match self.format {
            Format::Text if self.verbose > 0 => {
                print(&format!("listening on the {protocol} port {}\n", at.port()))
            }
            Format::Text => {}
            Format::Json => print(&format!(
                "{}\n",
                json!({"event": "listen", "door": self.door.name, "local": at.to_string()})
            )),
        }
    }

    fn cannot_listen(self, error: &DoorError) -> u8 {
        let what = match error.stage() {
            Some(Stage::Bind | Stage::Option) => "can't bind local address",
            Some(Stage::Listen) => "can't listen",
            _ => "can't open stream socket",
        };
        self.fatal(what, error)
    }

    /// Starts the client's thread; a datagram is echoed at once. `Some` ends the server.
    fn accepted(self, client: Opened, listener: &Listener, started: Instant) -> Option<u8> {
        match self.format {
            Format::Text if self.verbose > 0 => {
                print(&format!("connect from: {} <= {}\n", client.local(), client.peer()));
            }
            Format::Text => {}
            Format::Json => self.attempt(Ok(&client), listener, started),
        }
        if self.door.protocol == Protocol::Udp {
            self.echo_datagram(client);
            return None;
        }
        match thread::Builder::new().spawn(move || self.echo_lines(client)) {
            Ok(_) => None,
            Err(error) => {
                let text = doors::errno_text(error.raw_os_error().unwrap_or_default());
                Some(tool::complain(&format!("fork error: {text}")))
            }
        }
    }

    /// What the server of 2015 did with each errno of accept(). `Some` ends the server.
    fn not_accepted(self, error: &DoorError, listener: &Listener, started: Instant) -> Option<u8> {
        if self.format == Format::Json {
            self.attempt(Err(error), listener, started);
        }
        match AfterError::of(error) {
            AfterError::GoOn => None,
            AfterError::Pause => {
                if self.format == Format::Text {
                    print(&format!("connect from denied IP: {}\n", tool::reason(error)));
                }
                thread::sleep(PAUSE_AFTER_DENIAL);
                None
            }
            AfterError::End(what) => Some(self.fatal(what, error)),
        }
    }

    fn attempt(self, result: Result<&Opened, &DoorError>, listener: &Listener, started: Instant) {
        let mut object = tool::attempt_json(self.door, listener.local(), result, started.elapsed());
        object["event"] = "accept".into();
        print(&format!("{object}\n"));
    }

    fn fatal(self, what: &str, error: &DoorError) -> u8 {
        tool::complain(&format!("{what}: {}", tool::reason(error)));
        if matches!(error, DoorError::Unsupported { .. }) { EXIT_UNSUPPORTED } else { EXIT_DENIED }
    }

    fn echo_lines(self, client: Opened) {
        let peer = client.peer();
        let Some(stream) = client.into_stream() else { return };
        let mut lines = BufReader::new(&stream);
        let mut line = Vec::new();
        let mut echoed: u64 = 0;
        loop {
            line.clear();
            let ended = match lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
                Ok(0) => break,
                Ok(_) => (&stream).write_all(&line).map_err(|error| ("writen error", error)),
                Err(error) => Err(("readline error", error)),
            };
            if let Err((what, error)) = ended {
                tool::complain(&format!(
                    "{what}: {}",
                    doors::errno_text(error.raw_os_error().unwrap_or_default())
                ));
                break;
            }
            echoed += line.len() as u64;
            self.echoed(&line);
        }
        match self.format {
            Format::Text if self.verbose > 0 => print("connection closed\n"),
            Format::Text => {}
            Format::Json => {
                let object =
                    json!({"event": "close", "peer": peer.to_string(), "echoed_bytes": echoed});
                print(&format!("{object}\n"));
            }
        }
    }

    fn echo_datagram(self, mut client: Opened) {
        let mut data = vec![0; 65_535];
        let echo = client.receive(&mut data, None).and_then(|taken| {
            client.send(&data[..taken])?;
            Ok(taken)
        });
        match echo {
            Ok(taken) => self.echoed(&data[..taken]),
            Err(error) => {
                tool::complain(&format!("writen error: {}", tool::reason(&error)));
            }
        }
    }

    fn echoed(self, line: &[u8]) {
        if self.verbose > 1 && self.format == Format::Text {
            let text = String::from_utf8_lossy(line);
            let end = if text.ends_with('\n') { "" } else { "\n" };
            print(&format!("echo {} bytes: {text}{end}", line.len()));
        }
    }
}

/// Prints to standard output and hands it on at once. A server whose output nobody reads any more goes on serving; the
/// first loss is reported.
fn print(text: &str) {
    static LOST: AtomicU64 = AtomicU64::new(0);
    let mut stdout = io::stdout().lock();
    let printed = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    if printed.is_err() && LOST.fetch_add(1, Ordering::Relaxed) == 0 {
        tool::complain("standard output is closed: nothing more is printed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_errno_of_accept_has_the_answer_of_2015() {
        let after = |errno| AfterError::of(&DoorError::Refused { stage: Stage::Accept, errno });
        assert_eq!(after(5), AfterError::End("denied TCP port"));
        assert_eq!(after(13), AfterError::Pause);
        assert_eq!(after(103), AfterError::GoOn);
        assert_eq!(after(1), AfterError::End("accept error"));
        assert_eq!(after(22), AfterError::End("accept error"));
    }
}
