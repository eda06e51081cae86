//! One connection that speaks `fwnet-sync/1`: frames out of a mailbox to the socket, messages from the socket to whoever
//! listens.
//!
//! A line that is idle keeps no buffer of ours: what is read goes through one scratch of the thread, a frame that is not
//! whole is kept by the decoder, and the mailbox is empty once its frames are on their way. Nothing of a line waits for
//! another one, except that nothing more is read while the listener is busy.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use prost::Message;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use wire::sync::{Decoder, FrameError};

use super::counted::Counted;

/// Bytes that one thread reads at once.
const SCRATCH_BYTES: usize = 16 << 10;
/// Frames that are shorter go together, in up to so many bytes: one record of TLS (RFC 8446, 5.1) and one system call.
const TOGETHER_BYTES: usize = 16 << 10;
/// How long the last frames of a line that is ended may take.
const LAST_FRAMES: Duration = Duration::from_secs(5);
const SECOND: Duration = Duration::from_secs(1);

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_BYTES]);
}

/// A frame to be sent: bytes of its own, or some around bytes that many lines share.
#[derive(Clone, Debug)]
pub struct Frame(controller::serving::Frame);

impl From<Vec<u8>> for Frame {
    fn from(bytes: Vec<u8>) -> Self {
        Self(controller::serving::Frame { head: bytes, body: None, tail: Vec::new() })
    }
}

impl From<controller::serving::Frame> for Frame {
    fn from(frame: controller::serving::Frame) -> Self {
        Self(frame)
    }
}

impl Frame {
    /// How many bytes it has.
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }

    /// Its bytes from the one at `at` on, or some of them; none at its end.
    fn rest(&self, mut at: usize) -> &[u8] {
        for slice in self.0.slices() {
            match slice.get(at..) {
                Some(rest) if !rest.is_empty() => return rest,
                _ => at = at.saturating_sub(slice.len()),
            }
        }
        &[]
    }
}

/// What is to be sent on a line. Whoever puts frames in never waits: they ask how much is there, and put no more in until
/// it is gone.
#[derive(Debug, Default)]
pub struct Mailbox(Mutex<Inside>);

#[derive(Debug, Default)]
struct Inside {
    frames: VecDeque<Frame>,
    bytes: usize,
    ending: bool,
    waker: Option<Waker>,
}

impl Mailbox {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        // Nothing that holds the lock can panic half way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a frame in. Nothing more is taken once the line is to end.
    pub fn put(&self, frame: Frame) {
        let mut inside = self.inside();
        if inside.ending {
            return;
        }
        inside.bytes += frame.bytes();
        inside.frames.push_back(frame);
        if let Some(waker) = inside.waker.take() {
            waker.wake();
        }
    }

    /// Ends the line once what is in it is sent.
    pub fn end(&self) {
        let mut inside = self.inside();
        inside.ending = true;
        if let Some(waker) = inside.waker.take() {
            waker.wake();
        }
    }

    /// Bytes that are in it, those of the frame that is being sent included.
    pub fn unsent(&self) -> usize {
        self.inside().bytes
    }

    /// The next frame, or some that are short, and how many; whether there will be none any more.
    fn take(&self, waker: &Waker) -> Result<Option<(Frame, u32)>, Ended> {
        let mut inside = self.inside();
        if let Some(frame) = inside.frames.pop_front() {
            let taken = inside.together(frame);
            if inside.frames.is_empty() {
                inside.frames = VecDeque::new();
            }
            return Ok(Some(taken));
        }
        if inside.ending {
            return Err(Ended);
        }
        inside.waker = Some(waker.clone());
        Ok(None)
    }

    /// A frame is on its way. Whether the mailbox is empty now.
    fn sent(&self, bytes: usize) -> bool {
        let mut inside = self.inside();
        inside.bytes = inside.bytes.saturating_sub(bytes);
        inside.bytes == 0
    }
}

impl Inside {
    /// A short frame with those behind it, as far as they are short; a long one alone, its bytes not copied.
    fn together(&mut self, first: Frame) -> (Frame, u32) {
        let mut bytes = first.bytes();
        if bytes > TOGETHER_BYTES {
            return (first, 1);
        }
        let mut joined = first.0.to_vec();
        let mut count = 1;
        while let Some(next) = self.frames.front() {
            bytes += next.bytes();
            if bytes > TOGETHER_BYTES {
                break;
            }
            next.0.slices().into_iter().for_each(|slice| joined.extend_from_slice(slice));
            count += 1;
            self.frames.pop_front();
        }
        (joined.into(), count)
    }
}

/// The mailbox will have no more frames.
struct Ended;

/// What a line tells.
#[derive(Debug)]
pub enum Heard<M> {
    /// A message came.
    Message(M),
    /// Everything that was in the mailbox is on its way.
    Drained,
}

/// Why a line ended.
#[derive(Debug)]
pub enum LineEnd {
    /// The other side closed it, between frames.
    Closed,
    /// We ended it: see [`Mailbox::end`].
    Ended,
    /// What came is no frame, or too long.
    Frame(FrameError),
    /// Nobody listens any more.
    Unheard,
    /// The socket.
    Io(io::Error),
}

/// How much one line may say.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    /// Bytes of one message.
    pub frame_bytes: usize,
    /// Messages of one second; who says more waits.
    pub messages: u32,
}

/// Carries frames and messages until the line ends. `tell` gets everything in order, each with `tag`.
pub async fn carry<S, M, T>(
    mut stream: S,
    mailbox: &Mailbox,
    tell: &mpsc::Sender<T>,
    tag: impl Fn(Heard<M>) -> T,
    allowed: Allowed,
    counted: &Counted,
) -> LineEnd
where
    S: AsyncRead + AsyncWrite + Unpin,
    M: Message + Default,
{
    let mut line = Line {
        stream: &mut stream,
        mailbox,
        counted,
        decoder: Decoder::new(allowed.frame_bytes),
        sending: None,
        flushed: true,
        heard: VecDeque::new(),
    };
    let mut pace = Pace::new(allowed.messages);
    let end = loop {
        let heard = match std::future::poll_fn(|context| line.poll(context)).await {
            Ok(heard) => heard,
            Err(end) => break end,
        };
        if matches!(heard, Heard::Message(_))
            && let Some(until) = pace.count(Instant::now())
        {
            // Nothing is read until then: TCP tells the other side.
            sleep_until(until).await;
        }
        if tell.send(tag(heard)).await.is_err() {
            break LineEnd::Unheard;
        }
    };
    // The other side is told that nothing was cut off, as far as it listens.
    let _told = timeout(LAST_FRAMES, stream.shutdown()).await;
    end
}

/// Counts the messages of a second.
struct Pace {
    most: u32,
    count: u32,
    until: Instant,
}

impl Pace {
    fn new(most: u32) -> Self {
        Self { most, count: 0, until: Instant::now() }
    }

    /// Until when a message has to wait that is one too many for its second.
    fn count(&mut self, now: Instant) -> Option<Instant> {
        if now >= self.until {
            self.until = now + SECOND;
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        (self.count > self.most).then_some(self.until)
    }
}

struct Line<'a, S, M> {
    stream: &'a mut S,
    mailbox: &'a Mailbox,
    counted: &'a Counted,
    decoder: Decoder,
    /// What is on its way, how much of it is, and how many frames it is.
    sending: Option<(Frame, usize, u32)>,
    flushed: bool,
    heard: VecDeque<M>,
}

impl<S, M> Line<'_, S, M>
where
    S: AsyncRead + AsyncWrite + Unpin,
    M: Message + Default,
{
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Heard<M>, LineEnd>> {
        if let Some(message) = self.heard.pop_front() {
            if self.heard.is_empty() {
                self.heard = VecDeque::new();
            }
            return Poll::Ready(Ok(Heard::Message(message)));
        }
        match self.write(context) {
            Poll::Ready(Ok(())) => return Poll::Ready(Ok(Heard::Drained)),
            Poll::Ready(Err(end)) => return Poll::Ready(Err(end)),
            Poll::Pending => {}
        }
        self.read(context).map(|read| read.map(Heard::Message))
    }

    /// Ready once the last frame of the mailbox is on its way.
    fn write(&mut self, context: &mut Context<'_>) -> Poll<Result<(), LineEnd>> {
        loop {
            let Some((frame, at, count)) = &mut self.sending else {
                match self.mailbox.take(context.waker()) {
                    Ok(Some((frame, count))) => {
                        self.sending = Some((frame, 0, count));
                        continue;
                    }
                    Ok(None) | Err(Ended) if !self.flushed => {
                        let flushed = ready!(Pin::new(&mut *self.stream).poll_flush(context));
                        flushed.map_err(LineEnd::Io)?;
                        self.flushed = true;
                        continue;
                    }
                    Ok(None) => return Poll::Pending,
                    Err(Ended) => return Poll::Ready(Err(LineEnd::Ended)),
                }
            };
            let rest = frame.rest(*at);
            if !rest.is_empty() {
                self.flushed = false;
                match ready!(Pin::new(&mut *self.stream).poll_write(context, rest)) {
                    Ok(0) => return Poll::Ready(Err(LineEnd::Io(io::ErrorKind::WriteZero.into()))),
                    Ok(more) => *at += more,
                    Err(error) => return Poll::Ready(Err(LineEnd::Io(error))),
                }
                continue;
            }
            let bytes = frame.bytes();
            self.counted.sent_frames.inc_by(u64::from(*count));
            self.sending = None;
            self.counted.sent_bytes.inc_by(bytes as u64);
            if self.mailbox.sent(bytes) {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn read(&mut self, context: &mut Context<'_>) -> Poll<Result<M, LineEnd>> {
        SCRATCH.with_borrow_mut(|scratch| {
            loop {
                let mut buffer = ReadBuf::new(scratch);
                match ready!(Pin::new(&mut *self.stream).poll_read(context, &mut buffer)) {
                    Ok(()) => {}
                    Err(error) => return Poll::Ready(Err(LineEnd::Io(error))),
                }
                let mut bytes = buffer.filled();
                if bytes.is_empty() {
                    let end = self.decoder.end().map_or_else(LineEnd::Frame, |()| LineEnd::Closed);
                    return Poll::Ready(Err(end));
                }
                self.counted.received_bytes.inc_by(bytes.len() as u64);
                loop {
                    match self.decoder.next::<M>(&mut bytes) {
                        Ok(Some(message)) => self.heard.push_back(message),
                        Ok(None) => break,
                        Err(error) => return Poll::Ready(Err(LineEnd::Frame(error))),
                    }
                }
                if let Some(message) = self.heard.pop_front() {
                    return Poll::Ready(Ok(message));
                }
            }
        })
    }
}
