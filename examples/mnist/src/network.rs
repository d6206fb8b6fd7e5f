//! The network: two 3x3 convolutions (32 and 64 channels), pooling by 2, dropout 0.25, 128 units, dropout 0.5, 10 classes.

use ablate_tasks::convolution::{convolve, max_pool};
use ablate_tasks::random::{Purpose, generator, uniform};
use candle_core::{Device, Result, Tensor, Var};
use rand::Rng;

/// Channels, height and width after the pooling.
const FLAT: usize = 64 * 12 * 12;
const UNITS: usize = 128;

/// The network of the example.
pub struct Network {
    layers: [(Var, Var); 4],
}

impl Network {
    /// Initialised as PyTorch does by default: weights and biases uniform within 1/sqrt(inputs).
    pub fn new(seed: u64) -> Result<Self> {
        let mut generator = generator(seed, Purpose::Initialisation);
        let mut layer = |shape: &[usize]| -> Result<(Var, Var)> {
            let inputs: usize = shape[1..].iter().product();
            let mut draw = |shape: &[usize]| {
                let values = uniform(&mut generator, shape.iter().product(), 1.0 / (inputs as f32).sqrt());
                Var::from_vec(values, shape, &Device::Cpu)
            };
            Ok((draw(shape)?, draw(&shape[..1])?))
        };
        Ok(Self {
            layers: [
                layer(&[32, 1, 3, 3])?,
                layer(&[64, 32, 3, 3])?,
                layer(&[UNITS, FLAT])?,
                layer(&[10, UNITS])?,
            ],
        })
    }

    /// The variables by name.
    pub fn variables(&self) -> Vec<(String, Var)> {
        let names = ["convolution1", "convolution2", "dense1", "dense2"];
        let pair = |(name, (weight, bias)): (&str, &(Var, Var))| {
            [(format!("{name}.weight"), weight.clone()), (format!("{name}.bias"), bias.clone())]
        };
        names.into_iter().zip(&self.layers).flat_map(pair).collect()
    }

    /// The logits of images `[n, 1, 28, 28]`; with random numbers for the dropouts while training.
    pub fn forward(&self, images: &Tensor, mut dropout: Option<&mut impl Rng>) -> Result<Tensor> {
        let [(kernels1, bias1), (kernels2, bias2), (weight1, offset1), (weight2, offset2)] = &self.layers;
        let hidden = convolve(images, kernels1, bias1)?.relu()?;
        // The largest of rectified values is the rectified largest, of a quarter as many.
        let hidden = max_pool(&convolve(&hidden, kernels2, bias2)?)?.relu()?.flatten_from(1)?;
        let hidden = dropped(hidden, 0.25, dropout.as_deref_mut())?;
        let hidden = hidden.matmul(&weight1.t()?)?.broadcast_add(offset1)?.relu()?;
        dropped(hidden, 0.5, dropout)?.matmul(&weight2.t()?)?.broadcast_add(offset2)
    }
}

fn dropped(hidden: Tensor, share: f32, generator: Option<&mut impl Rng>) -> Result<Tensor> {
    let Some(generator) = generator else { return Ok(hidden) };
    let draw = |_| if generator.random::<f32>() < share { 0.0 } else { 1.0 / (1.0 - share) };
    let mask: Vec<f32> = (0..hidden.elem_count()).map(draw).collect();
    &hidden * Tensor::from_vec(mask, hidden.dims(), &Device::Cpu)?
}
