//! Who publishes updates to rivals, over a connection of its own.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};

use crate::{Failure, book::Book, h2, nats};

/// Bytes of an update.
const UPDATE_BYTES: usize = 1_024;

/// Publishes one update.
pub(crate) trait Publish {
    /// Returns when it is on its way; with etcd, when it is written.
    fn publish(&mut self) -> Result<(), Failure>;
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

fn payload() -> Vec<u8> {
    vec![b'u'; UPDATE_BYTES]
}

fn tls(tls: &Arc<ClientConfig>, server: SocketAddr, stream: TcpStream) -> Result<Stream, Failure> {
    stream.set_nodelay(true)?;
    let connection = ClientConnection::new(Arc::clone(tls), ServerName::from(server.ip()))?;
    Ok(StreamOwned::new(connection, stream))
}

fn member(book: &Book, protocol: &[u8]) -> Result<Arc<ClientConfig>, Failure> {
    Ok(book.members(0, 1, protocol)?.pop().ok_or("there is nobody")?.tls)
}

/// To subscribers of NATS.
pub(crate) fn nats(book: &Book, server: SocketAddr) -> Result<Box<dyn Publish>, Failure> {
    let mut plain = TcpStream::connect(server)?;
    let mut byte = [0];
    while byte != *b"\n" {
        plain.read_exact(&mut byte)?;
    }
    let mut stream = tls(&member(book, b"")?, server, plain)?;
    stream.write_all(b"CONNECT {\"verbose\":false}\r\n")?;
    stream.flush()?;
    Ok(Box::new(Nats { stream, update: nats::update(&payload()) }))
}

struct Nats {
    stream: Stream,
    update: Vec<u8>,
}

impl Publish for Nats {
    fn publish(&mut self) -> Result<(), Failure> {
        self.stream.write_all(&self.update)?;
        Ok(self.stream.flush()?)
    }
}

/// To those who watch a key of etcd. The key is put by the JSON gateway: one write for thousands of deliveries.
pub(crate) fn etcd(book: &Book, server: SocketAddr) -> Result<Box<dyn Publish>, Failure> {
    Ok(Box::new(Etcd { server, tls: member(book, b"http/1.1")? }))
}

struct Etcd {
    server: SocketAddr,
    tls: Arc<ClientConfig>,
}

impl Publish for Etcd {
    fn publish(&mut self) -> Result<(), Failure> {
        let (key, value) = (STANDARD.encode(h2::KEY), STANDARD.encode(payload()));
        let body = format!(r#"{{"key":"{key}","value":"{value}"}}"#);
        let mut stream = tls(&self.tls, self.server, TcpStream::connect(self.server)?)?;
        let length = body.len();
        write!(
            stream,
            "POST /v3/kv/put HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
        stream.flush()?;
        let mut answer = [0; 512];
        let count = stream.read(&mut answer)?;
        let answer = String::from_utf8_lossy(answer.get(..count).unwrap_or_default());
        if answer.contains(" 200 OK") {
            Ok(())
        } else {
            Err(format!("etcd refuses an update: {answer}").into())
        }
    }
}
