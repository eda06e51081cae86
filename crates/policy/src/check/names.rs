//! Names: defined once, used somewhere, of the right kind, not by themselves. And labels that no host has.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::walk;
use crate::{
    diagnostic::{Code, Diagnostic, Diagnostics, SourceIndex},
    inventory::HOST_KEY,
    limits::REPORTED_MAX,
    nearest::nearest,
    roll::Roll,
    span::Span,
    syntax::{
        Document, Expression, LabelTest, Meaning, Name, Selector, Service, ServiceKind, Statement,
        Word,
    },
};

/// The names of a document.
pub(super) struct Found {
    /// Line of each name's first definition.
    pub(super) lines: BTreeMap<String, usize>,
    /// Lines of the definitions, each after those it uses; those in a circle are left out.
    pub(super) order: Vec<usize>,
}

/// One place where a name is used.
struct Use<'a> {
    word: &'a str,
    span: Span,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Selector,
    Services,
}

/// `complete`: no statement was left out, so that a name which is not used here is not used at all.
pub(super) fn look_up(
    source: SourceIndex,
    document: &Document,
    damaged: &BTreeSet<&str>,
    complete: bool,
    roll: Option<&dyn Roll>,
    report: &mut Diagnostics,
) -> Found {
    let definitions = definitions(source, document, roll, report);
    let mut used: BTreeSet<&str> = BTreeSet::new();
    for (_, _, statement) in walk::numbered(document) {
        for place in uses(statement) {
            let Some(&(_, name)) = definitions.get(place.word) else {
                let is_host = place.kind == Kind::Selector
                    && roll.is_some_and(|roll| roll.id(place.word).is_some());
                if !is_host && !damaged.contains(place.word) {
                    let diagnostic = undefined(
                        source,
                        &place,
                        &definitions,
                        roll,
                        report.errors() < REPORTED_MAX,
                    );
                    report.push(diagnostic);
                }
                continue;
            };
            used.insert(place.word);
            wrong_kind(source, &place, name, report);
        }
    }
    for (word, (_, name)) in &definitions {
        if complete && !used.contains(word) {
            let message = format!("`{word}` is defined and never used");
            report.push(Diagnostic::new(Code::UnusedName, source, name.name.span, message));
        }
    }
    let order = order(source, &definitions, report);
    Found {
        lines: definitions.iter().map(|(&word, &(line, _))| (word.to_owned(), line)).collect(),
        order,
    }
}

type Definitions<'a> = BTreeMap<&'a str, (usize, &'a Name)>;

fn definitions<'a>(
    source: SourceIndex,
    document: &'a Document,
    roll: Option<&dyn Roll>,
    report: &mut Diagnostics,
) -> Definitions<'a> {
    let mut definitions = Definitions::new();
    for (at, _, statement) in walk::numbered(document) {
        let Statement::Name(name) = statement else { continue };
        let word = name.name.text.as_str();
        if let Some((_, first)) = definitions.get(word) {
            let diagnostic = Diagnostic::new(
                Code::RepeatedName,
                source,
                name.name.span,
                format!("`{word}` is defined twice"),
            );
            report.push(diagnostic.related(source, first.name.span, "first defined here"));
            continue;
        }
        definitions.insert(word, (at, name));
        if roll.is_some_and(|roll| roll.id(word).is_some()) {
            let message = format!("the name `{word}` hides the host of that id or name");
            let help = format!("the host itself is `host={word}`");
            report.push(
                Diagnostic::new(Code::HiddenHost, source, name.name.span, message).help(help),
            );
        }
    }
    definitions
}

fn uses(statement: &Statement) -> Vec<Use<'_>> {
    let mut uses: Vec<Use<'_>> = statement.selectors().into_iter().flat_map(uses_of).collect();
    uses.extend(walk::services(statement).iter().filter_map(use_of));
    uses
}

fn uses_in(name: &Name) -> Vec<Use<'_>> {
    match &name.means {
        Meaning::Selector(selector) => uses_of(selector),
        Meaning::Services(services) => services.iter().filter_map(use_of).collect(),
    }
}

fn uses_of(selector: &Selector) -> Vec<Use<'_>> {
    let mut uses = Vec::new();
    selector.each(&mut |selector| {
        if let Expression::Named(word) = &*selector.expression {
            uses.push(Use { word, span: selector.span, kind: Kind::Selector });
        }
    });
    uses
}

fn use_of(service: &Service) -> Option<Use<'_>> {
    let ServiceKind::Named(word) = &service.kind else { return None };
    Some(Use { word, span: service.span, kind: Kind::Services })
}

fn kind_of(name: &Name) -> Kind {
    match name.means {
        Meaning::Selector(_) => Kind::Selector,
        Meaning::Services(_) => Kind::Services,
    }
}

/// `thorough`: whether to look for the nearest known name, which takes a look at all of them.
fn undefined(
    source: SourceIndex,
    place: &Use<'_>,
    definitions: &Definitions<'_>,
    roll: Option<&dyn Roll>,
    thorough: bool,
) -> Diagnostic {
    let word = place.word;
    let message = match (place.kind, roll) {
        (Kind::Services, _) => format!("`{word}` is not the name of a service"),
        (Kind::Selector, Some(_)) => {
            format!("`{word}` is neither a name of this document nor a host")
        }
        (Kind::Selector, None) => format!(
            "`{word}` is not a name of this document, and without an inventory no host is known"
        ),
    };
    let diagnostic =
        Diagnostic::new(Code::UndefinedName, source, place.span, message).label("not known");
    if !thorough {
        return diagnostic;
    }
    let names = definitions
        .iter()
        .filter(|(_, (_, name))| kind_of(name) == place.kind)
        .map(|(&word, _)| word);
    let hosts =
        roll.filter(|_| place.kind == Kind::Selector).into_iter().flat_map(|roll| roll.words());
    let values = roll.filter(|_| place.kind == Kind::Selector).and_then(|roll| {
        let key = roll.keys().find(|key| roll.has_label(key, word))?;
        Some(format!("hosts with that label are `{key}={word}`"))
    });
    match (values, nearest(word, names.chain(hosts))) {
        (Some(help), _) => diagnostic.help(help),
        (None, Some(near)) => diagnostic.help(format!("did you mean `{near}`?")),
        (None, None) => diagnostic,
    }
}

fn wrong_kind(source: SourceIndex, place: &Use<'_>, name: &Name, report: &mut Diagnostics) {
    if kind_of(name) == place.kind {
        return;
    }
    let message = match place.kind {
        Kind::Selector => format!("`{}` names services, not hosts", place.word),
        Kind::Services => format!("`{}` names hosts, not services", place.word),
    };
    let diagnostic = Diagnostic::new(Code::WrongKind, source, place.span, message);
    report.push(diagnostic.related(source, name.name.span, "defined here"));
}

/// Lines of the definitions, each after those it uses. Names in circles are reported and left out.
fn order(
    source: SourceIndex,
    definitions: &Definitions<'_>,
    report: &mut Diagnostics,
) -> Vec<usize> {
    let index: BTreeMap<&str, usize> =
        definitions.keys().enumerate().map(|(at, &word)| (word, at)).collect();
    let names: Vec<(usize, &Name)> = definitions.values().copied().collect();
    let needs: Vec<Vec<usize>> = names
        .iter()
        .map(|(_, name)| {
            let mut needs: Vec<usize> =
                uses_in(name).iter().filter_map(|place| index.get(place.word).copied()).collect();
            needs.sort_unstable();
            needs.dedup();
            needs
        })
        .collect();
    let mut needed_by: Vec<Vec<usize>> = vec![Vec::new(); names.len()];
    let mut missing: Vec<usize> = needs.iter().map(Vec::len).collect();
    for (at, needs) in needs.iter().enumerate() {
        for &need in needs {
            needed_by[need].push(at);
        }
    }
    let mut ready: VecDeque<usize> = (0..names.len()).filter(|&at| missing[at] == 0).collect();
    let mut order = Vec::with_capacity(names.len());
    while let Some(at) = ready.pop_front() {
        order.push(names[at].0);
        for &user in &needed_by[at] {
            missing[user] -= 1;
            if missing[user] == 0 {
                ready.push_back(user);
            }
        }
    }
    let words: Vec<&Word> = names.iter().map(|(_, name)| &name.name).collect();
    report_circles(source, &words, &needs, &missing, report);
    order
}

/// Follows, from each name that is left over, the first left-over name it needs, until a name comes up again.
fn report_circles(
    source: SourceIndex,
    words: &[&Word],
    needs: &[Vec<usize>],
    missing: &[usize],
    report: &mut Diagnostics,
) {
    const SHOWN_MAX: usize = 8;
    let mut seen_in: Vec<Option<usize>> = vec![None; words.len()];
    for start in (0..words.len()).filter(|&at| missing[at] > 0) {
        let mut path = Vec::new();
        let mut next = Some(start);
        while let Some(at) = next {
            if seen_in[at].is_some() {
                break;
            }
            seen_in[at] = Some(start);
            path.push(at);
            next = needs[at].iter().copied().find(|&need| missing[need] > 0);
        }
        let Some(again) = next.filter(|&at| seen_in[at] == Some(start)) else { continue };
        let circle: Vec<usize> = path.iter().copied().skip_while(|&at| at != again).collect();
        let first = words[again];
        let shown: Vec<&str> =
            circle.iter().take(SHOWN_MAX).map(|&at| words[at].text.as_str()).collect();
        let dots = if circle.len() > SHOWN_MAX { " -> ..." } else { "" };
        let message = format!(
            "`{}` is defined by itself: {}{dots} -> {}",
            first.text,
            shown.join(" -> "),
            first.text
        );
        report.push(Diagnostic::new(Code::RecursiveName, source, first.span, message));
    }
}

/// Warns of labels and values that no host has.
pub(super) fn look_up_labels(
    source: SourceIndex,
    document: &Document,
    roll: &dyn Roll,
    report: &mut Diagnostics,
) {
    for (_, _, statement) in walk::numbered(document) {
        for selector in statement.selectors() {
            selector.each(&mut |selector| {
                if let Expression::Label { key, test } = &*selector.expression {
                    look_up_label(source, key, test, roll, report);
                }
            });
        }
    }
}

fn look_up_label(
    source: SourceIndex,
    key: &Word,
    test: &LabelTest,
    roll: &dyn Roll,
    report: &mut Diagnostics,
) {
    let thorough = report.warnings() < REPORTED_MAX;
    let mut warn = |span: Span, message: String, near: Option<&str>| {
        let mut diagnostic = Diagnostic::new(Code::UnknownLabel, source, span, message);
        diagnostic.help = near.map(|near| format!("did you mean `{near}`?"));
        report.push(diagnostic);
    };
    let is_host = key.text == HOST_KEY;
    if !is_host && roll.values(&key.text).next().is_none() {
        let near = thorough.then(|| nearest(&key.text, roll.keys())).flatten();
        warn(key.span, format!("no host has a label `{}`", key.text), near);
        return;
    }
    let values = match test {
        LabelTest::Present => &[],
        LabelTest::Is(value) | LabelTest::IsNot(value) => std::slice::from_ref(value),
        LabelTest::In(values) | LabelTest::NotIn(values) => values.as_slice(),
    };
    for value in values {
        if is_host && roll.id(&value.text) != Some(value.text.as_str()) {
            let near = thorough.then(|| nearest(&value.text, roll.words())).flatten();
            warn(value.span, format!("no host has the id `{}`", value.text), near);
        } else if !is_host && !roll.has_label(&key.text, &value.text) {
            let near = thorough.then(|| nearest(&value.text, roll.values(&key.text))).flatten();
            warn(value.span, format!("no host has the label `{}={}`", key.text, value.text), near);
        }
    }
}
