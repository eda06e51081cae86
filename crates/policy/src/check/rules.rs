//! Each rule by itself: options that exclude each other, rules that have ended, processes that cannot exist.

use jiff::Timestamp;

use super::walk;
use crate::{
    diagnostic::{Code, Diagnostic, Diagnostics, SourceIndex},
    policy::effective,
    syntax::{
        CONTAINER_DIGITS_MAX, CONTAINER_DIGITS_MIN, Document, Effect, Existing, Mode, Process,
        Rule, RuleMode, Statement, Word, is_bare, is_container_id,
    },
};

/// Bytes of a rule's id: it becomes a label of metrics and a field of events.
const ID_BYTES_MAX: usize = 128;

pub(super) fn judge(
    source: SourceIndex,
    document: &Document,
    mode: Mode,
    now: Timestamp,
    report: &mut Diagnostics,
) {
    for (_, _, statement) in walk::numbered(document) {
        if let Some((from, to)) = statement.ends() {
            for process in [&from.process, &to.process].into_iter().flatten() {
                judge_process(source, process, report);
            }
        }
        if let Statement::Rule(rule) = statement {
            judge_rule(source, rule, mode, now, report);
        }
    }
}

fn judge_rule(
    source: SourceIndex,
    rule: &Rule,
    policy_mode: Mode,
    now: Timestamp,
    report: &mut Diagnostics,
) {
    let mut say = |code: Code, message: String, help: &str| {
        let mut diagnostic = Diagnostic::new(code, source, rule.span, message);
        diagnostic.help = (!help.is_empty()).then(|| help.to_owned());
        report.push(diagnostic);
    };
    let mode = effective(policy_mode, rule.mode);
    let options = &rule.options;
    if options.existing == Some(Existing::Revoke) {
        if rule.effect == Effect::Allow {
            let help = "`existing revoke` belongs to deny and refuse";
            say(
                Code::ContradictoryOptions,
                "a rule that allows has no connections to revoke".to_owned(),
                help,
            );
        } else if rule.mode.is_some() {
            let help = "leave out `existing revoke` until the rule is enforced";
            say(
                Code::ContradictoryOptions,
                format!("a rule in {} mode revokes nothing", mode.word()),
                help,
            );
        } else if mode != Mode::Enforce {
            say(
                Code::NoEffect,
                format!("`existing revoke` has no effect in a policy in {} mode", mode.word()),
                "",
            );
        }
    }
    if options.log && mode == Mode::Draft {
        say(Code::NoEffect, "`log` has no effect: a draft decides nothing".to_owned(), "");
    }
    if rule.mode == Some(RuleMode::Audit) && policy_mode == Mode::Draft {
        say(
            Code::NoEffect,
            "`audit` has no effect in a policy that is a draft".to_owned(),
            "of two modes the weaker one holds",
        );
    }
    if let Some(until) = options.until.filter(|until| until.ends_at() <= now) {
        say(
            Code::Expired,
            format!("the rule has ended: until {until}"),
            "remove it, or give it a later day",
        );
    }
    if let Some(id) = &options.id
        && (!is_bare(&id.text) || id.text.len() > ID_BYTES_MAX)
    {
        let message = format!(
            "an id has at most {ID_BYTES_MAX} letters, digits, `_`, `-`, `.`, `/`, `@` and `+`"
        );
        report.push(Diagnostic::new(Code::Syntax, source, id.span, message));
    }
}

fn judge_process(source: SourceIndex, process: &Process, report: &mut Diagnostics) {
    let Process { user, group, exe, unit, container, netns, span: _ } = process;
    let mut say = |word: &Word, message: String, help: String| {
        report.push(Diagnostic::new(Code::Syntax, source, word.span, message).help(help));
    };
    for (word, what) in
        user.iter().map(|word| (word, "user")).chain(group.iter().map(|word| (word, "group")))
    {
        let number = word.text.bytes().all(|byte| byte.is_ascii_digit());
        // The largest number means "no such user" to the kernel (chown(2)).
        if number && word.text.parse::<u32>().map_or(true, |number| number == u32::MAX) {
            say(
                word,
                format!("`{}` is too large for the number of a {what}", word.text),
                "0 to 4294967294 are numbers".to_owned(),
            );
        }
    }
    for word in exe {
        if !word.text.starts_with('/') {
            say(
                word,
                format!("`{}` is not an absolute path", word.text),
                "exe is compared with the executable's path".to_owned(),
            );
        }
    }
    for word in unit {
        let text = &word.text;
        if text == "/" {
            say(
                word,
                "every process is in the root of the cgroups".to_owned(),
                "leave `unit` out for any process".to_owned(),
            );
        } else if let Some(below) = text.strip_prefix('/') {
            if below.split('/').any(|part| matches!(part, "" | "." | "..")) {
                say(
                    word,
                    format!("`{text}` is not the path of a cgroup"),
                    "one has no empty part, no `.`, no `..` and no `/` at its end".to_owned(),
                );
            }
        } else if text.contains('/') {
            say(
                word,
                format!("`{text}` is neither the name of a unit nor an absolute path"),
                format!("did you mean `/{text}`?"),
            );
        } else if !text.contains('.') {
            say(
                word,
                format!("`{text}` is not the full name of a unit"),
                format!("did you mean `{text}.service`?"),
            );
        }
    }
    for word in container {
        let text = &word.text;
        let hexadecimal = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if hexadecimal && !is_container_id(text) || text.contains('/') {
            say(
                word,
                format!("`{text}` is not the id of a container"),
                format!(
                    "the first {CONTAINER_DIGITS_MIN} to all {CONTAINER_DIGITS_MAX} of its digits, 0 to 9 and a to f"
                ),
            );
        }
    }
    for word in netns {
        let text = &word.text;
        if text.contains('/') && !text.starts_with('/') || matches!(text.as_str(), "." | "..") {
            say(
                word,
                format!("`{text}` is neither the name of a network namespace nor an absolute path"),
                "a name is one as `ip netns` knows it, and `host` is that of process 1".to_owned(),
            );
        }
    }
}
