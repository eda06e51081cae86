//! A collector of the test's own, without TLS and with it.

use std::{
    fs, io,
    io::{Read, Write},
    net::TcpListener,
    path::PathBuf,
    time::Instant,
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::aws_lc_rs::default_provider,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

use super::*;

/// Takes one request, and answers it.
fn taken(mut stream: impl Read + Write) -> io::Result<String> {
    let mut told = Vec::new();
    let mut buffer = [0; 4096];
    while !told.ends_with(b"]}]}]}") {
        let length = stream.read(&mut buffer)?;
        assert!(length > 0, "{}", String::from_utf8_lossy(&told));
        told.extend_from_slice(buffer.get(..length).unwrap());
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")?;
    stream.flush()?;
    Ok(String::from_utf8(told).unwrap())
}

#[test]
fn a_collector_gets_log_records() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/logs", listener.local_addr().unwrap());
    let collector = Collector::new(&url, None, "web-1").unwrap();
    collector.send(json!({
        "@timestamp": "2030-03-17T17:46:40Z",
        "event": { "kind": "event", "action": "connect" },
        "destination": { "ip": "192.0.2.1", "port": 443 },
        "fwnet": { "verdict": { "enforced": "denied" } },
    }));
    let told = taken(listener.accept().unwrap().0).unwrap();
    let (head, body) = told.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /v1/logs HTTP/1.1"), "{head}");
    let body: Value = serde_json::from_str(body).unwrap();
    let record = body.pointer("/resourceLogs/0/scopeLogs/0/logRecords/0").unwrap();
    assert_eq!(record["timeUnixNano"], "1900000000000000000");
    assert_eq!(record["severityNumber"], 13);
    let attributes = record["attributes"].as_array().unwrap();
    let port = json!({ "key": "destination.port", "value": { "intValue": "443" } });
    assert!(attributes.contains(&port), "{record:#}");
    assert_eq!(collector.lost(), 0);
}

/// An authority, and a receiver whose name it vouches for.
struct Secured {
    listener: TcpListener,
    config: Arc<ServerConfig>,
    ca: PathBuf,
}

impl Secured {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        let own = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&own, &issuer).unwrap();
        let own = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(own.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], own)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let ca = std::env::temp_dir().join(format!("fwnet-otlp-{}-{port}", std::process::id()));
        fs::write(&ca, authority.pem()).unwrap();
        Self { listener, config: Arc::new(config), ca }
    }

    fn url(&self, host: &str) -> String {
        format!("https://{host}:{}/v1/logs", self.listener.local_addr().unwrap().port())
    }

    /// The next request, if whoever connects trusts us.
    fn taken(&self) -> io::Result<String> {
        let (stream, _) = self.listener.accept().unwrap();
        let connection = ServerConnection::new(Arc::clone(&self.config)).unwrap();
        taken(StreamOwned::new(connection, stream))
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        let _removed = fs::remove_file(&self.ca);
    }
}

fn event() -> Value {
    json!({ "@timestamp": "2030-03-17T17:46:40Z", "event": { "action": "connect" } })
}

#[test]
fn a_collector_is_reached_over_tls_by_the_authority_that_was_named() {
    let secured = Secured::new("127.0.0.1");
    let url = secured.url("127.0.0.1");
    let collector = Collector::new(&url, Some(&secured.ca), "web-1").unwrap();
    collector.send(event());
    let told = secured.taken().unwrap();
    assert!(told.starts_with("POST /v1/logs HTTP/1.1"), "{told}");
    assert!(told.contains("\"1900000000000000000\""), "{told}");
    assert_eq!(collector.lost(), 0);
}

#[test]
fn a_collector_that_nobody_vouches_for_gets_nothing() {
    let (secured, other) = (Secured::new("collector.example"), Secured::new("127.0.0.1"));
    // Of another name; of an authority that was not named; of one that the system does not know.
    for (secured, ca) in
        [(&secured, Some(&secured.ca)), (&other, Some(&secured.ca)), (&other, None)]
    {
        let url = secured.url("127.0.0.1");
        let collector = Collector::new(&url, ca.map(PathBuf::as_path), "web-1").unwrap();
        collector.send(event());
        secured.taken().unwrap_err();
        let start = Instant::now();
        while collector.lost() == 0 {
            assert!(start.elapsed() < Duration::from_secs(30), "it is counted as lost");
            thread::yield_now();
        }
        assert_eq!(collector.lost(), 1);
    }
}

#[test]
fn what_is_no_collector_is_refused() {
    for url in ["localhost:4318", "ftp://x/", "https://", "http:///v1/logs"] {
        assert!(Target::new(url, None).is_err(), "{url}");
    }
    let nowhere = Path::new("/nowhere/ca.pem");
    Target::new("http://127.0.0.1/", Some(nowhere)).unwrap_err();
    let target = Target::new("https://127.0.0.1/", Some(nowhere)).unwrap();
    assert!(format!("{:#}", target.trusts().unwrap_err()).contains("/nowhere/ca.pem"));
    // A file without any certificate.
    let target = Target::new("https://127.0.0.1/", Some(Path::new("/dev/null"))).unwrap();
    target.trusts().unwrap_err();
    Target::new("http://127.0.0.1/", None).unwrap().trusts().unwrap();
}
