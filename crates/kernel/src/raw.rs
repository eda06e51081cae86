//! System calls that the doors need and that no safe library offers: int 0x80 from a 64-bit process, io_uring
//! operations, a socket address that two threads may touch at once, addresses of odd families, and socket options.
//! Every function here is safe to call with any argument: what the kernel needs to stay in place (operands of an
//! operation under way, memory below 4 GiB) is owned here until the kernel has answered.
//! Nothing here knows a rule or a verdict; errors are the kernel's own errno.

pub mod address;
pub mod ia32;
pub mod option;
pub mod plain;
pub mod race;
pub mod tamper;
pub mod uring;
