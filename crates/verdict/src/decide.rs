//! The verdict: five look-ups, each bounded, none of them a scan; and where rules end, one more.

use crate::{
    Address, Cell, Decision, Direction, Flow, Line, Protocol, RuleNumber, Subject, Tables,
    layout::{self, DIRECTORY, LINK, end, facet, node},
    limits::{SUCCESSION_MAX, TRIE_DEPTH_MAX},
};

/// Judges `flow` by the image in `tables`.
///
/// Pure: the same flow, image and moment always give the same answer, in the kernel and on the host. Takes the same few steps
/// however many rules there are. A damaged image gives [`Decision::MALFORMED`], which denies.
#[inline(always)]
pub fn decide<T: Tables + ?Sized>(flow: &Flow, tables: &T) -> Decision {
    decide_toward(flow.direction, flow, tables)
}

/// [`decide`] with the flow's direction told beside it, where that is a constant to the compiler and what is in memory is
/// not: the BPF verifier follows one and forgets the other.
#[inline(always)]
pub fn decide_toward<T: Tables + ?Sized>(
    direction: Direction,
    flow: &Flow,
    tables: &T,
) -> Decision {
    match cell(direction, flow, tables) {
        Some(cell) => cell.unpack(),
        None => Decision::MALFORMED,
    }
}

/// The `RULE_*` flags of a rule; none for a rule that the image does not have.
#[inline(always)]
pub fn rule_flags<T: Tables + ?Sized>(rule: RuleNumber, tables: &T) -> u32 {
    let Some(directory) = tables.line(DIRECTORY) else { return 0 };
    tables.word((directory.word(layout::RULES) << 4).wrapping_add(u32::from(rule.0))).unwrap_or(0)
}

/// The `FLAG_*` of the image.
#[inline(always)]
pub fn image_flags<T: Tables + ?Sized>(tables: &T) -> u32 {
    tables.line(DIRECTORY).map_or(0, |directory| directory.word(layout::FLAGS))
}

/// Whether the local service port of an inbound `flow` is now denied whoever the peer is; its remote end is not looked at.
/// This is what claiming a port can be judged by before any peer exists. A damaged image answers `true`.
#[inline(always)]
pub fn closed<T: Tables + ?Sized>(flow: &Flow, tables: &T) -> bool {
    closed_toward(flow.direction, flow, tables)
}

/// [`closed`] with the flow's direction told beside it, as in [`decide_toward`].
#[inline(always)]
pub fn closed_toward<T: Tables + ?Sized>(direction: Direction, flow: &Flow, tables: &T) -> bool {
    closed_bit(direction, flow, tables).unwrap_or(true)
}

#[inline(always)]
fn cell<T: Tables + ?Sized>(direction: Direction, flow: &Flow, tables: &T) -> Option<Cell> {
    let directory = tables.line(DIRECTORY)?;
    let remote = tables.address_class(flow.remote.address)?;
    let row = row(direction, flow, directory, tables)?;
    let remotes = directory.word(layout::REMOTE_CLASSES);
    let base = directory.word(layout::MATRIX) << 4;
    let index = row.wrapping_mul(remotes).wrapping_add(remote).wrapping_add(base);
    let cell = Cell(tables.word(index)?);
    let Some(number) = cell.succession() else { return Some(cell) };
    let first = tables.word(word_of_row(row, directory))?;
    Some(Cell(tables.succession(first.wrapping_add(number))?))
}

/// Where the two words of a row stand that say what follows when rules end.
#[inline(always)]
fn word_of_row(row: u32, directory: &Line) -> u32 {
    (directory.word(layout::ROWS) << 4).wrapping_add(row << 1)
}

/// What counts now in the succession that begins at `node`: the value of its first node whose end has not come.
#[inline(always)]
pub fn succession<T: Tables + ?Sized>(node: u32, tables: &T) -> Option<u32> {
    let ends = tables.line(DIRECTORY)?.word(layout::ENDS);
    let now = tables.now_ns();
    let mut node = node;
    for _ in 0..=SUCCESSION_MAX {
        let line = tables.line(ends.wrapping_add(node >> 2))?;
        let words = (node & 3) << 2;
        if now < line.double((words | end::UNTIL) >> 1) {
            return Some(line.word(words | end::VALUE));
        }
        node = line.word(words | end::NEXT);
    }
    None
}

#[inline(always)]
fn closed_bit<T: Tables + ?Sized>(direction: Direction, flow: &Flow, tables: &T) -> Option<bool> {
    let directory = tables.line(DIRECTORY)?;
    let row = row(direction, flow, directory, tables)?;
    let word = tables.word((directory.word(layout::CLOSED) << 4).wrapping_add(row >> 5))?;
    if word >> (row & 31) & 1 == 0 || directory.word(layout::ROWS) == 0 {
        return Some(word >> (row & 31) & 1 == 1);
    }
    let first = tables.word(word_of_row(row, directory) | 1)?;
    Some(tables.succession(first)? == 1)
}

/// The row of the matrix: near class and port class, everything but the peer.
#[inline(always)]
fn row<T: Tables + ?Sized>(
    direction: Direction,
    flow: &Flow,
    directory: &Line,
    tables: &T,
) -> Option<u32> {
    let near = near_class(direction, flow, directory, tables)?;
    let service = match direction {
        Direction::Out => flow.remote.port,
        Direction::In => flow.local.port,
    };
    let port = port_class(direction, flow.protocol, service, directory, tables)?;
    Some(near.wrapping_mul(directory.word(layout::PORT_CLASSES)).wrapping_add(port))
}

#[inline(always)]
fn port_class<T: Tables + ?Sized>(
    direction: Direction,
    protocol: Protocol,
    port: u16,
    directory: &Line,
    tables: &T,
) -> Option<u32> {
    let Some(table) = layout::port_table(direction, protocol) else {
        let base = directory.word(layout::PROTOCOLS) + 8 * direction as u32;
        return half_word(base, u32::from(protocol.0), tables);
    };
    let found = directory.word(layout::PORTS + table);
    if found & LINK == 0 {
        return Some(found);
    }
    half_word(found ^ LINK, u32::from(port), tables)
}

/// Half-word `index` of the table that starts at `line`.
#[inline(always)]
fn half_word<T: Tables + ?Sized>(line: u32, index: u32, tables: &T) -> Option<u32> {
    let word = tables.word((line << 4).wrapping_add(index >> 1))?;
    Some(word >> ((index & 1) << 4) & 0xffff)
}

/// The class of an address by its longest prefix.
#[inline(always)]
pub fn address_class<T: Tables + ?Sized>(address: Address, tables: &T) -> Option<u32> {
    let directory = tables.line(DIRECTORY)?;
    // A way for each family: what one takes for granted, no connection of the other pays for.
    #[expect(clippy::cast_possible_truncation, reason = "an entry is a word")]
    if address.is_v4() {
        class4(address.lo & 0xffff_ffff, directory, tables)
    } else {
        class6(address, directory, tables)
    }
    .map(|class| class as u32)
}

/// The class of an IPv4 address: the root takes 16 bits of it, and two nodes the rest. All numbers are 64 bits wide, as
/// the registers are: a narrower one costs the BPF program two instructions wherever it is made.
#[inline(always)]
fn class4<T: Tables + ?Sized>(address: u64, directory: &Line, tables: &T) -> Option<u64> {
    let mut entry = root_entry(directory.word(layout::ROOT4), address >> 16, tables)?;
    for _ in 0..2 {
        if entry < u64::from(LINK) {
            return Some(entry);
        }
        let node = linked(entry, tables)?;
        // 8 bits follow the 8 that the node tells apart, or none. What is left of the prefix stands above those.
        let behind = 120u32.wrapping_sub(node.word(node::BITS)) & 31;
        let value = (address ^ u64::from(node.word(node::PREFIX + 3))) >> behind;
        entry = node_entry(value, node, tables)?;
    }
    if entry < u64::from(LINK) { Some(entry) } else { None }
}

/// The class of an IPv6 address.
#[inline(always)]
fn class6<T: Tables + ?Sized>(address: Address, directory: &Line, tables: &T) -> Option<u64> {
    let mut entry = root_entry(directory.word(layout::ROOT6), address.hi >> 48, tables)?;
    for _ in 0..TRIE_DEPTH_MAX {
        if entry < u64::from(LINK) {
            return Some(entry);
        }
        let node = linked(entry, tables)?;
        let bits = node.word(node::BITS);
        let upper = u64::from(node.word(node::PREFIX)) << 32;
        let upper = address.hi ^ (upper | u64::from(node.word(node::PREFIX + 1)));
        let value = if bits < 64 {
            upper >> (56u32.wrapping_sub(bits) & 63)
        } else {
            let lower = u64::from(node.word(node::PREFIX + 2)) << 32;
            let lower = address.lo ^ (lower | u64::from(node.word(node::PREFIX + 3)));
            if upper == 0 { lower >> (120u32.wrapping_sub(bits) & 63) } else { u64::MAX }
        };
        entry = node_entry(value, node, tables)?;
    }
    if entry < u64::from(LINK) { Some(entry) } else { None }
}

/// The entry that a family's root has for the first 16 bits, or what stands in place of a root.
#[inline(always)]
fn root_entry<T: Tables + ?Sized>(root: u32, slot: u64, tables: &T) -> Option<u64> {
    if root & LINK == 0 {
        return Some(u64::from(root));
    }
    #[expect(clippy::cast_possible_truncation, reason = "16 bits are looked up")]
    let index = ((root ^ LINK) << 4).wrapping_add(slot as u32);
    tables.word(index).map(u64::from)
}

/// The node that an entry leads to.
#[inline(always)]
fn linked<T: Tables + ?Sized>(entry: u64, tables: &T) -> Option<&Line> {
    #[expect(clippy::cast_possible_truncation, reason = "an entry is a word")]
    tables.line(entry as u32 ^ LINK)
}

/// One step down the trie: the entry that `node` has for `value`, the address's bits from the node's first own one on, with
/// what differs from its prefix above them.
#[inline(always)]
fn node_entry<T: Tables + ?Sized>(value: u64, node: &Line, tables: &T) -> Option<u64> {
    if value > 255 {
        return Some(u64::from(node.word(node::MISS)));
    }
    #[expect(clippy::cast_possible_truncation, reason = "two bits")]
    let quarter = (value >> 6) as u32 & 3;
    let runs = node.double(quarter) & (u64::MAX >> (!value & 63));
    let rank = node.word(node::RANKS) >> (quarter << 3) & 255;
    let index = node.word(node::ENTRIES).wrapping_add(rank).wrapping_add(runs.count_ones());
    tables.word(index.wrapping_sub(1)).map(u64::from)
}

/// The class of this end: who the process is and at which local address, as far as any rule asks.
#[inline(always)]
fn near_class<T: Tables + ?Sized>(
    direction: Direction,
    flow: &Flow,
    directory: &Line,
    tables: &T,
) -> Option<u32> {
    let facets = directory.word(layout::FACETS);
    if facets == 0 {
        return Some(0);
    }
    let line = tables.line(facets)?;
    let join = tables.line(facets + 1)?;
    let locals = join.word(facet::LOCAL);
    let mut near = match direction {
        Direction::In if locals != 0 => {
            let class = tables.address_class(flow.local.address)?;
            half_word(locals, class, tables)?
        }
        Direction::In | Direction::Out => 0,
    };
    let subject = &flow.subject;
    near = tables.blur(near);
    near = joined(near, facet::USER, u64::from(subject.uid), facets, line, tables)?;
    near = joined(near, facet::GROUP, u64::from(subject.gid), facets, line, tables)?;
    near = joined(near, facet::EXE, subject.exe, facets, line, tables)?;
    near = within(near, facet::UNIT, subject, facets, line, tables)?;
    near = within(near, facet::CONTAINER, subject, facets + 1, join, tables)?;
    near = joined(near, facet::NETNS, subject.netns, facets + 1, join, tables)?;
    half_word(join.word(facet::JOINED), near, tables)
}

/// `near * classes of the facet + class of the key`. `line` is the one of the two that has the facet's words, at `place`.
#[inline(always)]
fn joined<T: Tables + ?Sized>(
    near: u32,
    facet: u32,
    key: u64,
    place: u32,
    line: &Line,
    tables: &T,
) -> Option<u32> {
    let at = facet << 2 & 15;
    if line.word(at) == 0 {
        return Some(near);
    }
    let class = tables.key_class(place, at, key)?;
    Some(tables.blur(near.wrapping_mul(line.word(at + 3)).wrapping_add(class)))
}

/// The same for a facet that holds for what is below a cgroup: the deepest of the subject's that has a class counts.
#[inline(always)]
fn within<T: Tables + ?Sized>(
    near: u32,
    facet: u32,
    subject: &Subject,
    place: u32,
    line: &Line,
    tables: &T,
) -> Option<u32> {
    let at = facet << 2 & 15;
    if line.word(at) == 0 {
        return Some(near);
    }
    let mut class = 0;
    if subject.cgroup != 0 {
        class = tables.key_class(place, at, subject.cgroup)?;
    }
    for &above in &subject.above {
        if class == 0 && above != 0 {
            class = tables.key_class(place, at, above)?;
        }
    }
    Some(tables.blur(near.wrapping_mul(line.word(at + 3)).wrapping_add(class)))
}

/// The class of `key` in the facet whose words begin at word `at` of line `place`; 0 for a key that it does not have.
#[inline(always)]
pub fn key_class<T: Tables + ?Sized>(place: u32, at: u32, key: u64, tables: &T) -> Option<u32> {
    let line = tables.line(place)?;
    let bucket = layout::bucket(key, line.word(at + 2), line.word(at + 1));
    let slots = tables.line(line.word(at).wrapping_add(bucket))?;
    let mut class = 0;
    for slot in 0..layout::BUCKET_SLOTS {
        if slots.double(slot) == key {
            class |= slots.word(10 + (slot >> 1)) >> ((slot & 1) << 4) & 0xffff;
        }
    }
    Some(class)
}
