//! `envelope` of bundles.rs, on whatever libFuzzer comes up with.
#![no_main]

#[path = "../bundles.rs"]
#[expect(dead_code, reason = "each target uses one of the properties")]
mod bundles;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bundles::envelope(bytes));
