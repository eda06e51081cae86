//! What is to be enforced, and where that is written: lists on the command line, or policy files that are read again.

use std::{net::SocketAddr, sync::Arc};

use ::agent::{
    lists::{Front, FrontRule},
    lockdown,
};

use anyhow::Context;
use image::{AddressSet, At, Image, Rule, RuleSet, Service, SetIndex, compile};
use jiff::{SignedDuration, Timestamp, Unit};
use kernel::boottime;
use policy::{Facts, Note, Origin};
use verdict::{Address, Direction, RuleNumber, Verdict};

use crate::{
    documents::{Documents, Files},
    followed::{Followed, Meant},
    legacy::{self, Inbound},
    prefix::{Ports, Prefix, canonical},
};

/// Where the rules come from.
#[derive(Debug)]
pub(crate) enum Orders {
    /// `--deny` and `--port`
    Lists {
        /// Denied addresses.
        addresses: Vec<Prefix>,
        /// Denied ports.
        ports: Vec<Ports>,
        /// Which directions.
        inbound: Inbound,
    },
    /// `--policy` and `--inventory`
    Documents {
        /// The files.
        files: Files,
        /// The host that this is, if named.
        host: Option<String>,
    },
}

/// Rules that are ready to be put in force.
#[derive(Debug)]
pub(crate) struct Ready {
    /// The rules, by number.
    pub(crate) rules: RuleSet,
    /// The same as tables, which are read by CLOCK_BOOTTIME.
    pub(crate) image: Image,
    /// Where each rule comes from, by number.
    pub(crate) reasons: Arc<Vec<Reason>>,
    /// What this is, for people: "2 denied addresses and 1 denied port".
    pub(crate) summary: String,
    /// What whoever enforces it should know.
    pub(crate) notes: Vec<String>,
    /// What the names of the rules mean.
    pub(crate) meant: Meant,
    /// What they were compiled from, where that was files: to do it again without reading half an edit.
    pub(crate) documents: Option<Arc<Documents>>,
}

/// What is told of an image's verdicts, long after the image itself is gone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    /// The version of the rules.
    pub(crate) version: u64,
    /// The digest of the image.
    pub(crate) image: [u8; 32],
    reasons: Arc<Vec<Reason>>,
}

impl Account {
    /// The reason of a verdict.
    pub(crate) fn reason(&self, rule: RuleNumber) -> Option<&Reason> {
        self.reasons.get(usize::from(rule.0))
    }
}

/// Where a rule comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reason {
    /// Its stable id.
    pub(crate) id: String,
    /// What it says.
    pub(crate) text: Option<String>,
    /// File and line.
    pub(crate) place: Option<String>,
    /// Why it exists, by its author.
    pub(crate) reason: Option<String>,
}

impl Ready {
    /// What is told of its verdicts.
    pub(crate) fn account(&self) -> Account {
        Account {
            version: self.rules.version,
            image: self.image.digest(),
            reasons: Arc::clone(&self.reasons),
        }
    }

    /// The image as it is now.
    pub(crate) fn now(&self) -> At<'_> {
        self.image.at(boottime())
    }

    /// The reason of a verdict.
    pub(crate) fn reason(&self, rule: RuleNumber) -> Option<&Reason> {
        self.reasons.get(usize::from(rule.0))
    }
}

impl Ready {
    /// The same rules behind those of run-time lists.
    ///
    /// # Errors
    /// Where both together do not fit into an image.
    pub(crate) fn behind(mut self, front: Front, inbound: Inbound) -> anyhow::Result<Self> {
        if front.is_empty() {
            return Ok(self);
        }
        self.summary.push_str(&format!(
            " behind {}",
            count(front.len(), "run-time denial", "run-time denials")
        ));
        let told = |rule: &FrontRule| Reason {
            id: rule.id.clone(),
            text: Some(rule.text.clone()),
            place: None,
            reason: rule.reason.clone(),
        };
        let reasons = Arc::make_mut(&mut self.reasons);
        front.put(inbound.directions(), &mut self.rules, reasons, told);
        self.image = compile(&self.rules).context("compile the run-time lists with the policy")?;
        Ok(self)
    }
}

/// What stands in place of [`Note::NoFailsafe`] on a host of a fleet.
const ONLY_CONTROLLERS: &str = "the policy names no failsafe set for this host: a policy that denies everything leaves it \
                                the controllers of its fleet, and nobody who could log in";

impl Ready {
    /// The same rules, and connections to `controllers` are allowed whatever they say: they belong to the failsafe set.
    ///
    /// # Errors
    /// Where that does not fit into an image.
    pub(crate) fn reaching(mut self, controllers: &[SocketAddr]) -> anyhow::Result<Self> {
        if controllers.is_empty() {
            return Ok(self);
        }
        let reasons = Arc::make_mut(&mut self.reasons);
        allow_controllers(controllers, &mut self.rules, reasons, |id, text| Reason {
            id: id.to_owned(),
            text: Some(text),
            ..Reason::default()
        });
        let nobody = Note::NoFailsafe.to_string();
        if let Some(note) = self.notes.iter_mut().find(|note| **note == nobody) {
            *note = ONLY_CONTROLLERS.to_owned();
        }
        self.image = compile(&self.rules).context("compile the controllers with the policy")?;
        Ok(self)
    }
}

/// Puts a rule for each of `controllers` before all others, and what is told of it into `told`.
pub(crate) fn allow_controllers<T>(
    controllers: &[SocketAddr],
    rules: &mut RuleSet,
    told: &mut Vec<T>,
    tell: impl Fn(&str, String) -> T,
) {
    for controller in controllers {
        let set = SetIndex::try_from(rules.sets.len());
        let set = set.expect("fewer sets than rules, which fit in 32 bits");
        rules.sets.push(AddressSet::from_address(canonical(controller.ip())));
        let rule = Rule {
            id: format!("controller/{controller}"),
            remote: Some(set),
            services: vec![Service::tcp(controller.port()..=controller.port())],
            flags: 0,
            ..Rule::default(Direction::Out, Verdict::Allow, lockdown::FAILSAFE)
        };
        let text = format!("failsafe me -> {controller} (a controller of the fleet)");
        told.insert(0, tell(&rule.id, text));
        rules.rules.insert(0, rule);
    }
}

impl Orders {
    /// Reads and compiles. `addresses` are this host's; `version` goes into the image.
    ///
    /// # Errors
    /// Whatever is wrong with the files or the rules; errors of policies have been printed.
    pub(crate) fn read(&self, addresses: &[Address], version: u64) -> anyhow::Result<Ready> {
        match self {
            Self::Lists { addresses, ports, inbound } => lists(addresses, ports, *inbound, version),
            Self::Documents { files, host } => {
                Self::compiled(files.sound(&[])?, host.as_deref(), addresses, version)
            }
        }
    }

    /// The same rules as `ready`'s, compiled anew because a name of theirs means something else; `None` for rules without
    /// names.
    ///
    /// # Errors
    /// Where they do not fit into an image any more.
    pub(crate) fn again(
        &self,
        ready: &Ready,
        addresses: &[Address],
        version: u64,
    ) -> anyhow::Result<Option<Ready>> {
        let (Self::Documents { host, .. }, Some(documents)) = (self, &ready.documents) else {
            return Ok(None);
        };
        let compiled = self::documents(documents, host.as_deref(), addresses, version)?;
        Ok(Some(Ready { documents: Some(Arc::clone(documents)), ..compiled }))
    }

    fn compiled(
        from: Documents,
        host: Option<&str>,
        addresses: &[Address],
        version: u64,
    ) -> anyhow::Result<Ready> {
        let compiled = documents(&from, host, addresses, version)?;
        Ok(Ready { documents: Some(Arc::new(from)), ..compiled })
    }
}

/// When CLOCK_BOOTTIME was zero, by the clock on the wall as it is now. To the millisecond, no two readings of both clocks
/// agree on more: so the same rules compile to the same image again, unless the clock was set.
pub(crate) fn boot() -> Timestamp {
    let since = SignedDuration::from_nanos(i64::try_from(boottime()).unwrap_or(i64::MAX));
    let zero = Timestamp::now().saturating_sub(since).unwrap_or(Timestamp::MIN);
    zero.round(Unit::Millisecond).unwrap_or(zero)
}

/// Compiles `--deny` and `--port`.
///
/// # Errors
/// Where they do not fit into an image.
pub(crate) fn lists(
    addresses: &[Prefix],
    ports: &[Ports],
    inbound: Inbound,
    version: u64,
) -> anyhow::Result<Ready> {
    let rules = RuleSet { version, ..legacy::rules(addresses, ports, inbound) };
    let image = compile(&rules).context("compile --deny and --port")?;
    let reasons = rules
        .rules
        .iter()
        .map(|rule| Reason { id: rule.id.clone(), ..Reason::default() })
        .collect::<Vec<_>>();
    let summary = format!(
        "{} and {}",
        count(addresses.len(), "denied address", "denied addresses"),
        count(ports.len(), "denied port", "denied ports")
    );
    Ok(Ready {
        rules,
        image,
        reasons: Arc::new(reasons),
        summary,
        notes: Vec::new(),
        meant: Meant::default(),
        documents: None,
    })
}

/// Compiles policies that have no errors, as of their moment.
///
/// # Errors
/// Where they do not fit into an image, or the host is unknown.
pub(crate) fn documents(
    documents: &Documents,
    host: Option<&str>,
    addresses: &[Address],
    version: u64,
) -> anyhow::Result<Ready> {
    let host = documents.host(host)?;
    let names = Followed::here();
    let facts = Facts {
        addresses,
        version,
        zero: boot(),
        ..Facts::new(&documents.inventory, &host, &names, documents.now)
    };
    let compiled =
        policy::compile(&documents.checked.policies, &facts).context("compile the policy")?;
    let reason = |origin: &Origin| Reason {
        id: origin.id.clone(),
        text: Some(origin.text.clone()),
        place: origin
            .place(&documents.checked)
            .map(|(name, position)| format!("{name}:{}", position.line)),
        reason: origin.reason.clone(),
    };
    Ok(Ready {
        reasons: Arc::new(compiled.origins.iter().map(reason).collect()),
        summary: format!("{} for host {host}", count(compiled.rules.rules.len(), "rule", "rules")),
        notes: compiled.notes.iter().map(ToString::to_string).collect(),
        rules: compiled.rules,
        image: compiled.image,
        meant: names.meant(),
        documents: None,
    })
}

/// `1 port`, `2 ports`.
pub(crate) fn count(number: usize, one: &str, many: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        more => format!("{more} {many}"),
    }
}
