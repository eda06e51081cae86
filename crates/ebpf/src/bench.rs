//! Addresses looked up in a loop, for `cargo xtask bench lookup`: by [`remote_class`], as every verdict does, and in the
//! kernel's own trie. The object that is committed is built without these programs.
//!
//! A run asks for a batch of keys, each program for the same ones in the same way; one of them asks nobody, and what it
//! takes is what the loop itself costs. In a chain each key's place depends on the answer before, as far as a processor
//! can tell, so that it cannot begin a look-up while another one waits for memory.

use core::ptr::read_volatile;

use aya_ebpf::{
    helpers::generated::bpf_map_lookup_elem,
    macros::{classifier, map},
    maps::{Array, LpmTrie},
    programs::TcContext,
};

use verdict::{Address, Direction, Endpoint, Flow, Protocol, Subject};

use crate::{
    judge::judge,
    maps::{Slot, remote_class},
};

/// Keys of one run. The loader divides by it.
const BATCH: u32 = 512;
/// What an address has that is in no list: the class of remote addresses that no rule names.
const UNLISTED: u32 = 0;

/// What is asked for. The loader writes all of it, a run only the first word.
#[repr(C)]
struct Course {
    /// Which key the next run begins with.
    next: u32,
    /// Keys that are asked for in turn, a power of two, less one.
    mask: u32,
    /// Whether answers are kept.
    keep: u32,
    /// Zero, which no compiler and no processor knows.
    zero: u32,
}

#[map]
static BENCH_COURSE: Array<Course> = Array::with_max_entries(1, 0);

/// The upper and the lower half of each address; the loader sets how many.
#[map]
static BENCH_KEYS: Array<[u64; 2]> = Array::with_max_entries(1, 0);

/// The class that was found for each.
#[map]
static BENCH_ANSWERS: Array<u32> = Array::with_max_entries(1, 0);

/// Classes by prefix; the loader sets for how many.
#[map]
static BENCH_TRIE4: LpmTrie<u32, u32> = LpmTrie::with_max_entries(1, 0);
#[map]
static BENCH_TRIE6: LpmTrie<[u32; 4], u32> = LpmTrie::with_max_entries(1, 0);

/// Keys of the tries as the kernel wants them (`struct bpf_lpm_trie_key_u8` in include/uapi/linux/bpf.h).
#[repr(C)]
struct Key4 {
    bits: u32,
    address: u32,
}

#[repr(C)]
struct Key6 {
    bits: u32,
    address: [u32; 4],
}

/// Asks nobody.
#[classifier]
pub(crate) fn bench_nothing(_ctx: TcContext) -> i32 {
    run::<false>(nobody)
}

/// The same in a chain.
#[classifier]
pub(crate) fn bench_nothing_c(_ctx: TcContext) -> i32 {
    run::<true>(nobody)
}

/// Asks the image in force.
#[classifier]
pub(crate) fn bench_ours(_ctx: TcContext) -> i32 {
    let Some(slot) = Slot::in_force() else { return 0 };
    run::<false>(|hi, lo| in_image(&slot, hi, lo))
}

/// The same in a chain.
#[classifier]
pub(crate) fn bench_ours_c(_ctx: TcContext) -> i32 {
    let Some(slot) = Slot::in_force() else { return 0 };
    run::<true>(|hi, lo| in_image(&slot, hi, lo))
}

/// Asks for a verdict on a connection to the address, of which looking the address up is a part.
#[classifier]
pub(crate) fn bench_decide(_ctx: TcContext) -> i32 {
    let Some(slot) = Slot::in_force() else { return 0 };
    run::<false>(|hi, lo| rule(&slot, hi, lo))
}

/// The same in a chain.
#[classifier]
pub(crate) fn bench_decide_c(_ctx: TcContext) -> i32 {
    let Some(slot) = Slot::in_force() else { return 0 };
    run::<true>(|hi, lo| rule(&slot, hi, lo))
}

/// Asks the trie of IPv4 prefixes.
#[classifier]
pub(crate) fn bench_trie4(_ctx: TcContext) -> i32 {
    run::<false>(in_trie4)
}

/// The same in a chain.
#[classifier]
pub(crate) fn bench_trie4_c(_ctx: TcContext) -> i32 {
    run::<true>(in_trie4)
}

/// Asks the trie of IPv6 prefixes.
#[classifier]
pub(crate) fn bench_trie6(_ctx: TcContext) -> i32 {
    run::<false>(in_trie6)
}

/// The same in a chain.
#[classifier]
pub(crate) fn bench_trie6_c(_ctx: TcContext) -> i32 {
    run::<true>(in_trie6)
}

/// Asks `class` for a batch of keys; the sum of the answers, so that each of them is needed.
#[inline(always)]
fn run<const CHAIN: bool>(class: impl Fn(u64, u64) -> u32) -> i32 {
    let Some(course) = BENCH_COURSE.get_ptr_mut(0) else { return 0 };
    // SAFETY: a value of a one-entry array map, which nobody writes meanwhile but this run.
    let (first, mask, keep, zero) = unsafe {
        (
            read_volatile(&raw const (*course).next),
            read_volatile(&raw const (*course).mask),
            read_volatile(&raw const (*course).keep),
            read_volatile(&raw const (*course).zero),
        )
    };
    let mut sum = 0u32;
    let mut last = 0u32;
    for step in 0..BATCH {
        let place = first.wrapping_add(step);
        let place = (if CHAIN { place ^ last & zero } else { place }) & mask;
        let Some(&[hi, lo]) = BENCH_KEYS.get(place) else { return 0 };
        last = class(hi, lo);
        sum = sum.wrapping_add(last);
        if keep != 0
            && let Some(answer) = BENCH_ANSWERS.get_ptr_mut(place)
        {
            // SAFETY: an entry of an array map that nobody else writes meanwhile.
            unsafe { *answer = last };
        }
    }
    // SAFETY: as above.
    unsafe { (*course).next = first.wrapping_add(BATCH) };
    sum.cast_signed()
}

#[inline(always)]
fn nobody(hi: u64, lo: u64) -> u32 {
    (hi ^ lo) as u32
}

#[inline(always)]
fn in_image(slot: &Slot, hi: u64, lo: u64) -> u32 {
    // SAFETY: a reference.
    unsafe { remote_class(slot, hi, lo) as u32 }
}

/// The rule that decides a connection to port 443.
#[inline(always)]
fn rule(slot: &Slot, hi: u64, lo: u64) -> u32 {
    let flow = Flow {
        direction: Direction::Out,
        protocol: Protocol::TCP,
        local: Endpoint::default(),
        remote: Endpoint { address: Address { hi, lo }, port: 443 },
        subject: Subject::UNKNOWN,
    };
    u32::from(judge(&flow, slot).enforced.rule.0)
}

#[inline(always)]
fn in_trie4(_hi: u64, lo: u64) -> u32 {
    let key = Key4 { bits: 32, address: (lo as u32).to_be() };
    // SAFETY: the map's key is such a one, and its values are of 4 bytes.
    unsafe {
        let found = bpf_map_lookup_elem(
            (&raw const BENCH_TRIE4).cast_mut().cast(),
            (&raw const key).cast(),
        );
        found.cast::<u32>().as_ref().copied().unwrap_or(UNLISTED)
    }
}

#[inline(always)]
fn in_trie6(hi: u64, lo: u64) -> u32 {
    let words = [(hi >> 32) as u32, hi as u32, (lo >> 32) as u32, lo as u32];
    let key = Key6 { bits: 128, address: words.map(u32::to_be) };
    // SAFETY: as above.
    unsafe {
        let found = bpf_map_lookup_elem(
            (&raw const BENCH_TRIE6).cast_mut().cast(),
            (&raw const key).cast(),
        );
        found.cast::<u32>().as_ref().copied().unwrap_or(UNLISTED)
    }
}
