//! Whom a policy would lock out: the failsafe set of the policy in force, and the session that applies.

use std::collections::BTreeMap;

use ::agent::failsafe::{self, Dropped};
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

/// Lines of the failsafe set whose flows are no longer all in it, in the words of the policy that has them: by what they
/// mean here, however they are written.
fn dropped(old: Option<&Ready>, new: &Ready) -> Vec<String> {
    let Some(old) = old else { return Vec::new() };
    // One line may be several rules; the worst counts.
    let mut lines: BTreeMap<&str, Dropped> = BTreeMap::new();
    for (number, dropped) in failsafe::dropped(&old.rules, &new.rules) {
        let Some(reason) = old.reasons.get(number) else { continue };
        let line = reason.text.as_deref().unwrap_or(&reason.id);
        let known = lines.entry(line).or_insert(dropped);
        *known = dropped.max(*known);
    }
    let spelled = |(line, dropped): (&str, Dropped)| match dropped {
        Dropped::Whole => format!("it drops `{line}` from the failsafe set"),
        Dropped::Part => format!("it drops a part of `{line}` from the failsafe set"),
    };
    lines.into_iter().map(spelled).collect()
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
    let judged = decide(&flow, &new.now()).enforced;
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
        let rules = Written::Documents {
            policies: vec![policy],
            inventory: None,
            host: None,
            target: None,
        };
        let bare = rules::bare(&rules, Inbound::Reject, &[], 1, Timestamp::UNIX_EPOCH).unwrap();
        bare.ready().unwrap()
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
        // The same in other words is no change, and less in the same words is one.
        let halves =
            "failsafe 192.0.2.0/25 -> me : tcp/22\nfailsafe 192.0.2.128/25 -> me : tcp/22\n";
        assert!(cuts(Some(&with), &ready(halves), None).is_empty());
        assert!(cuts(Some(&ready(halves)), &with, None).is_empty());
        let admins = |addresses: &str| {
            ready(&format!("name admins = {addresses}\nfailsafe admins -> me : tcp/22\n"))
        };
        let (wide, narrow) = (admins("192.0.2.0/24"), admins("192.0.2.0/28"));
        let [cut] = &*cuts(Some(&wide), &narrow, None) else { panic!("one cut") };
        assert_eq!(
            cut,
            "it drops a part of `failsafe admins -> me : tcp/22` from the failsafe set"
        );
        assert!(cuts(Some(&narrow), &wide, None).is_empty());
    }
}
