//! When a session proves that one can still get in.

/// Whether `confirming` is a way in that was opened after `applying` had applied: another SSH session than that one, or
/// somebody at the machine itself. Sessions are what sshd(8) puts into `SSH_CONNECTION`: client address and port, server
/// address and port. A policy that was applied at the machine itself can be confirmed from there.
pub fn is_new_way_in(applying: Option<&str>, confirming: Option<&str>) -> bool {
    match (applying, confirming) {
        (Some(applying), Some(confirming)) => {
            !applying.split_ascii_whitespace().eq(confirming.split_ascii_whitespace())
        }
        (None, _) | (_, None) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_session_that_applied_is_no_new_way_in() {
        let session = Some("192.0.2.7 51234 192.0.2.1 22");
        assert!(!is_new_way_in(session, session));
        assert!(!is_new_way_in(session, Some(" 192.0.2.7  51234 192.0.2.1 22\n")));
        assert!(is_new_way_in(session, Some("192.0.2.7 51235 192.0.2.1 22")));
        assert!(is_new_way_in(session, None));
        assert!(is_new_way_in(None, session));
        assert!(is_new_way_in(None, None));
    }
}
