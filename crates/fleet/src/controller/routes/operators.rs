//! Operators: who asks, and whose certificates are worth nothing any more.

use axum::{
    Extension, Json,
    extract::{Request, State},
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse, Response},
};
use controller::orders;

use super::super::{body::Named, desk::Desk, problem::Problem};
use crate::{api::orders::Revoked, server::Visitor, subject::Kind};

/// An operator, by name: an extension of every request below `/v1/fleet`.
#[derive(Clone, Debug)]
pub(crate) struct Operator(pub(crate) String);

/// Everybody else is told that they are not meant. It is asked at every request, so that a connection that is open is no
/// way around it.
pub(super) async fn only(
    State(desk): State<Desk>,
    Extension(visitor): Extension<Visitor>,
    mut request: Request,
    next: Next,
) -> Response {
    let shown = visitor.shown.filter(|shown| shown.subject.kind() == Kind::Operator);
    let Some(shown) = shown else {
        let why = "this is for operators: show an operator's certificate";
        return Problem::new(StatusCode::FORBIDDEN, why).into_response();
    };
    let name = shown.subject.name().to_owned();
    let looked = name.clone();
    match desk.asking.ask(move |core| core.controller.model().revoked(&looked)).await {
        Ok(Some(revoked)) if shown.made() <= revoked.until => {
            let why = format!(
                "the certificate of the operator {name} was revoked by {}: whoever has the authority's key makes \
                 another one with fwnet fleet operator",
                revoked.by
            );
            Problem::new(StatusCode::FORBIDDEN, why).into_response()
        }
        Ok(_) => {
            request.extensions_mut().insert(Operator(name));
            next.run(request).await
        }
        Err(gone) => Problem::from(gone).into_response(),
    }
}

/// `POST /v1/fleet/operators/NAME/revoke`
pub(super) async fn revoke(
    State(desk): State<Desk>,
    Extension(Operator(by)): Extension<Operator>,
    Named(name): Named<String>,
) -> Result<Json<()>, Problem> {
    desk.order(move |model, now| Ok((orders::revoke(model, &name, &by, now)?, ()))).await?;
    Ok(Json(()))
}

/// `GET /v1/fleet/operators`: those of whom older certificates are worth nothing. Who has a certificate is not known here.
pub(super) async fn revoked(State(desk): State<Desk>) -> Result<Json<Vec<Revoked>>, Problem> {
    let all = desk.asking.ask(|core| {
        let all = core.controller.model().all_revoked();
        let shown = all.map(|(operator, it)| Revoked {
            operator: operator.to_owned(),
            until: it.until,
            by: it.by,
        });
        shown.collect()
    });
    Ok(Json(all.await?))
}
