//! What every test starts from: `fwnet run` on a host of the test's own, servers that tell who came, and attempts.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    ffi::OsString,
    fs,
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use doors::{Attempt, DoorError, Opened, named, open, release};
use kernel::CgroupTree;
use rustix::process::Signal;
use serde_json::Value;
use testbed::{Cgroup, Host, Namespace, Network, Running};

/// Nothing that works takes nearly as long, even on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The errnos of a denial (outbound, and for claiming a port), and of a refusal by the peer's kernel.
pub(crate) const EACCES: i32 = 13;
pub(crate) const ECONNREFUSED: i32 = 111;

/// The errno of a denial outbound on whatever kernel runs: before Linux 5.18 programs of cgroups cannot choose it, and the
/// kernel's own is EPERM. (`bpf_set_retval`.)
pub(crate) fn denial() -> i32 {
    const EPERM: i32 = 1;
    if release() >= (5, 18) { EACCES } else { EPERM }
}

/// The program under test.
const FWNET: &str = env!("CARGO_BIN_EXE_fwnet");

/// A host, whose maker is the only test of this process that runs: to visit a host's cgroup is a thing of the whole
/// process, and what another test does meanwhile would be judged there. (Where every test is a process of its own, nobody
/// waits.)
#[track_caller]
pub(crate) fn host() -> Host {
    take_turn();
    Host::new()
}

/// The same for several hosts around a switch.
#[track_caller]
pub(crate) fn star(count: u8) -> Network {
    take_turn();
    Network::star(count)
}

/// Waits until every other thread that did this has ended; it is this thread's turn until its own end.
fn take_turn() {
    static TURNS: Mutex<()> = Mutex::new(());
    thread_local! {
        static TURN: RefCell<Option<MutexGuard<'static, ()>>> = const { RefCell::new(None) };
    }
    TURN.with_borrow_mut(|turn| {
        // A test that failed in its turn has harmed nothing but itself.
        turn.get_or_insert_with(|| TURNS.lock().unwrap_or_else(PoisonError::into_inner));
    });
}

/// A running `fwnet run`.
#[derive(Debug)]
pub(crate) struct Enforcing {
    running: Running,
}

impl Enforcing {
    /// Starts it on `cgroup` and `namespaces`, and returns once it says that it enforces.
    #[track_caller]
    pub(crate) fn start(cgroup: &Cgroup, namespaces: &[&Namespace], arguments: &[&str]) -> Self {
        let running = Self::begin(cgroup, namespaces, arguments);
        running.wait_for_line("fwnet: enforcing", DEADLINE);
        Self { running }
    }

    /// On a host's cgroup and namespace.
    #[track_caller]
    pub(crate) fn on(host: &Host, arguments: &[&str]) -> Self {
        Self::start(&host.cgroup, &[&host.namespace], arguments)
    }

    /// Starts it, without waiting for anything.
    pub(crate) fn begin(cgroup: &Cgroup, namespaces: &[&Namespace], arguments: &[&str]) -> Running {
        let mut all: Vec<OsString> = vec!["--cgroup".into(), cgroup.path().into()];
        for namespace in namespaces {
            all.extend(["--netns".into(), namespace.path().into()]);
        }
        all.extend(arguments.iter().map(OsString::from));
        Running::start(fwnet_run(&all))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Waits for a line with this text, and returns it.
    #[track_caller]
    pub(crate) fn line(&self, text: &str) -> String {
        self.running.wait_for_line(text, DEADLINE)
    }

    /// Ends it by SIGINT, and returns every line it printed; it must end well.
    #[track_caller]
    pub(crate) fn stop(self) -> Vec<String> {
        self.stop_by(Signal::INT)
    }

    #[track_caller]
    pub(crate) fn stop_by(mut self, signal: Signal) -> Vec<String> {
        self.running.signal(signal);
        let status = self.running.wait(DEADLINE);
        let lines = self.running.lines();
        assert!(status.success(), "{status}:\n{}", lines.join("\n"));
        lines
    }

    /// Ends it and returns its JSON events; every line that is none must be one of standard error's.
    #[track_caller]
    pub(crate) fn stop_events(self) -> Vec<Value> {
        let (events, others): (Vec<_>, Vec<_>) =
            self.stop().into_iter().partition(|line| line.starts_with('{'));
        assert!(others.iter().all(|line| line.starts_with("fwnet: ")), "{others:#?}");
        events.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Ids of the programs and of the links that the process holds, as the kernel lists them by its descriptors.
    pub(crate) fn held(&self) -> Held {
        Held::by(self.pid())
    }
}

/// BPF programs and links, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) programs: BTreeSet<u32>,
    pub(crate) links: BTreeSet<u32>,
}

impl Held {
    /// What process `pid` has open (proc(5), `/proc/PID/fdinfo`).
    pub(crate) fn by(pid: u32) -> Self {
        let mut held = Self::default();
        for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap().flatten() {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            let field = |name: &str| {
                text.lines().find_map(|line| {
                    line.strip_prefix(name)?.trim_start_matches(':').trim().parse().ok()
                })
            };
            let program: Option<u32> = field("prog_id");
            let link: Option<u32> = field("link_id");
            held.programs.extend(program);
            held.links.extend(link);
        }
        held
    }

    /// What of it the kernel still has.
    pub(crate) fn alive(&self) -> Self {
        let now = kernel::snapshot();
        Self {
            programs: self
                .programs
                .iter()
                .copied()
                .filter(|id| now.programs.contains_key(id))
                .collect(),
            links: self.links.iter().copied().filter(|id| now.links.contains_key(id)).collect(),
        }
    }
}

/// The command `fwnet run` with these arguments. Refuses what would judge the machine itself.
pub(crate) fn fwnet_run(arguments: &[OsString]) -> Command {
    let mut command = fwnet(&["run"]);
    let at = arguments.iter().position(|argument| argument == "--cgroup");
    let cgroup =
        at.and_then(|at| arguments.get(at + 1)).expect("every test names a cgroup of its own");
    let root = CgroupTree::mounted().unwrap().mount().to_owned();
    let same = |path: &Path| fs::canonicalize(path).ok() == fs::canonicalize(&root).ok();
    assert!(!same(Path::new(cgroup)), "never at the root cgroup of this machine");
    command.args(arguments);
    command
}

/// `fwnet` with these arguments, for every verb that attaches nothing.
pub(crate) fn fwnet(arguments: &[&str]) -> Command {
    let mut command = Command::new(FWNET);
    command.args(arguments).env_remove("FWNET_LOG");
    command
}

/// One of the tools, which cargo puts beside the program under test.
pub(crate) fn tool(name: &str) -> PathBuf {
    let path = Path::new(FWNET).with_file_name(name);
    assert!(path.is_file(), "{} is missing: cargo build --package doors", path.display());
    path
}

/// A file of the tests.
pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// Does `work` on a host: in its namespace, with the whole process in its cgroup, so that sockets made there are judged.
#[track_caller]
pub(crate) fn on<T: Send>(host: &Host, work: impl FnOnce() -> T + Send) -> T {
    let _visit = host.cgroup.enter_current_process();
    host.namespace.inside(work)
}

/// Runs a program on a host to its end.
#[track_caller]
pub(crate) fn run_on(host: &Host, program: impl AsRef<Path>, arguments: &[&str]) -> Output {
    host.command(program.as_ref()).args(arguments).output().unwrap()
}

/// What a program printed to standard output.
pub(crate) fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a program printed to standard error.
pub(crate) fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// One attempt through the door of that name.
pub(crate) fn through(door: &str, target: &str) -> Result<Opened, DoorError> {
    open(named(door).unwrap(), &Attempt::new(target.parse().unwrap(), DEADLINE))
}

/// The errno with which connect() to `target` fails, or `None` if it connects.
pub(crate) fn connect_errno(target: &str) -> Option<i32> {
    TcpStream::connect_timeout(&target.parse().unwrap(), DEADLINE)
        .err()
        .map(|error| error.raw_os_error().unwrap_or_else(|| panic!("{target}: {error}")))
}

/// An echo server: it answers everybody, and counts who came.
#[derive(Debug)]
pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
    came: Arc<AtomicUsize>,
}

impl Echo {
    /// A stream server in `namespace`; on `[::]` it takes IPv4 too. Its thread ends with the test.
    #[track_caller]
    pub(crate) fn tcp(namespace: &Namespace, address: &str) -> Self {
        let listener = namespace.inside(|| TcpListener::bind(address)).unwrap();
        Self::serve(listener)
    }

    /// Serves a listener that is there already.
    pub(crate) fn serve(listener: TcpListener) -> Self {
        let came = Arc::new(AtomicUsize::new(0));
        let echo = Self { address: listener.local_addr().unwrap(), came: Arc::clone(&came) };
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                came.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while let Ok(taken @ 1..) = stream.read(&mut buffer) {
                        if stream.write_all(&buffer[..taken]).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        echo
    }

    /// A datagram server in `namespace`. An error that ICMP brought is no reason to stop.
    #[track_caller]
    pub(crate) fn udp(namespace: &Namespace, address: &str) -> Self {
        let socket = namespace.inside(|| UdpSocket::bind(address)).unwrap();
        let came = Arc::new(AtomicUsize::new(0));
        let echo = Self { address: socket.local_addr().unwrap(), came: Arc::clone(&came) };
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                if let Ok((taken, from)) = socket.recv_from(&mut buffer) {
                    came.fetch_add(1, Ordering::SeqCst);
                    let _ = socket.send_to(&buffer[..taken], from);
                }
            }
        });
        echo
    }

    /// How many connections or datagrams came.
    pub(crate) fn came(&self) -> usize {
        self.came.load(Ordering::SeqCst)
    }
}

/// Whether somebody waits to be accepted, or comes within `patience`.
pub(crate) fn somebody_comes(listener: &TcpListener, patience: Duration) -> bool {
    listener.set_nonblocking(true).unwrap();
    let start = Instant::now();
    loop {
        match listener.accept() {
            Ok(_) => return true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("accept: {error}"),
        }
        if start.elapsed() >= patience {
            return false;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// `ADDRESS:PORT`, `[ADDRESS]:PORT` for IPv6.
pub(crate) fn at(address: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(address.into(), port)
}

/// A counter of `/proc/net/snmp` or `/proc/net/netstat` in the namespace of the calling thread: `Tcp`, `OutRsts`.
pub(crate) fn counter(group: &str, name: &str) -> u64 {
    for file in ["snmp", "netstat"] {
        let table = fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap();
        let mut rows = table
            .lines()
            .filter_map(|line| line.strip_prefix(group)?.strip_prefix(':'))
            .map(str::split_ascii_whitespace);
        if let (Some(mut names), Some(mut values)) = (rows.next(), rows.next())
            && let Some(at) = names.position(|known| known == name)
        {
            return values.nth(at).unwrap().parse().unwrap();
        }
    }
    panic!("the kernel does not count {group} {name}")
}
