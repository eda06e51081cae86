//! What proc(5) says of a process in `/proc/PID/stat`.

use std::fs;

/// The fields behind its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    state: char,
    /// Its parent; 0 for the first process.
    pub(crate) parent: u32,
}

impl Stat {
    /// Of the process with this id; none where there is no such process.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        Self::read(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn read(stat: &str) -> Option<Self> {
        // The name is in parentheses and may have any in it.
        let (_, rest) = stat.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        let state = fields.next()?.chars().next()?;
        Some(Self { state, parent: fields.next()?.parse().ok()? })
    }

    /// Whether it has ended, though its parent has not waited for it yet.
    pub(crate) fn has_ended(self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_look_like_fields() {
        let of = |stat| Stat::read(stat).map(|stat| (stat.has_ended(), stat.parent));
        assert_eq!(of("77 (x) Z 9 (y) S 1 77 77"), Some((false, 1)));
        assert_eq!(of("77 (sh) Z 4 77 77"), Some((true, 4)));
        assert_eq!(of(""), None);
        let own = Stat::of(std::process::id()).unwrap();
        assert_eq!((own.has_ended(), own.parent), (false, std::os::unix::process::parent_id()));
    }
}
