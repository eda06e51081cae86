//! What is said twice: statements that speak of the whole policy, rules, tests, elements of lists.

use std::collections::BTreeMap;

use super::walk;
use crate::{
    diagnostic::{Code, Diagnostic, Diagnostics, SourceIndex},
    format,
    policy::Policy,
    span::Span,
    syntax::{
        Answer, Document, Expression, Failsafe, Inbound, LabelTest, Mode, Qualifier, RuleMode,
        Selector, Statement, Test, Tier, Way, Word,
    },
};

/// What is said of the policy as a whole.
pub(super) struct Whole {
    pub(super) tier: Tier,
    pub(super) mode: Mode,
    pub(super) inbound: Inbound,
}

/// Reads the statements that may stand once, and reports those that stand twice.
pub(super) fn statements(
    source: SourceIndex,
    document: &Document,
    report: &mut Diagnostics,
) -> Whole {
    let mut whole =
        Whole { tier: Tier::default(), mode: Mode::default(), inbound: Inbound::default() };
    let mut seen: BTreeMap<&str, Span> = BTreeMap::new();
    for (line, statement) in document.statements() {
        let what = match statement {
            Statement::Tier(_) => "tier",
            Statement::Mode(_) => "mode",
            Statement::Inbound(_) => "inbound",
            Statement::Default(default) if default.way == Way::In => "default in",
            Statement::Default(_) => "default out",
            Statement::Failsafe(Failsafe::None) => "failsafe none",
            Statement::Failsafe(Failsafe::Flows(_))
            | Statement::Name(_)
            | Statement::Rule(_)
            | Statement::Test(_) => continue,
        };
        if let Some(&first) = seen.get(what) {
            let message = if let Statement::Default(default) = statement {
                format!("the default of direction {} is given twice", default.way.word())
            } else {
                format!("`{what}` is given twice")
            };
            report.push(
                Diagnostic::new(Code::RepeatedStatement, source, line.span, message).related(
                    source,
                    first,
                    "first given here",
                ),
            );
            continue;
        }
        seen.insert(what, line.span);
        match statement {
            Statement::Tier(tier) => whole.tier = *tier,
            Statement::Mode(mode) => whole.mode = *mode,
            Statement::Inbound(inbound) => whole.inbound = *inbound,
            Statement::Default(_)
            | Statement::Failsafe(_)
            | Statement::Name(_)
            | Statement::Rule(_)
            | Statement::Test(_) => {}
        }
    }
    whole
}

/// Reports defaults that contradict each other in two documents, and a failsafe set that is both none and some.
pub(super) fn across(policies: &[Policy], report: &mut Diagnostics) {
    let mut defaults: BTreeMap<Way, (Answer, SourceIndex, Span)> = BTreeMap::new();
    let (mut none, mut some) = (None, None);
    for policy in policies {
        for (line, statement) in policy.document.statements() {
            if let Statement::Default(default) = statement {
                let (answer, source, span) = *defaults.entry(default.way).or_insert((
                    default.answer,
                    policy.source,
                    line.span,
                ));
                if answer != default.answer && source != policy.source {
                    let message = format!(
                        "the default of direction {} is given twice and differently",
                        default.way.word()
                    );
                    let diagnostic =
                        Diagnostic::new(Code::RepeatedStatement, policy.source, line.span, message);
                    report.push(diagnostic.related(source, span, "first given here"));
                }
            } else if let Statement::Failsafe(failsafe) = statement {
                let first = if *failsafe == Failsafe::None { &mut none } else { &mut some };
                first.get_or_insert((policy.source, line.span));
            }
        }
    }
    if let (Some((source, span)), Some((other, there))) = (none, some) {
        let message = "the failsafe set is none and yet has flows";
        let diagnostic = Diagnostic::new(Code::ContradictoryOptions, source, span, message);
        report.push(diagnostic.related(other, there, "a flow of the failsafe set"));
    }
}

/// Reports rules and tests that say the same as an earlier one.
pub(super) fn rules(
    source: SourceIndex,
    text: &str,
    document: &Document,
    report: &mut Diagnostics,
) {
    let mut seen: BTreeMap<(Option<RuleMode>, String), Span> = BTreeMap::new();
    for (line, statement) in document.statements() {
        let key = match statement {
            Statement::Rule(rule) => (rule.mode, format::essence(rule)),
            Statement::Test(Test { .. }) => (None, format::statement(statement)),
            Statement::Tier(_)
            | Statement::Mode(_)
            | Statement::Name(_)
            | Statement::Default(_)
            | Statement::Inbound(_)
            | Statement::Failsafe(_) => continue,
        };
        let is_test = matches!(statement, Statement::Test(_));
        let Some(&first) = seen.get(&key) else {
            seen.insert(key, line.span);
            continue;
        };
        let twins = spells_mapped(text, first) != spells_mapped(text, line.span);
        let (code, message) = match (is_test, twins) {
            (true, _) => (Code::RepeatedTest, "this test says what an earlier one says"),
            (false, true) => (
                Code::MappedTwin,
                "an IPv4 address and its `::ffff:` form are one: this rule says what an earlier one says",
            ),
            (false, false) => (Code::RepeatedRule, "this rule says what an earlier one says"),
        };
        report.push(Diagnostic::new(code, source, line.span, message).related(
            source,
            first,
            "the earlier one",
        ));
    }
}

fn spells_mapped(text: &str, span: Span) -> bool {
    text.get(span.range()).unwrap_or_default().to_ascii_lowercase().contains("::ffff:")
}

/// Reports lists that name something twice.
pub(super) fn elements(
    source: SourceIndex,
    text: &str,
    document: &Document,
    report: &mut Diagnostics,
) {
    let mut list = |elements: &mut dyn ExactSizeIterator<Item = (String, Span)>| {
        if elements.len() < 2 {
            return;
        }
        let mut seen: BTreeMap<String, Span> = BTreeMap::new();
        for (element, span) in elements {
            let Some(&first) = seen.get(&element) else {
                seen.insert(element, span);
                continue;
            };
            let twins = spells_mapped(text, first) != spells_mapped(text, span);
            let (code, message) = if twins {
                (
                    Code::MappedTwin,
                    format!(
                        "an IPv4 address and its `::ffff:` form are one: `{element}` is in the list already"
                    ),
                )
            } else {
                (Code::RepeatedElement, format!("`{element}` is in the list already"))
            };
            report.push(Diagnostic::new(code, source, span, message).related(
                source,
                first,
                "first named here",
            ));
        }
    };
    for (_, statement) in document.statements() {
        for selector in statement.selectors() {
            selector.each(&mut |selector: &Selector| match &*selector.expression {
                Expression::AnyOf(members) | Expression::AllOf(members) => {
                    list(
                        &mut members
                            .iter()
                            .map(|member| (format::selector_text(member), member.span)),
                    );
                }
                Expression::Label {
                    key: _,
                    test: LabelTest::In(values) | LabelTest::NotIn(values),
                } => list(&mut values.iter().map(plain)),
                Expression::Label { .. }
                | Expression::Any
                | Expression::Me
                | Expression::Named(_)
                | Expression::Addresses(_)
                | Expression::Not(_)
                | Expression::Except(..) => {}
            });
        }
        list(
            &mut walk::services(statement)
                .iter()
                .map(|service| (service.kind.to_string(), service.span)),
        );
        if let Some((from, to)) = statement.ends() {
            for process in [&from.process, &to.process].into_iter().flatten() {
                for of in Qualifier::ALL {
                    list(&mut process.values(of).iter().map(plain));
                }
            }
        }
    }
}

fn plain(word: &Word) -> (String, Span) {
    (word.text.clone(), word.span)
}
