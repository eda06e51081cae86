//! The default attachment, the root of the cgroup hierarchy and every network namespace, where it can be tried without
//! cutting the machine off: in a sandbox whose root cgroup, processes and namespaces are the test's own.

use std::process::{Output, Stdio};

use testbed::{Cgroup, Directory};

use crate::shared::{complaint, fwnet, text};

/// Makes the sandbox and tries the agent in it. Whatever does not hold ends it with a word on standard error.
///
/// `$1` is the inode that the root of its cgroup hierarchy must have, which is the cgroup it was started in: with any
/// other, the agent would judge somebody else.
const SCRIPT: &str = r#"
fail() { echo "$*" >&2; exit 1; }
root=$1 fwnet=$2 place=$3 storm=$4
for names in /run/netns /run/docker/netns; do
    [ ! -d $names ] || mount -t tmpfs none $names
done
tree=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/self/mounts)
umount --lazy "$tree"
mount -t cgroup2 none "$tree"
[ "$(stat -c %i "$tree")" = "$root" ] || fail "the sandbox has another root cgroup"
[ "$(ls -d /proc/[0-9]* | wc -l)" -lt 20 ] || fail "the sandbox sees processes of others"
ip link set lo up
verb() { "$fwnet" "$@" --socket $place/agent.sock; }
links() { ls $place/bpf/set-*/links | grep -c lookup || :; }
until_links() {
    for try in $(seq 300); do [ "$(links)" != "$1" ] || return 0; sleep 0.1; done
    fail "$2: $(links) network namespaces are judged, not $1"
}
verb up --deny 127.0.0.9 --state $place/state --bpffs $place/bpf
trap 'verb down' EXIT
pid=$(cat $place/state/agent.lock)
descriptors() { ls /proc/$pid/fd | wc -l; }
resident() { awk '/VmRSS/ { print $2 }' /proc/$pid/status; }
until_links 1 "at first"
# One that stays is judged, and let go when it goes.
ip netns add fresh
until_links 2 "with a new one"
ip netns del fresh
until_links 1 "after its end"
before=$(descriptors)
for part in 1 2 3 4; do
    ( i=0; while [ $i -lt $((storm / 4)) ]; do unshare --net true; i=$((i + 1)); done ) &
    parts="${parts:-} $!"
done
# The agent answers meanwhile.
verb status >/dev/null
wait $parts
verb status >/dev/null
until_links 1 "after the storm"
[ "$(descriptors)" -le $((before + 2)) ] || fail "$before descriptors before, $(descriptors) after"
[ "$(resident)" -lt 65536 ] || fail "$(resident) kB are resident"
# Outbound is judged for every process of the sandbox.
code=0; timeout 5 bash -c ': < /dev/tcp/127.0.0.9/9' 2>$place/said || code=$?
grep -q "Permission denied" $place/said || fail "a denied address: $code $(cat $place/said)"
verb status -o json
trap - EXIT
verb down
"#;

/// Runs the script in a cgroup of its own, as the first process of a new pid, network, mount and cgroup namespace.
fn sandboxed(storm: u32) -> Output {
    let cgroup = Cgroup::new();
    let place = Directory::new();
    let inode = std::os::unix::fs::MetadataExt::ino(&cgroup.path().metadata().unwrap());
    let program = fwnet(&[]);
    let mut command = cgroup.command("unshare");
    command.args(["--net", "--pid", "--mount", "--cgroup", "--fork", "--mount-proc"]);
    command.args(["--kill-child", "sh", "-euc", SCRIPT, "sandbox", &inode.to_string()]);
    command.arg(program.get_program()).arg(place.path()).arg(storm.to_string());
    command.stdin(Stdio::null()).output().unwrap()
}

#[test]
fn ten_thousand_namespaces_that_come_and_go_leave_nothing_behind() {
    let output = sandboxed(10_000);
    assert!(output.status.success(), "{}\n{}", text(&output), complaint(&output));
    let printed = text(&output);
    let status = printed.find("{\n").map_or("", |start| &printed[start..]);
    let status: serde_json::Value = serde_json::Deserializer::from_str(status)
        .into_iter()
        .next()
        .expect("a status as JSON")
        .unwrap();
    assert_eq!(status["policy"]["version"], 1, "{status}");
}
