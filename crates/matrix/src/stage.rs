//! Where rows are played: the firewall as far as it is attached, the peer, and what can be read of both.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, iter};

use anyhow::{Context as _, Result};
use doors::{Attempt, Door, DoorError, Protocol, Side, errno_name};
use image::Image;
use kernel::{
    Attachments, Cgroup, CgroupTree, Counting, Event, Firewall, Hook, Namespaces, Netns, Scheduled,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::OwnedFd;
use verdict::Direction;

use crate::line::{Line, Situation};
use crate::odd::Before;
use crate::peer::{self, Peer};
use crate::row::Row;
use crate::rules::{self, Denied};

/// Where this end listens.
const PORT: u16 = 10_001;
/// How long the peer is waited for before anything is attached.
pub(crate) const PATIENCE_BEFORE: Duration = Duration::from_secs(5);
/// How long nothing is waited for where nothing is expected.
const MOMENT: Duration = Duration::from_millis(20);
/// It runs at every change of state of every connection of the machine, so that its runs tell nothing.
const TRIPWIRE: &str = "tp_btf/inet_sock_set_state";
/// Everybody may send echo requests.
const PING: (&str, &str) = ("/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
/// Data in a SYN without a cookie, taken by every listener.
const FAST_OPEN: (&str, &str) = ("/proc/sys/net/ipv4/tcp_fastopen", "1543");

/// How long a closed end waits for the other one, in seconds: longer than a slow machine plays a situation, so that no late
/// packet finds it gone and meets a hook.
const HALF_CLOSED: (&str, &str) = ("/proc/sys/net/ipv4/tcp_fin_timeout", "3600");
/// Below it, everything is pinned, as an agent has it.
const PINS: &str = "/sys/fs/bpf";

/// The stage.
pub(crate) struct Stage {
    peer: Peer,
    cgroup: PathBuf,
    pins: PathBuf,
    patience: Duration,
    left_out: Vec<String>,
    counting: Counting,
    before: Before,
    firewall: Option<Firewall>,
    runs: BTreeMap<u32, u64>,
}

impl Stage {
    /// Starts the peer, then moves this process into the cgroup at `cgroup`, where the firewall will be attached.
    pub(crate) fn new(cgroup: &Path, patience: Duration) -> Result<Self> {
        for (path, value) in [PING, FAST_OPEN, HALF_CLOSED] {
            fs::write(path, value).with_context(|| path.to_owned())?;
        }
        let peer = Peer::start()?;
        let procs = cgroup.join("cgroup.procs");
        fs::write(&procs, "0").with_context(|| procs.display().to_string())?;
        Ok(Self {
            peer,
            cgroup: cgroup.to_owned(),
            pins: Path::new(PINS).join(format!("matrix-{}", std::process::id())),
            patience,
            left_out: Vec::new(),
            counting: Counting::begin().context("count the runs of programs")?,
            before: Before::default(),
            firewall: None,
            runs: BTreeMap::new(),
        })
    }

    /// Puts a situation in force.
    pub(crate) fn enforce(&mut self, situation: Situation, direction: Direction) -> Result<()> {
        let denied = match situation {
            Situation::Bare => return self.bare(),
            Situation::Allowed => Denied::Nobody,
            Situation::Closed => Denied::Everybody(direction),
            Situation::Denied => Denied::Peer(direction),
        };
        let peers = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let largest = rules::image(Denied::Peer(direction), &peers);
        self.put(&rules::image(denied, &peers), &largest)
    }

    /// Takes off whatever is in force.
    pub(crate) fn bare(&mut self) -> Result<()> {
        self.unload()?;
        self.before = Before::make(&mut self.peer)?;
        Ok(())
    }

    /// Puts rules in force; the slots are made for the `largest` that will be.
    pub(crate) fn put(&mut self, image: &Image, largest: &Image) -> Result<()> {
        if let Some(firewall) = &mut self.firewall {
            firewall.swap(image).context("put rules in force")?;
            return Ok(());
        }
        self.runs.clear();
        self.before = Before::make(&mut self.peer)?;
        let attachments = Attachments {
            cgroup: Cgroup::open(&self.cgroup)?,
            namespaces: match self.is_root() {
                // As by default.
                true => Namespaces::All,
                false => vec![Netns::open("/proc/self/ns/net")?].into(),
            },
            tripwire: true,
            report_allowed: false,
            count_flows: false,
            accept_errno: None,
        };
        let left_out: Vec<_> = self.left_out.iter().map(String::as_str).collect();
        let (scheduled, lockdown) = (Scheduled::forever(largest), rules::lockdown());
        let firewall =
            Firewall::up_without(&left_out, &self.pins, scheduled, &lockdown, attachments)?;
        self.firewall.insert(firewall).swap(image).context("put rules in force")?;
        Ok(())
    }

    /// Has the firewall attached anew, without these hooks.
    pub(crate) fn leave_out(&mut self, hooks: &[String]) -> Result<()> {
        self.left_out = hooks.to_vec();
        self.unload()
    }

    /// Takes the firewall off, and its pins away.
    fn unload(&mut self) -> Result<()> {
        match self.firewall.take() {
            Some(firewall) => firewall.remove().map(drop).context("take the firewall off"),
            None => Ok(()),
        }
    }

    /// Where a map of the firewall is pinned; `None` where nothing is in force.
    pub(crate) fn pin(&self, map: &str) -> Option<PathBuf> {
        let sets = fs::read_dir(&self.pins).ok()?;
        sets.flatten().map(|set| set.path().join("maps").join(map)).find(|pin| pin.exists())
    }

    /// Whether anything is attached: what tampers with the hooks leaves nothing.
    pub(crate) fn is_enforcing(&self) -> bool {
        self.firewall.is_some()
    }

    /// Whether the firewall is attached to the root of the cgroup tree.
    pub(crate) fn is_root(&self) -> bool {
        CgroupTree::mounted().is_ok_and(|tree| tree.mount() == self.cgroup)
    }

    /// What was made before the programs were attached.
    pub(crate) fn before(&mut self) -> &mut Before {
        &mut self.before
    }

    /// The cgroup that the firewall is attached to.
    pub(crate) fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// How long what may come is waited for.
    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// Where the peer listens.
    pub(crate) fn target(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, peer::PORT))
    }

    /// What came to the peer: waited for where something went out.
    pub(crate) fn peer_saw(&mut self, went_out: bool) -> Result<String> {
        self.peer.saw(if went_out { self.patience } else { MOMENT })
    }

    /// Has the peer go out to `address`.
    pub(crate) fn peer_reaches(
        &mut self,
        protocol: Protocol,
        address: SocketAddr,
    ) -> Result<String> {
        self.peer.reach(protocol, address, self.patience)
    }

    /// Has the peer make a socket: its process and the descriptor, or why it could not.
    pub(crate) fn peer_lends(&mut self, what: &str) -> Result<Result<(i32, i32), String>> {
        self.peer.lends(what)
    }

    /// Accepts from `listener`, where something came.
    pub(crate) fn accepts(&self, listener: &OwnedFd, came: bool) -> Result<String> {
        let wait = if came { self.patience } else { MOMENT };
        let mut ready = [PollFd::new(listener, PollFlags::IN)];
        if poll(&mut ready, Some(&Timespec::try_from(wait)?)).context("wait")? == 0 {
            return Ok("silence at accept".to_owned());
        }
        Ok(match rustix::net::accept(listener) {
            Ok(_) => "accepted".to_owned(),
            Err(errno) => format!("{} at accept", errno_name(errno.raw_os_error())),
        })
    }

    /// The hooks that are in place.
    pub(crate) fn hooks(&self) -> Vec<&'static str> {
        let attached = self.firewall.iter().flat_map(Firewall::attached);
        let names: Vec<_> = attached.map(|(hook, _)| hook.name).collect();
        let known = Hook::ALL.iter().map(|hook| hook.name);
        known.filter(|name| names.contains(name)).collect()
    }

    /// Plays one row.
    pub(crate) fn play(&mut self, row: &Row, situation: Situation) -> Result<Line> {
        self.seen();
        self.told();
        let (local, peer, seen) = match row {
            Row::Odd(odd) => {
                let played = (odd.play)(self).with_context(|| odd.detour.name)?;
                let seen = names(&self.seen());
                (played.local, played.peer, seen)
            }
            Row::Door(door, ip) => match door.side() {
                Side::Out => self.go_out(door, *ip)?,
                Side::In => self.come_in(door, *ip)?,
            },
        };
        let line = Line { row: row.name(), situation, local, peer, seen, told: self.told() };
        if matches!(row, Row::Odd(odd) if odd.ruins) {
            self.unload()?;
        }
        Ok(line)
    }

    fn go_out(&mut self, door: &Door, ip: IpAddr) -> Result<(String, String, Vec<String>)> {
        let target = SocketAddr::new(ip, peer::PORT);
        let attempt = Attempt { first: b"first", ..Attempt::new(target, self.patience) };
        let opened = doors::open(door, &attempt);
        let seen = self.seen();
        let wait = if opened.is_ok() { self.patience } else { MOMENT };
        // A connection of a socket with itself ends at nobody's ears.
        let peer = self.peer.saw(if door.name == "connect-itself" { MOMENT } else { wait })?;
        let local = match &opened {
            Ok(_) if is_stream(door.protocol) => "connected".to_owned(),
            Ok(_) => "sent".to_owned(),
            Err(error) => refusal(error),
        };
        if let Ok(opened) = opened {
            // What is left of it must not meet the next row.
            let _ = opened.reset();
        }
        Ok((local, peer, names(&seen)))
    }

    fn come_in(&mut self, door: &Door, ip: IpAddr) -> Result<(String, String, Vec<String>)> {
        let address = SocketAddr::new(ip, PORT);
        let mut listener = match doors::listen(door, address, 8) {
            Ok(listener) => listener,
            Err(error) => return Ok((refusal(&error), "-".to_owned(), names(&self.seen()))),
        };
        let mut seen = self.seen();
        let target = SocketAddr::new(ip, listener.local().port());
        let tcp = Protocol::Tcp.meets(door.protocol);
        let protocol = if tcp { Protocol::Tcp } else { door.protocol };
        let peer = self.peer.reach(protocol, target, self.patience)?;
        // The peer's own steps are not of this row.
        let theirs = |hook: &&Hook| ["sk_lookup", "lsm/inet_conn_request"].contains(&hook.name);
        seen.extend(self.seen().iter().filter(|hook| theirs(hook)));
        let came = matches!(peer.as_str(), "connected" | "sent");
        let wait = if came { self.patience } else { MOMENT };
        let local = match listener.accept(Some(Instant::now() + wait)) {
            Ok(opened) => {
                let datagram = matches!(door.protocol, Protocol::Udp | Protocol::UdpLite);
                if !datagram {
                    let _ = opened.reset();
                }
                if datagram { "received" } else { "accepted" }.to_owned()
            }
            Err(error) => refusal(&error),
        };
        seen.extend(self.seen());
        Ok((local, peer, names(&seen)))
    }

    /// Hooks whose programs ran since it was last asked.
    fn seen(&mut self) -> Vec<&'static Hook> {
        let Some(firewall) = &self.firewall else { return Vec::new() };
        let mut seen = Vec::new();
        for run in firewall.runs_counted(&self.counting) {
            let before = self.runs.insert(run.program, run.count).unwrap_or(0);
            if run.count > before && run.hook.name != TRIPWIRE {
                seen.push(run.hook);
            }
        }
        seen
    }

    /// What was reported since it was last asked.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        let firewall = self.firewall.as_mut();
        firewall.into_iter().flat_map(|it| iter::from_fn(move || it.next_event())).collect()
    }

    /// What told of a denial since it was last asked.
    fn told(&mut self) -> Vec<String> {
        let mut told: Vec<String> = Vec::new();
        for event in self.events() {
            let door = format!("{:?}", event.door).to_lowercase();
            told.push(match event.owner {
                Some(_) => door,
                None => format!("{door}, of nobody known"),
            });
        }
        told.sort_unstable();
        told.dedup();
        told
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Err(error) = self.unload() {
            eprintln!("matrix: {error:#}");
        }
    }
}

fn names(seen: &[&'static Hook]) -> Vec<String> {
    let known = Hook::ALL.iter().filter(|hook| seen.iter().any(|it| it.name == hook.name));
    known.map(|hook| hook.name.to_owned()).collect()
}

fn is_stream(protocol: Protocol) -> bool {
    matches!(
        protocol,
        Protocol::Tcp | Protocol::Mptcp | Protocol::Sctp | Protocol::Dccp | Protocol::Smc
    )
}

fn refusal(error: &DoorError) -> String {
    match error {
        DoorError::Refused { stage, errno } => format!("{} at {stage}", errno_name(*errno)),
        DoorError::TimedOut { stage } => format!("silence at {stage}"),
        DoorError::Unsupported { reason } => format!("not offered: {reason}"),
    }
}
