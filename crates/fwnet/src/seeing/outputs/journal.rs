//! Events in the journal, by its native protocol (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL>): one datagram of fields for
//! each event. Events are far below the size at which a datagram would have to be a file.

use std::{
    io,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
};

use serde_json::Value;

/// Where the journal listens.
pub(crate) const SOCKET: &str = "/run/systemd/journal/socket";

/// syslog(3): a denial, an alert.
const WARNING: u8 = 4;
const ALERT: u8 = 1;
const INFO: u8 = 6;

/// A journal.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    socket: Option<UnixDatagram>,
}

impl Journal {
    /// The one that listens at `path`.
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), socket: None }
    }

    /// Writes one event, given as an object of the Elastic Common Schema. Never waits: a journal that does not keep up
    /// gets less.
    ///
    /// # Errors
    /// Where nobody listens, or the journal's queue is full.
    pub(crate) fn write(&mut self, object: &Value) -> io::Result<()> {
        if self.socket.is_none() {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            self.socket = Some(socket);
        }
        let Some(socket) = &self.socket else { return Ok(()) };
        // To the path each time: a journal that was started again is another socket.
        socket.send_to(&datagram(object), &self.path).map(drop)
    }
}

fn datagram(object: &Value) -> Vec<u8> {
    let at = |path: &str| match object.pointer(path) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Null) | None => None,
        Some(other) => Some(other.to_string()),
    };
    let alert = at("/event/kind").as_deref() == Some("alert");
    let denied = at("/fwnet/verdict/enforced").as_deref() == Some("denied");
    let priority = match (alert, denied) {
        (true, _) => ALERT,
        (false, true) => WARNING,
        (false, false) => INFO,
    };
    let mut fields = Vec::new();
    field(&mut fields, "MESSAGE", &super::super::line::of(object));
    field(&mut fields, "PRIORITY", &priority.to_string());
    field(&mut fields, "SYSLOG_IDENTIFIER", "fwnet");
    let named = [
        ("FWNET_ACTION", "/event/action"),
        ("FWNET_VERDICT", "/fwnet/verdict/enforced"),
        ("FWNET_WOULD", "/fwnet/verdict/would"),
        ("FWNET_RULE", "/rule/id"),
        ("FWNET_VERSION", "/rule/version"),
        ("FWNET_DIRECTION", "/network/direction"),
        ("FWNET_TRANSPORT", "/network/transport"),
        ("FWNET_SOURCE", "/source/ip"),
        ("FWNET_SOURCE_PORT", "/source/port"),
        ("FWNET_DESTINATION", "/destination/ip"),
        ("FWNET_DESTINATION_PORT", "/destination/port"),
        ("FWNET_PROCESS", "/process/name"),
        ("FWNET_EXE", "/process/executable"),
        ("FWNET_PID", "/process/pid"),
        ("FWNET_USER", "/user/id"),
        ("FWNET_UNIT", "/fwnet/unit"),
        ("FWNET_CONTAINER", "/container/id"),
        ("FWNET_COMMUNITY_ID", "/network/community_id"),
        ("FWNET_COUNT", "/fwnet/count"),
    ];
    for (name, path) in named {
        if let Some(value) = at(path) {
            field(&mut fields, name, &value);
        }
    }
    field(&mut fields, "FWNET_EVENT", &object.to_string());
    fields
}

/// `NAME=value`, or with the length before a value that has line breaks.
fn field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_journal_gets_fields_and_a_message_for_people() {
        let directory = std::env::temp_dir().join(format!("fwnet-journal-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("socket");
        let mut journal = Journal::new(&path);
        let event = json!({
            "event": { "kind": "event", "action": "connect" },
            "process": { "name": "two\nlines", "pid": 7 },
            "fwnet": { "verdict": { "enforced": "denied" }, "unit": null },
        });
        assert!(journal.write(&event).is_err(), "nobody listens");
        let listener = UnixDatagram::bind(&path).unwrap();
        journal.write(&event).unwrap();
        let mut buffer = [0; 4096];
        let length = listener.recv(&mut buffer).unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
        let told = buffer.get(..length).unwrap();
        let has = |bytes: &[u8]| told.windows(bytes.len()).any(|window| window == bytes);
        assert!(told.starts_with(b"MESSAGE="));
        assert!(
            has(b"\nPRIORITY=4\n") && has(b"\nFWNET_PID=7\n") && has(b"\nFWNET_ACTION=connect\n")
        );
        assert!(has(b"\nFWNET_PROCESS\n\x09\0\0\0\0\0\0\0two\nlines\n"));
        assert!(!has(b"FWNET_UNIT"));
    }
}
