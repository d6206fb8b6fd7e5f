//! Random damage to the MNIST files: whatever a file says, it is read or refused.
//!
//! `PROPTEST_CASES=1000000 cargo test --release -p ablate-tasks --test random_idx_files` looks at more files, and
//! `PROPTEST_RNG_SEED` at others.

use std::fs;
use std::io::Write;
use std::path::Path;

use ablate_tasks::MnistImages;
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngSeed, contextualize_config};

const COUNT: usize = 3;

fn cases(cases: u32) -> Config {
    let rng_seed = RngSeed::Fixed(1);
    contextualize_config(Config { cases, rng_seed, failure_persistence: None, ..Config::default() })
}

fn idx(sizes: &[usize]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, sizes.len() as u8];
    bytes.extend(sizes.iter().flat_map(|&size| (size as u32).to_be_bytes()));
    bytes.extend((0..sizes.iter().product::<usize>()).map(|i| i as u8 % 10));
    bytes
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

type Splice = (Index, usize, Vec<u8>);

/// Within the header for half of them, as most of the file are pixels, of which any is right.
fn splices() -> impl Strategy<Value = Vec<(bool, Splice)>> {
    let splice = (any::<Index>(), 0..5usize, prop::collection::vec(any::<u8>(), 0..5));
    prop::collection::vec((any::<bool>(), splice), 0..3)
}

fn damaged(mut bytes: Vec<u8>, splices: &[(bool, Splice)]) -> Vec<u8> {
    for (in_header, (at, removed, inserted)) in splices {
        let limit = if *in_header { bytes.len().min(20) } else { bytes.len() };
        let at = at.index(limit + 1);
        let end = (at + removed).min(bytes.len());
        bytes.splice(at..end, inserted.iter().copied());
    }
    bytes
}

fn put(folder: &Path, name: &str, bytes: &[u8], gz: bool) {
    let path = folder.join(if gz { format!("{name}.gz") } else { name.to_owned() });
    fs::write(path, bytes).unwrap();
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn damaged_files_are_read_or_refused(
        (before, behind, of_labels) in (splices(), splices(), splices()),
        gz in any::<bool>(),
        cut in prop::option::weighted(0.2, any::<Index>()),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut images = damaged(idx(&[COUNT, 28, 28]), &before);
        if gz {
            images = damaged(packed(&images), &behind);
        }
        if let Some(cut) = cut {
            images.truncate(cut.index(images.len() + 1));
        }
        let labels = damaged(idx(&[COUNT]), &of_labels);
        put(folder.path(), "train-images-idx3-ubyte", &images, gz);
        put(folder.path(), "train-labels-idx1-ubyte", &labels, false);
        match MnistImages::training(folder.path()) {
            Ok(read) => {
                prop_assert!(read.len() > 0);
                let (pixels, digits) = read.tensors(&[read.len() as u32 - 1]).unwrap();
                prop_assert_eq!((pixels.dims(), digits.dims()), (&[1, 1, 28, 28][..], &[1][..]));
            }
            Err(error) => prop_assert!(format!("{error:#}").contains("ubyte"), "{error:#}"),
        }
    }
}
