//! The object as kernels before Linux 5.12 take it.
//!
//! The verdict's look-ups are global functions, which a kernel checks once each by themselves. Those that are given
//! pointers to memory older kernels refuse (`btf_prepare_func_args` in kernel/bpf/btf.c). For them the very same
//! instructions are declared local: then each is checked again at each call, by what its caller knows. That takes longer,
//! and the code that runs is the same.
//!
//! Only those: global functions that are given numbers stay global. With all of them local, the verifier of Linux 5.10
//! removed ways through a program as dead that were not (denials were reported of flows that it allowed): up to Linux
//! 6.1 it looks for a number that its caller keeps in a register across a call among the registers of the function that
//! was called (`__mark_chain_precision` in kernel/bpf/verifier.c, "propagate precision across all frames"). What crosses
//! the calls of those that are local is unknown to the verifier either way: see `Tables::blur`.

use object::{Object as _, ObjectSection as _};

use crate::btf::Btf;

/// Declares the functions local that are given pointers. Returns how many there are; `None` where the bytes are not an
/// object with types.
pub(crate) fn make_local(object: &mut [u8]) -> Option<usize> {
    let file = object::File::parse(&*object).ok()?;
    let (start, length) = file.section_by_name(".BTF")?.file_range()?;
    let start = usize::try_from(start).ok()?;
    let types = object.get_mut(start..)?.get_mut(..usize::try_from(length).ok()?)?;
    let places = Btf::parse(types.to_vec()).ok()?.global_functions_given_pointers();
    for &place in &places {
        // The linkage is all of the lower half of the word, in which other types have the number of their members.
        types.get_mut(place..)?.get_mut(..2)?.copy_from_slice(&LOCAL);
    }
    Some(places.len())
}

/// `BTF_FUNC_STATIC` (include/uapi/linux/btf.h).
const LOCAL: [u8; 2] = 0u16.to_ne_bytes();

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::COMMITTED;

    #[test]
    fn the_same_instructions_without_a_global_function_that_is_given_a_pointer() {
        let mut object = COMMITTED.to_vec();
        let changed = make_local(&mut object).expect("the object has types");
        assert!(changed > 0, "the look-ups are given pointers");
        assert_eq!(make_local(&mut object), Some(0));
        let differ = COMMITTED.iter().zip(&object).filter(|(before, after)| before != after);
        assert_eq!(differ.count(), changed, "a byte for each function, and nothing else");
    }

    #[test]
    fn what_is_no_object_is_left_alone() {
        let mut noise = [7; 100];
        assert_eq!(make_local(&mut noise), None);
        assert_eq!(noise, [7; 100]);
    }
}
