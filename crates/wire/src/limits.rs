//! The limits of what is read, as named constants with their units. Each is looked at before the bytes are parsed.

/// Bytes of one bundle: 48 MiB.
pub const BUNDLE_BYTES_MAX: usize = 48 << 20;
/// Bytes of one envelope's payload that is a policy: the policy language's own limit of a document, and as much again for
/// JSON's escapes and delegations.
pub const POLICY_BYTES_MAX: usize = 2 * policy::limits::DOCUMENT_BYTES_MAX;
/// Bytes of a root, and of a timestamp.
pub const ROOT_BYTES_MAX: usize = 64 << 10;
/// Bytes of a snapshot: every document has its name, its digest and whom it concerns there.
pub const SNAPSHOT_BYTES_MAX: usize = 8 << 20;
/// Documents of one bundle: what the policy language checks together.
pub const DOCUMENTS_MAX: usize = policy::limits::DOCUMENTS_MAX;
/// Roots of one bundle: the chain from the oldest host's root to the newest.
pub const ROOTS_MAX: usize = 256;
/// Signatures of one envelope.
pub const SIGNATURES_MAX: usize = 64;
/// Keys of one root, and of one delegation.
pub const KEYS_MAX: usize = 256;
/// Delegations of one document.
pub const DELEGATIONS_MAX: usize = 256;
/// Audiences of one document.
pub const AUDIENCES_MAX: usize = 256;
/// Bytes of a name: of a key, a document, an audience.
pub const NAME_BYTES_MAX: usize = 128;
/// How many delegations may stand between a role's document and a rule.
pub const DELEGATION_DEPTH_MAX: u8 = 8;
