//! The one way to write a policy: statements with single blanks, lists wrapped, comments and single empty lines kept.
//!
//! What is printed reads back as the same tree, and printing that again changes nothing.

use std::fmt::Write as _;

use crate::syntax::{
    Answer, Document, Effect, End, Existing, Expression, Failsafe, Flows, Inbound, LabelTest, Line,
    Meaning, Mode, Options, Qualifier, Rule, RuleMode, Selector, Service, Statement, Tier, Way,
    Word, is_bare,
};

/// Columns that a line takes before its lists are wrapped.
const COLUMNS: usize = 100;
/// What wrapped lines begin with.
const INDENT: &str = "    ";

/// Writes `document` in its text form.
pub fn format(document: &Document) -> String {
    let mut out = String::new();
    let mut empty_before = true;
    for line in &document.lines {
        let empty = line.statement.is_none() && line.comment.is_none();
        if !(empty && empty_before) {
            write_line(&mut out, line);
            out.push('\n');
        }
        empty_before = empty;
    }
    while out.ends_with("\n\n") {
        out.pop();
    }
    if out == "\n" { String::new() } else { out }
}

fn write_line(out: &mut String, line: &Line) {
    if let Some(said) = &line.statement {
        wrap(out, &statement(said));
    }
    if let Some(comment) = &line.comment {
        let gap = if line.statement.is_some() { "  " } else { "" };
        push(out, format_args!("{gap}#{comment}"));
    }
}

/// Breaks a long statement after commas, which is where a statement may go on in the next line. Quoted commas are not
/// lists', and a line must not begin with what looks like another rule.
fn wrap(out: &mut String, statement: &str) {
    if statement.chars().count() <= COLUMNS {
        out.push_str(statement);
        return;
    }
    let mut pieces = Vec::new();
    let (mut start, mut quoted, mut escaped) = (0, false, false);
    for (at, byte) in statement.bytes().enumerate() {
        match byte {
            b'"' if !escaped => quoted = !quoted,
            b',' if !quoted => {
                pieces.push(statement.get(start..=at).unwrap_or_default().trim_start());
                start = at + 1;
            }
            _ => {}
        }
        escaped = byte == b'\\' && !escaped;
    }
    pieces.push(statement.get(start..).unwrap_or_default().trim_start());
    let mut columns = 0;
    for piece in pieces {
        let width = piece.chars().count();
        if columns == 0 {
            columns = width;
        } else if columns + 1 + width <= COLUMNS || crate::lex::begins_rule(piece) {
            out.push(' ');
            columns += 1 + width;
        } else {
            out.push('\n');
            out.push_str(INDENT);
            columns = INDENT.len() + width;
        }
        out.push_str(piece);
    }
}

/// One statement on one line.
pub fn statement(statement: &Statement) -> String {
    let mut out = String::new();
    match statement {
        Statement::Tier(tier) => push(&mut out, format_args!("tier {}", tier.word())),
        Statement::Mode(mode) => push(&mut out, format_args!("mode {}", mode.word())),
        Statement::Name(name) => {
            push(&mut out, format_args!("name {} = ", name.name.text));
            match &name.means {
                Meaning::Selector(selector) => write_selector(&mut out, selector, Binding::Except),
                Meaning::Services(list) => services(&mut out, list),
            }
        }
        Statement::Rule(rule) => write_rule(&mut out, rule),
        Statement::Default(default) => {
            push(
                &mut out,
                format_args!("default {} {}", default.answer.word(), default.way.word()),
            );
        }
        Statement::Inbound(inbound) => push(&mut out, format_args!("inbound {}", inbound.word())),
        Statement::Failsafe(Failsafe::None) => out.push_str("failsafe none"),
        Statement::Failsafe(Failsafe::Flows(between)) => {
            out.push_str("failsafe ");
            flows(&mut out, &between.from, &between.to, &between.services);
        }
        Statement::Test(test) => {
            push(&mut out, format_args!("test {} ", test.answer.word()));
            let Flows { from, to, services } = &test.flows;
            flows(&mut out, from, to, services);
        }
    }
    out
}

/// What a rule says besides its mode and its options.
pub(crate) fn essence(rule: &Rule) -> String {
    let mut out = String::new();
    push(&mut out, format_args!("{} ", rule.effect.word()));
    flows(&mut out, &rule.from, &rule.to, &rule.services);
    out
}

fn write_rule(out: &mut String, rule: &Rule) {
    if let Some(mode) = rule.mode {
        push(out, format_args!("{} ", mode.word()));
    }
    out.push_str(&essence(rule));
    let Options { id, reason, owner, until, existing, log } = &rule.options;
    for (option, word) in [("id", id), ("reason", reason), ("owner", owner)] {
        if let Some(word) = word {
            push(out, format_args!(" {option}="));
            quoted(out, &word.text);
        }
    }
    if let Some(until) = until {
        push(out, format_args!(" until {until}"));
    }
    if let Some(existing) = existing {
        push(out, format_args!(" existing {}", existing.word()));
    }
    if *log {
        out.push_str(" log");
    }
}

fn flows(out: &mut String, from: &End, to: &End, list: &[Service]) {
    end(out, from);
    out.push_str(" -> ");
    end(out, to);
    out.push_str(" : ");
    services(out, list);
}

fn services(out: &mut String, services: &[Service]) {
    for (at, service) in services.iter().enumerate() {
        let gap = if at > 0 { ", " } else { "" };
        push(out, format_args!("{gap}{}", service.kind));
    }
}

fn end(out: &mut String, end: &End) {
    write_selector(out, &end.selector, Binding::Except);
    let Some(process) = &end.process else { return };
    let mut gap = "[";
    for of in Qualifier::ALL {
        let (key, list) = (of.word(), process.values(of));
        if let [one] = list {
            push(out, format_args!("{gap}{key}="));
            word(out, one);
            gap = " ";
        } else if !list.is_empty() {
            push(out, format_args!("{gap}{key} in "));
            values(out, list);
            gap = " ";
        }
    }
    out.push(']');
}

/// How tight the place binds that a selector is written in; what binds looser needs parentheses there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Binding {
    /// The whole selector.
    Except,
    /// One side of `except`, or a member of a list.
    Union,
    /// A member of `,` or `|`.
    Intersection,
    /// A member of `&`.
    Complement,
    /// What `not` negates.
    Primary,
}

/// A selector as it is written on its own.
pub(crate) fn selector_text(selector: &Selector) -> String {
    let mut out = String::new();
    write_selector(&mut out, selector, Binding::Except);
    out
}

fn write_selector(out: &mut String, selector: &Selector, place: Binding) {
    let own = match &*selector.expression {
        Expression::Except(..) => Binding::Except,
        Expression::AnyOf(_) => Binding::Union,
        Expression::AllOf(_) => Binding::Intersection,
        Expression::Not(_) => Binding::Complement,
        Expression::Any
        | Expression::Me
        | Expression::Named(_)
        | Expression::Addresses(_)
        | Expression::Label { .. } => Binding::Primary,
    };
    let bracketed = own < place;
    if bracketed {
        out.push('(');
    }
    match &*selector.expression {
        Expression::Any => out.push_str("any"),
        Expression::Me => out.push_str("me"),
        Expression::Named(name) => out.push_str(name),
        Expression::Addresses(addresses) => push(out, format_args!("{addresses}")),
        Expression::Label { key, test } => label(out, key, test),
        Expression::Not(inner) => {
            out.push_str("not ");
            write_selector(out, inner, Binding::Complement);
        }
        Expression::AllOf(members) => joined(out, members, " & ", Binding::Complement),
        // Outermost lists read best with commas; inside parentheses `|` shows that it is no list of values.
        Expression::AnyOf(members) => {
            joined(out, members, if bracketed { " | " } else { ", " }, Binding::Intersection)
        }
        Expression::Except(from, without) => {
            write_selector(out, from, Binding::Union);
            out.push_str(" except ");
            write_selector(out, without, Binding::Union);
        }
    }
    if bracketed {
        out.push(')');
    }
}

fn joined(out: &mut String, members: &[Selector], sign: &str, place: Binding) {
    for (at, member) in members.iter().enumerate() {
        if at > 0 {
            out.push_str(sign);
        }
        write_selector(out, member, place);
    }
}

fn label(out: &mut String, key: &Word, test: &LabelTest) {
    let key = &key.text;
    match test {
        LabelTest::Present => push(out, format_args!("has {key}")),
        LabelTest::Is(value) => {
            push(out, format_args!("{key}="));
            word(out, value);
        }
        LabelTest::IsNot(value) => {
            push(out, format_args!("{key}!="));
            word(out, value);
        }
        LabelTest::In(list) => {
            push(out, format_args!("{key} in "));
            values(out, list);
        }
        LabelTest::NotIn(list) => {
            push(out, format_args!("{key} not in "));
            values(out, list);
        }
    }
}

fn values(out: &mut String, list: &[Word]) {
    for (at, value) in list.iter().enumerate() {
        out.push_str(if at > 0 { ", " } else { "(" });
        word(out, value);
    }
    out.push(')');
}

/// Bare where it can be, else quoted.
fn word(out: &mut String, word: &Word) {
    if is_bare(&word.text) { out.push_str(&word.text) } else { quoted(out, &word.text) }
}

fn quoted(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            out.push('\\');
        }
        out.push(character);
    }
    out.push('"');
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a String cannot fail");
}

macro_rules! words {
    ($($type:ident { $($value:ident $word:literal),* })*) => {
        $(impl $type {
            /// The word of the language for it.
            pub fn word(self) -> &'static str {
                match self { $(Self::$value => $word),* }
            }
        })*
    };
}

words! {
    Tier { Admin "admin", Team "team", Baseline "baseline" }
    Mode { Draft "draft", Audit "audit", Enforce "enforce" }
    RuleMode { Draft "draft", Audit "audit" }
    Effect { Allow "allow", Deny "deny", Refuse "refuse" }
    Answer { Allow "allow", Deny "deny" }
    Way { In "in", Out "out" }
    Inbound { Reject "reject", Drop "drop" }
    Existing { Keep "keep", Revoke "revoke" }
}
