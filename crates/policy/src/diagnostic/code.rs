//! The kinds of diagnostics: a stable word for each, for people, editors and SARIF.

use super::Severity;

macro_rules! codes {
    ($($code:ident $severity:ident $word:literal $summary:literal)*) => {
        /// What kind of thing is wrong. The word of a code never changes its meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code {
            $(#[doc = $summary] $code,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$code),*];

            /// The stable word: `undefined-name`.
            pub fn word(self) -> &'static str {
                match self { $(Self::$code => $word,)* }
            }

            /// What the code stands for, in one sentence.
            pub fn summary(self) -> &'static str {
                match self { $(Self::$code => $summary,)* }
            }

            /// Error or warning.
            pub fn severity(self) -> Severity {
                match self { $(Self::$code => Severity::$severity,)* }
            }
        }
    };
}

codes! {
    NotUtf8 Error "not-utf8" "The document is not UTF-8 text."
    TooLarge Error "too-large" "The document, a statement or a word is larger than its limit."
    TooDeep Error "too-deep" "A selector is nested deeper than the limit."
    Character Error "character" "A character has no place in a policy."
    Syntax Error "syntax" "Something else is expected here."
    Address Error "address" "A text is not an address, a prefix or a range."
    HostBits Error "host-bits" "A prefix has bits set beyond its length."
    ReversedRange Error "reversed-range" "A range ends before it begins."
    Port Error "port" "A number is not a port."
    Service Error "service" "A text is not a service."
    Date Error "date" "A text is not a day nor a moment."
    RepeatedOption Error "repeated-option" "An option, or a process qualifier, is given twice."
    ContradictoryOptions Error "contradictory-options" "Options of one rule, or a rule and its policy, exclude each other."
    RepeatedStatement Error "repeated-statement" "A statement that speaks of the whole policy is given twice."
    ReservedName Error "reserved-name" "A name is a word of the language."
    RepeatedName Error "repeated-name" "A name is defined twice."
    UndefinedName Error "undefined-name" "A word is neither a name of the document nor a host."
    RecursiveName Error "recursive-name" "A name is defined by itself."
    WrongKind Error "wrong-kind" "A service stands where hosts are expected, or the other way round."
    EmptySet Error "empty-set" "A selector or a list can match nothing by construction."
    RepeatedId Error "repeated-id" "Two rules have the same id."
    Json Error "json" "The JSON form is malformed."
    UnusedName Warning "unused-name" "A name is defined and never used."
    HiddenHost Warning "hidden-host" "A name hides the host of the same id."
    UnknownLabel Warning "unknown-label" "No host of the inventory has this label or this value."
    Expired Warning "expired" "A rule has ended."
    RepeatedRule Warning "repeated-rule" "Two rules say the same."
    MappedTwin Warning "mapped-twin" "An IPv4 address and its IPv6-mapped form are written as if they were two."
    RepeatedElement Warning "repeated-element" "A list names something twice."
    RepeatedTest Warning "repeated-test" "Two tests say the same."
    NoEffect Warning "no-effect" "An option changes nothing here."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_unique() {
        let mut words: Vec<_> = Code::ALL.iter().map(|code| code.word()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Code::ALL.len());
    }
}
