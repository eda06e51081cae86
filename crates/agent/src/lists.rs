//! What a host denies beside its policy: single entries, and imported lists of addresses, each with an end or without.
//!
//! They stand in the tier `admin` of the image, below the failsafe set and above every other rule, under the ids
//! `deny/TARGET` and `list/NAME`.

mod end;
mod entry;
mod front;
mod list;
mod plain;
mod ranges;
mod target;

pub use end::{End, Moment};
pub use entry::{ENTRIES_MAX, Entries, Entry, TooMany};
pub use front::{Front, FrontRule, Fronts};
pub use list::{BadName, Feed, List, ListName};
pub use plain::{BadLine, BadList, LINES_MAX, LineFault, Plain, where_wrong};
pub use ranges::Ranges;
pub use target::{BadTarget, Target, Transport};
