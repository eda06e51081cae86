//! What documents mean together: names looked up, contradictions found, ids given. Everything that is wrong is collected.

mod empty;
pub(crate) mod ids;
mod names;
mod repeated;
mod rules;
mod walk;

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::{
    diagnostic::{Code, Diagnostic, Diagnostics, SourceIndex, render, sarif, short},
    inventory::Inventory,
    json::from_json,
    limits::DOCUMENTS_MAX,
    parse::{Parsed, parse},
    policy::Policy,
    roll::Roll,
    span::{LineIndex, Position, Span},
};

/// A document as it was read from somewhere: text, or JSON if its first character is `{`.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// What people call it: the path of its file.
    pub name: &'a str,
    /// Its content.
    pub bytes: &'a [u8],
}

/// What a check found.
#[derive(Clone, Debug)]
pub struct Checked {
    /// One for each source, in the same order. Not to be compiled if there are errors.
    pub policies: Vec<Policy>,
    /// What is wrong.
    pub diagnostics: Diagnostics,
    texts: Vec<(String, String)>,
}

impl Checked {
    /// Names and texts of the sources, in order. The text is what places point into: of a well-formed JSON document, its
    /// text form.
    pub fn sources(&self) -> &[(String, String)] {
        &self.texts
    }

    /// The diagnostics as plain text with carets.
    pub fn render(&self) -> String {
        render(&self.diagnostics, &self.borrowed())
    }

    /// The diagnostics, one line each.
    pub fn short(&self) -> String {
        short(&self.diagnostics, &self.borrowed())
    }

    /// The diagnostics as a SARIF 2.1.0 log.
    pub fn sarif(&self) -> String {
        sarif(&self.diagnostics, &self.borrowed())
    }

    fn borrowed(&self) -> Vec<(&str, &str)> {
        self.texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect()
    }

    /// Line and column of a place; `None` if there is no such source. Finds the lines anew: for many places make a
    /// [`LineIndex`] of the source.
    pub fn position(&self, source: SourceIndex, span: Span) -> Option<Position> {
        let (_, text) = self.texts.get(source)?;
        Some(LineIndex::new(text).position(span.start, text))
    }
}

/// Checks `sources` together: names are known in their own document only, ids and defaults are unique over all.
///
/// Without an inventory no host is known, and every bare word must be a name. `now` is what `until` is compared with.
pub fn check(sources: &[Source<'_>], inventory: Option<&Inventory>, now: Timestamp) -> Checked {
    check_by(sources, inventory.map(|inventory| -> &dyn Roll { inventory }), now)
}

/// The same with whatever knows which hosts there are: a check needs no more of them than that.
pub fn check_by(sources: &[Source<'_>], roll: Option<&dyn Roll>, now: Timestamp) -> Checked {
    let mut report = Diagnostics::default();
    let mut texts = Vec::new();
    let mut policies = Vec::new();
    if sources.len() > DOCUMENTS_MAX {
        let message =
            format!("{} documents are checked together, more than {DOCUMENTS_MAX}", sources.len());
        report.push(Diagnostic::new(Code::TooLarge, 0, Span::default(), message));
    }
    for (index, source) in sources.iter().take(DOCUMENTS_MAX).enumerate() {
        let (text, parsed) = read(*source, index, &mut report);
        policies.push(one(index, &text, parsed, roll, now, &mut report));
        texts.push((source.name.to_owned(), text));
    }
    repeated::across(&policies, &mut report);
    ids::give(&mut policies, &mut report);
    report.sort();
    Checked { policies, diagnostics: report, texts }
}

/// Reads one document as [`check`] does: the text that places point into, and its tree.
pub fn read(source: Source<'_>, index: SourceIndex, report: &mut Diagnostics) -> (String, Parsed) {
    let is_json = source.bytes.trim_ascii_start().first() == Some(&b'{');
    if is_json {
        let from = from_json(source.bytes, index, report);
        if !from.text.is_empty() {
            return (from.text, from.parsed);
        }
        return (String::from_utf8_lossy(source.bytes).into_owned(), from.parsed);
    }
    let parsed = parse(source.bytes, index, report);
    (String::from_utf8_lossy(source.bytes).into_owned(), parsed)
}

fn one(
    source: SourceIndex,
    text: &str,
    parsed: Parsed,
    roll: Option<&dyn Roll>,
    now: Timestamp,
    report: &mut Diagnostics,
) -> Policy {
    let Parsed { document, damaged_names, damaged: left_out } = parsed;
    let damaged: BTreeSet<&str> = damaged_names.iter().map(String::as_str).collect();
    let whole = repeated::statements(source, &document, report);
    let found = names::look_up(source, &document, &damaged, left_out == 0, roll, report);
    repeated::elements(source, text, &document, report);
    repeated::rules(source, text, &document, report);
    rules::judge(source, &document, whole.mode, now, report);
    if let Some(roll) = roll {
        names::look_up_labels(source, &document, roll, report);
    }
    empty::find(source, &document, &found, roll, report);
    let names::Found { lines, order } = found;
    let names = lines.into_iter().map(|(name, line)| (name.to_owned(), line)).collect();
    let repeated::Whole { tier, mode, inbound } = whole;
    Policy { source, tier, mode, inbound, document, names, order, rules: Vec::new() }
}
