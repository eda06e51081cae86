//! Why an image is compiled anew.

/// Why rules were compiled anew, where they might have been made from an image that was there. Nothing is wrong then: it
/// only takes longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Anew {
    /// The image came from elsewhere: what it was compiled from is not known.
    #[error("it is not known what the image before was compiled from")]
    Foreign,
    /// Too many ranges of addresses came or went.
    #[error("too many ranges of addresses differ")]
    Ranges,
    /// A family whose addresses were all alike has no root that could be changed.
    #[error("all addresses of a family were alike before")]
    Root,
    /// What came or went is spread over too many blocks of the first 16 bits.
    #[error("too many blocks of addresses differ")]
    Blocks,
    /// What came or went holds too much.
    #[error("too many nodes of the trie differ")]
    Nodes,
    /// Too many lines of the image are of no use any more.
    #[error("too many lines of the image before are of no use any more")]
    Garbage,
    /// With what the image before has left, a budget is exceeded.
    #[error("there is no room beside what the image before has left")]
    Room,
}
