//! One boot of one kernel: what is in its memory file system, and what its serial line said.

use super::kernels::Kernel;
use crate::dist::contents::fresh;
use crate::qemu::Emulator;
use crate::{step, workspace};
use anyhow::{Context as _, Result, bail};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Nothing of the kernel's between the lines of the program, no speculation to mend in an emulator, and of the security modules
/// those of Debian besides BPF's.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet loglevel=1 panic=-1 mitigations=off tsc=unstable \
     lsm=lockdown,yama,apparmor";
/// What the first process does.
const INIT: &str = include_str!("init.sh");
/// The modules that doors need, switches and local NAT, and what those need; a kernel may lack any.
const MODULES: [&str; 26] = [
    "libcrc32c",
    "crc32c_generic",
    "crc32c-cryptoapi",
    "udp_tunnel",
    "ip6_udp_tunnel",
    "sctp",
    "dccp",
    "dccp_ipv4",
    "dccp_ipv6",
    "ib_core",
    "smc",
    "veth",
    "inet_diag",
    "tcp_diag",
    "tun",
    "llc",
    "stp",
    "bridge",
    "nfnetlink",
    "nf_defrag_ipv4",
    "nf_defrag_ipv6",
    "nf_conntrack",
    "nf_nat",
    "nf_tables",
    "nft_chain_nat",
    "nft_nat",
];
/// What the first process says when all is ready.
const BEGUN: &str = "the script begins";
/// How often a kernel is booted at most that dies before that.
const BOOTS_MAX: usize = 3;
/// Processors of a machine. Of two, an emulated one may still run the breakpoint by which the other keeps it off code that
/// it rewrites (`smp_text_poke_int3_handler`) once that has gone on: 7.3 died so, in the trampoline of `security_bpf`, while
/// a program there came or went.
const PROCESSORS: u8 = 1;
/// How long one may run.
const LIMIT: Duration = Duration::from_secs(600);
/// How often its end is looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Whether a kernel runs programs of the LSM tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lsm {
    On,
    Off,
}

impl Lsm {
    /// What is behind the other security modules; Debian's 5.10 would leave it out.
    fn argument(self) -> &'static str {
        match self {
            Self::On => ",bpf",
            Self::Off => "",
        }
    }
}

/// What is the same for every kernel: programs and the libraries that they are linked with, and the lines that are
/// expected.
#[derive(Debug)]
pub(super) struct Luggage {
    root: PathBuf,
    busybox: PathBuf,
}

impl Luggage {
    /// Packs programs of the workspace under these names, and tools of this machine.
    pub(super) fn pack(
        busybox: PathBuf,
        programs: &[(&str, &Path)],
        tools: &[PathBuf],
        golden: &Path,
    ) -> Result<Self> {
        let root = fresh(&workspace::scratch().join("matrix/luggage"))?;
        for directory in ["bin", "dev", "golden", "lib", "proc", "run", "sys", "tmp"] {
            fs::create_dir_all(root.join(directory)).context("make a directory")?;
        }
        fs::copy(&busybox, root.join("bin/busybox")).context("copy busybox")?;
        for (name, program) in programs {
            carry(&root, name, program)?;
            // Tests start a program where cargo has put it.
            symlink(Path::new("/bin").join(name), place(&root, program)?)
                .context("link a program to where cargo has put it")?;
        }
        for tool in tools {
            let name = tool.file_name().and_then(OsStr::to_str).context("a tool has a name")?;
            carry(&root, name, tool)?;
        }
        for entry in fs::read_dir(golden).context("list the expected lines")? {
            let path = entry?.path();
            let name = path.file_name().context("a file has a name")?;
            fs::copy(&path, root.join("golden").join(name)).context("copy the expected lines")?;
        }
        let init = root.join("init");
        fs::write(&init, INIT).context("write the first process")?;
        fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).context("make it run")?;
        Ok(Self { root, busybox })
    }
}

/// Puts a program into the memory file system with the libraries that it is linked with.
fn carry(root: &Path, name: &str, program: &Path) -> Result<()> {
    // What only a debugger reads is most of a program of development.
    let to = root.join("bin").join(name);
    step::output(Command::new("strip").arg("-o").arg(&to).arg(program))?;
    for library in libraries(program)? {
        fs::copy(&library, place(root, &library)?)
            .with_context(|| library.display().to_string())?;
    }
    Ok(())
}

/// Where a file of this machine is in the memory file system, in a directory that is there.
fn place(root: &Path, file: &Path) -> Result<PathBuf> {
    let place = root.join(file.strip_prefix("/").context("an absolute path")?);
    fs::create_dir_all(place.parent().context("a file is in a directory")?)
        .context("make a directory as it is here")?;
    Ok(place)
}

/// The libraries that a program is linked with, the loader among them.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let listed = step::output(Command::new("ldd").arg(program))?;
    let paths = listed.split_ascii_whitespace().filter(|word| word.starts_with('/'));
    Ok(paths.map(PathBuf::from).collect())
}

/// Boots `kernel`, runs `script` there, and returns the lines of its console. An emulated kernel dies now and then before
/// its first process has begun; then it is booted again.
pub(super) fn boot(
    emulator: &Emulator,
    kernel: &Kernel,
    luggage: &Luggage,
    lsm: Lsm,
    script: &str,
) -> Result<Vec<String>> {
    for _ in 1..BOOTS_MAX {
        let lines = boot_once(emulator, kernel, luggage, lsm, script)?;
        if lines.iter().any(|line| line == BEGUN) {
            return Ok(lines);
        }
        step::announce(&format!("Linux {} died before anything began: once more", kernel.series));
    }
    boot_once(emulator, kernel, luggage, lsm, script)
}

fn boot_once(
    emulator: &Emulator,
    kernel: &Kernel,
    luggage: &Luggage,
    lsm: Lsm,
    script: &str,
) -> Result<Vec<String>> {
    let directory = fresh(&workspace::scratch().join("matrix").join(&kernel.series))?;
    let initramfs = directory.join("initramfs");
    archive(kernel, luggage, script, &directory.join("root"), &initramfs)?;
    let console = directory.join("console.log");
    let output = File::create(&console).context("make the console's file")?;
    let mut command = emulator.command(PROCESSORS);
    command.args(["-serial", "stdio", "-append", &[KERNEL_ARGUMENTS, lsm.argument()].concat()]);
    command.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(&initramfs);
    let mut machine = command.stdin(Stdio::null()).stdout(output).spawn().context("start QEMU")?;
    let start = Instant::now();
    let ended = loop {
        if machine.try_wait().context("wait for QEMU")?.is_some() {
            break true;
        }
        if start.elapsed() > LIMIT {
            break false;
        }
        thread::sleep(LOOK_INTERVAL);
    };
    if !ended {
        machine.kill().context("switch the machine off")?;
        machine.wait().context("wait for QEMU")?;
    }
    let text = fs::read(&console).context("read the console")?;
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().map(|line| line.trim().to_owned()).collect();
    if !ended {
        let last = lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n");
        bail!("Linux {} does not end within {} s:\n{last}", kernel.series, LIMIT.as_secs());
    }
    Ok(lines)
}

/// The memory file system as the kernel unpacks it.
fn archive(kernel: &Kernel, luggage: &Luggage, script: &str, root: &Path, to: &Path) -> Result<()> {
    step::output(Command::new("cp").args(["-a"]).arg(&luggage.root).arg(root))?;
    let modules = root.join("modules");
    fs::create_dir_all(&modules).context("make a directory for modules")?;
    for path in workspace::files_below(&kernel.root)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some((name, kind)) = name.split_once(".ko") else { continue };
        if !MODULES.contains(&name) {
            continue;
        }
        let plain = modules.join(format!("{name}.ko"));
        if kind == ".xz" {
            let mut unpack = Command::new(&luggage.busybox);
            unpack.args(["xz", "-dc"]).arg(&path).stdin(Stdio::null());
            let unpacked = unpack.output().context("unpack a module")?;
            fs::write(&plain, unpacked.stdout).context("write a module")?;
        } else {
            fs::copy(&path, &plain).context("copy a module")?;
        }
    }
    fs::write(root.join("script"), script).context("write the script")?;
    let mut pack = Command::new("sh");
    pack.args(["-c", "cd \"$0\" && find . | \"$1\" cpio -o -H newc > \"$2\""]);
    step::output(pack.arg(root).arg(&luggage.busybox).arg(to)).map(drop)
}
