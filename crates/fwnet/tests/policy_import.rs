//! What is imported means what it meant: an nftables ruleset is loaded into a namespace, real connections are made
//! through it, and the imported policy says the same of each; Kubernetes' policies are held to a table of verdicts.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    fs,
    io::Write,
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;
use testbed::{Namespace, Network};

const FWNET: &str = env!("CARGO_BIN_EXE_fwnet");

/// Long enough for two SYNs; what is dropped takes this long.
const PATIENCE: Duration = Duration::from_secs(3);

/// In this order the verdicts depend on the order: what is accepted first is not dropped later. 1 and 2 are clients.
const RULESET: &str = "
table inet filter {
  set friends { type ipv4_addr; flags interval; elements = { CLIENT1, 203.0.113.0/24 } }
  chain services {
    tcp dport 7005 reject with tcp reset
    ip saddr CLIENT2 tcp dport 7006 accept
  }
  chain input {
    type filter hook input priority filter; policy drop;
    ct state established,related accept
    iif lo accept
    ip saddr @friends tcp dport 7000 accept comment \"friends first\"
    tcp dport { 7000-7001 } reject with tcp reset
    tcp dport 7000-7003 counter accept
    jump services
    ip saddr CLIENT2 drop
    tcp dport { 7005, 7006, 7007 } accept
  }
  chain output {
    type filter hook output priority filter; policy accept;
    ct state established accept
    ip daddr CLIENT1 tcp dport 7001 accept
    ip daddr { CLIENT1, CLIENT2 } tcp dport 7001-7002 reject with tcp reset
  }
}
";

const PORTS: std::ops::RangeInclusive<u16> = 7000..=7008;

/// `fwnet` with `arguments`, `input` on its standard input.
#[track_caller]
fn fwnet(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(FWNET)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that ends before it reads closes the pipe.
    let _written = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

#[track_caller]
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// A directory that is gone with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("fwnet-import-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, content: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is in the temporary directory.
        let _removed = fs::remove_dir_all(&self.0);
    }
}

/// `allow` or `deny` of an end of `flow`: `in`, `out`, or both together.
#[track_caller]
fn verdict(flow: &str, files: &[&str], end: Option<&str>) -> String {
    let mut arguments = vec!["explain", flow, "-o", "json"];
    arguments.extend(files);
    let out = fwnet(&arguments, "");
    let value: Value = serde_json::from_slice(&out.stdout)
        .unwrap_or_else(|_| panic!("{flow}: {}", String::from_utf8_lossy(&out.stderr)));
    let place = match end {
        None => &value["verdict"],
        Some(end) => {
            let ends = value["ends"].as_array().unwrap();
            &ends.iter().find(|one| one["direction"] == end).unwrap()["verdict"]
        }
    };
    place.as_str().unwrap().to_owned()
}

fn nft(namespace: &Namespace, arguments: &[&str], input: &str) -> Output {
    let mut command = namespace.command("nft");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Servers on every port; connections wait in their backlog.
fn listen(namespace: &Namespace) -> Vec<TcpListener> {
    let bind = |port| TcpListener::bind(("0.0.0.0", port)).unwrap();
    namespace.inside(|| PORTS.map(bind).collect())
}

fn connects(from: &Namespace, to: SocketAddr) -> bool {
    from.inside(|| TcpStream::connect_timeout(&to, PATIENCE).is_ok())
}

#[test]
fn an_imported_ruleset_says_what_nftables_does() {
    let network = Network::star(3);
    let [server, one, two] = network.hosts() else { panic!("three hosts") };
    let addresses = [0, 1, 2].map(|index| network.address(index).to_string());
    let ruleset = RULESET.replace("CLIENT1", &addresses[1]).replace("CLIENT2", &addresses[2]);
    nft(&server.namespace, &["-f", "-"], &ruleset);
    let listed = text(nft(&server.namespace, &["-j", "list", "ruleset"], "").stdout);

    let imported = fwnet(&["import", "nftables", "-"], &listed);
    let policy = text(imported.stdout);
    // How denied peers are answered is one for all here.
    let gaps = text(imported.stderr);
    assert_eq!(gaps.lines().count(), 1, "{gaps}");
    assert!(gaps.contains("some rules drop and some reject"), "{gaps}");
    assert_eq!(imported.status.code(), Some(1), "something is not expressed");
    assert_eq!(
        fwnet(&["import", "nftables", "--allow-partial", "-"], &listed).status.code(),
        Some(0)
    );

    let scratch = Scratch::new("nft");
    let inventory = format!("[[hosts]]\nid = \"server\"\naddresses = [\"{}\"]\n", addresses[0]);
    let files = [scratch.write("host.fwnet", &policy), scratch.write("hosts.toml", &inventory)];
    let files = [files[0].as_str(), "--inventory", files[1].as_str()];

    let listeners = [server, one, two].map(|host| listen(&host.namespace));
    let mut counted = [0, 0];
    for port in PORTS {
        for (client, address) in [(one, &addresses[1]), (two, &addresses[2])] {
            let to = SocketAddr::new(network.address(0).into(), port);
            let done = connects(&client.namespace, to);
            let flow = format!("{address} -> server : tcp/{port}");
            let said = verdict(&flow, &files, Some("in"));
            assert_eq!(said == "allow", done, "{flow} is {said}\n{policy}");
            counted[usize::from(done)] += 1;

            let to = SocketAddr::new(address.parse().unwrap(), port);
            let done = connects(&server.namespace, to);
            let flow = format!("server -> {address} : tcp/{port}");
            let said = verdict(&flow, &files, Some("out"));
            assert_eq!(said == "allow", done, "{flow} is {said}\n{policy}");
            counted[usize::from(done)] += 1;
        }
    }
    drop(listeners);
    assert!(counted[0] >= 8 && counted[1] >= 8, "both verdicts are tried: {counted:?}");
}

/// What `nft -j` prints of constructs that have no place in a policy; every one is named.
#[test]
fn what_cannot_be_expressed_is_named() {
    let namespace = Namespace::new();
    let ruleset = "
table inet filter {
  chain input {
    type filter hook input priority filter; policy accept;
    ct state invalid drop
    ct state established accept
    meta mark 1 drop
    tcp sport 1000 drop
    icmp type echo-request drop
    tcp dport 22 limit rate 5/second accept
    iifname \"eth7\" drop
    ip saddr . tcp dport { 10.0.0.1 . 22 } drop
    tcp dport 81 log prefix \"hello \" drop
    tcp dport 80
  }
  chain forward { type filter hook forward priority filter; policy drop; }
}
table ip nat {
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    masquerade
  }
}
";
    // A chain on one line needs its own.
    let ruleset = ruleset.replace("policy drop; }", "policy drop;\n }");
    nft(&namespace, &["-f", "-"], &ruleset);
    let listed = text(nft(&namespace, &["-j", "list", "ruleset"], "").stdout);
    let imported = fwnet(&["import", "nftables", "-"], &listed);
    let gaps = text(imported.stderr);
    for construct in [
        "ct state invalid",
        "\"mark\"",
        "\"sport\"",
        "echo-request",
        "limit",
        "interfaces other than lo",
        "concat",
        "hello",
        "without a verdict",
        "hook forward",
        "hook postrouting",
    ] {
        let named = gaps.lines().filter(|line| line.contains(construct)).count();
        assert_eq!(named, 1, "{construct}:\n{gaps}");
    }
    assert_eq!(gaps.lines().count(), 11, "{gaps}");
    let policy = text(imported.stdout);
    assert_eq!(policy.matches("# not expressed: ").count(), 11, "{policy}");
    assert!(policy.contains("deny any -> me : tcp/81 log\n"), "{policy}");
    assert_eq!(fwnet(&["check", "-"], &policy).status.code(), Some(0), "{policy}");
}

#[test]
fn what_is_no_ruleset_is_an_error() {
    for (kind, input) in [
        ("nftables", "table inet filter {}"),
        ("nftables", "{}"),
        ("nftables", "\u{0}"),
        ("networkpolicy", "a: [b"),
        ("networkpolicy", "kind: Pod"),
        ("networkpolicy", ""),
    ] {
        let out = fwnet(&["import", kind, "-"], input);
        assert_eq!(out.status.code(), Some(2), "{kind} {input:?}");
        assert_eq!(text(out.stderr).lines().count(), 1);
        assert!(out.stdout.is_empty());
    }
}

const PODS: &str = r#"{"hosts": [
  {"id": "db", "addresses": ["10.1.0.1"], "labels": {"namespace": "shop", "app": "db"}},
  {"id": "api", "addresses": ["10.1.0.2"], "labels": {"namespace": "shop", "app": "api"}},
  {"id": "web", "addresses": ["10.1.0.3"], "labels": {"namespace": "shop", "app": "web"}},
  {"id": "jump", "addresses": ["10.1.0.4"], "labels": {"namespace": "ops", "namespace/team": "ops", "tier": "jump"}},
  {"id": "dns", "addresses": ["10.1.0.5"], "labels": {"namespace": "kube-system"}},
  {"id": "locked", "addresses": ["10.1.0.6"], "labels": {"namespace": "prod"}},
  {"id": "probe", "addresses": ["10.1.0.7"], "labels": {"namespace": "monitoring"}}
]}"#;

const NAMESPACED: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from:
    - podSelector: {matchLabels: {app: api}}
    - namespaceSelector: {matchLabels: {team: ops}}
      podSelector: {matchExpressions: [{key: tier, operator: In, values: [jump]}]}
    - ipBlock: {cidr: 172.17.0.0/16, except: [172.17.1.0/24]}
    ports:
    - {protocol: TCP, port: 5432}
    - {protocol: UDP, port: 32000, endPort: 32768}
  egress:
  - to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}}]
    ports: [{protocol: UDP, port: 53}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny-all, namespace: prod}
spec:
  podSelector: {}
";

/// By the documentation of NetworkPolicy: who is selected is isolated in the directions of the policy, all policies
/// together allow, and both ends have to.
#[test]
fn network_policies_mean_what_kubernetes_says() {
    let imported = fwnet(&["import", "networkpolicy", "-"], NAMESPACED);
    assert_eq!((imported.status.code(), text(imported.stderr)), (Some(0), String::new()));
    let scratch = Scratch::new("pods");
    let policy = scratch.write("pods.fwnet", &text(imported.stdout));
    let pods = scratch.write("pods.json", PODS);
    let files = [policy.as_str(), "--inventory", pods.as_str()];
    for (flow, expected) in [
        ("api -> db : tcp/5432", "allow"),
        ("api -> db : tcp/5433", "deny"),
        ("web -> db : tcp/5432", "deny"),
        ("jump -> db : udp/32500", "allow"),
        ("172.17.0.1 -> db : tcp/5432", "allow"),
        ("172.17.1.1 -> db : tcp/5432", "deny"),
        ("db -> dns : udp/53", "allow"),
        ("db -> dns : tcp/53", "deny"),
        ("db -> api : tcp/80", "deny"),
        // What may come in there may still not go out here.
        ("db -> web : tcp/80", "deny"),
        // A pod is never kept from itself.
        ("db -> db : tcp/5432", "allow"),
        ("web -> api : tcp/80", "allow"),
        ("api -> 198.51.100.1 : tcp/443", "allow"),
        ("web -> locked : tcp/80", "deny"),
        ("locked -> web : tcp/80", "allow"),
        ("locked -> db : tcp/5432", "deny"),
    ] {
        assert_eq!(verdict(flow, &files, None), expected, "{flow}");
    }
}

const CLUSTER: &str = "
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: later}
spec:
  tier: Admin
  priority: 20
  subject: {namespaces: {}}
  ingress:
  - action: Accept
    from: [{namespaces: {}}]
    protocols: [{tcp: {destinationPort: {number: 9150}}}]
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: guard}
spec:
  tier: Admin
  priority: 10
  subject: {namespaces: {}}
  ingress:
  - action: Accept
    from: [{namespaces: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]
    protocols: [{tcp: {destinationPort: {number: 9100}}}]
  - action: Pass
    from: [{namespaces: {matchLabels: {team: ops}}}]
  - action: Deny
    from: [{namespaces: {}}]
    protocols: [{tcp: {destinationPort: {range: {start: 9000, end: 9200}}}}]
  egress:
  - action: Deny
    to: [{networks: [198.51.100.0/24]}]
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: base}
spec:
  tier: Baseline
  priority: 1
  subject: {namespaces: {matchLabels: {kubernetes.io/metadata.name: shop}}}
  ingress:
  - action: Accept
    from: [{pods: {podSelector: {matchLabels: {app: web}}}}]
  - action: Deny
    from: [{namespaces: {}}]
";

/// The first rule by priority decides; Pass hands on to NetworkPolicies; Baseline is for whom none of these isolates.
#[test]
fn cluster_network_policies_are_read_in_order() {
    let scratch = Scratch::new("cluster");
    let all = format!("{NAMESPACED}---{CLUSTER}");
    let without = fwnet(&["import", "networkpolicy", "-"], &all);
    assert_eq!(without.status.code(), Some(2), "three tiers do not fit into one file");
    let into = scratch.0.join("tiers");
    let into = into.to_str().unwrap();
    let imported = fwnet(&["import", "networkpolicy", "-", "--into", into], &all);
    assert_eq!(imported.status.code(), Some(0), "{}", text(imported.stderr));
    let tiers = ["admin", "team", "baseline"].map(|tier| format!("{into}/{tier}.fwnet"));
    let pods = scratch.write("pods.json", PODS);
    let files = [&tiers[0], &tiers[1], &tiers[2], "--inventory", &pods];
    for (flow, expected) in [
        ("probe -> locked : tcp/9100", "allow"),
        ("probe -> locked : tcp/9101", "deny"),
        ("web -> api : tcp/9100", "deny"),
        ("web -> api : tcp/9150", "deny"),
        ("jump -> db : tcp/5432", "allow"),
        ("jump -> db : tcp/9100", "deny"),
        // Handed on, and nobody else says anything but Baseline, which denies to the shop.
        ("jump -> api : tcp/9100", "deny"),
        ("jump -> dns : tcp/9100", "allow"),
        ("jump -> dns : tcp/9150", "allow"),
        ("web -> api : tcp/80", "allow"),
        ("probe -> api : tcp/80", "deny"),
        ("api -> db : tcp/5432", "allow"),
        // Isolated, so Baseline's Accept does not count.
        ("web -> db : tcp/5432", "deny"),
        ("api -> 198.51.100.9 : tcp/443", "deny"),
        ("api -> 203.0.113.9 : tcp/443", "allow"),
    ] {
        assert_eq!(verdict(flow, &files, None), expected, "{flow}");
    }
}
