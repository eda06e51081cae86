//! What is to be enforced, and where that is written: lists on the command line, or policy files that are read again.

use std::{net::SocketAddr, sync::Arc};

use ::agent::{
    lists::{Front, FrontRule, ListName},
    lockdown,
};

use anyhow::Context;
use image::{AddressSet, At, Changed, Image, Rule, RuleSet, Service, SetIndex, compile};
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

/// The rules of an edition alone: no run-time list and no controller stands in front of them yet.
#[derive(Debug)]
pub(crate) struct Bare {
    /// The rules, by number.
    pub(crate) rules: RuleSet,
    reasons: Arc<Vec<Reason>>,
    summary: String,
    notes: Vec<String>,
    meant: Meant,
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
    /// Whether the image shares its tables of addresses with the one before.
    pub(crate) shares: bool,
    /// The imported lists among the rules, with their addresses.
    pub(crate) lists: Vec<(ListName, AddressSet)>,
    /// The rules of the edition alone; nothing in lockdown.
    pub(crate) bare: Option<Arc<Bare>>,
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

/// What stands in front of the rules of an edition.
#[derive(Debug)]
pub(crate) struct InFront<'a> {
    /// Run-time lists, in these directions.
    pub(crate) front: Front,
    pub(crate) inbound: Inbound,
    /// Connections to these are allowed whatever the rules say: they belong to the failsafe set.
    pub(crate) controllers: &'a [SocketAddr],
}

/// What stands in place of [`Note::NoFailsafe`] on a host of a fleet.
const ONLY_CONTROLLERS: &str = "the policy names no failsafe set for this host: a policy that denies everything leaves it \
                                the controllers of its fleet, and nobody who could log in";

impl Bare {
    /// The rules by themselves as an image.
    ///
    /// # Errors
    /// Where they do not fit into one.
    pub(crate) fn ready(self) -> anyhow::Result<Ready> {
        let image = compile(&self.rules).context("compile the rules")?;
        Ok(Arc::new(self).with(None, image, false))
    }

    /// The rules behind what stands in front of them, as an image that shares what it can with the one `before`.
    ///
    /// # Errors
    /// Where both together do not fit into an image.
    pub(crate) fn behind(
        self: Arc<Self>,
        ahead: InFront<'_>,
        before: Option<&Image>,
    ) -> anyhow::Result<Ready> {
        let InFront { front, inbound, controllers } = ahead;
        let denials = front.len();
        if denials == 0 && controllers.is_empty() && before.is_none() {
            let image = compile(&self.rules).context("compile the rules")?;
            return Ok(self.with(None, image, false));
        }
        let mut rules = self.rules.clone();
        let mut reasons = (*self.reasons).clone();
        let told = |rule: &FrontRule| Reason {
            id: rule.id.clone(),
            text: Some(rule.text.clone()),
            place: None,
            reason: rule.reason.clone(),
        };
        front.put(inbound.directions(), &mut rules, &mut reasons, told);
        allow_controllers(controllers, &mut rules, &mut reasons, |id, text| Reason {
            id: id.to_owned(),
            text: Some(text),
            ..Reason::default()
        });
        let compiling = "compile the policy with run-time lists and controllers";
        let (image, shares) = match before {
            Some(before) => {
                let Changed { image, anew } = before.changed(&rules).context(compiling)?;
                (image, anew.is_none())
            }
            None => (compile(&rules).context(compiling)?, false),
        };
        let mut ready = self.with(Some((rules, Arc::new(reasons))), image, shares);
        if denials > 0 {
            let denials = count(denials, "run-time denial", "run-time denials");
            ready.summary.push_str(&format!(" behind {denials}"));
        }
        let nobody = Note::NoFailsafe.to_string();
        let note = ready.notes.iter_mut().find(|note| **note == nobody);
        if let Some(note) = note.filter(|_| !controllers.is_empty()) {
            *note = ONLY_CONTROLLERS.to_owned();
        }
        Ok(ready)
    }

    fn with(
        self: Arc<Self>,
        whole: Option<(RuleSet, Arc<Vec<Reason>>)>,
        image: Image,
        shares: bool,
    ) -> Ready {
        let own = || (self.rules.clone(), Arc::clone(&self.reasons));
        let (rules, reasons) = whole.unwrap_or_else(own);
        Ready {
            rules,
            image,
            reasons,
            summary: self.summary.clone(),
            notes: self.notes.clone(),
            meant: self.meant.clone(),
            documents: None,
            shares,
            lists: Vec::new(),
            bare: Some(self),
        }
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
            Self::Lists { addresses, ports, inbound } => {
                lists(addresses, ports, *inbound, version).ready()
            }
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
        let compiled = self::documents(documents, host.as_deref(), addresses, version)?.ready()?;
        Ok(Some(Ready { documents: Some(Arc::clone(documents)), ..compiled }))
    }

    fn compiled(
        from: Documents,
        host: Option<&str>,
        addresses: &[Address],
        version: u64,
    ) -> anyhow::Result<Ready> {
        let compiled = documents(&from, host, addresses, version)?.ready()?;
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

/// `--deny` and `--port` as rules.
pub(crate) fn lists(addresses: &[Prefix], ports: &[Ports], inbound: Inbound, version: u64) -> Bare {
    let rules = RuleSet { version, ..legacy::rules(addresses, ports, inbound) };
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
    let reasons = Arc::new(reasons);
    Bare { rules, reasons, summary, notes: Vec::new(), meant: Meant::default() }
}

/// Policies that have no errors as rules, as of their moment.
///
/// # Errors
/// Where the host is unknown.
pub(crate) fn documents(
    documents: &Documents,
    host: Option<&str>,
    addresses: &[Address],
    version: u64,
) -> anyhow::Result<Bare> {
    let host = documents.host(host)?;
    let names = Followed::here();
    let facts = Facts {
        addresses,
        version,
        zero: boot(),
        ..Facts::new(&documents.inventory, &host, &names, documents.now)
    };
    let policies = &documents.checked.policies;
    let (rules, origins, notes) = policy::host_rules_with_notes(policies, &facts);
    let reason = |origin: &Origin| Reason {
        id: origin.id.clone(),
        text: Some(origin.text.clone()),
        place: origin
            .place(&documents.checked)
            .map(|(name, position)| format!("{name}:{}", position.line)),
        reason: origin.reason.clone(),
    };
    Ok(Bare {
        reasons: Arc::new(origins.iter().map(reason).collect()),
        summary: format!("{} for host {host}", count(rules.rules.len(), "rule", "rules")),
        notes: notes.iter().map(ToString::to_string).collect(),
        rules,
        meant: names.meant(),
    })
}

/// `1 port`, `2 ports`.
pub(crate) fn count(number: usize, one: &str, many: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        more => format!("{more} {many}"),
    }
}
