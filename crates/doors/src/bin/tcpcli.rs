//! `tcpcli`: a client that goes out through any door, sends its input line by line and prints what comes back. Flags, texts
//! and exit codes are those of the client of 2015 (acceptance.md H6 and H7); the rest is new, among it two loads for tests:
//! a storm of connects and the race for a rewritten address.

use std::io::{self, BufRead, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use clap::builder::ArgAction;
use doors::race::{self, Call, Race};
use doors::storm::{self, Storm, THREADS_MAX};
use doors::tool::{self, EXIT_DENIED, Ending, Format};
use doors::{Attempt, Door, DoorError, Opened, Protocol, Side, Stage};
use rustix::io::Errno;
use serde_json::{Value, json};

const USE: &str = "tcpcli [-h<IP address>] [-p<TCP port>] [-v]";

/// Bytes received at once; a line may be longer.
const BUFFER_BYTES: usize = 65_535;

/// A client that connects through any door, sends its input line by line and prints each echo.
///
/// A last line without its newline gets one. A datagram door first sends an empty datagram and takes its echo for a
/// connection. Exit codes: 0 connected and all echoed, 1 denied (EACCES, EPERM) or bad option, 2 refused or any other
/// error, 3 no answer in time, 4 this machine has no such door. A storm or a race ends with 0 once it has counted.
#[derive(Parser)]
#[command(name = "tcpcli", disable_help_flag = true, version)]
struct Typed {
    /// The server's address, IPv4 or IPv6
    #[arg(short = 'h', value_name = "ADDRESS", default_value_t = Ipv4Addr::LOCALHOST.into())]
    address: IpAddr,
    /// The server's port, 1 to 65535
    #[arg(short, value_name = "PORT", default_value_t = 60_000, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Say which addresses are connected
    #[arg(short, action = ArgAction::Count)]
    verbose: u8,
    /// The way out (--list shows all)
    #[arg(long, value_name = "DOOR", value_parser = |name: &str| tool::via(name, Side::Out))]
    via: Option<&'static Door>,
    /// Send datagrams: the same as --via udp-connect
    #[arg(long, conflicts_with = "via")]
    udp: bool,
    /// Seconds until an attempt, or the wait for a datagram's echo, is given up
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    timeout: u32,
    /// How to print the result; json prints one object at the end, and no echoes
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: Format,
    /// Storm: make N attempts, close each at once with a reset, and count (prints JSON; input is not read)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Threads of the storm
    #[arg(long, value_name = "T", default_value_t = 1, requires = "count",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(THREADS_MAX)))]
    threads: u32,
    /// Race: connect while another thread rewrites the address between ALLOWED and DENIED, each ADDRESS or ADDRESS:PORT;
    /// --via connect or fastopen-sendto (prints JSON)
    #[arg(long, num_args = 2, value_names = ["ALLOWED", "DENIED"], requires = "count", conflicts_with = "threads")]
    race: Option<Vec<String>>,
    /// Show the ways out and end
    #[arg(long)]
    list: bool,
    /// Show this text and end
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

impl Typed {
    fn target(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout.into())
    }

    fn door(&self) -> &'static Door {
        let fallback = if self.udp { "udp-connect" } else { "connect" };
        self.via.or_else(|| doors::named(fallback)).expect("the list has the doors named here")
    }
}

fn main() -> ExitCode {
    if let Some(code) = doors::child::serve(std::env::args_os()) {
        return code;
    }
    let typed = match Typed::try_parse() {
        Ok(typed) => typed,
        Err(error) => return tool::usage(&error, USE).into(),
    };
    let done = match (&typed.race, typed.count) {
        _ if typed.list => print(&tool::list(Side::Out, typed.output)).map(|()| 0),
        (Some(pair), Some(count)) => race_for(&typed, pair, count),
        (_, Some(count)) => storm_of(&typed, count),
        _ => talk(&typed),
    };
    match done {
        Ok(code) => code.into(),
        Err(error) => {
            let text = doors::errno_text(error.raw_os_error().unwrap_or_default());
            tool::complain(&format!("client: standard output: {text}")).into()
        }
    }
}

/// One attempt and, if it connects, the conversation. Fails only where standard output does.
fn talk(typed: &Typed) -> io::Result<u8> {
    let started = Instant::now();
    let opened = connect(typed);
    let elapsed = started.elapsed();
    let mut object = tool::attempt_json(typed.door(), typed.target(), opened.as_ref(), elapsed);
    let ended = match opened {
        Err(error) => Err((cannot_connect(&error), error)),
        Ok(mut opened) => {
            if typed.verbose > 0 && typed.output == Format::Text {
                print(&format!("connect to: {} => {}\n", opened.local(), opened.peer()))?;
            }
            let conversation = converse(typed, &mut opened)?;
            object["echoed_bytes"] = conversation.echoed_bytes.into();
            conversation.ended
        }
    };
    let code = match &ended {
        Ok(()) => 0,
        Err((what, error)) => {
            tool::complain(&format!("client: {what}: {}", tool::reason(error)));
            Ending::of(error).exit_code()
        }
    };
    if typed.output == Format::Json {
        print(&format!("{object}\n"))?;
    }
    Ok(code)
}

/// Goes through the door. A datagram door has connected when the echo of its empty datagram is back.
fn connect(typed: &Typed) -> Result<Opened, DoorError> {
    let attempt = Attempt::new(typed.target(), typed.timeout());
    let mut opened = doors::open(typed.door(), &attempt)?;
    if typed.door().protocol == Protocol::Udp {
        opened.receive(&mut [0; 1], Some(attempt.deadline))?;
    }
    Ok(opened)
}

fn cannot_connect(error: &DoorError) -> &'static str {
    match error.stage() {
        Some(Stage::Socket | Stage::Option) => "can't open stream socket",
        _ => "can't connect to server",
    }
}

/// How far the conversation came, and what ended it before the input did.
struct Conversation {
    echoed_bytes: u64,
    ended: Result<(), (&'static str, DoorError)>,
}

fn converse(typed: &Typed, opened: &mut Opened) -> io::Result<Conversation> {
    let mut conversation = Conversation { echoed_bytes: 0, ended: Ok(()) };
    let mut input = io::stdin().lock();
    let mut line = Vec::new();
    while conversation.ended.is_ok() {
        line.clear();
        // Input that cannot be read ends the conversation as its end does.
        if !matches!(input.read_until(b'\n', &mut line), Ok(1..)) {
            break;
        }
        if line.last() != Some(&b'\n') {
            line.push(b'\n');
        }
        match exchange(typed, opened, &line) {
            Ok(echo) => {
                conversation.echoed_bytes += echo.len() as u64;
                if typed.output == Format::Text {
                    print(&String::from_utf8_lossy(&echo))?;
                }
            }
            Err(ended) => conversation.ended = Err(ended),
        }
    }
    Ok(conversation)
}

/// Sends a line and waits until as many bytes, or a datagram, came back.
fn exchange(
    typed: &Typed,
    opened: &mut Opened,
    line: &[u8],
) -> Result<Vec<u8>, (&'static str, DoorError)> {
    opened.send(line).map_err(|error| ("writen error", error))?;
    let datagram = typed.door().protocol == Protocol::Udp;
    let deadline = datagram.then(|| Instant::now() + typed.timeout());
    let mut echo = Vec::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    while echo.len() < line.len() {
        let taken =
            opened.receive(&mut buffer, deadline).map_err(|error| ("readline error", error))?;
        echo.extend(&buffer[..taken]);
        if datagram {
            break;
        }
        if taken == 0 {
            let errno = Errno::CONNRESET.raw_os_error();
            return Err((
                "server terminated prematurely",
                DoorError::Refused { stage: Stage::Receive, errno },
            ));
        }
    }
    Ok(echo)
}

fn storm_of(typed: &Typed, count: u64) -> io::Result<u8> {
    let (door, target) = (typed.door(), typed.target());
    let tally = storm::run(&Storm {
        door,
        target,
        count,
        threads: typed.threads,
        timeout: typed.timeout(),
    });
    print_object(&json!({
        "door": door.name,
        "target": target.to_string(),
        "attempts": tally.attempts,
        "connected": tally.connected,
        "failed": tally.failed,
        "elapsed_ms": milliseconds(tally.elapsed),
    }))
}

fn race_for(typed: &Typed, pair: &[String], count: u64) -> io::Result<u8> {
    let call = match typed.door().name {
        "connect" => Call::Connect,
        "fastopen-sendto" => Call::FastOpen,
        other => {
            return Ok(bad(&format!(
                "--race goes through connect or fastopen-sendto, not {other}"
            )));
        }
    };
    let addresses: Result<Vec<SocketAddr>, String> =
        pair.iter().map(|text| address(text, typed.port)).collect();
    let (allowed, denied) = match addresses.as_deref() {
        Ok([allowed, denied]) => (*allowed, *denied),
        Ok(_) => return Ok(bad("--race takes two addresses")),
        Err(error) => return Ok(bad(error)),
    };
    match race::run(&Race { allowed, denied, count, call }) {
        Err(error) => Ok(bad(&format!("--race: {error}"))),
        Ok(finish) => print_object(&json!({
            "door": typed.door().name,
            "allowed": allowed.to_string(),
            "denied": denied.to_string(),
            "attempts": finish.attempts,
            "reached_allowed": finish.reached_allowed,
            "reached_denied": finish.reached_denied,
            "reached_other": finish.reached_other,
            "failed": finish.failed,
            "rewrites": finish.rewrites,
            "elapsed_ms": milliseconds(finish.elapsed),
        })),
    }
}

/// `ADDRESS:PORT` (`[ADDRESS]:PORT` for IPv6), or an address with the port of `-p`.
fn address(text: &str, port: u16) -> Result<SocketAddr, String> {
    let with_port = text.parse().ok();
    with_port
        .or_else(|| text.parse().ok().map(|ip: IpAddr| SocketAddr::new(ip, port)))
        .ok_or_else(|| format!("--race: {text} is no address"))
}

fn bad(line: &str) -> u8 {
    tool::complain(&format!("error: {line}\nuse: {USE}"));
    EXIT_DENIED
}

fn milliseconds(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

fn print_object(object: &Value) -> io::Result<u8> {
    print(&format!("{object}\n")).map(|()| 0)
}

fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}
