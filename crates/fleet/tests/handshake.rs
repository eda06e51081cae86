//! Who is let in, by handshakes in memory: certificates of the authority, of another, of the wrong kind, out of time.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{path::PathBuf, sync::Arc, time::Duration};

use fleet::{
    authority::{Authority, KeyPin, SignError},
    subject::{Kind, Subject},
    tls::{self, Believed, Identity, WhoError, who},
};
use jiff::Timestamp;
use rustls::{ClientConnection, ServerConnection, pki_types::ServerName};

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("fwnet-fleet-{name}-{}", std::process::id()));
        let _old = std::fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _removed = std::fs::remove_dir_all(&self.0);
    }
}

fn subject(text: &str) -> Subject {
    text.parse().unwrap()
}

const DAY: Duration = Duration::from_secs(86_400);

/// One handshake, and one byte each way, so that the server has seen the client's certificate and the ticket arrived.
fn shake(
    client: &Arc<rustls::ClientConfig>,
    server: &Arc<rustls::ServerConfig>,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    let name = ServerName::try_from("192.0.2.1").unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    for _ in 0..10 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
    }
    Ok((client, server))
}

fn server(identity: &Identity) -> Arc<rustls::ServerConfig> {
    let tickets = tls::tickets().unwrap();
    Arc::new(tls::server(identity, &[wire::sync::PROTOCOL, tls::HTTP], tickets).unwrap())
}

fn client(identity: Option<&Identity>, believed: Believed) -> Arc<rustls::ClientConfig> {
    Arc::new(tls::client(identity, believed, wire::sync::PROTOCOL).unwrap())
}

#[test]
fn a_host_that_was_signed_is_known_by_its_uri_and_nothing_that_it_asked_for() {
    let scratch = Scratch::new("known");
    let now = Timestamp::now();
    let authority = Authority::make(&scratch.0, "test", now).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    // It asks to be an authority, and a controller.
    let mut asked = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    asked.subject_alt_names.push(rcgen::SanType::URI("fwnet:controller/eve".try_into().unwrap()));
    asked.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    asked.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let request = asked.serialize_request(&key).unwrap();
    let certificate =
        authority.sign(request.der(), &subject("fwnet:host/web-1"), now, DAY).unwrap();
    let host = Identity {
        certificate,
        authority: authority.certificate().clone(),
        key: rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into()),
    };
    let own = authority.issue(&subject("fwnet:controller/c1"), now, DAY).unwrap();
    let believed = Believed::Authority(authority.certificate().clone());
    let (of_client, of_server) =
        shake(&client(Some(&host), believed.clone()), &server(&own)).unwrap();
    let shown = who(of_server.peer_certificates(), now).unwrap().unwrap();
    assert_eq!(shown.subject, subject("fwnet:host/web-1"));
    assert_eq!(of_server.alpn_protocol(), Some(wire::sync::PROTOCOL));
    let shown = who(of_client.peer_certificates(), now).unwrap().unwrap();
    assert_eq!(shown.subject, subject("fwnet:controller/c1"));
    // Nobody believes it to be a controller.
    shake(&client(None, believed), &server(&host)).unwrap_err();
    // Nor does it let others in: it is no authority.
    let mut other = rcgen::CertificateParams::default();
    other.subject_alt_names = vec![rcgen::SanType::URI("fwnet:operator/eve".try_into().unwrap())];
    let (key, eve) = (&key, rcgen::KeyPair::generate().unwrap());
    let issuer = rcgen::Issuer::from_ca_cert_der(&host.certificate, key).unwrap();
    let forged = other.signed_by(&eve, &issuer).unwrap();
    let eve = Identity {
        certificate: forged.der().clone(),
        authority: host.certificate.clone(),
        key: rustls::pki_types::PrivateKeyDer::Pkcs8(eve.serialize_der().into()),
    };
    let believed = Believed::Authority(authority.certificate().clone());
    shake(&client(Some(&eve), believed), &server(&own)).unwrap_err();
}

#[test]
fn nobody_is_let_in_by_another_authority_and_nobody_is_let_in_without_a_certificate_but_as_such() {
    let (one, two) = (Scratch::new("one"), Scratch::new("two"));
    let now = Timestamp::now();
    let authority = Authority::make(&one.0, "one", now).unwrap();
    let other = Authority::make(&two.0, "two", now).unwrap();
    let own = authority.issue(&subject("fwnet:controller/c1"), now, DAY).unwrap();
    let stranger = other.issue(&subject("fwnet:host/web-1"), now, DAY).unwrap();
    let believed = Believed::Authority(authority.certificate().clone());
    shake(&client(Some(&stranger), believed.clone()), &server(&own)).unwrap_err();
    let (_, of_server) = shake(&client(None, believed.clone()), &server(&own)).unwrap();
    assert_eq!(who(of_server.peer_certificates(), now), Ok(None));
    // And the other way round.
    let false_controller = other.issue(&subject("fwnet:controller/c1"), now, DAY).unwrap();
    shake(&client(None, believed), &server(&false_controller)).unwrap_err();
}

#[test]
fn those_who_join_believe_the_pinned_key_only() {
    let (one, two) = (Scratch::new("pin"), Scratch::new("pin2"));
    let now = Timestamp::now();
    let authority = Authority::make(&one.0, "one", now).unwrap();
    let other = Authority::make(&two.0, "one", now).unwrap();
    let pinned = Believed::Pinned(authority.pin());
    assert_eq!(KeyPin::of(authority.certificate()), Some(authority.pin()));
    for kind in [Kind::Controller, Kind::Relay] {
        let serving = Subject::new(kind, "c1").unwrap();
        let own = authority.issue(&serving, now, DAY).unwrap();
        shake(&client(None, pinned.clone()), &server(&own)).unwrap();
        let false_one = other.issue(&serving, now, DAY).unwrap();
        shake(&client(None, pinned.clone()), &server(&false_one)).unwrap_err();
        // The right authority beside a certificate that it has not signed.
        let mixed = Identity { authority: authority.certificate().clone(), ..false_one };
        let pinned = pinned.clone();
        assert!(
            tls::server(&mixed, &[tls::HTTP], tls::tickets().unwrap())
                .map_or(true, |config| shake(&client(None, pinned), &Arc::new(config)).is_err())
        );
    }
    for kind in [Kind::Host, Kind::Operator] {
        let own = authority.issue(&Subject::new(kind, "x").unwrap(), now, DAY).unwrap();
        shake(&client(None, pinned.clone()), &server(&own)).unwrap_err();
    }
}

#[test]
fn an_expired_certificate_is_refused_and_one_of_a_resumed_session_is_looked_at_again() {
    let scratch = Scratch::new("expired");
    let now = Timestamp::now();
    let long_ago = now - jiff::SignedDuration::from_hours(48);
    let authority = Authority::make(&scratch.0, "test", long_ago).unwrap();
    let own = authority.issue(&subject("fwnet:controller/c1"), now, DAY).unwrap();
    let believed = Believed::Authority(authority.certificate().clone());
    let expired = authority.issue(&subject("fwnet:host/web-1"), long_ago, DAY).unwrap();
    shake(&client(Some(&expired), believed.clone()), &server(&own)).unwrap_err();
    let host = authority.issue(&subject("fwnet:host/web-1"), now, DAY).unwrap();
    let (client, server) = (client(Some(&host), believed), server(&own));
    let (_, first) = shake(&client, &server).unwrap();
    assert_eq!(first.handshake_kind(), Some(rustls::HandshakeKind::Full));
    let (_, again) = shake(&client, &server).unwrap();
    assert_eq!(again.handshake_kind(), Some(rustls::HandshakeKind::Resumed));
    assert!(who(again.peer_certificates(), now).unwrap().is_some());
    let later = now + jiff::SignedDuration::from_hours(25);
    let refused = who(again.peer_certificates(), later);
    assert!(matches!(refused, Err(WhoError::Expired(_))), "{refused:?}");
}

#[test]
fn requests_that_are_none_are_refused() {
    let scratch = Scratch::new("requests");
    let now = Timestamp::now();
    let authority = Authority::make(&scratch.0, "test", now).unwrap();
    let web = subject("fwnet:host/web-1");
    let key = rcgen::KeyPair::generate().unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
    authority.sign(request.der(), &web, now, DAY).unwrap();
    for at in [0, 20, request.der().len() / 2, request.der().len() - 1] {
        let mut flipped = request.der().to_vec();
        flipped[at] ^= 1;
        authority.sign(&flipped, &web, now, DAY).unwrap_err();
        authority.sign(&flipped[..at], &web, now, DAY).unwrap_err();
    }
    let long = authority.sign(&[0x30; 9_000], &web, now, DAY).unwrap_err();
    assert!(matches!(long, SignError::Size(9_000)));
    let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&other).unwrap();
    let refused = authority.sign(request.der(), &web, now, DAY).unwrap_err();
    assert!(matches!(refused, SignError::Algorithm));
}

#[test]
fn what_is_kept_is_for_its_owner_only_and_found_again() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new("kept");
    let now = Timestamp::now();
    let authority = Authority::make(&scratch.0, "test", now).unwrap();
    Authority::make(&scratch.0, "test", now).unwrap_err();
    assert_eq!(Authority::open(&scratch.0).unwrap().pin(), authority.pin());
    let identity = authority.issue(&subject("fwnet:host/web-1"), now, DAY).unwrap();
    let member = identity.member(vec!["10.0.0.1:8443".to_owned()], String::new()).unwrap();
    assert_eq!(member.id, "web-1");
    let found = Identity::of(&member).unwrap();
    assert_eq!(found.certificate, identity.certificate);
    assert_eq!(found.authority, identity.authority);
    assert_eq!(found.key.secret_der(), identity.key.secret_der());
    assert_eq!(member.authority, authority.pem());
    let mut seen = 0;
    for entry in std::fs::read_dir(&scratch.0).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} {mode:o}", entry.path().display());
        seen += 1;
    }
    assert_eq!(seen, 2);
    // The key of another authority beside this one's certificate.
    let other = Scratch::new("kept-other");
    Authority::make(&other.0, "test", now).unwrap();
    std::fs::copy(other.0.join("authority.key"), scratch.0.join("authority.key")).unwrap();
    Authority::open(&scratch.0).unwrap_err();
}
