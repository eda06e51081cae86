//! The JSON form: the syntax tree, described by its JSON Schema. It says the same as the text form, comments included.

use crate::{
    diagnostic::{Code, Diagnostic, Diagnostics, SourceIndex},
    format,
    parse::{Parsed, parse, text_of},
    span::{LineIndex, Span},
    syntax::Document,
};

/// A JSON form that was read: the text form that says the same, and its tree with places in that text.
#[derive(Clone, Debug, Default)]
pub struct FromJson {
    /// The text form, which diagnostics of what it says point into. Empty if the JSON is malformed.
    pub text: String,
    /// What [`parse`](parse()) makes of the text.
    pub parsed: Parsed,
}

/// Writes `document` in its JSON form, indented.
pub fn to_json(document: &Document) -> String {
    serde_json::to_string_pretty(document)
        .expect("the tree has no keys but texts and no numbers that JSON cannot hold")
}

/// Reads the JSON form. Faults of its form point into `bytes`, faults of what it says into the text form returned.
///
/// A word that cannot be written in the text form (a name with a blank in it, say) is a fault.
pub fn from_json(bytes: &[u8], source: SourceIndex, report: &mut Diagnostics) -> FromJson {
    let Some(json) = text_of(bytes, source, report) else { return FromJson::default() };
    // serde_json refuses nesting beyond 128 levels, so neither reading nor formatting recurses deeper.
    let document: Document = match serde_json::from_str(json) {
        Ok(document) => document,
        Err(error) => {
            let span = place(json, error.line(), error.column());
            report.push(Diagnostic::new(Code::Json, source, span, error.to_string()));
            return FromJson::default();
        }
    };
    let text = format(&document);
    let mut found = Diagnostics::default();
    let parsed = parse(text.as_bytes(), source, &mut found);
    if !found.has_errors() && !same(&document, &parsed.document) {
        let message = "a word or a comment holds what the text form cannot write";
        found.push(Diagnostic::new(Code::Json, source, Span::default(), message));
    }
    report.append(found);
    FromJson { text, parsed }
}

/// Whether two trees say the same; places and repeated empty lines do not matter.
fn same(a: &Document, b: &Document) -> bool {
    to_json(&normal(a)) == to_json(&normal(b))
}

/// Without empty lines.
fn normal(document: &Document) -> Document {
    let lines = document
        .lines
        .iter()
        .filter(|line| line.statement.is_some() || line.comment.is_some())
        .cloned()
        .collect();
    Document { lines }
}

/// The JSON Schema (draft 2020-12) of the JSON form, generated from the types of the tree.
pub fn json_schema() -> String {
    let mut schema = schemars::schema_for!(Document);
    schema.insert("title".to_owned(), "fwnet policy document".into());
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema is JSON");
    text.push('\n');
    text
}

/// Where line `line` and column `column` (both from 1, columns in bytes, as serde_json counts) are in `text`.
fn place(text: &str, line: usize, column: usize) -> Span {
    let line = u32::try_from(line.max(1)).unwrap_or(u32::MAX);
    let start =
        LineIndex::new(text).line_span(line, text).start as usize + column.saturating_sub(1);
    let start = text.floor_char_boundary(start.min(text.len()));
    let width = text.get(start..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
    Span::new(start, start + width)
}
