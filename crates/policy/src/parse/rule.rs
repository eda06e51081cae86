//! Rules, tests and the failsafe set: what stands on both sides of an arrow, and what follows.

use super::{ANSWERS, Parser, Reported};
use crate::{
    diagnostic::{Code, Diagnostic},
    lex::TokenKind,
    nearest::nearest,
    span::Span,
    syntax::{
        Effect, End, Existing, Flows, Options, Process, Qualifier, Rule, RuleMode, Service, Test,
        Word,
    },
};

const EFFECTS: [(&str, Effect); 3] =
    [("allow", Effect::Allow), ("deny", Effect::Deny), ("refuse", Effect::Refuse)];
const EXISTINGS: [(&str, Existing); 2] = [("keep", Existing::Keep), ("revoke", Existing::Revoke)];
const OPTIONS: [&str; 6] = ["id", "reason", "owner", "until", "existing", "log"];

impl Parser<'_, '_> {
    pub(super) fn rule(&mut self) -> Result<Rule, Reported> {
        let start = self.peek().span;
        let mode = match self.word() {
            Some("draft") => Some(RuleMode::Draft),
            Some("audit") => Some(RuleMode::Audit),
            _ => None,
        };
        if mode.is_some() {
            self.bump();
        }
        let effect = self.one_of("a rule", &EFFECTS)?;
        let Flows { from, to, services } = self.flows()?;
        let options = self.options()?;
        Ok(Rule { mode, effect, from, to, services, options, span: self.since(start) })
    }

    pub(super) fn test(&mut self) -> Result<Test, Reported> {
        let start = self.bump().span;
        let answer = self.one_of("what the test expects", &ANSWERS)?;
        let flows = self.flows()?;
        Ok(Test { answer, flows, span: self.since(start) })
    }

    /// `FROM -> TO : SERVICES`; no services are `any`.
    pub(super) fn flows(&mut self) -> Result<Flows, Reported> {
        let from = self.end()?;
        self.sign(TokenKind::Arrow, "`->`")?;
        let to = self.end()?;
        let services = if self.take(TokenKind::Colon) {
            self.services()?
        } else {
            vec![Service::any(to.span)]
        };
        Ok(Flows { from, to, services })
    }

    fn end(&mut self) -> Result<End, Reported> {
        let start = self.peek().span;
        let selector = self.selector()?;
        let process =
            if self.peek().kind == TokenKind::OpenBracket { Some(self.process()?) } else { None };
        Ok(End { selector, process, span: self.since(start) })
    }

    /// `[user=www-data exe in (/usr/bin/a, /usr/bin/b)]`
    fn process(&mut self) -> Result<Process, Reported> {
        let open = self.bump().span;
        let mut process = Process::default();
        while !self.take(TokenKind::CloseBracket) {
            let token = self.peek();
            let word = self.word();
            let of = Qualifier::ALL.into_iter().find(|of| word == Some(of.word()));
            let Some(of) = of else {
                let near = word.and_then(|word| nearest(word, Qualifier::ALL.map(Qualifier::word)));
                return Err(self.expected_near(
                    "a process qualifier or `]`",
                    "user, group, exe, unit, container or netns",
                    near,
                ));
            };
            let list = process.values_mut(of);
            self.bump();
            if !list.is_empty() {
                let message = format!("`{}` is given twice", self.text_of(token));
                let help = "one of several is `in (a, b)`";
                self.fault(
                    Diagnostic::new(Code::RepeatedOption, self.source, token.span, message)
                        .help(help),
                );
            }
            *list = if self.take_word("in") {
                self.values("a value")?
            } else {
                self.sign(TokenKind::Equals, "`=` or `in`")?;
                vec![self.value("a value")?]
            };
        }
        process.span = self.since(open);
        if process.is_any() {
            let message = "empty brackets say nothing about the process";
            self.fault(
                Diagnostic::new(Code::EmptySet, self.source, process.span, message)
                    .help("leave them out for any process"),
            );
        }
        Ok(process)
    }

    fn options(&mut self) -> Result<Options, Reported> {
        let mut options = Options::default();
        let mut given: Vec<(&str, Span)> = Vec::new();
        while self.peek().kind != TokenKind::End {
            let token = self.peek();
            let word = self.word();
            let Some(&option) = OPTIONS.iter().find(|&&option| word == Some(option)) else {
                let near = word.and_then(|word| nearest(word, OPTIONS));
                let what = if given.is_empty() {
                    "`:`, an option or the end of the line"
                } else {
                    "an option or the end of the line"
                };
                return Err(self.expected_near(
                    what,
                    "options are id, reason, owner, until, existing and log",
                    near,
                ));
            };
            self.bump();
            if let Some(&(_, first)) = given.iter().find(|(name, _)| *name == option) {
                let message = format!("`{option}` is given twice");
                let diagnostic =
                    Diagnostic::new(Code::RepeatedOption, self.source, token.span, message);
                self.fault(diagnostic.related(self.source, first, "first given here"));
            }
            given.push((option, token.span));
            self.option(option, &mut options)?;
        }
        Ok(options)
    }

    fn option(&mut self, option: &str, options: &mut Options) -> Result<(), Reported> {
        if option == "log" {
            options.log = true;
            return Ok(());
        }
        // `until 2027-01-31` and `reason="..."` read best; either sign is taken for either.
        self.take(TokenKind::Equals);
        match option {
            "id" => options.id = Some(self.value("an id")?),
            "reason" => options.reason = Some(self.value("a reason")?),
            "owner" => options.owner = Some(self.value("an owner")?),
            "existing" => {
                options.existing =
                    Some(self.one_of("what happens to existing connections", &EXISTINGS)?)
            }
            _ => {
                let Word { text, span } = self.value("a day or a moment")?;
                match text.parse() {
                    Ok(until) => options.until = Some(until),
                    Err(error) => {
                        let error: crate::syntax::UntilError = error;
                        self.fault(Diagnostic::new(
                            Code::Date,
                            self.source,
                            span,
                            error.to_string(),
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}
