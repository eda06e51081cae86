//! What follows when the tripwire reports: the socket is found by its cookie, judged, and ended if it may not be.

use image::At;
use kernel::{Event, Netns, Socket, Sockets, State, Wanted};
use verdict::{Decision, Direction, Flow, Protocol, Subject, closed, decide};

/// The same event as of the socket that it tells of: where that is, what the image says about it now, and ended if it may
/// not be; that it could not be ended is said. `None` where there is nothing to tell.
pub(crate) fn resolved(event: Event, image: &At<'_>) -> Option<Event> {
    let Tripped { socket, decision, ended } = follow(&event, image)?;
    if let Some(Err(error)) = ended {
        eprintln!("fwnet: tripwire: {:#}", anyhow::Error::from(error));
    }
    Some(Event { local: socket.local, remote: socket.remote, decision, ..event })
}

/// A socket that came into being without a verdict.
#[derive(Debug)]
struct Tripped {
    /// What the kernel knows of it.
    socket: Socket,
    /// What the image says about it now.
    decision: Decision,
    /// Whether it was ended; `Err` says why that did not work.
    ended: Option<Result<(), kernel::SocketsError>>,
}

/// Looks for the socket of `event` in every network namespace. `None` where it is gone already, and for a listener on
/// a port that is not closed: every listener comes by here, because no hook of this tier judges listen().
fn follow(event: &Event, image: &At<'_>) -> Option<Tripped> {
    for namespace in Netns::found() {
        let sockets = Sockets::of(&namespace);
        // A namespace that ended while we look has no sockets left.
        let Ok(list) = sockets.list(Wanted::Opening) else { continue };
        let Some(socket) = list.into_iter().find(|socket| socket.cookie == event.socket) else {
            continue;
        };
        let (decision, denied) = judge(event, &socket, image);
        if socket.state == State::Listen && !denied {
            return None;
        }
        let ended = denied.then(|| sockets.destroy(&socket));
        return Some(Tripped { socket, decision, ended });
    }
    None
}

fn judge(event: &Event, socket: &Socket, image: &At<'_>) -> (Decision, bool) {
    let owner = event.owner.unwrap_or_default();
    let subject =
        Subject { uid: owner.uid, gid: owner.gid, cgroup: owner.cgroup, ..Subject::UNKNOWN };
    let direction = if socket.state == State::Listen { Direction::In } else { Direction::Out };
    let flow = Flow {
        direction,
        protocol: Protocol::TCP,
        local: socket.local,
        remote: socket.remote,
        subject: if event.owner.is_some() { subject } else { Subject::UNKNOWN },
    };
    let decision = decide(&flow, image);
    let denied = match direction {
        Direction::In => closed(&flow, image),
        Direction::Out => decision.denies(),
    };
    (decision, denied)
}
