//! Diagnostics for editors and CI: one line each, or SARIF 2.1.0 (OASIS, 2020).

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Code, Diagnostics, Severity};
use crate::span::{LineIndex, Span};

/// One line for each diagnostic: `shop.fwnet:7:7: error[undefined-name]: ...`, the form that editors and `grep -n` users
/// know. `sources` are names and texts of the documents in the order in which they were checked.
pub fn short(diagnostics: &Diagnostics, sources: &[(&str, &str)]) -> String {
    let lines = indices(sources);
    let mut out = String::new();
    for diagnostic in diagnostics.reported() {
        let (Some(&(name, text)), Some(index)) =
            (sources.get(diagnostic.source), lines.get(diagnostic.source))
        else {
            continue;
        };
        let position = index.position(diagnostic.span.start, text);
        let help = diagnostic.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
        writeln!(
            out,
            "{name}:{}:{}: {}[{}]: {}{help}",
            position.line,
            position.column,
            level(diagnostic.severity()),
            diagnostic.code.word(),
            diagnostic.message
        )
        .expect("writing to a String cannot fail");
    }
    out
}

/// A SARIF log with one run; the codes are its rules. Columns count characters.
pub fn sarif(diagnostics: &Diagnostics, sources: &[(&str, &str)]) -> String {
    let lines = indices(sources);
    let location = |source: usize, span: Span, message: &str| -> Option<Value> {
        let (&(name, text), index) = (sources.get(source)?, lines.get(source)?);
        let (start, end) = (index.position(span.start, text), index.position(span.end, text));
        let mut location = json!({
            "physicalLocation": {
                "artifactLocation": { "uri": name },
                "region": {
                    "startLine": start.line, "startColumn": start.column, "endLine": end.line, "endColumn": end.column,
                },
            },
        });
        if !message.is_empty() {
            location["message"] = json!({ "text": message });
        }
        Some(location)
    };
    let results: Vec<Value> = diagnostics
        .reported()
        .iter()
        .map(|diagnostic| {
            let text = match &diagnostic.help {
                Some(help) => format!("{} ({help})", diagnostic.message),
                None => diagnostic.message.clone(),
            };
            let related = diagnostic.related.iter();
            json!({
                "ruleId": diagnostic.code.word(),
                "level": level(diagnostic.severity()),
                "message": { "text": text },
                "locations": location(diagnostic.source, diagnostic.span, "").into_iter().collect::<Vec<_>>(),
                "relatedLocations":
                    related.filter_map(|place| location(place.source, place.span, &place.label)).collect::<Vec<_>>(),
            })
        })
        .collect();
    let rules: Vec<Value> = Code::ALL
        .iter()
        .map(|code| json!({ "id": code.word(), "shortDescription": { "text": code.summary() } }))
        .collect();
    let log = json!({
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "fwnet", "version": env!("CARGO_PKG_VERSION"), "rules": rules } },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    format!("{log:#}\n")
}

fn indices(sources: &[(&str, &str)]) -> Vec<LineIndex> {
    sources.iter().map(|(_, text)| LineIndex::new(text)).collect()
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}
