//! Sockets that were there before the programs: nobody stamped them when they were made, so whoever finds out whose they
//! are enters it.
//!
//! A socket's storage can be written by whoever holds a descriptor of it (`bpf_fd_sk_storage_update_elem` in
//! net/core/bpf_sk_storage.c), and pidfd_getfd(2) gives one. Where that is refused the socket is entered by its cookie, as
//! one without room for a stamp is. What the programs entered themselves is left as it is.

use std::{io, os::fd::OwnedFd};

use aya::maps::{HashMap, MapData, MapError, SkStorage};
use rustix::net::sockopt::socket_cookie;
use verdict::{
    Address, Endpoint, Protocol,
    abi::{Evidence, Listener, Stamp},
    layout::{FLAG_INBOUND, FLAG_SUBJECTS},
};
use zerocopy::{FromBytes, IntoBytes};

use super::{Firewall, LoadError, take};
use crate::{
    held::Held,
    listeners::{KeyBytes, Listeners, NO_EXIST, key},
    object::Pins,
};

type StampBytes = [u8; size_of::<Stamp>()];

/// A socket that was found, and whose it is.
#[derive(Clone, Copy, Debug)]
pub struct Stranger {
    /// Its cookie.
    pub cookie: u64,
    /// Inode of its descriptors.
    pub inode: u32,
    /// A process that holds it, and under which descriptor.
    pub held: (u32, u32),
    /// Where it listens or takes datagrams: cookie of the network namespace, protocol, local end.
    pub claim: Option<(u64, Protocol, Endpoint)>,
    /// Whose it is.
    pub stamp: Stamp,
}

impl Stranger {
    fn held(&self) -> Held {
        let (pid, descriptor) = self.held;
        Held { pid, descriptor, inode: self.inode }
    }
}

/// How a socket is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// The programs had seen it made, or somebody had entered it.
    Already,
    /// By a stamp of its own.
    Stamped,
    /// By its cookie.
    Apart,
}

/// How the identity of processes is known, since loading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Stamps and claims for which a socket had no room, kept by its cookie instead. Whoever fills a socket's option memory
    /// does that; hardly anybody else.
    pub refused: u64,
    /// Verdicts of rules about processes for somebody whom nobody knows: no such rule held for him.
    pub unknown: u64,
    /// Attempts of other programs to take away links, maps or pins, which the guard of the LSM tier refused.
    pub guarded: u64,
}

/// Who made which socket, for a thread of its own: reads what the programs enter, and changes nothing.
pub struct Stamps {
    on_sockets: SkStorage<MapData, StampBytes>,
    apart: HashMap<MapData, u64, StampBytes>,
}

impl Stamps {
    /// The stamp of the socket that is held there; `None` where it has none, or cannot be borrowed.
    pub fn of(&self, held: &Held) -> Option<Stamp> {
        let socket = held.borrow().ok()?;
        let apart = || self.apart.get(&socket_cookie(&socket).ok()?, 0).ok();
        let stamp = self.on_sockets.get(&socket, 0).ok().or_else(apart)?;
        Stamp::read_from_bytes(&stamp).ok()
    }
}

impl std::fmt::Debug for Stamps {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Stamps").finish_non_exhaustive()
    }
}

/// The maps that say whose a socket is.
pub(super) struct Owners {
    stamps: SkStorage<MapData, StampBytes>,
    stamps_apart: HashMap<MapData, u64, StampBytes>,
    claims: SkStorage<MapData, KeyBytes>,
    claims_apart: HashMap<MapData, u64, KeyBytes>,
    evidence: aya::maps::PerCpuArray<MapData, [u8; size_of::<Evidence>()]>,
}

impl Owners {
    pub(super) fn of(pins: &Pins) -> Result<Self, LoadError> {
        Ok(Self {
            stamps: take(pins, "OWNERS")?,
            stamps_apart: take(pins, "OWNERS_APART")?,
            claims: take(pins, "CLAIMS")?,
            claims_apart: take(pins, "CLAIMS_APART")?,
            evidence: take(pins, "EVIDENCE")?,
        })
    }

    fn introduce(
        &mut self,
        stranger: &Stranger,
        listeners: &mut Listeners,
    ) -> Result<Known, MapError> {
        let descriptor = stranger.held().borrow().ok();
        // The connections of an MPTCP socket have other cookies than itself, and it is what is held.
        let own = descriptor.as_ref().and_then(|socket| socket_cookie(socket).ok());
        let cookie = own.unwrap_or(stranger.cookie);
        let stamp = bytes(&stranger.stamp);
        let stamped = descriptor.as_ref().map(|socket| self.stamps.insert(socket, stamp, NO_EXIST));
        let known = match stamped {
            Some(Ok(())) => Known::Stamped,
            Some(Err(error)) if exists(&error) => Known::Already,
            Some(Err(_)) | None => match self.stamps_apart.insert(cookie, stamp, NO_EXIST) {
                Ok(()) => Known::Apart,
                Err(error) if exists(&error) => Known::Already,
                Err(error) => return Err(error),
            },
        };
        if let Some(claim) = stranger.claim {
            let listener = Listener { socket: cookie, stamp: stranger.stamp };
            self.claim(&listener, descriptor.as_ref(), claim, listeners)?;
        }
        Ok(known)
    }

    /// Enters the claim as `listeners.rs` of the kernel programs does, so that it ends with the socket.
    fn claim(
        &mut self,
        listener: &Listener,
        descriptor: Option<&OwnedFd>,
        (netns, protocol, local): (u64, Protocol, Endpoint),
        listeners: &mut Listeners,
    ) -> Result<(), MapError> {
        let anywhere = local.address.is_unspecified();
        let address = if anywhere { Address::UNSPECIFIED_V6 } else { local.address };
        let key = key(netns, protocol, Endpoint { address, port: local.port });
        match listeners.enter(key, listener) {
            Ok(()) => {}
            Err(error) if exists(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
        let kept = descriptor.is_some_and(|socket| self.claims.insert(socket, key, 0).is_ok());
        if kept { Ok(()) } else { self.claims_apart.insert(listener.socket, key, 0) }
    }
}

impl Firewall {
    /// Enters whose a socket is that was made before the programs were there, or while no rule asked for processes. The
    /// socket must be one whose cgroup is below the one that is judged: of no other would the end be noticed.
    ///
    /// # Errors
    /// Where the kernel refuses to write the maps.
    pub fn introduce(&mut self, stranger: &Stranger) -> io::Result<Known> {
        self.owners.introduce(stranger, &mut self.listeners).map_err(io::Error::other)
    }

    /// Whether strangers should be looked for now: rules ask for processes, and did not before, or what comes in is judged
    /// and was not. The answer is given once.
    pub fn wants_strangers(&mut self) -> bool {
        let asked = self.flags & (FLAG_SUBJECTS | FLAG_INBOUND);
        let news = asked & FLAG_SUBJECTS != 0 && asked != self.introduced;
        if news {
            self.introduced = asked;
        }
        news
    }

    /// Who made which socket, where rules ask for processes: nothing is entered before they do.
    ///
    /// # Errors
    /// Where the kernel gives no more descriptors.
    pub fn stamps(&self) -> Result<Option<Stamps>, LoadError> {
        if self.flags & FLAG_SUBJECTS == 0 {
            return Ok(None);
        }
        let on_sockets = take(&self.pins, "OWNERS")?;
        Ok(Some(Stamps { on_sockets, apart: take(&self.pins, "OWNERS_APART")? }))
    }

    /// The cgroup whose processes are judged.
    pub fn cgroup(&self) -> &crate::Cgroup {
        &self.attachments.cgroup
    }

    /// How the identity of processes is known. Costs one system call.
    pub fn identity(&self) -> Identity {
        let values = self.owners.evidence.get(&0, 0).ok();
        let each = values.iter().flat_map(|values| values.iter());
        let each = each.filter_map(|bytes| Evidence::read_from_bytes(bytes.as_bytes()).ok());
        each.fold(Identity::default(), |sum, own| Identity {
            refused: sum.refused + own.refused,
            unknown: sum.unknown + own.unknown,
            guarded: sum.guarded + own.guarded,
        })
    }
}

fn exists(error: &MapError) -> bool {
    matches!(error, MapError::SyscallError(failed) if failed.io_error.raw_os_error() == Some(libc::EEXIST))
}

fn bytes<T: IntoBytes + zerocopy::Immutable, const N: usize>(value: &T) -> [u8; N] {
    value.as_bytes().try_into().expect("the array is as long as the type")
}
