//! Programs in their places: attaching what the images need, following namespaces, and noticing what is gone.

use std::{
    collections::BTreeSet,
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    time::{Duration, Instant},
};

use verdict::layout::{FLAG_DATAGRAMS, FLAG_INBOUND};

use super::{Firewall, opened};
use crate::{
    attach::{AttachError, attach},
    hook::{Hook, Scope},
    netns::Netns,
    object::{Numbers, Object, open},
    sys::{self, LinkInfo},
};

/// How long one look for namespaces may go on attaching.
const FOLLOW_WITHIN: Duration = Duration::from_millis(250);

/// In which network namespaces what comes in is judged.
#[derive(Debug)]
pub enum Namespaces {
    /// In these; they stay open, and so in being.
    Named(Vec<Netns>),
    /// In every one that is found, now and whenever [`Firewall::follow`] is called.
    All,
}

impl From<Vec<Netns>> for Namespaces {
    fn from(named: Vec<Netns>) -> Self {
        Self::Named(named)
    }
}

/// A namespace in which what comes in is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) inode: u64,
    pub(super) cookie: u64,
}

/// What a link is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Cgroup,
    Host,
    /// By inode.
    Netns(u64),
}

/// One program in its place.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) hook: &'static Hook,
    pub(super) key: Key,
    pub(super) target: String,
    pub(super) link: OwnedFd,
    /// Where it is pinned, if it is.
    pub(super) pin: Option<PathBuf>,
}

impl Attached {
    /// Takes its name away, so that it goes with the descriptor. A pin that somebody else took away is as good.
    pub(super) fn unpin(&self) {
        if let Some(pin) = &self.pin {
            let _gone = fs::remove_file(pin);
        }
    }

    /// What the kernel says of a link to a cgroup or namespace while it runs it: nothing once that is gone, or somebody
    /// detached it.
    pub(super) fn info(&self) -> Option<LinkInfo> {
        self.told().filter(|info| info.target != 0)
    }

    /// The number of the program that the link runs.
    pub(super) fn program(&self) -> Option<u32> {
        self.told().map(|info| info.program)
    }

    fn told(&self) -> Option<LinkInfo> {
        sys::link_info(self.link.as_fd(), matches!(self.key, Key::Netns(_))).ok()
    }

    /// Whether the kernel still runs it.
    pub(super) fn is_alive(&self) -> bool {
        // The link of a tracepoint or security hook cannot be detached.
        self.key == Key::Host || self.info().is_some()
    }
}

/// A network namespace that appeared.
#[derive(Debug)]
pub struct Joined {
    /// Its name or path.
    pub name: String,
    /// Whether what comes in there is judged now.
    pub result: Result<(), AttachError>,
}

impl Firewall {
    /// Loads and attaches every hook that images with `flags` need and that is not yet in place.
    pub(super) fn attach_needed(&mut self, flags: u32) -> Result<(), AttachError> {
        let needed = self.needed(flags);
        let found = match &self.attachments.namespaces {
            Namespaces::All if needed.iter().any(|hook| hook.scope == Scope::Netns) => {
                Netns::found_beside(&self.judged_inodes()).0
            }
            Namespaces::All | Namespaces::Named(_) => Vec::new(),
        };
        let missing: Vec<&'static Hook> =
            needed.into_iter().filter(|hook| self.is_missing(hook, &found)).collect();
        // First load all, then attach all: a program that does not load is found before anything is in place.
        for hook in &missing {
            if let Err(error) =
                opened(&mut self.object, &self.numbers, &self.pins, hook)?.load(hook)
            {
                if hook.required {
                    return Err(error);
                }
                if self.open.iter().all(|(open, _)| open.name != hook.name) {
                    self.open.push((hook, error));
                }
            }
        }
        for hook in missing {
            if self.open.iter().all(|(open, _)| open.name != hook.name) {
                self.attach_hook(hook, &found)?;
            }
        }
        Ok(())
    }

    /// Whether a hook is not yet everywhere where it belongs.
    fn is_missing(&self, hook: &Hook, found: &[Netns]) -> bool {
        match hook.scope {
            Scope::Cgroup => !self.is_attached(hook, Key::Cgroup),
            Scope::Host => !self.is_attached(hook, Key::Host),
            Scope::Netns => {
                let named = match &self.attachments.namespaces {
                    Namespaces::Named(named) => named.as_slice(),
                    Namespaces::All => &[],
                };
                let mut all = named.iter().chain(found).map(Netns::inode);
                all.any(|inode| !self.is_attached(hook, Key::Netns(inode)))
            }
        }
    }

    /// The hooks that images with `flags` need, and those that the user wants.
    pub(super) fn needed(&self, flags: u32) -> Vec<&'static Hook> {
        let counted = if self.attachments.count_flows { FLAG_DATAGRAMS | FLAG_INBOUND } else { 0 };
        let tripwire = self.attachments.tripwire;
        let wanted = |hook: &&Hook| match hook.program {
            // Where accept() is what ends with an error, bind() does not.
            "bind4" | "bind6" => self.numbers.accept_errno == 0,
            // Nothing that comes in is judged.
            "inet_conn_request" => match &self.attachments.namespaces {
                Namespaces::Named(named) => !named.is_empty(),
                Namespaces::All => true,
            },
            _ => true,
        };
        let needed = Hook::ALL.iter().filter(|hook| hook.needed(flags | counted, tripwire));
        let mut needed: Vec<_> = needed.filter(wanted).collect();
        needed.retain(|hook| self.left_out.iter().all(|name| name != hook.name));
        needed
    }

    /// Attaches a hook to each of its targets where it is not yet; `found` are namespaces to judge besides named ones.
    pub(super) fn attach_hook(
        &mut self,
        hook: &'static Hook,
        found: &[Netns],
    ) -> Result<(), AttachError> {
        match hook.scope {
            Scope::Cgroup => {
                if self.is_attached(hook, Key::Cgroup) {
                    return Ok(());
                }
                let target = format!("cgroup {}", self.attachments.cgroup.path().display());
                let program =
                    opened(&mut self.object, &self.numbers, &self.pins, hook)?.load(hook)?;
                let link = attach(program, hook, self.attachments.cgroup.as_fd(), &target)?;
                self.keep(hook, Key::Cgroup, target, link)
            }
            Scope::Host => {
                if self.is_attached(hook, Key::Host) {
                    return Ok(());
                }
                let target = "this machine".to_owned();
                let program =
                    opened(&mut self.object, &self.numbers, &self.pins, hook)?.load(hook)?;
                let link = attach(program, hook, self.attachments.cgroup.as_fd(), &target)?;
                self.keep(hook, Key::Host, target, link)
            }
            Scope::Netns => {
                let named = match &self.attachments.namespaces {
                    Namespaces::Named(named) => named.iter().map(Netns::handle).collect(),
                    Namespaces::All => Ok(Vec::new()),
                };
                let named: Vec<_> = named.map_err(|source| AttachError::Attach {
                    hook: hook.name,
                    target: "the named network namespaces".to_owned(),
                    source,
                })?;
                for namespace in named.iter().chain(found) {
                    self.attach_inbound(hook, namespace)?;
                }
                Ok(())
            }
        }
    }

    /// Attaches a copy of the program for one namespace, because it cannot ask in which one it runs. The link keeps the
    /// program when the copy goes.
    pub(super) fn attach_inbound(
        &mut self,
        hook: &'static Hook,
        namespace: &Netns,
    ) -> Result<(), AttachError> {
        let key = Key::Netns(namespace.inode());
        if self.is_attached(hook, key) {
            return Ok(());
        }
        let target = format!("network namespace {}", namespace.name());
        if !self.numbers.everywhere {
            let entered = self.scope.insert(namespace.cookie(), 1, 0);
            entered.map_err(|error| AttachError::Attach {
                hook: hook.name,
                target: target.clone(),
                source: io::Error::other(error),
            })?;
        }
        let mut copy = self.copy_for(hook, namespace.cookie())?;
        let link = attach(copy.load(hook)?, hook, namespace.as_fd(), &target)?;
        self.keep(hook, key, target, link)?;
        self.judged.push(Judged { inode: namespace.inode(), cookie: namespace.cookie() });
        Ok(())
    }

    /// A copy of the object for the network namespace with this cookie.
    pub(super) fn copy_for(&self, hook: &Hook, cookie: u64) -> Result<Object, AttachError> {
        let numbers = Numbers { netns: cookie, ..self.numbers };
        open(&numbers, Some(&self.pins))
            .map_err(|source| AttachError::Copy { hook: hook.name, source })
    }

    /// Remembers a link, and pins it where this set is pinned.
    fn keep(
        &mut self,
        hook: &'static Hook,
        key: Key,
        target: String,
        link: OwnedFd,
    ) -> Result<(), AttachError> {
        let pin = self.pinned.as_ref().map(|pinned| pinned.link(hook, key));
        if let Some(path) = &pin {
            pin_over(link.as_fd(), path).map_err(|source| AttachError::Attach {
                hook: hook.name,
                target: target.clone(),
                source,
            })?;
        }
        self.guard.link(link.as_fd()).map_err(|source| AttachError::Attach {
            hook: hook.name,
            target: target.clone(),
            source,
        })?;
        self.links.push(Attached { hook, key, target, link, pin });
        self.set_report();
        Ok(())
    }

    fn is_attached(&self, hook: &Hook, key: Key) -> bool {
        self.links.iter().any(|it| it.hook.name == hook.name && it.key == key)
    }

    /// Detaches what was attached after the first `count`.
    pub(super) fn forget(&mut self, count: usize) {
        for attached in self.links.split_off(count) {
            self.guard.forget(attached.link.as_fd());
            attached.unpin();
        }
        self.forget_unjudged();
        self.set_report();
    }

    /// Forgets namespaces that no link judges any more.
    pub(super) fn forget_unjudged(&mut self) {
        let (links, scope) = (&self.links, &mut self.scope);
        self.judged.retain(|judged| {
            let stays = links.iter().any(|it| it.key == Key::Netns(judged.inode));
            if !stays {
                // Where it never was it need not go.
                let _gone = scope.remove(&judged.cookie);
            }
            stays
        });
    }

    fn judged_inodes(&self) -> BTreeSet<u64> {
        self.judged.iter().map(|judged| judged.inode).collect()
    }

    /// How many network namespaces are judged.
    pub fn namespaces(&self) -> usize {
        self.judged.len()
    }

    /// Whether what comes in in the namespace with this inode is judged.
    pub fn judges(&self, inode: u64) -> bool {
        self.judged.iter().any(|judged| judged.inode == inode)
    }

    /// Looks for network namespaces that appeared, where all of them are wanted, judges what comes in there, and lets go
    /// of those that are no more. In a storm of them it takes a few at each call, so that whoever calls can do other
    /// things too. Costs one look at each process, and next to nothing where no process began since.
    pub fn follow(&mut self) -> Vec<Joined> {
        let mut hooks = self.needed(self.flags);
        hooks.retain(|hook| hook.scope == Scope::Netns);
        if hooks.is_empty() || !matches!(self.attachments.namespaces, Namespaces::All) {
            return Vec::new();
        }
        if !self.births.any_since_last_asked() {
            return Vec::new();
        }
        let (found, seen) = Netns::found_beside(&self.judged_inodes());
        self.let_go(|attached| match attached.key {
            Key::Netns(inode) => !seen.contains(&inode) && !attached.is_alive(),
            Key::Cgroup | Key::Host => false,
        });
        let begun = Instant::now();
        let mut joined = Vec::new();
        for namespace in &found {
            if begun.elapsed() >= FOLLOW_WITHIN {
                self.births.ask_again();
                break;
            }
            let mut attached = hooks.iter().map(|hook| self.attach_inbound(hook, namespace));
            let result = attached.find(Result::is_err).unwrap_or(Ok(()));
            joined.push(Joined { name: namespace.name().to_owned(), result });
        }
        self.rest();
        joined
    }

    fn let_go(&mut self, gone: impl Fn(&Attached) -> bool) {
        for attached in self.links.extract_if(.., |attached| gone(attached)) {
            self.guard.forget(attached.link.as_fd());
            attached.unpin();
        }
        self.forget_unjudged();
    }
}

/// Pins `object` at `path` in place of whatever is there.
pub(super) fn pin_over(object: BorrowedFd<'_>, path: &std::path::Path) -> io::Result<()> {
    match sys::pin(object, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            sys::pin(object, path)
        }
        done => done,
    }
}

/// Pins `object` at `path`, and whatever was there goes in the same moment.
pub(super) fn pin_in_place(object: BorrowedFd<'_>, path: &std::path::Path) -> io::Result<()> {
    let beside = path.with_extension("new");
    pin_over(object, &beside)?;
    fs::rename(beside, path)
}
