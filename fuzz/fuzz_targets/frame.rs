//! `frame` of frames.rs, on whatever libFuzzer comes up with.
#![no_main]

#[path = "../frames.rs"]
mod frames;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| frames::frame(bytes));
