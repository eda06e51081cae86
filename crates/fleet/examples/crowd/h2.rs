//! A watch of one key in etcd, as a stream of gRPC in a connection of its own: HTTP/2 (RFC 9113) as far as one request
//! needs it, with headers that are spelled out (RFC 7541, 6.2.2) and one message in protocol buffers.

use crate::{
    Failure,
    line::{Heard, Listener},
};

/// What is watched.
pub(crate) const KEY: &str = "update";

/// Types of frames, RFC 9113, 6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// Bytes of a frame's head.
const HEAD_BYTES: usize = 9;
/// Bytes before a message of gRPC: a flag and a length.
const PREFIX_BYTES: usize = 5;
/// As much as a server may ever send unasked.
const WINDOW_MAX: u32 = (1 << 31) - 1;

/// One watch.
#[derive(Default)]
pub(crate) struct Subscriber {
    /// A frame whose end has not come.
    kept: Vec<u8>,
    /// A message whose end has not come.
    message: Vec<u8>,
    /// The first message says that the watch has begun.
    begun: bool,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A short text with its length.
fn text(text: &str) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(text.len()).expect("a short text")];
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

impl Listener for Subscriber {
    fn hello(&mut self) -> Vec<u8> {
        *self = Self::default();
        let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        // Setting 4, SETTINGS_INITIAL_WINDOW_SIZE.
        let setting = [&[0, 4][..], &WINDOW_MAX.to_be_bytes()].concat();
        hello.extend(frame(SETTINGS, 0, 0, &setting));
        hello.extend(frame(WINDOW_UPDATE, 0, 0, &(WINDOW_MAX - 65_535).to_be_bytes()));
        // From the static table: 3 is ":method: POST", 7 ":scheme: https", 4 the name ":path", 1 ":authority", 31
        // "content-type"; 0x80 is a whole field, 0x00 a field that is not to be remembered.
        let headers = [
            vec![0x83, 0x87, 0x04],
            text("/etcdserverpb.Watch/Watch"),
            vec![0x01],
            text("etcd"),
            vec![0x0f, 31 - 15],
            text("application/grpc"),
            vec![0x00],
            text("te"),
            text("trailers"),
        ];
        hello.extend(frame(HEADERS, END_HEADERS, 1, &headers.concat()));
        // WatchRequest { create_request = 1: WatchCreateRequest { key = 1 } }, etcd's rpc.proto.
        let create = [vec![0x0a], text(KEY)].concat();
        let length = u8::try_from(create.len()).expect("a short key");
        let request = [vec![0x0a, length], create].concat();
        let prefix = u32::try_from(request.len()).expect("a short request").to_be_bytes();
        let message = [&[0][..], &prefix, &request].concat();
        hello.extend(frame(DATA, 0, 1, &message));
        hello
    }

    fn hear(&mut self, bytes: &[u8], answer: &mut Vec<u8>) -> Result<Heard, Failure> {
        self.kept.extend_from_slice(bytes);
        let (mut heard, mut done) = (Heard::default(), 0);
        while let Some(head) = self.kept[done..].first_chunk::<HEAD_BYTES>() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let (kind, flags) = (head[3], head[4]);
            let begin = done + HEAD_BYTES;
            let Some(payload) = self.kept.get(begin..begin + length) else { break };
            match kind {
                DATA => self.message.extend_from_slice(payload),
                SETTINGS if flags & ACK == 0 => answer.extend(frame(SETTINGS, ACK, 0, &[])),
                PING if flags & ACK == 0 => answer.extend(frame(PING, ACK, 0, payload)),
                RST_STREAM | GOAWAY => return Err("etcd ends a watch".into()),
                _ => {}
            }
            done = begin + length;
        }
        self.kept.drain(..done);
        while let Some(prefix) = self.message.first_chunk::<PREFIX_BYTES>() {
            let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
            if self.message.len() < PREFIX_BYTES + length {
                break;
            }
            self.message.drain(..PREFIX_BYTES + length);
            if self.begun {
                heard.updates += 1;
            } else {
                self.begun = true;
                heard.waits = true;
            }
        }
        Ok(heard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let message = |length: u8| [&[0, 0, 0, 0, length][..], &vec![7; length.into()]].concat();
        let two = [message(3), message(100)].concat();
        let said = [
            frame(SETTINGS, 0, 0, &[]),
            frame(HEADERS, END_HEADERS, 1, &[0x88]),
            frame(DATA, 0, 1, &message(9)),
            frame(PING, 0, 0, b"12345678"),
            frame(DATA, 0, 1, &two[..50]),
            frame(DATA, 0, 1, &two[50..]),
        ]
        .concat();
        for cut in 0..said.len() {
            let mut subscriber = Subscriber::default();
            let mut answer = Vec::new();
            let first = subscriber.hear(&said[..cut], &mut answer).unwrap();
            let second = subscriber.hear(&said[cut..], &mut answer).unwrap();
            assert_eq!(first.updates + second.updates, 2, "cut at {cut}");
            assert!(first.waits ^ second.waits);
            let expected = [frame(SETTINGS, ACK, 0, &[]), frame(PING, ACK, 0, b"12345678")];
            assert_eq!(answer, expected.concat());
        }
        let ended = frame(GOAWAY, 0, 0, &[0; 8]);
        assert!(Subscriber::default().hear(&ended, &mut Vec::new()).is_err());
    }
}
