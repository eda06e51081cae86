//! Whether the programs read the kernel's structures where the kernel's own tool says that their fields are.
//!
//! What `fwnet doctor` told of its fields in the machine is compared with what bpftool tells here of the same kernel's image:
//! `/sys/kernel/btf/vmlinux` of the running kernel is a section of that.

use super::kernels::Kernel;
use crate::packages::{Need, Package};
use crate::step;
use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

/// What takes a kernel's image apart.
pub(super) const NEEDS: &[Need] = &[
    Need {
        program: "bpftool",
        package: Package { name: "bpftool", why: "the kernel's own account of its structures" },
    },
    Need {
        program: "lz4",
        package: Package { name: "lz4", why: "what older kernels are packed with" },
    },
    Need {
        program: "zstd",
        package: Package { name: "zstd", why: "what kernels are packed with" },
    },
];
/// Of how many fields it must be known where they are; the programs read a few more, of which an old kernel lacks some.
const KNOWN_MIN: usize = 36;
/// What bpftool calls a type or member without a name.
const NAMELESS: &str = "(anon)";
/// Nameless structures and unions, one inside the other.
const NESTING_MAX: u32 = 8;

/// One type as `bpftool --json btf dump` tells it.
#[derive(Debug, Deserialize)]
struct Type {
    id: u32,
    kind: String,
    name: String,
    #[serde(default)]
    members: Vec<Member>,
}

#[derive(Debug, Deserialize)]
struct Member {
    name: String,
    type_id: u32,
    bits_offset: u32,
}

#[derive(Debug, Deserialize)]
struct Dump {
    types: Vec<Type>,
}

/// A field as `fwnet doctor` tells it.
#[derive(Debug, Deserialize)]
struct Told {
    structure: String,
    field: String,
    /// In bytes; none where it is not there as it is read.
    offset: Option<u32>,
}

/// Compares the `fields` of what `fwnet doctor` said on `kernel`, and returns how many of them it knows. Writes into
/// `directory`.
///
/// # Errors
/// If one is elsewhere, if too few are known, or if the image cannot be taken apart.
pub(super) fn compare(kernel: &Kernel, doctor: &Value, directory: &Path) -> Result<usize> {
    let told: Vec<Told> = serde_json::from_value(doctor["fields"].clone())?;
    let plain = directory.join("vmlinux");
    unpack(&kernel.image, directory, &plain)?;
    let dump =
        step::output(Command::new("bpftool").args(["--json", "btf", "dump", "file"]).arg(&plain))?;
    fs::remove_file(&plain).context("remove the unpacked kernel")?;
    let dump: Dump = serde_json::from_str(&dump).context("understand bpftool")?;
    let types: BTreeMap<u32, &Type> = dump.types.iter().map(|it| (it.id, it)).collect();
    let known: Vec<_> = told.iter().filter_map(|told| Some((told, told.offset?))).collect();
    for (Told { structure, field, .. }, offset) in &known {
        let found = types.values().find(|it| it.kind == "STRUCT" && it.name == *structure);
        let at = found.and_then(|found| bits(found, field, &types, NESTING_MAX));
        ensure!(
            at == Some(8 * offset),
            "{structure}.{field} is read at byte {offset}, and bpftool says at bit {at:?}"
        );
    }
    ensure!(known.len() >= KNOWN_MIN, "only {} fields are known", known.len());
    Ok(known.len())
}

/// Where a member is, in bits; also inside nameless structures and unions.
fn bits(of: &Type, wanted: &str, types: &BTreeMap<u32, &Type>, nesting: u32) -> Option<u32> {
    of.members.iter().find_map(|member| {
        if member.name == wanted {
            return Some(member.bits_offset);
        }
        let inner = types.get(&member.type_id).filter(|it| {
            member.name == NAMELESS && nesting > 0 && matches!(&*it.kind, "STRUCT" | "UNION")
        })?;
        Some(member.bits_offset + bits(inner, wanted, types, nesting - 1)?)
    })
}

/// Unpacks what a bootable image has inside (Documentation/arch/x86/boot.rst: `setup_sects`, `payload_offset` and
/// `payload_length`); the size of the unpacked kernel stands behind it.
fn unpack(image: &Path, directory: &Path, to: &Path) -> Result<()> {
    let bytes = fs::read(image).with_context(|| image.display().to_string())?;
    let word = |at: usize| {
        let word = bytes.get(at..at + 4).context("the image ends early")?;
        Ok::<_, anyhow::Error>(u32::from_le_bytes(word.try_into()?) as usize)
    };
    let sectors = usize::from(*bytes.get(0x1f1).context("the image ends early")?).max(1);
    let start = (sectors + 1) * 512 + word(0x248)?;
    let end = start + word(0x24c)? - 4;
    let payload = bytes.get(start..end).context("the image ends early")?;
    let packed = directory.join("vmlinux.packed");
    fs::write(&packed, payload).context("write the packed kernel")?;
    let program = match payload {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd",
        [0x02, 0x21, 0x4c, 0x18, ..] => "lz4",
        _ => bail!("{} is packed with something unknown", image.display()),
    };
    let status = Command::new(program)
        .arg("-dc")
        .stdin(File::open(&packed).context("open the packed kernel")?)
        .stdout(File::create(to).context("make the unpacked kernel")?)
        .stderr(Stdio::inherit())
        .status();
    let status = status.with_context(|| format!("start {program}"))?;
    ensure!(status.success(), "{program}: {status}");
    fs::remove_file(packed).context("remove the packed kernel")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_found_inside_what_has_no_name() {
        let dump = r#"{"types":[
            {"id":1,"kind":"INT","name":"int","size":4},
            {"id":2,"kind":"UNION","name":"(anon)","members":[{"name":"b","type_id":1,"bits_offset":32}]},
            {"id":3,"kind":"STRUCT","name":"s","members":[
                {"name":"a","type_id":1,"bits_offset":0},{"name":"(anon)","type_id":2,"bits_offset":64}]}]}"#;
        let dump: Dump = serde_json::from_str(dump).expect("as bpftool writes it");
        let types: BTreeMap<u32, &Type> = dump.types.iter().map(|it| (it.id, it)).collect();
        let found = ["a", "b", "c"].map(|name| bits(types[&3], name, &types, NESTING_MAX));
        assert_eq!(found, [Some(0), Some(96), None]);
    }
}
