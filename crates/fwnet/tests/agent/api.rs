//! The API: its description is held against a running agent by a program that nobody here wrote, every error is JSON,
//! and who may do what.

use std::{
    env, fs,
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use serde_json::Value;

use crate::{
    fixture::Bed,
    shared::{complaint, host, text},
};

/// Paths that the program leaves out: one ends the agent, and one goes on for as long as somebody listens.
const LEFT_OUT: [&str; 2] = ["/v1/down", "/v1/events"];
/// No description says what is a policy, an address or a path: most texts are none, and are refused.
const TEXTS: [&str; 3] = ["/v1/apply", "/v1/deny", "/v1/lists/{name}"];
/// Seconds that it may take.
const TRY_FOR_S: &str = "20";

/// Lets clients that know no Unix sockets talk to the agent: a port on loopback whose connections are passed on.
fn reachable(socket: PathBuf) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(agent) = UnixStream::connect(&socket) else { continue };
            pass_on(client, agent);
        }
    });
    port
}

fn pass_on(client: TcpStream, agent: UnixStream) {
    let (mut from_client, mut to_agent) = (client.try_clone().unwrap(), agent.try_clone().unwrap());
    let (mut from_agent, mut to_client) = (agent, client);
    thread::spawn(move || {
        let _copied = io::copy(&mut from_client, &mut to_agent);
        let _closed = to_agent.shutdown(Shutdown::Write);
    });
    thread::spawn(move || {
        let _copied = io::copy(&mut from_agent, &mut to_client);
        let _closed = to_client.shutdown(Shutdown::Both);
    });
}

/// Where `cargo xtask test` installs it, or wherever it is.
fn schemathesis() -> PathBuf {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/xtask/schemathesis/bin");
    let path = env::var_os("PATH").unwrap_or_default();
    let mut places = env::split_paths(&path).collect::<Vec<_>>();
    places.insert(0, ours);
    let found = places.iter().map(|place| place.join("schemathesis")).find(|it| it.is_file());
    found.expect("schemathesis is missing: cargo xtask test installs it")
}

#[test]
fn the_description_is_what_the_agent_does() {
    let host = host();
    let bed = Bed::new(&host);
    bed.up(&["--policy", &bed.file("p.fwnet", "failsafe any -> me : tcp/22\n")]);
    let port = reachable(bed.path("agent.sock"));
    let settings = TEXTS.map(|path| {
        format!("[[operations]]\ninclude-path = \"{path}\"\nchecks.positive_data_acceptance.enabled = false\n")
    });
    bed.file("schemathesis.toml", &settings.concat());
    let mut tried = Command::new(schemathesis());
    tried
        .current_dir(bed.path(""))
        .env("NO_COLOR", "1")
        .args(["run", &format!("http://127.0.0.1:{port}/v1/openapi.json")])
        .args(["--seed", "1", "--max-time", TRY_FOR_S])
        .args(["--generation-database", "none", "--request-timeout", "30"]);
    for path in LEFT_OUT {
        tried.args(["--exclude-path", path]);
    }
    let tried = tried.output().unwrap();
    assert!(tried.status.success(), "{}\n{}", text(&tried), complaint(&tried));
    assert!(!text(&tried).contains("Unresolvable"), "{}", text(&tried));
    // And it is still there, as it was.
    assert_eq!(bed.status()["pid"], bed.pid().as_raw_nonzero().get());
}

/// Status and body of what the agent answers to these bytes.
fn answer(bed: &Bed, request: &str) -> (u16, Value) {
    let mut stream = UnixStream::connect(bed.path("agent.sock")).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}")))
}

#[test]
fn every_error_is_a_sentence_in_json() {
    let host = host();
    let bed = Bed::new(&host);
    bed.up(&["--deny", "127.0.0.2"]);
    let head = "Host: a\r\nConnection: close\r\n";
    let json = "Content-Type: application/json\r\n";
    let long = "x".repeat(300);
    for (request, status) in [
        (format!("GET /v1/nothing HTTP/1.1\r\n{head}\r\n"), 404),
        (format!("DELETE /v1/status HTTP/1.1\r\n{head}\r\n"), 405),
        (format!("POST /v1/apply HTTP/1.1\r\n{head}Content-Length: 2\r\n\r\n{{}}"), 415),
        (format!("POST /v1/apply HTTP/1.1\r\n{head}{json}Content-Length: 1\r\n\r\n{{"), 400),
        (format!("POST /v1/apply HTTP/1.1\r\n{head}{json}Content-Length: 2\r\n\r\n{{}}"), 422),
        (
            format!(
                "POST /v1/confirm HTTP/1.1\r\n{head}{json}Content-Length: {}\r\n\r\n{{\"session\":\"{long}\"}}",
                long.len() + 14
            ),
            422,
        ),
        (format!("POST /v1/confirm HTTP/1.1\r\n{head}{json}Content-Length: 2\r\n\r\n{{}}"), 409),
        (format!("POST /v1/rollback HTTP/1.1\r\n{head}{json}Content-Length: 2\r\n\r\n{{}}"), 409),
    ] {
        let (answered, body) = answer(&bed, &request);
        let error = body["error"].as_str().unwrap_or_default();
        assert!(answered == status && !error.is_empty(), "{request}: {answered} {body}");
    }
}

#[test]
fn a_reader_reads_and_others_are_kept_out() {
    let host = host();
    let bed = Bed::new(&host);
    let groups = fs::read_to_string("/etc/group").unwrap();
    let gid = |name: &str| {
        let line = groups.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap();
        line.split(':').nth(2).unwrap().to_owned()
    };
    bed.up(&["--deny", "127.0.0.2", "--socket-group", "adm", "--read-group", "daemon"]);
    fs::set_permissions(bed.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let as_group = |gid: &str, method: &str, path: &str| {
        let output = Command::new("setpriv")
            .args(["--reuid", "65534", "--regid", gid, "--clear-groups", "curl", "-s"])
            .args(["-H", "Content-Type: application/json", "-d", "{}", "-X", method])
            .args(["-w", "%{http_code}", "-o", "/dev/null", "--unix-socket"])
            .arg(bed.path("agent.sock"))
            .arg(format!("http://agent{path}"))
            .output()
            .unwrap();
        text(&output)
    };
    for (group, get, post) in
        [("adm", "200", "409"), ("daemon", "200", "403"), ("games", "403", "403")]
    {
        let seen = (
            as_group(&gid(group), "GET", "/v1/status"),
            as_group(&gid(group), "POST", "/v1/confirm"),
        );
        assert_eq!((&*seen.0, &*seen.1), (get, post), "{group}");
    }
}
