//! What a listener bears: silence, garbage, half a handshake, frames that are too long or too many; and that others are
//! served meanwhile.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::{Router, routing::get};
use fleet::{
    api::client::{Client, connect},
    authority::Authority,
    server::{Limits, LineId, Server, Told, counted::Counted, counted::Outcome},
    tls::{self, Believed, Identity},
};
use jiff::Timestamp;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::timeout,
};
use wire::sync::{Beat, Down, Downward, FRAME_BYTES_MAX, Later, PROTOCOL, Up, Upward, encode};

const DAY: Duration = Duration::from_secs(86_400);
const PATIENCE: Duration = Duration::from_secs(20);

struct Fleet {
    authority: Authority,
    address: SocketAddr,
    told: mpsc::Receiver<Told>,
    counted: Counted,
    serving: tokio::task::JoinHandle<()>,
    scratch: PathBuf,
    _tls: watch::Sender<Arc<rustls::ServerConfig>>,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.serving.abort();
        let _removed = std::fs::remove_dir_all(&self.scratch);
    }
}

impl Fleet {
    async fn new(name: &str, limits: Limits) -> Self {
        let scratch =
            std::env::temp_dir().join(format!("fwnet-listener-{name}-{}", std::process::id()));
        let _old = std::fs::remove_dir_all(&scratch);
        let now = Timestamp::now();
        let authority = Authority::make(&scratch, "test", now).unwrap();
        let own = authority.issue(&"fwnet:controller/c".parse().unwrap(), now, DAY).unwrap();
        let config = tls::server(&own, &[PROTOCOL, tls::HTTP], tls::tickets().unwrap()).unwrap();
        let (sender, tls) = watch::channel(Arc::new(config));
        let (tell, told) = mpsc::channel(64);
        let counted = Counted::default();
        let router = Router::new().route("/hello", get(async || "\"hello\""));
        let server = Server { tls, router, told: tell, counted: counted.clone(), limits };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(server.serve(listener));
        Self { authority, address, told, counted, serving, scratch, _tls: sender }
    }

    fn identity(&self, subject: &str) -> Identity {
        self.authority.issue(&subject.parse().unwrap(), Timestamp::now(), DAY).unwrap()
    }

    fn believed(&self) -> Believed {
        Believed::Authority(self.authority.certificate().clone())
    }

    async fn line(&self, subject: Option<&str>) -> tokio_rustls::client::TlsStream<TcpStream> {
        let identity = subject.map(|subject| self.identity(subject));
        let config = tls::client(identity.as_ref(), self.believed(), PROTOCOL).unwrap();
        connect(&Arc::new(config), &self.address.to_string()).await.unwrap()
    }

    async fn next(&mut self) -> Told {
        timeout(PATIENCE, self.told.recv()).await.unwrap().unwrap()
    }

    async fn until(&self, what: &str, met: impl Fn(&Counted) -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !met(&self.counted) {
            assert!(tokio::time::Instant::now() < deadline, "{what}: {:?}", self.counted);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn beat() -> Upward {
    Upward { say: Some(Up::Beat(Beat { denied: 7, ..Beat::default() })) }
}

fn later(bytes: usize) -> Vec<u8> {
    let later = Later { after_ms: 1, why: "x".repeat(bytes) };
    encode(&Downward { say: Some(Down::Later(later)) }).unwrap()
}

/// Says something, and is heard; is told something, and hears it.
async fn served(fleet: &mut Fleet, subject: &str) {
    let mut stream = fleet.line(Some(subject)).await;
    let Told::Came { line, shown, mailbox } = fleet.next().await else { panic!() };
    assert_eq!(shown.subject, subject.parse().unwrap());
    stream.write_all(&encode(&beat()).unwrap()).await.unwrap();
    let Told::Said { line: said, message } = fleet.next().await else { panic!() };
    assert_eq!((said, message), (line, beat()));
    let frames = [later(3), later(200_000), later(0)];
    let mut expected = Vec::new();
    for frame in &frames {
        mailbox.put(frame.clone().into());
        expected.extend_from_slice(frame);
    }
    let mut found = vec![0; expected.len()];
    timeout(PATIENCE, stream.read_exact(&mut found)).await.unwrap().unwrap();
    assert_eq!(found, expected);
    loop {
        match fleet.next().await {
            Told::Drained { line: of } if of == line && mailbox.unsent() == 0 => break,
            Told::Drained { .. } => {}
            other @ (Told::Came { .. } | Told::Said { .. } | Told::Gone { .. }) => {
                panic!("{other:?}")
            }
        }
    }
    mailbox.put(later(1).into());
    mailbox.end();
    mailbox.put(later(2).into());
    let mut rest = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest, later(1));
    gone(fleet, line).await;
}

async fn gone(fleet: &mut Fleet, line: LineId) {
    loop {
        match fleet.next().await {
            Told::Gone { line: of } if of == line => return,
            Told::Drained { .. } => {}
            other @ (Told::Came { .. } | Told::Said { .. } | Told::Gone { .. }) => {
                panic!("{other:?}")
            }
        }
    }
}

#[tokio::test]
async fn a_host_says_and_hears() {
    let mut fleet = Fleet::new("says", Limits::default()).await;
    served(&mut fleet, "fwnet:host/web-1").await;
    served(&mut fleet, "fwnet:relay/r").await;
    served(&mut fleet, "fwnet:controller/c2").await;
    fleet.until("nobody is left", |it| it.lines.get() == 0 && it.strangers.get() == 0).await;
}

#[tokio::test]
async fn only_hosts_relays_and_controllers_have_lines_and_everybody_may_ask() {
    let mut fleet = Fleet::new("kinds", Limits::default()).await;
    for (subject, why) in
        [(None, Outcome::Nobody), (Some("fwnet:operator/anna"), Outcome::Business)]
    {
        let mut stream = fleet.line(subject).await;
        // It may be closed before or after it is written to.
        let _written = stream.write_all(&encode(&beat()).unwrap()).await;
        let mut rest = Vec::new();
        let _end = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap();
        assert!(rest.is_empty());
        fleet.until("it is refused", |it| it.refusals(why) == 1).await;
    }
    assert!(fleet.told.try_recv().is_err());
    for identity in [None, Some(fleet.identity("fwnet:operator/anna"))] {
        let endpoints = vec!["127.0.0.1:1".to_owned(), fleet.address.to_string()];
        let client = Client::new(identity.as_ref(), fleet.believed(), endpoints).unwrap();
        assert_eq!(client.get::<String>("/hello").await.unwrap(), "hello");
    }
    served(&mut fleet, "fwnet:host/web-1").await;
}

#[tokio::test]
async fn silence_garbage_and_half_a_handshake_push_each_other_out_and_nobody_else() {
    let limits = Limits { strangers: 32, patience: Duration::from_millis(50), ..Limits::default() };
    let mut fleet = Fleet::new("silence", limits).await;
    let mut crowd = Vec::new();
    for number in 0..400 {
        let mut stream = TcpStream::connect(fleet.address).await.unwrap();
        match number % 3 {
            0 => {}
            // A record of TLS begins like this, and never goes on.
            1 => stream.write_all(&[0x16, 3, 1, 1, 0, 1]).await.unwrap(),
            _ => {
                let _reset = stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await;
            }
        }
        crowd.push(stream);
        assert!(fleet.counted.strangers.get() <= 32);
        if number % 100 == 50 {
            served(&mut fleet, "fwnet:host/web-1").await;
        }
    }
    fleet.until("some are pushed out", |it| it.refusals(Outcome::Pushed) >= 100).await;
    assert!(fleet.counted.strangers.get() <= 32);
    // Pushed out is cut off.
    let mut byte = [0];
    let oldest = crowd.first_mut().unwrap();
    assert_eq!(timeout(PATIENCE, oldest.read(&mut byte)).await.unwrap().unwrap_or(0), 0);
    served(&mut fleet, "fwnet:host/web-1").await;
    drop(crowd);
    fleet.until("all are gone", |it| it.strangers.get() == 0).await;
}

#[tokio::test]
async fn who_is_slow_is_cut_off() {
    let limits = Limits {
        handshake: Duration::from_millis(300),
        asking: Duration::from_millis(300),
        ..Limits::default()
    };
    let mut fleet = Fleet::new("slow", limits).await;
    // One byte of a handshake at a time.
    let mut stream = TcpStream::connect(fleet.address).await.unwrap();
    let mut byte = [0];
    let drip = async {
        for part in [0x16, 3, 1, 0, 200].into_iter().cycle() {
            if stream.write_all(&[part]).await.is_err() {
                break;
            }
            if let Ok(Ok(0) | Err(_)) =
                timeout(Duration::from_millis(20), stream.read(&mut byte)).await
            {
                break;
            }
        }
    };
    timeout(PATIENCE, drip).await.unwrap();
    // The head of a request that never ends.
    let config = Arc::new(tls::client(None, fleet.believed(), tls::HTTP).unwrap());
    let mut stream = connect(&config, &fleet.address.to_string()).await.unwrap();
    stream.write_all(b"GET /hello HTTP/1.1\r\nX: ").await.unwrap();
    let mut rest = Vec::new();
    let _end = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap();
    fleet.until("both are gone", |it| it.strangers.get() == 0).await;
    served(&mut fleet, "fwnet:host/web-1").await;
}

#[tokio::test]
async fn a_frame_that_is_too_long_or_no_message_ends_its_line_only() {
    let mut fleet = Fleet::new("frames", Limits::default()).await;
    let long = u32::try_from(17 << 10).unwrap().to_be_bytes();
    let longer = u32::try_from(FRAME_BYTES_MAX + 1).unwrap().to_be_bytes();
    let garbage = [0, 0, 0, 3, 0xff, 0xff, 0xff];
    for (count, (subject, bytes)) in (1..).zip([
        ("fwnet:host/web-1", &long[..]),
        ("fwnet:relay/r", &longer[..]),
        ("fwnet:host/web-1", &garbage[..]),
    ]) {
        let mut stream = fleet.line(Some(subject)).await;
        let Told::Came { line, .. } = fleet.next().await else { panic!() };
        stream.write_all(bytes).await.unwrap();
        gone(&mut fleet, line).await;
        fleet.until("it is counted", |it| it.refusals(Outcome::Frame) == count).await;
        served(&mut fleet, "fwnet:host/web-2").await;
    }
}

#[tokio::test]
async fn who_says_more_than_is_heard_waits() {
    let mut fleet = Fleet::new("fast", Limits::default()).await;
    let mut stream = fleet.line(Some("fwnet:host/web-1")).await;
    let Told::Came { .. } = fleet.next().await else { panic!() };
    let began = tokio::time::Instant::now();
    let frames = encode(&beat()).unwrap().repeat(500);
    stream.write_all(&frames).await.unwrap();
    for _ in 0..500 {
        let Told::Said { .. } = fleet.next().await else { panic!() };
    }
    // 200 a second are heard.
    assert!(began.elapsed() >= Duration::from_secs(2));
}
