//! `fwnet fleet init`: everything that a fleet begins with, in one directory.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use clap::Args;
use fleet::{
    authority::{Authority, OPERATOR_LIFETIME},
    join::is_endpoint,
    settings::{self, Settings},
    subject::{Kind, Subject},
    whole,
};
use jiff::Timestamp;
use serde_json::json;
use wire::{Envelope, Holders, Role, Roles, Root, Trust, limits};

use crate::{
    answer,
    cli::Output,
    documents::read_up_to,
    report::host_name,
    signing::{self, Expiry, Key},
};

/// Command line of `fwnet fleet init`.
#[derive(Debug, Args)]
pub(super) struct Typed {
    /// Where all of it goes: a new or an empty directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// What the fleet is called
    #[arg(long, value_name = "NAME", default_value = "fleet")]
    name: String,
    /// Where a controller listens
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:8443")]
    listen: SocketAddr,
    /// Where hosts and operators find a controller (repeatable; default: the address of --listen, or this machine's name
    /// with its port)
    #[arg(long, value_name = "HOST:PORT", value_parser = endpoint)]
    endpoint: Vec<String>,
    /// What the first operator is called
    #[arg(long, value_name = "NAME", default_value = "admin")]
    operator_name: String,
    /// A signed root that hosts are to begin with; without it, keys and a root are made for one person
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// When a root that is made here expires
    #[arg(long, value_name = "TIME", default_value = "365d", conflicts_with = "root")]
    root_expires: Expiry,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// `controller.example:8443`
pub(crate) fn endpoint(text: &str) -> Result<String, String> {
    if is_endpoint(text) {
        Ok(text.to_owned())
    } else {
        Err(format!("'{text}' is no endpoint such as controller.example:8443"))
    }
}

pub(super) fn run(typed: &Typed) -> anyhow::Result<u8> {
    let now = Timestamp::now();
    let directory = &typed.directory;
    let operator = Subject::new(Kind::Operator, &typed.operator_name)?;
    let endpoints = endpoints(typed)?;
    // Looked at before anything is made.
    let brought = typed.root.as_deref().map(brought).transpose()?;
    empty(directory)?;
    whole::directory(directory).with_context(|| directory.display().to_string())?;
    let root = match brought {
        Some(root) => root,
        None => made(typed, now)?,
    };
    let context = || format!("write into {}", directory.display());
    whole::write(directory, settings::ROOT, root.as_bytes()).with_context(context)?;
    let authority = Authority::make(directory, &typed.name, now)?;
    let identity = authority.issue(&operator, now, OPERATOR_LIFETIME)?;
    identity.member(endpoints.clone(), String::new())?.save(&directory.join(settings::OPERATOR))?;
    let settings =
        Settings { name: typed.name.clone(), listen: typed.listen.to_string(), endpoints };
    // What a controller looks for first is written last.
    settings.write(directory).with_context(context)?;
    told(typed, &settings)?;
    Ok(answer::FINE)
}

fn endpoints(typed: &Typed) -> anyhow::Result<Vec<String>> {
    if !typed.endpoint.is_empty() {
        return Ok(typed.endpoint.clone());
    }
    ensure!(typed.listen.port() != 0, "--listen needs a port, so that others find the controller");
    let endpoint = if typed.listen.ip().is_unspecified() {
        format!("{}:{}", host_name(), typed.listen.port())
    } else {
        typed.listen.to_string()
    };
    Ok(vec![self::endpoint(&endpoint).map_err(anyhow::Error::msg)?])
}

fn empty(directory: &Path) -> anyhow::Result<()> {
    let Ok(mut entries) = std::fs::read_dir(directory) else { return Ok(()) };
    if entries.next().is_some() {
        bail!("{} is not empty: a fleet is made in a directory of its own", directory.display());
    }
    Ok(())
}

/// A root of somebody who has signed it already.
fn brought(path: &Path) -> anyhow::Result<String> {
    let bytes = read_up_to(path, 4 * limits::ROOT_BYTES_MAX)?;
    Trust::begin(&bytes).with_context(|| path.display().to_string())?;
    String::from_utf8(bytes).with_context(|| path.display().to_string())
}

/// Keys of every role for one person, and the root that says so.
fn made(typed: &Typed, now: Timestamp) -> anyhow::Result<String> {
    let directory = typed.directory.join(settings::KEYS);
    whole::directory(&directory).with_context(|| directory.display().to_string())?;
    let mut keys = Vec::new();
    for role in Role::ALL {
        let path = directory.join(format!("{role}.key"));
        keys.push(Key::make(format!("{}-{role}", typed.operator_name), role, &path)?);
    }
    let holders = |role: Role| Holders {
        keys: keys
            .iter()
            .filter(|key| key.role == role)
            .map(|key| key.named.name.clone())
            .collect(),
        threshold: 1,
    };
    let root = Root {
        version: 1,
        expires: typed.root_expires.from(now)?,
        keys: keys.iter().map(|key| key.named.clone()).collect(),
        roles: Roles {
            root: holders(Role::Root),
            policy: holders(Role::Policy),
            snapshot: holders(Role::Snapshot),
            timestamp: holders(Role::Timestamp),
        },
        max_stale: None,
    };
    let mut envelope = Envelope::new(&root);
    for key in keys.iter().filter(|key| key.role == Role::Root) {
        key.sign(Role::Root, &mut envelope)?;
    }
    signing::text(&envelope)
}

fn told(typed: &Typed, settings: &Settings) -> anyhow::Result<()> {
    let directory = &typed.directory;
    let shown = directory.display();
    if typed.output == Output::Json {
        return answer::print_json(&json!({
            "directory": directory,
            "name": settings.name,
            "listen": settings.listen,
            "endpoints": settings.endpoints,
            "operator": directory.join(settings::OPERATOR),
            "root": directory.join(settings::ROOT),
            "keys": typed.root.is_none().then(|| directory.join(settings::KEYS)),
        }));
    }
    let mut text = format!(
        "made the fleet {} in {shown}\n\
         authority   {shown}/authority.key says who is who: it belongs on controllers and nowhere else\n\
         operator    {shown}/operator is how {} proves who they are\n",
        settings.name, typed.operator_name,
    );
    if typed.root.is_none() {
        text.push_str(&format!(
            "keys        {shown}/keys sign policy: keep root.key offline, and none of them on a controller\n"
        ));
    }
    text.push_str(&format!(
        "next        fwnet controller --dir {shown}\n\
         then        fwnet fleet --operator {shown}/operator enroll web-1 --label role=web\n"
    ));
    answer::print(&text)
}
