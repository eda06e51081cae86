//! What a host denies beside its policy: single entries, and imported lists of addresses, each with an end or without.

mod end;
mod entry;
mod list;
mod ranges;
mod target;

pub use end::{End, Moment};
pub use entry::{Entries, Entry};
pub use list::{BadName, Feed, List, ListName};
pub use ranges::Ranges;
pub use target::{BadTarget, Target, Transport};
