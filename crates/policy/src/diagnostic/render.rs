//! Diagnostics as plain text with the line and a caret, for any terminal and for log files. No colour: the program that
//! prints knows whether there is a terminal.

use std::fmt::Write as _;

use super::{Diagnostic, Diagnostics, Severity};
use crate::span::{LineIndex, Span};

/// Characters of a source line that are shown around the place.
const EXCERPT_CHARACTERS_MAX: usize = 120;

/// The name of a source and its text, as people know them.
#[derive(Clone, Copy, Debug)]
struct Shown<'a> {
    name: &'a str,
    text: &'a str,
}

/// All reported diagnostics, each with its place, and a last line that counts.
///
/// `sources` are the names and texts of the documents in the order in which they were checked.
///
/// ```text
/// error[undefined-name]: `wbe` is neither a name of this document nor a host
///  --> shop.fwnet:7:7
///   |
/// 7 | allow wbe -> db : pg
///   |       ^^^ not known
///   = help: did you mean `web`?
/// ```
pub fn render(diagnostics: &Diagnostics, sources: &[(&str, &str)]) -> String {
    let lines: Vec<LineIndex> = sources.iter().map(|(_, text)| LineIndex::new(text)).collect();
    let mut out = String::new();
    for diagnostic in diagnostics.reported() {
        one(&mut out, diagnostic, sources, &lines);
        out.push('\n');
    }
    if diagnostics.unreported() > 0 {
        push(&mut out, format_args!("{} more are not shown\n", diagnostics.unreported()));
    }
    match (diagnostics.errors(), diagnostics.warnings()) {
        (0, 0) => {}
        (errors, 0) => push(&mut out, format_args!("{}\n", counted(errors, "error"))),
        (0, warnings) => push(&mut out, format_args!("{}\n", counted(warnings, "warning"))),
        (errors, warnings) => {
            push(
                &mut out,
                format_args!("{}, {}\n", counted(errors, "error"), counted(warnings, "warning")),
            );
        }
    }
    out
}

fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

fn one(out: &mut String, diagnostic: &Diagnostic, sources: &[(&str, &str)], lines: &[LineIndex]) {
    let severity = match diagnostic.severity() {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    push(out, format_args!("{severity}[{}]: {}\n", diagnostic.code.word(), diagnostic.message));
    let places =
        std::iter::once((diagnostic.source, diagnostic.span, diagnostic.label.as_str(), '^'))
            .chain(
                diagnostic
                    .related
                    .iter()
                    .map(|place| (place.source, place.span, place.label.as_str(), '-')),
            );
    let mut shown_source = None;
    for (source, span, label, mark) in places {
        let (Some(&(name, text)), Some(index)) = (sources.get(source), lines.get(source)) else {
            continue;
        };
        excerpt(out, Shown { name, text }, index, span, label, mark, shown_source == Some(source));
        shown_source = Some(source);
    }
    if let Some(help) = &diagnostic.help {
        push(out, format_args!("  = help: {help}\n"));
    }
}

fn excerpt(
    out: &mut String,
    source: Shown<'_>,
    lines: &LineIndex,
    span: Span,
    label: &str,
    mark: char,
    again: bool,
) {
    let position = lines.position(span.start, source.text);
    let line_span = lines.line_span(position.line, source.text);
    let line = source.text.get(line_span.range()).unwrap_or_default().trim_end_matches('\r');
    let column = (position.column as usize - 1).min(line.chars().count());
    let marked_to = (span.end.min(line_span.end) as usize).max(span.start as usize);
    let width =
        source.text.get(span.start as usize..marked_to).unwrap_or_default().chars().count().max(1);

    // A line can be a megabyte of noise: a window around the place is shown.
    let from = column.saturating_sub(EXCERPT_CHARACTERS_MAX / 2);
    let cut_before = if from > 0 { "..." } else { "" };
    let window: String =
        line.chars().skip(from).take(EXCERPT_CHARACTERS_MAX).map(printable).collect();
    let cut_after =
        if line.chars().nth(from + EXCERPT_CHARACTERS_MAX).is_some() { "..." } else { "" };
    let width = width.min(EXCERPT_CHARACTERS_MAX.saturating_sub(column - from)).max(1);

    let number = position.line.to_string();
    let gutter = number.len();
    if again {
        push(out, format_args!("{:gutter$} ...\n", ""));
    } else {
        push(
            out,
            format_args!(
                "{:gutter$}--> {}:{}:{}\n{:gutter$} |\n",
                "", source.name, position.line, position.column, ""
            ),
        );
    }
    push(out, format_args!("{number} | {cut_before}{window}{cut_after}\n"));
    let indent = cut_before.len() + column - from;
    let marks: String = std::iter::repeat_n(mark, width).collect();
    push(out, format_args!("{:gutter$} | {:indent$}{marks} {label}", "", ""));
    out.truncate(out.trim_end().len());
    out.push('\n');
}

/// Tabs take one column here as they do in the column count; nothing that moves the cursor reaches a terminal.
fn printable(character: char) -> char {
    if character == '\t' {
        ' '
    } else if character.is_control() || crate::lex::is_reordering(character) {
        char::REPLACEMENT_CHARACTER
    } else {
        character
    }
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a String cannot fail");
}
