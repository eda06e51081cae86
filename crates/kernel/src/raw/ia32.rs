//! The 32-bit system calls of x86 from a 64-bit process, by int 0x80: socketcall (102) and the direct numbers that
//! Linux 4.3 added (arch/x86/entry/syscalls/syscall_32.tbl). The kernel reads the arguments as 32-bit words, so all
//! memory they point to lies in one page below 4 GiB.
//! [`Ia32`] can be had only where the kernel runs 32-bit programs; elsewhere int 0x80 would end the process.

#![expect(unsafe_code, reason = "int 0x80, and a page below 4 GiB")]

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::address::{BYTES_MAX, KernelAddress};

/// Numbers of the i386 table.
const SYS_SOCKETCALL: u32 = 102;
const SYS_CONNECT: u32 = 362;
const SYS_ACCEPT4: u32 = 364;

/// Calls of socketcall(2) (include/uapi/linux/net.h).
const SOCKETCALL_CONNECT: u32 = 3;
const SOCKETCALL_ACCEPT: u32 = 5;
const SOCKETCALL_ACCEPT4: u32 = 18;

/// One page: the words of socketcall's arguments first, the socket address behind them.
const PAGE_BYTES: usize = 4096;
const ADDRESS_AT: usize = 64;

/// The way into the kernel for 32-bit calls, with the memory they need. Not shared between threads.
#[derive(Debug)]
pub struct Ia32 {
    page: *mut u8,
}

impl Ia32 {
    /// Finds out whether this kernel takes 32-bit calls, and sets aside a page below 4 GiB.
    ///
    /// # Errors
    /// `ENOSYS` where the kernel (or the processor) has no 32-bit calls; otherwise the errno of mmap(2).
    pub fn new() -> io::Result<Self> {
        static OFFERED: OnceLock<bool> = OnceLock::new();
        if !*OFFERED.get_or_init(|| runs_32_bit_program().is_ok_and(|ran| ran)) {
            return Err(io::Error::from_raw_os_error(libc::ENOSYS));
        }
        low_page().map(|page| Self { page })
    }

    /// connect() by socketcall (102), call 3.
    ///
    /// # Errors
    /// Those of connect(2).
    pub fn connect_by_socketcall(
        &mut self,
        socket: BorrowedFd<'_>,
        address: &KernelAddress,
    ) -> io::Result<()> {
        let at = self.put_address(address);
        let words = self.put_words([descriptor(socket), at, address.len(), 0]);
        self.call(SYS_SOCKETCALL, [SOCKETCALL_CONNECT, words, 0, 0]).map(drop)
    }

    /// connect() by its own number, 362.
    ///
    /// # Errors
    /// Those of connect(2).
    pub fn connect(&mut self, socket: BorrowedFd<'_>, address: &KernelAddress) -> io::Result<()> {
        let at = self.put_address(address);
        self.call(SYS_CONNECT, [descriptor(socket), at, address.len(), 0]).map(drop)
    }

    /// accept() by socketcall (102), call 5, without asking for the peer's address. The new descriptor is not
    /// close-on-exec.
    ///
    /// # Errors
    /// Those of accept(2).
    pub fn accept_by_socketcall(&mut self, listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        let words = self.put_words([descriptor(listener), 0, 0, 0]);
        self.call(SYS_SOCKETCALL, [SOCKETCALL_ACCEPT, words, 0, 0]).map(owned)
    }

    /// accept4() by socketcall (102), call 18, close-on-exec.
    ///
    /// # Errors
    /// Those of accept(2).
    pub fn accept4_by_socketcall(&mut self, listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        let words =
            self.put_words([descriptor(listener), 0, 0, libc::SOCK_CLOEXEC.cast_unsigned()]);
        self.call(SYS_SOCKETCALL, [SOCKETCALL_ACCEPT4, words, 0, 0]).map(owned)
    }

    /// accept4() by its own number, 364, close-on-exec. The i386 table has no plain accept.
    ///
    /// # Errors
    /// Those of accept(2).
    pub fn accept4(&mut self, listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        self.call(SYS_ACCEPT4, [descriptor(listener), 0, 0, libc::SOCK_CLOEXEC.cast_unsigned()])
            .map(owned)
    }

    /// Writes socketcall's argument words and returns their place.
    fn put_words(&mut self, words: [u32; 4]) -> u32 {
        // SAFETY: the page is ours alone (`&mut self`), aligned, and longer than four words.
        unsafe { self.page.cast::<[u32; 4]>().write(words) };
        self.place(0)
    }

    /// Writes the socket address and returns its place.
    fn put_address(&mut self, address: &KernelAddress) -> u32 {
        const { assert!(ADDRESS_AT + BYTES_MAX <= PAGE_BYTES, "the address lies in the page") };
        let bytes = address.bytes();
        // SAFETY: the page is ours alone, and an address of at most BYTES_MAX bytes fits behind ADDRESS_AT.
        unsafe { self.page.add(ADDRESS_AT).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        self.place(ADDRESS_AT)
    }

    fn place(&self, offset: usize) -> u32 {
        u32::try_from(self.page.addr() + offset).expect("MAP_32BIT gives memory below 2 GiB")
    }

    fn call(&self, number: u32, arguments: [u32; 4]) -> io::Result<i32> {
        // SAFETY: the callers pass descriptors, lengths, flags and places in our page only; the kernel writes none of
        // them, and `new` has seen that it takes int 0x80.
        match unsafe { int80(number, arguments) } {
            answer @ 0.. => Ok(answer),
            error => Err(io::Error::from_raw_os_error(-error)),
        }
    }
}

impl Drop for Ia32 {
    fn drop(&mut self) {
        // SAFETY: the page came from mmap with this length and nobody else knows it.
        unsafe { libc::munmap(self.page.cast(), PAGE_BYTES) };
    }
}

fn descriptor(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn owned(fd: i32) -> OwnedFd {
    // SAFETY: only accept's answers come here: a new descriptor that nobody else has.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[cfg(target_arch = "x86_64")]
fn low_page() -> io::Result<*mut u8> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
    // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no memory in use.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), PAGE_BYTES, access, kind, -1, 0) };
    if page == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(page.cast()) }
}

#[cfg(not(target_arch = "x86_64"))]
fn low_page() -> io::Result<*mut u8> {
    Err(io::Error::from_raw_os_error(libc::ENOSYS))
}

/// # Safety
/// The kernel must take int 0x80, and what the arguments point to must be valid for that call.
#[cfg(target_arch = "x86_64")]
unsafe fn int80(number: u32, [first, second, third, fourth]: [u32; 4]) -> i32 {
    let mut answer = u64::from(number);
    // SAFETY: rbx, which the compiler keeps for itself, is put back before the block ends; older kernels clear r8 to
    // r11 on this entry, and they are given up; memory is read by the kernel as the caller promised.
    unsafe {
        std::arch::asm!(
            "xchg {first}, rbx",
            "int 0x80",
            "xchg {first}, rbx",
            first = inout(reg) u64::from(first) => _,
            inout("rax") answer,
            in("rcx") u64::from(second),
            in("rdx") u64::from(third),
            in("rsi") u64::from(fourth),
            out("r8") _,
            out("r9") _,
            out("r10") _,
            out("r11") _,
            options(nostack),
        );
    }
    #[expect(clippy::cast_possible_truncation, reason = "a 32-bit call answers in eax")]
    let answer = answer as u32;
    answer.cast_signed()
}

/// # Safety
/// None needed: there is no such call on this processor.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn int80(_number: u32, _arguments: [u32; 4]) -> i32 {
    -libc::ENOSYS
}

/// Runs the smallest 32-bit program, `exit(0)`, from memory. A kernel without IA32 emulation (not built in, or off by
/// `ia32_emulation=0`) refuses it with `ENOEXEC`; there int 0x80 would be a fault and not an error.
fn runs_32_bit_program() -> io::Result<bool> {
    if !cfg!(target_arch = "x86_64") {
        return Ok(false);
    }
    let program = rustix::fs::memfd_create("ia32", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut program = File::from(program);
    program.write_all(&exit_program())?;
    let path = format!("/proc/self/fd/{}", program.as_raw_fd());
    let ran = Command::new(path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    Ok(ran.success())
}

/// An ELF file of 32 bits (elf(5)): the header, one segment, nine bytes of code.
fn exit_program() -> Vec<u8> {
    const BASE: u32 = 0x0804_8000;
    const HEADER: u16 = 52;
    const SEGMENT: u16 = 32;
    const CODE: [u8; 9] = [0xb8, 1, 0, 0, 0, 0x31, 0xdb, 0xcd, 0x80]; // mov eax, 1; xor ebx, ebx; int 0x80
    let code_at = u32::from(HEADER) + u32::from(SEGMENT);
    let size = code_at + 9;
    let mut elf = vec![0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let half = |elf: &mut Vec<u8>, value: u16| elf.extend(value.to_le_bytes());
    let word = |elf: &mut Vec<u8>, value: u32| elf.extend(value.to_le_bytes());
    half(&mut elf, 2); // ET_EXEC
    half(&mut elf, 3); // EM_386
    [1, BASE + code_at, u32::from(HEADER), 0, 0]
        .into_iter()
        .for_each(|value| word(&mut elf, value));
    [HEADER, SEGMENT, 1, 0, 0, 0].into_iter().for_each(|value| half(&mut elf, value));
    // PT_LOAD from the start of the file, readable and executable.
    [1, 0, BASE, BASE, size, size, 5, 0x1000].into_iter().for_each(|value| word(&mut elf, value));
    elf.extend(CODE);
    elf
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::os::fd::AsFd;

    /// `None` only where the kernel itself refuses 32-bit programs.
    fn offered() -> Option<Ia32> {
        match Ia32::new() {
            Ok(ia32) => Some(ia32),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::ENOSYS));
                assert!(!runs_32_bit_program().is_ok_and(|ran| ran));
                None
            }
        }
    }

    #[test]
    fn program_is_as_long_as_its_segment_says() {
        assert_eq!(exit_program().len(), 93);
    }

    #[test]
    fn errors_are_the_kernels() {
        let Some(mut ia32) = offered() else { return };
        let not_a_socket = File::open("/dev/null").unwrap();
        let address = KernelAddress::from("127.0.0.1:9".parse::<SocketAddr>().unwrap());
        for error in [
            ia32.connect(not_a_socket.as_fd(), &address).unwrap_err(),
            ia32.connect_by_socketcall(not_a_socket.as_fd(), &address).unwrap_err(),
            ia32.accept4(not_a_socket.as_fd()).unwrap_err(),
        ] {
            assert_eq!(error.raw_os_error(), Some(libc::ENOTSOCK));
        }
    }

    #[test]
    fn both_forms_of_accept_take_a_connection() {
        let Some(mut ia32) = offered() else { return };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        for form in [Ia32::accept4, Ia32::accept_by_socketcall, Ia32::accept4_by_socketcall] {
            let client = TcpStream::connect(address).unwrap();
            let accepted = TcpStream::from(form(&mut ia32, listener.as_fd()).unwrap());
            assert_eq!(accepted.peer_addr().unwrap(), client.local_addr().unwrap());
        }
    }
}
