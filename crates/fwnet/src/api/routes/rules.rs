//! `GET /v1/rules`: the rules in force, how often each decided, and when it last did.

use axum::{Json, extract::State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    agent::Core,
    api::{Api, Problem, Problems},
    report::ecs::direction_word,
    seeing::hits::{effect, mode},
};

/// A rule in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct CountedRule {
    /// Its stable id.
    pub(crate) id: String,
    /// `out` or `in`: a rule that is enforced at both ends here counts at each.
    pub(crate) direction: String,
    /// `allow` or `deny`.
    pub(crate) verdict: String,
    /// `enforce` or `audit`.
    pub(crate) mode: String,
    /// What it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<String>,
    /// File and line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) place: Option<String>,
    /// How often it decided.
    pub(crate) hits: u64,
    /// How often it would have decided if rules in audit were enforced, where another one did.
    pub(crate) would: u64,
    /// Since when it is counted.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) since: Timestamp,
    /// When it last did either; none if it never did.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_hit: Option<Timestamp>,
}

fn of(core: &mut Core) -> Vec<CountedRule> {
    core.force.settle(&mut core.seeing);
    let hits = core.force.firewall.hits();
    let ready = core.force.judging();
    let counted = core.seeing.rules(ready, &hits);
    counted
        .into_iter()
        .filter_map(|one| {
            let rule = ready.rules.rules.get(one.number)?;
            let reason = ready.reasons.get(one.number);
            Some(CountedRule {
                id: rule.id.clone(),
                direction: direction_word(rule.direction).to_owned(),
                verdict: effect(rule.verdict).to_owned(),
                mode: mode(rule.mode).to_owned(),
                text: reason.and_then(|reason| reason.text.clone()),
                place: reason.and_then(|reason| reason.place.clone()),
                hits: one.enforced,
                would: one.would,
                since: one.since,
                last_hit: one.last,
            })
        })
        .collect()
}

/// The rules in force, how often each decided, and when it last did
#[utoipa::path(get, path = "/v1/rules", tag = "seeing", responses((status = 200, body = Vec<CountedRule>), Problems))]
pub(crate) async fn rules(State(api): State<Api>) -> Result<Json<Vec<CountedRule>>, Problem> {
    Ok(Json(api.core(of).await?))
}
