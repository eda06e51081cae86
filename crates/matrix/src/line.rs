//! What the matrix says: one line for each row in each situation, and the comparison with the lines that are expected.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fmt, fs};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::{Rows, say};

/// What is in force while a row is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Situation {
    /// Nothing is attached.
    Bare,
    /// Every hook is, and the rules allow everything.
    Allowed,
    /// The rules allow nobody at all in the row's direction.
    Closed,
    /// The rules deny the row's peer, and nobody else.
    Denied,
}

impl fmt::Display for Situation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Bare => "bare",
            Self::Allowed => "allowed",
            Self::Closed => "closed",
            Self::Denied => "denied",
        })
    }
}

/// One row in one situation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line {
    /// The door and the family of the address, or the name of what is tried.
    pub(crate) row: String,
    /// What was in force.
    pub(crate) situation: Situation,
    /// What the program at this end saw: `connected`, `sent`, `accepted`, `received`, or an errno and the step that gave
    /// it, or `silence` and the step that did not end.
    pub(crate) local: String,
    /// What the peer saw.
    pub(crate) peer: String,
    /// Hooks whose programs ran, in the order of their table.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) seen: Vec<String>,
    /// Hooks that told of a denial, by the name that events give them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) told: Vec<String>,
}

impl Line {
    /// Whether the row got through: data or a connection crossed.
    pub(crate) fn is_through(&self) -> bool {
        matches!(self.peer.as_str(), "connection" | "datagram" | "packet" | "data")
            || matches!(
                self.local.as_str(),
                "accepted" | "received" | "opened" | "removed" | "renamed"
            )
    }

    /// Whether the two ended alike: what both ends saw, and who told of it; not which programs ran for it.
    pub(crate) fn ends_like(&self, other: &Self) -> bool {
        (&self.local, &self.peer, &self.told) == (&other.local, &other.peer, &other.told)
    }

    /// Whether the kernel has no such door, so that there is nothing to compare.
    pub(crate) fn is_absent(&self) -> bool {
        self.local.starts_with("not offered")
    }
}

/// Which hooks were attached, and what is open for want of others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hooks {
    /// Those in place, in the order of their table.
    #[serde(rename = "hooks")]
    pub(crate) attached: Vec<String>,
    /// The doors and detours that are not closed to a peer that rules deny, by the names of their rows.
    pub(crate) open: Vec<String>,
    /// Why nothing is attached at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

/// What is expected of one kernel.
#[derive(Debug, Default)]
pub(crate) struct Golden {
    lines: BTreeMap<(String, Situation), Line>,
    hooks: Hooks,
    /// Whether they are of another release.
    near: bool,
}

impl Golden {
    /// Reads the lines for the running kernel from a directory with a file for each release: those of its own release, or
    /// of the nearest one, and then what either lacks is not compared. Or from that one file, if it is one.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            return Self::parse(path);
        }
        let own = doors::release();
        let known = files(path)?;
        let at = known.partition_point(|(release, _)| *release <= own).saturating_sub(1);
        let (release, path) = known.get(at).context("no lines for any release are there")?;
        say(&format!("compared with the lines of Linux {}.{}", release.0, release.1))?;
        Ok(Self { near: *release != own, ..Self::parse(path)? })
    }

    /// The lines of every release in a directory, oldest first.
    pub(crate) fn every(directory: &Path) -> Result<Vec<(String, Self)>> {
        let each = files(directory)?.into_iter();
        each.map(|((major, minor), path)| Ok((format!("{major}.{minor}"), Self::parse(&path)?)))
            .collect()
    }

    /// Lines of JSON; those of another kind are passed over.
    fn parse(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let mut golden = Self::default();
        for text in text.lines().map(str::trim) {
            if text.starts_with("{\"row\"") {
                let line: Line = serde_json::from_str(text)?;
                golden.lines.insert((line.row.clone(), line.situation), line);
            } else if text.starts_with("{\"hooks\"") {
                golden.hooks = serde_json::from_str(text)?;
            }
        }
        Ok(golden)
    }

    /// What is expected of a row.
    pub(crate) fn expected(&self, row: &str, situation: Situation) -> Option<&Line> {
        self.lines.get(&(row.to_owned(), situation))
    }

    /// Which hooks are expected.
    pub(crate) fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    /// What differs from what came of it, in words.
    pub(crate) fn differences(
        &self,
        lines: &[Line],
        hooks: &Hooks,
        typed: &Rows,
    ) -> Result<Vec<String>> {
        let mut told = Vec::new();
        let lacks = |row: &str| {
            let here = lines.iter().find(|line| line.row == row && line.is_absent());
            self.near
                && (here.is_some() || self.lines.values().any(|it| it.row == row && it.is_absent()))
        };
        for line in lines.iter().filter(|line| !lacks(&line.row)) {
            let expected = self.expected(&line.row, line.situation);
            if expected != Some(line) {
                let expected = expected.map(serde_json::to_string).transpose()?;
                told.push(format!("differs: {}", serde_json::to_string(line)?));
                told.push(format!("expected: {}", expected.as_deref().unwrap_or("nothing")));
            }
        }
        for expected in self.lines.values().filter(|it| !lacks(&it.row)) {
            let played =
                lines.iter().any(|it| it.row == expected.row && it.situation == expected.situation);
            if !played && expected.row.starts_with(&typed.only) {
                told.push(format!("missing: {}", serde_json::to_string(expected)?));
            }
        }
        if !self.near && *hooks != self.hooks {
            told.push(format!("differs: {}", serde_json::to_string(hooks)?));
            told.push(format!("expected: {}", serde_json::to_string(&self.hooks)?));
        }
        Ok(told)
    }
}

/// The files of a directory by the release that they are named after, oldest first.
fn files(directory: &Path) -> Result<Vec<((u32, u32), PathBuf)>> {
    let mut known = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let numbers: Vec<u32> = name.split('.').filter_map(|it| it.parse().ok()).collect();
        if let [major, minor] = numbers[..] {
            known.push(((major, minor), path));
        }
    }
    known.sort();
    Ok(known)
}
