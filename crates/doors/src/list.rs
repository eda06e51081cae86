//! The list of doors. What the notes say of hooks was seen on the kernels named in the project's survey of doors.

use crate::door::{Door, Families, Protocol, Side, Way};
use crate::{listen as inn, out};

/// Every door, the ways out first. Names are unique.
pub const ALL: &[Door] = &[
    out_tcp(
        "connect",
        "connect() on a blocking socket: the address is copied once, then judged by cgroup/connect4 or 6",
        out::connect,
    ),
    out_tcp(
        "connect-nonblocking",
        "connect() with O_NONBLOCK: a denial comes at once, never as EINPROGRESS; the rest by poll()",
        out::connect_nonblocking,
    ),
    Door {
        families: Families::Ipv4,
        ..out_tcp(
            "connect-mapped",
            "AF_INET6 socket to ::ffff:a.b.c.d: connect6 runs (not connect4), the wire carries IPv4",
            out::connect_mapped,
        )
    },
    out_tcp(
        "fastopen-sendto",
        "sendto(MSG_FASTOPEN): connects without connect(), unseen by LSM socket_connect",
        out::fast_by_sendto,
    ),
    out_tcp(
        "fastopen-sendmsg",
        "sendmsg(MSG_FASTOPEN): the same through a message header",
        out::fast_by_sendmsg,
    ),
    out_tcp(
        "fastopen-connect",
        "TCP_FASTOPEN_CONNECT: judged at connect(), the SYN may leave with the first write",
        out::fast_by_connect,
    ),
    Door {
        protocol: Protocol::Mptcp,
        ..out_tcp(
            "mptcp",
            "connect() on an IPPROTO_MPTCP socket: the hook runs on the kernel's own subflow socket",
            out::connect_mptcp,
        )
    },
    Door {
        protocol: Protocol::Mptcp,
        ..out_tcp(
            "mptcp-fastopen",
            "sendto(MSG_FASTOPEN) on an MPTCP socket (Linux 6.2)",
            out::fast_by_mptcp,
        )
    },
    out_tcp(
        "uring-connect",
        "IORING_OP_CONNECT tried at once: no connect() call; a hook may run twice for one attempt",
        out::ring_connect,
    ),
    out_tcp(
        "uring-connect-async",
        "IORING_OP_CONNECT with IOSQE_ASYNC: a kernel worker thread connects",
        out::ring_connect_async,
    ),
    out_tcp(
        "uring-fastopen",
        "IORING_OP_SENDMSG with MSG_FASTOPEN: neither connect() nor sendmsg() is called",
        out::ring_fast,
    ),
    out_tcp(
        "ia32-socketcall",
        "int 0x80, socketcall (102) call 3: what the 2015 module patched",
        out::socketcall_connect,
    ),
    out_tcp(
        "ia32-connect",
        "int 0x80, connect (362): what 32-bit programs use since Linux 4.3",
        out::direct_connect,
    ),
    out_tcp(
        "inherited",
        "a socket made here and connected by a child process: the cgroup of the maker is judged",
        out::inherited,
    ),
    out_tcp(
        "passed",
        "a socket made by another process, passed by SCM_RIGHTS, connected here: the cgroup of the maker is judged",
        out::passed,
    ),
    out_udp(
        "udp-connect",
        "connect() and send() on a datagram socket: connect4 or 6 judges once, send() is not judged",
        out::connected_datagram,
    ),
    out_udp(
        "udp-sendto",
        "sendto() on an unconnected datagram socket: sendmsg4 or 6 judges each datagram",
        out::sendto_datagram,
    ),
    out_udp(
        "udp-sendmsg",
        "sendmsg() on an unconnected datagram socket: the same hook",
        out::sendmsg_datagram,
    ),
    Door {
        families: Families::Ipv4,
        ..out_udp(
            "udp-mapped",
            "AF_INET6 datagram socket to ::ffff:a.b.c.d: sendmsg4 runs (not sendmsg6)",
            out::mapped_datagram,
        )
    },
    in_tcp("accept", "bind(), listen(), accept() with the peer's address", inn::bound, inn::accept),
    in_tcp(
        "accept-null",
        "accept(fd, NULL, NULL): the peer's address is not asked for",
        inn::bound,
        inn::accept_null,
    ),
    in_tcp(
        "accept4",
        "accept4(): what most runtimes call; the 2015 module did not see it",
        inn::bound,
        inn::accept4,
    ),
    in_tcp(
        "accept-nonblocking",
        "poll() and accept4() on a non-blocking listener: a denied peer must not wake it",
        inn::nonblocking,
        inn::accept_when_ready,
    ),
    in_tcp("uring-accept", "IORING_OP_ACCEPT: no accept() call", inn::bound, inn::ring_accept),
    in_tcp(
        "uring-accept-multishot",
        "IORING_OP_ACCEPT, multishot (Linux 5.19): one operation, many connections",
        inn::bound,
        inn::ring_accept_multishot,
    ),
    Door {
        protocol: Protocol::Mptcp,
        ..in_tcp(
            "mptcp-listener",
            "accept4() on an IPPROTO_MPTCP listener: plain TCP clients come in as well",
            inn::bound_mptcp,
            inn::accept4_mptcp,
        )
    },
    in_tcp(
        "ia32-socketcall-accept",
        "int 0x80, socketcall (102) call 5",
        inn::bound,
        inn::socketcall_accept,
    ),
    in_tcp(
        "ia32-socketcall-accept4",
        "int 0x80, socketcall (102) call 18",
        inn::bound,
        inn::socketcall_accept4,
    ),
    in_tcp(
        "ia32-accept4",
        "int 0x80, accept4 (364): what 32-bit programs use since Linux 4.3",
        inn::bound,
        inn::direct_accept4,
    ),
    in_tcp(
        "inherited-listener",
        "a listener made here; a child process that inherited it accepts and passes the connection back",
        inn::bound,
        inn::accept_by_child,
    ),
    in_tcp(
        "passed-listener",
        "a listener made by another process and passed by SCM_RIGHTS; accepted here",
        inn::made_by_child,
        inn::accept4,
    ),
    in_tcp(
        "autobind",
        "listen() without bind(): the kernel chooses the port, no bind hook runs",
        inn::autobound,
        inn::accept4,
    ),
    in_tcp(
        "dual-stack",
        "AF_INET6 listener without IPV6_V6ONLY: IPv4 peers show as ::ffff:a.b.c.d",
        inn::dual_stack,
        inn::accept4,
    ),
    Door {
        protocol: Protocol::Udp,
        ..in_tcp(
            "udp-receive",
            "recvfrom() on a bound datagram socket: nothing is accepted",
            inn::bound_datagram,
            inn::datagram,
        )
    },
];

/// The ways out.
pub fn outward() -> impl Iterator<Item = &'static Door> {
    ALL.iter().filter(|door| door.side() == Side::Out)
}

/// The ways in.
pub fn inward() -> impl Iterator<Item = &'static Door> {
    ALL.iter().filter(|door| door.side() == Side::In)
}

/// The door of that name.
pub fn named(name: &str) -> Option<&'static Door> {
    ALL.iter().find(|door| door.name == name)
}

type Open = fn(&crate::Attempt<'_>) -> Result<crate::Opened, crate::DoorError>;

const fn out_tcp(name: &'static str, note: &'static str, open: Open) -> Door {
    Door { name, protocol: Protocol::Tcp, families: Families::Both, note, way: Way::Out { open } }
}

const fn out_udp(name: &'static str, note: &'static str, open: Open) -> Door {
    Door { name, protocol: Protocol::Udp, families: Families::Both, note, way: Way::Out { open } }
}

const fn in_tcp(name: &'static str, note: &'static str, make: inn::Make, take: inn::Take) -> Door {
    Door {
        name,
        protocol: Protocol::Tcp,
        families: Families::Both,
        note,
        way: Way::In { make, take },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_fit_a_command_line() {
        let names: BTreeSet<_> = ALL.iter().map(|door| door.name).collect();
        assert_eq!(names.len(), ALL.len());
        for name in names {
            assert!(
                name.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'),
                "{name}"
            );
            assert_eq!(named(name).map(|door| door.name), Some(name));
        }
    }

    #[test]
    fn both_sides_are_there_and_nothing_else() {
        assert_eq!(outward().count() + inward().count(), ALL.len());
        assert!(named("listen").is_none());
    }
}
