//! A network namespace of a test's own: the test binary starts itself again inside `unshare --net`, running that one test.
//! Nothing of the machine's own network is touched, and the namespace ends with the process.
//!
//! In it: loopback; `192.0.2.0/25` and `2001:db8:1::/64`, from which nothing ever answers; `192.0.2.128/25` and
//! `2001:db8:2::/64`, for which the kernel itself answers EACCES (a `prohibit` route: the errno of a local denial, without
//! a firewall); TCP fast open as the test asks for it.

use std::env;
use std::process::Command;

/// Set in the process that runs inside.
const INSIDE: &str = "DOORS_TEST_INSIDE";

/// After which a test that hangs is ended, with all it started.
const SECONDS_MAX: &str = "240";

/// The default of `net.ipv4.tcp_fastopen`: clients may.
pub(crate) const FASTOPEN_DEFAULT: &str = "1";
/// Data in the SYN without a cookie, taken by every listener (1 | 2 | 4 | 0x200 | 0x400).
pub(crate) const FASTOPEN_ALWAYS: &str = "1543";

const NETWORK: &str = "
set -e
ip link set lo up
ip link add silent type veth peer name nobody
ip addr add 192.0.2.1/25 dev silent
ip addr add 2001:db8:1::1/64 dev silent nodad
ip link set silent up
ip link set nobody up
ip neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev silent nud permanent
ip neigh add 2001:db8:1::2 lladdr 02:00:00:00:00:02 dev silent nud permanent
ip route add prohibit 192.0.2.128/25
ip -6 route add prohibit 2001:db8:2::/64
";

/// Runs `body` in a namespace; `name` is the test's own name.
pub(crate) fn inside(name: &str, fastopen: &str, body: impl FnOnce()) {
    if env::var_os(INSIDE).is_some() {
        return body();
    }
    let script =
        format!("{NETWORK}\necho {fastopen} > /proc/sys/net/ipv4/tcp_fastopen\nexec \"$@\"\n");
    let mut unshare = Command::new("timeout");
    unshare.args(["--kill-after=5", SECONDS_MAX, "unshare"]);
    if !rustix::process::geteuid().is_root() {
        unshare.arg("--map-root-user");
    }
    let output = unshare
        .args(["--net", "--", "sh", "-c", &script, "sh"])
        .arg(env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && told.contains("1 passed"),
        "inside the namespace:\n{told}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
