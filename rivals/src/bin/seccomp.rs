//! The smallest decider behind seccomp's user notification: denies connect() to one IPv4 address to the programs that it
//! starts, lets every other go on.
//!
//! `seccomp DENIED PROGRAM ARGUMENT...` ends as the program does. What is decided is read from the program's memory, which
//! another of its threads may change meanwhile (seccomp_unotify(2)): it measures, and protects nobody.

use std::env;
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt as _;
use std::process::{self, Command};
use std::sync::mpsc;
use std::thread;

use anyhow::{Context as _, Result};
use libseccomp::{
    ScmpAction, ScmpFd, ScmpFilterContext, ScmpNotifReq, ScmpNotifResp, ScmpNotifRespFlags,
    ScmpSyscall,
};

/// asm-generic/errno-base.h.
const EACCES: i32 = 13;
const AF_INET: u16 = 2;
/// `struct sockaddr_in` up to its address (ip(7)).
const ADDRESS_BYTES: usize = 8;

fn main() -> Result<()> {
    let mut words = env::args_os().skip(1);
    let denied = words.next().and_then(|it| it.into_string().ok());
    let denied: Ipv4Addr = denied.context("which address is denied?")?.parse()?;
    let mut command = Command::new(words.next().context("which program?")?);
    command.args(words);
    let (sender, receiver) = mpsc::channel();
    // A filter holds for its thread and what that starts: the thread that decides stays free.
    thread::spawn(move || {
        let ended = filter().and_then(|(filter, notices)| {
            sender.send(notices).context("tell where notices come")?;
            let status = command.status().context("start the program");
            drop(filter);
            status
        });
        match ended {
            Ok(status) => process::exit(status.code().unwrap_or(1)),
            Err(error) => {
                eprintln!("seccomp: {error:#}");
                process::exit(1);
            }
        }
    });
    let notices = receiver.recv().context("no filter")?;
    decide(notices, denied)
}

/// Puts connect() of this thread and its children under a filter, and returns where notices come.
fn filter() -> Result<(ScmpFilterContext, ScmpFd)> {
    let mut filter = ScmpFilterContext::new(ScmpAction::Allow)?;
    filter.add_rule(ScmpAction::Notify, ScmpSyscall::from_name("connect")?)?;
    filter.load().context("load the filter")?;
    let notices = filter.get_notify_fd()?;
    Ok((filter, notices))
}

fn decide(notices: ScmpFd, denied: Ipv4Addr) -> Result<()> {
    // The memory of who asked last, which is mostly who asks next.
    let mut last: Option<(u32, File)> = None;
    loop {
        // Who asks may be gone before it is heard.
        let Ok(asked) = ScmpNotifReq::receive(notices) else { continue };
        let named = named(&asked, &mut last).unwrap_or_default();
        let refused = named[..2] == AF_INET.to_ne_bytes() && named[4..] == denied.octets();
        let answer = if refused {
            ScmpNotifResp::new_error(asked.id, -EACCES, ScmpNotifRespFlags::empty())
        } else {
            ScmpNotifResp::new_continue(asked.id, ScmpNotifRespFlags::empty())
        };
        let _gone = answer.respond(notices);
    }
}

/// The address that connect() was told, as it stands in memory.
fn named(asked: &ScmpNotifReq, last: &mut Option<(u32, File)>) -> io::Result<[u8; ADDRESS_BYTES]> {
    if last.as_ref().is_none_or(|(pid, _)| *pid != asked.pid) {
        *last = Some((asked.pid, File::open(format!("/proc/{}/mem", asked.pid))?));
    }
    let mut bytes = [0; ADDRESS_BYTES];
    if let Some((_, memory)) = last {
        memory.read_exact_at(&mut bytes, asked.data.args[1])?;
    }
    Ok(bytes)
}
