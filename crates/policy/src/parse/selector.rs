//! Selectors: `except` binds loosest, then `,` and `|`, then `&`, then `not`.

use super::{Parser, RESERVED, Reported, shown};
use crate::{
    diagnostic::{Code, Diagnostic},
    lex::TokenKind,
    limits::NESTING_MAX,
    span::Span,
    syntax::{AddressError, Addresses, Expression, LabelTest, Selector, Word},
};

impl Parser<'_, '_> {
    pub(super) fn selector(&mut self) -> Result<Selector, Reported> {
        let start = self.peek().span;
        let from = self.union()?;
        if !self.take_word("except") {
            return Ok(from);
        }
        let without = self.union()?;
        if self.word() == Some("except") {
            let label = "write parentheses to say what is taken from what";
            return Err(self.expected_near("one `except`", label, None));
        }
        Ok(Selector::new(Expression::Except(from, without), self.since(start)))
    }

    fn union(&mut self) -> Result<Selector, Reported> {
        let start = self.peek().span;
        let mut members = vec![self.intersection()?];
        while self.take(TokenKind::Comma) || self.take(TokenKind::Or) {
            members.push(self.intersection()?);
        }
        Ok(self.joined(members, Expression::AnyOf, start))
    }

    fn intersection(&mut self) -> Result<Selector, Reported> {
        let start = self.peek().span;
        let mut members = vec![self.complement()?];
        while self.take(TokenKind::And) {
            members.push(self.complement()?);
        }
        Ok(self.joined(members, Expression::AllOf, start))
    }

    /// One member is itself; more are what `join` makes of them.
    fn joined(
        &self,
        mut members: Vec<Selector>,
        join: fn(Vec<Selector>) -> Expression,
        start: Span,
    ) -> Selector {
        if members.len() > 1 {
            return Selector::new(join(members), self.since(start));
        }
        members.pop().expect("a list is parsed with its first member")
    }

    fn complement(&mut self) -> Result<Selector, Reported> {
        let start = self.peek().span;
        let negated = self.word() == Some("not")
            && !self.follows(TokenKind::Equals)
            && !self.follows(TokenKind::Differs);
        if !negated && self.peek().kind != TokenKind::Not {
            return self.primary();
        }
        self.bump();
        let inner = self.nested(start, Self::complement)?;
        Ok(Selector::new(Expression::Not(inner), self.since(start)))
    }

    /// One level deeper, if there is one.
    fn nested(
        &mut self,
        start: Span,
        inner: fn(&mut Self) -> Result<Selector, Reported>,
    ) -> Result<Selector, Reported> {
        if self.depth >= NESTING_MAX {
            let message = format!("the selector is nested more than {NESTING_MAX} levels deep");
            self.fault(
                Diagnostic::new(Code::TooDeep, self.source, start, message)
                    .help("give the inner part a name"),
            );
            return Err(Reported);
        }
        self.depth += 1;
        let selector = inner(self);
        self.depth -= 1;
        selector
    }

    fn primary(&mut self) -> Result<Selector, Reported> {
        let token = self.peek();
        if self.take(TokenKind::Open) {
            if self.peek().kind == TokenKind::Close {
                let message = "an empty list is neither `any` nor nobody";
                self.fault(Diagnostic::new(
                    Code::EmptySet,
                    self.source,
                    token.span.to(self.peek().span),
                    message,
                ));
                return Err(Reported);
            }
            let selector = self.nested(token.span, Self::selector)?;
            self.sign(TokenKind::Close, "`)`")?;
            return Ok(selector);
        }
        let Some(word) = self.word() else {
            let label = if token.kind == TokenKind::Quoted {
                "a host with such an id is `host=\"...\"`"
            } else {
                ""
            };
            return Err(self.expected_near("hosts or addresses", label, None));
        };
        if let Some(expression) = self.label_test()? {
            return Ok(Selector::new(expression, self.since(token.span)));
        }
        let expression = match word {
            "any" => Expression::Any,
            "me" => Expression::Me,
            reserved if RESERVED.contains(&reserved) => {
                return Err(self.expected("hosts or addresses"));
            }
            addresses if is_addresses(addresses) => self.addresses(addresses),
            // In a list of a `name` line such a word makes the whole list one of services, so it can stand for nothing
            // else anywhere: what one place means, every place means.
            service if super::is_service_word(service) => {
                let message =
                    format!("`{}` is a service, and hosts or addresses stand here", shown(service));
                let help = format!("a host of that id is `host={}`", shown(service));
                let fault = Diagnostic::new(Code::Syntax, self.source, token.span, message);
                self.fault(fault.help(help));
                return Err(Reported);
            }
            name if crate::syntax::is_bare_host(name) => Expression::Named(name.to_owned()),
            other => {
                let message = format!("`{}` is neither a name, a host nor addresses", shown(other));
                self.fault(Diagnostic::new(Code::Syntax, self.source, token.span, message));
                return Err(Reported);
            }
        };
        self.bump();
        Ok(Selector::new(expression, token.span))
    }

    fn addresses(&mut self, text: &str) -> Expression {
        match text.parse::<Addresses>() {
            Ok(addresses) => Expression::Addresses(addresses),
            Err(error) => {
                let span = self.peek().span;
                let (code, help) = match &error {
                    AddressError::HostBits { network, .. } => {
                        (Code::HostBits, Some(format!("write `{network}`, or the address alone")))
                    }
                    AddressError::Reversed(_) => (Code::ReversedRange, None),
                    AddressError::Malformed(_)
                    | AddressError::Zone(_)
                    | AddressError::Length { .. }
                    | AddressError::Families(_) => (Code::Address, None),
                };
                let mut diagnostic = Diagnostic::new(code, self.source, span, error.to_string());
                diagnostic.help = help;
                self.fault(diagnostic);
                // Never becomes part of a tree: the statement is damaged.
                Expression::Any
            }
        }
    }

    /// `key=value`, `key!=value`, `key in (...)`, `key not in (...)` or `has key`, if one of them is next.
    fn label_test(&mut self) -> Result<Option<Expression>, Reported> {
        let next_word = |parser: &Self, at: usize| {
            parser
                .tokens
                .get(parser.at + at)
                .filter(|token| token.kind == TokenKind::Word)
                .map(|&token| parser.text_of(token))
        };
        if self.word() == Some("has")
            && !self.follows(TokenKind::Equals)
            && !self.follows(TokenKind::Differs)
        {
            self.bump();
            let key = self.key()?;
            return Ok(Some(Expression::Label { key, test: LabelTest::Present }));
        }
        let test = if self.follows(TokenKind::Equals) {
            let key = self.key()?;
            self.bump();
            return Ok(Some(Expression::Label {
                key,
                test: LabelTest::Is(self.value("the value of a label")?),
            }));
        } else if self.follows(TokenKind::Differs) {
            let key = self.key()?;
            self.bump();
            return Ok(Some(Expression::Label {
                key,
                test: LabelTest::IsNot(self.value("the value of a label")?),
            }));
        } else if next_word(self, 1) == Some("in") {
            LabelTest::In
        } else if next_word(self, 1) == Some("not") && next_word(self, 2) == Some("in") {
            LabelTest::NotIn
        } else {
            return Ok(None);
        };
        let key = self.key()?;
        while self.word() != Some("in") {
            self.bump();
        }
        self.bump();
        let values = self.values("the value of a label")?;
        Ok(Some(Expression::Label { key, test: test(values) }))
    }

    fn key(&mut self) -> Result<Word, Reported> {
        let token = self.peek();
        let Some(word) = self.word() else { return Err(self.expected("the key of a label")) };
        if !crate::syntax::is_key(word) {
            let message = format!("`{}` cannot be the key of a label", shown(word));
            self.fault(Diagnostic::new(Code::Syntax, self.source, token.span, message));
        }
        self.bump();
        Ok(Word { text: word.to_owned(), span: token.span })
    }

    /// `(value, value)`; never empty.
    pub(super) fn values(&mut self, what: &str) -> Result<Vec<Word>, Reported> {
        let open = self.sign(TokenKind::Open, "`(`")?;
        if self.peek().kind == TokenKind::Close {
            let message = "an empty list can match nothing";
            self.fault(Diagnostic::new(
                Code::EmptySet,
                self.source,
                open.span.to(self.peek().span),
                message,
            ));
            return Err(Reported);
        }
        let mut values = vec![self.value(what)?];
        while self.take(TokenKind::Comma) {
            values.push(self.value(what)?);
        }
        self.sign(TokenKind::Close, "`,` or `)`")?;
        Ok(values)
    }
}

/// Whether a word looks like an address, a prefix or a range of either family, well-formed or not.
pub(super) fn is_addresses(word: &str) -> bool {
    let numeric = word.starts_with(|first: char| first.is_ascii_digit())
        && word.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'/' | b'-'))
        && word.contains(['.', '/']);
    word.contains(':') || numeric
}
