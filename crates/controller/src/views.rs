//! What concerns a host: the documents it gets, and the hosts that those speak of.

mod meant;

pub use meant::Meant;
