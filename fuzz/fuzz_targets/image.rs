//! `image` of images.rs, on whatever libFuzzer comes up with.
#![no_main]

#[path = "../images.rs"]
mod images;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| images::image(bytes));
