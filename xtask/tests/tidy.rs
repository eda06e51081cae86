//! Style and structure as tests: what ARCHITECTURE.md and STYLE.md promise is compared with the files as they are.
//!
//! Every check collects all of its complaints, so that one run shows all there is to do.

#![expect(clippy::unwrap_used, reason = "a test's helpers panic as its test does")]

#[path = "tidy/abi.rs"]
mod abi;
#[path = "tidy/arrows.rs"]
mod arrows;
#[path = "tidy/dependencies.rs"]
mod dependencies;
#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/sources.rs"]
mod sources;

use std::fs;
use std::path::PathBuf;
use xtask::workspace;

/// Fails with every complaint on a line of its own.
#[track_caller]
fn assert_tidy(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// Files of the repository with this extension, with their names relative to the root, and their text.
fn texts(extension: &str) -> Vec<(String, String)> {
    let files = workspace::files_below(workspace::root()).unwrap().into_iter();
    let of_kind = files.filter(|path| path.extension().is_some_and(|it| it == extension));
    of_kind.map(|path| (workspace::relative(&path), fs::read_to_string(&path).unwrap())).collect()
}

fn read(name: &str) -> String {
    let path: PathBuf = workspace::root().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {name}: {error}"))
}

/// The lines of the fenced block that begins with three backquotes and `kind`, in the Markdown file `name`.
fn fenced(name: &str, kind: &str) -> Vec<String> {
    let text = read(name);
    let mut lines = text.lines().skip_while(|line| *line != format!("```{kind}"));
    assert!(lines.next().is_some(), "{name} has a block ```{kind}");
    lines
        .take_while(|line| *line != "```")
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect()
}

#[test]
fn the_committed_object_comes_from_the_committed_source() {
    xtask::bpf::check().unwrap_or_else(|error| panic!("{error:#}"));
}
