//! Rules that do nothing, nothing of their own, or too much, each with a flow that proves it.

mod evidence;

use jiff::Timestamp;
use verdict::{Address, Direction, Endpoint, Flow, Protocol, Verdict};

use self::evidence::{Cell, Evidence, Seen};
use super::{
    Question,
    answer::{AnalysisError, Basis, Connection, Fault, Finding, Lint, Processes, Witness},
    bits::Bits,
    entries::connection,
    flows::unplaced,
    side::{ClauseNumber, Side},
    world::{Asked, Role, View, World},
};
use crate::{
    facts::Facts,
    policy::Policy,
    read_aloud::{Said, read_aloud},
};

/// What is wrong with the rules that count: those that are enforced, or with [`Basis::Would`] those in audit, too; neither
/// drafts nor rules that have ended. Each witness is read aloud before it is reported.
///
/// # Errors
/// [`AnalysisError::TooLarge`].
pub fn lint(policies: &[Policy], question: &Question<'_>) -> Result<Lint, AnalysisError> {
    let mut world = World::new(&[policies], question, Asked::ALL)?;
    let evidence = Evidence::new(&mut world)?;
    let court = Court { world: &world, policies, now: question.now, basis: question.basis };
    let mut findings = Vec::new();
    for (number, seen) in evidence.seen.iter().enumerate() {
        if court.side().clause(number).is_rule {
            findings.extend(court.rule(number, seen)?);
        }
    }
    let seen = |number: ClauseNumber| evidence.seen.get(number).map_or(0, |seen| seen.cells);
    for (&(allow, deny), met) in &evidence.met {
        // Where one holds all of the other, it is shadowed, or the deny is the exception that was meant.
        let Some(cell) = met.example.filter(|_| met.cells < seen(allow).min(seen(deny))) else {
            continue;
        };
        findings.push(court.finding(Fault::Correlated, allow, Some(deny), &[], Some(cell))?);
    }
    let place = |finding: &Finding| (finding.rule.stated, finding.fault);
    findings.sort_by(|a, b| place(a).cmp(&place(b)).then_with(|| a.cmp(b)));
    Ok(Lint { findings, unplaced: unplaced(&world) })
}

/// Where evidence becomes findings.
struct Court<'w, 'a> {
    world: &'w World<'a>,
    policies: &'w [Policy],
    now: Timestamp,
    basis: Basis,
}

impl Court<'_, '_> {
    fn side(&self) -> &Side<'_> {
        self.world.sides.first().expect("a lint has one set of policies")
    }

    fn rule(&self, number: ClauseNumber, seen: &Seen) -> Result<Vec<Finding>, AnalysisError> {
        if seen.cells == 0 {
            let parts = self.empty_parts(number);
            return Ok(vec![self.finding(Fault::NeverMatching, number, None, &parts, None)?]);
        }
        let Some(decided) = seen.has_say else {
            let other = seen.unheard.map(|cell| cell.first);
            return Ok(vec![self.finding(Fault::Shadowed, number, other, &[], seen.unheard)?]);
        };
        let mut findings = Vec::new();
        if let (Some((cell, other)), false) = (seen.spare, seen.is_needed) {
            findings.push(self.finding(Fault::Redundant, number, Some(other), &[], Some(cell))?);
        }
        let parts = self.broad_parts(number);
        if self.side().clause(number).verdict == Verdict::Allow && parts.len() >= 2 {
            findings.push(self.finding(Fault::OverBroad, number, None, &parts, Some(decided))?);
        }
        Ok(findings)
    }

    fn finding(
        &self,
        fault: Fault,
        number: ClauseNumber,
        other: Option<ClauseNumber>,
        parts: &[&str],
        cell: Option<Cell>,
    ) -> Result<Finding, AnalysisError> {
        let decider = |number: ClauseNumber| self.side().clause(number).decider.clone();
        let rule = decider(number);
        let witness = cell.map(|cell| self.witness(&rule.id, cell)).transpose()?;
        Ok(Finding {
            fault,
            rule,
            other: other.map(decider),
            parts: parts.iter().map(|&part| part.to_owned()).collect(),
            witness,
        })
    }

    /// The flow of a cell with what is said of it, after it was read aloud.
    fn witness(&self, rule: &str, cell: Cell) -> Result<Witness, AnalysisError> {
        let world = self.world;
        let found = connection(world, cell.from, cell.to, cell.relation, cell.service)
            .expect("cells are made of places between which there is a connection");
        let inbound = cell.direction == Direction::In;
        let (classes, host) =
            if inbound { (&world.to, &found.to_host) } else { (&world.from, &found.from_host) };
        let subject = classes.subject(cell.class);
        let alone = Bits::of(classes.len(), |class| class == cell.class);
        let process = match classes.describe(&alone, &world.symbols) {
            Processes::Only(texts) => texts.into_iter().next().unwrap_or_default(),
            Processes::AllBut(texts) => format!("not {}", texts.join(", not ")),
            Processes::Any => String::new(),
        };
        let decided = self.side().clause(cell.first);
        let host = host.clone().unwrap_or_else(|| "me".to_owned());
        let flow = flow(cell.direction, &found, subject);
        let facts = Facts::new(world.inventory, &host, &world.symbols, self.now);
        let spoken = read_aloud(self.policies, &facts, &flow);
        let said = match self.basis {
            Basis::Enforced => spoken.enforced,
            Basis::Would => spoken.would,
        };
        let told = Said { verdict: decided.verdict, rule: decided.decider.id.clone() };
        if said != told {
            let flow = format!("{flow:?} at {host}: {told:?}, {said:?}");
            return Err(AnalysisError::Disagreement { rule: rule.to_owned(), flow });
        }
        Ok(Witness {
            host,
            inbound,
            connection: found,
            process,
            decided_by: told.rule,
            allowed: told.verdict == Verdict::Allow,
        })
    }

    /// Of an allowing rule, what is everything.
    fn broad_parts(&self, number: ClauseNumber) -> Vec<&'static str> {
        let outside = || self.world.spots.iter().filter(|spot| spot.role == Role::Outside);
        let everywhere = |direction: Direction| {
            outside().all(|spot| {
                spot.views.first().is_some_and(|view| self.is_far(view, direction, number))
            })
        };
        let held = Bits::of(self.world.services.len(), |class| self.side().holds(class, number));
        let found = [
            ("from", everywhere(Direction::In)),
            ("to", everywhere(Direction::Out)),
            ("services", self.world.services.is_broad(&held)),
        ];
        found.into_iter().filter(|(_, broad)| *broad).map(|(part, _)| part).collect()
    }

    /// Of a rule that never matches, the ends that mean nobody. None if both mean somebody, but never the two ends of one
    /// flow.
    fn empty_parts(&self, number: ClauseNumber) -> Vec<&'static str> {
        let spots = self.world.spots.iter().flat_map(|spot| &spot.views);
        let own = self.world.own.iter().flat_map(|own| own.places.iter().chain(&own.loopback));
        let views: Vec<&View> = spots.chain(own.flatten()).collect();
        let means = |near: Direction, far: Direction| {
            let near = |view: &View| {
                let [out, into] = view.near;
                let mask = if near == Direction::Out { out } else { into };
                self.side().mask_holds(mask, number)
            };
            views.iter().any(|view| near(view) || self.is_far(view, far, number))
        };
        let found = [
            ("from", means(Direction::Out, Direction::In)),
            ("to", means(Direction::In, Direction::Out)),
        ];
        found.into_iter().filter(|(_, means)| !means).map(|(part, _)| part).collect()
    }

    fn is_far(&self, view: &View, direction: Direction, number: ClauseNumber) -> bool {
        let [out, into] = view.far;
        let mask = if direction == Direction::Out { out } else { into };
        self.side().mask_holds(mask, number)
    }
}

/// The connection as the end of `direction` sees it.
fn flow(direction: Direction, found: &Connection, subject: verdict::Subject) -> Flow {
    let address = |text: Option<&String>| match text.and_then(|text| text.parse().ok()) {
        Some(std::net::IpAddr::V4(v4)) => Address::v4(v4.to_bits()),
        Some(std::net::IpAddr::V6(v6)) => Address::from_bits(v6.to_bits()),
        None => Address::UNSPECIFIED_V4,
    };
    let source = Endpoint { address: address(found.from_address.as_ref()), port: 0 };
    let target = Endpoint { address: address(Some(&found.to_address)), port: found.port };
    let (local, remote) = match direction {
        Direction::Out => (source, target),
        Direction::In => (target, source),
    };
    Flow { direction, protocol: Protocol(found.protocol), local, remote, subject }
}
