//! Very many connections to one server, for `cargo xtask bench fleet`: hosts of a fleet, subscribers of NATS, watches of
//! etcd, all over TLS 1.3 with a certificate of the fleet's authority on both sides.
//!
//! `crowd enrol` gives a new fleet its hosts: what as many enrolments leave behind, certificates and records, without the
//! requests. `crowd wait` connects some of them from one process, does what standard input says, a word a line, and tells
//! what came of it on standard output, a JSON object a line:
//!
//! | word | what is done | what is told |
//! |---|---|---|
//! | | everybody connects | `gathered` once everybody is served |
//! | `expect` | an update is waited for | `update`: when each had it, microseconds of CLOCK_MONOTONIC |
//! | `publish` | the same, and it is published by this process (rivals) | the same, with the time of that |
//! | `cut` | all connections end at once, by reset; everybody comes back as an agent does | `back` once everybody is served |
//! | `counts` | counts begin anew | `counts` |
//!
//! One thread does all of it: it shares the machine with the server that is measured.

mod agent;
mod book;
mod enrol;
mod gathering;
mod h2;
mod line;
mod nats;
mod publisher;
mod say;

use std::{net::SocketAddr, path::PathBuf};

use clap::{Parser, Subcommand, ValueEnum};
use fleet::store::Location;

use crate::{book::Book, gathering::Gathering};

/// Whatever ends the program, in words.
type Failure = Box<dyn std::error::Error>;

#[derive(Parser)]
struct Typed {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Writes certificates into the fleet's directory, and records into its store, which nobody uses now
    Enrol {
        /// As `fwnet fleet init` made it
        directory: PathBuf,
        /// Where the truth is
        store: Location,
        /// How many hosts
        hosts: u32,
        /// How many relays; the membership of the first is in `relay-0`
        relays: u32,
        /// Where the relays find the controller
        controller: String,
    },
    /// Connects
    Wait {
        /// As whom
        what: What,
        /// The same as for `enrol`
        directory: PathBuf,
        /// The server
        server: SocketAddr,
        /// The first host
        from: u32,
        /// How many
        count: u32,
    },
}

/// As whom to connect.
#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// A host of a fleet
    Host,
    /// A subscriber of NATS
    Nats,
    /// A watch of etcd
    Etcd,
}

fn main() -> Result<(), Failure> {
    match Typed::parse().verb {
        Verb::Enrol { directory, store, hosts, relays, controller } => {
            enrol::enrol(&directory, &store, hosts, relays, &controller)
        }
        Verb::Wait { what, directory, server, from, count } => {
            let book = Book::open(&directory)?;
            match what {
                What::Host => {
                    let known = agent::Known::open(&directory)?;
                    let members = book.members(from, count, wire::sync::PROTOCOL)?;
                    let members = members.into_iter().map(|it| (it.tls, known.agent(it.id)));
                    Gathering::new(server, members.collect(), None)?.run()
                }
                What::Nats => {
                    let publisher = publisher::nats(&book, server)?;
                    let members = book.members(from, count, b"")?;
                    let members =
                        members.into_iter().map(|it| (it.tls, nats::Subscriber::default()));
                    Gathering::new(server, members.collect(), Some(publisher))?.run()
                }
                What::Etcd => {
                    let publisher = publisher::etcd(&book, server)?;
                    let members = book.members(from, count, b"h2")?;
                    let members = members.into_iter().map(|it| (it.tls, h2::Subscriber::default()));
                    Gathering::new(server, members.collect(), Some(publisher))?.run()
                }
            }
        }
    }
}
