//! The servers that are measured: how each is started, and how an update is published.

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use rustix::param::clock_ticks_per_second;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use testbed::{Host, etcd};

use super::crowd::{Crowd, Listener};
use super::figures::Round;
use super::{h2, nats};

/// Bytes of an update.
const UPDATE_BYTES: usize = 1_024;
/// Updates before those that are measured.
const FIRST_UPDATES: u32 = 3;
/// Until a server says that it is ready.
const READY_DEADLINE: Duration = Duration::from_secs(60);
const NATS_PORT: u16 = 4222;

/// A server.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Rival {
    /// nats-server: messages to those who subscribed
    Nats,
    /// etcd, one member: watches of a key, each update a durable write
    Etcd,
}

impl Rival {
    /// What it is called.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nats => "nats-server",
            Self::Etcd => "etcd, one member",
        }
    }

    /// Starts the server, has everybody wait, and publishes.
    pub(super) fn measure(self, host: &Host, subscribers: u32, updates: u32) -> Result<Round> {
        let here = IpAddr::from(Ipv4Addr::LOCALHOST);
        match self {
            Self::Nats => {
                let arguments = ["-a", "127.0.0.1", "-p", &NATS_PORT.to_string()];
                let server = host.start("nats-server", arguments);
                server.wait_for_line("Server is ready", READY_DEADLINE);
                let address = SocketAddr::new(here, NATS_PORT);
                told::<nats::Subscriber, _>(
                    host,
                    server.pid(),
                    address,
                    [subscribers, updates],
                    || {
                        let mut publisher =
                            TcpStream::connect(address).context("connect to NATS")?;
                        publisher
                            .write_all(b"CONNECT {\"verbose\":false}\r\n")
                            .context("say hello")?;
                        let update = nats::update(&payload());
                        Ok(move || publisher.write_all(&update).context("publish an update"))
                    },
                )
            }
            Self::Etcd => {
                let cluster = etcd::Cluster::start(&[(host, here)], None);
                let address = cluster.endpoint(0);
                let pid = cluster.pid(0);
                told::<h2::Subscriber, _>(host, pid, address, [subscribers, updates], || {
                    Ok(move || put(address))
                })
            }
        }
    }
}

/// What an update says.
fn payload() -> Vec<u8> {
    vec![b'u'; UPDATE_BYTES]
}

/// Puts the key, by the JSON gateway: one write for thousands of deliveries.
fn put(server: SocketAddr) -> Result<()> {
    let body =
        format!(r#"{{"key":"{}","value":"{}"}}"#, base64(h2::KEY.as_bytes()), base64(&payload()));
    let mut stream = TcpStream::connect(server).context("connect to etcd")?;
    let length = body.len();
    write!(stream, "POST /v3/kv/put HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}")
        .context("put an update")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("read etcd's answer")?;
    ensure!(answer.contains(" 200 OK"), "etcd refuses an update: {answer}");
    Ok(())
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let of = |place: usize| u32::from(chunk.get(place).copied().unwrap_or_default());
        let bits = of(0) << 16 | of(1) << 8 | of(2);
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place > chunk.len() { '=' } else { char::from(digit) });
        }
    }
    text
}

/// Measures a server that runs, from inside its namespace. `publisher` makes what publishes one update.
fn told<L: Listener, P: FnMut() -> Result<()>>(
    host: &Host,
    pid: u32,
    server: SocketAddr,
    [subscribers, updates]: [u32; 2],
    publisher: impl FnOnce() -> Result<P> + Send,
) -> Result<Round> {
    host.namespace.inside(|| {
        let mut publish = publisher()?;
        let (alone_kb, begun) = (resident_kb(pid)?, processor(pid)?);
        let mut crowd = Crowd::<L>::gather(server, subscribers)?;
        let gathered = processor(pid)?;
        let mut tell = || -> Result<Duration> {
            let begun = Instant::now();
            publish()?;
            crowd.hear_one()?;
            Ok(begun.elapsed())
        };
        for _ in 0..FIRST_UPDATES {
            tell()?;
        }
        let before = processor(pid)?;
        let times = (0..updates).map(|_| tell()).collect::<Result<Vec<_>>>()?;
        let spent = processor(pid)? - before;
        let memory_kb = resident_kb(pid)?.saturating_sub(alone_kb);
        let each = f64::from(subscribers);
        let millis = times.iter().map(|time| time.as_secs_f64() * 1e3);
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        Ok(Round {
            delivery_us: spent * 1e6 / (each * f64::from(updates)),
            connection_us: (gathered - begun) * 1e6 / each,
            memory_kb: memory_kb as f64 / each,
            everybody_ms: millis.clone().sum::<f64>() / f64::from(updates),
            slowest_ms: millis.fold(0.0, f64::max),
        })
    })
}

/// Processor time that a process has had, in seconds, threads that have ended included (proc(5), fields 14 and 15 of
/// `/proc/PID/stat`). Receiving over loopback is the sender's work there, for each server alike.
fn processor(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the server runs")?;
    let (_, fields) = stat.rsplit_once(')').context("the name in /proc/PID/stat")?;
    let fields: Vec<_> = fields.split_ascii_whitespace().collect();
    let ticks = |place: usize| -> Result<f64> {
        Ok(fields.get(place).context("a field of /proc/PID/stat")?.parse()?)
    };
    #[expect(clippy::cast_precision_loss, reason = "100, as a rule")]
    Ok((ticks(11)? + ticks(12)?) / clock_ticks_per_second() as f64)
}

fn resident_kb(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the server runs")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_ascii_whitespace().next());
    Ok(number.context("VmRSS in /proc/PID/status")?.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        // RFC 4648, 10.
        for (plain, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(plain.as_bytes()), text);
        }
    }
}
