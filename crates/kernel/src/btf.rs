//! Where fields of kernel structures are, by the kernel's own account: BTF (Documentation/bpf/btf.rst).
//!
//! Reads no more than it needs: structures by name, their members, and how wide those are. Whatever the bytes are, the
//! answer is a field or nothing.

use std::{collections::BTreeMap, fs, io};

/// What the kernel's BTF looks like on disk.
const MAGIC: u16 = 0xeb9f;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const FUNCTION: u32 = 12;
const PROTOTYPE: u32 = 13;
const POINTER: u32 = 2;
/// `BTF_FUNC_GLOBAL` (include/uapi/linux/btf.h).
const GLOBAL: u32 = 1;

/// Unions and structures without a name that are searched for a member, one inside the other.
const NESTING_MAX: u32 = 8;

/// Why there is no BTF.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The kernel does not show it (CONFIG_DEBUG_INFO_BTF).
    #[error("read /sys/kernel/btf/vmlinux")]
    Read(#[from] io::Error),
    /// The bytes are not BTF of the known version.
    #[error("the BTF is damaged at byte {at}")]
    Damaged {
        /// Where reading stopped.
        at: usize,
    },
}

/// A field of a structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Bytes from the structure's start.
    pub offset: u32,
    /// Bytes that it takes.
    pub size: u32,
}

/// The types of a kernel.
#[derive(Debug)]
pub struct Btf {
    bytes: Vec<u8>,
    strings: usize,
    /// Where each type begins; number 0 is `void` and begins nowhere.
    types: Vec<usize>,
    /// Numbers of the structures, by name.
    structures: BTreeMap<String, u32>,
}

impl Btf {
    /// Of the running kernel.
    ///
    /// # Errors
    /// Where it has none.
    pub fn running() -> Result<Self, BtfError> {
        Self::parse(fs::read("/sys/kernel/btf/vmlinux")?)
    }

    /// From bytes in this machine's byte order.
    ///
    /// # Errors
    /// [`BtfError::Damaged`] where they are not BTF.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, BtfError> {
        let damaged = |at| move || BtfError::Damaged { at };
        let mut btf = Self { bytes, strings: 0, types: vec![0], structures: BTreeMap::new() };
        let word = |btf: &Self, at| btf.word(at).ok_or_else(damaged(at));
        if word(&btf, 0)? & 0xffff != u32::from(MAGIC) {
            return Err(BtfError::Damaged { at: 0 });
        }
        let header = word(&btf, 4)? as usize;
        let (first, length) = (word(&btf, 8)? as usize, word(&btf, 12)? as usize);
        btf.strings = header.saturating_add(word(&btf, 16)? as usize);
        let mut at = header.saturating_add(first);
        let end = at.saturating_add(length);
        while at < end {
            let info = word(&btf, at.saturating_add(4))?;
            let number =
                u32::try_from(btf.types.len()).map_err(|_too_many| BtfError::Damaged { at })?;
            if kind(info) == STRUCT
                && let Some(name) = btf.string(word(&btf, at)?)
            {
                // Of several structures of one name the first is the one that the core kernel means.
                btf.structures.entry(name.to_owned()).or_insert(number);
            }
            btf.types.push(at);
            at += 12 + tail(info).ok_or_else(damaged(at))?;
        }
        Ok(btf)
    }

    /// The number of a function's type, by which programs are attached to it.
    pub fn function(&self, name: &str) -> Option<u32> {
        let number = self.types.iter().skip(1).position(|&at| {
            self.word(at + 4).is_some_and(|info| kind(info) == FUNCTION)
                && self.word(at).and_then(|own| self.string(own)) == Some(name)
        })?;
        u32::try_from(number + 1).ok()
    }

    /// Where the global functions that are given a pointer say of which linkage they are: bytes from the start.
    pub(crate) fn global_functions_given_pointers(&self) -> Vec<usize> {
        let is_one = |at: usize| {
            let info = self.word(at + 4)?;
            let prototype = *self.types.get(self.word(at + 8)? as usize)?;
            let parameters = self.word(prototype + 4).filter(|&it| kind(it) == PROTOTYPE)? & 0xffff;
            let mut given = (0..parameters as usize)
                .filter_map(|parameter| self.word(prototype + 12 + 8 * parameter + 4));
            let is_global = kind(info) == FUNCTION && info & 0xffff == GLOBAL;
            Some(is_global && given.any(|of| self.is_pointer(of)))
        };
        let functions = self.types.iter().skip(1).filter(|&&at| is_one(at) == Some(true));
        functions.map(|at| at + 4).collect()
    }

    /// Behind typedefs and qualifiers.
    fn is_pointer(&self, mut number: u32) -> bool {
        for _ in 0..32 {
            let Some(&at) = self.types.get(number as usize).filter(|_| number != 0) else { break };
            let (Some(info), Some(referred)) = (self.word(at + 4), self.word(at + 8)) else {
                break;
            };
            match kind(info) {
                POINTER => return true,
                8..=11 | 18 => number = referred,
                _ => break,
            }
        }
        false
    }

    /// A member of a structure, also inside its nameless unions and structures. `None` where there is none, or where it
    /// is a bit field.
    pub fn field(&self, structure: &str, name: &str) -> Option<Field> {
        let bits =
            |(bits, size): (u32, u32)| (bits % 8 == 0).then_some(Field { offset: bits / 8, size });
        self.member(*self.structures.get(structure)?, name, NESTING_MAX).and_then(bits)
    }

    /// Offset in bits and size in bytes.
    fn member(&self, number: u32, name: &str, nesting: u32) -> Option<(u32, u32)> {
        let at = *self.types.get(number as usize)?;
        let info = self.word(at + 4)?;
        for member in 0..(info & 0xffff) as usize {
            let place = at + 12 + 12 * member;
            let (own, of, packed) =
                (self.word(place)?, self.word(place + 4)?, self.word(place + 8)?);
            // With the kind flag the upper byte is the width of a bit field.
            let (offset, width) =
                if info >> 31 == 1 { (packed & 0xff_ffff, packed >> 24) } else { (packed, 0) };
            if self.string(own) == Some(name) {
                return (width == 0).then_some((offset, self.size(of)?));
            }
            if own == 0
                && nesting > 0
                && let Some((inner, size)) =
                    self.nameless(of).and_then(|of| self.member(of, name, nesting - 1))
            {
                return Some((offset.checked_add(inner)?, size));
            }
        }
        None
    }

    /// The number itself if it is a structure or union.
    fn nameless(&self, number: u32) -> Option<u32> {
        let kind = kind(self.word(*self.types.get(number as usize)? + 4)?);
        (kind == STRUCT || kind == UNION).then_some(number)
    }

    /// Bytes that a value of a type takes, behind its typedefs and qualifiers.
    fn size(&self, number: u32) -> Option<u32> {
        let (mut number, mut count) = (number, 1u32);
        for _ in 0..32 {
            let at = *self.types.get(number as usize).filter(|_| number != 0)?;
            let referred = self.word(at + 8)?;
            match kind(self.word(at + 4)?) {
                // int, struct, union, enum, float, enum64: the third word is the size.
                1 | STRUCT | UNION | 6 | 16 | 19 => return referred.checked_mul(count),
                POINTER => return count.checked_mul(8),
                // array: behind the three words are the type of its elements, that of its index, and how many they are.
                ARRAY => {
                    number = self.word(at + 12)?;
                    count = count.checked_mul(self.word(at + 20)?)?;
                }
                // typedef, volatile, const, restrict, type tag
                8..=11 | 18 => number = referred,
                _ => return None,
            }
        }
        None
    }

    fn word(&self, at: usize) -> Option<u32> {
        let bytes = self.bytes.get(at..at.checked_add(4)?)?;
        bytes.try_into().ok().map(u32::from_ne_bytes)
    }

    fn string(&self, offset: u32) -> Option<&str> {
        let text = self.bytes.get(self.strings.checked_add(offset as usize)?..)?;
        let end = text.iter().position(|&byte| byte == 0)?;
        std::str::from_utf8(text.get(..end)?).ok()
    }
}

fn kind(info: u32) -> u32 {
    info >> 24 & 31
}

/// Bytes behind the three words that every type has.
fn tail(info: u32) -> Option<usize> {
    let count = (info & 0xffff) as usize;
    Some(match kind(info) {
        // int, variable, declaration tag
        1 | 14 | 17 => 4,
        ARRAY => 12,
        // structure, union, data section, 64-bit enumeration
        STRUCT | UNION | 15 | 19 => 12 * count,
        // enumeration, function prototype
        6 | 13 => 8 * count,
        // pointer, forward, typedef, volatile, const, restrict, function, float, type tag
        2 | 7..=12 | 16 | 18 => 0,
        _ => return None,
    })
}

/// BTF of a kernel that there is none of, made word by word.
#[cfg(test)]
pub(crate) mod made {
    use super::MAGIC;

    /// The header, the types (each by its words) and the strings.
    pub(crate) fn btf(types: &[&[u32]], strings: &str) -> Vec<u8> {
        let types: Vec<u8> = types
            .iter()
            .flat_map(|words| words.iter())
            .copied()
            .flat_map(u32::to_ne_bytes)
            .collect();
        let length = u32::try_from(types.len()).expect("small");
        let text = u32::try_from(strings.len()).expect("small");
        let header = [u32::from(MAGIC) | 1 << 16, 24, 0, length, length, text];
        let mut bytes: Vec<u8> = header.into_iter().flat_map(u32::to_ne_bytes).collect();
        bytes.extend(types);
        bytes.extend(strings.as_bytes());
        bytes
    }

    /// The second word of a type: its kind and how many members it has.
    pub(crate) const fn info(kind: u32, members: u32) -> u32 {
        kind << 24 | members
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{made::info, *};

    /// Strings at 1 `box`, 5 `in`, 8 `many`, 13 `bits`, 18 `run`, 22 `loop`.
    const STRINGS: &str = "\0box\0in\0many\0bits\0run\0loop\0";

    fn small() -> Vec<u8> {
        made::btf(
            &[
                // 1: an int of 4 bytes; 2: an array of 12 of them; 3: an array of itself; 4: an array too large.
                &[5, info(1, 0), 4, 32],
                &[0, info(ARRAY, 0), 0, 1, 1, 12],
                &[0, info(ARRAY, 0), 0, 3, 1, 2],
                &[0, info(ARRAY, 0), 0, 1, 1, u32::MAX],
                // 5: `box`, with a bit field at its end.
                &[
                    1,
                    info(STRUCT, 4) | 1 << 31,
                    60,
                    5,
                    1,
                    0,
                    8,
                    2,
                    32,
                    22,
                    3,
                    64,
                    13,
                    1,
                    416 | 3 << 24,
                ],
                // 6: a function that is given a pointer; 7 to 9: what it is of.
                &[18, info(FUNCTION, GLOBAL), 7],
                &[0, info(PROTOTYPE, 2), 1, 0, 1, 0, 8],
                &[0, info(10, 0), 9],
                &[0, info(POINTER, 0), 5],
            ],
            STRINGS,
        )
    }

    #[test]
    fn arrays_functions_and_what_is_no_field() {
        let btf = Btf::parse(small()).expect("well made");
        assert_eq!(btf.field("box", "in"), Some(Field { offset: 0, size: 4 }));
        assert_eq!(btf.field("box", "many"), Some(Field { offset: 4, size: 48 }));
        assert_eq!(btf.field("box", "loop"), None, "an array of itself has no size");
        assert_eq!(btf.field("box", "bits"), None, "a bit field has no offset");
        assert_eq!(btf.size(4), None, "four times 2^32 - 1 is no size");
        assert_eq!(
            (btf.function("run"), btf.function("box"), btf.function("")),
            (Some(6), None, None)
        );
        let linkage = btf.types.get(6).map(|at| at + 4);
        assert_eq!(btf.global_functions_given_pointers(), Vec::from_iter(linkage));
    }

    proptest! {
        #[test]
        fn whatever_the_bytes_are_there_is_an_answer(
            at in 0usize..200, byte: u8, cut in 0usize..300, noise: Vec<u8>,
        ) {
            let mut bytes = small();
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            bytes.truncate(cut.max(30));
            for bytes in [bytes, noise] {
                let Ok(btf) = Btf::parse(bytes) else { continue };
                for name in ["in", "many", "loop", "bits", "run", ""] {
                    let _field = btf.field("box", name);
                    let _number = btf.function(name);
                }
                let _fields = crate::Fields::of(&btf);
                let _places = btf.global_functions_given_pointers();
            }
        }
    }

    #[test]
    fn the_running_kernel_tells_where_things_are() {
        let btf = Btf::running().expect("this kernel has BTF");
        let field = |structure, name| btf.field(structure, name);
        assert_eq!(field("list_head", "prev"), Some(Field { offset: 8, size: 8 }));
        assert_eq!(
            field("sock_common", "skc_daddr"),
            Some(Field { offset: 0, size: 4 }),
            "inside nameless unions"
        );
        assert_eq!(field("inode", "i_ino").map(|field| field.size), Some(8));
        assert_eq!(field("list_head", "nothing"), None);
        assert_eq!(field("no_such_structure", "x"), None);
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        let whole = fs::read("/sys/kernel/btf/vmlinux").expect("this kernel has BTF");
        for cut in [0, 3, 4, 11, 24, 25, 30, 1000, whole.len() / 2] {
            let part = whole.get(..cut).expect("within").to_vec();
            assert!(matches!(Btf::parse(part), Err(BtfError::Damaged { .. })), "cut at {cut}");
        }
        let noise: Vec<u8> = whole.iter().take(100_000).map(|byte| byte.wrapping_mul(31)).collect();
        assert!(Btf::parse(noise).is_err());
    }
}
