//! What was told as the store keeps it: everything that an event or a notice says, so that it can be filtered and shown
//! in any format later.

use std::{borrow::Cow, sync::Arc};

use jiff::Timestamp;
use kernel::{Door, Event};
use serde::{Deserialize, Serialize};
use serde_json::Error;
use verdict::{Address, Cell, Direction, Endpoint, Protocol, abi::Owner};

use super::outputs::Told;
use crate::{
    orders::Reason,
    report::{Notice, Seen},
};

/// Doors by the number that is kept: a new one is added at the end.
const DOORS: [Door; 11] = [
    Door::Connect,
    Door::Send,
    Door::Bind,
    Door::Lookup,
    Door::Create,
    Door::Tripwire,
    Door::Sweep,
    Door::Listen,
    Door::Request,
    Door::Accept,
    Door::Jammed,
];

/// Both halves of a canonical address, and a port.
type End = (u64, u64, u16);

#[derive(Serialize, Deserialize)]
enum Kept<'a> {
    #[serde(rename = "e")]
    Event(#[serde(borrow)] Box<KeptEvent<'a>>),
    #[serde(rename = "n")]
    Notice(Timestamp, Cow<'a, str>, Cow<'a, str>, bool, u64),
}

#[derive(Serialize, Deserialize)]
struct KeptEvent<'a> {
    time_ns: u64,
    time: Timestamp,
    socket: u64,
    netns: u64,
    door: u8,
    inbound: bool,
    protocol: u8,
    local: End,
    remote: End,
    cell: u32,
    generation: Option<u32>,
    owner: Option<KeptOwner>,
    /// Whether the kernel said whose it is, and not the table of listeners.
    known: bool,
    cgroup: Option<Cow<'a, str>>,
    exe: Option<Cow<'a, str>>,
    #[serde(borrow)]
    rule: KeptReason<'a>,
    /// None where it is the same.
    would: Option<KeptReason<'a>>,
    version: u64,
    host: Cow<'a, str>,
}

/// cgroup, exe, pid, tid, uid, gid, and both halves of the name.
type KeptOwner = (u64, u64, u32, u32, u32, u32, u64, u64);

/// Id, text, place and reason.
type KeptReason<'a> =
    (Cow<'a, str>, Option<Cow<'a, str>>, Option<Cow<'a, str>>, Option<Cow<'a, str>>);

/// What the store keeps of it; `None` of counted flows, which it keeps otherwise.
pub(crate) fn bytes(told: &Told) -> Option<Vec<u8>> {
    let kept = match told {
        Told::Event(seen) => Kept::Event(Box::new(event(seen))),
        Told::Notice(notice) => {
            let Notice { time, action, text, tamper, version } = &**notice;
            Kept::Notice(*time, Cow::Borrowed(action), text.into(), *tamper, *version)
        }
        Told::Flows(..) => return None,
    };
    Some(serde_json::to_vec(&kept).expect("numbers and texts are JSON"))
}

/// The same, read.
///
/// # Errors
/// Where it is of another make.
pub(crate) fn parse(bytes: &[u8]) -> Result<Told, Error> {
    Ok(match serde_json::from_slice(bytes)? {
        Kept::Event(kept) => Told::Event(Arc::new(seen(*kept)?)),
        Kept::Notice(time, action, text, tamper, version) => {
            let action = Cow::Owned(action.into_owned());
            Told::Notice(Arc::new(Notice { time, action, text: text.into(), tamper, version }))
        }
    })
}

fn event(seen: &Seen) -> KeptEvent<'_> {
    let Seen { event, time, owner, cgroup, exe, rule, would, version, host } = seen;
    let Event { time_ns, socket, netns, door, direction, protocol, local, remote, .. } = *event;
    let end = |end: Endpoint| (end.address.hi, end.address.lo, end.port);
    let door = DOORS.iter().position(|known| *known == door).expect("every door has a number");
    KeptEvent {
        time_ns,
        time: *time,
        socket,
        netns,
        door: u8::try_from(door).expect("there are few doors"),
        inbound: direction == Direction::In,
        protocol: protocol.0,
        local: end(local),
        remote: end(remote),
        cell: Cell::pack(event.decision).0,
        generation: event.generation,
        owner: owner.map(|owner| {
            let Owner { cgroup, exe, pid, tid, uid, gid, comm } = owner;
            let name = u128::from_be_bytes(comm);
            let [high, low] = [name >> 64, name & u128::from(u64::MAX)]
                .map(|half| u64::try_from(half).expect("half of it"));
            (cgroup, exe, pid, tid, uid, gid, high, low)
        }),
        known: event.owner.is_some(),
        cgroup: cgroup.as_deref().map(Cow::Borrowed),
        exe: exe.as_deref().map(Cow::Borrowed),
        rule: reason(rule),
        would: (would != rule).then(|| reason(would)),
        version: *version,
        host: Cow::Borrowed(host),
    }
}

fn reason(of: &Reason) -> KeptReason<'_> {
    let Reason { id, text, place, reason } = of;
    let [text, place, reason] = [text, place, reason].map(|it| it.as_deref().map(Cow::Borrowed));
    (id.into(), text, place, reason)
}

fn seen(kept: KeptEvent<'_>) -> Result<Seen, Error> {
    let end = |(hi, lo, port): End| Endpoint { address: Address { hi, lo }, port };
    let owned = |it: Option<Cow<'_, str>>| it.map(Cow::into_owned);
    let rule = |(id, text, place, reason): KeptReason<'_>| {
        let [text, place, reason] = [text, place, reason].map(owned);
        Arc::new(Reason { id: id.into_owned(), text, place, reason })
    };
    let owner = kept.owner.map(|(cgroup, exe, pid, tid, uid, gid, high, low)| {
        let comm = (u128::from(high) << 64 | u128::from(low)).to_be_bytes();
        Owner { cgroup, exe, pid, tid, uid, gid, comm }
    });
    let door = DOORS.get(usize::from(kept.door)).copied();
    let decided = rule(kept.rule);
    Ok(Seen {
        event: Event {
            time_ns: kept.time_ns,
            socket: kept.socket,
            netns: kept.netns,
            door: door.ok_or_else(|| serde::de::Error::custom("a door of another make"))?,
            direction: if kept.inbound { Direction::In } else { Direction::Out },
            protocol: Protocol(kept.protocol),
            local: end(kept.local),
            remote: end(kept.remote),
            decision: Cell(kept.cell).unpack(),
            generation: kept.generation,
            owner: owner.filter(|_| kept.known),
        },
        time: kept.time,
        owner,
        cgroup: kept.cgroup.map(Arc::from),
        exe: kept.exe.map(Arc::from),
        would: kept.would.map_or_else(|| Arc::clone(&decided), rule),
        rule: decided,
        version: kept.version,
        host: Arc::from(kept.host),
    })
}

#[cfg(test)]
mod tests {
    use verdict::{Decision, Judgement, RuleNumber, Verdict};

    use super::*;
    use crate::report::Format;

    fn seen(door: Door, would: &str) -> Told {
        let judgement = |verdict, rule| Judgement { verdict, rule: RuleNumber(rule) };
        let end = |address, port| Endpoint { address: Address::v4(address), port };
        let reason = |id: &str| {
            let place = Some("p.fwnet:1".to_owned());
            Arc::new(Reason {
                id: id.to_owned(),
                text: Some("deny \"x\"".to_owned()),
                place,
                reason: None,
            })
        };
        let owner = Owner {
            cgroup: u64::MAX,
            pid: 7,
            uid: 1000,
            comm: *b"a\xffname\0\0\0\0\0\0\0\0\0\0",
            ..Owner::default()
        };
        Told::Event(Arc::new(Seen {
            event: Event {
                time_ns: 5,
                socket: u64::MAX,
                netns: 2,
                door,
                direction: Direction::In,
                protocol: Protocol::UDP,
                local: end(0x7f00_0001, 53),
                remote: end(0xc000_0201, 40_000),
                decision: Decision {
                    enforced: judgement(Verdict::Allow, 3),
                    would: judgement(Verdict::Deny, 4),
                },
                generation: Some(9),
                owner: None,
            },
            time: Timestamp::from_nanosecond(1_900_000_000_123_456_789).unwrap(),
            owner: Some(owner),
            cgroup: Some("/system.slice/x.service".into()),
            exe: None,
            rule: reason("r"),
            would: reason(would),
            version: 12,
            host: "web-1".into(),
        }))
    }

    #[test]
    fn what_is_read_is_what_was_kept() {
        let notice = Told::Notice(Arc::new(Notice {
            time: Timestamp::UNIX_EPOCH,
            action: "link-mended".into(),
            text: "two\nlines".to_owned(),
            tamper: true,
            version: 3,
        }));
        let doors = DOORS.map(|door| seen(door, "w"));
        for told in doors.into_iter().chain([seen(Door::Connect, "r"), notice]) {
            let again = parse(&bytes(&told).unwrap()).unwrap();
            assert_eq!(format!("{again:?}"), format!("{told:?}"));
            for format in [Format::Ecs, Format::Ocsf] {
                assert_eq!(again.object(format, "web-1"), told.object(format, "web-1"));
            }
        }
        parse(b"{}").unwrap_err();
    }
}
