//! The API: its description is held against a running agent by a program that nobody here wrote, every error is JSON,
//! and who may do what.

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use serde_json::Value;
use testbed::wait_until;

use crate::{
    fixture::Bed,
    shared::{DEADLINE, EACCES, complaint, connect_errno, host, on, text},
};

/// The path that the program leaves out, because it ends the agent: it has a test of its own.
const LEFT_OUT: &str = "/v1/down";
/// No description says what is a policy, an address or a path: most texts are none, and are refused.
const TEXTS: [&str; 4] = ["/v1/apply", "/v1/deny", "/v1/lists/{name}", "/v1/events"];
/// Events are asked for as pages: what follows goes on for as long as somebody listens, and has a test of its own.
const PAGES: &str = "parameters = { \"query.follow\" = false }\n";
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
    // The last of them is that of the events.
    bed.file("schemathesis.toml", &(settings.concat() + PAGES));
    let mut tried = Command::new(schemathesis());
    tried
        .current_dir(bed.path(""))
        .env("NO_COLOR", "1")
        .args(["run", &format!("http://127.0.0.1:{port}/v1/openapi.json")])
        .args(["--seed", "1", "--max-time", TRY_FOR_S])
        .args(["--generation-database", "none", "--request-timeout", "30"]);
    tried.args(["--exclude-path", LEFT_OUT]);
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
    bed.up_here(&["--deny", "127.0.0.2"]);
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
        (format!("DELETE /v1/lists/%ff HTTP/1.1\r\n{head}\r\n"), 400),
        (format!("GET /v1/flows?since=%ff HTTP/1.1\r\n{head}\r\n"), 400),
    ] {
        let (answered, body) = answer(&bed, &request);
        let error = body["error"].as_str().unwrap_or_default();
        assert!(answered == status && !error.is_empty(), "{request}: {answered} {body}");
    }
}

/// Whether a value is what the description says of a schema of that name: its properties, and no others, each of its type.
fn is_described(description: &Value, schema: &str, value: &Value) -> bool {
    let schema = &description["components"]["schemas"][schema];
    let properties = schema["properties"].as_object().unwrap();
    let required = schema["required"].as_array().unwrap();
    let is_of = |kind: &Value, value: &Value| match kind.as_str() {
        Some("string") => value.is_string(),
        Some("integer") => value.is_u64() || value.is_i64(),
        Some("array") => value.is_array(),
        Some("null") => value.is_null(),
        other => panic!("{other:?} is not known here"),
    };
    let fits = |(name, value): (&String, &Value)| {
        let kind = &properties[name]["type"];
        let one = std::slice::from_ref(kind);
        kind.as_array().map_or(one, Vec::as_slice).iter().any(|kind| is_of(kind, value))
    };
    let value = value.as_object().unwrap();
    required.iter().all(|name| value.contains_key(name.as_str().unwrap())) && value.iter().all(fits)
}

#[test]
fn down_is_what_its_description_says_and_the_last_that_is_answered() {
    let host = host();
    let bed = Bed::new(&host);
    bed.up(&["--deny", "127.0.0.2"]);
    let pid = bed.pid();
    let description: Value = serde_json::from_str(&bed.get("/v1/openapi.json")).unwrap();
    let responses = description["paths"]["/v1/down"]["post"]["responses"].as_object().unwrap();
    let down = |kind: &str, body: &str| {
        let head = "Host: a\r\nConnection: close\r\n";
        let length = body.len();
        let request =
            format!("POST /v1/down HTTP/1.1\r\n{head}{kind}Content-Length: {length}\r\n\r\n{body}");
        answer(&bed, &request)
    };
    let json = "Content-Type: application/json\r\n";
    let long = format!("{{\"session\":\"{}\"}}", "x".repeat(300));
    for (kind, body, expected) in [
        ("", "{}", 415),
        (json, "{", 400),
        (json, "7", 422),
        (json, "{\"final\":\"ajar\"}", 422),
        (json, "{\"final\":null}", 400),
        (json, "{\"session\":7}", 422),
        (json, "{\"more\":true}", 422),
        (json, &long, 422),
    ] {
        let (status, said) = down(kind, body);
        assert_eq!(status, expected, "{body}: {said}");
        assert!(responses.contains_key(&status.to_string()), "{status} is not described");
        assert!(is_described(&description, "Wrong", &said), "{said}");
        assert_eq!(bed.status()["pid"], pid.as_raw_nonzero().get(), "{body} has ended it");
    }
    let (status, said) = down(json, "{\"final\":\"open\",\"session\":null}");
    assert_eq!(status, 200, "{said}");
    assert!(is_described(&description, "TakenOff", &said), "{said}");
    assert_eq!(
        (&said["pid"], &said["left"]),
        (&pid.as_raw_nonzero().get().into(), &[""; 0][..].into())
    );
    assert!(!said["links"].as_array().unwrap().is_empty(), "{said}");
    wait_until(DEADLINE, "the end of the agent", || {
        UnixStream::connect(bed.path("agent.sock")).is_err()
    });
}

#[test]
fn whoever_follows_the_events_hears_them_as_they_come_and_a_sign_of_life_until_he_hangs_up() {
    let host = host();
    let bed = Bed::new(&host);
    bed.up(&["--deny", "127.0.0.2"]);
    let descriptors = || {
        let path = format!("/proc/{}/fd", bed.pid().as_raw_nonzero());
        fs::read_dir(path).unwrap().count()
    };
    let before = descriptors();
    let mut stream = UnixStream::connect(bed.path("agent.sock")).unwrap();
    write!(stream, "GET /v1/events?follow=true&verdict=denied HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "HTTP/1.1 200 OK");
    let head: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    assert!(head.contains(&"content-type: application/x-ndjson".to_owned()), "{head:?}");
    assert!(head.contains(&"transfer-encoding: chunked".to_owned()), "{head:?}");
    // Chunks are lengths in hexadecimal, and what they hold.
    let mut told =
        |wanted: &dyn Fn(&str) -> bool| lines.by_ref().take(100).find(|line| wanted(line));
    assert_eq!(on(&host, || connect_errno("127.0.0.2:20000")), Some(EACCES));
    let event = told(&|line| line.starts_with('{')).expect("the denial");
    let event: Value = serde_json::from_str(&event).unwrap();
    assert_eq!(event["destination"]["ip"], "127.0.0.2", "{event}");
    // An empty line every five seconds is a chunk of one byte.
    assert!(told(&|line| line == "1").is_some());
    drop(lines);
    wait_until(DEADLINE, "an end of it", || descriptors() <= before);
    assert_eq!(bed.status()["pid"], bed.pid().as_raw_nonzero().get());
    // What cannot be followed is refused before it begins.
    for (query, expected) in
        [("follow=true&limit=1", 422), ("follow=maybe", 400), ("peer=nobody", 422)]
    {
        let request =
            format!("GET /v1/events?{query} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let (status, said) = answer(&bed, &request);
        assert!(status == expected && said["error"].is_string(), "{query}: {status} {said}");
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
