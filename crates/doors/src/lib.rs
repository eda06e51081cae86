//! Every way a connection is made or received on Linux, and every packet sent, as one list: [`ALL`].
//! A door has a name, a note of what the kernel does behind it, the hooks that judge it, and the function that goes
//! through it. Tests, benches, the tools `tcpserv` and `tcpcli`, and `fwnet doctor` read this list; a way in or out that
//! is not in it is not tested anywhere.
//! Nothing here knows a rule: a door reports what the kernel answered, at which step, and never repeats an attempt.
//!
//! Out: [`open`] makes one attempt and returns only with a definite result. In: [`listen`] and [`Listener::accept`].

pub mod child;
mod detour;
mod door;
mod error;
mod list;
mod listen;
mod opened;
mod out;
pub mod race;
mod release;
mod socket;
pub mod storm;
pub mod tool;

pub use detour::{DETOURS, Detour};
pub use door::{Attempt, Door, Extent, Families, Protocol, Side};
pub use error::{DoorError, Stage, errno_name, errno_text};
pub use list::{ALL, inward, named, outward};
pub use listen::{Listener, listen};
pub use opened::Opened;
pub use out::{MADE_BY_HAND, open};
pub use release::release;
pub use socket::canonical;
