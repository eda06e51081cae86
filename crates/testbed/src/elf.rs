//! An object file around a few BPF instructions, as loaders expect it: what somebody else's program is made of.

use object::{
    Architecture, BinaryFormat, Endianness, RelocationFlags, SectionKind, SymbolFlags, SymbolKind,
    SymbolScope,
    write::{Object, Relocation, SectionId, Symbol, SymbolId, SymbolSection},
};

/// `R_BPF_64_64` (the kernel's Documentation/bpf/llvm_reloc.rst): a map's descriptor in an instruction of 16 bytes.
const MAP_REFERENCE: u32 = 1;

/// A map of a program.
#[derive(Clone, Copy, Debug)]
pub struct BpfMap<'a> {
    /// Its name.
    pub name: &'a str,
    /// `bpf_map_type`, and the sizes of a key and of a value in bytes.
    pub shape: [u32; 3],
    /// How many entries it has.
    pub entries: u32,
    /// Where in the code the instruction is that names it, in bytes.
    pub named_at: u64,
}

/// A program `name` for the hook that `section` names, with its licence. An instruction is 8 bytes (the kernel's
/// Documentation/bpf/standardization/instruction-set.rst).
///
/// # Panics
/// Where the names do not fit into an object file.
pub fn bpf_object(section: &str, name: &str, code: &[u8]) -> Vec<u8> {
    written(section, name, code, None)
}

/// The same with a map.
///
/// # Panics
/// As [`bpf_object`].
pub fn bpf_object_with_map(section: &str, name: &str, code: &[u8], map: BpfMap<'_>) -> Vec<u8> {
    written(section, name, code, Some(map))
}

fn written(section: &str, name: &str, code: &[u8], map: Option<BpfMap<'_>>) -> Vec<u8> {
    let mut elf = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
    let text = elf.add_section(Vec::new(), section.into(), SectionKind::Text);
    elf.append_section_data(text, code, 8);
    symbol(&mut elf, name, text, SymbolKind::Text, code.len());
    if let Some(map) = map {
        let maps = elf.add_section(Vec::new(), b"maps".to_vec(), SectionKind::Data);
        let [kind, key, value] = map.shape;
        // `struct bpf_map_def` of older loaders: these four, and flags.
        let words = [kind, key, value, map.entries, 0].map(u32::to_le_bytes).concat();
        elf.append_section_data(maps, &words, 4);
        let symbol = symbol(&mut elf, map.name, maps, SymbolKind::Data, words.len());
        let flags = RelocationFlags::Elf { r_type: MAP_REFERENCE };
        let relocation = Relocation { offset: map.named_at, symbol, addend: 0, flags };
        elf.add_relocation(text, relocation).expect("the architecture has relocations");
    }
    let licence = elf.add_section(Vec::new(), b"license".to_vec(), SectionKind::Data);
    elf.append_section_data(licence, b"Dual MIT/GPL\0", 1);
    elf.write().expect("a few sections and symbols fit")
}

fn symbol(
    elf: &mut Object<'_>,
    name: &str,
    section: SectionId,
    kind: SymbolKind,
    size: usize,
) -> SymbolId {
    elf.add_symbol(Symbol {
        name: name.into(),
        value: 0,
        size: size as u64,
        kind,
        scope: SymbolScope::Dynamic,
        weak: false,
        section: SymbolSection::Section(section),
        flags: SymbolFlags::None,
    })
}
