//! One run of the virtual machine, from power on to power off.

use super::disk::Disk;
use super::guest::Line;
use super::supplies::Supplies;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// No initramfs, no speculation to mend in an emulator, and nothing that waits for devices that are not there.
const KERNEL_ARGUMENTS: &str = "root=/dev/nvme0n1 rw console=ttyS0 quiet panic=-1 mitigations=off tsc=unstable \
     net.ifnames=0 systemd.show_status=false systemd.mask=serial-getty@ttyS0.service";
/// Processors of a machine.
const PROCESSORS: u8 = 2;
/// How often its end is looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Lines of the console that an error shows.
const LAST_LINES: usize = 25;

/// A running machine. It is switched off with the value.
#[derive(Debug)]
pub(super) struct Machine {
    emulator: Child,
    console: PathBuf,
}

impl Machine {
    /// Switches it on; the line leads to the service that answers.
    pub(super) fn start(supplies: &Supplies, disk: &Disk) -> Result<(Self, Line)> {
        let console = disk.directory().join("console.log");
        let mut command = supplies.emulator.command(PROCESSORS);
        command
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .args(["-chardev", "stdio,id=line,signal=off", "-serial", "chardev:line"])
            .arg("-drive")
            .arg(format!("file={},format=raw,if=none,id=disk,cache=unsafe", disk.path().display()))
            .args(["-device", "nvme,drive=disk,serial=disk", "-append", KERNEL_ARGUMENTS])
            .arg("-kernel")
            .arg(&supplies.kernel)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut emulator = command.spawn().context("start QEMU")?;
        let input = emulator.stdin.take().expect("stdin is piped");
        let output = emulator.stdout.take().expect("stdout is piped");
        Ok((Self { emulator, console }, Line::new(input, output)))
    }

    /// Waits until it has switched itself off.
    pub(super) fn ended(&mut self, limit: Duration) -> Result<()> {
        let start = Instant::now();
        while self.emulator.try_wait().context("wait for QEMU")?.is_none() {
            if start.elapsed() > limit {
                bail!("the machine does not switch itself off within {} s", limit.as_secs());
            }
            thread::sleep(LOOK_INTERVAL);
        }
        Ok(())
    }

    /// The end of what it printed on its console.
    pub(super) fn last_words(&self) -> String {
        last_lines(&self.console)
    }
}

fn last_lines(console: &Path) -> String {
    let text = fs::read(console).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let from = lines.len().saturating_sub(LAST_LINES);
    lines.get(from..).unwrap_or_default().join("\n")
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.emulator.kill();
        let _ = self.emulator.wait();
    }
}
