//! Leaves out of the object what only a debugger reads: five sixths of it. The linker has made BTF from it by now.

use anyhow::{Context as _, Result};
use object::build::elf::{Builder, SectionData};
use object::elf::SHT_STRTAB;

/// The ELF file `linked` without its DWARF sections; code, maps, BTF and their relocations stay as they are.
///
/// # Errors
/// If it is not an ELF file.
pub(super) fn without_debug_sections(linked: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(linked).context("understand what the linker wrote")?;
    for section in &mut builder.sections {
        let name = section.name.as_slice();
        section.delete |= name.starts_with(b".debug_") || name.starts_with(b".rel.debug_");
    }
    // The symbols that stood for those sections.
    builder.delete_orphans();
    // LLVM keeps the names of sections and of symbols in one table; what is written here needs two.
    let shared =
        !builder.sections.iter().any(|section| matches!(section.data, SectionData::SectionString));
    if shared {
        let names = builder.sections.add();
        names.name = b".shstrtab"[..].into();
        names.sh_type = SHT_STRTAB;
        names.sh_addralign = 1;
        names.data = SectionData::SectionString;
    }
    let mut object = Vec::new();
    builder.write(&mut object).context("write the object without debug sections")?;
    Ok(object)
}
