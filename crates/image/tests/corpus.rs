//! Every file of the fuzz corpus through what the fuzz target runs, and the seal that lets it look behind the digest.

#[path = "../../../fuzz/images.rs"]
mod images;

use std::{fs, path::Path};

use image::{Damage, Image, check, reseal};
use verdict::layout::{self, DIRECTORY};

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
        assert!(Image::from_lines(lines).is_err());
    }
    reseal(&mut []);
}
