//! A line as a host has it: what it says, and what it is told.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use fleet::{
    api::client::connect,
    tls::{self, Believed, Identity},
};
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::client::TlsStream;
use wire::sync::{
    Decoder, Down, Downward, Hello, Manifest, PROTOCOL, Part, Stage, Target, Up, Upward, Want,
    encode,
};

use crate::running::PATIENCE;

/// An open one.
pub(crate) struct Line {
    stream: TlsStream<TcpStream>,
    decoder: Decoder,
    rest: Vec<u8>,
}

/// What a line is told.
#[derive(Debug)]
pub(crate) enum Heard {
    /// This.
    Said(Down),
    /// Nothing any more.
    End,
}

impl Line {
    /// Shows a certificate to a controller. One that is not let in may hear of it, or be cut off.
    pub(crate) async fn open(identity: &Identity, address: SocketAddr) -> Self {
        Self::tried(identity, address).await.unwrap()
    }

    /// The same, where there may be no room.
    pub(crate) async fn tried(identity: &Identity, address: SocketAddr) -> io::Result<Self> {
        let believed = Believed::Authority(identity.authority.clone());
        let config = tls::client(Some(identity), believed, PROTOCOL).unwrap();
        let stream = connect(&Arc::new(config), &address.to_string()).await?;
        Ok(Self { stream, decoder: Decoder::default(), rest: Vec::new() })
    }

    /// The same, and says that it has nothing.
    pub(crate) async fn hello(identity: &Identity, address: SocketAddr) -> Self {
        let mut line = Self::open(identity, address).await;
        line.begin().await;
        line
    }

    /// Says that it has nothing.
    pub(crate) async fn begin(&mut self) {
        let stage = Stage::Unknown.into();
        self.say(Up::Hello(Hello { program: "test".to_owned(), enforced: Vec::new(), stage }))
            .await;
    }

    /// Says something. Where the line has ended, that is heard next.
    pub(crate) async fn say(&mut self, say: Up) {
        self.write(&encode(&Upward { say: Some(say) }).unwrap()).await;
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        let _ended = self.stream.write_all(bytes).await;
    }

    /// What comes next.
    pub(crate) async fn hear(&mut self) -> Heard {
        timeout(PATIENCE, self.next()).await.expect("something is to be heard")
    }

    async fn next(&mut self) -> Heard {
        loop {
            let mut bytes = self.rest.as_slice();
            let message = self.decoder.next::<Downward>(&mut bytes).unwrap();
            self.rest = bytes.to_vec();
            if let Some(message) = message {
                return Heard::Said(message.say.unwrap());
            }
            let mut buffer = vec![0; 64 << 10];
            match self.stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return Heard::End,
                Ok(count) => self.rest.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// Nothing is heard for so long.
    pub(crate) async fn is_silent(&mut self, time: Duration) -> bool {
        timeout(time, self.next()).await.is_err()
    }

    /// The next target, which is a whole one.
    pub(crate) async fn target(&mut self) -> (Target, Manifest) {
        match self.hear().await {
            Heard::Said(Down::Target(target)) => {
                assert!(target.same.is_empty(), "{target:?}");
                let manifest = Manifest::decode(target.manifest.as_slice()).unwrap();
                (target, manifest)
            }
            other @ (Heard::Said(_) | Heard::End) => panic!("{other:?}"),
        }
    }

    /// Asks for a piece, and gets a part of it or hears that there is none.
    pub(crate) async fn want(&mut self, digest: &[u8]) -> Part {
        let (base, offset) = (Vec::new(), 0);
        self.say(Up::Want(Want { digest: digest.to_vec(), base, offset })).await;
        loop {
            match self.hear().await {
                Heard::Said(Down::Part(part)) => return part,
                // What others are may have changed meanwhile.
                Heard::Said(Down::Target(_)) => {}
                other @ (Heard::Said(_) | Heard::End) => panic!("{other:?}"),
            }
        }
    }

    /// It ends, and nothing is told but why.
    pub(crate) async fn ends(mut self) -> String {
        let mut why = String::new();
        loop {
            match self.hear().await {
                Heard::Said(Down::Refused(refused)) => why = refused.why,
                Heard::Said(other) => panic!("{other:?}"),
                Heard::End => return why,
            }
        }
    }
}
