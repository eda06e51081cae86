//! An agent that is at something long: whoever asks is answered meanwhile.

use std::{
    fs::{DirEntry, read_dir, read_to_string},
    net::{TcpListener, TcpStream},
    os::unix::fs::FileExt,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;
use testbed::wait_until;

use crate::{
    fixture::Bed,
    shared::{DEADLINE, EACCES, connect_errno, host, on},
};

/// The longest that anybody waited for a status while `work` went on, and how often the agent said that it was busy.
fn longest_wait<T: Send>(bed: &Bed, work: impl FnOnce() -> T + Send) -> (T, Duration, usize) {
    thread::scope(|scope| {
        let working = scope.spawn(work);
        let (mut longest, mut busy, mut asked) = (Duration::ZERO, 0, 0);
        while !working.is_finished() || asked == 0 {
            let start = Instant::now();
            let status: Value = serde_json::from_str(&bed.get("/v1/status")).unwrap();
            longest = longest.max(start.elapsed());
            busy += usize::from(status["busy_since"].is_string());
            assert_eq!(status["pid"], bed.pid().as_raw_nonzero().get());
            asked += 1;
        }
        (working.join().unwrap(), longest, busy)
    })
}

/// At once, where other tests have the processors, too; what is gone on with meanwhile takes many times that.
const WITHIN: Duration = Duration::from_secs(5);

/// A list of a million lines.
fn million(bed: &Bed) -> PathBuf {
    let path = bed.path("million.txt");
    let file = std::fs::File::create(&path).unwrap();
    let mut text = String::with_capacity(16 << 20);
    for number in 1..=1_000_000u32 {
        // By an odd number: every address once, scattered, and never that of "any".
        let address = std::net::Ipv4Addr::from(number.wrapping_mul(2_654_435_761));
        text.push_str(&format!("{address}\n"));
    }
    text.push_str("192.0.2.99\n");
    file.write_all_at(text.as_bytes(), 0).unwrap();
    path
}

#[test]
fn status_is_answered_while_a_list_of_a_million_lines_is_imported() {
    let host = host();
    let bed = Bed::new(&host);
    bed.up(&["--deny", "127.0.0.99"]);
    let path = million(&bed);
    let import = || bed.call(&["list", "import", path.to_str().unwrap(), "--force"]);
    let start = Instant::now();
    let (imported, longest, busy) = longest_wait(&bed, import);
    assert!(imported.status.success(), "{imported:?}");
    println!("imported in {:?}, status within {longest:?}, busy {busy} times", start.elapsed());
    assert!(longest < WITHIN, "{longest:?}");
    on(&host, || assert_eq!(connect_errno("192.0.2.99:20000"), Some(EACCES)));
    wait_until(DEADLINE, "an agent at rest", || bed.status()["busy_since"].is_null());
}

#[test]
fn whatever_is_asked_is_done_at_once_while_a_list_of_a_million_lines_is_imported() {
    let host = host();
    let bed = Bed::new(&host);
    let next = bed.file("next.fwnet", "deny any -> 127.0.0.3\n");
    bed.up(&["--policy", &bed.file("first.fwnet", "deny any -> 127.0.0.2\n")]);
    let path = million(&bed);
    let denied = |to: &str| on(&host, || connect_errno(to)) == Some(EACCES);
    thread::scope(|scope| {
        let import = || bed.call(&["list", "import", path.to_str().unwrap(), "--force"]);
        let importing = scope.spawn(import);
        wait_until(DEADLINE, "an agent that compiles the list", || compiles(&bed));
        let at_once = |verb: &[&str]| {
            let start = Instant::now();
            bed.done(verb);
            let waited = start.elapsed();
            println!("{verb:?} in {waited:?}");
            assert!(waited < WITHIN, "{verb:?}: {waited:?}");
            assert!(!importing.is_finished(), "{verb:?} was asked too late");
        };
        at_once(&["panic"]);
        assert!(denied("198.51.100.1:20000"));
        at_once(&["resume"]);
        assert!(!denied("198.51.100.1:20000"));
        at_once(&["deny", "add", "127.0.0.4"]);
        assert!(denied("127.0.0.4:20000"));
        at_once(&["connections"]);
        bed.done(&["apply", &next, "--confirm", "60s"]);
        at_once(&["confirm"]);
        assert!(denied("127.0.0.3:20000"));
        at_once(&["rollback"]);
        assert!(!denied("127.0.0.3:20000") && denied("127.0.0.2:20000"));
        let imported = importing.join().unwrap();
        assert!(imported.status.success(), "{imported:?}");
    });
    // What was done meanwhile holds, and so does the list.
    for (to, expected) in [
        ("127.0.0.2:20000", true),
        ("127.0.0.3:20000", false),
        ("127.0.0.4:20000", true),
        ("192.0.2.99:20000", true),
    ] {
        assert_eq!(denied(to), expected, "{to}");
    }
}

/// Whether the agent has a thread that does not wait for anything, besides its core and its API.
fn compiles(bed: &Bed) -> bool {
    let tasks = format!("/proc/{}/task", bed.pid().as_raw_nonzero());
    let runs = |task: std::io::Result<DirEntry>| {
        let stat = read_to_string(task.unwrap().path().join("stat")).unwrap_or_default();
        stat.contains("(tokio-rt-worker) R ")
    };
    read_dir(tasks).unwrap().any(runs)
}

#[test]
fn status_is_answered_while_ten_thousand_sockets_are_swept() {
    const CONNECTIONS: usize = 5_000;
    let limit = getrlimit(Resource::Nofile);
    let wanted = Some(16_000.max(limit.current.unwrap_or(0)));
    setrlimit(Resource::Nofile, Rlimit { current: wanted, maximum: limit.maximum }).unwrap();
    let host = host();
    let connections: Vec<(TcpStream, TcpStream)> = on(&host, || {
        let listener = TcpListener::bind("127.0.0.3:20100").unwrap();
        let connected = |_| {
            let client = TcpStream::connect("127.0.0.3:20100").unwrap();
            (client, listener.accept().unwrap().0)
        };
        (0..CONNECTIONS).map(connected).collect()
    });
    let bed = Bed::new(&host);
    bed.up(&["--deny", "127.0.0.99"]);
    let deny = || bed.done(&["deny", "add", "127.0.0.3", "--existing", "revoke", "-o", "json"]);
    let start = Instant::now();
    let (added, longest, busy) = longest_wait(&bed, deny);
    println!("swept in {:?}, status within {longest:?}, busy {busy} times", start.elapsed());
    assert!(longest < WITHIN, "{longest:?}");
    let added: Value = serde_json::from_str(&added).unwrap();
    let revoked = added["revoked"]["connections"].as_u64().unwrap();
    assert!(revoked >= CONNECTIONS as u64, "{added:#}");
    assert_eq!(added["revoked"]["failures"], 0);
    assert_eq!(bed.status()["revoked"]["connections"], revoked);
    drop(connections);
}
