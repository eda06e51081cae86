//! The budgets of an image, as named constants with their units. A policy that breaks one is refused by name.

/// Rules in one image, the defaults and the built-in baseline among them.
pub const RULES_MAX: u32 = crate::RuleNumber::MAX as u32 + 1;
/// Remote classes: sets of addresses that no rule of the image tells apart.
pub const REMOTE_CLASSES_MAX: u32 = 65_535;
/// Port classes over all four tables (out and in, TCP and UDP) and the protocols without ports.
pub const PORT_CLASSES_MAX: u32 = 4_096;
/// Near classes: what this end is (process and local address), as far as rules tell it apart.
pub const NEAR_CLASSES_MAX: u32 = 4_096;
/// Cells of the verdict matrix (near x port x remote classes), 4 bytes each: 16 MiB.
pub const CELLS_MAX: u32 = 4 * 1024 * 1024;
/// Nodes of successions, 16 bytes each: 64 MiB. As many as there are cells, so that it is hardly ever the ends of rules that
/// do not fit.
pub const ENDS_MAX: u32 = CELLS_MAX;
/// Ends that follow each other in one cell: rules of which each decides there once those before it have ended.
pub const SUCCESSION_MAX: u32 = 64;
/// Lines of one image, 64 bytes each: 256 MiB.
pub const LINES_MAX: u32 = 4 * 1024 * 1024;
/// Nodes on one path of the address trie: 16 bits are taken by the root, 8 by each node, 112 bits remain.
pub const TRIE_DEPTH_MAX: u32 = 14;
/// Levels of the cgroup hierarchy on which a rule about a unit or a container holds for what is below it. A cgroup deeper
/// than this is known by itself, and what is below it is not.
pub const ANCESTORS_MAX: usize = 8;
