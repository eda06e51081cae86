//! Those who called and have not shown who they are: a bounded number of them. Where there is no room, the one goes for
//! whom we have waited longest, if that is too long; while we wait for nobody, it is we who are slow, and whoever else
//! calls waits in the queue of the listener. So a crowd that says nothing only pushes itself out, and a fleet that comes
//! back at once does not push itself out half way through its handshakes.
//!
//! What is too long depends on those who came through: where they, too, had to be waited for, because they are far away or
//! busy, there is more patience with everybody. A crowd that never comes through cannot make it longer.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::Notify,
    time::{Instant, sleep},
};

use super::counted::{Counted, Outcome};

/// All of them. Copies are the same crowd.
#[derive(Clone, Debug)]
pub(super) struct Strangers {
    most: usize,
    patience: Duration,
    began: Instant,
    /// How long those were waited for who came through, smoothed, in microseconds.
    usual: Arc<AtomicU64>,
    counted: Counted,
    crowd: Arc<Mutex<Crowd>>,
    left: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Crowd {
    next: u64,
    here: BTreeMap<u64, Arc<Stay>>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Stranger {
    number: u64,
    stay: Arc<Stay>,
    all: Strangers,
}

/// How long one of them was waited for.
#[derive(Debug, Default)]
struct Stay {
    out: Notify,
    /// Before now, in microseconds.
    waited: AtomicU64,
    /// Since when, in microseconds after the first of all; 0 if nothing is waited for.
    since: AtomicU64,
}

/// Somebody's connection.
#[derive(Debug)]
pub(super) struct Watched {
    stream: TcpStream,
    stay: Arc<Stay>,
    began: Instant,
}

/// How often to look whether somebody has been waited for too long.
const TICK: Duration = Duration::from_millis(20);

impl Strangers {
    /// At most `most` at a time; `patience` is how long each is waited for at least where others want to come.
    pub(super) fn new(most: usize, patience: Duration, counted: Counted) -> Self {
        Self {
            most: most.max(1),
            patience,
            began: Instant::now(),
            usual: Arc::default(),
            counted,
            crowd: Arc::default(),
            left: Arc::default(),
        }
    }

    fn crowd(&self) -> MutexGuard<'_, Crowd> {
        // Nothing that holds the lock can panic half way.
        self.crowd.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until one more may come.
    pub(super) async fn room(&self) {
        loop {
            {
                let mut crowd = self.crowd();
                if crowd.here.len() < self.most || self.push_out(&mut crowd, self.patience()) {
                    return;
                }
            }
            tokio::select! {
                () = self.left.notified() => {}
                () = sleep(TICK) => {}
            }
        }
    }

    /// How long each is waited for now: some times as long as is usual, and up to ten times as long as nobody else is.
    fn patience(&self) -> Duration {
        let usual = Duration::from_micros(self.usual.load(Ordering::Relaxed));
        (self.patience + usual * 4).min(self.patience * 10)
    }

    /// Somebody has come.
    pub(super) fn come(&self) -> Stranger {
        let mut crowd = self.crowd();
        let number = crowd.next;
        crowd.next += 1;
        let stay = Arc::new(Stay::default());
        crowd.here.insert(number, Arc::clone(&stay));
        self.counted.strangers.inc();
        Stranger { number, stay, all: self.clone() }
    }

    /// Makes room: descriptors have run out.
    pub(super) fn make_room(&self) {
        self.push_out(&mut self.crowd(), Duration::ZERO);
    }

    /// Has the one go for whom we have waited longest. `false` if we have waited for nobody as long as that.
    fn push_out(&self, crowd: &mut Crowd, patience: Duration) -> bool {
        let now = micros(self.began);
        let longest = crowd.here.iter().max_by_key(|(_, stay)| stay.waited(now));
        let Some((&number, stay)) = longest else { return false };
        if u128::from(stay.waited(now)) < patience.as_micros() {
            return false;
        }
        stay.out.notify_one();
        crowd.here.remove(&number);
        self.counted.strangers.dec();
        self.counted.refuse(Outcome::Pushed);
        true
    }
}

impl Stranger {
    /// Waits until it has to go.
    pub(super) async fn pushed_out(&self) {
        self.stay.out.notified().await;
    }

    /// It has come through: what it was waited for is what is usual.
    pub(super) fn through(&self) {
        let waited = self.stay.waited(micros(self.all.began));
        // Two at a time may lose one of them, which changes little.
        let usual = self.all.usual.load(Ordering::Relaxed);
        self.all.usual.store(usual - usual / 16 + waited / 16, Ordering::Relaxed);
    }

    /// Its connection; how long it is waited for is known from now on.
    pub(super) fn watch(&self, stream: TcpStream) -> Watched {
        Watched { stream, stay: Arc::clone(&self.stay), began: self.all.began }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        if self.all.crowd().here.remove(&self.number).is_some() {
            self.all.counted.strangers.dec();
            self.all.left.notify_one();
        }
    }
}

impl Stay {
    /// In all, in microseconds: whoever says a byte now and then does not begin anew.
    fn waited(&self, now: u64) -> u64 {
        let (before, since) =
            (self.waited.load(Ordering::Relaxed), self.since.load(Ordering::Relaxed));
        if since == 0 { before } else { before + now.saturating_sub(since) }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let since = self.stay.since.load(Ordering::Relaxed);
        if read.is_pending() {
            if since == 0 {
                self.stay.since.store(micros(self.began), Ordering::Relaxed);
            }
        } else if since != 0 {
            let more = micros(self.began).saturating_sub(since);
            self.stay.waited.fetch_add(more, Ordering::Relaxed);
            self.stay.since.store(0, Ordering::Relaxed);
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Microseconds since the beginning, and one: 0 means something else.
pub(super) fn micros(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX - 1) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_waited_for_goes_and_who_waits_for_us_stays() {
        let counted = Counted::default();
        let all = Strangers::new(2, Duration::from_millis(200), counted.clone());
        let (silent, busy) = (all.come(), all.come());
        // As `Watched` does when it was asked to read and there was nothing.
        silent.stay.since.store(micros(all.began), Ordering::Relaxed);
        let asked = Instant::now();
        all.room().await;
        assert!(asked.elapsed() >= Duration::from_millis(199));
        silent.pushed_out().await;
        assert_eq!(counted.strangers.get(), 1);
        // Nobody of these is waited for: room is where one of them is done.
        let other = all.come();
        let wait = tokio::time::timeout(Duration::from_millis(600), all.room()).await;
        assert!(wait.is_err());
        drop(busy);
        all.room().await;
        drop((other, silent));
        assert_eq!(counted.strangers.get(), 0);
    }

    #[tokio::test]
    async fn there_is_more_patience_where_those_who_come_through_are_slow() {
        let all = Strangers::new(2, Duration::from_millis(500), Counted::default());
        assert_eq!(all.patience(), Duration::from_millis(500));
        let came = |waited_us| {
            let one = all.come();
            one.stay.waited.store(waited_us, Ordering::Relaxed);
            one.through();
        };
        (0..200).for_each(|_| came(400_000));
        assert!((1_900..=2_100).contains(&all.patience().as_millis()), "{:?}", all.patience());
        (0..200).for_each(|_| came(60_000_000));
        assert_eq!(all.patience(), Duration::from_secs(5));
        (0..200).for_each(|_| came(0));
        assert!(all.patience() < Duration::from_millis(510), "{:?}", all.patience());
    }
}
