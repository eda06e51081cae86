//! `fwnet list`: whole lists of denied addresses, which may follow a file.

use std::{
    io::{IsTerminal, stderr},
    path::{Path, PathBuf, absolute},
    process::ExitCode,
    time::Duration,
};

use ::agent::lists::{BadList, ListName, Plain};
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use hyper::Method;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::deny::milliseconds;
use crate::{
    answer,
    api::{
        Reached,
        routes::{
            apply::ExistingWord,
            lists::{How, Imported, List, Lists, Removed},
        },
    },
    cli::Output,
    documents, duration,
    orders::count,
    session,
};

/// Command line of `fwnet list`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Deny every address of a plain list (one address or prefix a line, `#` begins a comment), and follow its file
    Import(ImportTyped),
    /// List the lists
    Ls(LsTyped),
    /// Remove a list
    Rm(RmTyped),
}

#[derive(Debug, Args)]
struct ImportTyped {
    /// The list; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What to call it (default: the file's name without its ending)
    #[arg(long, value_name = "NAME")]
    name: Option<ListName>,
    /// For how long (90s, 2h, 1d); it ends on time even if the agent is dead
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse)]
    lasts: Option<Duration>,
    /// Why, for those who ask later
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Do not read the file again when it changes
    #[arg(long)]
    once: bool,
    /// Even if it cuts off the session that asks
    #[arg(long)]
    force: bool,
    /// What happens to existing connections that are newly denied: they stay, unless it is `revoke`
    #[arg(long, value_enum, default_value_t = ExistingWord::Keep)]
    existing: ExistingWord,
    /// Say who would newly be denied, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    reached: Reached,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Args)]
struct LsTyped {
    #[command(flatten)]
    reached: Reached,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Args)]
struct RmTyped {
    /// Its name
    #[arg(value_name = "NAME")]
    name: ListName,
    #[command(flatten)]
    reached: Reached,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Bytes of the longest list that is sent.
const LIST_BYTES_MAX: usize = 64 << 20;
/// How often a bar that counts nothing moves.
const STEADY: Duration = Duration::from_millis(100);

/// Exit code 0 if it was done, 1 if not.
pub(crate) fn run(typed: Typed) -> anyhow::Result<ExitCode> {
    match typed.verb {
        Verb::Import(typed) => import(typed)?,
        Verb::Ls(typed) => list(&typed)?,
        Verb::Rm(typed) => {
            let path = format!("/v1/lists/{}", typed.name);
            let removed: Removed =
                typed.reached.client()?.call(Method::DELETE, &path, None::<&()>)?;
            match typed.output {
                Output::Json => answer::print_json(&json!(removed))?,
                Output::Text => answer::print(&format!("removed list {}\n", removed.name))?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn import(typed: ImportTyped) -> anyhow::Result<()> {
    let name = match &typed.name {
        Some(name) => name.clone(),
        None => name_of(&typed.file)?,
    };
    let text = read(&typed.file)?;
    check(&typed.file, &text)?;
    let standard_input = documents::is_standard_input(&typed.file);
    let follow = match typed.once || standard_input {
        true => None,
        false => {
            let path = absolute(&typed.file)?;
            Some(path.to_str().context("the path of a file that is followed is UTF-8")?.to_owned())
        }
    };
    let how = How {
        for_ms: typed.lasts.map(milliseconds),
        reason: typed.reason,
        follow,
        session: session::own(),
        force: typed.force,
        existing: typed.existing,
        dry_run: typed.dry_run,
    };
    let bar = bar(0, "the agent compiles the list");
    bar.enable_steady_tick(STEADY);
    let path = format!("/v1/lists/{name}?{}", serde_urlencoded::to_string(&how)?);
    let answered = typed.reached.client()?.put(&path, text);
    bar.finish_and_clear();
    let imported: Imported = answered?;
    match typed.output {
        Output::Json => answer::print_json(&json!(imported)),
        Output::Text => {
            let word = match (imported.applied, imported.replaced) {
                (true, true) => "replaced",
                (true, false) => "imported",
                (false, true) => "would replace",
                (false, false) => "would import",
            };
            let mut out = format!("{word} list {}", line(&imported.list));
            out.push_str(&imported.preview.map(|preview| preview.text()).unwrap_or_default());
            out.push_str(&imported.revoked.text());
            answer::print(&out)
        }
    }
}

/// The file's name without its ending, as far as it is a name of a list.
fn name_of(file: &Path) -> anyhow::Result<ListName> {
    if documents::is_standard_input(file) {
        bail!("a list from standard input needs a name: --name NAME");
    }
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let letter =
        |letter: char| if letter.is_ascii_alphanumeric() || letter == '_' { letter } else { '-' };
    let name = stem.unwrap_or_default().chars().map(letter).collect::<String>();
    name.parse().with_context(|| format!("name the list of {}: --name NAME", file.display()))
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    if !documents::is_standard_input(file) {
        // A directory opens, and a FIFO that nobody writes does not.
        let metadata = std::fs::metadata(file).with_context(|| documents::name(file))?;
        if metadata.is_dir() {
            bail!("{} is a directory", file.display());
        }
    }
    let text = documents::read_up_to(file, LIST_BYTES_MAX)?;
    if text.len() > LIST_BYTES_MAX {
        bail!("{} is longer than {LIST_BYTES_MAX} bytes", documents::name(file));
    }
    Ok(text)
}

/// Says what is wrong with a list, before anything is sent.
fn check(file: &Path, text: &[u8]) -> anyhow::Result<()> {
    let bar = bar(text.len() as u64, "reading");
    let parsed = Plain::parse(text, |read| bar.set_position(read as u64));
    bar.finish_and_clear();
    let name = documents::name(file);
    match parsed {
        Ok(_) => Ok(()),
        Err(BadList::Lines { first, more, count: wrong }) => {
            for bad in [&first].into_iter().chain(&more) {
                eprintln!("{name}:{}: {}", bad.line, bad.fault);
            }
            let wrong = count(usize::try_from(wrong).unwrap_or(usize::MAX), "line is", "lines are");
            bail!("{name}: {wrong} wrong, and nothing is changed")
        }
        Err(error) => bail!("{name}: {error}, and nothing is changed"),
    }
}

/// A bar on standard error, where that is a terminal.
fn bar(length: u64, message: &'static str) -> ProgressBar {
    if !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = if length == 0 { ProgressBar::new_spinner() } else { ProgressBar::new(length) };
    let template =
        if length == 0 { "{spinner} {msg} {elapsed}" } else { "{msg} {bar:40} {percent}%" };
    let style = ProgressStyle::with_template(template).expect("a template that is known");
    bar.with_style(style).with_message(message)
}

fn list(typed: &LsTyped) -> anyhow::Result<()> {
    let Lists { lists } = typed.reached.client()?.get("/v1/lists")?;
    match typed.output {
        Output::Json => answer::print_json(&json!({ "lists": lists })),
        Output::Text => answer::print(&lists.iter().map(line).collect::<String>()),
    }
}

fn line(list: &List) -> String {
    let until = list
        .until
        .map_or_else(|| "until it is removed".to_owned(), |until| format!("until {until:.0}"));
    let lines = count(list.lines as usize, "line", "lines");
    let reason = list.reason.as_ref().map(|reason| format!(", \"{reason}\"")).unwrap_or_default();
    let follows = list.follows.as_ref().map(|path| format!(", follows {path}")).unwrap_or_default();
    let trouble =
        list.trouble.as_ref().map(|why| format!(" (not just now: {why})")).unwrap_or_default();
    format!(
        "{}: {lines} {until}, read {:.0}, by user {}{reason}{follows}{trouble}\n",
        list.name, list.imported, list.uid
    )
}
