//! What `tcpserv` and `tcpcli` share: the doors on the command line, the texts of the list, and the JSON of an attempt.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::door::{Door, Side};
use crate::error::{DoorError, errno_name};
use crate::list::{ALL, named};
use crate::opened::Opened;

/// The exit code of a bad option, of a denial, and of a server that cannot go on: what the tools of 2015 used for all.
pub const EXIT_DENIED: u8 = 1;
/// The exit code of a client that could not connect for another reason than a denial.
pub const EXIT_REFUSED: u8 = 2;
/// The exit code of a client that got no answer in time.
pub const EXIT_TIMEOUT: u8 = 3;
/// The exit code where this machine has no such door.
pub const EXIT_UNSUPPORTED: u8 = 4;

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The texts of the tools of 2015.
    #[default]
    Text,
    /// JSON, one object a line.
    Json,
}

/// The end of an attempt, as the JSON and the exit code name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// A connection.
    Allow,
    /// `EACCES` or `EPERM`: connect(2) and accept(2) reserve them for local rules.
    Deny,
    /// Any other errno.
    Refused,
    /// No answer in time, by the deadline or by the kernel's `ETIMEDOUT`.
    Timeout,
    /// No such door here.
    Unsupported,
}

impl Ending {
    /// The ending that an error stands for.
    pub fn of(error: &DoorError) -> Self {
        match error {
            DoorError::Refused { errno, .. } => match errno_name(*errno).as_str() {
                "EACCES" | "EPERM" => Self::Deny,
                "ETIMEDOUT" => Self::Timeout,
                _ => Self::Refused,
            },
            DoorError::TimedOut { .. } => Self::Timeout,
            DoorError::Unsupported { .. } => Self::Unsupported,
        }
    }

    /// Its word in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Unsupported => "unsupported",
        }
    }

    /// The exit code of a client that ends so.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Allow => 0,
            Self::Deny => EXIT_DENIED,
            Self::Refused => EXIT_REFUSED,
            Self::Timeout => EXIT_TIMEOUT,
            Self::Unsupported => EXIT_UNSUPPORTED,
        }
    }
}

/// Finds the door that `--via` names, on that side.
///
/// # Errors
/// A line that names the argument, for the person who typed it.
pub fn via(name: &str, side: Side) -> Result<&'static Door, String> {
    match named(name) {
        Some(door) if door.side() == side => Ok(door),
        Some(door) => Err(format!("{name} is a way {}, not a way {side}", door.side())),
        None => Err(format!("{name} is no door: --list shows them")),
    }
}

/// The doors of one side, one a line: name, protocol, note.
pub fn list(side: Side, format: Format) -> String {
    let mut text = String::new();
    for door in ALL.iter().filter(|door| door.side() == side && door.offered) {
        let Door { name, protocol, note, .. } = door;
        let line = match format {
            Format::Text => writeln!(text, "{name:<24} {protocol:<6} {note}"),
            Format::Json => {
                let object = json!({"door": name, "side": side.to_string(), "protocol": protocol.to_string(), "note": note});
                writeln!(text, "{object}")
            }
        };
        line.expect("a String takes any text");
    }
    text
}

/// One attempt as a JSON object: door, side, protocol, target (what was asked for), verdict and time; with a connection its
/// two ends, else errno, step and text.
pub fn attempt_json(
    door: &Door,
    target: SocketAddr,
    result: Result<&Opened, &DoorError>,
    elapsed: Duration,
) -> Value {
    let mut object = json!({
        "door": door.name,
        "side": door.side().to_string(),
        "protocol": door.protocol.to_string(),
        "target": target.to_string(),
    });
    match result {
        Ok(opened) => {
            object["verdict"] = Ending::Allow.word().into();
            object["local"] = opened.local().to_string().into();
            object["peer"] = opened.peer().to_string().into();
        }
        Err(error) => {
            object["verdict"] = Ending::of(error).word().into();
            object["errno"] = error.errno().map(errno_name).into();
            object["step"] = error.stage().map(|stage| stage.to_string()).into();
            object["error"] = error.to_string().into();
        }
    }
    object["elapsed_us"] = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX).into();
    object
}

/// The text of the errno alone, as the tools of 2015 print it behind their own words.
pub fn reason(error: &DoorError) -> String {
    match error {
        DoorError::Refused { errno, .. } => crate::error::errno_text(*errno),
        DoorError::TimedOut { .. } => {
            crate::error::errno_text(rustix::io::Errno::TIMEDOUT.raw_os_error())
        }
        DoorError::Unsupported { .. } => error.to_string(),
    }
}

/// Prints why the command line cannot be used, and how it can, to standard error. Help is printed to standard output and
/// is no error. Returns the exit code.
pub fn usage(error: &clap::Error, short: &str) -> u8 {
    if !error.use_stderr() {
        // A closed standard output is nobody's concern when help was asked for.
        let _ = error.print();
        return 0;
    }
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    complain(&format!("{first}\nuse: {short}\n(--help tells the rest)"))
}

/// Prints one line to standard error and returns the exit code of a bad option.
pub fn complain(line: &str) -> u8 {
    use std::io::Write as _;
    // Where standard error is closed, the exit code must tell.
    let _ = writeln!(std::io::stderr(), "{line}");
    EXIT_DENIED
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Stage;

    #[test]
    fn endings_tell_a_denial_from_a_refusal() {
        let ending = |errno| Ending::of(&DoorError::Refused { stage: Stage::Connect, errno });
        assert_eq!([13, 1, 111, 110].map(ending).map(Ending::exit_code), [1, 1, 2, 3]);
    }

    #[test]
    fn via_names_the_side() {
        assert_eq!(via("accept", Side::Out).unwrap_err(), "accept is a way in, not a way out");
        assert_eq!(via("sctp", Side::Out).unwrap_err(), "sctp is no door: --list shows them");
        assert_eq!(via("mptcp", Side::Out).unwrap().name, "mptcp");
    }

    #[test]
    fn list_has_a_line_for_each_door() {
        let lines = list(Side::Out, Format::Text).lines().count()
            + list(Side::In, Format::Json).lines().count();
        assert_eq!(lines, ALL.iter().filter(|door| door.offered).count());
    }
}
