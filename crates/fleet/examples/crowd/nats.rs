//! The protocol of NATS, as far as a subscriber needs it: lines of text, and messages whose length a line says
//! (docs.nats.io, "Client Protocol").

use crate::{
    Failure,
    line::{Heard, Listener},
};

/// What is subscribed to.
const SUBJECT: &str = "update";

/// One subscriber.
#[derive(Default)]
pub(crate) struct Subscriber {
    /// A line, or a message, whose end has not come.
    kept: Vec<u8>,
}

impl Listener for Subscriber {
    const GREETED: bool = true;

    fn hello(&mut self) -> Vec<u8> {
        self.kept.clear();
        // The answer to the PING comes when the subscription is in force.
        format!("CONNECT {{\"verbose\":false,\"pedantic\":false}}\r\nSUB {SUBJECT} 1\r\nPING\r\n")
            .into()
    }

    fn hear(&mut self, bytes: &[u8], answer: &mut Vec<u8>) -> Result<Heard, Failure> {
        self.kept.extend_from_slice(bytes);
        let (mut heard, mut done) = (Heard::default(), 0);
        while let Some(length) = self.kept[done..].windows(2).position(|pair| pair == b"\r\n") {
            let line = &self.kept[done..done + length];
            let mut next = done + length + 2;
            if line.starts_with(b"MSG ") {
                let size = std::str::from_utf8(line)?.rsplit(' ').next().unwrap_or_default();
                next += size.parse::<usize>()? + 2;
                if self.kept.len() < next {
                    break;
                }
                heard.updates += 1;
            } else if line == b"PONG" {
                heard.waits = true;
            } else if line == b"PING" {
                answer.extend_from_slice(b"PONG\r\n");
            } else if line.starts_with(b"-ERR") {
                return Err(
                    format!("nats-server complains: {}", String::from_utf8_lossy(line)).into()
                );
            }
            done = next;
        }
        self.kept.drain(..done);
        Ok(heard)
    }
}

/// What publishes an update.
pub(crate) fn update(payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("PUB {SUBJECT} {}\r\n", payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_are_counted_however_they_are_cut() {
        let said = b"INFO {\"a\":1}\r\nPONG\r\nMSG update 1 6\r\nab\r\ncd\r\nPING\r\nMSG update 1 0\r\n\r\n";
        for cut in 0..said.len() {
            let mut subscriber = Subscriber::default();
            let mut answer = Vec::new();
            let first = subscriber.hear(&said[..cut], &mut answer).unwrap();
            let second = subscriber.hear(&said[cut..], &mut answer).unwrap();
            assert_eq!(first.updates + second.updates, 2, "cut at {cut}");
            assert!(first.waits ^ second.waits);
            assert_eq!(answer, b"PONG\r\n");
        }
        assert!(Subscriber::default().hear(b"-ERR 'no'\r\n", &mut Vec::new()).is_err());
    }
}
