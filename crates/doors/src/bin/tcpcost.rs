//! `tcpcost`: what making a connection costs here, step by step. It connects to itself over one address, again and again on
//! one thread: socket, connect, accept, close with a reset. With `--addresses` it connects to those of a file instead, one
//! after the other, all of which must lead to this machine.
//!
//! Each line of input is a number of cycles; each is answered by one line of JSON with the median time of every step in
//! nanoseconds. So one process, with one listener, can be measured before and after something changed around it.

use std::fs;
use std::io::{self, BufRead as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SocketType, accept, bind, connect, listen, socket, sockopt};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::{Value, json};

/// Cycles of one measurement: their times are kept until the median is known.
const CYCLES_MAX: u64 = 10_000_000;
/// Cycles before the first measurement: caches and the route are warm then.
const WARM_UP: u64 = 2_000;

/// Measures what making a connection costs. Reads numbers of cycles, prints a JSON object for each.
#[derive(Parser)]
#[command(name = "tcpcost", disable_help_flag = true, version)]
struct Typed {
    /// The address to connect to, one of this machine's
    #[arg(short = 'h', value_name = "ADDRESS", default_value_t = Ipv4Addr::LOCALHOST.into())]
    address: IpAddr,
    /// The port to listen on
    #[arg(short, value_name = "PORT", default_value_t = 60_000, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Connect to the addresses in this file, one a line, instead of the one that is listened at
    #[arg(long, value_name = "FILE")]
    addresses: Option<PathBuf>,
    /// Stay on this processor
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..1_024))]
    cpu: Option<u16>,
    /// Show this text and end
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

fn main() -> ExitCode {
    match run(&Typed::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tcpcost: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(typed: &Typed) -> Result<()> {
    if let Some(cpu) = typed.cpu {
        let mut set = CpuSet::new();
        set.set(cpu.into());
        sched_setaffinity(None, &set).with_context(|| format!("stay on processor {cpu}"))?;
    }
    let target = SocketAddr::new(typed.address, typed.port);
    let listener = stream(target)?;
    sockopt::set_socket_reuseaddr(&listener, true).context("allow the address again")?;
    bind(&listener, &target).with_context(|| format!("bind {target}"))?;
    listen(&listener, 16).with_context(|| format!("listen at {target}"))?;
    let targets = match &typed.addresses {
        Some(file) => read(file, typed.port)?,
        None => vec![target],
    };
    // It goes on where the last measurement ended: of many addresses, each is met rarely.
    let mut targets = targets.iter().copied().cycle();
    measure(&listener, &mut targets, WARM_UP)?;
    for line in io::stdin().lock().lines() {
        let line = line.context("read the number of cycles")?;
        let cycles = line.trim().parse().with_context(|| format!("{line:?} is no number"))?;
        ensure!((1..=CYCLES_MAX).contains(&cycles), "1 to {CYCLES_MAX} cycles, not {cycles}");
        let measured = measure(&listener, &mut targets, cycles)?;
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{measured}").and_then(|()| stdout.flush()).context("print")?;
    }
    Ok(())
}

/// The addresses of a file, none of which may be missing.
fn read(file: &Path, port: u16) -> Result<Vec<SocketAddr>> {
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let address = |line: &str| -> Result<SocketAddr> {
        let address = line.trim().parse::<IpAddr>();
        Ok((address.with_context(|| format!("{line:?} is no address"))?, port).into())
    };
    let targets: Vec<_> = text.lines().map(address).collect::<Result<_>>()?;
    ensure!(!targets.is_empty(), "{} has no addresses", file.display());
    Ok(targets)
}

fn stream(target: SocketAddr) -> Result<OwnedFd> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    socket(family, SocketType::STREAM, None).context("make a socket")
}

/// Times of one cycle's steps.
#[derive(Clone, Copy)]
struct Cycle {
    socket: Duration,
    connect: Duration,
    accept: Duration,
    close: Duration,
    whole: Duration,
}

impl Cycle {
    fn go(listener: &OwnedFd, target: SocketAddr) -> Result<Self> {
        let start = Instant::now();
        let client = stream(target)?;
        let made = Instant::now();
        connect(&client, &target).with_context(|| format!("connect to {target}"))?;
        let connected = Instant::now();
        let server = accept(listener).context("accept")?;
        let accepted = Instant::now();
        // A reset leaves no TIME_WAIT, which would make the search for a free port the thing that is measured.
        sockopt::set_socket_linger(&client, Some(Duration::ZERO)).context("ask for a reset")?;
        drop(client);
        drop(server);
        let end = Instant::now();
        Ok(Self {
            socket: made - start,
            connect: connected - made,
            accept: accepted - connected,
            close: end - accepted,
            whole: end - start,
        })
    }
}

/// Medians over `cycles` cycles: one that an interrupt fell into changes nothing.
fn measure(
    listener: &OwnedFd,
    targets: &mut impl Iterator<Item = SocketAddr>,
    cycles: u64,
) -> Result<Value> {
    let next = |_| {
        let target = targets.next().context("the targets begin again when they end")?;
        Cycle::go(listener, target)
    };
    let all: Vec<Cycle> = (0..cycles).map(next).collect::<Result<_>>()?;
    Ok(json!({
        "cycles": cycles,
        "socket_ns": median(&all, |cycle| cycle.socket),
        "connect_ns": median(&all, |cycle| cycle.connect),
        "accept_ns": median(&all, |cycle| cycle.accept),
        "close_ns": median(&all, |cycle| cycle.close),
        "cycle_ns": median(&all, |cycle| cycle.whole),
    }))
}

fn median(cycles: &[Cycle], step: impl Fn(&Cycle) -> Duration) -> u64 {
    let mut times: Vec<Duration> = cycles.iter().map(step).collect();
    times.sort_unstable();
    let middle = times.get(times.len() / 2).copied().unwrap_or_default();
    u64::try_from(middle.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_is_at_least_its_steps_and_all_of_them_are_counted() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = stream(any).unwrap();
        bind(&listener, &any).unwrap();
        listen(&listener, 16).unwrap();
        let at = rustix::net::getsockname(&listener).unwrap().try_into().unwrap();
        let cycle = Cycle::go(&listener, at).unwrap();
        let steps = cycle.socket + cycle.connect + cycle.accept + cycle.close;
        assert_eq!(steps, cycle.whole);
        assert!(!cycle.connect.is_zero());
        assert_eq!(measure(&listener, &mut [at].into_iter().cycle(), 3).unwrap()["cycles"], 3);
    }

    #[test]
    fn the_median_is_the_middle() {
        let cycle = |ns| {
            let zero = Duration::ZERO;
            let connect = Duration::from_nanos(ns);
            Cycle { socket: zero, connect, accept: zero, close: zero, whole: connect }
        };
        assert_eq!(median(&[5, 1, 900].map(cycle), |it| it.connect), 5);
    }
}
