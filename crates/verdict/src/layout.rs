//! What an image looks like: flat tables of 64-byte lines, built once by crate `image`, read by [`decide`](crate::decide).
//!
//! | table | found through | what it is |
//! |---|---|---|
//! | address trie | [`ROOT4`], [`ROOT6`] | 65,536 entries for the first 16 bits, then nodes of 8 bits with path compression |
//! | ports | [`PORTS`]`+table` | 65,536 port classes of 16 bits for each of the four [`port_table`]s |
//! | protocols | [`PROTOCOLS`] | 256 port classes of 16 bits for each direction, for protocols without ports |
//! | near | [`FACETS`] | hash tables of the subject's facets, and the table that joins them with the local address |
//! | matrix | [`MATRIX`] | one [`Cell`](crate::Cell) for each (near, port, remote) class |
//! | closed | [`CLOSED`] | one bit for each (near, port) class: denied whoever the peer is |
//! | rules | [`RULES`] | one word of `RULE_*` flags for each rule |
//! | ends | [`ENDS`], [`ROWS`] | what follows when rules end: successions of cells, and for each row where its own begin |
//!
//! Tables are named by the index of their first line; 0 stands for "no such table", because line 0 is the header. The word
//! of a port table or of the root of an address trie names it with bit 31 set; without, there is no table, and the word is
//! the one class of all.
//!
//! An entry of the trie is a class (bit 31 clear) or the line of a node (bit 31 set). A node covers the 256 values of
//! the 8 bits that follow its prefix: bit k of its bitmap is set where a new run of equal entries starts at value k
//! (bit 0 always is), and the entries stand once for each run. So `entries + ranks[k / 64] + popcount(bitmap up to k) - 1`
//! is the entry of value k. Addresses outside the node's prefix have the node's `MISS` class.
//!
//! A cell of the matrix whose rule has an end is not a decision but names a succession
//! ([`Cell::succession`](crate::Cell::succession)): nodes in order of time, each with a decision and the moment at which
//! the next one follows. A succession is counted from the first of its row, so every cell of every row can have its own.
//! Moments are nanoseconds of the clock that the image is read by ([`Tables::now_ns`](crate::Tables::now_ns)): in the
//! kernel CLOCK_BOOTTIME, which nobody can set.

/// First word of every image: "fwnt".
pub const MAGIC: u32 = 0x746e_7766;
/// Bumped whenever the meaning of any word changes.
pub const FORMAT: u32 = 4;

/// Header line 0, for people and for the agent; [`decide`](crate::decide) does not read it.
pub mod identity {
    /// [`super::MAGIC`]
    pub const MAGIC: u32 = 0;
    /// [`super::FORMAT`]
    pub const FORMAT: u32 = 1;
    /// Lines of the image, the two header lines included.
    pub const LINES: u32 = 2;
    /// Rules, the defaults included.
    pub const RULES: u32 = 3;
    /// Near classes.
    pub const NEARS: u32 = 4;
    /// Nodes of the ends' table.
    pub const ENDS: u32 = 5;
    /// Version of the policy, low half.
    pub const VERSION_LO: u32 = 6;
    /// Version of the policy, high half.
    pub const VERSION_HI: u32 = 7;
    /// Eight words: BLAKE3 of the BLAKE3 digests of [`super::CHUNK_LINES`] lines each, the first without line 0. So the
    /// digest of an image that differs little from another costs little.
    pub const DIGEST: u32 = 8;
}

/// Lines that are digested together, 64 KiB; the last ones of an image may be fewer.
pub const CHUNK_LINES: u32 = 1024;

/// The line that says where the tables are. The constants below are words of this line.
pub const DIRECTORY: u32 = 1;
/// `FLAG_*`
pub const FLAGS: u32 = 0;
/// Line of the IPv4 root with bit 31 set, or the one class of all IPv4 addresses.
pub const ROOT4: u32 = 1;
/// The same for IPv6.
pub const ROOT6: u32 = 2;
/// Four words, one for each [`port_table`]: line of the table with bit 31 set, or the one class of all its ports.
pub const PORTS: u32 = 3;
/// Line of the protocols' classes; 16 lines, 8 for each direction.
pub const PROTOCOLS: u32 = 7;
/// Line of the verdict matrix.
pub const MATRIX: u32 = 8;
/// Port classes (the middle stride of the matrix).
pub const PORT_CLASSES: u32 = 9;
/// Remote classes (the inner stride of the matrix).
pub const REMOTE_CLASSES: u32 = 10;
/// Line of the closed bits. A bit is set where the row is closed now or at some other time: [`ROWS`] says when.
pub const CLOSED: u32 = 11;
/// Line of the facets, or 0 where no rule speaks of this end: the near class is then 0.
pub const FACETS: u32 = 12;
/// Line of the rules' flags.
pub const RULES: u32 = 13;
/// Line of the nodes of successions, or 0 where no cell has an end.
pub const ENDS: u32 = 14;
/// Line of two words for each row of the matrix, or 0 where no cell has an end: the node that the successions of its cells
/// are counted from, and where its closed bit is set, the node of the succession that says when it is closed (1) and when
/// not (0).
pub const ROWS: u32 = 15;

/// Bit 31 of a trie entry, of a root's or of a [`PORTS`] word: the rest is a line, not a class.
pub const LINK: u32 = 1 << 31;

/// Some rule looks at the process: its identity has to be stamped on its sockets.
pub const FLAG_SUBJECTS: u32 = 1 << 0;
/// Some rule can refuse datagrams going out: the sendmsg hooks are needed.
pub const FLAG_DATAGRAMS: u32 = 1 << 1;
/// Some rule can refuse what comes in: the inbound hook is needed.
pub const FLAG_INBOUND: u32 = 1 << 2;
/// Some port is closed to every peer: the bind hooks are needed.
pub const FLAG_CLOSED: u32 = 1 << 3;
/// Some rule refuses protocols without ports: the sock_create hook has to look.
pub const FLAG_PROTOCOLS: u32 = 1 << 4;
/// A default denies: datagrams that answer an allowed datagram have to be recognised.
pub const FLAG_ANSWERS: u32 = 1 << 6;
/// Some rule looks at the network namespace.
pub const FLAG_NAMESPACES: u32 = 1 << 7;
/// Some rule reports the flows that it decides.
pub const FLAG_LOG: u32 = 1 << 5;

/// A denied connect() gets ECONNREFUSED in place of EACCES.
pub const RULE_REFUSE: u32 = 1 << 0;
/// A denied peer gets no answer in place of a reset, where the hook can choose.
pub const RULE_DROP: u32 = 1 << 1;
/// Report every flow that this rule decides, allowed ones too.
pub const RULE_LOG: u32 = 1 << 2;
/// The rule stands for a default of a direction or for the built-in baseline.
pub const RULE_DEFAULT: u32 = 1 << 3;
/// Connections that this rule newly denies are ended.
pub const RULE_REVOKE: u32 = 1 << 4;

/// Words of a node's line. Words 0 to 7 are the bitmap.
pub mod node {
    /// First entry, counted in words from the image's start.
    pub const ENTRIES: u32 = 8;
    /// Four bytes: runs before value 0, 64, 128 and 192.
    pub const RANKS: u32 = 9;
    /// Four words: the prefix, most significant first, zero beyond its length.
    pub const PREFIX: u32 = 10;
    /// Length of the prefix in bits: 16 to 120, a multiple of 8.
    pub const BITS: u32 = 14;
    /// Class of addresses that reach the node without having its prefix.
    pub const MISS: u32 = 15;
}

/// Words of a node of a succession. Four nodes share a line. The nodes that follow a node stand before it.
pub mod end {
    /// Two words, the low half first: the moment from which this node does not count any more; [`NEVER`] in the last one.
    pub const UNTIL: u32 = 0;
    /// What counts until then: a [`Cell`](crate::Cell), or whether a row is closed.
    pub const VALUE: u32 = 2;
    /// The node that follows.
    pub const NEXT: u32 = 3;
    /// No moment at all: no clock shows it.
    pub const NEVER: u64 = u64::MAX;
}

/// Words of the facets' two lines. Each hashed facet has four words: line of its buckets (0: the facet is not looked at),
/// log2 of the buckets, seed, number of classes; the first four facets are in the first line. The local address has a
/// line of classes by remote class instead.
///
/// A unit or container holds for the cgroups below its own, too: such a facet's class is that of the deepest of the
/// subject's cgroups that has one, so a cgroup's class says also what rules say of those above it.
pub mod facet {
    /// User id.
    pub const USER: u32 = 0;
    /// Group id.
    pub const GROUP: u32 = 1;
    /// Executable.
    pub const EXE: u32 = 2;
    /// Unit (cgroup).
    pub const UNIT: u32 = 3;
    /// Container (cgroup).
    pub const CONTAINER: u32 = 4;
    /// Network namespace.
    pub const NETNS: u32 = 5;
    /// How many facets are hashed.
    pub const HASHED: u32 = 6;
    /// Second line: line of the local classes, one 16-bit class for each remote class, or 0.
    pub const LOCAL: u32 = 8;
    /// Second line: local classes.
    pub const LOCALS: u32 = 9;
    /// Second line: line of the joined table, 16-bit near classes. The local class counts slowest, then the classes of
    /// the hashed facets in their order.
    pub const JOINED: u32 = 10;
}

/// A bucket is one line: five keys of 64 bits in words 0 to 9, five values of 16 bits in words 10 to 12. An empty slot
/// has value 0, which is also the class of every key that is not found.
pub const BUCKET_SLOTS: u32 = 5;

/// The bucket of `key` among `1 << log2` ones: multiplicative hashing (Knuth, TAOCP 6.4) of the key mixed with a seed
/// that the builder chose so that no bucket overflows.
#[inline(always)]
pub const fn bucket(key: u64, seed: u32, log2: u32) -> u32 {
    let mixed = (key ^ (key >> 29)).wrapping_add(seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    ((mixed >> 32) as u32) & ((1u32 << (log2 & 31)) - 1)
}

/// Which port table a direction and protocol has: `direction + 2 * udp`, or `None` for a protocol without ports here.
#[inline(always)]
pub const fn port_table(direction: crate::Direction, protocol: crate::Protocol) -> Option<u32> {
    match protocol {
        crate::Protocol::TCP => Some(direction as u32),
        crate::Protocol::UDP => Some(2 + direction as u32),
        crate::Protocol(_) => None,
    }
}
