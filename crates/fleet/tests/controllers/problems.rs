//! What is answered to requests that cannot be read: a sentence in JSON, with the status that says whose fault it is, by
//! everybody who answers HTTP.

use std::{net::SocketAddr, sync::Arc};

use fleet::{
    api::{ENROL, RENEW, client::connect, orders::Enroll},
    joining,
    tls::{self, Believed, Identity},
};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::running::{Fleet, PATIENCE, Relaying, host};

/// Status, kind and body of what is answered to `request`.
async fn answered(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
) -> (u16, String, Value) {
    let exchanged = async {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // Whoever answers may hang up without the farewell of TLS.
        let _end = stream.read_to_string(&mut answer).await;
        answer
    };
    let answer = timeout(PATIENCE, exchanged).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let kind = head.to_ascii_lowercase();
    let kind = kind.lines().find_map(|line| line.strip_prefix("content-type: "));
    let body = serde_json::from_str(body).unwrap_or_else(|_text| panic!("{request}: {answer}"));
    (status, kind.unwrap_or_default().to_owned(), body)
}

async fn is_problem(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
    expected: u16,
) -> String {
    let (status, kind, body) = answered(stream, request).await;
    let error = body["error"].as_str().unwrap_or_default().to_owned();
    let shown = request.get(..80).unwrap_or(request);
    assert_eq!((status, kind.as_str()), (expected, "application/json"), "{shown}: {body}");
    assert!(!error.is_empty(), "{shown}: {body}");
    error
}

/// Speaks HTTP, without saying so beforehand.
async fn open(
    fleet: &Fleet,
    identity: Option<&Identity>,
    at: SocketAddr,
) -> impl AsyncRead + AsyncWrite + Unpin {
    let believed = Believed::Authority(fleet.house.authority.certificate().clone());
    let mut config = tls::client(identity, believed, tls::HTTP).unwrap();
    config.alpn_protocols.clear();
    connect(&Arc::new(config), &at.to_string()).await.unwrap()
}

fn request(line: &str, head: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}Content-Length: {length}\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn what_cannot_be_read_is_answered_as_every_other_error_is() {
    let fleet = Fleet::new("problems").await;
    let anna = fleet.identity("fwnet:operator/anna");
    let json = "Content-Type: application/json\r\n";
    let (enrol, renew) = (format!("POST {ENROL}"), format!("POST {RENEW}"));
    let large = format!("{{\"subject\":\"{}\"}}", "x".repeat(64 << 10));
    let cases = [
        (None, enrol.as_str(), json, "{", 400),
        (None, &enrol, json, "{\"subject\":7}", 422),
        (None, &enrol, json, &large, 413),
        (None, &enrol, "", "{}", 415),
        (None, &renew, "Content-Type: text/plain\r\n", "{}", 415),
        (None, &renew, json, "[", 400),
        (None, "GET /v1/nothing", "", "", 404),
        (None, "DELETE /v1/enrol", "", "", 405),
        (None, "POST /v1/fleet/tokens", json, "{", 403),
        (Some(&anna), "POST /v1/fleet/tokens", json, "{", 400),
        (Some(&anna), "POST /v1/fleet/tokens", "", "{}", 415),
        (Some(&anna), "POST /v1/fleet/versions", json, "{\"bundle\":[]}", 422),
        (Some(&anna), "POST /v1/fleet/hosts/web-1/labels", json, "{\"a\":1}", 422),
        (Some(&anna), "POST /v1/fleet/hosts/%ff/labels", json, "{}", 400),
        (Some(&anna), "DELETE /v1/fleet/relays/%ff", "", "", 400),
        (Some(&anna), "GET /v1/fleet/versions/first", "", "", 400),
        (Some(&anna), "GET /v1/fleet/nothing", "", "", 404),
    ];
    for (identity, line, head, body, expected) in cases {
        let stream = open(&fleet, identity, fleet.address()).await;
        is_problem(stream, &request(line, head, body), expected).await;
    }
    let metrics = TcpStream::connect(fleet.controller.metrics).await.unwrap();
    is_problem(metrics, &request("GET /", "", ""), 404).await;
    // A relay has no operators, and says where they go.
    let enroll = Enroll { subject: "fwnet:relay/r1".to_owned(), ..host("") };
    let member = joining::join(&fleet.token(enroll).await).await.unwrap().membership;
    let relay = Relaying::start(&fleet.house, member).await;
    let stream = open(&fleet, Some(&anna), relay.address).await;
    let why = is_problem(stream, &request("GET /v1/fleet/hosts", "", ""), 404).await;
    assert!(why.contains("ask a controller"), "{why}");
    let metrics = TcpStream::connect(relay.metrics).await.unwrap();
    is_problem(metrics, &request("GET /v1/fleet/status", "", ""), 404).await;
}
