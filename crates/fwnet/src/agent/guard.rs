//! Whom a policy would lock out: the failsafe set of the policy in force, and the session that applies.

use ::agent::lockdown::is_failsafe;
use verdict::{Direction, Flow, Protocol, Subject, Verdict, decide};

use crate::{
    lockout::{ends, spelled_flow},
    orders::Ready,
};

/// What `new` would cut, each in one sentence. `old` is what is in force; `session` is who applies, if that is a remote
/// one.
pub(crate) fn cuts(old: Option<&Ready>, new: &Ready, session: Option<&str>) -> Vec<String> {
    let mut cuts = dropped(old, new);
    cuts.extend(session.and_then(|session| cut_session(new, session)));
    cuts
}

/// Lines of the failsafe set that are no longer there, in the words of the policy that has them.
fn dropped(old: Option<&Ready>, new: &Ready) -> Vec<String> {
    let lines = |ready: &Ready| -> Vec<String> {
        let rules = ready.rules.rules.iter().zip(&ready.reasons);
        let failsafe = rules.filter(|(rule, _)| is_failsafe(rule));
        failsafe.filter_map(|(_, reason)| reason.text.clone()).collect()
    };
    let kept = lines(new);
    let mut gone: Vec<String> = old.map(lines).unwrap_or_default();
    gone.retain(|line| !kept.contains(line));
    gone.dedup();
    gone.iter().map(|line| format!("it drops `{line}` from the failsafe set")).collect()
}

/// The session, judged as if it were made again, with the server as root.
fn cut_session(new: &Ready, session: &str) -> Option<String> {
    let (client, server) = ends(session)?;
    let flow = Flow {
        direction: Direction::In,
        protocol: Protocol::TCP,
        local: server,
        remote: client,
        subject: Subject { uid: 0, gid: 0, ..Subject::UNKNOWN },
    };
    let judged = decide(&flow, new.image.lines()).enforced;
    (judged.verdict == Verdict::Deny).then(|| {
        let reason = new.reason(judged.rule);
        let text = reason.and_then(|reason| reason.text.clone().or(Some(reason.id.clone())));
        let place = reason.and_then(|reason| reason.place.clone());
        format!(
            "it denies the session that applies it ({}) by `{}`{}",
            spelled_flow(client, server),
            text.unwrap_or_default(),
            place.map(|place| format!(" ({place})")).unwrap_or_default()
        )
    })
}

#[cfg(test)]
mod tests {
    use ::agent::edition::{Text, Written};
    use jiff::Timestamp;

    use super::*;
    use crate::{legacy::Inbound, rules};

    fn ready(text: &str) -> Ready {
        let policy = Text { name: "p".into(), path: None, text: text.into() };
        let rules = Written::Documents { policies: vec![policy], inventory: None, host: None };
        rules::compile(&rules, Inbound::Reject, &[], 1, Timestamp::UNIX_EPOCH).unwrap()
    }

    #[test]
    fn a_session_that_would_be_denied_is_named() {
        let session = Some("192.0.2.7 51234 192.0.2.1 22");
        let open = ready("deny 192.0.2.7 -> me : tcp/23\n");
        assert_eq!(cuts(None, &open, session), Vec::<String>::new());
        let closed = ready("deny 192.0.2.0/24 -> me : tcp/22\n");
        let [cut] = &*cuts(Some(&open), &closed, session) else { panic!("one cut") };
        assert!(cut.contains("192.0.2.7 -> 192.0.2.1:22"), "{cut}");
        assert!(cut.contains("`deny 192.0.2.0/24 -> me : tcp/22` (p:1)"), "{cut}");
        assert!(cuts(Some(&open), &closed, None).is_empty());
    }

    #[test]
    fn a_failsafe_line_that_goes_is_named() {
        let with = ready("failsafe 192.0.2.0/24 -> me : tcp/22\n");
        let without = ready("failsafe none\n");
        let [cut] = &*cuts(Some(&with), &without, None) else { panic!("one cut") };
        assert!(cut.contains("192.0.2.0/24"), "{cut}");
        assert!(cuts(Some(&without), &with, None).is_empty());
        assert!(cuts(Some(&with), &with, None).is_empty());
    }
}
