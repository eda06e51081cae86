//! A path to a member of etcd on which everything, or only what a watch tells, can be held up.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::watch,
};

/// What is held up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// Nothing.
    Nothing,
    /// What watches tell; requests are answered.
    Watches,
    /// Every answer.
    Everything,
}

/// A listener and its connections, for as long as the runtime runs.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    held: watch::Sender<Held>,
}

impl Proxy {
    pub(crate) async fn start(member: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (held, holding) = watch::channel(Held::Nothing);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(member).await else { continue };
                let watches = Arc::new(watch::Sender::new(false));
                let ((from, to), (back, answer)) = (near.into_split(), far.into_split());
                tokio::spawn(ask(from, answer, Arc::clone(&watches)));
                tokio::spawn(tell(back, to, watches.subscribe(), holding.clone()));
            }
        });
        Self { address, held }
    }

    pub(crate) fn hold(&self, held: Held) {
        self.held.send_replace(held);
    }
}

/// Requests, each in one piece; a connection on which a watch begins has nothing else.
async fn ask(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, watches: Arc<watch::Sender<bool>>) {
    let mut bytes = vec![0; 1 << 20];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if bytes[..count].starts_with(b"POST /v3/watch") {
            watches.send_replace(true);
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            break;
        }
    }
}

async fn tell(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    watches: watch::Receiver<bool>,
    mut held: watch::Receiver<Held>,
) {
    let mut bytes = vec![0; 1 << 20];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let passes = |held: &Held| match held {
            Held::Nothing => true,
            Held::Watches => !*watches.borrow(),
            Held::Everything => false,
        };
        if held.wait_for(passes).await.is_err() || to.write_all(&bytes[..count]).await.is_err() {
            break;
        }
    }
}
