//! What follows when accept() was refused where somebody waits: whoever accepts would try again and again, and nobody would
//! take what is in the queue. The listener is ended, as any process that holds it could; accept() then ends with EINVAL.

use std::{io, path::Path};

use kernel::{Door, Event, Held, Netns, Sockets, Wanted};

use crate::connections::sockets as held_sockets;

/// Ends the listener that `event` tells of, if it is to end; that it could not be ended is said.
pub(crate) fn follow(event: &Event) {
    if event.door != Door::Jammed {
        return;
    }
    match end(event) {
        Ok(()) => {}
        // It has ended by itself.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => eprintln!("fwnet: end a listener whose accept() is refused: {error}"),
    }
}

/// By the descriptor of whoever accepts, which an MPTCP listener needs; else by its cookie.
fn end(event: &Event) -> io::Result<()> {
    let pid = event.owner.map_or(0, |owner| owner.pid);
    let descriptors = held_sockets(Path::new(&format!("/proc/{pid}"))).into_iter().flatten();
    let mut held = descriptors.map(|(descriptor, inode)| Held { pid, descriptor, inode });
    if let Some(held) = held.find(|held| held.cookie().is_ok_and(|it| it == event.socket)) {
        return held.end_listener();
    }
    for namespace in Netns::found() {
        let sockets = Sockets::of(&namespace);
        // A namespace that ended while we look has no sockets left.
        let Ok(list) = sockets.list(Wanted::Opening) else { continue };
        if let Some(socket) = list.into_iter().find(|socket| socket.cookie == event.socket) {
            return sockets.destroy(&socket).map_err(io::Error::other);
        }
    }
    Err(io::ErrorKind::NotFound.into())
}
