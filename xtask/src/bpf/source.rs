//! What the BPF object is made of: crates/ebpf, crates/verdict and the few lines of the root manifest they inherit.
//!
//! The build sees a copy of these and nothing else, so the digest cannot miss anything. The copy is one workspace with
//! both crates as members; in the repository `ebpf` is outside the workspace, and cargo would mix the absolute path of
//! `verdict` into every symbol's name.

use super::record;
use crate::workspace;
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use toml::{Table, Value};

/// Every file of the source, and the manifest of the copy's root.
#[derive(Debug)]
pub struct Source {
    /// Contents by path in the repository.
    files: BTreeMap<String, Vec<u8>>,
    /// `[workspace.package]` and those entries of `[workspace.dependencies]` that `verdict` inherits.
    inherited: Table,
}

const EBPF: &str = "crates/ebpf/Cargo.toml";
const VERDICT: &str = "crates/verdict/Cargo.toml";
const LOCK: &str = "crates/ebpf/Cargo.lock";

impl Source {
    /// Reads the source in the repository at `root`.
    ///
    /// # Errors
    /// If a file is missing, the lock file among them, or not what it should be.
    pub fn read(root: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        for (directory, below) in [("crates/ebpf", "."), ("crates/verdict", "src")] {
            for path in workspace::files_below(&root.join(directory).join(below))? {
                let name = path.strip_prefix(root).unwrap_or(&path);
                // "crates/ebpf/./src" is "crates/ebpf/src": Path's components drop the dot.
                let name = name.components().collect::<std::path::PathBuf>().display().to_string();
                files.insert(
                    name,
                    fs::read(&path).with_context(|| format!("read {}", path.display()))?,
                );
            }
        }
        for name in [EBPF, VERDICT, LOCK] {
            files.insert(
                name.into(),
                fs::read(root.join(name)).with_context(|| format!("read {name}"))?,
            );
        }
        let text = fs::read_to_string(root.join("Cargo.toml")).context("read Cargo.toml")?;
        let workspace = table(&text, "Cargo.toml")?;
        let mut source = Self { files, inherited: Table::new() };
        source.inherited = source.inherit(&workspace)?;
        Ok(source)
    }

    /// Digest of every path and content and of what is inherited.
    pub fn digest(&self) -> String {
        let mut all = Vec::new();
        let inherited = canonical(&Value::Table(self.inherited.clone()));
        let files = self.files.iter().map(|(name, content)| (name.as_str(), content.as_slice()));
        for (name, content) in files.chain([("Cargo.toml", inherited.as_bytes())]) {
            for part in [name.as_bytes(), content] {
                // Lengths before contents: no two different sources run together to the same bytes.
                all.extend_from_slice(&(part.len() as u64).to_le_bytes());
                all.extend_from_slice(part);
            }
        }
        record::digest(&all)
    }

    /// The name of the package that is built.
    ///
    /// # Errors
    /// If its manifest has none.
    pub fn package(&self) -> Result<String> {
        let manifest = self.manifest(EBPF)?;
        let name =
            manifest.get("package").and_then(|package| package.get("name")).and_then(Value::as_str);
        Ok(name.with_context(|| format!("{EBPF} has a package name"))?.to_owned())
    }

    /// Makes `directory` the copy. A file that is there already with the same content is not touched, so that the next
    /// build starts where the last one ended.
    ///
    /// # Errors
    /// If the copy cannot be written.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let copy = self.copy()?;
        if directory.exists() {
            for path in workspace::files_below(directory)? {
                let name = path.strip_prefix(directory).unwrap_or(&path).display().to_string();
                if !copy.contains_key(&name) {
                    fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
                }
            }
        }
        for (name, content) in &copy {
            let path = directory.join(name);
            if fs::read(&path).is_ok_and(|present| present == *content) {
                continue;
            }
            let parent = path.parent().expect("a file is in a directory");
            fs::create_dir_all(parent)
                .with_context(|| format!("make directory {}", parent.display()))?;
            fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }

    /// The files of the copy: the source's, with the manifests of a workspace of its own.
    fn copy(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut copy = self.files.clone();
        let lock = copy.remove(LOCK).context("the source has a lock file")?;
        copy.insert("Cargo.lock".into(), lock);

        let mut ebpf = self.manifest(EBPF)?;
        let mut root = Table::new();
        let mut workspace = self.inherited.clone();
        workspace.insert("resolver".into(), "3".into());
        workspace.insert("members".into(), vec!["crates/ebpf", "crates/verdict"].into());
        root.insert("workspace".into(), Value::Table(workspace));
        // Cargo reads profiles from the root only.
        if let Some(profile) = ebpf.remove("profile") {
            root.insert("profile".into(), profile);
        }
        ebpf.remove("workspace");
        let mut verdict = self.manifest(VERDICT)?;
        // Neither lints nor what the tests need go into the object, and the lock file knows no tests' needs.
        for part in ["lints", "dev-dependencies"] {
            verdict.remove(part);
        }
        for (name, manifest) in [("Cargo.toml", root), (EBPF, ebpf), (VERDICT, verdict)] {
            let text =
                toml::to_string(&manifest).with_context(|| format!("write the copy's {name}"))?;
            copy.insert(name.into(), text.into_bytes());
        }
        Ok(copy)
    }

    /// What `verdict` takes from the root manifest.
    fn inherit(&self, root: &Table) -> Result<Table> {
        let workspace = root
            .get("workspace")
            .and_then(Value::as_table)
            .context("Cargo.toml is a workspace's")?;
        let known = workspace
            .get("dependencies")
            .and_then(Value::as_table)
            .context("it lists dependencies")?;
        let verdict = self.manifest(VERDICT)?;
        let wanted = verdict.get("dependencies").and_then(Value::as_table);
        let mut dependencies = Table::new();
        for (name, dependency) in wanted.into_iter().flatten() {
            if dependency.get("workspace").is_some() {
                let entry = known.get(name).with_context(|| format!("Cargo.toml lists {name}"))?;
                dependencies.insert(name.clone(), entry.clone());
            }
        }
        let package =
            workspace.get("package").context("Cargo.toml has a table workspace.package")?;
        Ok(Table::from_iter([
            ("package".to_owned(), package.clone()),
            ("dependencies".to_owned(), Value::Table(dependencies)),
        ]))
    }

    fn manifest(&self, name: &str) -> Result<Table> {
        let bytes = self.files.get(name).with_context(|| format!("the source has {name}"))?;
        table(std::str::from_utf8(bytes).with_context(|| format!("{name} is text"))?, name)
    }
}

fn table(text: &str, name: &str) -> Result<Table> {
    text.parse().with_context(|| format!("understand {name}"))
}

/// One text per value, whatever the order of its keys and the version of the TOML library.
fn canonical(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Table(table) => {
            let sorted: BTreeMap<_, _> = table.iter().collect();
            for (key, value) in sorted {
                write!(text, "{key:?}={};", canonical(value)).expect("a String takes every write");
            }
            format!("{{{text}}}")
        }
        Value::Array(items) => {
            for item in items {
                write!(text, "{};", canonical(item)).expect("a String takes every write");
            }
            format!("[{text}]")
        }
        Value::String(string) => format!("{string:?}"),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(truth) => truth.to_string(),
        Value::Datetime(time) => time.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Source {
        let ebpf = "[package]\nname = \"hooks\"\n[dependencies]\nverdict = { path = \"../verdict\" }\n[profile.release]\nlto = true\n[workspace]\n";
        let verdict = "[package]\nname = \"verdict\"\nversion.workspace = true\n[dependencies]\nzerocopy.workspace = true\n\
            [dev-dependencies]\nproptest.workspace = true\n[lints]\nworkspace = true\n";
        let files = [
            (EBPF, ebpf),
            (VERDICT, verdict),
            (LOCK, "version = 4\n"),
            ("crates/ebpf/src/main.rs", "//! x\n"),
        ];
        let files = files.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())).into();
        let mut source = Source { files, inherited: Table::new() };
        let root = "[workspace.package]\nversion = \"1\"\n[workspace.dependencies]\nzerocopy = \"0.8\"\naya = \"0.14\"\n";
        source.inherited = source.inherit(&root.parse().unwrap()).unwrap();
        source
    }

    #[test]
    fn the_copy_is_a_workspace_of_its_own_without_lints_and_tests() {
        let copy = sample().copy().unwrap();
        let text = |name: &str| String::from_utf8(copy[name].clone()).unwrap();
        let root: Table = text("Cargo.toml").parse().unwrap();
        assert_eq!(root["profile"]["release"]["lto"], Value::Boolean(true));
        assert_eq!(
            root["workspace"]["dependencies"],
            Value::Table("zerocopy = \"0.8\"".parse().unwrap())
        );
        assert!(!text(EBPF).contains("[workspace]") && !text(EBPF).contains("profile"));
        assert!(!text(VERDICT).contains("proptest") && !text(VERDICT).contains("lints"));
        assert_eq!(text("Cargo.lock"), "version = 4\n");
        assert_eq!(sample().package().unwrap(), "hooks");
    }

    #[test]
    fn the_digest_follows_every_file_and_what_is_inherited() {
        let digest = sample().digest();
        assert_eq!(digest, sample().digest());
        for name in [EBPF, VERDICT, LOCK, "crates/ebpf/src/main.rs"] {
            let mut source = sample();
            source.files.get_mut(name).unwrap().push(b'\n');
            assert_ne!(digest, source.digest(), "{name}");
        }
        let mut source = sample();
        source.inherited["dependencies"]["zerocopy"] = "0.9".into();
        assert_ne!(digest, source.digest(), "the version of a dependency");
    }
}
