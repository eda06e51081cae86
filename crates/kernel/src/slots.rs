//! The two slots that images are written into, and the word that says which is in force.

use std::{
    io,
    os::fd::AsFd,
    ptr::{self, NonNull},
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use verdict::{Line, abi::Control};

/// An array map's memory, shared with the kernel.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: plain shared memory; what is written when is the callers' business, and they hold `&mut`.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(map: impl AsFd, bytes: usize) -> io::Result<Self> {
        let page = rustix::param::page_size();
        let bytes = bytes.next_multiple_of(page);
        // SAFETY: a fresh mapping at an address of the kernel's choice; it is unmapped only in `drop`.
        let start = unsafe {
            mmap(
                ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                map.as_fd(),
                0,
            )?
        };
        let start =
            NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mmap returned null"))?;
        Ok(Self { start, bytes })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`, of which no reference outlives `self`. Failure would only leak it.
        let _unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// Two slots of equal size and the control word.
#[derive(Debug)]
pub(crate) struct Slots {
    image: Mapping,
    control: Mapping,
    lines: usize,
}

impl Slots {
    /// Maps the two maps; `lines` is the size of one slot.
    pub(crate) fn new(image: impl AsFd, control: impl AsFd, lines: u32) -> io::Result<Self> {
        let lines = lines as usize;
        Ok(Self {
            image: Mapping::new(image, 2 * lines * size_of::<Line>())?,
            control: Mapping::new(control, size_of::<Control>())?,
            lines,
        })
    }

    /// Lines of one slot.
    pub(crate) fn lines(&self) -> usize {
        self.lines
    }

    pub(crate) fn generation(&self) -> u32 {
        self.word(0).load(Ordering::Acquire)
    }

    pub(crate) fn set_report(&self, report: u32) {
        self.word(1).store(report, Ordering::Release);
    }

    /// Writes the slot that is not in force. No program may still be reading it: the caller has waited since the last
    /// flip. Returns what stands there now, read back.
    ///
    /// # Panics
    /// Where `lines` does not fit; callers compare with [`Slots::lines`] first.
    pub(crate) fn stage(&mut self, lines: &[Line]) -> Vec<Line> {
        assert!(lines.len() <= self.lines, "an image is staged only where it fits");
        let idle = (self.generation().wrapping_add(1) & 1) as usize;
        // SAFETY: both slots lie within the mapping, which is page-aligned and so aligned for lines, and the idle slot is
        // read by nobody: programs look only at the slot in force, and we hold `&mut self`.
        unsafe {
            let slot = self.image.start.as_ptr().cast::<Line>().add(idle * self.lines);
            ptr::copy_nonoverlapping(lines.as_ptr(), slot, lines.len());
            std::slice::from_raw_parts(slot, lines.len()).to_vec()
        }
    }

    /// Puts the staged image in force: one store. Everything staged before is seen by whoever sees the new generation.
    pub(crate) fn flip(&self) -> u32 {
        let next = self.generation().wrapping_add(1);
        self.word(0).store(next, Ordering::Release);
        next
    }

    /// A field of [`Control`], counted in words.
    fn word(&self, index: usize) -> &AtomicU32 {
        const { assert!(size_of::<Control>() == 8) };
        // SAFETY: within the mapping of at least `Control`'s eight bytes, aligned, and only ever accessed atomically here
        // and by whole-word loads in the programs.
        unsafe { AtomicU32::from_ptr(self.control.start.as_ptr().cast::<u32>().add(index & 1)) }
    }
}
