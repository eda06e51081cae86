//! What must hold for any bytes that come from a socket where messages of the fleet are expected. The fuzz target runs this
//! on new inputs; a test of crate `wire` runs it on the corpus.

use wire::sync::{Decoder, Difference, Downward, Manifest, Member, Members, Upward, encode};

/// The first byte says in pieces of which size the others come. They are answered, the same as if they came at once, and
/// what was read can be written and is read again.
pub(crate) fn frame(bytes: &[u8]) {
    let Some((&size, bytes)) = bytes.split_first() else { return };
    for message in all::<Upward>(bytes, size) {
        let frame = encode(&message).expect("what came in a frame fits in one");
        assert_eq!(Decoder::default().next(&mut &*frame), Ok(Some(message)));
    }
    for message in all::<Downward>(bytes, size) {
        let frame = encode(&message).expect("what came in a frame fits in one");
        assert_eq!(Decoder::default().next(&mut &*frame), Ok(Some(message)));
    }
    // What stands encoded in fields and pieces.
    let _manifests = all::<Manifest>(bytes, size);
    let _members = all::<Members>(bytes, size);
    let _member = all::<Member>(bytes, size);
    let _differences = all::<Difference>(bytes, size);
}

/// All messages of a kind, up to the first that is none.
macro_rules! kinds {
    ($($kind:ty),*) => {
        $(impl Kind for $kind {
            fn next(decoder: &mut Decoder, bytes: &mut &[u8]) -> Option<Self> {
                decoder.next(bytes).ok().flatten()
            }
        })*
    };
}

trait Kind: Sized + PartialEq + std::fmt::Debug {
    fn next(decoder: &mut Decoder, bytes: &mut &[u8]) -> Option<Self>;
}

kinds!(Upward, Downward, Manifest, Members, Member, Difference);

fn all<M: Kind>(bytes: &[u8], size: u8) -> Vec<M> {
    let read = |size: usize| {
        let (mut decoder, mut messages) = (Decoder::default(), Vec::new());
        for mut piece in bytes.chunks(size) {
            while let Some(message) = M::next(&mut decoder, &mut piece) {
                messages.push(message);
            }
        }
        (messages, decoder.end().is_ok())
    };
    let pieces = read(usize::from(size).max(1));
    assert_eq!(pieces, read(bytes.len().max(1)), "in pieces of {size}");
    pieces.0
}
