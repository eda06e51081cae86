//! One version of what a host is to enforce, whole: nothing in it depends on a file elsewhere.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::trusted::Signed;

/// Rules as somebody wrote them, and who had them applied when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edition {
    /// Counts the editions of a host, from 1. It goes into the image and into every event.
    pub version: u64,
    /// The rules.
    pub rules: Written,
    /// Where it came from.
    pub applied: Applied,
    /// Who vouches for it, where it was signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<Signed>,
}

/// Rules in the form in which they were given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Written {
    /// Two lists, as the 2015 module had them.
    Lists {
        /// Denied addresses and prefixes.
        deny: Vec<String>,
        /// Denied TCP ports and ranges of them.
        ports: Vec<String>,
    },
    /// Policies, and who there is.
    Documents {
        /// The policies, checked together.
        policies: Vec<Text>,
        /// The inventory, if there is one.
        inventory: Option<Text>,
        /// Which of its hosts this is, if that was said.
        host: Option<String>,
        /// The target of a controller that they come from, in hexadecimal. The inventory then holds only the hosts that
        /// the policies at this host speak of, and the policies' tests were run where all hosts are known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<String>,
    },
}

/// A file as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// What messages call it.
    pub name: String,
    /// Where it can be read again, if it lies in a file.
    pub path: Option<String>,
    /// What it said.
    pub text: String,
}

/// Who had an edition applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// When, by the wall clock.
    pub at: Timestamp,
    /// The user, by uid.
    pub uid: u32,
    /// The SSH session, as sshd(8) spells `SSH_CONNECTION`; none for somebody at the machine itself.
    pub session: Option<String>,
}

impl Edition {
    /// The target of a controller that it comes from, in hexadecimal.
    pub fn target(&self) -> Option<&str> {
        match &self.rules {
            Written::Documents { target, .. } => target.as_deref(),
            Written::Lists { .. } => None,
        }
    }

    /// What messages call the files, if there are any.
    pub fn names(&self) -> Vec<&str> {
        match &self.rules {
            Written::Lists { .. } => Vec::new(),
            Written::Documents { policies, inventory, .. } => {
                policies.iter().chain(inventory).map(|text| text.name.as_str()).collect()
            }
        }
    }
}
