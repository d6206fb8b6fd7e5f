use ndarray::{ArrayD, Axis, IxDyn};

/// Parameters after every step, tensor by tensor.
///
/// ```
/// use transform_laws::{Problem, Trajectory};
///
/// /// The formula of a chain that moves nothing.
/// fn still(problem: &Problem, _lr: f64) -> Trajectory {
///     problem.gradients.iter().map(|_| problem.init.clone()).collect()
/// }
/// assert_eq!(still(&Problem::of(&[&[2]], 3), 0.1).len(), 3);
/// ```
pub type Trajectory = Vec<Vec<ArrayD<f64>>>;

/// Dense and factored, with the larger axis first, last and in the middle; a vector; a single element.
pub(crate) const SHAPES: [&[usize]; 6] = [&[6, 5], &[33, 7], &[4, 40], &[2, 33, 4], &[13], &[1]];

/// Longer than a tile: a matrix whose size is a multiple of a tile, one whose size is not, and a vector.
pub(crate) const TILED: [&[usize]; 3] = [&[64, 64], &[100, 131], &[3 * 2048 + 1]];

/// Enough for RAdam's variance to be tractable in the last four.
pub(crate) const STEPS: usize = 8;

/// Starts, and gradients by step and tensor, with a loss for transforms that need it. Gradients and losses do
/// not depend on the parameters, so that differences of rounding are not amplified.
///
/// ```
/// use transform_laws::Problem;
///
/// let problem = Problem::of(&[&[6, 5], &[13]], 3);
/// assert_eq!((problem.gradients.len(), problem.losses.len()), (3, 3));
/// assert_eq!(problem.gradients[0][1].shape(), problem.init[1].shape());
/// ```
#[derive(Clone, Debug)]
pub struct Problem {
    /// Initial values of the tensors.
    pub init: Vec<ArrayD<f64>>,
    /// The gradients, by step and tensor.
    pub gradients: Vec<Vec<ArrayD<f64>>>,
    /// The losses, by step.
    pub losses: Vec<f64>,
}

/// A pseudo-random number in [-1, 1), a multiple of 1/64.
pub(crate) fn noise(tensor: usize, element: usize, step: usize) -> f64 {
    let mut h = (tensor as u32).wrapping_mul(0x9e37_79b1)
        ^ (element as u32).wrapping_mul(0x85eb_ca6b)
        ^ (step as u32).wrapping_mul(0xc2b2_ae35);
    for _ in 0..2 {
        h = (h ^ (h >> 15)).wrapping_mul(0x2c1b_3c6d);
        h ^= h >> 12;
    }
    f64::from((h >> 16) % 128) / 64.0 - 1.0
}

/// A tensor of this shape whose elements, counted from 1, are a function of their number.
pub(crate) fn filled(shape: &[usize], f: impl Fn(usize) -> f64) -> ArrayD<f64> {
    let mut element = 0;
    ArrayD::from_shape_simple_fn(IxDyn(shape), || {
        element += 1;
        f(element)
    })
}

impl Problem {
    /// The problem of most laws: eight steps of dense tensors, factored tensors, a vector, and a single
    /// element.
    pub(crate) fn usual() -> Self {
        Self::of(&SHAPES, STEPS)
    }

    /// A problem for tensors of these shapes.
    ///
    /// Every element has a mean gradient of between 2 and 3 in magnitude, which changes its sign after five
    /// steps, and noise of up to 3. The loss falls to 2 and stays there. All values fit into bfloat16, so
    /// every type sees the same problem. No value is 0, because there ADOPT would divide by its epsilon.
    pub fn of(shapes: &[&[usize]], steps: usize) -> Self {
        let mean = |i, e| {
            let noise = noise(i, e, 1000);
            if noise < 0.0 { noise - 2.0 } else { noise + 2.0 }
        };
        let turned = |t| if t < 5 { 1.0 } else { -1.0 };
        let rounded = |x: f64| if x.abs() < 1.0 / 32.0 { 1.0 / 32.0 } else { (x * 32.0).round() / 32.0 };
        let tensors = || shapes.iter().enumerate();
        Self {
            init: tensors().map(|(i, shape)| filled(shape, |e| 2.0 * noise(i, e, 2000))).collect(),
            gradients: (0..steps)
                .map(|t| {
                    let gradient = |i, e| rounded(turned(t) * mean(i, e) + 3.0 * noise(i, e, t));
                    tensors().map(|(i, shape)| filled(shape, |e| gradient(i, e))).collect()
                })
                .collect(),
            losses: (0..steps).map(|t| (5.0 - t as f64).max(2.0)).collect(),
        }
    }

    /// Parameters and gradients multiplied, and the loss with both.
    pub(crate) fn scaled(&self, parameters: f64, gradients: f64) -> Self {
        Self {
            init: self.init.iter().map(|p| p * parameters).collect(),
            gradients: self
                .gradients
                .iter()
                .map(|step| step.iter().map(|g| g * gradients).collect())
                .collect(),
            losses: self.losses.iter().map(|loss| loss * parameters * gradients).collect(),
        }
    }

    /// The gradients of each step, and its loss.
    pub(crate) fn steps(&self) -> impl Iterator<Item = (&[ArrayD<f64>], f64)> {
        self.gradients.iter().map(Vec::as_slice).zip(self.losses.iter().copied())
    }

    /// Gradients of zero from step `from` on, counted from 0.
    pub(crate) fn without_gradients_from(mut self, from: usize) -> Self {
        self.gradients.iter_mut().skip(from).flatten().for_each(|g| g.fill(0.0));
        self
    }

    /// The slices along the first axis in another order.
    pub(crate) fn permuted(&self) -> Self {
        Self {
            init: self.init.iter().map(permuted).collect(),
            gradients: self.gradients.iter().map(|step| step.iter().map(permuted).collect()).collect(),
            losses: self.losses.clone(),
        }
    }
}

/// The slices along the first axis in another order, in which no slice keeps its position.
pub(crate) fn permuted(a: &ArrayD<f64>) -> ArrayD<f64> {
    let n = a.len_of(Axis(0));
    let order: Vec<usize> = (0..n).rev().map(|i| (i + n / 2) % n).collect();
    a.select(Axis(0), &order)
}

/// The largest difference of two trajectories.
pub(crate) struct Deviation {
    pub(crate) step: usize,
    pub(crate) tensor: usize,
    /// Distance of the two, relative to the distance covered by the second, less the parameter's own rounding.
    pub(crate) relative: f64,
}

fn norm(a: &ArrayD<f64>) -> f64 {
    a.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// The largest difference of two trajectories, and its place. A parameter is rounded once or twice a step, to half of `2 * unit` of its
/// size; this part does not come from the transform.
pub(crate) fn deviation(a: &Trajectory, b: &Trajectory, init: &[ArrayD<f64>], unit: f64) -> Deviation {
    let mut worst = Deviation { step: 0, tensor: 0, relative: 0.0 };
    for (step, (a, b)) in a.iter().zip(b).enumerate() {
        for (tensor, ((a, b), init)) in a.iter().zip(b).zip(init).enumerate() {
            let way = norm(&(b - init));
            let rounding = 2.0 * (step + 1) as f64 * unit * norm(b);
            let off = norm(&(a - b)) - rounding;
            // If nothing has moved, only rounding may differ.
            let relative = if off <= 0.0 { 0.0 } else { off / way };
            if relative > worst.relative || relative.is_nan() {
                worst = Deviation { step: step + 1, tensor, relative };
            }
            if worst.relative.is_nan() {
                return worst;
            }
        }
    }
    worst
}
