//! An agent that is at something long: it answers who asks for its status meanwhile, and says that it is busy.

use std::{
    net::{TcpListener, TcpStream},
    os::unix::fs::FileExt,
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

const WITHIN: Duration = Duration::from_secs(1);

#[test]
fn status_is_answered_while_a_list_of_a_million_lines_is_imported() {
    let host = host();
    let bed = Bed::new(&host);
    bed.up(&["--deny", "127.0.0.99"]);
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
