//! Documents: their links lead somewhere, and nothing names the machine it was written on.

use super::{assert_tidy, texts};
use std::path::Path;
use xtask::workspace;

#[test]
fn every_relative_link_leads_to_a_file() {
    let mut complaints = Vec::new();
    for (name, text) in texts("md") {
        let directory = workspace::root().join(&name);
        let directory = directory.parent().unwrap();
        for (line, target) in links(&text) {
            if !leads_somewhere(directory, target) {
                complaints.push(format!("{name}:{line}: {target} is not there"));
            }
        }
    }
    assert_tidy(&complaints);
}

/// Targets of `[text](target)` outside of code, with their lines.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut links = Vec::new();
    let mut in_code = false;
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        // Every second piece between backquotes is code.
        for piece in line.split('`').step_by(2) {
            for rest in piece.split("](").skip(1) {
                links.extend(rest.split([')', ' ']).next().map(|target| (number, target)));
            }
        }
    }
    links
}

fn leads_somewhere(directory: &Path, target: &str) -> bool {
    let path = target.split('#').next().unwrap_or_default();
    target.contains("://")
        || target.starts_with("mailto:")
        || path.is_empty()
        || directory.join(path).exists()
}

#[test]
fn links_are_found_and_judged() {
    let text = "[a](STYLE.md) and [b](nowhere.md#x \"t\"), `[c](code)`\n```\n[d](code)\n```\n[e](https://example.org) [f](#here)\n";
    let found = links(text);
    assert_eq!(
        found,
        [(1, "STYLE.md"), (1, "nowhere.md#x"), (5, "https://example.org"), (5, "#here")]
    );
    let judged: Vec<_> =
        found.iter().map(|(_, target)| leads_somewhere(workspace::root(), target)).collect();
    assert_eq!(judged, [true, false, true, true]);
}
