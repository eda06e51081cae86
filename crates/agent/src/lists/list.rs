//! Imported lists of addresses: what is known of one, beside its addresses.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::End;
use crate::edition::Applied;

/// Letters of the longest name.
const NAME_LETTERS_MAX: usize = 64;

/// The name of a list: letters, digits, `-` and `_`, 1 to 64 of them. It is part of a file's name and of a rule's id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ListName(String);

/// What is wrong with a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no name of a list: 1 to 64 letters, digits, '-' and '_'")]
pub struct BadName(String);

impl ListName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ListName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        text.to_owned().try_into()
    }
}

impl TryFrom<String> for ListName {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let sound = (1..=NAME_LETTERS_MAX).contains(&text.len()) && text.bytes().all(letter);
        if sound { Ok(Self(text)) } else { Err(BadName(text)) }
    }
}

impl From<ListName> for String {
    fn from(name: ListName) -> Self {
        name.0
    }
}

impl fmt::Display for ListName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The file that a list follows: it is imported again when one of these changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feed {
    /// Its absolute path.
    pub path: String,
    /// When it was last modified, in nanoseconds since 1970.
    pub modified_ns: i64,
    /// Its length in bytes.
    pub bytes: u64,
    /// Which file it is: the inode changes where another one takes its name.
    pub inode: u64,
}

/// What is known of an imported list, beside its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Its name.
    pub name: ListName,
    /// How many addresses and prefixes its file named.
    pub lines: u32,
    /// When it ends by itself, if it does.
    pub end: Option<End>,
    /// Why it is there.
    pub reason: Option<String>,
    /// The file that it follows, if it does.
    pub feed: Option<Feed>,
    /// Who imported it, and when.
    pub by: Applied,
}
