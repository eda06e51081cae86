//! Whom a document concerns: hosts that one of its rules selects, at either end.
//!
//! What it says goes into signed snapshots, as text, and two programs must come to the same: how it is spelled is part of
//! the format. A selector here is evaluated for one host with what is known of that host alone, so that no inventory is
//! needed.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    diagnostic::{Diagnostics, Severity},
    facts::Here,
    format::selector_text,
    inventory::Host,
    parse::parse,
    resolve::{Eye, Near, NearNames},
    span::Span,
    syntax::{Document, Expression, LabelTest, Meaning, Selector, Statement, Word},
};

/// Bytes of a selector that says whom a document concerns; with more than that it concerns everybody.
pub const CONCERNS_BYTES_MAX: usize = 4 << 10;
/// Selectors of one document, once its names are spelled out; with more it concerns everybody.
const PARTS_MAX: usize = 1 << 14;
/// How deep they are nested.
const DEPTH_MAX: usize = 64;
/// Nobody.
const NOBODY: &str = "not any";

/// The hosts that `document` concerns, as a selector; `None` for everybody.
///
/// A host is concerned by a rule that selects it at either end, whatever the rule's mode; by a default and a failsafe line
/// always. Tests concern nobody by themselves: they are run where everything is known.
pub fn concerns(document: &Document) -> Option<String> {
    let mut union = Union {
        names: document.names().map(|it| (it.name.text.as_str(), &it.means)).collect(),
        labels: BTreeMap::new(),
        others: BTreeSet::new(),
        parts: 0,
    };
    for (_, statement) in document.statements() {
        match statement {
            Statement::Rule(rule) => {
                union.add(&rule.from.selector)?;
                union.add(&rule.to.selector)?;
            }
            Statement::Default(_) | Statement::Failsafe(_) => return None,
            Statement::Tier(_)
            | Statement::Mode(_)
            | Statement::Name(_)
            | Statement::Inbound(_)
            | Statement::Test(_) => {}
        }
    }
    let text = union.text();
    (text.len() <= CONCERNS_BYTES_MAX).then_some(text)
}

/// A selector that asks about one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concerned(Selector);

impl Concerned {
    /// Reads a selector. Bare words are hosts.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str) -> Result<Self, String> {
        if text.len() > CONCERNS_BYTES_MAX {
            return Err(format!("it has {} bytes, more than {CONCERNS_BYTES_MAX}", text.len()));
        }
        let mut report = Diagnostics::default();
        let parsed = parse(format!("name it = {text}").as_bytes(), 0, &mut report);
        let errors = || report.reported().iter().filter(|it| it.severity() == Severity::Error);
        if let Some(first) = errors().next() {
            return Err(first.message.clone());
        }
        let mut lines = parsed.document.lines.into_iter();
        match (lines.next().and_then(|line| line.statement), lines.next()) {
            (Some(Statement::Name(name)), None) => match name.means {
                Meaning::Selector(selector) => Ok(Self(selector)),
                Meaning::Services(_) => Err("it is a service".to_owned()),
            },
            _ => Err("it is more than one selector".to_owned()),
        }
    }

    /// Whether `host` is meant: one of its addresses, or all of it. Loopback is every host's own. A host whose addresses
    /// nobody knows may have any.
    pub fn selects(&self, host: &Host) -> bool {
        let own = host.addresses.iter().copied().filter(|address| !address.is_loopback());
        let here = Here { index: None, own: own.collect(), disputed: Vec::new() };
        let eye = Eye { host: Some(host), me: true };
        Near::of(&self.0, &NearNames::new(), eye).may_be_local(&here)
    }
}

/// Selectors of one document, put together.
struct Union<'a> {
    /// What the names of the document mean.
    names: BTreeMap<&'a str, &'a Meaning>,
    /// Values that are asked for, by key.
    labels: BTreeMap<String, BTreeSet<String>>,
    /// The others, as they are written.
    others: BTreeSet<String>,
    parts: usize,
}

impl Union<'_> {
    /// Adds a selector; `None` once everybody is meant.
    fn add(&mut self, selector: &Selector) -> Option<()> {
        let meant = self.spelled_out(selector, 0)?;
        self.put(&meant)
    }

    fn put(&mut self, selector: &Selector) -> Option<()> {
        match &*selector.expression {
            Expression::Any | Expression::Me => return None,
            Expression::AnyOf(members) => {
                return members.iter().try_for_each(|member| self.put(member));
            }
            Expression::Label { key, test: LabelTest::Is(value) } => {
                self.label(key, std::slice::from_ref(value));
            }
            Expression::Label { key, test: LabelTest::In(values) } => self.label(key, values),
            Expression::Label { .. }
            | Expression::Named(_)
            | Expression::Addresses(_)
            | Expression::Not(_)
            | Expression::AllOf(_)
            | Expression::Except(..) => {
                // A name that means a list is one selector by now: in parentheses, whatever it holds.
                self.others.insert(member_text(selector));
            }
        }
        self.parts += 1;
        (self.parts <= PARTS_MAX).then_some(())
    }

    fn label(&mut self, key: &Word, values: &[Word]) {
        let known = self.labels.entry(key.text.clone()).or_default();
        known.extend(values.iter().map(|value| value.text.clone()));
    }

    /// With the names of the document replaced by what they mean.
    fn spelled_out(&mut self, selector: &Selector, depth: usize) -> Option<Selector> {
        self.parts += 1;
        if self.parts > PARTS_MAX || depth > DEPTH_MAX {
            return None;
        }
        let mut each = |members: &[Selector]| {
            members.iter().map(|it| self.spelled_out(it, depth + 1)).collect::<Option<Vec<_>>>()
        };
        let expression = match &*selector.expression {
            Expression::Named(word) => match self.names.get(word.as_str()) {
                Some(Meaning::Selector(meant)) => return self.spelled_out(meant, depth + 1),
                Some(Meaning::Services(_)) | None => Expression::Named(word.clone()),
            },
            Expression::Not(inner) => Expression::Not(self.spelled_out(inner, depth + 1)?),
            Expression::AllOf(members) => Expression::AllOf(each(members)?),
            Expression::AnyOf(members) => Expression::AnyOf(each(members)?),
            Expression::Except(from, without) => Expression::Except(
                self.spelled_out(from, depth + 1)?,
                self.spelled_out(without, depth + 1)?,
            ),
            leaf @ (Expression::Any
            | Expression::Me
            | Expression::Addresses(_)
            | Expression::Label { .. }) => leaf.clone(),
        };
        Some(Selector::new(expression, Span::default()))
    }

    /// Labels first, each key once, then the others, sorted.
    fn text(self) -> String {
        let label = |(key, values): (String, BTreeSet<String>)| {
            let word = |text| Word { text, span: Span::default() };
            let mut values: Vec<Word> = values.into_iter().map(word).collect();
            let test = match (values.len(), values.pop()) {
                (1, Some(only)) => LabelTest::Is(only),
                (_, last) => LabelTest::In(values.into_iter().chain(last).collect()),
            };
            let label = Expression::Label { key: word(key), test };
            selector_text(&Selector::new(label, Span::default()))
        };
        let labels = self.labels.into_iter().map(label);
        let parts: Vec<String> = labels.chain(self.others).collect();
        if parts.is_empty() { NOBODY.to_owned() } else { parts.join(", ") }
    }
}

/// As it is written among others in a list.
fn member_text(selector: &Selector) -> String {
    let text = selector_text(selector);
    match &*selector.expression {
        Expression::Except(..) => format!("({text})"),
        Expression::Any
        | Expression::Me
        | Expression::Named(_)
        | Expression::Addresses(_)
        | Expression::Label { .. }
        | Expression::Not(_)
        | Expression::AllOf(_)
        | Expression::AnyOf(_) => text,
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use verdict::Address;

    use super::*;

    fn document(text: &str) -> Document {
        let mut report = Diagnostics::default();
        let parsed = parse(text.as_bytes(), 0, &mut report);
        assert!(!report.has_errors(), "{text}");
        parsed.document
    }

    fn said(text: &str) -> Option<String> {
        let said = concerns(&document(text));
        if let Some(said) = &said {
            Concerned::read(said).expect("what is said can be read");
        }
        said
    }

    fn address(text: &str) -> Address {
        match text.parse().unwrap() {
            IpAddr::V4(v4) => Address::v4(v4.to_bits()),
            IpAddr::V6(v6) => Address::from_bits(v6.to_bits()),
        }
    }

    fn host(id: &str, labels: &str, addresses: &str) -> Host {
        let labels = labels.split_whitespace().filter_map(|it| it.split_once('='));
        Host {
            id: id.to_owned(),
            names: vec![format!("{id}.example")],
            addresses: addresses.split_whitespace().map(address).collect(),
            labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        }
    }

    #[test]
    fn both_ends_of_every_rule_once_and_sorted() {
        for (text, wanted) in [
            ("", "not any"),
            ("test allow a -> b : any", "not any"),
            ("allow role=web -> role=db : tcp/5432", "role in (db, web)"),
            (
                "allow db-2 -> role=db : any\ndeny 10.0.0.0/8 -> db-2 : any",
                "role=db, 10.0.0.0/8, db-2",
            ),
            (
                "name a = role=web, b\nallow a -> a & env=prod : any",
                "role=web, (role=web | b) & env=prod, b",
            ),
            ("audit allow role=web except x -> not me : any", "(role=web except x), not me"),
        ] {
            assert_eq!(said(text).as_deref(), Some(wanted), "{text}");
        }
    }

    #[test]
    fn everybody_is_concerned_by_what_holds_for_everybody() {
        for text in [
            "allow any -> role=db : any",
            "name all = role=web | any\nallow db -> all : any",
            "allow role=web -> me : any",
            "default deny in",
            "failsafe none",
        ] {
            assert_eq!(said(text), None, "{text}");
        }
        // What is too much to be said is said of everybody.
        let rules: String =
            (0..900).map(|at| format!("deny host-{at} -> role=db : any\n")).collect();
        assert_eq!(said(&rules), None);
        let doubled: String =
            (1..40).map(|at| format!("name n{at} = n{} & n{}\n", at - 1, at - 1)).collect();
        assert_eq!(said(&format!("name n0 = role=a\n{doubled}deny n39 -> x : any\n")), None);
        let chain: String = (1..900).map(|at| format!("name n{at} = n{}\n", at - 1)).collect();
        assert_eq!(said(&format!("name n0 = role=a\n{chain}deny n899 -> x : any\n")), None);
    }

    #[test]
    fn a_host_is_selected_by_what_is_known_of_it() {
        let web = host("web-1", "role=web env=prod", "10.0.0.7 2001:db8::7");
        for (selector, wanted) in [
            ("web-1", true),
            ("web-1.example", true),
            ("host=web-1", true),
            ("web-2", false),
            ("role=web", true),
            ("role in (db, web) & env!=prod", false),
            ("not role=db", true),
            ("not me", false),
            ("me", true),
            ("10.0.0.0/8", true),
            ("10.0.0.8", false),
            ("2001:db8::/32 & role=web", true),
            ("10.0.0.7 & role=db", false),
            ("127.0.0.1", true),
            ("not any", false),
            ("(any except 10.0.0.0/8)", true),
            ("any except (0.0.0.0/0, ::/0)", false),
        ] {
            let read = Concerned::read(selector).unwrap();
            assert_eq!(read.selects(&web), wanted, "{selector}");
        }
        let unknown = host("web-1", "role=web", "");
        assert!(Concerned::read("192.0.2.1").unwrap().selects(&unknown));
        assert!(!Concerned::read("role=db").unwrap().selects(&unknown));
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for text in ["", "a\ndefault deny in", "tcp/22", "role=", "a b"] {
            let read = Concerned::read(text);
            assert!(read.is_err(), "{text}: {read:?}");
        }
        let long = format!("a{}", ", a".repeat(CONCERNS_BYTES_MAX));
        assert!(Concerned::read(&long).unwrap_err().contains("bytes"));
    }
}
