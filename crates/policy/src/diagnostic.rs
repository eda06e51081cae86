//! What is wrong with a document: collected, each with its code, its place, what was expected and what may be meant.

mod code;
mod machine;
mod render;

pub use code::Code;
pub use machine::{sarif, short};
pub use render::render;

use crate::{limits::REPORTED_MAX, span::Span};

/// Which of the documents that are checked together; counts from 0 in the order they were given.
pub type SourceIndex = usize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The policy is refused.
    Error,
    /// The policy holds, but probably does not say what was meant.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What kind of thing; fixes the severity.
    pub code: Code,
    /// In which document.
    pub source: SourceIndex,
    /// Where in it.
    pub span: Span,
    /// What is wrong: one sentence, lower case, no full stop.
    pub message: String,
    /// A few words for below the caret; may be empty.
    pub label: String,
    /// What to do about it.
    pub help: Option<String>,
    /// Other places that have to do with it.
    pub related: Vec<Related>,
}

/// Another place that has to do with a diagnostic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Related {
    /// In which document.
    pub source: SourceIndex,
    /// Where in it.
    pub span: Span,
    /// What is there.
    pub label: String,
}

impl Diagnostic {
    /// With nothing but the message.
    pub fn new(code: Code, source: SourceIndex, span: Span, message: impl Into<String>) -> Self {
        Self {
            code,
            source,
            span,
            message: message.into(),
            label: String::new(),
            help: None,
            related: Vec::new(),
        }
    }

    /// With a few words for below the caret.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// With what to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// With another place.
    #[must_use]
    pub fn related(mut self, source: SourceIndex, span: Span, label: impl Into<String>) -> Self {
        self.related.push(Related { source, span, label: label.into() });
        self
    }

    /// Error or warning.
    pub fn severity(&self) -> Severity {
        self.code.severity()
    }
}

/// What was found, at most [`REPORTED_MAX`] errors and as many warnings; the others are counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    reported: Vec<Diagnostic>,
    errors: usize,
    warnings: usize,
}

impl Diagnostics {
    /// Adds one.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        let count = match diagnostic.severity() {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        *count += 1;
        if *count <= REPORTED_MAX {
            self.reported.push(diagnostic);
        }
    }

    /// Adds all of `found`.
    pub(crate) fn append(&mut self, found: Self) {
        let (errors, warnings) = (self.errors + found.errors, self.warnings + found.warnings);
        for diagnostic in found.reported {
            self.push(diagnostic);
        }
        (self.errors, self.warnings) = (errors, warnings);
    }

    /// Sorts by document and place.
    pub(crate) fn sort(&mut self) {
        self.reported
            .sort_by_key(|diagnostic| (diagnostic.source, diagnostic.span, diagnostic.code));
    }

    /// Those that are reported, by document and place.
    pub fn reported(&self) -> &[Diagnostic] {
        &self.reported
    }

    /// How many errors there are, reported or not.
    pub fn errors(&self) -> usize {
        self.errors
    }

    /// How many warnings there are, reported or not.
    pub fn warnings(&self) -> usize {
        self.warnings
    }

    /// How many are counted but not reported.
    pub fn unreported(&self) -> usize {
        self.errors + self.warnings - self.reported.len()
    }

    /// Whether the policy is refused.
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }
}
