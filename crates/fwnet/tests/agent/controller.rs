//! A controller as small as it can be: it says which target its one host should have, and hands out pieces. It speaks to
//! a real agent over real TLS, and can be made to misbehave.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use fleet::{
    authority::Authority,
    membership::Membership,
    subject::{Kind, Subject},
    tls,
};
use jiff::Timestamp;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use testbed::Host;
use wire::{
    Bundle, Envelope,
    sync::{
        Beat, Decoder, Down, Downward, LENGTH_BYTES, Label, Manifest, Member, Members, PROTOCOL,
        Part, Piece, Progress, Stage, Target, Up, Upward, Want, difference, encode,
    },
};

/// The host's id.
pub(crate) const ID: &str = "web-1";
/// A certificate's life.
const DAY: Duration = Duration::from_secs(86_400);
/// How long to wait for the agent's next word before looking around.
const MOMENT: Duration = Duration::from_millis(20);

/// What it knows, and what it heard.
#[derive(Default)]
struct Inside {
    pieces: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The target, and how many there were before it.
    target: Option<(u64, Target)>,
    heard: Vec<Progress>,
    beats: Vec<Beat>,
    /// Differences that were sent.
    differences: usize,
    /// Bytes to be sent that are no frame.
    garbage: Option<Vec<u8>>,
}

/// It listens until its end.
pub(crate) struct Controller {
    pub(crate) address: SocketAddr,
    authority: Authority,
    inside: Arc<Mutex<Inside>>,
    away: Arc<AtomicBool>,
    ended: Arc<AtomicBool>,
}

/// What the host should have.
#[derive(Clone, Default)]
pub(crate) struct Wish<'a> {
    /// The file of a bundle.
    pub(crate) bundle: &'a str,
    /// Other hosts: id, role, last byte of 192.0.2.x.
    pub(crate) hosts: &'a [(&'a str, &'a str, u8)],
    pub(crate) confirm_within_s: u64,
    pub(crate) quarantine: bool,
    /// Documents are left out.
    pub(crate) held_back: bool,
}

impl Controller {
    /// In the namespace of `host`; its authority's files are in `directory`.
    pub(crate) fn new(host: &Host, directory: &std::path::Path) -> Self {
        let now = Timestamp::now();
        let authority = Authority::make(directory, "test", now).unwrap();
        let subject = Subject::new(Kind::Controller, "one").unwrap();
        let identity = authority.issue(&subject, now, DAY).unwrap();
        let tickets = tls::tickets().unwrap();
        let configuration = Arc::new(tls::server(&identity, &[PROTOCOL], tickets).unwrap());
        let listener = host.namespace.inside(|| TcpListener::bind("127.0.0.1:0").unwrap());
        let controller = Self {
            address: listener.local_addr().unwrap(),
            authority,
            inside: Arc::default(),
            away: Arc::default(),
            ended: Arc::default(),
        };
        let (inside, away, ended) = (
            Arc::clone(&controller.inside),
            Arc::clone(&controller.away),
            controller.ended.clone(),
        );
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let (configuration, inside) = (Arc::clone(&configuration), Arc::clone(&inside));
                let (away, ended) = (Arc::clone(&away), Arc::clone(&ended));
                thread::spawn(move || {
                    let gone = || away.load(Ordering::Relaxed) || ended.load(Ordering::Relaxed);
                    // An agent that goes away ends its line.
                    let _ended = serve(stream, configuration, &inside, gone);
                });
            }
        });
        controller
    }

    /// Makes the host of that state directory a member of its fleet; `also` is an endpoint where nobody listens.
    pub(crate) fn enrol(&self, state: &str, also: &str) {
        let subject = Subject::new(Kind::Host, ID).unwrap();
        let identity = self.authority.issue(&subject, Timestamp::now(), DAY).unwrap();
        let endpoints = vec![self.address.to_string(), also.to_owned()];
        let membership: Membership = identity.member(endpoints, String::new()).unwrap();
        membership.save(&std::path::Path::new(state).join("fleet")).unwrap();
    }

    /// Says what the host should have from now on; the name of it.
    pub(crate) fn assign(&self, wish: &Wish<'_>) -> Vec<u8> {
        let bundle = Bundle::read(&fs::read(wish.bundle).unwrap()).unwrap();
        let mut inside = self.inside.lock().unwrap();
        let mut piece = |name: &str, bytes: Vec<u8>| {
            let digest = blake3::hash(&bytes).as_bytes().to_vec();
            let (bytes_count, name) = (bytes.len() as u64, name.to_owned());
            let piece = Piece { digest: digest.clone(), bytes: bytes_count, name, sections: 0 };
            inside.pieces.insert(digest, bytes);
            piece
        };
        let json = |envelope: &Envelope| serde_json::to_vec(envelope).unwrap();
        let documents = bundle.documents.iter().filter(|_| !wish.held_back);
        let manifest = Manifest {
            roots: bundle.roots.iter().map(|it| piece("root", json(it))).collect(),
            timestamp: Some(piece("timestamp", json(&bundle.timestamp))),
            snapshot: Some(piece("snapshot", json(&bundle.snapshot))),
            documents: documents.map(|it| piece("document", json(it))).collect(),
            members: vec![piece("members", bytes(&members(wish.hosts)))],
            confirm_within_s: wish.confirm_within_s,
            rollout: 0,
            forced: false,
            quarantine: wish.quarantine,
        };
        let role = Label { key: "role".to_owned(), value: "web".to_owned() };
        let me = Member { id: ID.to_owned(), labels: vec![role], ..Member::default() };
        let target = Target {
            manifest: bytes(&manifest),
            me: bytes(&me),
            beat_ms: 200,
            ..Target::default()
        };
        let number = inside.target.as_ref().map_or(0, |(number, _)| number + 1);
        let name = target.digest().to_vec();
        inside.target = Some((number, target));
        name
    }

    /// The last stage that the host acknowledged of a target, and why it got no further.
    pub(crate) fn progress(&self, target: &[u8]) -> Option<(Stage, String)> {
        let inside = self.inside.lock().unwrap();
        let mut of = inside.heard.iter().rev().filter(|it| it.target == target);
        of.next().map(|it| (it.stage(), it.why.clone()))
    }

    /// How often the host was said to be alive, and what it said last.
    pub(crate) fn beats(&self) -> (usize, Option<Beat>) {
        let inside = self.inside.lock().unwrap();
        (inside.beats.len(), inside.beats.last().cloned())
    }

    /// Differences that were sent.
    pub(crate) fn differences(&self) -> usize {
        self.inside.lock().unwrap().differences
    }

    /// Sends something that is no frame.
    pub(crate) fn talk_nonsense(&self, bytes: Vec<u8>) {
        self.inside.lock().unwrap().garbage = Some(bytes);
    }

    /// Hangs up, and answers nobody while it is away.
    pub(crate) fn go_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// Without the frame around it.
fn bytes(message: &impl Framed) -> Vec<u8> {
    message.frame().split_off(LENGTH_BYTES)
}

trait Framed {
    fn frame(&self) -> Vec<u8>;
}

macro_rules! framed {
    ($($kind:ty),*) => {
        $(impl Framed for $kind {
            fn frame(&self) -> Vec<u8> {
                encode(self).unwrap()
            }
        })*
    };
}

framed!(Manifest, Member, Members, Downward);

fn members(hosts: &[(&str, &str, u8)]) -> Members {
    let host = |&(id, role, last): &(&str, &str, u8)| Member {
        id: id.to_owned(),
        names: Vec::new(),
        addresses: vec![vec![192, 0, 2, last]],
        labels: vec![Label { key: "role".to_owned(), value: role.to_owned() }],
    };
    Members { hosts: hosts.iter().map(host).collect(), sections: Vec::new() }
}

/// One line, until it ends.
fn serve(
    stream: TcpStream,
    configuration: Arc<ServerConfig>,
    inside: &Mutex<Inside>,
    gone: impl Fn() -> bool,
) -> io::Result<()> {
    stream.set_read_timeout(Some(MOMENT))?;
    let session = ServerConnection::new(configuration).map_err(io::Error::other)?;
    let mut line = StreamOwned::new(session, stream);
    let (mut decoder, mut buffer, mut told) = (Decoder::default(), [0; 4_096], None);
    let mut greeted = false;
    while !gone() {
        if greeted {
            let (news, garbage) = {
                let mut inside = inside.lock().unwrap();
                (
                    inside.target.clone().filter(|(number, _)| Some(*number) != told),
                    inside.garbage.take(),
                )
            };
            if let Some((number, target)) = news {
                told = Some(number);
                say(&mut line, Down::Target(target))?;
            }
            if let Some(garbage) = garbage {
                line.write_all(&garbage)?;
                line.flush()?;
            }
        }
        let mut heard = match line.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(some) => &buffer[..some],
            Err(error)
                if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
            {
                continue;
            }
            Err(error) => return Err(error),
        };
        while let Some(said) = decoder.next::<Upward>(&mut heard).map_err(io::Error::other)? {
            match said.say.unwrap() {
                Up::Hello(_) => greeted = true,
                Up::Want(want) => {
                    let part = answer(&want, &mut inside.lock().unwrap());
                    say(&mut line, Down::Part(part))?;
                }
                Up::Progress(progress) => inside.lock().unwrap().heard.push(progress),
                Up::Beat(beat) => inside.lock().unwrap().beats.push(beat),
                Up::Carried(_) | Up::Gathered(_) | Up::Relays(_) => panic!("a host carries nobody"),
            }
        }
    }
    Ok(())
}

fn say(line: &mut impl Write, say: Down) -> io::Result<()> {
    line.write_all(&Downward { say: Some(say) }.frame())?;
    line.flush()
}

fn answer(want: &Want, inside: &mut Inside) -> Part {
    let piece = inside.pieces.get(&want.digest).unwrap();
    let part = Part { digest: want.digest.clone(), ..Part::default() };
    // Of sets of hosts; whatever else is asked for comes whole.
    let base = inside.pieces.get(&want.base);
    if let Some(bytes) = base.and_then(|base| difference(base, piece).ok()) {
        inside.differences += 1;
        return Part { total: bytes.len() as u64, bytes, base: want.base.clone(), ..part };
    }
    let from = usize::try_from(want.offset).unwrap();
    // Small parts, so that a piece has several.
    let bytes = piece[from..].chunks(500).next().unwrap_or_default().to_vec();
    Part { offset: want.offset, total: piece.len() as u64, bytes, ..part }
}
