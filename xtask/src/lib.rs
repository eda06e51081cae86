//! Everything a developer runs, one file per subcommand; the tidy tests use the same parts.
//!
//! A library beside the thin binary because the tests of `tests/tidy.rs` ask the same questions as the commands do:
//! which files are there, and does the committed BPF object come from the committed source.

pub mod bench;
pub mod bpf;
pub mod debian;
pub mod demo;
pub mod dist;
pub mod fuzz;
pub mod matrix;
pub mod packages;
pub mod programs;
pub mod qemu;
pub mod step;
pub mod supervise;
pub mod test;
pub mod vm;
pub mod workspace;
