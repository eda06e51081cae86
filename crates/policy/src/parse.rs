//! Bytes to a syntax tree. Faults are collected, at most one for the order of words in a statement and any number for
//! values; a statement with a fault is left out of the tree, and the document is then refused by whoever asks.

mod rule;
mod selector;

use std::collections::BTreeMap;

use crate::{
    diagnostic::{Code, Diagnostic, Diagnostics, SourceIndex},
    lex::{Lexer, Token, TokenKind},
    limits::{DOCUMENT_BYTES_MAX, WORD_BYTES_MAX},
    nearest::nearest,
    span::Span,
    syntax::{
        Answer, Default, Document, Failsafe, Inbound, Line, Meaning, Mode, Name, Service,
        ServiceError, ServiceKind, Statement, Tier, Way, Word,
    },
};

/// A document as far as it could be read.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    /// The statements without faults.
    pub document: Document,
    /// Names whose definitions have faults: they are defined, but nobody knows as what.
    pub damaged_names: Vec<String>,
    /// How many statements were left out.
    pub damaged: usize,
}

/// Reads `bytes` as the text form of a policy. Faults go to `report`, as those of document `source`.
///
/// Takes time and memory linear in the size, which is limited to [`DOCUMENT_BYTES_MAX`].
pub fn parse(bytes: &[u8], source: SourceIndex, report: &mut Diagnostics) -> Parsed {
    let Some(text) = text_of(bytes, source, report) else { return Parsed::default() };
    parse_text(text, source, report)
}

/// `bytes` as text, if they are, and no more than a document has.
pub(crate) fn text_of<'a>(
    bytes: &'a [u8],
    source: SourceIndex,
    report: &mut Diagnostics,
) -> Option<&'a str> {
    if bytes.len() > DOCUMENT_BYTES_MAX {
        let message =
            format!("the document has {} bytes, more than {DOCUMENT_BYTES_MAX}", bytes.len());
        report.push(Diagnostic::new(Code::TooLarge, source, Span::default(), message));
        return None;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) => {
            let at = error.valid_up_to();
            // As text the bytes that do not belong there are shown as one U+FFFD.
            let span = Span::new(at, at + char::REPLACEMENT_CHARACTER.len_utf8());
            let message =
                format!("the document is not UTF-8 text: byte {at} does not belong there");
            report.push(Diagnostic::new(Code::NotUtf8, source, span, message));
            None
        }
    }
}

fn parse_text(text: &str, source: SourceIndex, report: &mut Diagnostics) -> Parsed {
    let mut lexer = Lexer::new(text, source);
    let mut parsed = Parsed::default();
    while let Some(tokens) = lexer.next(report) {
        let comment = |span: Span| text.get(span.range()).unwrap_or_default().to_owned();
        for &span in &tokens.inner_comments {
            parsed.document.lines.push(Line {
                statement: None,
                comment: Some(comment(span)),
                span,
            });
        }
        let mut line = Line {
            statement: None,
            comment: tokens.comment.map(comment),
            span: tokens.comment.unwrap_or_default(),
        };
        if tokens.tokens.len() > 1 {
            let mut parser = Parser {
                text,
                source,
                tokens: &tokens.tokens,
                at: 0,
                depth: 0,
                damaged: tokens.damaged,
                report,
            };
            line.span = parser.statement_span();
            if !tokens.damaged {
                line.statement = parser.statement().ok().filter(|_| !parser.damaged);
            }
            if line.statement.is_none() {
                parsed.damaged += 1;
                parsed.damaged_names.extend(parser.name_being_defined());
            }
        }
        parsed.document.lines.push(line);
    }
    tell_kinds_apart(&mut parsed.document);
    parsed
}

/// `name a = b` does not say whether `b` is a selector or a service: where `b` turns out to name services, so does `a`.
fn tell_kinds_apart(document: &mut Document) {
    let mut found: Vec<String> = Vec::new();
    let mut aliases: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (at, line) in document.lines.iter().enumerate() {
        let Some(Statement::Name(Name { name, means })) = &line.statement else { continue };
        match means {
            Meaning::Services(_) => found.push(name.text.clone()),
            Meaning::Selector(selector) => {
                for (word, _) in selector.as_names().unwrap_or_default() {
                    aliases.entry(word.to_owned()).or_default().push(at);
                }
            }
        }
    }
    // Each name is taken out of `aliases` once, so each definition is looked at once for each word in it.
    while let Some(service) = found.pop() {
        for at in aliases.remove(&service).unwrap_or_default() {
            let Some(Statement::Name(Name { name, means })) =
                document.lines.get_mut(at).and_then(|line| line.statement.as_mut())
            else {
                continue;
            };
            let Meaning::Selector(selector) = &*means else { continue };
            let words = selector.as_names().unwrap_or_default().into_iter();
            let list = words
                .map(|(word, span)| Service { kind: ServiceKind::Named(word.to_owned()), span })
                .collect();
            found.push(name.text.clone());
            *means = Meaning::Services(list);
        }
    }
}

/// The fault is in the report already.
#[derive(Clone, Copy, Debug)]
struct Reported;

/// Reads one statement's tokens.
struct Parser<'a, 'r> {
    text: &'a str,
    source: SourceIndex,
    tokens: &'a [Token],
    at: usize,
    depth: u32,
    damaged: bool,
    report: &'r mut Diagnostics,
}

/// The first words of statements.
const STATEMENTS: [&str; 12] = [
    "tier", "mode", "name", "allow", "deny", "refuse", "audit", "draft", "default", "inbound",
    "failsafe", "test",
];

/// Words that mean something in selectors and services and so cannot be names.
pub(crate) const RESERVED: [&str; 8] = ["any", "me", "has", "not", "in", "except", "none", "host"];

impl<'a> Parser<'a, '_> {
    fn statement(&mut self) -> Result<Statement, Reported> {
        let statement = match self.word() {
            Some("tier") => Statement::Tier(self.choice("a tier", &TIERS)?),
            Some("mode") => Statement::Mode(self.choice("a mode", &MODES)?),
            Some("default") => {
                self.bump();
                let answer = self.one_of("a default", &ANSWERS)?;
                Statement::Default(Default { answer, way: self.one_of("a direction", &WAYS)? })
            }
            Some("inbound") => {
                Statement::Inbound(self.choice("an answer to denied peers", &INBOUNDS)?)
            }
            Some("name") => Statement::Name(self.name()?),
            Some("failsafe") => {
                self.bump();
                if self.take_word("none") {
                    Statement::Failsafe(Failsafe::None)
                } else {
                    Statement::Failsafe(Failsafe::Flows(Box::new(self.flows()?)))
                }
            }
            Some("test") => Statement::Test(self.test()?),
            Some("audit" | "draft" | "allow" | "deny" | "refuse") => Statement::Rule(self.rule()?),
            found => {
                let near = found.and_then(|word| nearest(word, STATEMENTS));
                let label = "a line begins with allow, deny, refuse, audit, draft, name, tier, mode, default, inbound, failsafe or test";
                return Err(self.expected_near("a statement", label, near));
            }
        };
        if self.peek().kind == TokenKind::End {
            Ok(statement)
        } else {
            Err(self.expected("the end of the line"))
        }
    }

    /// The keyword that was looked at, then one of `choices`.
    fn choice<T: Copy>(&mut self, what: &str, choices: &[(&str, T)]) -> Result<T, Reported> {
        self.bump();
        self.one_of(what, choices)
    }

    fn one_of<T: Copy>(&mut self, what: &str, choices: &[(&str, T)]) -> Result<T, Reported> {
        let word = self.word();
        if let Some(&(_, value)) = choices.iter().find(|(name, _)| word == Some(name)) {
            self.bump();
            return Ok(value);
        }
        let names: Vec<&str> = choices.iter().map(|&(name, _)| name).collect();
        let near = word.and_then(|word| nearest(word, names.iter().copied()));
        Err(self.expected_near(what, &names.join(" or "), near))
    }

    fn name(&mut self) -> Result<Name, Reported> {
        self.bump();
        let token = self.peek();
        let Some(word) = self.word() else { return Err(self.expected("a name")) };
        self.bump();
        if !crate::syntax::is_name(word) {
            let message = format!("`{}` cannot be a name", shown(word));
            let label = "a letter or `_`, then letters, digits, `_`, `-` and `.`";
            self.fault(
                Diagnostic::new(Code::Syntax, self.source, token.span, message).label(label),
            );
        } else if RESERVED.contains(&word) || crate::syntax::is_protocol(word) {
            let message = format!("`{word}` is a word of the language and cannot be a name");
            self.fault(Diagnostic::new(Code::ReservedName, self.source, token.span, message));
        }
        let name = Word { text: word.to_owned(), span: token.span };
        self.sign(TokenKind::Equals, "`=`")?;
        let means = if self.lists_services() {
            Meaning::Services(self.services()?)
        } else {
            Meaning::Selector(self.selector()?)
        };
        Ok(Name { name, means })
    }

    /// Whether an element of the list that is next can only be a service: an outermost word between commas that has a
    /// `/` and is no prefix, is a port, or is a protocol.
    fn lists_services(&self) -> bool {
        let mut depth = 0_u32;
        let mut starts = true;
        let rest = self.tokens.get(self.at..).unwrap_or_default();
        for (token, next) in rest.iter().zip(rest.iter().skip(1)) {
            let ends = matches!(next.kind, TokenKind::Comma | TokenKind::End);
            if depth == 0
                && starts
                && ends
                && token.kind == TokenKind::Word
                && is_service_word(self.text_of(*token))
            {
                return true;
            }
            match token.kind {
                TokenKind::Open => depth += 1,
                TokenKind::Close => depth = depth.saturating_sub(1),
                TokenKind::Word
                | TokenKind::Quoted
                | TokenKind::Arrow
                | TokenKind::Colon
                | TokenKind::Comma
                | TokenKind::OpenBracket
                | TokenKind::CloseBracket
                | TokenKind::Equals
                | TokenKind::Differs
                | TokenKind::Not
                | TokenKind::And
                | TokenKind::Or
                | TokenKind::End => {}
            }
            starts = token.kind == TokenKind::Comma;
        }
        false
    }

    fn services(&mut self) -> Result<Vec<Service>, Reported> {
        let mut services = Vec::new();
        loop {
            let token = self.peek();
            let Some(word) = self.word() else { return Err(self.expected("a service")) };
            self.bump();
            match word.parse::<ServiceKind>() {
                Ok(kind) => services.push(Service { kind, span: token.span }),
                Err(error) => {
                    let code = match error {
                        ServiceError::PortZero | ServiceError::Port(_) => Code::Port,
                        ServiceError::Reversed { .. } => Code::ReversedRange,
                        ServiceError::NoProtocol(_)
                        | ServiceError::NoPorts(_)
                        | ServiceError::Protocol(_)
                        | ServiceError::Portless(_)
                        | ServiceError::Malformed(_) => Code::Service,
                    };
                    self.fault(Diagnostic::new(code, self.source, token.span, error.to_string()));
                }
            }
            if !self.take(TokenKind::Comma) {
                return Ok(services);
            }
        }
    }

    // === tokens ===

    fn peek(&self) -> Token {
        // The last token is End and is never passed.
        self.tokens
            .get(self.at)
            .or(self.tokens.last())
            .copied()
            .unwrap_or(Token { kind: TokenKind::End, span: Span::default() })
    }

    fn bump(&mut self) -> Token {
        let token = self.peek();
        self.at = (self.at + 1).min(self.tokens.len().saturating_sub(1));
        token
    }

    fn follows(&self, kind: TokenKind) -> bool {
        self.tokens.get(self.at + 1).is_some_and(|token| token.kind == kind)
    }

    fn text_of(&self, token: Token) -> &'a str {
        self.text.get(token.span.range()).unwrap_or_default()
    }

    /// The word that is next, if a bare word is next.
    fn word(&self) -> Option<&'a str> {
        let token = self.peek();
        (token.kind == TokenKind::Word).then(|| self.text_of(token))
    }

    fn take(&mut self, kind: TokenKind) -> bool {
        let found = self.peek().kind == kind;
        if found {
            self.bump();
        }
        found
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.word() == Some(word);
        if found {
            self.bump();
        }
        found
    }

    fn sign(&mut self, kind: TokenKind, what: &str) -> Result<Token, Reported> {
        if self.peek().kind == kind { Ok(self.bump()) } else { Err(self.expected(what)) }
    }

    /// A bare word or quoted text.
    fn value(&mut self, what: &str) -> Result<Word, Reported> {
        let token = self.peek();
        let text = match token.kind {
            TokenKind::Word => self.text_of(token).to_owned(),
            TokenKind::Quoted => unquoted(self.text_of(token)),
            TokenKind::Arrow
            | TokenKind::Colon
            | TokenKind::Comma
            | TokenKind::Open
            | TokenKind::Close
            | TokenKind::OpenBracket
            | TokenKind::CloseBracket
            | TokenKind::Equals
            | TokenKind::Differs
            | TokenKind::Not
            | TokenKind::And
            | TokenKind::Or
            | TokenKind::End => return Err(self.expected(what)),
        };
        self.bump();
        if text.is_empty() {
            let message = format!("{what} is empty");
            self.fault(Diagnostic::new(Code::EmptySet, self.source, token.span, message));
        }
        Ok(Word { text, span: token.span })
    }

    fn statement_span(&self) -> Span {
        let first = self.tokens.first().map(|token| token.span).unwrap_or_default();
        let end = self.tokens.last().map(|token| token.span).unwrap_or_default();
        first.to(end)
    }

    /// The span from `start` to the token before the next one.
    fn since(&self, start: Span) -> Span {
        let last = self.tokens.get(self.at.saturating_sub(1)).map_or(start, |token| token.span);
        start.to(last)
    }

    fn name_being_defined(&self) -> Option<String> {
        let [first, second, ..] = self.tokens else { return None };
        let defines = first.kind == TokenKind::Word
            && self.text_of(*first) == "name"
            && second.kind == TokenKind::Word;
        defines.then(|| self.text_of(*second).to_owned())
    }

    // === faults ===

    /// Reports a fault after which the statement can be read on.
    fn fault(&mut self, diagnostic: Diagnostic) {
        self.damaged = true;
        self.report.push(diagnostic);
    }

    fn expected(&mut self, what: &str) -> Reported {
        self.expected_near(what, "", None)
    }

    fn expected_near(&mut self, what: &str, label: &str, near: Option<&str>) -> Reported {
        let token = self.peek();
        let found = match token.kind {
            TokenKind::End => "the line ends".to_owned(),
            TokenKind::Quoted => "found quoted text".to_owned(),
            TokenKind::Word
            | TokenKind::Arrow
            | TokenKind::Colon
            | TokenKind::Comma
            | TokenKind::Open
            | TokenKind::Close
            | TokenKind::OpenBracket
            | TokenKind::CloseBracket
            | TokenKind::Equals
            | TokenKind::Differs
            | TokenKind::Not
            | TokenKind::And
            | TokenKind::Or => format!("found `{}`", shown(self.text_of(token))),
        };
        let mut diagnostic = Diagnostic::new(
            Code::Syntax,
            self.source,
            token.span,
            format!("expected {what}, but {found}"),
        )
        .label(label);
        if let Some(near) = near {
            diagnostic = diagnostic.help(format!("did you mean `{near}`?"));
        }
        self.fault(diagnostic);
        Reported
    }
}

fn is_service_word(word: &str) -> bool {
    if selector::is_addresses(word) {
        return false;
    }
    match word.parse::<ServiceKind>() {
        Ok(ServiceKind::Ports(..))
        | Err(ServiceError::NoProtocol(_) | ServiceError::NoPorts(_)) => true,
        Ok(ServiceKind::Any | ServiceKind::Named(_)) => false,
        Err(
            ServiceError::Protocol(_)
            | ServiceError::PortZero
            | ServiceError::Port(_)
            | ServiceError::Reversed { .. }
            | ServiceError::Portless(_)
            | ServiceError::Malformed(_),
        ) => word.contains('/'),
    }
}

const TIERS: [(&str, Tier); 3] =
    [("admin", Tier::Admin), ("team", Tier::Team), ("baseline", Tier::Baseline)];
const MODES: [(&str, Mode); 3] =
    [("draft", Mode::Draft), ("audit", Mode::Audit), ("enforce", Mode::Enforce)];
const ANSWERS: [(&str, Answer); 2] = [("allow", Answer::Allow), ("deny", Answer::Deny)];
const WAYS: [(&str, Way); 2] = [("in", Way::In), ("out", Way::Out)];
const INBOUNDS: [(&str, Inbound); 2] = [("reject", Inbound::Reject), ("drop", Inbound::Drop)];

/// Quoted text without its quotes and escapes. The lexer saw to it that only `\"` and `\\` are there.
fn unquoted(quoted: &str) -> String {
    let inner = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
    let mut text = String::with_capacity(inner.len().min(WORD_BYTES_MAX));
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => text.extend(characters.next()),
            other => text.push(other),
        }
    }
    text
}

/// A word as a message shows it: not more of it than people read.
fn shown(word: &str) -> String {
    const SHOWN_CHARACTERS_MAX: usize = 60;
    match word.char_indices().nth(SHOWN_CHARACTERS_MAX) {
        Some((at, _)) => format!("{}...", word.get(..at).unwrap_or_default()),
        None => word.to_owned(),
    }
}
