//! `fwnet fleet operator` and `revoke`: what another operator proves who they are by, and its end. It is made where the
//! authority's key is, so no controller can be asked for one; that it is worth nothing any more is said to a controller.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use clap::Args;
use fleet::{
    api::orders::Revoked,
    authority::{Authority, OPERATOR_LIFETIME},
    membership::Membership,
    settings::Settings,
    subject::{Kind, Subject},
};
use jiff::Timestamp;
use serde_json::json;

use super::reached::Reached;
use crate::{answer, cli::Output, duration};

/// Command line of `fwnet fleet operator`.
#[derive(Debug, Args)]
pub(super) struct Typed {
    /// What they are called: orders are kept with this name
    #[arg(value_name = "NAME")]
    who: String,
    /// What `fwnet fleet init` made, with the authority's key
    #[arg(long = "dir", value_name = "DIR")]
    directory: PathBuf,
    /// Where theirs goes: a directory of its own
    #[arg(long = "out", value_name = "DIR")]
    out: PathBuf,
    /// How long it can be used (default: a year)
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    valid: Option<Duration>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

pub(super) fn run(typed: &Typed) -> anyhow::Result<u8> {
    let subject = Subject::new(Kind::Operator, &typed.who)?;
    let settings = Settings::read(&typed.directory)?;
    let authority = Authority::open(&typed.directory)?;
    if Membership::load(&typed.out)?.is_some() {
        bail!("{} is somebody's already", typed.out.display());
    }
    let valid = typed.valid.unwrap_or(OPERATOR_LIFETIME);
    let identity = authority.issue(&subject, Timestamp::now(), valid)?;
    let member = identity.member(settings.endpoints, String::new())?;
    member.save(&typed.out).with_context(|| format!("write into {}", typed.out.display()))?;
    if typed.output == Output::Json {
        answer::print_json(&json!({"operator": typed.who, "directory": typed.out}))?;
    } else {
        let out = typed.out.display();
        answer::print(&format!(
            "{out} is how {} proves who they are: fwnet fleet --operator {out} status\n",
            typed.who
        ))?;
    }
    Ok(answer::FINE)
}

/// Command line of `fwnet fleet revoke`.
#[derive(Debug, Args)]
pub(super) struct RevokeTyped {
    /// Whose certificates, made until now, are refused from now on; without a name, those who are refused are listed
    #[arg(value_name = "NAME")]
    who: Option<String>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

pub(super) fn revoke(reached: &Reached, typed: &RevokeTyped) -> anyhow::Result<u8> {
    let fleet = reached.fleet()?;
    if let Some(who) = &typed.who {
        let name = Subject::new(Kind::Operator, who)?;
        let path = format!("/v1/fleet/operators/{}/revoke", name.name());
        return fleet.post::<()>(&path, &())?.then(|()| Ok(answer::FINE));
    }
    fleet.get::<Vec<Revoked>>("/v1/fleet/operators")?.then(|all| {
        if typed.output == Output::Json {
            answer::print_json(&json!(all))?;
            return Ok(answer::FINE);
        }
        let line = |it: &Revoked| {
            let Revoked { operator, until, by } = it;
            format!("{operator}  what was made until {until} is refused, says {by}\n")
        };
        answer::print(&all.iter().map(line).collect::<String>())?;
        Ok(answer::FINE)
    })
}
