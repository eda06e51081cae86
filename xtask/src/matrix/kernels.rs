//! Debian's kernels for virtual machines: of old suites, of this one and of newer ones. They are downloaded by apt with a
//! configuration, lists and a cache of its own in the scratch directory; the system's own apt never hears of those suites.

use crate::qemu::unpack;
use crate::step::{announce, output, run};
use crate::workspace;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the kernels come from: each release of Debian that is still in its archive, and what is made for the newest.
const SUITES: [&str; 4] = ["bullseye", "bookworm", "trixie", "trixie-backports"];
/// Signs them.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Names the kernels for virtual machines, in each suite the newest.
const KERNEL: &str = "linux-image-cloud-amd64";
/// The releases of Linux that are tried, besides the newest that is packaged and of which it is known what to expect.
const SERIES: [&str; 3] = ["5.10", "6.1", "6.12"];
/// What is kept of an earlier choice: a line for each kernel, release and package.
const CHOSEN: &str = "chosen";

/// An unpacked kernel.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    /// Major and minor number: `6.12`.
    pub(super) series: String,
    /// Its image.
    pub(super) image: PathBuf,
    /// The directory that it was unpacked into.
    pub(super) root: PathBuf,
}

/// apt with a configuration of its own.
struct Apt {
    directory: PathBuf,
}

/// The kernels of the matrix, oldest first, and a static busybox. What was chosen once is used again, unless `anew`. Of the
/// series in `expected` it is known what comes of the rows; Debian may package a newer one any day, and that is said.
pub(super) fn provide(anew: bool, expected: &[String]) -> Result<(Vec<Kernel>, PathBuf)> {
    let directory = workspace::scratch().join("vm/kernels");
    let chosen = directory.join(CHOSEN);
    let apt = Apt { directory: workspace::scratch().join("vm/apt") };
    if anew || !chosen.exists() {
        fs::create_dir_all(&directory).context("make a directory for kernels")?;
        apt.configure()?;
        let lines: Vec<_> = apt
            .newest(expected, anew)?
            .iter()
            .map(|(series, name)| format!("{series} {name}"))
            .collect();
        for name in lines.iter().filter_map(|line| line.split(' ').nth(1)) {
            apt.unpacked(name, &directory)?;
        }
        apt.unpacked("busybox-static", &directory)?;
        // Last, so that it is there only when everything is.
        fs::write(&chosen, lines.join("\n")).context("note the kernels")?;
    }
    let text = fs::read_to_string(&chosen).context("read which kernels were chosen")?;
    let kernels = text.lines().map(|line| {
        let (series, name) = line.split_once(' ').context("a line of two words")?;
        let root = directory.join(name);
        Ok(Kernel { series: series.to_owned(), image: image(&root)?, root })
    });
    let busybox = directory.join("busybox-static/usr/bin/busybox");
    let elsewhere = directory.join("busybox-static/bin/busybox");
    let busybox = if busybox.exists() { busybox } else { elsewhere };
    Ok((kernels.collect::<Result<_>>()?, busybox))
}

/// The kernel's image: in `/boot`, or beside its modules.
fn image(root: &Path) -> Result<PathBuf> {
    let files = workspace::files_below(root)?;
    let is_image = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name == "vmlinuz" || name.starts_with("vmlinuz-")
    };
    files.into_iter().find(is_image).with_context(|| format!("no kernel in {}", root.display()))
}

impl Apt {
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let option =
            |name: &str, path: &str| format!("{name}={}", self.directory.join(path).display());
        for (name, path) in [
            ("Dir::Etc", "etc"),
            ("Dir::Etc::sourcelist", "etc/sources.list"),
            ("Dir::State", "state"),
            ("Dir::State::status", "state/status"),
            ("Dir::Cache", "cache"),
        ] {
            command.arg("-o").arg(option(name, path));
        }
        for plain in [
            "Dir::Etc::sourceparts=/dev/null",
            "Dir::Etc::preferencesparts=/dev/null",
            "Acquire::Languages=none",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
            "APT::Sandbox::User=root",
        ] {
            command.args(["-o", plain]);
        }
        command
    }

    /// Writes the configuration and fetches the lists.
    fn configure(&self) -> Result<()> {
        for path in ["etc", "state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(self.directory.join(path)).context("make a directory for apt")?;
        }
        let mirror = mirror()?;
        let lines = SUITES.map(|suite| format!("deb [signed-by={KEYS}] {mirror} {suite} main\n"));
        fs::write(self.directory.join("etc/sources.list"), lines.concat())
            .context("write apt's sources")?;
        fs::write(self.directory.join("state/status"), "").context("write apt's status")?;
        announce(&format!("package lists of {}", SUITES.join(", ")));
        run(self.command("apt-get").args(["--quiet", "--quiet", "update"]))
    }

    /// The packages of the kernels of the matrix, by release.
    fn newest(&self, expected: &[String], anew: bool) -> Result<Vec<(String, String)>> {
        let shown = output(self.command("apt-cache").args(["show", KERNEL]))?;
        let every: Vec<String> =
            shown.lines().filter_map(|line| depended(line, "linux-image-")).collect();
        let (mut chosen, newest) = choose(&every)?;
        if expected.contains(&newest.0) || anew {
            chosen.push(newest);
        } else {
            announce(&format!(
                "Linux {0} is the newest that is packaged, and nobody knows yet what to expect of it: \
                 cargo xtask matrix --anew --write {0}",
                newest.0
            ));
        }
        chosen.dedup();
        Ok(chosen)
    }

    /// Downloads a package with the parts of the kernel that it depends on, and unpacks them together.
    fn unpacked(&self, name: &str, directory: &Path) -> Result<()> {
        let root = directory.join(name);
        if root.exists() {
            return Ok(());
        }
        let mut names = vec![name.to_owned()];
        let mut shown = output(self.command("apt-cache").args(["show", name]))?;
        // Since 6.19 the image is made of two packages.
        for part in ["linux-binary-", "linux-modules-"] {
            names.extend(shown.lines().find_map(|line| depended(line, part)));
        }
        shown.clear();
        let packages = directory.join("packages").join(name);
        fs::create_dir_all(&packages).context("make a directory for packages")?;
        announce(&format!("downloading {}", names.join(", ")));
        let mut download = self.command("apt-get");
        download.args(["--quiet", "--quiet", "download"]).args(&names).current_dir(&packages);
        run(&mut download)?;
        unpack(&packages, &root)
    }
}

/// The package of a `Depends:` line whose name begins like that.
fn depended(line: &str, start: &str) -> Option<String> {
    let depends = line.strip_prefix("Depends: ")?;
    let mut names = depends.split(", ").filter_map(|one| one.split(' ').next());
    names.find(|name| name.starts_with(start)).map(str::to_owned)
}

/// A series, and the package of a kernel.
type Named = (String, String);

/// Of each series that is wanted the newest, and the newest of all.
fn choose(names: &[String]) -> Result<(Vec<Named>, Named)> {
    let version = |name: &str| -> Vec<u32> {
        let version = name.trim_start_matches("linux-image-");
        version.split(['.', '-', '+']).map_while(|part| part.parse().ok()).collect()
    };
    let mut known: Vec<_> = names.iter().map(|name| (version(name), name)).collect();
    known.sort();
    let series = |version: &[u32]| match version {
        [major, minor, ..] => format!("{major}.{minor}"),
        _ => String::new(),
    };
    let mut chosen = Vec::new();
    for wanted in SERIES {
        match known.iter().rfind(|(version, _)| series(version) == wanted) {
            Some((_, name)) => chosen.push((wanted.to_owned(), (*name).clone())),
            None => bail!("no package of Linux {wanted} among {}", names.join(", ")),
        }
    }
    let (version, name) = known.last().context("no kernel is packaged")?;
    let newest = (series(version), (*name).clone());
    Ok((chosen, newest))
}

/// The archive that the system's own packages come from.
fn mirror() -> Result<String> {
    let format = "$(ORIGIN)|$(LABEL)|$(SITE)";
    let lines = output(Command::new("apt-get").args(["indextargets", "--format", format]))?;
    let site = lines.lines().find_map(|line| line.strip_prefix("Debian|Debian|"));
    site.map(str::to_owned).context("apt has no lists of Debian: run apt-get update, on Debian")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_series_the_newest_is_chosen_and_the_newest_of_all() {
        let names = [
            "linux-image-6.12.94+deb13-cloud-amd64",
            "linux-image-7.3.4+deb13-cloud-amd64",
            "linux-image-6.12.107+deb13-cloud-amd64",
            "linux-image-6.1.0-50-cloud-amd64",
            "linux-image-5.10.0-32-cloud-amd64",
        ]
        .map(str::to_owned);
        let (chosen, newest) = choose(&names).unwrap();
        let expected = [
            ("5.10", "linux-image-5.10.0-32-cloud-amd64"),
            ("6.1", "linux-image-6.1.0-50-cloud-amd64"),
            ("6.12", "linux-image-6.12.107+deb13-cloud-amd64"),
        ];
        assert_eq!(chosen, expected.map(|(series, name)| (series.to_owned(), name.to_owned())));
        assert_eq!(newest, ("7.3".to_owned(), "linux-image-7.3.4+deb13-cloud-amd64".to_owned()));
        assert!(choose(&names[..2]).is_err());
    }

    #[test]
    fn dependencies_are_read() {
        let line = "Depends: linux-base, linux-binary-7.3 (= 1), linux-modules-7.3 (= 1)";
        assert_eq!(depended(line, "linux-binary-").as_deref(), Some("linux-binary-7.3"));
        assert_eq!(depended("Version: 1", "linux-"), None);
    }
}
