//! Convolution and pooling for tasks in candle, whose own backward passes take several times as long on a processor. On
//! other devices they are candle's own.

use candle_core::{CpuStorage, CustomOp1, CustomOp3, Error, Layout, Result, Shape, Tensor, bail};
use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2};
use rayon::prelude::*;

/// Images whose gradients of the kernels are summed before those of others are added: the order of the sum doesn't
/// depend on the number of threads.
const PART: usize = 8;

/// A convolution without padding and with stride 1, and its bias: images `[n, c, h, w]`, kernels `[o, c, k, k]` and
/// bias `[o]` to `[n, o, h - k + 1, w - k + 1]`, in float32.
///
/// On the CPU, each image is unfolded to a matrix with a row for every element of a kernel, which the kernels are
/// multiplied with (Chellapilla, Puri and Simard, 2006).
///
/// ```
/// use ablate_tasks::convolution::convolve;
/// use candle_core::{Device, Tensor};
/// let image = Tensor::arange(0_f32, 9.0, &Device::Cpu)?.reshape((1, 1, 3, 3))?;
/// let kernel = Tensor::new(&[[[[1_f32, 0.0], [0.0, 1.0]]]], &Device::Cpu)?;
/// let bias = Tensor::new(&[0.5_f32], &Device::Cpu)?;
/// let output = convolve(&image, &kernel, &bias)?.flatten_all()?.to_vec1::<f32>()?;
/// assert_eq!(output, [4.5, 6.5, 10.5, 12.5]); // each with its neighbour below to the right
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// Other shapes, types or devices.
pub fn convolve(images: &Tensor, kernels: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let sizes = Sizes::of(images.dims(), kernels.dims(), bias.dims())?;
    if !images.device().is_cpu() {
        return images.conv2d(kernels, 0, 1, 1, 1)?.broadcast_add(&bias.reshape((1, (), 1, 1))?);
    }
    images.contiguous()?.apply_op3(&kernels.contiguous()?, &bias.contiguous()?, Convolution(sizes))
}

#[derive(Clone, Copy)]
struct Sizes {
    images: usize,
    channels: usize,
    height: usize,
    width: usize,
    outputs: usize,
    side: usize,
}

impl Sizes {
    fn of(images: &[usize], kernels: &[usize], bias: &[usize]) -> Result<Self> {
        match (images, kernels, bias) {
            (&[images, channels, height, width], &[outputs, inputs, side, other], &[biases])
                if inputs == channels
                    && side == other
                    && (1..=height.min(width)).contains(&side)
                    && biases == outputs
                    && images * channels * outputs > 0 =>
            {
                Ok(Self { images, channels, height, width, outputs, side })
            }
            _ => bail!("convolution of images {images:?} with kernels {kernels:?} and bias {bias:?}"),
        }
    }

    fn image(&self) -> usize {
        self.channels * self.height * self.width
    }

    fn output_sides(&self) -> (usize, usize) {
        (self.height + 1 - self.side, self.width + 1 - self.side)
    }

    fn pixels(&self) -> usize {
        let (height, width) = self.output_sides();
        height * width
    }

    fn weights(&self) -> usize {
        self.channels * self.side * self.side
    }

    fn kernel_view<'a>(&self, kernels: &'a [f32]) -> Result<ArrayView2<'a, f32>> {
        matrix(kernels, self.outputs, self.weights())
    }

    /// Where the rows of the unfolded matrix lie in the image: pairs of equally long stretches (unfolded, image).
    fn stretches(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let (height, width) = self.output_sides();
        (0..self.weights()).flat_map(move |row| {
            let (channel, y, x) =
                (row / (self.side * self.side), row / self.side % self.side, row % self.side);
            (0..height).map(move |line| {
                ((row * height + line) * width, (channel * self.height + y + line) * self.width + x)
            })
        })
    }

    fn unfold(&self, image: &[f32], unfolded: &mut [f32]) {
        let (_, width) = self.output_sides();
        for (to, from) in self.stretches() {
            unfolded[to..to + width].copy_from_slice(&image[from..from + width]);
        }
    }

    fn fold(&self, unfolded: &[f32], image: &mut [f32]) {
        let (_, width) = self.output_sides();
        for (from, to) in self.stretches() {
            for (sum, value) in image[to..to + width].iter_mut().zip(&unfolded[from..from + width]) {
                *sum += value;
            }
        }
    }
}

fn matrix(values: &[f32], rows: usize, columns: usize) -> Result<ArrayView2<'_, f32>> {
    ArrayView2::from_shape((rows, columns), values).map_err(Error::wrap)
}

fn matrix_mut(values: &mut [f32], rows: usize, columns: usize) -> Result<ArrayViewMut2<'_, f32>> {
    ArrayViewMut2::from_shape((rows, columns), values).map_err(Error::wrap)
}

/// A contiguous tensor's values.
fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("expected a contiguous tensor"),
    }
}

/// Calls `f` with the values of tensors that [`convolve`] or [`max_pool`] made contiguous.
fn with_values<const N: usize, R>(
    tensors: [&Tensor; N],
    f: impl FnOnce([&[f32]; N]) -> Result<R>,
) -> Result<R> {
    let guards = tensors.map(Tensor::storage_and_layout);
    let mut slices = [&[][..]; N];
    for (slice, (storage, layout)) in slices.iter_mut().zip(&guards) {
        let candle_core::Storage::Cpu(storage) = &**storage else { bail!("expected a tensor of the CPU") };
        *slice = values(storage, layout)?;
    }
    f(slices)
}

struct Convolution(Sizes);

impl CustomOp3 for Convolution {
    fn name(&self) -> &'static str {
        "convolve"
    }

    fn cpu_fwd(
        &self,
        images: &CpuStorage,
        images_layout: &Layout,
        kernels: &CpuStorage,
        kernels_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let sizes = self.0;
        let (images, bias) = (values(images, images_layout)?, values(bias, bias_layout)?);
        let kernels = sizes.kernel_view(values(kernels, kernels_layout)?)?;
        let mut output = vec![0.0; sizes.images * sizes.outputs * sizes.pixels()];
        let outputs = output.par_chunks_mut(sizes.outputs * sizes.pixels());
        outputs.zip(images.par_chunks(sizes.image())).try_for_each_init(
            || vec![0.0; sizes.weights() * sizes.pixels()],
            |unfolded, (output, image)| -> Result<()> {
                sizes.unfold(image, unfolded);
                for (channel, bias) in output.chunks_mut(sizes.pixels()).zip(bias) {
                    channel.fill(*bias);
                }
                let unfolded = matrix(unfolded, sizes.weights(), sizes.pixels())?;
                general_mat_mul(
                    1.0,
                    &kernels,
                    &unfolded,
                    1.0,
                    &mut matrix_mut(output, sizes.outputs, sizes.pixels())?,
                );
                Ok(())
            },
        )?;
        let (height, width) = sizes.output_sides();
        Ok((CpuStorage::F32(output), Shape::from((sizes.images, sizes.outputs, height, width))))
    }

    fn bwd(
        &self,
        images: &Tensor,
        kernels: &Tensor,
        bias: &Tensor,
        _output: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let gradients = with_values([images, kernels, &gradient], |[images, kernels, gradient]| {
            self.0.gradients(images, kernels, gradient)
        })?;
        let tensor = |values, like: &Tensor| Tensor::from_vec(values, like.dims(), like.device());
        Ok((
            Some(tensor(gradients.images, images)?),
            Some(tensor(gradients.kernels, kernels)?),
            Some(tensor(gradients.bias, bias)?),
        ))
    }
}

struct Gradients {
    images: Vec<f32>,
    kernels: Vec<f32>,
    bias: Vec<f32>,
}

impl Sizes {
    fn gradients(&self, images: &[f32], kernels: &[f32], gradient: &[f32]) -> Result<Gradients> {
        let (weights, pixels) = (self.weights(), self.pixels());
        let kernels = self.kernel_view(kernels)?;
        let mut by_image = vec![0.0; images.len()];
        let parts = by_image
            .par_chunks_mut(PART * self.image())
            .zip(images.par_chunks(PART * self.image()))
            .zip(gradient.par_chunks(PART * self.outputs * pixels))
            .map(|((by_image, images), gradient)| -> Result<(Vec<f32>, Vec<f32>)> {
                let mut unfolded = vec![0.0; weights * pixels];
                let (mut by_kernels, mut by_bias) =
                    (vec![0.0; self.outputs * weights], vec![0.0; self.outputs]);
                let rows = by_image.chunks_mut(self.image()).zip(images.chunks(self.image()));
                for ((by_image, image), gradient) in rows.zip(gradient.chunks(self.outputs * pixels)) {
                    for (sum, channel) in by_bias.iter_mut().zip(gradient.chunks(pixels)) {
                        *sum += channel.iter().sum::<f32>();
                    }
                    let gradient = matrix(gradient, self.outputs, pixels)?;
                    self.unfold(image, &mut unfolded);
                    let seen = matrix(&unfolded, weights, pixels)?;
                    let mut by_kernels = matrix_mut(&mut by_kernels, self.outputs, weights)?;
                    general_mat_mul(1.0, &gradient, &seen.t(), 1.0, &mut by_kernels);
                    let mut back = matrix_mut(&mut unfolded, weights, pixels)?;
                    general_mat_mul(1.0, &kernels.t(), &gradient, 0.0, &mut back);
                    self.fold(&unfolded, by_image);
                }
                Ok((by_kernels, by_bias))
            })
            .collect::<Result<Vec<_>>>()?;
        let mut sums = (vec![0.0; self.outputs * weights], vec![0.0; self.outputs]);
        for (by_kernels, by_bias) in parts {
            sums.0.iter_mut().zip(by_kernels).for_each(|(sum, part)| *sum += part);
            sums.1.iter_mut().zip(by_bias).for_each(|(sum, part)| *sum += part);
        }
        Ok(Gradients { images: by_image, kernels: sums.0, bias: sums.1 })
    }
}

/// The largest value of every square of 2x2: `[n, c, h, w]` with even h and w to `[n, c, h/2, w/2]`. The gradient goes
/// to the first of equal ones, as in PyTorch (candle's own is a quarter of that: it multiplies by the share of largest
/// pixels in the square). float32 on the CPU.
///
/// ```
/// use ablate_tasks::convolution::max_pool;
/// use candle_core::{Device, Tensor};
///
/// let image = Tensor::arange(0_f32, 8.0, &Device::Cpu)?.reshape((1, 1, 2, 4))?;
/// assert_eq!(max_pool(&image)?.flatten_all()?.to_vec1::<f32>()?, [5.0, 7.0]);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// Other shapes, types or devices.
pub fn max_pool(images: &Tensor) -> Result<Tensor> {
    let (_, _, height, width) = images.dims4()?;
    if height % 2 + width % 2 > 0 {
        bail!("pooling by 2 of images of {height}x{width}");
    }
    if !images.device().is_cpu() {
        return images.max_pool2d(2);
    }
    images.contiguous()?.apply_op1(MaxPool { width })
}

struct MaxPool {
    width: usize,
}

impl MaxPool {
    /// Where the largest of the square is, in two rows, above the given place of the output.
    fn largest(&self, rows: &[f32], x: usize) -> usize {
        let corner = 2 * x;
        let places = [corner, corner + 1, corner + self.width, corner + self.width + 1];
        // The first of equal ones; NaN wins, so that it is not hidden.
        let wins = |candidate: usize, best: usize| {
            !rows[best].is_nan() && (rows[candidate] > rows[best] || rows[candidate].is_nan())
        };
        places.into_iter().skip(1).fold(corner, |best, place| if wins(place, best) { place } else { best })
    }
}

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max-pool"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, channels, height, width) = layout.shape().dims4()?;
        let images = values(storage, layout)?;
        let mut output = vec![0.0; images.len() / 4];
        let lines = output.par_chunks_mut(width / 2).zip(images.par_chunks(2 * width));
        lines.for_each(|(output, rows)| {
            for (x, largest) in output.iter_mut().enumerate() {
                *largest = rows[self.largest(rows, x)];
            }
        });
        Ok((CpuStorage::F32(output), Shape::from((n, channels, height / 2, width / 2))))
    }

    fn bwd(&self, images: &Tensor, _output: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let gradient = gradient.contiguous()?;
        let width = self.width;
        let by_image = with_values([images, &gradient], |[images, gradient]| {
            let mut by_image = vec![0.0; images.len()];
            let lines = by_image.par_chunks_mut(2 * width).zip(images.par_chunks(2 * width));
            lines.zip(gradient.par_chunks(width / 2)).for_each(|((by_image, rows), gradient)| {
                for (x, gradient) in gradient.iter().enumerate() {
                    by_image[self.largest(rows, x)] = *gradient;
                }
            });
            Ok(by_image)
        })?;
        Ok(Some(Tensor::from_vec(by_image, images.dims(), images.device())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    fn drawn(shape: &[usize], seed: u64) -> Var {
        let mut generator = crate::random::generator(seed, crate::random::Purpose::Initialisation);
        let values = crate::random::normal(&mut generator, shape.iter().product(), 1.0);
        Var::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn distance(a: &Tensor, b: &Tensor) -> f32 {
        assert_eq!(a.dims(), b.dims());
        let largest = |tensor: &Tensor| {
            tensor.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap()
        };
        largest(&a.sub(b).unwrap()) / largest(b)
    }

    #[test]
    fn values_and_gradients_are_those_of_candle() {
        for (images, kernels) in
            [([11, 3, 8, 6], [5, 3, 3, 3]), ([1, 1, 4, 4], [1, 1, 1, 1]), ([2, 2, 6, 6], [3, 2, 5, 5])]
        {
            let (images, kernels, bias) = (drawn(&images, 1), drawn(&kernels, 2), drawn(&kernels[..1], 3));
            let ours = convolve(&images, &kernels, &bias).unwrap();
            let shaped = bias.reshape((1, (), 1, 1)).unwrap();
            let theirs = images.conv2d(&kernels, 0, 1, 1, 1).unwrap().broadcast_add(&shaped).unwrap();
            assert!(distance(&ours, &theirs) < 1e-5);
            let weights = drawn(ours.dims(), 4);
            let gradients =
                |output: &Tensor| output.mul(&weights).unwrap().sum_all().unwrap().backward().unwrap();
            let (ours, theirs) = (gradients(&ours), gradients(&theirs));
            for var in [&images, &kernels, &bias] {
                assert!(distance(ours.get(var).unwrap(), theirs.get(var).unwrap()) < 1e-5);
            }
        }
    }

    #[test]
    fn the_largest_of_four_is_taken_and_gets_the_gradient() {
        let images = drawn(&[3, 2, 6, 4], 1);
        let ours = max_pool(&images).unwrap();
        let theirs = images.max_pool2d(2).unwrap();
        assert_eq!(distance(&ours, &theirs), 0.0);
        let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let weights = drawn(ours.dims(), 4);
        let gradients = ours.mul(&weights).unwrap().sum_all().unwrap().backward().unwrap();
        let gradient = values(gradients.get(&images).unwrap());
        for (index, (pixel, gradient)) in values(&images).iter().zip(gradient).enumerate() {
            let (line, x) = (index / 4, index % 4);
            let above = line / 2 * 2 + x / 2;
            let expected = if *pixel == values(&ours)[above] { values(&weights)[above] } else { 0.0 };
            assert_eq!(gradient, expected);
        }
        let equal = Var::zeros((1, 1, 2, 2), candle_core::DType::F32, &Device::Cpu).unwrap();
        let gradients = max_pool(&equal).unwrap().sum_all().unwrap().backward().unwrap();
        let first = gradients.get(&equal).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(first, [1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn shapes_that_do_not_fit_are_errors() {
        let (images, kernels, bias) = (drawn(&[2, 3, 5, 5], 1), drawn(&[4, 3, 3, 3], 2), drawn(&[4], 3));
        assert!(convolve(&images, &drawn(&[4, 2, 3, 3], 2), &bias).is_err());
        assert!(convolve(&images, &drawn(&[4, 3, 6, 6], 2), &bias).is_err());
        assert!(convolve(&images, &kernels, &drawn(&[5], 3)).is_err());
        assert!(max_pool(&images).is_err());
    }
}
