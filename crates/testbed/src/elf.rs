//! An object file around a few BPF instructions, as loaders expect it: what somebody else's program is made of.

use object::{
    Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
    write::{Object, Symbol, SymbolSection},
};

/// A program `name` for the hook that `section` names, with its licence. An instruction is 8 bytes (the kernel's
/// Documentation/bpf/standardization/instruction-set.rst).
///
/// # Panics
/// Where the names do not fit into an object file.
pub fn bpf_object(section: &str, name: &str, code: &[u8]) -> Vec<u8> {
    let mut elf = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
    let text = elf.add_section(Vec::new(), section.into(), SectionKind::Text);
    elf.append_section_data(text, code, 8);
    elf.add_symbol(Symbol {
        name: name.into(),
        value: 0,
        size: code.len() as u64,
        kind: SymbolKind::Text,
        scope: SymbolScope::Dynamic,
        weak: false,
        section: SymbolSection::Section(text),
        flags: SymbolFlags::None,
    });
    let licence = elf.add_section(Vec::new(), b"license".to_vec(), SectionKind::Data);
    elf.append_section_data(licence, b"Dual MIT/GPL\0", 1);
    elf.write().expect("two sections and a symbol fit")
}
