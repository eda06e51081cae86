//! The policy verbs over one shop: what they print, and the exit codes: 0 fine or allow, 1 finding or deny, 2 error.
//!
//! The expected outputs are files in `data/verbs`. `FWNET_WRITE_EXPECTED=1` writes them anew, to be read before they are
//! committed.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

const FWNET: &str = env!("CARGO_BIN_EXE_fwnet");

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/verbs")
}

/// How a run ended.
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs it where the documents are, outside of any SSH session, `input` on its standard input.
#[track_caller]
fn run_with(arguments: &str, session: Option<&str>, input: &str) -> Ended {
    let mut command = Command::new(FWNET);
    command.args(arguments.split_whitespace().map(|word| word.replace('~', " ")));
    command.current_dir(data()).env_remove("SSH_CONNECTION");
    if let Some(session) = session {
        command.env("SSH_CONNECTION", session);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A program that does not read closes the pipe.
    let _written = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Ended {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

#[track_caller]
fn run(arguments: &str) -> Ended {
    run_with(arguments, None, "")
}

/// Blanks inside of an argument are `~`.
#[track_caller]
fn prints(arguments: &str, code: i32, expected: &str) {
    let ended = run(arguments);
    assert_eq!(ended.code, Some(code), "fwnet {arguments}\n{}{}", ended.out, ended.err);
    let path = data().join(expected);
    if env::var_os("FWNET_WRITE_EXPECTED").is_some() {
        fs::write(&path, &ended.out).unwrap();
    }
    let wanted = fs::read_to_string(&path).unwrap();
    assert_eq!(ended.out, wanted, "fwnet {arguments}, compared with {expected}");
}

const SHOP: &str = "shop.fwnet --inventory shop.toml";

#[test]
fn check_says_what_is_wrong_and_how_large_it_is() {
    prints(&format!("check {SHOP}"), 0, "check.txt");
    prints("check typo.fwnet --inventory shop.toml", 2, "check-typo.txt");
    prints("check typo.fwnet --inventory shop.toml --format short", 2, "check-typo-short.txt");
    prints("check failing.fwnet --inventory shop.toml --host db-1", 1, "check-failing.txt");
    let sarif = run("check typo.fwnet --inventory shop.toml --format sarif").out;
    let sarif: Value = serde_json::from_str(&sarif).unwrap();
    assert_eq!(sarif["version"], "2.1.0");
    let place = &sarif["runs"][0]["results"][0]["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "typo.fwnet");
    assert_eq!(place["region"]["startLine"], 6);
}

#[test]
fn check_as_json_says_the_same() {
    let ended = run(&format!("check {SHOP} -o json --host db-1"));
    let value: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(ended.code, Some(0));
    assert_eq!((&value["errors"], &value["warnings"]), (&Value::from(0), &Value::from(0)));
    assert_eq!(value["tests"].as_array().unwrap().len(), 3);
    assert!(value["tests"].as_array().unwrap().iter().all(|test| test["passed"] == true));
    assert_eq!(value["lockout"]["failsafe"][0]["place"], "shop.fwnet:15");
    let [host] = value["hosts"].as_array().unwrap().as_slice() else { panic!("one host") };
    assert_eq!((&host["host"], &host["fits"]), (&Value::from("db-1"), &Value::from(true)));
    let bytes = host["image"]["bytes"].as_u64().unwrap();
    assert_eq!(bytes, 64 * host["image"]["budgets"]["lines"]["used"].as_u64().unwrap());
}

#[test]
fn a_session_that_would_be_denied_is_a_finding() {
    let check = format!("check {SHOP} --host db-1");
    let allowed = run_with(&check, Some("10.0.0.5 50000 10.0.3.11 22"), "");
    assert_eq!(allowed.code, Some(0), "{}", allowed.out);
    let denied = run_with(&check, Some("198.51.100.7 50000 10.0.3.11 22"), "");
    assert_eq!(denied.code, Some(1), "{}", denied.out);
    let wanted = "lock-out: this SSH session (198.51.100.7 -> 10.0.3.11:22) would be denied on db-1 by `default deny in` (shop.fwnet:14)";
    assert!(denied.out.lines().any(|line| line == wanted), "{}", denied.out);
}

#[test]
fn an_empty_failsafe_set_is_warned_of() {
    for (text, warned) in [
        ("failsafe none\n", "the failsafe set is empty"),
        ("default deny in\n", "no policy has a `failsafe` line"),
    ] {
        let ended = run_with("check -", None, text);
        assert_eq!(ended.code, Some(0), "{}", ended.out);
        assert!(ended.out.contains("warning: ") && ended.out.contains(warned), "{}", ended.out);
    }
    let quiet = run_with("check -", None, "default allow in\ndefault allow out\n");
    assert!(!quiet.out.contains("failsafe"), "{}", quiet.out);
}

#[test]
fn explain_names_the_rule_and_its_line() {
    prints(&format!("explain web-1[user=www-data]~->~app-1~:~tcp/8080 {SHOP}"), 0, "explain.txt");
    prints(&format!("explain web-1~->~db-1~:~tcp/5432 {SHOP}"), 1, "explain-denied.txt");
    let ended = run(&format!("explain web-1~->~db-1~:~tcp/5433 {SHOP} -o json"));
    let value: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(ended.code, Some(1));
    let [out, into] = value["ends"].as_array().unwrap().as_slice() else { panic!("two ends") };
    assert_eq!(
        (&out["host"], &out["verdict"], &out["line"]),
        (&"web-1".into(), &"deny".into(), &11.into())
    );
    assert_eq!(
        (&into["host"], &into["verdict"], &into["line"]),
        (&"db-1".into(), &"deny".into(), &11.into())
    );
    assert_eq!((&value["verdict"], &value["line"]), (&"deny".into(), &11.into()));
    assert_eq!((&value["rule"], &value["file"]), (&"no-replica".into(), &"shop.fwnet".into()));
}

#[test]
fn tests_fail_with_the_rule_that_decides() {
    prints(&format!("test {SHOP}"), 0, "test.txt");
    prints("test failing.fwnet --inventory shop.toml", 1, "test-failing.txt");
}

#[test]
fn analyses_speak_of_groups() {
    prints("diff shop.fwnet failing.fwnet --inventory shop.toml", 1, "diff.txt");
    prints("diff shop.fwnet shop.fwnet --inventory shop.toml", 0, "diff-none.txt");
    prints(&format!("matrix tcp/5432 {SHOP}"), 0, "matrix.txt");
    prints(&format!("who-can-reach db-1:5432 {SHOP}"), 0, "who-can-reach.txt");
    prints(&format!("who-can-reach db-1:udp/9 {SHOP}"), 0, "who-can-reach-udp.txt");
    prints("lint lint.fwnet --inventory shop.toml", 1, "lint.txt");
}

#[test]
fn fmt_keeps_comments_and_writes_in_place() {
    let ragged = "allow   role=web->role=app:tcp/8080 # why\n\n\n\n# alone\ndefault   deny in";
    let tidy = "allow role=web -> role=app : tcp/8080  # why\n\n# alone\ndefault deny in\n";
    let ended = run_with("fmt -", None, ragged);
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), tidy), "{}", ended.err);
    let path = env::temp_dir().join(format!("fwnet-fmt-{}.fwnet", std::process::id()));
    fs::write(&path, ragged).unwrap();
    let file = path.to_str().unwrap();
    let checked = run(&format!("fmt --check {file}"));
    assert_eq!((checked.code, checked.out), (Some(1), format!("{file}\n")));
    assert_eq!(fs::read_to_string(&path).unwrap(), ragged, "--check writes nothing");
    assert_eq!(run(&format!("fmt --write {file}")).code, Some(0));
    assert_eq!(fs::read_to_string(&path).unwrap(), tidy);
    let checked = run(&format!("fmt --check {file}"));
    assert_eq!((checked.code, checked.out.as_str()), (Some(0), ""));
    fs::remove_file(&path).unwrap();
    assert_eq!(run_with("fmt -", None, "allow web\n").code, Some(2));
    assert_eq!(run_with("fmt --write -", None, tidy).code, Some(2));
}

#[test]
fn convert_goes_both_ways() {
    let text = run("fmt shop.fwnet").out;
    let json = run("convert shop.fwnet");
    assert!(json.out.starts_with('{'), "{}", json.out);
    let back = run_with("convert -", None, &json.out);
    assert_eq!((back.code, back.out), (Some(0), text));
    let same = run_with("convert - --to json", None, &json.out);
    assert_eq!(same.out, json.out);
    let formatted = run_with("fmt -", None, &json.out);
    assert_eq!(formatted.out, json.out, "a JSON document stays JSON");
}

/// Everything that is no answer ends with 2 and says why on standard error.
#[test]
fn errors_are_not_findings() {
    for arguments in [
        "check",
        "check no-such-file",
        "check shop.fwnet --inventory no-such-file",
        "check shop.fwnet --inventory shop.fwnet",
        "check shop.fwnet --inventory shop.toml --host nobody",
        "check - --policy -",
        "explain nonsense shop.fwnet --inventory shop.toml",
        "explain web-1~->~nobody~:~tcp/1 shop.fwnet --inventory shop.toml",
        "test typo.fwnet --inventory shop.toml",
        "diff shop.fwnet --inventory shop.toml",
        "matrix tcp/0 shop.fwnet --inventory shop.toml",
        "who-can-reach db-1 shop.fwnet --inventory shop.toml",
        "who-can-reach nobody:1 shop.fwnet --inventory shop.toml",
        "import carrier-pigeon shop.fwnet",
    ] {
        let ended = run(arguments);
        assert_eq!(ended.code, Some(2), "fwnet {arguments}: {}", ended.err);
        assert!(ended.err.contains("fwnet: "), "fwnet {arguments}: {}", ended.err);
        assert_eq!(ended.out, "", "fwnet {arguments}");
    }
}
