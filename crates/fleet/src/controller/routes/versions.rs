//! Versions of the policy: applied, tried, confirmed, rolled back.

use std::sync::Arc;

use axum::{Extension, Json, extract::State, http::StatusCode};
use controller::{
    Edition, Model, orders,
    records::{self, RolloutRecord, RolloutState},
};

use super::{
    super::{
        body::{Body, Named},
        desk::Desk,
        problem::Problem,
    },
    Operator,
};
use crate::api::orders::{Apply, Canary, Document, Documents, Done, Rollout, Version, Versions};

/// `POST /v1/fleet/versions`
pub(super) async fn apply(
    State(desk): State<Desk>,
    Extension(Operator(by)): Extension<Operator>,
    Body(asked): Body<Apply>,
) -> Result<Json<Done>, Problem> {
    let Apply { bundle, what, canary, force } = asked;
    let canary = canary.map(|Canary { share, confirm_s }| orders::Canary { share, confirm_s });
    // Worked out again where something changed meanwhile: nothing of it is copied for that.
    let bundle = Arc::new(bundle);
    let stamping = desk.asking.ask(|core| core.controller.stamping().cloned()).await?;
    desk.order(move |model, now| {
        let asked = orders::Apply {
            bundle: bundle.as_bytes(),
            what: &what,
            canary: canary.as_ref(),
            force,
            by: &by,
            stamping: stamping.as_ref(),
        };
        Ok((orders::apply(model, &asked, now)?, ()))
    })
    .await?;
    done(&desk).await
}

/// `POST /v1/fleet/confirm`
pub(super) async fn confirm(State(desk): State<Desk>) -> Result<Json<Done>, Problem> {
    desk.order(|model, now| Ok((orders::confirm(model, now)?, ()))).await?;
    done(&desk).await
}

/// `POST /v1/fleet/rollback`
pub(super) async fn rollback(
    State(desk): State<Desk>,
    Extension(Operator(by)): Extension<Operator>,
) -> Result<Json<Done>, Problem> {
    let why = format!("{by} rolled it back");
    desk.order(move |model, _now| Ok((orders::halt(model, &why)?, ()))).await?;
    done(&desk).await
}

async fn done(desk: &Desk) -> Result<Json<Done>, Problem> {
    Ok(Json(desk.asking.ask(|core| state(core.controller.model())).await?))
}

fn state(model: &Model) -> Done {
    Done {
        current: model.current().map_or(0, records::CurrentRecord::version),
        rollout: model.rollout().map(rollout),
    }
}

/// A rollout as operators see it.
pub(crate) fn rollout(record: &RolloutRecord) -> Rollout {
    let (state, why) = match &record.state {
        RolloutState::Canary => ("canary", ""),
        RolloutState::Halted(why) => ("halted", why.as_str()),
        RolloutState::Done => ("done", ""),
    };
    Rollout {
        from: record.from,
        to: record.to(),
        began: record.began,
        confirm_until: record.confirm_until,
        state: state.to_owned(),
        why: why.to_owned(),
        by: record.by.clone(),
    }
}

/// `GET /v1/fleet/versions`
pub(super) async fn history(State(desk): State<Desk>) -> Result<Json<Versions>, Problem> {
    Ok(Json(desk.asking.ask(|core| versions(core.controller.model())).await?))
}

fn versions(model: &Model) -> Versions {
    let current = model.current().map(records::CurrentRecord::version);
    let tried = model.rollout().filter(|rollout| rollout.is_open()).map(RolloutRecord::to);
    let versions = model.versions().map(|record| Version {
        version: record.version,
        at: record.at,
        by: record.by.clone(),
        what: record.what.clone(),
        snapshot: record.snapshot,
        current: current == Some(record.version),
        tried: tried == Some(record.version),
        documents: model.is_whole(record),
    });
    Versions { versions: versions.collect() }
}

/// `GET /v1/fleet/versions/N`
pub(super) async fn documents(
    State(desk): State<Desk>,
    Named(version): Named<u64>,
) -> Result<Json<Documents>, Problem> {
    let edition =
        desk.asking.ask(move |core| Edition::read(core.controller.model(), version)).await??;
    let documents = edition.documents.iter().map(|paper| Document {
        name: paper.name.clone(),
        version: paper.version,
        policy: paper.policy.clone(),
    });
    Ok(Json(Documents { version, documents: documents.collect() }))
}

/// `GET /v1/fleet/status`: of all hosts that the leader knows of.
pub(super) async fn status(State(desk): State<Desk>) -> Result<Json<serde_json::Value>, Problem> {
    if let Some(leader) = desk.elsewhere() {
        return Err(Problem::elsewhere(leader));
    }
    let status = desk.asking.ask(|core| core.controller.status(core.clock.now())).await?;
    let all = status.all_realised();
    let mut shown = serde_json::to_value(&status)
        .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error))?;
    if let Some(fields) = shown.as_object_mut() {
        fields.insert("all_realised".to_owned(), all.into());
    }
    Ok(Json(shown))
}
