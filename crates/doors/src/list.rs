//! The list of doors. What it says of hooks is what the matrix sees on each kernel: a door whose hook it names closes
//! where that hook is in place.

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
    Door {
        judged_by: CONNECT,
        ..out_tcp(
            "fastopen-sendto",
            "sendto(MSG_FASTOPEN): connects without connect(), unseen by LSM socket_connect",
            out::fast_by_sendto,
        )
    },
    Door {
        judged_by: CONNECT,
        ..out_tcp(
            "fastopen-sendmsg",
            "sendmsg(MSG_FASTOPEN): the same through a message header",
            out::fast_by_sendmsg,
        )
    },
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
        judged_by: CONNECT,
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
    Door {
        judged_by: CONNECT,
        ..out_tcp(
            "uring-fastopen",
            "IORING_OP_SENDMSG with MSG_FASTOPEN: neither connect() nor sendmsg() is called",
            out::ring_fast,
        )
    },
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
    odd_tcp(
        "connect-unspecified",
        "connect() to 0.0.0.0 or ::, which is this host: the hook sees what the caller named",
        out::connect_unspecified,
    ),
    Door {
        families: Families::Ipv4,
        ..odd_tcp(
            "connect-other-family",
            "an IPv4 address on an AF_INET6 socket: the kernel itself refuses it with EINVAL",
            out::connect_other_family,
        )
    },
    odd_tcp(
        "connect-again",
        "AF_UNSPEC, which takes a connection back, then the target: judged the second time",
        out::connect_again,
    ),
    odd_tcp(
        "connect-itself",
        "a bound socket connects to its own address: no listener, so nothing inbound sees it",
        out::connect_itself,
    ),
    odd_tcp("connect-x32", "connect() by the number of the x32 ABI", out::connect_x32),
    odd_tcp(
        "uring-connect-polled",
        "IORING_OP_CONNECT on a ring that a kernel thread polls: no call at all",
        out::ring_connect_polled,
    ),
    odd_tcp(
        "uring-socket",
        "IORING_OP_SOCKET, then IORING_OP_CONNECT (Linux 5.19): no socket() call either",
        out::ring_socket,
    ),
    Door {
        protocol: Protocol::Smc,
        ..odd_tcp(
            "smc-family",
            "an AF_SMC socket, which falls back to TCP: the hook runs on the kernel's own socket",
            out::smc_by_family,
        )
    },
    Door {
        protocol: Protocol::Smc,
        ..odd_tcp("smc-protocol", "the same by IPPROTO_SMC (Linux 6.11)", out::smc_by_protocol)
    },
    Door {
        judged_by: CONNECT_BY_LSM,
        ..foreign(Protocol::Sctp, "sctp-connect", "connect() on an SCTP socket", out::sctp_connect)
    },
    foreign(
        Protocol::Sctp,
        "sctp-send",
        "sendto() on a one-to-many SCTP socket, which makes the association",
        out::sctp_send,
    ),
    Door {
        judged_by: CONNECT_BY_LSM,
        ..foreign(Protocol::Dccp, "dccp-connect", "connect() on a DCCP socket", out::dccp_connect)
    },
    Door {
        judged_by: CONNECT_AND_LSM,
        judged_since: (6, 1),
        ..foreign(
            Protocol::Icmp,
            "ping",
            "connect() and send() on a datagram socket of ICMP: connect4 or 6 judges (Linux 6.1)",
            out::ping,
        )
    },
    foreign(
        Protocol::Raw,
        "raw-send",
        "sendto() of a SYN made by hand: a TCP of user space, behind every hook but the socket's making",
        out::raw_send,
    ),
    Door {
        judged_by: CONNECT_BY_LSM,
        ..foreign(
            Protocol::Raw,
            "raw-connect",
            "connect() and send() of a SYN made by hand",
            out::raw_connect,
        )
    },
    Door {
        families: Families::Ipv4,
        refused_by: CREATE_BY_LSM,
        ..foreign(
            Protocol::Packet,
            "packet-send",
            "a frame made by hand through AF_PACKET: below IP, no cgroup hook sees it",
            out::packet_send,
        )
    },
    Door {
        judged_by: CONNECT_AND_LSM,
        ..out_udp(
            "udp-connect",
            "connect() and send() on a datagram socket: connect4 or 6 judges once, send() is not judged",
            out::connected_datagram,
        )
    },
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
    Door {
        protocol: Protocol::UdpLite,
        offered: false,
        refused_by: CREATE,
        ..out_udp(
            "udp-lite",
            "sendto() on a UDP-Lite socket: the same hook, the protocol is another",
            out::udp_lite,
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
        families: Families::Ipv4,
        ..odd_in(
            Protocol::Tcp,
            "bind-without-family",
            "bind() to 0.0.0.0 with AF_UNSPEC, which is taken for AF_INET",
            inn::bound_without_family,
            inn::accept4,
        )
    },
    odd_in(
        Protocol::Mptcp,
        "autobind-mptcp",
        "listen() on an MPTCP socket without bind()",
        inn::autobound_mptcp,
        inn::accept4_mptcp,
    ),
    odd_in(
        Protocol::Tcp,
        "uring-listener",
        "IORING_OP_BIND and IORING_OP_LISTEN (Linux 6.11): no bind() and no listen() call",
        inn::bound_by_ring,
        inn::ring_accept,
    ),
    Door {
        families: Families::Ipv4,
        ..odd_in(
            Protocol::Tcp,
            "transparent",
            "IP_TRANSPARENT and bind() to an address that this host does not have",
            inn::bound_transparently,
            inn::accept4,
        )
    },
    odd_in(
        Protocol::Smc,
        "smc-listener",
        "an AF_SMC listener: TCP peers come in as well",
        inn::bound_smc,
        inn::accept4,
    ),
    Door {
        judged_by: NONE,
        refused_by: LISTEN,
        ..odd_in(
            Protocol::Sctp,
            "sctp-listener",
            "bind(), listen(), accept4() on an SCTP socket: no cgroup hook sees it",
            inn::bound_sctp,
            inn::accept4,
        )
    },
    Door {
        judged_by: REQUEST,
        refused_by: BIND,
        ..odd_in(
            Protocol::Dccp,
            "dccp-listener",
            "bind(), listen(), accept4() on a DCCP socket",
            inn::bound_dccp,
            inn::accept4,
        )
    },
    Door {
        judged_by: NONE,
        refused_by: BIND,
        ..odd_in(
            Protocol::UdpLite,
            "udp-lite-receive",
            "recvfrom() on a bound UDP-Lite socket, whose look-up no hook sees",
            inn::bound_udp_lite,
            inn::datagram,
        )
    },
    Door {
        protocol: Protocol::Udp,
        judged_by: LOOKUP,
        ..in_tcp(
            "udp-receive",
            "recvfrom() on a bound datagram socket: nothing is accepted",
            inn::bound_datagram,
            inn::datagram,
        )
    },
];

/// The hooks of a connect.
const CONNECT: &[&str] = &["cgroup/connect4", "cgroup/connect6"];
/// Those, and the second lock.
const CONNECT_AND_LSM: &[&str] = &["cgroup/connect4", "cgroup/connect6", "lsm/socket_connect"];
/// The second lock alone.
const CONNECT_BY_LSM: &[&str] = &["lsm/socket_connect"];
/// The hooks of a datagram that names its destination.
const SEND: &[&str] = &["cgroup/sendmsg4", "cgroup/sendmsg6"];
/// The hooks of a socket's making.
const CREATE: &[&str] = &["cgroup/sock_create", "lsm/socket_create"];
/// The hooks of a claim on a port.
const BIND: &[&str] = &["cgroup/bind4", "cgroup/bind6"];
/// The one that sees every listen().
const LISTEN: &[&str] = &["lsm/socket_listen"];
/// The one that sees families beyond the internet's.
const CREATE_BY_LSM: &[&str] = &["lsm/socket_create"];
/// The hooks of a SYN.
const SYN: &[&str] = &["sk_lookup", "lsm/inet_conn_request"];
/// The one that sees DCCP's as well.
const REQUEST: &[&str] = &["lsm/inet_conn_request"];
/// The hook of a datagram that comes in.
const LOOKUP: &[&str] = &["sk_lookup"];
/// No hook.
const NONE: &[&str] = &[];

/// The ways out that `tcpcli` offers.
pub fn outward() -> impl Iterator<Item = &'static Door> {
    ALL.iter().filter(|door| door.side() == Side::Out && door.offered)
}

/// The ways in that `tcpserv` offers.
pub fn inward() -> impl Iterator<Item = &'static Door> {
    ALL.iter().filter(|door| door.side() == Side::In && door.offered)
}

/// The door of that name, if a tool offers it.
pub fn named(name: &str) -> Option<&'static Door> {
    ALL.iter().find(|door| door.name == name && door.offered)
}

type Open = fn(&crate::Attempt<'_>) -> Result<crate::Opened, crate::DoorError>;

const fn out_tcp(name: &'static str, note: &'static str, open: Open) -> Door {
    Door {
        name,
        protocol: Protocol::Tcp,
        families: Families::Both,
        note,
        judged_by: CONNECT_AND_LSM,
        judged_since: (5, 9),
        refused_by: NONE,
        offered: true,
        way: Way::Out { open },
    }
}

const fn odd_tcp(name: &'static str, note: &'static str, open: Open) -> Door {
    Door { offered: false, ..out_tcp(name, note, open) }
}

const fn foreign(protocol: Protocol, name: &'static str, note: &'static str, open: Open) -> Door {
    Door { protocol, judged_by: NONE, refused_by: CREATE, ..odd_tcp(name, note, open) }
}

const fn out_udp(name: &'static str, note: &'static str, open: Open) -> Door {
    Door { protocol: Protocol::Udp, judged_by: SEND, ..out_tcp(name, note, open) }
}

const fn in_tcp(name: &'static str, note: &'static str, make: inn::Make, take: inn::Take) -> Door {
    Door {
        name,
        protocol: Protocol::Tcp,
        families: Families::Both,
        note,
        judged_by: SYN,
        judged_since: (5, 9),
        refused_by: NONE,
        offered: true,
        way: Way::In { make, take },
    }
}

const fn odd_in(
    protocol: Protocol,
    name: &'static str,
    note: &'static str,
    make: inn::Make,
    take: inn::Take,
) -> Door {
    Door { protocol, offered: false, ..in_tcp(name, note, make, take) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_fit_a_command_line() {
        let names: BTreeSet<_> = ALL.iter().map(|door| door.name).collect();
        assert_eq!(names.len(), ALL.len());
        for door in ALL {
            assert!(
                door.name
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'),
                "{door:?}"
            );
            assert_eq!(named(door.name).is_some(), door.offered);
        }
    }

    #[test]
    fn both_sides_are_there_and_nothing_else() {
        let offered = ALL.iter().filter(|door| door.offered).count();
        assert_eq!(outward().count() + inward().count(), offered);
        assert!(named("listen").is_none());
    }

    #[test]
    fn every_hook_that_a_door_names_is_one_that_fwnet_has() {
        let known: BTreeSet<_> = kernel::Hook::ALL.iter().map(|hook| hook.name).collect();
        for door in ALL {
            for hook in door.judged_by.iter().chain(door.refused_by) {
                assert!(known.contains(hook), "{door:?}: {hook}");
            }
        }
    }
}
