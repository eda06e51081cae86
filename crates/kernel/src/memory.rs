//! The memory of a process that works in bursts.

/// Gives memory that was freed back to the system: an allocator keeps what a load or a compilation took, which is many
/// times what its process needs afterwards.
///
/// Does nothing where the C library has no such call; its source is malloc_trim(3).
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer, and is thread-safe (malloc_trim(3), ATTRIBUTES).
    unsafe {
        libc::malloc_trim(0)
    };
}
