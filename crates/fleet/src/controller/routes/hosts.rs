//! Who is there: tokens, hosts, relays.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use axum::{Extension, Json, extract::State, http::StatusCode};
use controller::{
    Batch, Digest, Model, Refusal, orders,
    records::{HostRecord, Who},
};
use jiff::Timestamp;
use verdict::Address;

use super::{
    super::{
        body::{Body, Named},
        desk::Desk,
        problem::Problem,
    },
    Operator,
    joining::{address as canonical, member},
};
use crate::{
    api::orders::{Enroll, Host, Hosts, Quarantine, Token},
    join::{self, Secret},
    subject::Subject,
};

/// `POST /v1/fleet/tokens`
pub(super) async fn enroll(
    State(desk): State<Desk>,
    Extension(Operator(by)): Extension<Operator>,
    Body(asked): Body<Enroll>,
) -> Result<Json<Token>, Problem> {
    let Enroll { subject, labels, addresses, names, again, valid_s } = asked;
    let unfit = |error: &dyn std::fmt::Display| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())
    };
    let subject: Subject = subject.parse().map_err(|error| unfit(&error))?;
    let who = member(&subject).ok_or_else(|| unfit(&"hosts and relays enrol, and nobody else"))?;
    let secret = Secret::random();
    let enrol = orders::Enrol {
        who: who.clone(),
        labels,
        addresses: addresses.into_iter().map(canonical).collect(),
        names,
        again,
        secret: Digest::of(&secret.0),
        valid_s,
        by,
    };
    desk.order(move |model, now| Ok((orders::enrol(model, &enrol, now)?, ()))).await?;
    let expires = desk
        .asking
        .ask(move |core| core.controller.model().token(&who).map(|token| token.expires))
        .await?
        .unwrap_or_else(Timestamp::now);
    let fixed = &desk.fixed;
    let token = join::Token {
        subject,
        secret,
        endpoints: fixed.endpoints.clone(),
        authority: fixed.authority.pin(),
        root: *blake3::hash(&fixed.root).as_bytes(),
    };
    Ok(Json(Token { token: token.reveal(), expires }))
}

/// `GET /v1/fleet/hosts`
pub(super) async fn list(State(desk): State<Desk>) -> Result<Json<Hosts>, Problem> {
    Ok(Json(desk.asking.ask(|core| hosts(core.controller.model())).await?))
}

fn hosts(model: &Model) -> Hosts {
    Hosts {
        hosts: model.hosts().map(|(id, record)| shown(id, record)).collect(),
        relays: model.relays().map(str::to_owned).collect(),
        awaited: model
            .tokens()
            .map(|(who, token)| match who {
                Who::Host(id) => (format!("host/{id}"), token.expires),
                Who::Relay(name) => (format!("relay/{name}"), token.expires),
            })
            .collect(),
    }
}

fn shown(id: &str, record: HostRecord) -> Host {
    let HostRecord { labels, addresses, names, enrolled_at, quarantined, .. } = record;
    Host {
        id: id.to_owned(),
        labels,
        addresses: addresses.into_iter().map(readable).collect(),
        names,
        enrolled_at,
        quarantined,
    }
}

fn readable(address: Address) -> IpAddr {
    match address.as_v4() {
        Some(bits) => Ipv4Addr::from_bits(bits).into(),
        None => Ipv6Addr::from_bits(address.bits()).into(),
    }
}

async fn done(
    desk: &Desk,
    make: impl Fn(&Model) -> Result<Batch, Refusal> + Clone + Send + 'static,
) -> Result<Json<()>, Problem> {
    desk.order(move |model, _now| Ok((make(model)?, ()))).await?;
    Ok(Json(()))
}

/// `DELETE /v1/fleet/hosts/ID`
pub(super) async fn remove(
    State(desk): State<Desk>,
    Named(id): Named<String>,
) -> Result<Json<()>, Problem> {
    done(&desk, move |model| orders::remove(model, &id)).await
}

/// `DELETE /v1/fleet/relays/NAME`
pub(super) async fn remove_relay(
    State(desk): State<Desk>,
    Named(name): Named<String>,
) -> Result<Json<()>, Problem> {
    done(&desk, move |model| orders::remove_relay(model, &name)).await
}

/// `POST /v1/fleet/hosts/ID/labels`: a value, or null to take the label away.
pub(super) async fn label(
    State(desk): State<Desk>,
    Named(id): Named<String>,
    Body(labels): Body<BTreeMap<String, Option<String>>>,
) -> Result<Json<()>, Problem> {
    done(&desk, move |model| orders::label(model, &id, &labels)).await
}

/// `POST /v1/fleet/hosts/ID/addresses`: all that it has from now on.
pub(super) async fn address(
    State(desk): State<Desk>,
    Named(id): Named<String>,
    Body(addresses): Body<Vec<IpAddr>>,
) -> Result<Json<()>, Problem> {
    let addresses: Vec<Address> = addresses.into_iter().map(canonical).collect();
    done(&desk, move |model| orders::address(model, &id, addresses.clone())).await
}

/// `POST /v1/fleet/hosts/ID/quarantine`
pub(super) async fn quarantine(
    State(desk): State<Desk>,
    Named(id): Named<String>,
    Body(Quarantine { quarantined }): Body<Quarantine>,
) -> Result<Json<()>, Problem> {
    done(&desk, move |model| orders::quarantine(model, &id, quarantined)).await
}
