//! `tcphold`: connections that stay. It listens, connects to itself as often as it is told, and keeps both ends open: the
//! load of a busy server for whoever looks at sockets or ends them.
//!
//! Prints `holding N` once all are there. Each line of input is answered by one line: how many of the connections are
//! still established at both ends.

use std::io::{self, BufRead as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Connections of one process: two descriptors each, of the 20,000 that a process may commonly have.
const CONNECTIONS_MAX: u32 = 9_900;

/// Holds connections to itself.
#[derive(Parser)]
#[command(name = "tcphold", disable_help_flag = true, version)]
struct Typed {
    /// The address to listen on and to connect to, one of this machine's
    #[arg(short = 'h', value_name = "ADDRESS", default_value_t = Ipv4Addr::LOCALHOST.into())]
    address: IpAddr,
    /// The port to listen on
    #[arg(short, value_name = "PORT", default_value_t = 60_000, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// How many connections
    #[arg(short = 'n', value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=i64::from(CONNECTIONS_MAX)))]
    count: u32,
    /// Show this text and end
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

fn main() -> ExitCode {
    match run(&Typed::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tcphold: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(typed: &Typed) -> Result<()> {
    let listener = TcpListener::bind(SocketAddr::new(typed.address, typed.port))
        .with_context(|| format!("listen on {} port {}", typed.address, typed.port))?;
    let target = listener.local_addr().context("ask where it listens")?;
    let mut held = Vec::new();
    for number in 1..=typed.count {
        let client = TcpStream::connect(target).with_context(|| format!("connection {number}"))?;
        let (server, _) = listener.accept().with_context(|| format!("accept {number}"))?;
        held.push((client, server));
    }
    let mut answers = io::stdout().lock();
    writeln!(answers, "holding {}", held.len())?;
    answers.flush()?;
    for line in io::stdin().lock().lines() {
        line.context("read what is asked")?;
        let standing = held.iter().filter(|(client, server)| stands(client) && stands(server));
        writeln!(answers, "{}", standing.count())?;
        answers.flush()?;
    }
    Ok(())
}

/// Whether nothing has come that ends a connection; no data is ever sent.
fn stands(end: &TcpStream) -> bool {
    let mut ends = [PollFd::new(end, PollFlags::IN)];
    poll(&mut ends, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) == Ok(0)
}
