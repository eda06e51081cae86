//! An agent on a host of the test's own, and what becomes of it.

use std::{
    env,
    fs::{self, OpenOptions},
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use testbed::{Host, Namespace, wait_until};

use crate::shared::{DEADLINE, complaint, fwnet, text};

/// A place on disk for one agent. Its end ends the agent, and takes everything off.
#[derive(Debug)]
pub(crate) struct Bed {
    directory: PathBuf,
    arguments: Vec<String>,
}

impl Bed {
    /// For an agent that judges `host`. Nothing runs yet.
    pub(crate) fn new(host: &Host) -> Self {
        Self::judging(host.cgroup.path(), &host.namespace)
    }

    /// For an agent that judges a cgroup and a namespace.
    pub(crate) fn judging(cgroup: &Path, namespace: &Namespace) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = env::temp_dir().join(format!("fwnet-agent-{}-{count}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let arguments =
            ["--cgroup", cgroup.to_str().unwrap(), "--netns", namespace.path().to_str().unwrap()];
        Self { directory, arguments: arguments.map(str::to_owned).to_vec() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Writes a file of the test's, and returns its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn paths(&self) -> [String; 6] {
        let of = |name: &str| self.path(name).to_str().unwrap().to_owned();
        [
            "--state".into(),
            of("state"),
            "--bpffs".into(),
            of("bpf"),
            "--socket".into(),
            of("agent.sock"),
        ]
    }

    /// `fwnet up` with these arguments besides those that say where.
    #[track_caller]
    pub(crate) fn try_up(&self, arguments: &[&str]) -> Output {
        let mut command = fwnet(&["up"]);
        command.args(&self.arguments).args(self.paths()).args(arguments);
        command.env("SSH_CONNECTION", "").output().unwrap()
    }

    /// The same, which must work.
    #[track_caller]
    pub(crate) fn up(&self, arguments: &[&str]) -> String {
        fine(&self.try_up(arguments))
    }

    /// The same from its own directory, where the state and the socket are found by what they are called there.
    #[track_caller]
    pub(crate) fn up_here(&self, arguments: &[&str]) -> String {
        let mut command = fwnet(&["up", "--state", "state", "--socket", "agent.sock", "--bpffs"]);
        command.arg(self.path("bpf")).args(&self.arguments).args(arguments);
        fine(&command.current_dir(&self.directory).env("SSH_CONNECTION", "").output().unwrap())
    }

    /// `fwnet agent` in the foreground, which must end by itself.
    #[track_caller]
    pub(crate) fn agent(&self) -> Output {
        fwnet(&["agent"]).args(self.paths()).output().unwrap()
    }

    /// A verb that talks to the agent, typed at the machine itself.
    #[track_caller]
    pub(crate) fn call(&self, verb: &[&str]) -> Output {
        self.call_from("", verb)
    }

    /// The same, typed in an SSH session.
    #[track_caller]
    pub(crate) fn call_from(&self, session: &str, verb: &[&str]) -> Output {
        let mut command = fwnet(verb);
        match verb.first() {
            // These do without an agent, too.
            Some(&("down" | "panic" | "resume")) => command.args(self.paths()),
            _ => command.arg("--socket").arg(self.path("agent.sock")),
        };
        command.env("SSH_CONNECTION", session).output().unwrap()
    }

    /// The same, which must work; what it printed.
    #[track_caller]
    pub(crate) fn done(&self, verb: &[&str]) -> String {
        fine(&self.call(verb))
    }

    /// The same, which must end with that code; what it complained.
    #[track_caller]
    pub(crate) fn refused(&self, verb: &[&str], code: i32) -> String {
        let output = self.call(verb);
        assert_eq!(output.status.code(), Some(code), "{} {}", text(&output), complaint(&output));
        complaint(&output)
    }

    /// What the API answers to GET, as it is.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> String {
        let mut stream = UnixStream::connect(self.path("agent.sock")).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        body.to_owned()
    }

    /// What `fwnet status` says.
    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&self.done(&["status", "-o", "json"])).unwrap()
    }

    /// The agent's process.
    pub(crate) fn pid(&self) -> Pid {
        running(&self.path("state")).expect("an agent runs")
    }

    /// Ends the agent by a signal, and waits for its end.
    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.pid();
        kill_process(pid, signal).unwrap();
        wait_until(DEADLINE, "the end of the agent", || running(&self.path("state")).is_none());
    }

    /// Starts another agent after the end of one, and waits until it answers.
    #[track_caller]
    pub(crate) fn start_again(&self) {
        let log = self.path("again.log");
        let log = OpenOptions::new().create(true).append(true).open(log).unwrap();
        let mut command = fwnet(&["agent"]);
        command.args(self.paths()).arg("--detached").stdin(Stdio::null());
        let mut agent = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        thread::spawn(move || agent.wait());
        wait_until(DEADLINE, "an answer", || self.call(&["status"]).status.success());
    }

    /// What the agents printed.
    pub(crate) fn log(&self) -> String {
        let logs = ["state/agent.log", "again.log"].map(|name| self.path(name));
        logs.map(|log| fs::read_to_string(log).unwrap_or_default()).concat()
    }

    /// A verb that talks to the agent, with something on its standard input.
    #[track_caller]
    pub(crate) fn call_piped(&self, verb: &[&str], input: &str) -> Output {
        let mut command = fwnet(verb);
        command.arg("--socket").arg(self.path("agent.sock")).env("SSH_CONNECTION", "");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = command.spawn().unwrap();
        running.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        running.wait_with_output().unwrap()
    }
}

/// What a verb printed that worked.
#[track_caller]
pub(crate) fn fine(output: &Output) -> String {
    assert!(output.status.success(), "{} {}", text(output), complaint(output));
    text(output)
}

/// The process that holds a state directory.
fn running(state: &Path) -> Option<Pid> {
    let lock = fs::read_to_string(state.join("agent.lock")).ok()?;
    let pid = Pid::from_raw(lock.trim().parse().ok()?)?;
    // A process that has ended is there until somebody waits for it; whoever started it has gone, so that is not us.
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // Its other threads may end after the first, and hold its socket until then.
    let threads = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).ok()?.count();
    let ended = stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')) && threads < 2;
    (!ended && test_kill_process(pid).is_ok()).then_some(pid)
}

impl Drop for Bed {
    fn drop(&mut self) {
        let down = || fwnet(&["down"]).args(self.paths()).output();
        let _down = down();
        if let Some(pid) = running(&self.path("state")) {
            // It did not answer: what it leaves is taken off without it.
            let _killed = kill_process(pid, Signal::KILL);
            let _down = down();
        }
        // What stays in the directory for temporary files does no harm.
        let _removed = fs::remove_dir_all(&self.directory);
    }
}
