//! Every file of the fuzz corpus through what the fuzz target runs, and the seal that lets it look behind the digest.

#[path = "../../../fuzz/images.rs"]
mod images;

use std::{fs, path::Path};

use image::{Damage, Image, check, reseal};
use proptest::{collection::vec, prelude::*, test_runner::Config};
use verdict::{
    At, Cell, closed, decide,
    layout::{self, DIRECTORY},
};

#[test]
fn images() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/image");
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        eprintln!("{}", path.display());
        images::image(&fs::read(&path).unwrap());
        count += 1;
    }
    assert!(count > 3, "{} is nearly empty", folder.display());
}

#[test]
fn a_seal_is_the_compiler_s_own_and_hides_no_damage() {
    for base in images::bases() {
        let mut lines = base.clone();
        reseal(&mut lines);
        assert_eq!(&lines, base, "nothing was changed");
        lines[DIRECTORY as usize].0[layout::MATRIX as usize] = u32::MAX;
        assert_eq!(check(&lines), Err(Damage::Digest));
        reseal(&mut lines);
        assert!(matches!(check(&lines), Err(Damage::Outside { what: "matrix", .. })));
        assert!(Image::from_lines(&lines).is_err());
    }
    reseal(&mut []);
}

proptest! {
    #![proptest_config(Config { cases: 256, failure_persistence: None, ..Config::default() })]

    /// Nobody asks the checker first: whatever stands in a slot, a flow gets a verdict.
    #[test]
    fn no_mutation_of_an_image_is_a_fault(base in 0..images::bases().len(), patches in vec(any::<[u8; 7]>(), 1..200)) {
        let lines = images::patched(&images::bases()[base], &patches.concat());
        for (now_ns, flow) in images::moments(&[]).zip(images::flows(&patches.concat())) {
            // What it says is what a cell says, or damage: there is no third.
            let decision = decide(&flow, &At { lines: &lines, now_ns });
            prop_assert_eq!(Cell::pack(decision).unpack(), decision);
            closed(&flow, &At { lines: &lines, now_ns });
        }
    }
}
