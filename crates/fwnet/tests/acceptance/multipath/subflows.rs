//! Further subflows of MPTCP: by an address of the client and by those that the server announces, joined where nothing denies
//! them until their address goes, and refused at either end. (mptcp_join.sh.)

use std::fs;

use testbed::{Directory, Host, Namespace, Network, wait_until};

use super::{
    OTHERS, SERVER, SERVER_V6, carry, connected, counted, ping,
    told::{established, extra, paths},
    transfer,
};
use crate::shared::{DEADLINE, Enforcing, star};

/// Enough to go by more than one subflow.
const SOME: usize = 1 << 20;

/// A client and a server that are joined by two networks: 10.7.0.0/24 and fd07::/64, and 10.8.0.0/24 and fd08::/64.
fn two_ways() -> Network {
    let network = star(2);
    let [client, server] = network.hosts() else { panic!("a star of two") };
    let (near, far) =
        Namespace::join(&client.namespace, "10.8.0.1/24", &server.namespace, "10.8.0.2/24");
    client.namespace.add_address(&near, "fd08::1/64");
    server.namespace.add_address(&far, "fd08::2/64");
    network
}

fn mptcp(host: &Host, arguments: &str) {
    let mut command = host.namespace.command("ip");
    let output = command.arg("mptcp").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// How the two ends come to a second subflow.
#[derive(Clone, Copy, Debug)]
enum Further {
    /// By an address of the client.
    Own,
    /// By one that the server announces.
    Announced,
    /// By one that the server announces with a port, where its kernel listens.
    AnnouncedWithPort,
}

/// The port that is announced.
const ANNOUNCED_PORT: u16 = 10_100;

impl Further {
    /// Prepares both ends.
    fn prepare(self, near: &Host, far: &Host, six: bool) {
        // Together with a timestamp, the announcement of such an address with a port is longer than the options of a segment
        // may be.
        let too_long = matches!(self, Self::AnnouncedWithPort) && six;
        for host in [near, far] {
            mptcp(host, "limits set subflow 2 add_addr_accepted 2");
            let timestamps =
                || fs::write("/proc/sys/net/ipv4/tcp_timestamps", if too_long { "0" } else { "1" });
            host.namespace.inside(timestamps).unwrap();
        }
        let (own, announced) = if six { ("fd08::1", "fd08::2") } else { ("10.8.0.1", "10.8.0.2") };
        let whose = self.ends(near, far).0;
        match self {
            Self::Own => mptcp(whose, &format!("endpoint add {own} id 1 subflow")),
            Self::Announced => mptcp(whose, &format!("endpoint add {announced} id 1 signal")),
            Self::AnnouncedWithPort => {
                mptcp(whose, &format!("endpoint add {announced} id 1 signal port {ANNOUNCED_PORT}"))
            }
        }
    }

    /// Whose address it is, and who is told of it.
    fn ends<'a>(self, near: &'a Host, far: &'a Host) -> (&'a Host, &'a Host) {
        match self {
            Self::Own => (near, far),
            Self::Announced | Self::AnnouncedWithPort => (far, near),
        }
    }
}

const FURTHER: [Further; 3] = [Further::Own, Further::Announced, Further::AnnouncedWithPort];

#[test]
fn further_subflows_join_where_nothing_denies_them_become_backups_and_go() {
    for rules in [None, Some(OTHERS)] {
        let network = two_ways();
        let [near, far] = network.hosts() else { panic!("a star of two") };
        let enforcing = rules.map(|rules| [near, far].map(|host| Enforcing::on(host, &rules)));
        let targets = FURTHER.map(|it| [(it, SERVER), (it, SERVER_V6)]);
        for (joined, (further, target)) in (1..).zip(targets.into_iter().flatten()) {
            let what = format!("{further:?} to {target}, {rules:?}");
            further.prepare(near, far, target == SERVER_V6);
            let (whose, other) = further.ends(near, far);
            let told = ["MPPrioRx", "RmAddr"].map(|name| counted(other, name));
            let (_listener, near_end, far_end) = connected(near, far, target);
            wait_until(DEADLINE, &format!("{what}: joins"), || {
                counted(far, "MPJoinAckRx") == joined
            });
            wait_until(DEADLINE, &format!("{what}: both ends have it"), || {
                [&near_end, &far_end].iter().all(|end| established(end) == 2)
            });
            let other_way = paths(&far_end).into_iter().map(|[local, remote]| [remote, local]);
            let mut other_way: Vec<_> = other_way.collect();
            other_way.sort_unstable();
            assert_eq!(paths(&near_end), other_way, "{what}");
            assert_eq!(extra(&near_end), 1, "{what}");
            carry(&near_end, &far_end, SOME);
            mptcp(whose, "endpoint change id 1 backup");
            wait_until(DEADLINE, &format!("{what}: is a backup"), || {
                counted(other, "MPPrioRx") > told[0]
            });
            ping(&near_end, &far_end);
            mptcp(whose, "endpoint delete id 1");
            wait_until(DEADLINE, &format!("{what}: goes"), || {
                counted(other, "RmAddr") > told[1] && paths(&near_end).len() == 1
            });
            transfer(&near_end, &far_end, SOME);
        }
        for enforcing in enforcing.into_iter().flatten() {
            let lines = enforcing.stop();
            assert!(!lines.iter().any(|line| line.ends_with("denied")), "{lines:#?}");
        }
    }
}

/// What denies the second subflow: on which host, how, and what it says of it.
struct Denied {
    further: Further,
    at_server: bool,
    rules: [&'static str; 2],
    says: &'static str,
}

const DENIED: [Denied; 6] = [
    Denied {
        further: Further::Announced,
        at_server: false,
        rules: ["--deny", "10.8.0.2"],
        says: "! connect to 10.8.0.2:20000 denied",
    },
    Denied {
        further: Further::AnnouncedWithPort,
        at_server: false,
        rules: ["--port", "10100"],
        says: "! connect to 10.8.0.2:10100 denied",
    },
    Denied {
        further: Further::AnnouncedWithPort,
        at_server: false,
        rules: ["--deny", "10.8.0.0/24"],
        says: "! connect to 10.8.0.2:10100 denied",
    },
    Denied {
        further: Further::Own,
        at_server: true,
        rules: ["--deny", "10.8.0.1"],
        says: "! accept from 10.8.0.1:",
    },
    Denied {
        further: Further::Announced,
        at_server: true,
        rules: ["--deny", "10.8.0.1"],
        says: "! accept from 10.8.0.1:",
    },
    // Nobody but the kernel listens there, for whoever has a connection already.
    Denied {
        further: Further::AnnouncedWithPort,
        at_server: true,
        rules: ["--port", "10100"],
        says: "! accept from denied port 10100",
    },
];

#[test]
fn a_subflow_that_is_denied_does_not_join_and_the_connection_goes_on() {
    let network = two_ways();
    let [near, far] = network.hosts() else { panic!("a star of two") };
    for Denied { further, at_server, rules, says } in DENIED {
        further.prepare(near, far, false);
        let enforcing = Enforcing::on(if at_server { far } else { near }, &rules);
        let asked = counted(far, "MPJoinSynRx");
        let (_listener, near_end, far_end) = connected(near, far, SERVER);
        enforcing.line(says);
        assert_eq!(paths(&far_end).len(), 1, "{further:?}, {rules:?}");
        mptcp(further.ends(near, far).0, "endpoint delete id 1");
        transfer(&near_end, &far_end, SOME);
        assert_eq!(counted(far, "MPJoinAckRx"), 0, "{further:?}, {rules:?}");
        if !at_server {
            assert_eq!(counted(far, "MPJoinSynRx"), asked, "{further:?}, {rules:?}: it left");
        }
        enforcing.stop();
    }
}

#[test]
fn a_subflow_that_the_kernel_opens_is_told_of_as_its_owners_or_as_nobodys() {
    let directory = Directory::new();
    let policy = directory.path().join("p.fwnet");
    // Sockets are stamped where a rule asks for processes; else nothing says whose it is, and no kernel thread is blamed.
    let stamped = "deny any -> 10.8.0.2\ndeny any[user=4000000000] -> 198.51.100.7\n";
    for (text, owner) in [(stamped, Some(std::process::id())), ("deny any -> 10.8.0.2\n", None)] {
        fs::write(&policy, text).unwrap();
        let network = two_ways();
        let [near, far] = network.hosts() else { panic!("a star of two") };
        Further::Announced.prepare(near, far, false);
        let rules = ["--policy", policy.to_str().unwrap(), "-o", "json"];
        let enforcing = Enforcing::on(near, &rules);
        let _connection = connected(near, far, SERVER);
        enforcing.line("10.8.0.2");
        let events = enforcing.stop_events();
        let event = events.iter().find(|event| event["destination"]["ip"] == "10.8.0.2").unwrap();
        let pid = event["process"]["pid"].as_u64();
        assert_eq!(pid, owner.map(u64::from), "{text}{event:#}");
    }
}

#[test]
fn subflows_join_or_are_denied_where_no_request_is_kept() {
    for denied in [false, true] {
        let network = two_ways();
        let [near, far] = network.hosts() else { panic!("a star of two") };
        let cookies = "/proc/sys/net/ipv4/tcp_syncookies";
        far.namespace.inside(|| fs::write(cookies, "2")).unwrap();
        Further::Own.prepare(near, far, false);
        let rules = if denied { ["--deny", "10.8.0.1"] } else { ["--deny", "198.51.100.7"] };
        let enforcing = Enforcing::on(far, &rules);
        let (_listener, near_end, far_end) = connected(near, far, SERVER);
        if denied {
            enforcing.line("! accept from 10.8.0.1:");
        } else {
            wait_until(DEADLINE, "the subflow joins", || counted(far, "MPJoinAckRx") == 1);
        }
        transfer(&near_end, &far_end, SOME);
        assert_eq!(counted(far, "MPJoinAckRx"), u64::from(!denied));
        enforcing.stop();
    }
}
