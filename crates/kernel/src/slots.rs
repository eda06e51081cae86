//! The slots that images are written into, and the words that say which is in force until when.

use std::{
    collections::BTreeMap,
    io,
    mem::offset_of,
    os::fd::AsFd,
    ptr::{self, NonNull},
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use image::{Chunk, Damage, Image, check};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use verdict::{
    Line,
    abi::{Control, LOCKDOWN_LINES, LOCKDOWN_SLOT, SLOTS},
    layout::CHUNK_LINES,
};

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

/// The slots and the words that say which is in force until when.
#[derive(Debug)]
pub(crate) struct Slots {
    image: Mapping,
    control: Mapping,
    lines: usize,
    /// What stands in which slot, as far as we have written it or found it sound.
    known: BTreeMap<u32, Known>,
}

/// Chunks that are written in no time: 1 MiB.
const CHUNKS_NEAR: usize = 16;

/// The image in a slot.
#[derive(Debug, Default)]
struct Known {
    digest: [u8; 32],
    /// Of its chunks.
    chunks: Vec<[u8; 32]>,
}

impl Known {
    fn of(image: &Image) -> Self {
        Self { digest: image.digest(), chunks: image.chunks().map(Chunk::digest).collect() }
    }
}

impl Slots {
    /// Maps the two maps; `lines` is the size of one slot.
    pub(crate) fn new(image: impl AsFd, control: impl AsFd, lines: u32) -> io::Result<Self> {
        let all = image_lines(lines) as usize;
        Ok(Self {
            image: Mapping::new(image, all * size_of::<Line>())?,
            control: Mapping::new(control, size_of::<Control>())?,
            lines: lines as usize,
            known: BTreeMap::new(),
        })
    }

    /// The slot of a generation.
    pub(crate) fn slot(&self, generation: u32) -> u32 {
        generation % SLOTS
    }

    /// Lines of one slot.
    pub(crate) fn lines(&self) -> usize {
        self.lines
    }

    /// The generation that is in force until its end.
    pub(crate) fn generation(&self) -> u32 {
        self.word(offset_of!(Control, generation)).load(Ordering::Acquire)
    }

    /// Puts a generation in force: one store. Everything staged before is seen by whoever sees it.
    pub(crate) fn set_generation(&self, generation: u32) {
        self.word(offset_of!(Control, generation)).store(generation, Ordering::Release);
    }

    pub(crate) fn report(&self) -> u32 {
        self.word(offset_of!(Control, report)).load(Ordering::Acquire)
    }

    pub(crate) fn set_report(&self, report: u32) {
        self.word(offset_of!(Control, report)).store(report, Ordering::Release);
    }

    pub(crate) fn stance(&self) -> u32 {
        self.word(offset_of!(Control, stance)).load(Ordering::Acquire)
    }

    pub(crate) fn set_stance(&self, stance: u32) {
        self.word(offset_of!(Control, stance)).store(stance, Ordering::Release);
    }

    /// Writes the stance into a map `CONTROL` of any ABI from 2 on.
    pub(crate) fn store_stance(control: impl AsFd, stance: u32) -> io::Result<()> {
        let control = Mapping::new(control, size_of::<Control>())?;
        // SAFETY: within the page that was mapped, aligned, and accessed only by whole words everywhere.
        let word = unsafe {
            AtomicU32::from_ptr(control.start.as_ptr().add(offset_of!(Control, stance)).cast())
        };
        word.store(stance, Ordering::Release);
        Ok(())
    }

    /// When the image of `generation` ends; 0 is never.
    pub(crate) fn until(&self, generation: u32) -> u64 {
        self.until_word(generation).load(Ordering::Acquire)
    }

    pub(crate) fn set_until(&self, generation: u32, until_ns: u64) {
        self.until_word(generation).store(until_ns, Ordering::Release);
    }

    /// The generation that the programs judge by at `now_ns`, as they find it (`Slot::in_force` there).
    pub(crate) fn in_force(&self, now_ns: u64) -> u32 {
        let generation = self.generation();
        let until = self.until(generation);
        if until != 0 && until <= now_ns { generation.wrapping_add(1) } else { generation }
    }

    /// Writes a slot that no program can come to: the caller has waited since one last could. Where it is known what
    /// stands there, only chunks that differ from that are written.
    ///
    /// # Errors
    /// What was written is read back: the damage, where that is another image.
    ///
    /// # Panics
    /// Where `image` does not fit; callers compare with [`Slots::lines`] or [`LOCKDOWN_LINES`] first.
    pub(crate) fn stage(&mut self, slot: u32, image: &Image) -> Result<(), Damage> {
        let room = if slot == LOCKDOWN_SLOT { LOCKDOWN_LINES as usize } else { self.lines };
        assert!(
            image.line_count() <= room && self.is_slot(slot),
            "an image is staged only where it fits"
        );
        let before = self.known.remove(&slot);
        let stands = |number: usize, chunk: &Chunk| {
            let known = before.as_ref().and_then(|before| before.chunks.get(number));
            // The first line is in no digest.
            number > 0 && known == Some(&chunk.digest())
        };
        let written = image.chunks().enumerate().filter(|(number, chunk)| !stands(*number, chunk));
        for (number, chunk) in written {
            let first = number * CHUNK_LINES as usize;
            self.write(slot, first, chunk.lines());
            if before.is_some() && self.read(slot, first, chunk.lines().len()) != chunk.lines() {
                return Err(Damage::Digest);
            }
        }
        if before.is_none() {
            check(&self.read(slot, 0, image.line_count()))?;
        }
        self.known.insert(slot, Known::of(image));
        Ok(())
    }

    /// Whether staging this image would write much of a slot: more than what a small change differs in.
    pub(crate) fn is_far(&self, slot: u32, image: &Image) -> bool {
        let known = self.known.get(&slot).map(|known| known.chunks.as_slice());
        let same = image.chunks().zip(known.unwrap_or_default());
        let same = same.filter(|(chunk, known)| chunk.digest() == **known).count();
        image.chunks().len() - same > CHUNKS_NEAR
    }

    /// As [`Slots::stage`], whatever stands in the slot: every line is read back and compared.
    pub(crate) fn fill(&mut self, slot: u32, image: &Image) -> Result<(), Damage> {
        self.known.insert(slot, Known::default());
        self.stage(slot, image)
    }

    /// Takes note of an image that was found in a slot.
    pub(crate) fn found(&mut self, slot: u32, image: &Image) {
        self.known.insert(slot, Known::of(image));
    }

    /// The digest of what stands in a slot, as far as that is known.
    pub(crate) fn digest(&self, slot: u32) -> Option<[u8; 32]> {
        self.known.get(&slot).map(|known| known.digest)
    }

    fn write(&mut self, slot: u32, first: usize, lines: &[Line]) {
        // SAFETY: `stage` has seen that the lines fit into the slot. All slots lie within the mapping, which is
        // page-aligned and so aligned for lines, and this one is read by nobody: programs look only at slots in force,
        // and we hold `&mut self`.
        unsafe {
            let at = self.line(slot).cast_mut().add(first);
            ptr::copy_nonoverlapping(lines.as_ptr(), at, lines.len());
        }
    }

    /// A copy of `count` lines of a slot from line `first` on, or of as many as there are.
    pub(crate) fn read(&self, slot: u32, first: usize, count: usize) -> Vec<Line> {
        let room = if slot == LOCKDOWN_SLOT { LOCKDOWN_LINES as usize } else { self.lines };
        assert!(
            self.is_slot(slot) && first <= room,
            "the slots and their lines are counted from 0"
        );
        let count = count.min(room - first);
        // SAFETY: within the mapping as above. Only this process writes slots, and it holds `&self` meanwhile; another
        // root process that writes there can at worst make us read nonsense, which the checker of images refuses.
        unsafe { std::slice::from_raw_parts(self.line(slot).add(first), count).to_vec() }
    }

    fn line(&self, slot: u32) -> *const Line {
        // SAFETY: callers assert that the slot exists; its first line is inside the mapping.
        unsafe { self.image.start.as_ptr().cast::<Line>().add(slot as usize * self.lines) }
    }

    fn is_slot(&self, slot: u32) -> bool {
        slot <= LOCKDOWN_SLOT
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= size_of::<Control>());
        // SAFETY: within the mapping of at least one `Control`, aligned, and only ever accessed atomically here and by
        // whole-word loads in the programs.
        unsafe { AtomicU32::from_ptr(self.control.start.as_ptr().add(offset).cast()) }
    }

    fn until_word(&self, generation: u32) -> &AtomicU64 {
        let offset = offset_of!(Control, until_ns) + 8 * self.slot(generation) as usize;
        // SAFETY: as in `word`; the remainder keeps the index within the array.
        unsafe { AtomicU64::from_ptr(self.control.start.as_ptr().add(offset).cast()) }
    }
}

/// Lines of map `IMAGE` for slots of `slot_lines`.
pub(crate) fn image_lines(slot_lines: u32) -> u32 {
    SLOTS * slot_lines + LOCKDOWN_LINES
}
