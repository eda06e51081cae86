//! The memory of a process that works in bursts.

use std::{fs, ops::Range};

/// Gives back to the system what a load or a compilation took and what its process needs no more afterwards: memory that
/// was freed and the allocator keeps (malloc_trim(3), where the C library has it), and the program's text, of which a
/// process at rest runs a small part. The text stays in the page cache; what is run is mapped again when it is.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer, and is thread-safe (malloc_trim(3), ATTRIBUTES).
    unsafe {
        libc::malloc_trim(0)
    };
    let Ok(mappings) = fs::read_to_string("/proc/self/maps") else { return };
    for text in mappings.lines().filter_map(text) {
        // SAFETY: the pages are a file's and were never written to, since their mapping is not writable and programs are
        // linked without relocations in their text: whoever touches one gets the same bytes again (madvise(2)).
        let _kept = unsafe {
            libc::madvise(text.start as *mut libc::c_void, text.len(), libc::MADV_DONTNEED)
        };
    }
}

/// The addresses of a mapping, if it is of a file's text: a line of proc_pid_maps(5).
fn text(line: &str) -> Option<Range<usize>> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let is_text = words.next() == Some("r-xp");
    // The offset and the device come before the inode, which the kernel's own mappings do not have.
    let is_file = words.nth(2).is_some_and(|inode| inode != "0");
    (is_text && is_file).then_some(address(start)?..address(end)?)
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn text_is_what_is_run_and_of_a_file() {
        let program = "55d0a000-55d0c000 r-xp 00002000 fe:01 12 /usr/bin/fwnet (deleted)";
        assert_eq!(text(program), Some(0x55d0_a000..0x55d0_c000));
        for line in [
            "55d0a000-55d0c000 r--p 00000000 fe:01 12 /usr/bin/fwnet",
            "55d0a000-55d0c000 rw-p 00000000 fe:01 12 /usr/bin/fwnet",
            "7ffd0000-7ffd2000 r-xp 00000000 00:00 0 [vdso]",
            "x",
            "",
        ] {
            assert_eq!(text(line), None, "{line}");
        }
    }

    #[test]
    fn a_process_goes_on_after_it_gave_back() {
        let before = std::fs::read_to_string("/proc/self/maps").expect("our own");
        assert!(before.lines().any(|line| text(line).is_some()), "{before}");
        super::give_back();
        assert_eq!("after".to_uppercase(), "AFTER");
    }
}
