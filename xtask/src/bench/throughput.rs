//! `cargo xtask bench throughput`: what an established connection carries with nothing attached and with fwnet, which must
//! be the same: nothing of it is looked at once it stands.
//!
//! iperf3 sends to itself over the loopback of a namespace of its own; nothing is attached before and after each
//! measurement with fwnet, whose figure is compared with the mean of its two neighbours.

use std::fmt::Write as _;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use testbed::{Host, Running};

use super::prefixes::{self, Shape};
use super::publish;
use super::resident::Residence;
use super::sample::Spread;
use crate::packages::{self, Need, Package};
use crate::programs::Programs;
use crate::step::timed;
use crate::supervise::supervised;

const NEEDS: &[Need] = &[
    Need {
        program: "ip",
        package: Package { name: "iproute2", why: "the namespace that is measured in" },
    },
    Need { program: "iperf3", package: Package { name: "iperf3", why: "the load" } },
];

const DEADLINE: Duration = Duration::from_secs(60);
const POLICY: &str = "tier team\nmode enforce\nfailsafe none\nallow any -> any : tcp/5201\n";
const MILLION: usize = 1_000_000;
/// How much less may be carried: what two measurements of nothing differ by here.
const TARGET: f64 = 0.97;

/// Measure what an established connection carries, with nothing attached and with a million prefixes in force (as root)
#[derive(clap::Args)]
pub struct Throughput {
    /// Rounds; each measures nothing, fwnet, and nothing again
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How long each measurement sends
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// Take all programs from this directory instead of building them
    #[arg(long, value_name = "DIRECTORY")]
    programs: Option<std::path::PathBuf>,
}

/// Bits a second.
#[derive(Debug, Serialize)]
struct Figures {
    kernel: String,
    rounds: usize,
    nothing_bits_per_second: Spread,
    fwnet_bits_per_second: Spread,
    ratio: Spread,
    at_least: f64,
    met: bool,
}

impl Throughput {
    /// Measures, prints the table and writes the figures as JSON.
    pub(super) fn run(&self) -> ExitCode {
        supervised(|| {
            timed("packages", || packages::provide(NEEDS))?;
            let built = self.programs.as_deref();
            let programs = Programs::built_or(built, "programs", || Programs::release(&["fwnet"]))?;
            let stage = timed("list", || Stage::set(&programs, self.seconds))?;
            let mut rounds = Vec::new();
            for number in 1..=self.rounds {
                let what = format!("round {number} of {}", self.rounds);
                rounds.push(timed(&what, || stage.round())?);
            }
            let figures = Figures::of(&rounds);
            publish("throughput", &figures, &figures.table())
        })
    }
}

struct Stage {
    _server: Running,
    residence: Arc<Residence>,
    host: Host,
    seconds: String,
}

impl Stage {
    fn set(programs: &Programs, seconds: u32) -> Result<Self> {
        let host = Host::new();
        let residence = Residence::new(programs)?;
        let list = prefixes::list(Shape::Threats, MILLION, 1);
        prefixes::write(&residence.directory().join("million.txt"), &list)?;
        std::fs::write(residence.directory().join("open.fw"), POLICY).context("write a policy")?;
        let server = host.start("iperf3", ["--server", "--forceflush"]);
        server.wait_for_line("Server listening", DEADLINE);
        Ok(Self { _server: server, residence, host, seconds: seconds.to_string() })
    }

    /// Nothing, fwnet, nothing.
    fn round(&self) -> Result<[f64; 3]> {
        let before = self.carried()?;
        let file = |name: &str| self.residence.directory().join(name).display().to_string();
        let resident = self.residence.up(&self.host, &file("open.fw"), &[])?;
        self.residence.fwnet(&["list", "import", "--once", &file("million.txt")])?;
        self.residence.calm()?;
        let with = self.carried()?;
        drop(resident);
        Ok([before, with, self.carried()?])
    }

    fn carried(&self) -> Result<f64> {
        let mut client = self.host.command("iperf3");
        client.args(["--client", "127.0.0.1", "--json", "--time", &self.seconds]);
        let output = client.stdin(Stdio::null()).output().context("start iperf3")?;
        let report: serde_json::Value =
            serde_json::from_slice(&output.stdout).context("read what iperf3 reports")?;
        ensure!(output.status.success(), "iperf3: {}", report["error"]);
        report["end"]["sum_received"]["bits_per_second"].as_f64().context("what was carried")
    }
}

impl Figures {
    fn of(rounds: &[[f64; 3]]) -> Self {
        let ratio: Spread = rounds
            .iter()
            .map(|[before, with, after]| with / f64::midpoint(*before, *after))
            .collect();
        Self {
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            rounds: rounds.len(),
            nothing_bits_per_second: rounds
                .iter()
                .flat_map(|[before, _, after]| [*before, *after])
                .collect(),
            fwnet_bits_per_second: rounds.iter().map(|[_, with, _]| *with).collect(),
            ratio,
            at_least: TARGET,
            met: ratio.median >= TARGET,
        }
    }

    /// For people; Markdown, so that it can be pasted.
    fn table(&self) -> String {
        let mut text = format!(
            "Linux {}, {} rounds; median [min to max]\n\n| attached | Gbit/s |\n|---|---|\n",
            self.kernel, self.rounds
        );
        for (name, spread) in [
            ("nothing", self.nothing_bits_per_second),
            ("fwnet, 1,000,000 prefixes, both ways, flows counted", self.fwnet_bits_per_second),
        ] {
            let [median, min, max] = [spread.median, spread.min, spread.max].map(|it| it / 1e9);
            let _written = writeln!(text, "| {name} | {median:.2} [{min:.2} to {max:.2}] |");
        }
        let Spread { median, min, max } = self.ratio;
        let met = if self.met { "met" } else { "**missed**" };
        let _written = writeln!(
            text,
            "\nwith fwnet, of nothing attached: at least {TARGET}; {median:.3} [{min:.3} to {max:.3}], {met}"
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_carried_is_compared_with_before_and_after() {
        let figures = Figures::of(&[[1e9, 1.9e9, 3e9], [2e9, 1.8e9, 2e9], [2e9, 2e9, 2e9]]);
        assert_eq!(figures.ratio, Spread { median: 0.95, min: 0.9, max: 1.0 });
        assert!(!figures.met);
        assert!(figures.table().contains("| nothing | 2.00 [1.00 to 3.00] |"));
    }
}
