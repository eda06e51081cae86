//! Ports to watch for, each with a reason: the configuration of linux_network_activity_tracker.
//!
//! A JSON array of `{"port": 6667, "type": "tcp", "port_type": "remote", "reason": "irc"}`. `type` is `tcp`, `udp` or
//! `all`, `port_type` is `local`, `remote` or `all`. As in that program, another word counts as `all` and is warned of,
//! and a missing one too. Other than there, all entries of one port count, not only the last, and one without a reason is
//! not passed over.

use serde::Deserialize;
use verdict::Protocol;

use super::Socket;

/// Entries that one file may have.
pub const ENTRIES_MAX: usize = 65_536;

/// Why a file is no list of ports to watch for.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// It is no JSON of that form.
    #[error("no list of ports with `port`, `type`, `port_type` and `reason`")]
    Form(#[from] serde_json::Error),
    /// It is too long.
    #[error("{found} entries, and {ENTRIES_MAX} is the limit")]
    Length {
        /// How many there are.
        found: usize,
    },
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// The port.
    pub port: u16,
    /// TCP or UDP; `None` is either.
    pub protocol: Option<Protocol>,
    /// Which end has the port; `None` is either.
    pub end: Option<End>,
    /// Why anybody watches for it.
    pub reason: String,
}

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// This host's.
    Local,
    /// The peer's.
    Remote,
}

impl End {
    /// The word for it, as in the file.
    pub fn word(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Remote => "remote",
        }
    }
}

/// Ports to watch for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchList {
    /// By port, those of one port in the order of the file.
    entries: Vec<Watched>,
    /// What is odd about the file.
    pub warnings: Vec<String>,
}

/// As it stands in the file.
#[derive(Deserialize)]
struct Entry {
    port: u16,
    #[serde(default, rename = "type")]
    protocol: String,
    #[serde(default)]
    port_type: String,
    #[serde(default)]
    reason: String,
}

impl WatchList {
    /// Reads the file's text.
    ///
    /// # Errors
    /// [`WatchError`] where it is something else; a port is a number from 0 to 65535.
    pub fn parse(text: &[u8]) -> Result<Self, WatchError> {
        let read: Vec<Entry> = serde_json::from_slice(text)?;
        if read.len() > ENTRIES_MAX {
            return Err(WatchError::Length { found: read.len() });
        }
        let mut list = Self::default();
        for Entry { port, protocol, port_type, reason } in read {
            let mut odd = |name: &str, word: &str| {
                list.warnings.push(format!(
                    "port {port}: {name} is `{}` and counts as `all`",
                    word.escape_debug()
                ));
            };
            let protocol = match protocol.as_str() {
                "tcp" => Some(Protocol::TCP),
                "udp" => Some(Protocol::UDP),
                "all" => None,
                other => {
                    odd("type", other);
                    None
                }
            };
            let end = match port_type.as_str() {
                "local" => Some(End::Local),
                "remote" => Some(End::Remote),
                "all" => None,
                other => {
                    odd("port_type", other);
                    None
                }
            };
            list.entries.push(Watched { port, protocol, end, reason });
        }
        list.entries.sort_by_key(|entry| entry.port);
        Ok(list)
    }

    /// The first entry that means this socket, and the end of it that is meant; this host's end is looked at first.
    pub fn watches(&self, socket: &Socket) -> Option<(&Watched, End)> {
        let ends = [(End::Local, socket.local.port), (End::Remote, socket.remote.port)];
        ends.into_iter().filter(|&(_, port)| port != 0).find_map(|(end, port)| {
            let first = self.entries.partition_point(|entry| entry.port < port);
            let of_port = self.entries.get(first..).unwrap_or_default();
            of_port
                .iter()
                .take_while(|entry| entry.port == port)
                .find(|entry| {
                    entry.protocol.is_none_or(|protocol| protocol == socket.protocol)
                        && entry.end.is_none_or(|wanted| wanted == end)
                })
                .map(|entry| (entry, end))
        })
    }
}

#[cfg(test)]
mod tests {
    use verdict::{Address, Endpoint};

    use super::*;
    use crate::connections::Stage;

    fn socket(protocol: Protocol, local: u16, remote: u16) -> Socket {
        let end = |port| Endpoint { address: Address::LOOPBACK_V4, port };
        Socket {
            protocol,
            mptcp: false,
            stage: Stage::Open,
            local: end(local),
            remote: end(remote),
            cookie: 1,
            uid: 0,
            inode: 0,
            cgroup: 0,
            opened: None,
            waiting: 0,
            token: 0,
            namespace: 0,
        }
    }

    #[test]
    fn the_programs_own_example_is_read() {
        let list = WatchList::parse(
            br#"[
            {"port":6666,"type":"tcp","port_type":"all","reason":"irc"},
            {"port":9050,"type":"tcp","port_type":"local","reason":"tor"},
            {"port":36008,"type":"tcp","port_type":"remote","reason":"botnet melinda & bill gates"},
            {"port":53,"type":"udp","port_type":"remote","reason":"names"},
            {"port":53,"type":"all","port_type":"local","reason":"a server of names"}
            ]"#,
        )
        .unwrap();
        assert_eq!(list.warnings, [""; 0]);
        let found = |protocol, local, remote| {
            list.watches(&socket(protocol, local, remote))
                .map(|(watched, end)| (watched.reason.as_str(), end.word()))
        };
        assert_eq!(found(Protocol::TCP, 6666, 50_000), Some(("irc", "local")));
        assert_eq!(found(Protocol::TCP, 50_000, 6666), Some(("irc", "remote")));
        assert_eq!(found(Protocol::UDP, 6666, 50_000), None);
        assert_eq!(found(Protocol::TCP, 50_000, 9050), None);
        assert_eq!(found(Protocol::TCP, 9050, 50_000), Some(("tor", "local")));
        assert_eq!(found(Protocol::TCP, 36_008, 50_000), None);
        assert_eq!(found(Protocol::UDP, 40_000, 53), Some(("names", "remote")));
        assert_eq!(found(Protocol::TCP, 53, 0), Some(("a server of names", "local")));
        assert_eq!(found(Protocol::TCP, 1, 2), None);
    }

    #[test]
    fn odd_words_count_as_all_and_are_told() {
        let list =
            WatchList::parse(br#"[{"port":1,"type":"sctp","port_type":"both\n"},{"port":2}]"#)
                .unwrap();
        assert!(list.watches(&socket(Protocol::UDP, 2, 9)).is_some());
        assert!(list.watches(&socket(Protocol::TCP, 9, 1)).is_some());
        assert_eq!(list.warnings.len(), 4);
        assert_eq!(list.warnings[1], "port 1: port_type is `both\\n` and counts as `all`");
    }

    #[test]
    fn what_is_no_such_file_is_refused() {
        for text in
            ["", "{}", "[1]", r#"[{"port":65536}]"#, r#"[{"port":-1}]"#, r#"[{"port":"1"}]"#]
        {
            assert!(WatchList::parse(text.as_bytes()).is_err(), "{text}");
        }
        let long = format!("[{}]", vec![r#"{"port":1}"#; ENTRIES_MAX + 1].join(","));
        assert_eq!(
            WatchList::parse(long.as_bytes()).unwrap_err().to_string(),
            "65537 entries, and 65536 is the limit"
        );
    }
}
