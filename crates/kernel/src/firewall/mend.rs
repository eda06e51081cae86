//! Noticing what somebody else has taken away or made void, and putting it right.

use std::{collections::BTreeSet, io, os::fd::AsFd};

use super::{
    Firewall,
    links::{Attached, Key, Namespaces},
};
use crate::{attach::AttachError, hook::Hook, netns::Netns, sys};

/// A program that was found detached, without its pin, or made void.
#[derive(Debug)]
pub struct Mended {
    /// The hook.
    pub hook: &'static Hook,
    /// Where it belongs.
    pub target: String,
    /// What was found.
    pub found: &'static str,
    /// Whether it is in place again.
    pub result: Result<(), AttachError>,
}

impl Firewall {
    /// Puts back what somebody else has taken away: links that were detached, pins that are gone, and the last word at
    /// each hook of the cgroup, because a program that was attached there after ours can undo its verdict
    /// (`bpf_set_retval`, bpf-helpers(7)). A cgroup that was removed cannot be attached to; one with the same path is,
    /// if there is one. What cannot be mended is returned at every call until it can.
    pub fn mend(&mut self) -> Vec<Mended> {
        let mut mended = self.mend_pins();
        // What is put right goes behind those that are still to be looked at.
        for index in (0..self.links.len()).rev() {
            let Some(found) = self.fault_of(&self.links[index]) else { continue };
            let attached = self.links.remove(index);
            match self.mend_link(&attached) {
                // The pin is the new link's by now, where there is one.
                Ok(true) => mended.push(Mended {
                    hook: attached.hook,
                    target: attached.target,
                    found,
                    result: Ok(()),
                }),
                Ok(false) => attached.unpin(),
                Err(error) => {
                    let (hook, target) = (attached.hook, attached.target.clone());
                    mended.push(Mended { hook, target, found, result: Err(error) });
                    self.links.push(attached);
                }
            }
        }
        self.forget_unjudged();
        self.rest();
        mended
    }

    /// What is wrong with a link, if anything is. What cannot be asked of a living one is taken to be in order.
    fn fault_of(&self, attached: &Attached) -> Option<&'static str> {
        if attached.key == Key::Host {
            // A tracepoint's link cannot be detached.
            return None;
        }
        let Some(info) = attached.info() else { return Some("detached") };
        let undone =
            attached.key == Key::Cgroup && !self.has_last_word(attached.hook, info.program);
        undone.then_some("followed by a program that can undo it")
    }

    /// Attaches anew what `attached` was; `false` where its namespace is gone, so that there is nothing to do.
    fn mend_link(&mut self, attached: &Attached) -> Result<bool, AttachError> {
        match attached.key {
            Key::Host => Ok(true),
            Key::Cgroup => {
                let failed = |source| AttachError::Attach {
                    hook: attached.hook.name,
                    target: attached.target.clone(),
                    source,
                };
                let gone = |error| failed(io::Error::new(io::ErrorKind::NotFound, error));
                self.attachments.cgroup.reopen().map_err(gone)?;
                let cgroup = &self.attachments.cgroup;
                self.numbers.cgroup = (cgroup.id(), cgroup.level());
                self.attach_hook(attached.hook, &[])?;
                self.note_meta().map_err(|error| failed(io::Error::other(error))).map(|()| true)
            }
            Key::Netns(inode) => {
                self.judged.retain(|judged| judged.inode != inode);
                let (found, _) = Netns::found_beside(&BTreeSet::new());
                let named = match &self.attachments.namespaces {
                    Namespaces::Named(named) => named.iter().find(|it| it.inode() == inode),
                    Namespaces::All => None,
                };
                let named = named.and_then(|named| named.handle().ok());
                let Some(namespace) = named.or(found.into_iter().find(|it| it.inode() == inode))
                else {
                    return Ok(false);
                };
                self.attach_inbound(attached.hook, &namespace).map(|()| true)
            }
        }
    }

    /// Whether no foreign program comes after `own` at this hook of the cgroup. Programs with our tag are another fwnet's,
    /// which never undoes a verdict.
    fn has_last_word(&self, hook: &Hook, own: u32) -> bool {
        let cgroup = self.attachments.cgroup.as_fd();
        let Ok(programs) = sys::cgroup_programs(cgroup, hook.attach_type) else { return true };
        let mut after = programs.iter().skip_while(|id| **id != own).skip(1).peekable();
        if after.peek().is_none() {
            return true;
        }
        let tag = sys::program_tag(own).ok();
        after.all(|id| sys::program_tag(*id).ok() == tag)
    }
}
