//! The only crate that speaks bpf(2): probe, load, attach, swap images, read events.

pub mod raw;
