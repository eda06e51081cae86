//! The doors and the tools on this machine's own kernel, with nothing denied but what routes deny: all in namespaces of
//! the tests' own.

mod inward;
mod matrix;
mod namespace;
mod race;
mod tools;
