//! Socket operations by io_uring (io_uring_enter(2)): the kernel sees no connect() and no accept() call.
//! One ring, one operation under way at a time. A call returns only when the kernel has answered: past the deadline the
//! operation is cancelled and its answer awaited, so its operands stay in place as long as the kernel may read them.

#![expect(unsafe_code, reason = "submission queue entries hold plain pointers")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use super::address::KernelAddress;

/// Entries of the queue: one operation and its cancellation.
const ENTRIES: u32 = 4;

/// After how many milliseconds without work the polling thread of a ring sleeps.
const POLL_IDLE_MS: u32 = 50;

/// Marks the operation's own answer, and that of its cancellation.
const OPERATION: u64 = 1;
const CANCELLATION: u64 = 2;

/// How the kernel runs an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issue {
    /// Tried at once in the caller's context, then by poll.
    Inline,
    /// `IOSQE_ASYNC`: handed to a kernel worker thread from the start.
    Async,
}

/// A ring of this process. `Debug` shows nothing of its memory.
pub struct Ring {
    ring: IoUring,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").finish_non_exhaustive()
    }
}

/// What an operation points to. On the heap, so that it stays in place.
struct Operands {
    address: KernelAddress,
    data: Vec<u8>,
    vector: libc::iovec,
    message: libc::msghdr,
}

impl Ring {
    /// Sets up a ring.
    ///
    /// # Errors
    /// Those of io_uring_setup(2): `ENOSYS` without io_uring, `EPERM` where `kernel.io_uring_disabled` forbids it.
    pub fn new() -> io::Result<Self> {
        Ok(Self { ring: IoUring::new(ENTRIES)? })
    }

    /// Sets up a ring that a kernel thread polls (`IORING_SETUP_SQPOLL`): operations are submitted by a store to memory.
    ///
    /// # Errors
    /// As [`Ring::new`].
    pub fn polled() -> io::Result<Self> {
        Ok(Self { ring: IoUring::builder().setup_sqpoll(POLL_IDLE_MS).build(ENTRIES)? })
    }

    /// `IORING_OP_SOCKET` (Linux 5.19): a socket that no socket() call makes, close-on-exec. `family`, `kind` and
    /// `protocol` are those of socket(2).
    ///
    /// # Errors
    /// Those of socket(2), and `EINVAL` where the kernel has no such operation.
    pub fn socket(&mut self, family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
        let kind = kind | libc::SOCK_CLOEXEC;
        let entry = opcode::Socket::new(family, kind, protocol).build();
        self.complete(&entry, operands_of_none(), None).map(owned)
    }

    /// `IORING_OP_BIND` (Linux 6.11).
    ///
    /// # Errors
    /// Those of bind(2), and `EINVAL` where the kernel has no such operation.
    pub fn bind(&mut self, socket: BorrowedFd<'_>, address: KernelAddress) -> io::Result<()> {
        let operands = operands(address, &[]);
        let entry = opcode::Bind::new(
            types::Fd(socket.as_raw_fd()),
            operands.address.bytes().as_ptr().cast(),
            operands.address.len(),
        );
        self.complete(&entry.build(), operands, None).map(drop)
    }

    /// `IORING_OP_LISTEN` (Linux 6.11).
    ///
    /// # Errors
    /// Those of listen(2), and `EINVAL` where the kernel has no such operation.
    pub fn listen(&mut self, socket: BorrowedFd<'_>, backlog: i32) -> io::Result<()> {
        let entry = opcode::Listen::new(types::Fd(socket.as_raw_fd()), backlog).build();
        self.complete(&entry, operands_of_none(), None).map(drop)
    }

    /// `IORING_OP_CONNECT`.
    ///
    /// # Errors
    /// Those of connect(2), and `ECANCELED` when the deadline passed first.
    pub fn connect(
        &mut self,
        socket: BorrowedFd<'_>,
        address: KernelAddress,
        issue: Issue,
        deadline: Instant,
    ) -> io::Result<()> {
        let operands = operands(address, &[]);
        let entry = opcode::Connect::new(
            types::Fd(socket.as_raw_fd()),
            operands.address.bytes().as_ptr().cast(),
            operands.address.len(),
        );
        let flags = match issue {
            Issue::Inline => squeue::Flags::empty(),
            Issue::Async => squeue::Flags::ASYNC,
        };
        self.complete(&entry.build().flags(flags), operands, Some(deadline)).map(drop)
    }

    /// `IORING_OP_SENDMSG` with `MSG_FASTOPEN`: connects and sends `data` in one operation. Returns the bytes taken.
    ///
    /// # Errors
    /// Those of connect(2), `EOPNOTSUPP` where fast open is off, `ECANCELED` when the deadline passed first.
    pub fn open_fast(
        &mut self,
        socket: BorrowedFd<'_>,
        address: KernelAddress,
        data: &[u8],
        deadline: Instant,
    ) -> io::Result<usize> {
        let operands = operands(address, data);
        let flags = libc::MSG_FASTOPEN | libc::MSG_NOSIGNAL;
        let entry =
            opcode::SendMsg::new(types::Fd(socket.as_raw_fd()), &raw const operands.message)
                .flags(flags.cast_unsigned())
                .build();
        let taken = self.complete(&entry, operands, Some(deadline))?;
        Ok(usize::try_from(taken).expect("sendmsg answers with a count"))
    }

    /// `IORING_OP_ACCEPT`, close-on-exec, without the peer's address. Waits for ever without a deadline.
    ///
    /// # Errors
    /// Those of accept(2), and `ECANCELED` when the deadline passed first.
    pub fn accept(
        &mut self,
        listener: BorrowedFd<'_>,
        deadline: Option<Instant>,
    ) -> io::Result<OwnedFd> {
        let entry = opcode::Accept::new(
            types::Fd(listener.as_raw_fd()),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        )
        .flags(libc::SOCK_CLOEXEC)
        .build();
        self.complete(&entry, operands_of_none(), deadline).map(owned)
    }

    /// Submits `entry` and returns its answer.
    fn complete(
        &mut self,
        entry: &squeue::Entry,
        operands: Box<Operands>,
        deadline: Option<Instant>,
    ) -> io::Result<i32> {
        let entry = entry.clone().user_data(OPERATION);
        let answer = self.submit(&entry).and_then(|()| {
            loop {
                match self.next_completion(deadline)? {
                    Some(completion) if completion.user_data() == OPERATION => {
                        break Ok(completion.result());
                    }
                    Some(_) => {}
                    None => break self.cancel(),
                }
            }
        });
        match answer {
            Ok(answer @ 0..) => Ok(answer),
            Ok(error) => Err(io::Error::from_raw_os_error(-error)),
            Err(error) => {
                // The ring itself failed, so the operation may still be under way: its operands are given up, not freed.
                std::mem::forget(operands);
                Err(error)
            }
        }
    }

    /// Cancels the operation and awaits its answer, which may still be a success.
    fn cancel(&mut self) -> io::Result<i32> {
        self.submit(&opcode::AsyncCancel::new(OPERATION).build().user_data(CANCELLATION))?;
        let mut answer = None;
        let mut cancelled = false;
        // Both answers are taken, so that the queue is empty for the next operation.
        while answer.is_none() || !cancelled {
            if let Some(completion) = self.next_completion(None)? {
                if completion.user_data() == OPERATION {
                    answer = Some(completion.result());
                } else {
                    cancelled = true;
                }
            }
        }
        Ok(answer.expect("the loop ends with an answer"))
    }

    fn submit(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: the entry's pointers lead into operands that `complete` owns until the kernel has answered, or holds
        // none; its descriptor is borrowed for the length of the call.
        unsafe { self.ring.submission().push(entry) }
            .expect("one operation and its cancellation fit the queue");
        loop {
            match self.ring.submit() {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until the ring has a completion, at most `left`.
    fn readable_within(&self, left: Duration) -> io::Result<()> {
        let left = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 });
        // SAFETY: the ring's descriptor is open as long as the ring, which is borrowed through the call.
        let ring = unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) };
        match poll(&mut [PollFd::new(&ring, PollFlags::IN)], Some(&left)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The next completion, or `None` past the deadline.
    fn next_completion(&mut self, deadline: Option<Instant>) -> io::Result<Option<cqueue::Entry>> {
        loop {
            if let Some(completion) = self.ring.completion().next() {
                return Ok(Some(completion));
            }
            let waited = match deadline {
                None => self.ring.submit_and_wait(1),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left == Duration::ZERO {
                        return Ok(None);
                    }
                    // Before Linux 5.11 the call itself takes no time limit.
                    if !self.ring.params().is_feature_ext_arg() {
                        self.readable_within(left)?;
                        continue;
                    }
                    let left = types::Timespec::from(left);
                    self.ring
                        .submitter()
                        .submit_with_args(1, &types::SubmitArgs::new().timespec(&left))
                }
            };
            match waited {
                Ok(_) => {}
                Err(error) if matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR)) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// One accept operation that answers again and again (`IORING_ACCEPT_MULTISHOT`, Linux 5.19). It is submitted with the
/// first call and again whenever the kernel ends it. Dropping it closes connections that were taken and never asked for.
#[derive(Debug)]
pub struct MultishotAccept {
    ring: Ring,
    armed: bool,
}

impl MultishotAccept {
    /// Sets up the ring; nothing is accepted yet.
    ///
    /// # Errors
    /// Those of [`Ring::new`].
    pub fn new() -> io::Result<Self> {
        Ok(Self { ring: Ring::new()?, armed: false })
    }

    /// The next connection of `listener`, close-on-exec. Every call must name the same listener. Waits for ever without
    /// a deadline; past it the operation stays armed and a later call continues it.
    ///
    /// # Errors
    /// Those of accept(2), `ECANCELED` when the deadline passed, `EINVAL` before Linux 5.19.
    pub fn accept(
        &mut self,
        listener: BorrowedFd<'_>,
        deadline: Option<Instant>,
    ) -> io::Result<OwnedFd> {
        loop {
            if !self.armed {
                let entry = opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd()));
                self.ring.submit(&entry.flags(libc::SOCK_CLOEXEC).build().user_data(OPERATION))?;
                self.armed = true;
            }
            let Some(completion) = self.ring.next_completion(deadline)? else {
                return Err(io::Error::from_raw_os_error(libc::ECANCELED));
            };
            self.armed = cqueue::more(completion.flags());
            match completion.result() {
                fd @ 0.. => return Ok(owned(fd)),
                // Nobody here cancelled it: the kernel does so when the thread that submitted it ends.
                error if error == -libc::ECANCELED && !self.armed => {}
                error => return Err(io::Error::from_raw_os_error(-error)),
            }
        }
    }
}

impl Drop for MultishotAccept {
    /// Ends the operation and awaits its end, so that it takes no further connection. A ring that fails meanwhile is left
    /// to the kernel, which cancels what is under way when the ring's descriptor closes.
    fn drop(&mut self) {
        let mut awaited = self.armed;
        let mut cancelled = !self.armed;
        if self.armed
            && self
                .ring
                .submit(&opcode::AsyncCancel::new(OPERATION).build().user_data(CANCELLATION))
                .is_err()
        {
            (awaited, cancelled) = (false, true);
        }
        loop {
            // What is in the queue already is taken in any case: connections accepted ahead are descriptors of this
            // process, which the end of the ring leaves open.
            while let Some(completion) = self.ring.ring.completion().next() {
                if completion.user_data() == CANCELLATION {
                    cancelled = true;
                    continue;
                }
                awaited = cqueue::more(completion.flags());
                if completion.result() >= 0 {
                    drop(owned(completion.result()));
                }
            }
            if (!awaited && cancelled)
                || self
                    .ring
                    .ring
                    .submit_and_wait(1)
                    .is_err_and(|error| error.kind() != io::ErrorKind::Interrupted)
            {
                return;
            }
        }
    }
}

fn operands_of_none() -> Box<Operands> {
    operands(KernelAddress::from(std::net::SocketAddr::from(([0, 0, 0, 0], 0))), &[])
}

fn operands(address: KernelAddress, data: &[u8]) -> Box<Operands> {
    // SAFETY: both are C structures of integers and pointers, for which zero is a value (null, no length).
    let (vector, message) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    let mut operands = Box::new(Operands { address, data: data.to_vec(), vector, message });
    let operand = &mut *operands;
    operand.vector.iov_base = operand.data.as_mut_ptr().cast();
    operand.vector.iov_len = operand.data.len();
    operand.message.msg_name = (&raw mut operand.address).cast();
    operand.message.msg_namelen = operand.address.len();
    operand.message.msg_iov = &raw mut operand.vector;
    operand.message.msg_iovlen = 1;
    operands
}

fn owned(fd: i32) -> OwnedFd {
    // SAFETY: only accept's answers come here: a new descriptor that nobody else has.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
