//! The limits of a policy document and of an inventory, as named constants with their units. What breaks one is refused
//! by name; nothing is cut short silently.

/// Bytes of one policy document, text or JSON: 8 MiB, some 80,000 rules.
pub const DOCUMENT_BYTES_MAX: usize = 8 << 20;
/// Levels of parentheses and negations in one selector.
pub const NESTING_MAX: u32 = 32;
/// Tokens of one statement, list elements included.
pub const STATEMENT_TOKENS_MAX: usize = 65_536;
/// Bytes of one word or quoted text: the longest path Linux takes (`PATH_MAX`, include/uapi/linux/limits.h).
pub const WORD_BYTES_MAX: usize = 4_096;
/// Errors reported for one check; those beyond are counted only. The same number of warnings is reported.
pub const REPORTED_MAX: usize = 100;
/// Conjunctions that the search for selectors which match nothing looks at before it gives up on one selector.
pub const CONJUNCTIONS_MAX: usize = 256;
/// Policy documents that are checked together.
pub const DOCUMENTS_MAX: usize = 1_024;
/// Bytes of one inventory file: 256 MiB.
pub const INVENTORY_BYTES_MAX: usize = 256 << 20;
/// Hosts of one inventory.
pub const HOSTS_MAX: usize = 1_000_000;
/// Addresses of one host.
pub const HOST_ADDRESSES_MAX: usize = 1_024;
/// Names of one host, besides its id.
pub const HOST_NAMES_MAX: usize = 64;
/// Labels of one host.
pub const HOST_LABELS_MAX: usize = 256;
