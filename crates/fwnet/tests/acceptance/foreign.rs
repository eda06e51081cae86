//! Programs that nobody here wrote, as clients and as servers: Python, curl, ncat, and where they are installed bash, Perl,
//! Node.js, Java and Go. Each says in its own words what the kernel told it.

use std::{
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use testbed::Host;

use crate::shared::{
    DEADLINE, ECONNREFUSED, Enforcing, complaint, connect_errno, data, host, run_on, star, text,
};

/// A program and how it is told to connect to, or to serve, `ADDRESS` and `PORT`; what it says of EACCES.
struct Foreign {
    name: &'static str,
    /// Whether the tests may go without it.
    optional: bool,
    arguments: Vec<String>,
    denied: &'static str,
}

/// Whether a program can be started.
fn installed(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
}

fn script(name: &str) -> String {
    data(name).to_str().unwrap().to_owned()
}

impl Foreign {
    fn new(name: &'static str, denied: &'static str, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Self { name, optional: !matches!(name, "python3" | "curl" | "ncat"), arguments, denied }
    }

    fn arguments(&self, address: &str, port: u16) -> Vec<String> {
        let shown = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        let fill = |text: &String| {
            text.replace("URL", &format!("http://{shown}:{port}/"))
                .replace("ADDRESS", address)
                .replace("PORT", &port.to_string())
        };
        self.arguments.iter().map(fill).collect()
    }

    fn run(&self, host: &Host, address: &str, port: u16) -> Output {
        let arguments = self.arguments(address, port);
        run_on(host, self.name, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

/// Those of the list that are there; a missing one that is not optional fails the test.
fn present(list: Vec<Foreign>) -> Vec<Foreign> {
    list.into_iter()
        .filter(|program| {
            let there = installed(program.name);
            assert!(
                there || program.optional,
                "{} is missing (cargo xtask test installs it)",
                program.name
            );
            if !there {
                eprintln!("{} is not installed: not tried", program.name);
            }
            there
        })
        .collect()
}

/// Java compiles a source file by itself where its compiler is installed, and Go always does.
fn compiled() -> Vec<Foreign> {
    let mut list = Vec::new();
    if installed("javac") {
        list.push(Foreign::new(
            "java",
            "Permission denied",
            &[&script("Connect.java"), "ADDRESS", "PORT"],
        ));
    }
    list.push(Foreign::new(
        "go",
        "permission denied",
        &["run", &script("connect.go"), "ADDRESS", "PORT"],
    ));
    list
}

fn clients() -> Vec<Foreign> {
    let python = "import socket,sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)";
    let node = "require('net').connect(process.argv[2], process.argv[1]).on('connect', () => process.exit(0)).on('error', error => { console.error(error.code); process.exit(1) })";
    let perl = "use IO::Socket::IP; IO::Socket::IP->new(PeerHost => $ARGV[0], PeerPort => $ARGV[1], Type => SOCK_STREAM) or die $@";
    let mut list = vec![
        Foreign::new("python3", "[Errno 13] Permission denied", &["-c", python, "ADDRESS", "PORT"]),
        Foreign::new(
            "curl",
            "Permission denied",
            &["-v", "-sS", "-o", "/dev/null", "--noproxy", "*", "--max-time", "20", "URL"],
        ),
        Foreign::new("ncat", "Ncat: Permission denied.", &["--send-only", "ADDRESS", "PORT"]),
        Foreign::new("bash", "Permission denied", &["-c", "exec 3<>/dev/tcp/ADDRESS/PORT"]),
        Foreign::new("perl", "Permission denied", &["-e", perl, "ADDRESS", "PORT"]),
        Foreign::new("node", "EACCES", &["-e", node, "ADDRESS", "PORT"]),
    ];
    list.extend(compiled());
    present(list)
}

#[test]
fn h8_clients_that_nobody_here_wrote_get_permission_denied() {
    let host = host();
    host.namespace.add_address("lo", "fd09::2/128");
    let http = |port: &str| {
        let directory = data("");
        let arguments = [
            "-u",
            "-m",
            "http.server",
            port,
            "--bind",
            "::",
            "--directory",
            directory.to_str().unwrap(),
        ];
        let server = host.start("python3", arguments);
        server.wait_for_line("Serving HTTP", DEADLINE);
        server
    };
    let _servers = [http("20000"), http("10000")];
    let clients = clients();
    let targets = [
        ("127.0.0.1", 20_000, false),
        ("::1", 20_000, false),
        ("127.0.0.2", 20_000, true),
        ("fd09::2", 20_000, true),
        ("127.0.0.1", 10_000, true),
        ("::1", 10_000, true),
    ];
    let mut wrong = Vec::new();
    let mut try_all = |enforced: bool| {
        for client in &clients {
            for (address, port, listed) in targets {
                let output = client.run(&host, address, port);
                let said = complaint(&output);
                let right = if enforced && listed {
                    !output.status.success() && said.contains(client.denied)
                } else {
                    output.status.success()
                };
                if !right {
                    wrong.push(format!(
                        "{} to {address} {port}, enforced {enforced}: {}\n{said}",
                        client.name, output.status
                    ));
                }
            }
        }
    };
    try_all(false);
    let enforcing =
        Enforcing::on(&host, &["--deny", "127.0.0.2", "--deny", "fd09::2", "--port", "10000"]);
    try_all(true);
    enforcing.stop();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn servers() -> Vec<Foreign> {
    let python = "import socket,sys\ns=socket.create_server((sys.argv[1], int(sys.argv[2])))\nprint('ready', flush=True)\nwhile True: print('from', s.accept()[1][0], flush=True)";
    let node = "require('net').createServer(client => { console.log('from ' + client.remoteAddress); client.on('error', () => {}) }).on('error', error => { console.error(error.code); process.exit(1) }).listen(process.argv[2], process.argv[1], () => console.log('ready'))";
    let mut list = vec![
        Foreign::new("python3", "[Errno 13] Permission denied", &["-c", python, "ADDRESS", "PORT"]),
        Foreign::new(
            "ncat",
            "Permission denied",
            &["-v", "--listen", "--keep-open", "--recv-only", "ADDRESS", "PORT"],
        ),
        Foreign::new("node", "EACCES", &["-e", node, "ADDRESS", "PORT"]),
    ];
    if installed("javac") {
        list.push(Foreign::new(
            "java",
            "Permission denied",
            &[&script("Serve.java"), "ADDRESS", "PORT"],
        ));
    }
    present(list)
}

#[test]
fn h8_servers_that_nobody_here_wrote_never_see_who_is_denied() {
    let network = star(3);
    let [server, bad, good] = network.hosts() else { panic!("a star of three") };
    let enforcing = Enforcing::on(server, &["--deny", "10.7.0.2", "--port", "10000"]);
    for (port, program) in (20_000..).zip(servers()) {
        let name = program.name;
        // On a denied port it cannot even begin.
        let refused = program.run(server, "10.7.0.1", 10_000);
        let said = complaint(&refused) + &text(&refused);
        assert!(!refused.status.success() && said.contains(program.denied), "{name}: {said}");

        let running = server.start(name, program.arguments("10.7.0.1", port));
        let ready = if name == "ncat" { "Listening on" } else { "ready" };
        running.wait_for_line(ready, DEADLINE);
        let target = format!("10.7.0.1:{port}");
        assert_eq!(bad.namespace.inside(|| connect_errno(&target)), Some(ECONNREFUSED), "{name}");
        let _kept = good.namespace.inside(|| TcpStream::connect(&target)).unwrap();
        running.wait_for_line("10.7.0.3", DEADLINE);
        assert!(
            !running.lines().iter().any(|line| line.contains("10.7.0.2")),
            "{name}: {:#?}",
            running.lines()
        );
    }
    enforcing.stop();
}

/// A directory that exists only while the test runs, for what compilers write.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("fwnet-foreign-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn e4_a_32_bit_program_is_judged() {
    // A program without a C library, so that a compiler alone can build it for 32 bits.
    let scratch = Scratch::new();
    let program = scratch.path("connect32");
    let built = Command::new("cc")
        .args([
            "-m32",
            "-O1",
            "-static",
            "-nostdlib",
            "-ffreestanding",
            "-fno-pic",
            "-fno-stack-protector",
            "-o",
        ])
        .arg(&program)
        .arg(data("connect32.c"))
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", complaint(&built));
    let host = host();
    let codes = |program: &Path| -> Vec<Option<i32>> {
        // 127.0.0.2:20000 by socketcall(102), then by connect(362); then the same with 127.0.0.1.
        ["12", "22", "11", "21"]
            .iter()
            .map(|which| run_on(&host, program, &[which]).status.code())
            .collect()
    };
    assert_eq!(codes(&program), [Some(111); 4]);
    let enforcing = Enforcing::on(&host, &["--deny", "127.0.0.2"]);
    assert_eq!(codes(&program), [Some(13), Some(13), Some(111), Some(111)]);
    enforcing.stop();
    assert_eq!(codes(&program), [Some(111); 4]);
}
