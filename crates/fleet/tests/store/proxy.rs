//! A path to a member on which answers get lost: the member has done what it was asked, and nobody hears of it.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

/// What happens when an answer gets lost, before the asker can ask again.
type Hook = Box<dyn FnMut() + Send>;

/// A listener in the namespace of the thread that makes it. Its threads end with their connections.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    rules: Arc<Rules>,
}

struct Rules {
    /// Whether the answer to the next write gets lost.
    armed: AtomicBool,
    lost: AtomicU64,
    hook: Mutex<Hook>,
}

impl Proxy {
    /// Listens at `own` for the member at `member`.
    pub(crate) fn start(own: SocketAddr, member: SocketAddr) -> Self {
        let listener = TcpListener::bind(own).unwrap();
        let address = listener.local_addr().unwrap();
        let rules = Arc::new(Rules {
            armed: AtomicBool::new(false),
            lost: AtomicU64::new(0),
            hook: Mutex::new(Box::new(|| ())),
        });
        let shared = Arc::clone(&rules);
        thread::spawn(move || {
            for near in listener.incoming() {
                let (Ok(near), Ok(far)) = (near, TcpStream::connect(member)) else { return };
                carry(near, far, &shared);
            }
        });
        Self { address, rules }
    }

    /// Loses the answer to the next write, and does something then.
    pub(crate) fn lose(&self, hook: impl FnMut() + Send + 'static) {
        *self.rules.hook.lock().unwrap() = Box::new(hook);
        self.rules.armed.store(true, Ordering::SeqCst);
    }

    /// How many answers were lost.
    pub(crate) fn lost(&self) -> u64 {
        self.rules.lost.load(Ordering::SeqCst)
    }
}

fn carry(near: TcpStream, far: TcpStream, rules: &Arc<Rules>) {
    // Whether a write was asked for whose answer has not come.
    let asked = Arc::new(AtomicBool::new(false));
    let (mut from, mut to) = (near.try_clone().unwrap(), far.try_clone().unwrap());
    let noting = Arc::clone(&asked);
    thread::spawn(move || {
        let mut bytes = vec![0; 1 << 20];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            let write = b"request_put";
            if bytes[..count].windows(write.len()).any(|window| window == write) {
                noting.store(true, Ordering::SeqCst);
            }
            if to.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        let _gone = to.shutdown(Shutdown::Both);
    });
    let (mut from, mut to) = (far, near);
    let rules = Arc::clone(rules);
    thread::spawn(move || {
        let mut bytes = vec![0; 1 << 20];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            if asked.swap(false, Ordering::SeqCst) && rules.armed.swap(false, Ordering::SeqCst) {
                rules.hook.lock().unwrap()();
                rules.lost.fetch_add(1, Ordering::SeqCst);
                break;
            }
            if to.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        let _gone = to.shutdown(Shutdown::Both);
        let _gone = from.shutdown(Shutdown::Both);
    });
}
