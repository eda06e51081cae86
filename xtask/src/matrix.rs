//! `cargo xtask matrix`: every door, and every way around the hooks, on Debian's kernels, old and new, in virtual machines.
//!
//! The program `matrix` does the work and the comparing; here it is carried into a machine of its own, where it attaches to
//! the root of the cgroup tree. The same rows run on this machine's kernel as a test of that program's crate. Acceptance tests
//! of what a kernel does by itself are carried along.

mod fields;
mod guest;
mod judges;
mod kernels;

use crate::packages::{self, Need, Package};
use crate::programs::Programs;
use crate::qemu::Emulator;
use crate::step::{announce, timed};
use crate::workspace;
use anyhow::{Context as _, Result, bail};
use guest::{Lsm, Luggage};
use kernels::Kernel;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;
use std::{env, fs, thread};

/// What makes the machine's memory file system.
const NEEDS: &[Need] = &[Need {
    program: "strip",
    package: Package { name: "binutils", why: "programs without what only a debugger reads" },
}];
/// Machines that run at a time.
const AT_A_TIME: usize = 2;
/// What may come is waited for that long in an emulator on a busy machine, in milliseconds.
const PATIENCE: &str = "4000";
/// Has `fwnet doctor` say what it finds.
const DOCTOR: &str = "echo \"doctor: $(fwnet doctor -o json)\"\n";

/// Play every door on Debian's kernels in virtual machines, and compare with what is expected of each
#[derive(clap::Args)]
pub struct Matrix {
    /// Only kernels of these releases (`6.1`)
    series: Vec<String>,
    /// Write what came of it as what is expected
    #[arg(long)]
    write: bool,
    /// Choose kernels anew: the newest that are packaged now
    #[arg(long)]
    anew: bool,
}

impl Matrix {
    /// Boots the kernels. The last line is `N passed, N failed`.
    pub fn run(&self) -> ExitCode {
        let mut passed = 0;
        let outcome = self.play(&mut passed);
        if let Err(error) = &outcome {
            eprintln!("\nerror: {error:#}");
        }
        let failed = u64::from(outcome.is_err());
        // Nobody to tell if the reader is gone.
        let _ = writeln!(std::io::stdout(), "{passed} passed, {failed} failed");
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn play(&self, passed: &mut u64) -> Result<()> {
        timed("what the matrix is made with", || {
            [NEEDS, fields::NEEDS, judges::NEEDS].into_iter().try_for_each(packages::provide)
        })?;
        let emulator = timed("QEMU", Emulator::provide)?;
        let (mut kernels, busybox) = timed("kernels", || {
            let files = fs::read_dir(golden()).context("list what is expected")?;
            let series =
                files.filter_map(|it| Some(it.ok()?.path().file_stem()?.to_str()?.to_owned()));
            kernels::provide(self.anew, &series.collect::<Vec<_>>())
        })?;
        kernels.retain(|kernel| self.series.is_empty() || self.series.contains(&kernel.series));
        if kernels.is_empty() {
            bail!("no kernel of the matrix is of {}", self.series.join(", "));
        }
        let programs = timed("programs", || Programs::development(&["doors", "fwnet", "matrix"]))?;
        let tests = timed("tests", || Programs::tests(judges::PROGRAM))?;
        let carried = [
            ("matrix", programs.path("matrix")?),
            ("tcpcli", programs.path("tcpcli")?),
            ("fwnet", programs.path("fwnet")?),
            (judges::PROGRAM, tests.path(judges::PROGRAM)?),
        ];
        let tools = judges::NEEDS.iter().map(|need| {
            workspace::find_program(need.program).with_context(|| format!("no {}", need.program))
        });
        let luggage =
            Luggage::pack(busybox, &carried, &tools.collect::<Result<Vec<_>>>()?, &golden())?;
        // The newest take longest: begun last, one of them would be waited for while a processor has nothing to do.
        let queue = Mutex::new(kernels.iter().rev());
        let told = Mutex::new((Vec::new(), 0));
        timed("every door on every kernel", || {
            thread::scope(|scope| {
                for _ in 0..AT_A_TIME {
                    scope.spawn(|| {
                        loop {
                            let next = queue.lock().expect("no thread panics with it").next();
                            let Some(kernel) = next else { return };
                            let start = Instant::now();
                            let outcome = self.one(&emulator, kernel, &luggage);
                            let seconds = start.elapsed().as_secs_f64();
                            let mut told = told.lock().expect("no thread panics with it");
                            match outcome {
                                Ok(held) => {
                                    for what in &held {
                                        eprintln!("    ok   Linux {}: {what}", kernel.series);
                                    }
                                    eprintln!("    Linux {}: {seconds:.0} s", kernel.series);
                                    told.1 += held.len();
                                }
                                Err(error) => {
                                    eprintln!("    FAILED   Linux {}: {error:#}", kernel.series);
                                    told.0.push(kernel.series.clone());
                                }
                            }
                        }
                    });
                }
            });
            let (failed, held) = told.into_inner().expect("no thread panics with it");
            *passed += held as u64;
            if !failed.is_empty() {
                bail!("Linux {} is not as expected", failed.join(", "));
            }
            Ok(())
        })
    }

    /// One kernel: what held there.
    fn one(&self, emulator: &Emulator, kernel: &Kernel, luggage: &Luggage) -> Result<Vec<String>> {
        let compare = if self.write { "" } else { "--golden /golden" };
        let place = format!("--cgroup /sys/fs/cgroup --patience {PATIENCE}");
        let mut script = format!(
            "matrix rows {place} {compare}\necho \"rows ended with $?\"\n\
             matrix calls {place}\necho \"calls ended with $?\"\n{DOCTOR}"
        );
        if !self.write {
            // The hooks without LSM are left out on this machine's own kernel, which takes a second each and not ten.
            script.push_str(&format!(
                "matrix mutations {place} {compare} --hook lsm/\necho \"mutations ended with $?\"\n"
            ));
        }
        let lines = guest::boot(emulator, kernel, luggage, Lsm::On, &script)?;
        let rows = lines.iter().filter(|line| line.starts_with("{\"row\"")).count();
        let ended = |what: &str| lines.iter().any(|line| *line == format!("{what} ended with 0"));
        if !ended("rows") {
            bail!("rows are not as expected:{}", words(&lines));
        }
        if !ended("calls") {
            bail!("calls do not end as they should:{}", words(&lines));
        }
        let calls = lines.iter().rfind(|line| line.starts_with("calls: "));
        let hooks = lines.iter().find(|line| line.starts_with("{\"hooks\""));
        let hooks: Value = serde_json::from_str(hooks.context("no line about hooks")?)?;
        let doctor = doctor(&lines)?;
        let (told, found) = (doors(&doctor["open"]), doors(&hooks["open"]));
        if told != found {
            bail!("fwnet doctor says that {told:?} are open, and open are {found:?}");
        }
        let scratch = workspace::scratch().join("matrix").join(&kernel.series);
        let fields = fields::compare(kernel, &doctor, &scratch)?;
        let mut held = vec![
            format!("{rows} rows as expected"),
            calls.context("no line about calls")?.clone(),
            format!("fwnet doctor names the {} doors that are open", found.len()),
            format!("{fields} fields of the kernel's structures are where bpftool says"),
        ];
        if self.write {
            let mut written: Vec<_> =
                lines.iter().filter(|line| line.starts_with("{\"")).cloned().collect();
            written.push(String::new());
            fs::write(golden().join(format!("{}.jsonl", kernel.series)), written.join("\n"))
                .context("write what is expected")?;
        } else if ended("mutations") {
            let noticed = lines.iter().filter(|line| line.contains(": noticed by "));
            held.extend(noticed.cloned());
        } else {
            bail!("a hook is missed by no row:{}", words(&lines));
        }
        // A row says so, and is what is expected.
        let has_multipath = !lines.iter().any(|line| line.contains("this kernel has no MPTCP"));
        held.extend(judges::hold(emulator, kernel, luggage, has_multipath)?);
        Ok(held)
    }
}

/// What `fwnet doctor` said in a machine.
fn doctor(lines: &[String]) -> Result<Value> {
    let said = lines.iter().find_map(|line| line.strip_prefix("doctor: "));
    serde_json::from_str(said.context("fwnet doctor said nothing")?)
        .with_context(|| format!("what fwnet doctor said:{}", words(lines)))
}

/// The last lines of a machine's console that are no rows.
fn words(lines: &[String]) -> String {
    let is_word = |line: &&String| !line.starts_with("{\"") && !line.starts_with("doctor: ");
    let words: Vec<_> = lines.iter().filter(is_word).collect();
    let from = words.len().saturating_sub(60);
    words.iter().skip(from).map(|line| format!("\n    {line}")).collect()
}

/// The step of `cargo xtask test`; what held is added to `passed`.
///
/// # Errors
/// If something cannot be had, or a kernel is not as expected.
pub fn step(passed: &mut u64) -> Result<()> {
    if env::consts::ARCH != "x86_64" {
        announce("the matrix of kernels is left out: they are of x86_64");
        return Ok(());
    }
    Matrix { series: Vec::new(), write: false, anew: false }.play(passed)
}

/// Where the expected lines are.
fn golden() -> PathBuf {
    workspace::root().join("crates/matrix/golden")
}

/// The names of doors in a list of names of rows, or of objects that have a name: without the family of addresses.
fn doors(list: &Value) -> BTreeSet<String> {
    let names = list.as_array().into_iter().flatten();
    let names = names.filter_map(|it| it.as_str().or_else(|| it["name"].as_str()));
    names.map(|name| name.split('/').next().unwrap_or(name).to_owned()).collect()
}
