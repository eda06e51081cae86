//! How large a host's image is, and how much of each budget it takes.

use image::Image;
use serde_json::{Value, json};
use verdict::{
    Line,
    layout::{DIRECTORY, PORT_CLASSES, REMOTE_CLASSES, identity},
    limits::{
        CELLS_MAX, ENDS_MAX, LINES_MAX, NEAR_CLASSES_MAX, PORT_CLASSES_MAX, REMOTE_CLASSES_MAX,
        RULES_MAX,
    },
};

/// Counts of one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    /// Rules, the defaults and built-in ones among them.
    pub(crate) rules: u32,
    /// Lines of 64 bytes.
    pub(crate) lines: u32,
    /// Bytes.
    pub(crate) bytes: usize,
    /// What this end is, as far as rules tell it apart.
    pub(crate) near_classes: u32,
    /// Ports that no rule tells apart.
    pub(crate) port_classes: u32,
    /// Peers that no rule tells apart.
    pub(crate) remote_classes: u32,
    /// Ends of rules, wherever they decide.
    pub(crate) ends: u32,
}

impl Size {
    /// Of this image.
    pub(crate) fn of(image: &Image) -> Self {
        let word = |line: u32, word: u32| image.line(line).map_or(0, |line| line.word(word));
        Self {
            rules: image.rules(),
            lines: u32::try_from(image.line_count()).expect("LINES_MAX fits in 32 bits"),
            bytes: image.line_count() * size_of::<Line>(),
            near_classes: word(0, identity::NEARS),
            port_classes: word(DIRECTORY, PORT_CLASSES),
            remote_classes: word(DIRECTORY, REMOTE_CLASSES),
            ends: word(0, identity::ENDS),
        }
    }

    /// Cells of the verdict matrix.
    pub(crate) fn cells(&self) -> u64 {
        u64::from(self.near_classes) * u64::from(self.port_classes) * u64::from(self.remote_classes)
    }

    /// What is counted, how much there is and how much there may be.
    fn budgets(&self) -> [(&'static str, u64, u32); 7] {
        [
            ("rules", u64::from(self.rules), RULES_MAX),
            ("lines", u64::from(self.lines), LINES_MAX),
            ("near classes", u64::from(self.near_classes), NEAR_CLASSES_MAX),
            ("port classes", u64::from(self.port_classes), PORT_CLASSES_MAX),
            ("remote classes", u64::from(self.remote_classes), REMOTE_CLASSES_MAX),
            ("cells", self.cells(), CELLS_MAX),
            ("ends", u64::from(self.ends), ENDS_MAX),
        ]
    }

    /// The budget of which the image takes the largest share, and that share in percent, rounded up.
    pub(crate) fn tightest(&self) -> (&'static str, u64) {
        let share = |&(name, used, limit): &(&'static str, u64, u32)| {
            (name, (used * 100).div_ceil(u64::from(limit)))
        };
        let shares = self.budgets().iter().map(share).collect::<Vec<_>>();
        shares.into_iter().max_by_key(|&(_, percent)| percent).expect("there are seven budgets")
    }

    /// For machines.
    pub(crate) fn to_json(self) -> Value {
        let budgets: serde_json::Map<String, Value> = self
            .budgets()
            .iter()
            .map(|&(name, used, limit)| {
                (name.replace(' ', "_"), json!({ "used": used, "limit": limit }))
            })
            .collect();
        json!({ "bytes": self.bytes, "budgets": budgets })
    }
}
