//! Join tokens: one line that an operator hands to a machine, which makes it a member of the fleet once.
//!
//! `fwnet-join-1.` and base64url of a message. It names the machine, carries a secret of 256 bits that the controllers know
//! the hash of, says where they are, and pins the authority's key and the first root, so that the machine needs to believe
//! nobody on the way. It is printed to whoever asked for it and never logged: `Debug` leaves the secret out.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use prost::Message;

use crate::{
    authority::KeyPin,
    subject::{Kind, Subject, SubjectError},
};

/// How the text begins.
pub const PREFIX: &str = "fwnet-join-1.";
/// Bytes of the text.
pub const TEXT_BYTES_MAX: usize = 4 << 10;
/// Endpoints in one token.
pub const ENDPOINTS_MAX: usize = 16;
/// Bytes of an endpoint.
pub const ENDPOINT_BYTES_MAX: usize = 260;

/// What a machine needs to become a member.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Who it becomes: a host or a relay.
    pub subject: Subject,
    /// Known to nobody else.
    pub secret: Secret,
    /// Controllers, `host:port` each.
    pub endpoints: Vec<String>,
    /// The authority.
    pub authority: KeyPin,
    /// BLAKE3 of the envelope of the root that hosts begin with.
    pub root: [u8; 32],
}

/// 256 random bits.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub [u8; 32]);

/// As it is encoded.
#[derive(Clone, PartialEq, Eq, Message)]
struct Encoded {
    #[prost(string, tag = "1")]
    subject: String,
    #[prost(bytes = "vec", tag = "2")]
    secret: Vec<u8>,
    #[prost(string, repeated, tag = "3")]
    endpoints: Vec<String>,
    #[prost(bytes = "vec", tag = "4")]
    authority: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    root: Vec<u8>,
}

/// Why a text is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It begins otherwise.
    #[error("a join token begins with `{PREFIX}`")]
    Prefix,
    /// It is too long.
    #[error("the join token has {0} bytes, more than {TEXT_BYTES_MAX}")]
    Size(usize),
    /// It is cut off, or something was added.
    #[error("the join token is garbled: was all of it copied?")]
    Garbled,
    /// It names nobody that can join.
    #[error("the join token names nobody: {0}")]
    Subject(#[from] SubjectError),
    /// Neither a host nor a relay joins.
    #[error("a join token is for a host or a relay")]
    Kind,
    /// An endpoint.
    #[error("the join token names no controller that can be reached")]
    Endpoints,
}

impl Secret {
    /// A new one.
    pub fn random() -> Self {
        Self(random())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a secret")
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "a join token for {}", self.subject)
    }
}

impl Token {
    /// The text. Whoever has it can join.
    pub fn reveal(&self) -> String {
        let encoded = Encoded {
            subject: self.subject.to_string(),
            secret: self.secret.0.to_vec(),
            endpoints: self.endpoints.clone(),
            authority: self.authority.0.to_vec(),
            root: self.root.to_vec(),
        };
        let mut bytes = encoded.encode_to_vec();
        // So that a lost or changed letter is named as such.
        bytes.extend_from_slice(&blake3::hash(&bytes).as_bytes()[..4]);
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.len() > TEXT_BYTES_MAX {
            return Err(TokenError::Size(text.len()));
        }
        let garbled = TokenError::Garbled;
        let encoded = text.strip_prefix(PREFIX).ok_or(TokenError::Prefix)?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_form| garbled.clone())?;
        let (bytes, check) = bytes.split_last_chunk::<4>().ok_or(garbled.clone())?;
        if blake3::hash(bytes).as_bytes()[..4] != check[..] {
            return Err(garbled);
        }
        let Encoded { subject, secret, endpoints, authority, root } =
            Encoded::decode(bytes).map_err(|_form| garbled.clone())?;
        let whole = |bytes: Vec<u8>| <[u8; 32]>::try_from(bytes).map_err(|_size| garbled.clone());
        let subject: Subject = subject.parse()?;
        if !matches!(subject.kind(), Kind::Host | Kind::Relay) {
            return Err(TokenError::Kind);
        }
        if endpoints.is_empty()
            || endpoints.len() > ENDPOINTS_MAX
            || !endpoints.iter().all(|endpoint| is_endpoint(endpoint))
        {
            return Err(TokenError::Endpoints);
        }
        Ok(Self {
            subject,
            secret: Secret(whole(secret)?),
            endpoints,
            authority: KeyPin(whole(authority)?),
            root: whole(root)?,
        })
    }
}

/// Whether a text is `host:port`: a name, an IPv4 address or one of IPv6 in brackets, and a port that is not 0.
pub fn is_endpoint(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let named = |host: &str| {
        let sound = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        !host.is_empty() && host.bytes().all(sound)
    };
    text.len() <= ENDPOINT_BYTES_MAX
        && port.parse::<u16>().is_ok_and(|port| port != 0)
        && inner.map_or_else(|| named(host), |host| host.parse::<std::net::Ipv6Addr>().is_ok())
}

/// Random bytes of the kernel.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        // Without GRND_NONBLOCK it waits for the pool and gives up to 256 bytes whole (getrandom(2)); only a signal
        // interrupts it before that.
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(more) => filled += more,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => panic!("the kernel has no randomness: {errno}"),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Token {
            subject: "fwnet:host/web-1".parse().unwrap(),
            secret: Secret::random(),
            endpoints: vec!["10.0.0.1:8443".to_owned(), "[fd00::1]:8443".to_owned()],
            authority: KeyPin([1; 32]),
            root: [2; 32],
        }
    }

    #[test]
    fn a_token_goes_round_and_its_debug_form_keeps_the_secret() {
        let token = token();
        let text = token.reveal();
        assert_eq!(text.parse::<Token>().unwrap(), token);
        assert_eq!(format!(" {text}\n").parse::<Token>().unwrap(), token);
        let secret = URL_SAFE_NO_PAD.encode(token.secret.0);
        let shown = format!("{token:?} {:?}", token.secret);
        assert!(!shown.contains(&secret) && !shown.contains("secret: ["), "{shown}");
    }

    #[test]
    fn a_token_that_lost_or_changed_a_letter_is_garbled() {
        let text = token().reveal();
        for at in PREFIX.len()..text.len() {
            let mut cut = text.clone();
            cut.remove(at);
            assert!(cut.parse::<Token>().is_err(), "without letter {at}");
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(changed.parse::<Token>().is_err(), "another letter {at}");
        }
        assert_eq!("hello".parse::<Token>(), Err(TokenError::Prefix));
        let long = format!("{PREFIX}{}", "A".repeat(TEXT_BYTES_MAX));
        assert!(matches!(long.parse::<Token>(), Err(TokenError::Size(_))));
    }

    #[test]
    fn only_hosts_and_relays_join_and_only_at_endpoints() {
        let of = |change: &dyn Fn(&mut Token)| {
            let mut token = token();
            change(&mut token);
            token.reveal().parse::<Token>()
        };
        let operator = of(&|it| it.subject = Subject::new(Kind::Operator, "eve").unwrap());
        assert_eq!(operator, Err(TokenError::Kind));
        assert_eq!(of(&|it| it.endpoints.clear()), Err(TokenError::Endpoints));
        for wrong in ["", "host", "host:0", "host:99999", "::1:80", "a b:80", "[x]:80", ":80"] {
            let found = of(&|it| it.endpoints = vec![wrong.to_owned()]);
            assert_eq!(found, Err(TokenError::Endpoints), "{wrong}");
        }
    }
}
