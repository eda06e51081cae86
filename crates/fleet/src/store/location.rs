//! How a store is named on a command line: `redb:FILE`, `etcd://HOST:PORT,HOST:PORT/PREFIX`, or `etcds://` for TLS.
//!
//! Behind `etcds://...` may follow `?ca=FILE`, the authorities that vouch for the members (the system's, where it is left
//! out), and `cert=FILE&key=FILE`, what this client shows. Where etcd asks for users, the name of one stands before the
//! members, `etcd://USER@HOST:PORT`, with `password=FILE` among the parameters or [`VARIABLE`](super::etcd::VARIABLE) set.

use std::{fmt, path::PathBuf, str::FromStr};

use super::etcd::{Endpoint, Login, Tls};

/// The port of etcd for clients (registered with IANA).
const ETCD_PORT: u16 = 2379;
/// Below which the records are, unless somebody says otherwise.
const PREFIX: &str = "/fwnet";
/// Bytes of a prefix at most: it is in every key.
const PREFIX_BYTES_MAX: usize = 256;

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// `redb:FILE`: one file, made where it is not there.
    Embedded(PathBuf),
    /// `etcd://...` and `etcds://...`: a cluster.
    Etcd {
        /// Its members, or some of them; at least one.
        endpoints: Vec<Endpoint>,
        /// What all keys begin with: `/fwnet` where none is named.
        prefix: String,
        /// The files of TLS, or none for plain TCP.
        tls: Option<Tls>,
        /// The user, where the cluster asks for one.
        login: Option<Login>,
    },
}

/// Why a text names no store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// Another beginning.
    #[error(
        "{0:?} names no store: redb:FILE, etcd://HOST:PORT,.../PREFIX or etcds://... is wanted"
    )]
    Scheme(String),
    /// Nothing behind it.
    #[error("redb: is followed by the path of a file")]
    Path,
    /// A member.
    #[error("{0:?} is no member of an etcd cluster: HOST, HOST:PORT or [ADDRESS]:PORT is wanted")]
    Endpoint(String),
    /// The prefix.
    #[error("a prefix of more than {PREFIX_BYTES_MAX} bytes")]
    Prefix,
    /// A parameter.
    #[error(
        "{0:?} is no parameter of such a store: password=FILE is one behind etcd://USER@ and etcds://USER@, and ca=FILE, \
         cert=FILE and key=FILE are behind etcds://"
    )]
    Parameter(String),
    /// The user.
    #[error(
        "{0:?} is no user of an etcd cluster; a password is in a file (?password=FILE) or in the environment"
    )]
    User(String),
    /// One of two.
    #[error("cert=FILE and key=FILE belong together")]
    Pair,
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        if let Some(path) = text.strip_prefix("redb:") {
            return if path.is_empty() {
                Err(LocationError::Path)
            } else {
                Ok(Self::Embedded(path.into()))
            };
        }
        let (rest, secured) = match (text.strip_prefix("etcd://"), text.strip_prefix("etcds://")) {
            (Some(rest), _) => (rest, false),
            (_, Some(rest)) => (rest, true),
            (None, None) => return Err(LocationError::Scheme(text.to_owned())),
        };
        let (place, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let (members, prefix) = place.split_at(place.find('/').unwrap_or(place.len()));
        let (user, members) = match members.split_once('@') {
            Some((user, members)) => (Some(user), members),
            None => (None, members),
        };
        if let Some(odd) = user.filter(|user| user.is_empty() || user.contains([':', ','])) {
            // What stands behind a colon may be a password.
            return Err(LocationError::User(odd.split(':').next().unwrap_or_default().to_owned()));
        }
        let endpoints = members.split(',').map(endpoint).collect::<Result<_, _>>()?;
        let prefix = match prefix.trim_end_matches('/') {
            "" => PREFIX.to_owned(),
            long if long.len() > PREFIX_BYTES_MAX => return Err(LocationError::Prefix),
            prefix => prefix.to_owned(),
        };
        let (tls, login) = files(parameters, secured, user)?;
        Ok(Self::Etcd { endpoints, prefix, tls, login })
    }
}

fn endpoint(text: &str) -> Result<Endpoint, LocationError> {
    let wrong = || LocationError::Endpoint(text.to_owned());
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or_else(wrong)?;
            let port = if rest.is_empty() { None } else { rest.strip_prefix(':') };
            if port.is_none() && !rest.is_empty() {
                return Err(wrong());
            }
            (host, port)
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let odd = |character: char| character.is_whitespace() || "/@?#[]".contains(character);
    if host.is_empty() || host.contains(odd) {
        return Err(wrong());
    }
    let port = match port {
        None => ETCD_PORT,
        Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?,
    };
    Ok(Endpoint { host: host.to_owned(), port })
}

/// What the parameters name: each once, and only what belongs to such a store.
fn files(
    parameters: &str,
    secured: bool,
    user: Option<&str>,
) -> Result<(Option<Tls>, Option<Login>), LocationError> {
    let (mut ca, mut certificate, mut key, mut password) = (None, None, None, None);
    for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
        let unknown = || LocationError::Parameter(parameter.to_owned());
        let (name, file) = parameter.split_once('=').ok_or_else(unknown)?;
        let place = match name {
            "ca" if secured => &mut ca,
            "cert" if secured => &mut certificate,
            "key" if secured => &mut key,
            "password" if user.is_some() => &mut password,
            _ => return Err(unknown()),
        };
        if file.is_empty() || place.replace(PathBuf::from(file)).is_some() {
            return Err(unknown());
        }
    }
    let identity = match (certificate, key) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some((certificate, key)),
        _ => return Err(LocationError::Pair),
    };
    let login = user.map(|user| Login { user: user.to_owned(), password });
    Ok((secured.then_some(Tls { ca, identity }), login))
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded(path) => write!(f, "redb:{}", path.display()),
            Self::Etcd { endpoints, prefix, tls, login } => {
                let members: Vec<_> = endpoints.iter().map(Endpoint::to_string).collect();
                let scheme = if tls.is_some() { "etcds" } else { "etcd" };
                write!(f, "{scheme}://")?;
                if let Some(login) = login {
                    write!(f, "{}@", login.user)?;
                }
                write!(f, "{}{prefix}", members.join(","))?;
                let ca = tls.iter().filter_map(|tls| tls.ca.as_ref()).map(|ca| ("ca", ca));
                let pair = tls.iter().filter_map(|tls| tls.identity.as_ref());
                let pair =
                    pair.flat_map(|(certificate, key)| [("cert", certificate), ("key", key)]);
                let password = login.iter().filter_map(|login| login.password.as_ref());
                let named = ca.chain(pair).chain(password.map(|file| ("password", file)));
                for (between, (name, file)) in
                    std::iter::once('?').chain(std::iter::repeat('&')).zip(named)
                {
                    write!(f, "{between}{name}={}", file.display())?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_understood_and_said_again() {
        for (text, said) in [
            ("redb:/var/lib/fwnet/store.redb", "redb:/var/lib/fwnet/store.redb"),
            ("redb:store.redb", "redb:store.redb"),
            ("etcd://a", "etcd://a:2379/fwnet"),
            ("etcd://a,b:1,[fd00::1]:2,[::1]/x/y/", "etcd://a:2379,b:1,[fd00::1]:2,[::1]:2379/x/y"),
            ("etcds://a/", "etcds://a:2379/fwnet"),
            ("etcds://a/p?key=k&ca=/c/d&cert=e", "etcds://a:2379/p?ca=/c/d&cert=e&key=k"),
            ("etcd://u@a,b", "etcd://u@a:2379,b:2379/fwnet"),
            ("etcds://u@a?password=p&ca=c", "etcds://u@a:2379/fwnet?ca=c&password=p"),
        ] {
            let place: Location = text.parse().unwrap();
            assert_eq!(place.to_string(), said);
            assert_eq!(said.parse::<Location>().unwrap(), place);
        }
    }

    #[test]
    fn what_is_no_place_is_refused_by_name() {
        for text in [
            "",
            "store.redb",
            "http://a",
            "redb:",
            "etcd://",
            "etcd://a,,b",
            "etcd://a:0",
            "etcd://a:x",
            "etcd://[::1",
            "etcd://[::1]2",
            "etcd://a b",
            "etcd://@a",
            "etcd://u@a@b",
            "etcd://a,u@b",
            "etcd://u:secret@a",
            "etcd://a?password=p",
            "etcd://u@a?ca=x",
            "etcd://a/p?ca=x",
            "etcds://a?ca=",
            "etcds://a?cert=x",
            "etcds://a?ca=x&ca=y",
            "etcds://a?user=x",
        ] {
            assert!(text.parse::<Location>().is_err(), "{text}");
        }
        let told = "etcd://u:secret@a".parse::<Location>().unwrap_err().to_string();
        assert!(!told.contains("secret"), "{told}");
        let long = format!("etcd://a/{}", "p".repeat(PREFIX_BYTES_MAX));
        assert_eq!(long.parse::<Location>(), Err(LocationError::Prefix));
    }
}
