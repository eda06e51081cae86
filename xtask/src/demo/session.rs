//! The session: what is typed, in which order, and what must come of it.

use super::attempt::{DEADLINE, Expected, attempt, caught, say};
use super::stage::{Place, Stage};
use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use testbed::Running;

use Place::{Far, Near, Web};

/// Exit codes of tcpcli: connected, denied by a local rule, refused by the peer's kernel.
const CONNECTED: i32 = 0;
const DENIED: i32 = 1;
const REFUSED: i32 = 2;

/// What tcpcli says of each.
const ECHO: &str = "hello";
const NO_PERMISSION: &str = "client: can't connect to server: Permission denied";
const RESET: &str = "client: can't connect to server: Connection refused";

/// Ways out that the 2015 module did not see, or that make no call of connect().
const DOORS: [&str; 8] = [
    "connect-nonblocking",
    "fastopen-sendto",
    "fastopen-connect",
    "mptcp",
    "uring-connect",
    "uring-connect-async",
    "ia32-socketcall",
    "ia32-connect",
];

/// The session in progress.
struct Session<'a> {
    stage: &'a mut Stage,
    firewall: Option<Running>,
    part: usize,
    step: usize,
    held: usize,
}

/// Plays it all and returns how many steps held.
///
/// # Errors
/// Names the first step that did not hold.
pub(super) fn play(stage: &mut Stage) -> Result<usize> {
    let mut session = Session { stage, firewall: None, part: 0, step: 0, held: 0 };
    session.open()?;
    session.load("--deny 192.168.56.101 --port 10000 --debug 1", 1, 1)?;
    session.denied_port()?;
    session.denied_address()?;
    session.doors()?;
    session.other_notations()?;
    session.allowed()?;
    session.unload()?;
    session.open()?;
    session.denied_address_v6()?;
    session.traffic()?;
    Ok(session.held)
}

impl Session<'_> {
    fn part(&mut self, heading: &str) {
        self.part += 1;
        self.step = 0;
        say(&format!("\n{}. {heading}", self.part));
    }

    /// Does a step, and names it if it does not hold.
    fn step(&mut self, what: &str, work: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        self.step += 1;
        let name = format!("step {}.{} ({what})", self.part, self.step);
        let held = self.held;
        caught(|| work(self))
            .with_context(|| format!("{name} did not hold, after {held} that did"))?;
        self.held += 1;
        Ok(())
    }

    fn attempt(&mut self, place: Place, line: &str, expected: Expected<'_>) -> Result<()> {
        self.step(&format!("{} $ {line}", place.address()), |session| {
            attempt(session.stage, session.firewall.as_ref(), place, line, expected)
        })
    }

    /// An attempt that must connect; `events` are what `fwnet run` says of it, if it runs.
    fn connects(&mut self, place: Place, line: &str, events: &[&str]) -> Result<()> {
        self.attempt(place, line, Expected { code: CONNECTED, says: ECHO, events })
    }

    /// An attempt that the local rules must deny.
    fn denied(&mut self, line: &str, event: &str) -> Result<()> {
        self.attempt(Near, line, Expected { code: DENIED, says: NO_PERMISSION, events: &[event] })
    }

    /// An attempt from elsewhere that must meet a closed port.
    fn reset(&mut self, place: Place, line: &str, events: &[&str]) -> Result<()> {
        self.attempt(place, line, Expected { code: REFUSED, says: RESET, events })
    }

    fn load(&mut self, flags: &str, addresses: usize, ports: usize) -> Result<()> {
        self.part("The firewall is loaded");
        self.step("fwnet run", |session| {
            let bounds = session.stage.bounds().join(" ");
            say(&format!("\n  192.168.56.1 # fwnet run {flags} {bounds}"));
            let firewall = Running::start(session.stage.firewall(flags));
            let enforcing = firewall.wait_for_line("fwnet: enforcing", DEADLINE);
            let parameters = [("! denied IP:", addresses), ("! denied TCP port:", ports)];
            for (parameter, _) in parameters.iter().filter(|(_, count)| *count > 0) {
                firewall.wait_for_line(parameter, DEADLINE);
            }
            let lines = firewall.lines();
            for line in lines.iter().filter(|line| {
                line.starts_with("fwnet: ") || parameters.iter().any(|(it, _)| line.starts_with(it))
            }) {
                say(&format!("      {line}"));
            }
            ensure!(enforcing.contains("denied address"), "it does not say what it denies");
            session.firewall = Some(firewall);
            Ok(())
        })
    }

    /// Everything is reachable, before the firewall and after it.
    fn open(&mut self) -> Result<()> {
        self.part(if self.held == 0 {
            "Nothing is loaded: everything is reachable"
        } else {
            "Everything is reachable again, the servers being the same processes"
        });
        self.connects(Near, "tcpcli -h127.0.0.1 -p10000 -v", &[])?;
        self.connects(Near, "tcpcli -h192.168.56.101 -p60000 -v", &[])?;
        self.connects(Far, "tcpcli -h192.168.56.1 -p60000 -v", &[])?;
        self.connects(Far, "tcpcli -h192.168.56.1 -p10000 -v", &[])?;
        self.connects(Near, "tcpcli -h::1 -p10000 -v", &[])
    }

    fn denied_port(&mut self) -> Result<()> {
        self.part("The denied port: connecting to it, claiming it, and being connected to on it");
        let before = self.stage.accepted(Near, "tcpserv -p10000 -v");
        self.denied("tcpcli -h127.0.0.1 -p10000 -v", "! connect to 127.0.0.1:10000 denied")?;
        self.attempt(
            Near,
            "tcpserv -h127.0.0.2 -p10000 -v",
            Expected {
                code: DENIED,
                says: "can't bind local address: Permission denied",
                events: &["! accept from denied port 10000"],
            },
        )?;
        let event = "! accept from denied port 10000";
        self.reset(Web, "tcpcli -h192.168.57.1 -p10000 -v", &[event])?;
        self.unnoticed(Near, "tcpserv -p10000 -v", before)
    }

    fn denied_address(&mut self) -> Result<()> {
        self.part("The denied address, from both ends");
        let near = self.stage.accepted(Near, "tcpserv -p60000 -v");
        let far = self.stage.accepted(Far, "tcpserv -p60000 -v");
        self.denied(
            "tcpcli -h192.168.56.101 -p60000 -v",
            "! connect to 192.168.56.101:60000 denied",
        )?;
        self.reset(
            Far,
            "tcpcli -h192.168.56.1 -p60000 -v",
            &["! accept from 192.168.56.101:", " denied"],
        )?;
        let line = "curl --silent --show-error --max-time 9 http://192.168.56.101:60000/";
        let events = &["! connect to 192.168.56.101:60000 denied"];
        self.attempt(Near, line, Expected { code: 7, says: "curl: (7)", events })?;
        self.unnoticed(Near, "tcpserv -p60000 -v", near)?;
        self.unnoticed(Far, "tcpserv -p60000 -v", far)
    }

    /// The server's accept() never woke.
    fn unnoticed(&mut self, place: Place, line: &str, before: usize) -> Result<()> {
        self.step(&format!("the server {line} saw nobody"), |session| {
            let now = session.stage.accepted(place, line);
            say(&format!("\n  {} : the server `{line}` saw nobody", place.address()));
            ensure!(now == before, "it accepted {} connections", now - before);
            Ok(())
        })
    }

    fn doors(&mut self) -> Result<()> {
        self.part("Every way out is the same way out");
        for door in DOORS {
            let line = format!("tcpcli -h192.168.56.101 -p60000 --via {door}");
            self.denied(&line, "! connect to 192.168.56.101:60000 denied")?;
        }
        Ok(())
    }

    fn other_notations(&mut self) -> Result<()> {
        self.part("IPv6, and IPv4 in IPv6's notation");
        let event = "! connect to 192.168.56.101:60000 denied";
        self.denied("tcpcli -h::ffff:192.168.56.101 -p60000 -v", event)?;
        self.denied("tcpcli -h::1 -p10000 -v", "! connect to [::1]:10000 denied")?;
        let event = "! connect to [fd56::101]:60000";
        self.connects(Near, "tcpcli -hfd56::101 -p60000 -v", &[event])
    }

    fn allowed(&mut self) -> Result<()> {
        self.part("What no rule names goes on");
        let events = ["! connect to 127.0.0.1:60000", "! accept from 127.0.0.1:"];
        self.connects(Near, "tcpcli -p60000 -v", &events)?;
        self.connects(Web, "tcpcli -h192.168.57.1 -p60000 -v", &["! accept from 192.168.57.80:"])?;
        let line = "curl --silent --show-error --max-time 9 http://192.168.57.81/";
        let events = &["! connect to 192.168.57.81:80"];
        self.attempt(Near, line, Expected { code: 0, says: "a page", events })
    }

    fn unload(&mut self) -> Result<()> {
        self.part("The firewall is unloaded");
        self.step("Ctrl-C for fwnet run", |session| {
            let mut firewall = session.firewall.take().context("no firewall runs")?;
            say("\n  192.168.56.1 : Ctrl-C for fwnet run");
            firewall.signal(Signal::INT);
            let status = firewall.wait(DEADLINE);
            let lines = firewall.lines();
            for line in lines
                .iter()
                .filter(|line| line.starts_with("fwnet: ") && !line.starts_with("fwnet: enforcing"))
            {
                say(&format!("      {line}"));
            }
            say(&format!("      ({status})"));
            ensure!(status.success(), "it ended with {status}");
            let removed = |hook: &str| {
                lines.iter().any(|line| line.starts_with(&format!("fwnet: removed {hook} from ")))
            };
            for hook in ["cgroup/connect4", "cgroup/connect6", "sk_lookup"] {
                ensure!(removed(hook), "it does not say that it removed {hook}");
            }
            Ok(())
        })
    }

    fn denied_address_v6(&mut self) -> Result<()> {
        self.load("--deny fd56::101 --debug 1", 1, 0)?;
        self.part("The same for an IPv6 address, which says nothing about the IPv4 address");
        self.denied("tcpcli -hfd56::101 -p60000 -v", "! connect to [fd56::101]:60000 denied")?;
        let events = ["! accept from [fd56::101]:", " denied"];
        self.reset(Far, "tcpcli -hfd56::1 -p60000 -v", &events)?;
        let events = ["! connect to 192.168.56.101:60000"];
        self.connects(Near, "tcpcli -h192.168.56.101 -p60000 -v", &events)?;
        self.connects(Far, "tcpcli -h192.168.56.1 -p60000 -v", &["! accept from 192.168.56.101:"])?;
        self.unload()?;
        self.part("And unloaded");
        self.connects(Near, "tcpcli -hfd56::101 -p60000 -v", &[])?;
        self.connects(Far, "tcpcli -hfd56::1 -p60000 -v", &[])
    }

    /// The traffic that went on all the time.
    fn traffic(&mut self) -> Result<()> {
        self.part("DNS and HTTP went on all the time");
        self.step("DNS and HTTP without a failure", |session| {
            let traffic = &mut session.stage.traffic;
            traffic.close_input();
            let status = traffic.wait(DEADLINE);
            let line = traffic.wait_for_line("{", DEADLINE);
            say(&format!("\n  192.168.56.1 : {line}"));
            let counts: serde_json::Value = serde_json::from_str(&line).context("its counts")?;
            ensure!(status.success(), "it ended with {status}");
            ensure!(counts["failures"] == 0, "{} failures", counts["failures"]);
            for count in ["names", "pages"] {
                ensure!(counts[count].as_u64() > Some(20), "only {} {count}", counts[count]);
            }
            Ok(())
        })
    }
}
