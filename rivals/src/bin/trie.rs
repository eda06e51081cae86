//! Fills a BPF_MAP_TYPE_LPM_TRIE, a system call for each prefix, and prints how many milliseconds that took.
//!
//! `trie PIN LIST`: the map is pinned at PIN, with keys of a length and an IPv4 address and values of 4 bytes; LIST has a
//! prefix a line.

use std::env;
use std::fs;
use std::net::Ipv4Addr;
use std::time::Instant;

use anyhow::{Context as _, Result};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Map, MapData};

fn main() -> Result<()> {
    let mut words = env::args().skip(1);
    let pin = words.next().context("where is the map pinned?")?;
    let list = words.next().context("which list?")?;
    let keys: Vec<_> = fs::read_to_string(list)?.lines().map(key).collect::<Result<_>>()?;
    let map = Map::LpmTrie(MapData::from_pin(pin).context("open the trie")?);
    let mut trie: LpmTrie<_, u32, u32> = LpmTrie::try_from(map).context("the trie")?;
    let begun = Instant::now();
    for key in &keys {
        trie.insert(key, 1, 0).context("put a prefix into the trie")?;
    }
    println!("{}", begun.elapsed().as_secs_f64() * 1e3);
    Ok(())
}

fn key(line: &str) -> Result<Key<u32>> {
    let (address, length) = line.split_once('/').unwrap_or((line, "32"));
    let address: Ipv4Addr = address.parse().with_context(|| format!("{line:?} is no prefix"))?;
    Ok(Key::new(length.parse()?, address.to_bits().to_be()))
}
