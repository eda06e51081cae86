//! `POST /v1/apply`: another policy, on trial or for good.

mod signed;

use std::time::{Duration, Instant};

use agent::{edition::Edition, machine::Event, revoke::Existing};
use axum::{
    Json,
    extract::{ConnectInfo, State},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use self::signed::{Proposal, Refused};
use super::preview::{Preview, Read};
use crate::{
    agent::{
        Core, Undone, Unsound,
        revoking::{Revoked, Sweeping, Wish},
        sound,
        trying::{self, Around},
        wall_of,
    },
    api::{Api, Body, Peer, Problem, Problems},
    seeing::Became,
};

/// A policy that is to be applied.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Apply {
    /// The policies, checked together.
    #[serde(default)]
    #[schema(max_items = 1024)]
    pub(crate) policies: Vec<File>,
    /// Signed policies in their place, as JSON text: what a host that trusts a root takes.
    #[serde(default)]
    pub(crate) bundle: Option<String>,
    /// The inventory, as TOML or JSON.
    pub(crate) inventory: Option<File>,
    /// Which host of the inventory this is.
    pub(crate) host: Option<String>,
    /// Seconds in which it must be confirmed; without it, it is applied for good.
    #[schema(minimum = 1, maximum = 604_800)]
    pub(crate) confirm_s: Option<u32>,
    /// Apply it even if it cuts the failsafe set or the session.
    #[serde(default)]
    pub(crate) force: bool,
    /// Say what would happen, and change nothing.
    #[serde(default)]
    pub(crate) dry_run: bool,
    /// What happens to existing connections that are newly denied.
    #[serde(default)]
    pub(crate) existing: ExistingWord,
    /// The SSH session that applies, as sshd(8) spells `SSH_CONNECTION`.
    #[schema(max_length = 256)]
    pub(crate) session: Option<String>,
}

/// What happens to existing connections that are newly denied.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ExistingWord {
    /// Those end whose rule says `existing revoke`
    #[default]
    ByRule,
    /// They stay, whatever rules say
    Keep,
    /// They end, whatever rules say
    Revoke,
}

impl From<ExistingWord> for Existing {
    fn from(word: ExistingWord) -> Self {
        match word {
            ExistingWord::ByRule => Self::ByRule,
            ExistingWord::Keep => Self::Keep,
            ExistingWord::Revoke => Self::Revoke,
        }
    }
}

/// A file as it is.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    /// What messages call it.
    #[schema(min_length = 1, max_length = 4096)]
    pub(crate) name: String,
    /// Where it can be read again.
    #[schema(max_length = 4096)]
    pub(crate) path: Option<String>,
    /// What it says.
    pub(crate) text: String,
}

/// What an apply did, or would do.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Outcome {
    /// The version of the policy.
    pub(crate) version: u64,
    /// Whether it is in force.
    pub(crate) applied: bool,
    /// Until when it must be confirmed.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) confirm_until: Option<Timestamp>,
    /// What it is, for people.
    pub(crate) summary: String,
    /// Tests that stand in it, which all pass.
    pub(crate) tests: usize,
    /// What it cuts of the failsafe set and the session.
    pub(crate) cuts: Vec<String>,
    /// What whoever enforces it should know.
    pub(crate) notes: Vec<String>,
    /// Who would newly be denied, by the sockets that exist now and the flows of the last seven days.
    pub(crate) preview: Preview,
    /// Existing connections that were ended; a policy on trial ends none until it is confirmed.
    pub(crate) revoked: Revoked,
}

/// Longest time to confirm: a week.
const CONFIRM_MAX_S: u32 = 604_800;
/// Longest name of a file, and of a session.
const NAME_MAX: usize = 4_096;
const SESSION_MAX: usize = 256;

/// Put another policy in force
#[utoipa::path(post, path = "/v1/apply", tag = "policy", request_body = Apply, responses((status = 200, body = Outcome), Problems))]
pub(crate) async fn apply(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Body(apply): Body<Apply>,
) -> Result<Json<Outcome>, Problem> {
    let (began, dry_run) = (Instant::now(), apply.dry_run);
    let done = applied(&api, peer.uid, apply, None).await;
    if !dry_run {
        count(&api, &done, began).await?;
    }
    done.map(Json)
}

/// Applies what a controller assigned to this host.
///
/// # Errors
/// Why it is not in force.
pub(crate) async fn assign(
    api: &Api,
    apply: Apply,
    assigned: Assigned,
) -> Result<Outcome, Problem> {
    let (began, uid) = (Instant::now(), rustix::process::getuid().as_raw());
    let done = applied(api, uid, apply, Some(assigned)).await;
    count(api, &done, began).await?;
    done
}

async fn count(api: &Api, done: &Result<Outcome, Problem>, began: Instant) -> Result<(), Problem> {
    {
        let became = match &done {
            Ok(_) => Became::Applied,
            Err(problem) if problem.is_ours() => Became::Failed,
            Err(_) => Became::Refused,
        };
        let took = began.elapsed();
        api.core(move |core| core.seeing.deeds.applied(became, took)).await
    }
}

async fn applied(
    api: &Api,
    uid: u32,
    apply: Apply,
    assigned: Option<Assigned>,
) -> Result<Outcome, Problem> {
    fits(&apply)?;
    // Checking reads nothing else of the agent's, and may take a while.
    let known = api.core(|core| {
        let trusted = core.kept.store.trusted().map(|it| it.cloned());
        (core.seeing.store(), core.stamps(), core.ahead(), trusted, core.around())
    });
    let (store, stamps, ahead, trusted, around) = known.await?;
    let (ahead, trusted) = (ahead?, trusted.map_err(Problem::conflict)?);
    let checking = tokio::task::spawn_blocking(move || {
        let proposal = Proposal::of(&apply, trusted.as_ref(), uid, assigned.as_ref());
        let proposal = proposal.map_err(Unfit::Refused)?;
        let tests = sound(&proposal.edition.rules).map_err(Unfit::Unsound)?;
        if let Some(Assigned { verified, tested, .. }) = assigned {
            let signed = proposal.edition.signed.as_ref();
            verified(signed.map_or(0, |signed| signed.snapshot));
            if tested {
                holds(&proposal.edition, around).map_err(Unfit::Unsound)?;
            }
            // Nobody looks at a preview.
            return Ok((apply, proposal, tests, Read::default()));
        }
        let read = Read::now(&proposal.edition.rules, ahead, store.as_ref(), stamps.as_ref());
        Ok::<_, Unfit>((apply, proposal, tests, read))
    });
    match checking.await.map_err(anyhow::Error::from)? {
        Ok((apply, proposal, tests, read)) => {
            let outcome = api.core(move |core| outcome(core, &apply, proposal, tests, read));
            let (outcome, sweeping) = outcome.await??;
            Ok(Outcome { revoked: sweeping.ended().await, ..outcome })
        }
        Err(Unfit::Unsound(unsound)) => Err(unsound.into()),
        Err(Unfit::Refused(refused)) => {
            if let Refused::Bundle(sentence) = &refused {
                let text = format!("a bundle is refused: {sentence} (by user {uid})");
                api.core(move |core| core.tell_of_refusal(text)).await?;
            }
            Err(refused.into())
        }
    }
}

/// What a controller says besides.
pub(crate) struct Assigned {
    /// The name of the target, in hexadecimal.
    pub(crate) target: String,
    /// This host, as the controller knows it.
    pub(crate) me: policy::Host,
    /// Is told the version of the snapshot once its signatures are found to be right, before anything changes.
    pub(crate) verified: Box<dyn FnOnce(u64) + Send>,
    /// It is refused where tests of the policy fail here.
    pub(crate) tested: bool,
}

/// Runs the tests of what is assigned, as far as this host can.
fn holds(edition: &Edition, around: anyhow::Result<Around>) -> Result<(), Unsound> {
    let failing = around.and_then(|around| trying::failing(edition, &around));
    let failing = failing.map_err(Unsound::File)?;
    match failing.len() {
        0 => Ok(()),
        failed => Err(Unsound::Tests { failed, shown: trying::line(&failing) }),
    }
}

/// Why nothing is applied.
enum Unfit {
    Refused(Refused),
    Unsound(Unsound),
}

fn fits(apply: &Apply) -> Result<(), Problem> {
    match (apply.policies.is_empty(), &apply.bundle) {
        (true, None) => return Err(Problem::unfit("there is no policy in it")),
        (false, Some(_)) => return Err(Problem::unfit("it has policies and a bundle of them")),
        (true, Some(_)) | (false, None) => {}
    }
    if apply.confirm_s.is_some_and(|confirm| confirm == 0 || confirm > CONFIRM_MAX_S) {
        return Err(Problem::unfit("the time to confirm is from one second to one week"));
    }
    let mut files = apply.policies.iter().chain(&apply.inventory);
    if files.any(|file| file.name.is_empty() || file.name.chars().count() > NAME_MAX) {
        return Err(Problem::unfit("a file has a name, of up to 4,096 characters"));
    }
    let mut files = apply.policies.iter().chain(&apply.inventory);
    if files.any(|file| file.path.as_ref().is_some_and(|path| path.chars().count() > NAME_MAX)) {
        return Err(Problem::unfit("a path has up to 4,096 characters"));
    }
    if apply.session.as_ref().is_some_and(|session| session.chars().count() > SESSION_MAX) {
        return Err(Problem::unfit("a session has up to 256 characters"));
    }
    Ok(())
}

fn outcome(
    core: &mut Core,
    apply: &Apply,
    proposal: Proposal,
    tests: usize,
    read: Read,
) -> Result<(Outcome, Sweeping), Problem> {
    let Proposal { edition, marks } = proposal;
    let draft = core.draft(&edition).map_err(|error| Problem::unfit(format!("{error:#}")))?;
    let mut outcome = Outcome {
        version: core.kept.store.next_version(),
        applied: false,
        confirm_until: None,
        summary: draft.new.summary.clone(),
        tests,
        cuts: draft.cuts,
        notes: draft.new.notes.clone(),
        preview: read.preview(core, &draft.new),
        revoked: Revoked::default(),
    };
    if apply.dry_run {
        return Ok((outcome, Sweeping::default()));
    }
    if !outcome.cuts.is_empty() && !apply.force {
        let detail = outcome.cuts.iter().map(|cut| format!("{cut}\n")).collect::<String>();
        return Err(Problem::conflict("the policy locks somebody out").detail(detail));
    }
    let confirm = apply.confirm_s.map(|seconds| Duration::from_secs(seconds.into()));
    Proposal::keep_marks(core, marks, confirm.is_some())?;
    core.revoking.wish =
        Wish { existing: apply.existing.into(), unprotected: apply.force, session: None };
    outcome.version = core.apply(edition, &Event::Apply { confirm })?;
    outcome.applied = true;
    let now = core.now();
    outcome.confirm_until = core.standing().trial.map(|trial| wall_of(trial.until_ns, &now));
    Ok((outcome, core.revoking.began()))
}

impl From<Undone> for Problem {
    fn from(undone: Undone) -> Self {
        match undone {
            Undone::Refused(refusal) => Self::conflict(refusal),
            Undone::Failed(error) => error.into(),
        }
    }
}

impl From<Unsound> for Problem {
    fn from(unsound: Unsound) -> Self {
        let sentence = unsound.to_string();
        match unsound {
            Unsound::Errors { shown } | Unsound::Tests { shown, .. } => {
                Self::unfit(sentence).detail(shown)
            }
            // What reads an inventory shows the line and points at it.
            Unsound::File(_) => match sentence.split_once('\n') {
                Some((first, rest)) => Self::unfit(first).detail(rest),
                None => Self::unfit(sentence),
            },
        }
    }
}
