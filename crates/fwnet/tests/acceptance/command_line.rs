//! What `fwnet run` makes of bad input: one line on standard error that names the argument, exit code 2 for a wrong command
//! line and 1 for what the machine does not have, and nothing attached.

use std::{
    ffi::OsString,
    os::unix::fs::PermissionsExt,
    process::{Command, Output},
};

use testbed::Host;

use crate::shared::{ECONNREFUSED, complaint, connect_errno, fwnet_run, host, on};

/// Runs it with these arguments behind a cgroup and a namespace that exist, and checks everything but the line itself.
#[track_caller]
fn refused(host: &Host, arguments: &[&str], code: i32, named: &[&str]) -> String {
    let mut all: Vec<OsString> = Vec::new();
    if !arguments.contains(&"--cgroup") {
        all.extend(["--cgroup".into(), host.cgroup.path().into()]);
    }
    if !arguments.contains(&"--netns") {
        all.extend(["--netns".into(), host.namespace.name().into()]);
    }
    all.extend(arguments.iter().map(OsString::from));
    told(host, &fwnet_run(&all).output().unwrap(), code, named)
}

#[track_caller]
fn told(host: &Host, output: &Output, code: i32, named: &[&str]) -> String {
    let line = complaint(output);
    assert_eq!(output.status.code(), Some(code), "{line}");
    assert!(output.stdout.is_empty(), "{output:?}");
    assert_eq!(line.matches('\n').count(), 1, "one line: {line:?}");
    assert!(line.starts_with("fwnet: ") && line.ends_with('\n'), "{line:?}");
    for name in named {
        assert!(line.contains(name), "{name:?} is not named: {line}");
    }
    // Nothing is attached: what the flags would have denied is only closed.
    assert_eq!(on(host, || connect_errno("127.0.0.2:20000")), Some(ECONNREFUSED));
    line
}

#[test]
fn a6_a_bad_address_is_an_error() {
    let host = host();
    let cases = [
        "192.168.56.400",
        "300.1.1.1",
        "1.2.3",
        "1.2.3.4.5",
        "localhost",
        "",
        " 127.0.0.2",
        "127.0.0.2 ",
        "0x7f000002",
        "2130706434",
        "127.0.0.02",
        "::g",
        "1::2::3",
        "fe80::1%eth0",
        "127.0.0.2/33",
        "127.0.0.2/-1",
        "127.0.0.2/",
        "127.0.0.2/a",
        "::1/129",
        "127.0.0.2/8",
        "2001:db8::1/32",
        "127.0.0.2/255.0.0.0",
        "0.0.0.0",
        "::",
    ];
    for address in cases {
        let line = refused(&host, &["--deny", "127.0.0.2", "--deny", address], 2, &["--deny"]);
        assert!(line.contains(address.trim()), "{address:?}: {line}");
    }
}

#[test]
fn a7_a_bad_port_is_an_error() {
    let host = host();
    let cases = [
        "70000",
        "65536",
        "-1",
        "0",
        "",
        "http",
        "80-",
        "-",
        "10-9",
        "1-65536",
        "0-10",
        "80,443",
        "+80",
        "1e3",
        "80 ",
        "4294967376",
    ];
    for port in cases {
        let line = refused(&host, &["--deny", "127.0.0.2", "--port", port], 2, &["--port"]);
        assert!(line.contains(port.trim()), "{port:?}: {line}");
    }
}

#[test]
fn a_wrong_flag_or_value_is_an_error() {
    let host = host();
    for (arguments, named) in [
        (&["--dney", "127.0.0.2"][..], "--dney"),
        (&["--deny"], "--deny"),
        (&["--deny", "127.0.0.2", "extra"], "extra"),
        (&["--debug", "3"], "--debug"),
        (&["--debug", "-1"], "--debug"),
        (&["--debug", "x"], "--debug"),
        (&["--inbound", "maybe"], "--inbound"),
        (&["-o", "xml"], "xml"),
        (&["--debug", "1", "--debug", "2"], "--debug"),
    ] {
        refused(&host, arguments, 2, &[named]);
    }
}

#[test]
fn a9_what_the_machine_does_not_have_is_named() {
    let host = host();
    let absent = host.cgroup.path().join("absent");
    let absent = absent.to_str().unwrap();
    let file = host.cgroup.path().join("cgroup.procs");
    let file = file.to_str().unwrap();
    let deny = ["--deny", "127.0.0.2"];
    let cases: [(&str, &str, &[&str]); 7] = [
        ("--cgroup", absent, &["--cgroup", absent, "No such file"]),
        ("--cgroup", "/tmp", &["--cgroup", "/tmp", "not a cgroup"]),
        ("--cgroup", file, &["--cgroup", file, "not a cgroup"]),
        ("--netns", "no-such-namespace", &["--netns", "no-such-namespace", "No such file"]),
        ("--netns", "/tmp", &["--netns", "/tmp", "not a network namespace"]),
        (
            "--netns",
            "/proc/self/ns/mnt",
            &["--netns", "/proc/self/ns/mnt", "not a network namespace"],
        ),
        ("--netns", "", &["--netns"]),
    ];
    for (flag, value, named) in cases {
        refused(&host, &[deny[0], deny[1], flag, value], 1, named);
    }
}

/// The program where anybody may run it: the directory it was built in may be closed to others.
fn copy_for_all() -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("fwnet-a12-{}", std::process::id()));
    std::fs::copy(env!("CARGO_BIN_EXE_fwnet"), &path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a12_without_privilege_it_says_what_it_needs() {
    let host = host();
    let program = copy_for_all();
    let run = |identity: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(identity).arg("--").arg(&program).arg("run");
        command
            .arg("--cgroup")
            .arg(host.cgroup.path())
            .args(["--deny", "127.0.0.2"])
            .output()
            .unwrap()
    };
    let nobody = run(&["--reuid=65534", "--regid=65534", "--clear-groups"]);
    told(&host, &nobody, 1, &["CAP_BPF", "CAP_NET_ADMIN"]);
    // Root without its capabilities is nobody too.
    let bare = run(&["--bounding-set=-bpf,-net_admin,-sys_admin", "--inh-caps=-all"]);
    told(&host, &bare, 1, &["CAP_BPF", "CAP_NET_ADMIN"]);
    let mut doctor = Command::new("setpriv");
    doctor
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(&program)
        .arg("doctor");
    told(&host, &doctor.output().unwrap(), 1, &["CAP_BPF"]);
    std::fs::remove_file(program).unwrap();
}
