//! `GET /v1/connections`: every socket with whose it is, and what the rules in force say of it.

use std::sync::Arc;

use axum::{Json, extract::State};
use kernel::boottime;

use crate::{
    api::{Api, Problem, Problems},
    connections::{
        Look, everywhere,
        shown::{Against, Report},
    },
    names::Names,
};

/// Every socket with its process, unit and container, and what the rules in force say of it
#[utoipa::path(get, path = "/v1/connections", tag = "seeing", responses((status = 200, body = Report), Problems))]
pub(crate) async fn connections(State(api): State<Api>) -> Result<Json<Report>, Problem> {
    // What reads the machine runs beside the core, which has other things to do.
    let stamps = api.core(|core| core.stamps()).await?;
    let looking = tokio::task::spawn_blocking(move || {
        let namespaces = everywhere();
        let look = Look::stamped(&namespaces, stamps.as_ref(), &false.into());
        (namespaces, look)
    });
    let (namespaces, Look { connections, gaps }) = looking.await.map_err(anyhow::Error::from)?;
    let (image, reasons, judged) = api
        .core(move |core| {
            let ready = core.force.judging();
            (ready.image.clone(), Arc::clone(&ready.reasons), core.judged(&namespaces))
        })
        .await?;
    let comparing = tokio::task::spawn_blocking(move || {
        let scope = judged.scope();
        let against = Against {
            image: Some((image.at(boottime()), &reasons)),
            scope: Some(&scope),
            watch: None,
        };
        let mut report = Report::of(&connections, against, &Names::here());
        report.notes = gaps;
        report
    });
    Ok(Json(comparing.await.map_err(anyhow::Error::from)?))
}
