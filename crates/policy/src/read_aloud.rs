//! The policies as their authors would read them aloud to someone who asks about one flow: line by line, host by host.
//!
//! Slow and obvious on purpose. It knows the syntax tree and the inventory and nothing else: no address sets, no classes,
//! no tables, nothing of `compile`, with which it is compared on random policies, inventories and flows.

mod selector;

use jiff::Timestamp;
use verdict::{Direction, Flow, Verdict};

use crate::{
    facts::{Facts, Identities},
    policy::Policy,
    syntax::{Answer, Effect, End, Failsafe, Mode, Process, Service, Statement, Tier, Way, Word},
};
use selector::Reader;

/// A verdict with the id of the rule that made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Allow or deny.
    pub verdict: Verdict,
    /// The id of a rule, `failsafe:DOCUMENT.LINE`, `loopback`, `default-in` or `default-out`.
    pub rule: String,
}

/// What the policies say about a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spoken {
    /// By the rules in force.
    pub enforced: Said,
    /// By the rules in audit, too.
    pub would: Said,
}

/// One rule that speaks of the flow.
#[derive(Clone, Debug)]
pub(crate) struct Voice {
    /// 0 failsafe, 1 to 3 the policies' own, 4 loopback, 5 the defaults.
    pub(crate) tier: u8,
    pub(crate) said: Said,
    pub(crate) audit: bool,
}

/// Judges `flow` at the host of `facts` by `policies`, which were checked together without errors.
pub fn read_aloud(policies: &[Policy], facts: &Facts<'_>, flow: &Flow) -> Spoken {
    let voices = voices(policies, facts, flow);
    Spoken {
        enforced: decide(voices.iter().filter(|voice| !voice.audit)),
        would: decide(voices.iter()),
    }
}

/// Everything that speaks of the flow, in the order of the documents and of the text.
pub(crate) fn voices(policies: &[Policy], facts: &Facts<'_>, flow: &Flow) -> Vec<Voice> {
    let mut voices = Vec::new();
    let readers: Vec<Reader<'_>> =
        policies.iter().map(|policy| Reader::new(policy, facts, flow)).collect();
    readers.iter().for_each(|reader| voices.extend(failsafe(reader)));
    readers.iter().for_each(|reader| voices.extend(rules(reader)));
    if flow.remote.address.is_loopback() {
        let said = Said { verdict: Verdict::Allow, rule: "loopback".to_owned() };
        voices.push(Voice { tier: 4, said, audit: false });
    }
    voices.extend(default(policies, flow.direction));
    voices
}

/// The first tier in which any rule speaks decides, and in it a rule that denies, and of several the first.
pub(crate) fn decide<'a>(voices: impl Iterator<Item = &'a Voice> + Clone) -> Said {
    let first = voices.clone().map(|voice| voice.tier).min();
    let tier = voices.filter(|voice| Some(voice.tier) == first);
    let denying = tier.clone().find(|voice| voice.said.verdict == Verdict::Deny);
    let voice = denying.or_else(|| tier.clone().next());
    voice.map(|voice| voice.said.clone()).expect("a default always speaks")
}

fn failsafe(reader: &Reader<'_>) -> Vec<Voice> {
    let policy = reader.policy;
    if policy.mode == Mode::Draft {
        return Vec::new();
    }
    let mut voices = Vec::new();
    let lines = policy.failsafe().filter(|line| **line != Failsafe::None);
    for (at, line) in lines.enumerate() {
        if let Failsafe::Flows(flows) = line
            && speaks(reader, Verdict::Allow, &flows.from, &flows.to, &flows.services)
        {
            let rule = format!("failsafe:{}.{at}", policy.source);
            let said = Said { verdict: Verdict::Allow, rule };
            voices.push(Voice { tier: 0, said, audit: false });
        }
    }
    voices
}

fn rules(reader: &Reader<'_>) -> Vec<Voice> {
    let (policy, facts) = (reader.policy, reader.facts);
    let tier = match policy.tier {
        Tier::Admin => 1,
        Tier::Team => 2,
        Tier::Baseline => 3,
    };
    let mut voices = Vec::new();
    for written in policy.rules() {
        let rule = written.rule;
        let ended = rule.options.until.is_some_and(|until| has_ended(until.ends_at(), facts.now));
        let verdict = match rule.effect {
            Effect::Allow => Verdict::Allow,
            Effect::Deny | Effect::Refuse => Verdict::Deny,
        };
        if written.mode == Mode::Draft || ended {
            continue;
        }
        if speaks(reader, verdict, &rule.from, &rule.to, &rule.services) {
            let said = Said { verdict, rule: written.id.to_owned() };
            voices.push(Voice { tier, said, audit: written.mode == Mode::Audit });
        }
    }
    voices
}

fn has_ended(end: Timestamp, now: Timestamp) -> bool {
    end <= now
}

/// Whether a rule with these ends and services speaks of the flow at this host.
fn speaks(
    reader: &Reader<'_>,
    verdict: Verdict,
    from: &End,
    to: &End,
    services: &[Service],
) -> bool {
    let (near, far) = match reader.flow.direction {
        Direction::Out => (from, to),
        Direction::In => (to, from),
    };
    // The far process is not known here: whoever denies it is the end where it lives.
    let left_to_the_other_end = verdict == Verdict::Deny && names_a_process(far);
    !left_to_the_other_end
        && services.iter().any(|service| reader.serves(&service.kind))
        && reader.means_peer(&far.selector)
        && reader.means_us(&near.selector)
        && near.process.as_ref().is_none_or(|process| runs(reader, process))
}

fn names_a_process(end: &End) -> bool {
    end.process.as_ref().is_some_and(|process| !process.is_any())
}

/// Whether the flow's process is meant.
fn runs(reader: &Reader<'_>, process: &Process) -> bool {
    let identities: &dyn Identities = reader.facts.identities;
    let subject = &reader.flow.subject;
    let number = |word: &Word| word.text.parse::<u32>().ok();
    let within = |now: Option<u64>, former: Vec<u64>| {
        subject.cgroups().any(|cgroup| now == Some(cgroup) || former.contains(&cgroup))
    };
    let one = |words: &[Word], is: &dyn Fn(&Word) -> bool| words.is_empty() || words.iter().any(is);
    one(&process.user, &|user| {
        number(user).or_else(|| identities.user(&user.text)) == Some(subject.uid)
    }) && one(&process.group, &|group| {
        number(group).or_else(|| identities.group(&group.text)) == Some(subject.gid)
    }) && one(&process.exe, &|exe| {
        subject.exe != 0
            && (identities.exe(&exe.text) == Some(subject.exe)
                || identities.former_exes(&exe.text).contains(&subject.exe))
    }) && one(&process.unit, &|unit| {
        within(identities.unit(&unit.text), identities.former_units(&unit.text))
    }) && one(&process.container, &|container| {
        within(identities.container(&container.text), identities.former_containers(&container.text))
    }) && one(&process.netns, &|netns| {
        subject.netns != 0 && identities.netns(&netns.text) == Some(subject.netns)
    })
}

/// What is said where no rule speaks. A default in audit is heard beside the built-in one, which allows.
fn default(policies: &[Policy], direction: Direction) -> Vec<Voice> {
    let (way, id) = match direction {
        Direction::Out => (Way::Out, "default-out"),
        Direction::In => (Way::In, "default-in"),
    };
    let voice = |verdict, audit| {
        let said = Said { verdict, rule: id.to_owned() };
        Voice { tier: 5, said, audit }
    };
    let mut voices = Vec::new();
    for policy in policies.iter().filter(|policy| policy.mode != Mode::Draft) {
        for (_, statement) in policy.document.statements() {
            if let Statement::Default(default) = statement
                && default.way == way
            {
                let verdict = match default.answer {
                    Answer::Allow => Verdict::Allow,
                    Answer::Deny => Verdict::Deny,
                };
                voices.push(voice(verdict, policy.mode == Mode::Audit));
            }
        }
    }
    if voices.iter().all(|voice| voice.audit) {
        voices.push(voice(Verdict::Allow, false));
    }
    voices
}
