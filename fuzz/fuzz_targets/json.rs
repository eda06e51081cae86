//! `json` of properties.rs, on whatever libFuzzer comes up with.
#![no_main]

#[path = "../properties.rs"]
#[expect(dead_code, reason = "each target uses one of the properties")]
mod properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::json(bytes));
