//! Where the compiled tables are read from: an array of 64-byte lines, in the kernel or on the host.

use crate::{
    Address,
    decide::{address_class, key_class, succession},
};

/// One cache line of an image: sixteen 32-bit words in the byte order of the machine that enforces.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
)]
#[repr(C, align(64))]
pub struct Line(pub [u32; 16]);

const _: () = assert!(size_of::<Line>() == 64, "a line is one cache line");

impl Line {
    /// Word `index & 15`. The mask lets the BPF verifier and the compiler see that no index can fault.
    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "masked to the array's length")]
    pub const fn word(&self, index: u32) -> u32 {
        self.0[(index & 15) as usize]
    }

    /// Words `2 * (index & 7)` (low half) and the next one (high half) as one number. One load where the machine has numbers
    /// in that order: the compiler for BPF would make two of it.
    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "masked to the array's length")]
    pub fn double(&self, index: u32) -> u64 {
        let doubles: &[u64; 8] = zerocopy::transmute_ref!(self);
        let double = doubles[(index & 7) as usize];
        if cfg!(target_endian = "little") { double } else { double.rotate_left(32) }
    }
}

/// An image that can be read, and the clock that says which of its rules have ended. Indices count from the image's first
/// line.
///
/// A line out of range is `None`; [`decide`](crate::decide) then answers [`Decision::MALFORMED`](crate::Decision), so a
/// damaged image can deny too much but can never fault.
pub trait Tables {
    /// The line at `index`.
    fn line(&self, index: u32) -> Option<&Line>;

    /// What the clock shows, in nanoseconds: since the boot, sleep included (CLOCK_BOOTTIME), in the kernel. Asked only
    /// where the verdict changes with the time.
    fn now_ns(&self) -> u64;

    /// `value` itself, made so that the BPF verifier takes it for any number: ways that meet in a value it cannot tell
    /// apart are followed once from there, not each by itself.
    #[inline(always)]
    fn blur(&self, value: u32) -> u32 {
        value
    }

    /// The remote class of an address. A look-up by itself, so that the kernel programs can make it a function by itself,
    /// which is checked once and not wherever it is called.
    #[inline(always)]
    fn address_class(&self, address: Address) -> Option<u32> {
        address_class(address, self)
    }

    /// The class of `key` in the facet whose words begin at word `at` of `line`; likewise.
    #[inline(always)]
    fn key_class(&self, line: u32, at: u32, key: u64) -> Option<u32> {
        key_class(line, at, key, self)
    }

    /// What counts now in the succession that begins at `node`; likewise.
    #[inline(always)]
    fn succession(&self, node: u32) -> Option<u32> {
        succession(node, self)
    }

    /// The word at `index`, counted in words.
    #[inline(always)]
    fn word(&self, index: u32) -> Option<u32> {
        let line = self.line(index >> 4)?;
        Some(line.word(index))
    }
}

/// An image in memory, read at a moment.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    /// The image.
    pub lines: &'a [Line],
    /// The moment, by the clock that the image's ends are told in, in nanoseconds.
    pub now_ns: u64,
}

impl Tables for At<'_> {
    #[inline(always)]
    fn line(&self, index: u32) -> Option<&Line> {
        self.lines.get(index as usize)
    }

    #[inline(always)]
    fn now_ns(&self) -> u64 {
        self.now_ns
    }
}
