//! What the kernel's own tests ask of MPTCP and of fast open, and local NAT, in the machines: the acceptance tests as they are,
//! with the tools that they need, where security hooks run and where none do.

use super::guest::{self, Lsm, Luggage};
use super::kernels::Kernel;
use super::{DOCTOR, doctor, words};
use crate::packages::{Need, Package};
use crate::qemu::Emulator;
use anyhow::{Context as _, Result, bail, ensure};

/// The program of these tests.
pub(super) const PROGRAM: &str = "acceptance";
/// What they make their hosts with.
pub(super) const NEEDS: &[Need] = &[
    Need {
        program: "ip",
        package: Package { name: "iproute2", why: "links, and addresses for MPTCP" },
    },
    Need { program: "nft", package: Package { name: "nftables", why: "local NAT" } },
    Need {
        program: "nsenter",
        package: Package { name: "util-linux", why: "programs inside of network namespaces" },
    },
];
/// With what the names of those tests begin that run where security hooks do.
const WITH_HOOKS: &[&str] = &["fastopen::", "translated::", MULTIPATH];
/// The same where none do: what is denied, and whose a subflow is. They are fewer, because an emulated machine takes minutes
/// for all, which a machine's own kernel without such hooks runs in seconds.
const WITHOUT_HOOKS: &[&str] = &[
    "fastopen::data_in_the_first_packet_of_who_is_denied",
    "fastopen::to_who_is_denied",
    "translated::",
    "multipath::subflows::a_subflow_that_",
    "multipath::subflows::subflows_join_or_are_denied_",
];
/// One of the hooks that judge connections. (Those that guard what is loaded are there on older kernels, too.)
const JUDGE: &str = "lsm/inet_conn_request";
/// Those that need MPTCP.
const MULTIPATH: &str = "multipath::";

/// Runs them on `kernel`, once with security hooks and, where those judge connections, once without, and says what held.
///
/// # Errors
/// If one fails, if some did not run, or if security hooks run where they should not or the other way round.
pub(super) fn hold(
    emulator: &Emulator,
    kernel: &Kernel,
    luggage: &Luggage,
    has_multipath: bool,
) -> Result<Vec<String>> {
    let tiers = [
        (Lsm::On, "with security hooks", WITH_HOOKS),
        (Lsm::Off, "without security hooks", WITHOUT_HOOKS),
    ];
    let mut held = Vec::new();
    for (lsm, hooks, tests) in tiers {
        let is_there = |test: &&str| has_multipath || !test.starts_with(MULTIPATH);
        let tests: Vec<_> = tests.iter().copied().filter(is_there).collect();
        let script = format!(
            "{DOCTOR}{PROGRAM} --test-threads 1 {}\necho \"judges ended with $?\"\n",
            tests.join(" ")
        );
        let lines = guest::boot(emulator, kernel, luggage, lsm, &script)?;
        let ran = |test: &&str| lines.iter().any(|line| line.starts_with(&format!("test {test}")));
        if !lines.iter().any(|line| line == "judges ended with 0") || !tests.iter().all(ran) {
            bail!("tests fail {hooks}:{}", words(&lines));
        }
        let doctor = doctor(&lines)?;
        let listed = doctor["hooks"].as_array().context("fwnet doctor lists hooks")?;
        let working = listed.iter().filter(|hook| hook["works"] == true);
        let working: Vec<_> = working.filter_map(|hook| hook["name"].as_str()).collect();
        let security = working.iter().any(|hook| hook.starts_with("lsm/"));
        ensure!(security == (lsm == Lsm::On), "the tests were to run {hooks}");
        let passed = lines.iter().find_map(|line| line.strip_prefix("test result: ok. "));
        let passed =
            passed.and_then(|rest| rest.split(';').next()).context("no result of tests")?;
        let what = if has_multipath { "MPTCP, fast open and NAT" } else { "fast open and NAT" };
        held.push(format!("{passed} of the tests of {what} {hooks}"));
        if lsm == Lsm::On && !working.contains(&JUDGE) {
            // The same programs would judge the same connections without them.
            break;
        }
    }
    Ok(held)
}
