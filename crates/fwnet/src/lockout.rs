//! Whether enforcing policies could lock people out: the failsafe set, and the SSH session this runs in.

use std::fmt::Write as _;

use policy::{
    Document, Facts, Mode, Way, compile,
    syntax::{Answer, Failsafe, Line, Statement},
};
use serde_json::{Value, json};
use verdict::{Address, Direction, Endpoint, Flow, Protocol, Subject, Verdict, decide};

use crate::{documents::Documents, names::known_at, prefix::canonical, session::VARIABLE};

/// What keeps people in, and whether it does.
pub(crate) struct Lockout {
    /// The `failsafe` lines, each with file and line.
    failsafe: Vec<(String, String)>,
    /// Whether a `failsafe none` says that there shall be nothing.
    emptied: bool,
    /// Whether a policy denies whatever comes in that no rule matches.
    denies_in: bool,
    /// The verdict on this session, if this is one.
    session: Option<Session>,
}

/// The SSH session that the check runs in, judged as if it were made again.
struct Session {
    client: Endpoint,
    server: Endpoint,
    host: String,
    verdict: Verdict,
    rule: String,
}

impl Lockout {
    /// Looks at policies that have no errors.
    ///
    /// # Errors
    /// If the host of this session cannot be told.
    pub(crate) fn of(documents: &Documents) -> anyhow::Result<Self> {
        let mut failsafe = Vec::new();
        let mut emptied = false;
        for policy in &documents.checked.policies {
            for (line, statement) in policy.document.statements() {
                let Statement::Failsafe(set) = statement else { continue };
                emptied |= *set == Failsafe::None;
                let place = documents.checked.position(policy.source, line.span);
                let file = documents.checked.sources().get(policy.source).map(|(name, _)| name);
                let place = format!(
                    "{}:{}",
                    file.map_or("", String::as_str),
                    place.map_or(0, |place| place.line)
                );
                failsafe.push((place, text_of(statement)));
            }
        }
        let session = match std::env::var(VARIABLE).ok().as_deref().and_then(ends) {
            Some((client, server)) => judge(documents, client, server)?,
            None => None,
        };
        let denies_in = documents.checked.policies.iter().any(|policy| {
            policy.mode != Mode::Draft && policy.default_answer(Way::In) == Some(Answer::Deny)
        });
        Ok(Self { failsafe, emptied, denies_in, session })
    }

    /// Whether this session would be locked out.
    pub(crate) fn found(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.verdict == Verdict::Deny)
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        let mut line = |text: String| {
            out.push_str(&text);
            out.push('\n');
        };
        for (place, text) in &self.failsafe {
            line(format!("{text}  ({place})"));
        }
        if let Some(warning) = self.warning() {
            line(format!("warning: {warning}"));
        }
        if let Some(session) = self.session.as_ref().filter(|_| self.found()) {
            line(format!(
                "lock-out: this SSH session ({}) would be denied on {} by {}",
                spelled_flow(session.client, session.server),
                session.host,
                session.rule,
            ));
        }
        out
    }

    fn warning(&self) -> Option<&'static str> {
        if self.emptied {
            Some(
                "the failsafe set is empty, and a policy says so: a rule that denies everything locks everybody out",
            )
        } else if self.failsafe.is_empty() && self.denies_in {
            Some(
                "everything that comes in is denied by default, and no policy has a `failsafe` line to keep a way in",
            )
        } else {
            None
        }
    }

    /// For machines.
    pub(crate) fn to_json(&self) -> Value {
        let failsafe = self.failsafe.iter();
        json!({
            "failsafe": failsafe.map(|(place, text)| json!({ "place": place, "text": text })).collect::<Vec<_>>(),
            "emptied": self.emptied,
            "warning": self.warning(),
            "session": self.session.as_ref().map(|session| json!({
                "client": spelled(session.client.address),
                "server": place_of(session.server),
                "host": session.host,
                "verdict": match session.verdict {
                    Verdict::Allow => "allow",
                    Verdict::Deny => "deny",
                },
                "rule": session.rule,
            })),
        })
    }
}

/// One statement as it is written.
fn text_of(statement: &Statement) -> String {
    let line = Line { statement: Some(statement.clone()), ..Line::default() };
    policy::format(&Document { lines: vec![line] }).trim_end().to_owned()
}

/// The two ends that [`VARIABLE`] names: client and server.
pub(crate) fn ends(text: &str) -> Option<(Endpoint, Endpoint)> {
    let mut fields = text.split_ascii_whitespace();
    let mut end = || {
        // sshd names the interface of link-local addresses behind a percent sign.
        let address = fields.next()?.split('%').next()?.parse().ok()?;
        Some(Endpoint { address: canonical(address), port: fields.next()?.parse().ok()? })
    };
    Some((end()?, end()?))
}

/// The verdict of the server's host, with sshd as root. `None` if that host does not compile, which is said elsewhere.
fn judge(
    documents: &Documents,
    client: Endpoint,
    server: Endpoint,
) -> anyhow::Result<Option<Session>> {
    let inventory = &documents.inventory;
    let owner = inventory.find_address(server.address).and_then(|index| inventory.host(index));
    let host = match owner {
        Some(owner) => owner.id.clone(),
        None => documents.host(None)?,
    };
    let identities = known_at(&host, inventory);
    let own = [server.address];
    let facts =
        Facts { addresses: &own, ..Facts::new(inventory, &host, &*identities, documents.now) };
    let Ok(compiled) = compile(&documents.checked.policies, &facts) else { return Ok(None) };
    let flow = Flow {
        direction: Direction::In,
        protocol: Protocol::TCP,
        local: server,
        remote: client,
        subject: Subject { uid: 0, gid: 0, ..Subject::UNKNOWN },
    };
    let judgement = decide(&flow, &compiled.now()).enforced;
    let rule = compiled.origin(judgement.rule).map_or_else(String::new, |origin| {
        match origin.place(&documents.checked) {
            Some((file, at)) => format!("`{}` ({file}:{})", origin.text, at.line),
            None => format!("`{}`", origin.text),
        }
    });
    Ok(Some(Session { client, server, host, verdict: judgement.verdict, rule }))
}

fn spelled(address: Address) -> String {
    policy::syntax::Addresses::from(address).to_string()
}

/// Who connects to what.
pub(crate) fn spelled_flow(client: Endpoint, server: Endpoint) -> String {
    format!("{} -> {}", spelled(client.address), place_of(server))
}

fn place_of(end: Endpoint) -> String {
    let mut text = spelled(end.address);
    if text.contains(':') {
        text = format!("[{text}]");
    }
    write!(text, ":{}", end.port).expect("writing to a String cannot fail");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_has_two_ends() {
        let (client, server) = ends("192.0.2.7 51234 2001:db8::1 22").unwrap();
        assert_eq!((spelled(client.address), client.port), ("192.0.2.7".to_owned(), 51234));
        assert_eq!(place_of(server), "[2001:db8::1]:22");
        assert!(ends("192.0.2.7 51234 192.0.2.1").is_none());
        assert!(ends("").is_none());
    }
}
