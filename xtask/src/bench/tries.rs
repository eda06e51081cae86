//! BPF_MAP_TYPE_LPM_TRIE of the kernel, which firewalls on BPF look addresses up in: making one and filling it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use aya::Pod;
use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{Map, MapData};

use crate::step;

/// A bpf file system below a directory, until this value ends.
pub(super) struct Pins(PathBuf);

impl Pins {
    pub(super) fn mount(directory: &Path) -> Result<Self> {
        let place = directory.join("tries");
        fs::create_dir_all(&place).context("a directory for tries")?;
        step::run(Command::new("mount").args(["-t", "bpf", "bpf"]).arg(&place))?;
        Ok(Self(place))
    }

    /// Where the trie `name` is.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A trie with keys of `bytes` bytes behind their length and values of 4.
    pub(super) fn trie<K: Pod>(
        &self,
        name: &str,
        entries: usize,
    ) -> Result<LpmTrie<MapData, K, u32>> {
        let pin = self.path(name).display().to_string();
        let (key, entries) = ((4 + size_of::<K>()).to_string(), entries.to_string());
        // BPF_F_NO_PREALLOC, without which the kernel makes no trie.
        const NO_PREALLOC: &str = "1";
        let mut create = Command::new("bpftool");
        create.args(["map", "create", &pin, "type", "lpm_trie", "key", &key, "value", "4"]);
        create.args(["entries", &entries, "name", name, "flags", NO_PREALLOC]);
        step::run(&mut create)?;
        let map = Map::LpmTrie(MapData::from_pin(pin).context("open the trie")?);
        LpmTrie::try_from(map).context("the trie")
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        if let Err(error) = step::run(Command::new("umount").arg(&self.0)) {
            eprintln!("{error:#}");
        }
    }
}
