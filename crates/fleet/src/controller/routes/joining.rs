//! Enrolment and renewal.

use axum::{Extension, Json, extract::State, http::StatusCode};
use base64::{Engine, engine::general_purpose::STANDARD};
use controller::{
    Digest,
    orders::{redeem, renew as renewed},
    records::Who,
};
use jiff::Timestamp;
use verdict::Address;

use super::super::{body::Body, desk::Desk, problem::Problem};
use crate::{
    api::{Enrolled, Enrolling, Renewed, Renewing},
    server::Visitor,
    subject::{Fingerprint, Kind, Subject},
    tls::pem,
};

fn unfit(why: &str) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why)
}

/// Hosts and relays are members; nobody else enrols.
pub(super) fn member(subject: &Subject) -> Option<Who> {
    match subject.kind() {
        Kind::Host => Some(Who::Host(subject.name().to_owned())),
        Kind::Relay => Some(Who::Relay(subject.name().to_owned())),
        Kind::Controller | Kind::Operator => None,
    }
}

/// An address as the wire has it.
pub(super) fn address(address: std::net::IpAddr) -> Address {
    match address {
        std::net::IpAddr::V4(address) => Address::v4(address.to_bits()),
        std::net::IpAddr::V6(address) => Address::from_bytes(address.octets()),
    }
}

/// `POST /v1/enrol`
pub(super) async fn enrol(
    State(desk): State<Desk>,
    Extension(visitor): Extension<Visitor>,
    Body(asked): Body<Enrolling>,
) -> Result<Json<Enrolled>, Problem> {
    let Enrolling { subject, secret, request } = asked;
    let subject: Subject =
        subject.parse().map_err(|error| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error))?;
    let who = member(&subject).ok_or_else(|| unfit("hosts and relays enrol, and nobody else"))?;
    let secret = STANDARD.decode(secret).map_err(|_odd| unfit("the secret is not base64"))?;
    let request = STANDARD.decode(request).map_err(|_odd| unfit("the request is not base64"))?;
    // Nobody who guesses has anything signed, and nobody is told of a token by whom it was not heard of.
    desk.leading().await?;
    let (looked, guess) = (who.clone(), secret.clone());
    desk.asking
        .ask(move |core| {
            redeem(
                core.controller.model(),
                &looked,
                &guess,
                Digest::of(&[]),
                None,
                Timestamp::now(),
            )
            .map(drop)
        })
        .await??;
    let fixed = &desk.fixed;
    let certificate = fixed.authority.sign(&request, &subject, Timestamp::now(), fixed.lifetime)?;
    let fingerprint = Digest(Fingerprint::of(&certificate).0);
    let seen = address(visitor.address.ip());
    desk.order(move |model, now| {
        Ok((redeem(model, &who, &secret, fingerprint, Some(seen), now)?, ()))
    })
    .await?;
    Ok(Json(Enrolled {
        certificate: pem("CERTIFICATE", &certificate),
        authority: fixed.authority.pem().to_owned(),
        root: STANDARD.encode(&fixed.root),
        endpoints: fixed.endpoints.clone(),
    }))
}

/// `POST /v1/renew`
pub(super) async fn renew(
    State(desk): State<Desk>,
    Extension(visitor): Extension<Visitor>,
    Body(Renewing { request }): Body<Renewing>,
) -> Result<Json<Renewed>, Problem> {
    let forbidden = |why| Problem::new(StatusCode::FORBIDDEN, why);
    let shown = visitor.shown.ok_or_else(|| forbidden("show the certificate that is renewed"))?;
    let who = member(&shown.subject)
        .ok_or_else(|| forbidden("certificates of hosts and relays are renewed here"))?;
    let request = STANDARD.decode(request).map_err(|_odd| unfit("the request is not base64"))?;
    let before = Digest(shown.fingerprint.0);
    // Nobody who was removed or replaced has anything signed, by what the leader knows.
    desk.leading().await?;
    let looked = who.clone();
    desk.asking
        .ask(move |core| renewed(core.controller.model(), &looked, before, before).map(drop))
        .await??;
    let fixed = &desk.fixed;
    let certificate =
        fixed.authority.sign(&request, &shown.subject, Timestamp::now(), fixed.lifetime)?;
    let next = Digest(Fingerprint::of(&certificate).0);
    desk.order(move |model, _now| Ok((renewed(model, &who, before, next)?, ()))).await?;
    Ok(Json(Renewed {
        certificate: pem("CERTIFICATE", &certificate),
        endpoints: fixed.endpoints.clone(),
    }))
}
