//! The SSH session that a verb was called in.

use std::{env, fs};

use crate::process::Stat;

/// What sshd(8) sets for the programs of a session: client address and port, server address and port.
pub(crate) const VARIABLE: &str = "SSH_CONNECTION";

/// Ancestors that are looked at: deeper than that nobody nests shells.
const ANCESTORS_MAX: usize = 64;

/// The session of this process: its own variable, or that of the nearest ancestor that has one, because sudo(8) and its
/// like take it away. None for whoever is at the machine itself; an empty variable says so.
pub(crate) fn own() -> Option<String> {
    if let Ok(session) = env::var(VARIABLE) {
        return Some(session).filter(|session| !session.is_empty());
    }
    let mut pid = std::process::id();
    for _ in 0..ANCESTORS_MAX {
        pid = parent(pid)?;
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        if let Some(session) = of(&environment) {
            return Some(session);
        }
    }
    None
}

/// The variable in what proc(5) calls `/proc/PID/environ`.
fn of(environment: &[u8]) -> Option<String> {
    let mut variables = environment.split(|&byte| byte == 0);
    let value =
        variables.find_map(|it| it.strip_prefix(VARIABLE.as_bytes())?.strip_prefix(b"="))?;
    String::from_utf8(value.to_vec()).ok().filter(|value| !value.is_empty())
}

/// None for the first process.
fn parent(pid: u32) -> Option<u32> {
    Stat::of(pid).map(|stat| stat.parent).filter(|&parent| parent != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_is_found_among_others() {
        let environment = b"A=1\0SSH_CONNECTION_X=no\0SSH_CONNECTION=::1 1 ::1 22\0B=2\0";
        assert_eq!(of(environment), Some("::1 1 ::1 22".to_owned()));
        assert_eq!(of(b"A=1\0SSH_CONNECTION=\0"), None);
    }

    #[test]
    fn every_process_but_the_first_has_a_parent() {
        let shell = parent(std::process::id()).unwrap();
        assert_eq!(shell, std::os::unix::process::parent_id());
        assert_eq!(parent(1), None);
    }
}
