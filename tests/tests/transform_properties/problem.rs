//! One small problem for all transforms, and running a chain on it.

use conformance::pair::Stored;
use gradient_transform::{
    Link, Optimizer, Parameter, ParameterGroup, Real, Settings, Snapshot, SplitGroups, StepOutcome,
};
use ndarray::{ArrayD, Axis, IxDyn};

pub(crate) type Boxed<T> = Box<dyn Link<T>>;

/// Parameters after every step.
pub(crate) type Trajectory = Vec<Vec<ArrayD<f64>>>;

/// Dense and factored, with the larger axis first, last and in the middle; a vector; one element alone.
pub(crate) const SHAPES: [&[usize]; 6] = [&[6, 5], &[33, 7], &[4, 40], &[2, 33, 4], &[13], &[1]];

/// More than a tile of each length, and not a multiple of any: a matrix that tiles divide, one that they don't, and a vector.
pub(crate) const TILED: [&[usize]; 3] = [&[64, 64], &[100, 131], &[3 * 2048 + 1]];

/// Enough for RAdam's variance to be tractable in the last four.
pub(crate) const STEPS: usize = 8;

/// Starts, and gradients by step and tensor. Gradients do not depend on the parameters, so that differences of
/// rounding are not amplified.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) init: Vec<ArrayD<f64>>,
    pub(crate) gradients: Vec<Vec<ArrayD<f64>>>,
}

/// Any number in [-1, 1), a multiple of 1/64.
fn noise(tensor: usize, element: usize, step: usize) -> f64 {
    let mut h = (tensor as u32).wrapping_mul(0x9e37_79b1)
        ^ (element as u32).wrapping_mul(0x85eb_ca6b)
        ^ (step as u32).wrapping_mul(0xc2b2_ae35);
    for _ in 0..2 {
        h = (h ^ (h >> 15)).wrapping_mul(0x2c1b_3c6d);
        h ^= h >> 12;
    }
    f64::from((h >> 16) % 128) / 64.0 - 1.0
}

impl Problem {
    /// Every element has a mean gradient of between 2 and 3 in magnitude, which turns round after five steps, and noise
    /// of up to 3. All values fit into bfloat16, so every type sees the same problem. None is 0: there ADOPT would divide
    /// by its epsilon.
    pub(crate) fn new() -> Self {
        Self::of(&SHAPES, STEPS)
    }

    /// The same for other tensors, and another number of steps.
    pub(crate) fn of(shapes: &[&[usize]], steps: usize) -> Self {
        let tensor = |i: usize, f: &dyn Fn(usize) -> f64| {
            let mut element = 0;
            ArrayD::from_shape_simple_fn(IxDyn(shapes[i]), || {
                element += 1;
                f(element)
            })
        };
        let mean = |i, e| {
            let noise = noise(i, e, 1000);
            if noise < 0.0 { noise - 2.0 } else { noise + 2.0 }
        };
        let turned = |t| if t < 5 { 1.0 } else { -1.0 };
        let rounded = |x: f64| if x.abs() < 1.0 / 32.0 { 1.0 / 32.0 } else { (x * 32.0).round() / 32.0 };
        Self {
            init: (0..shapes.len()).map(|i| tensor(i, &|e| 2.0 * noise(i, e, 2000))).collect(),
            gradients: (0..steps)
                .map(|t| {
                    (0..shapes.len())
                        .map(|i| tensor(i, &|e| rounded(turned(t) * mean(i, e) + 3.0 * noise(i, e, t))))
                        .collect()
                })
                .collect(),
        }
    }

    /// Parameters and gradients multiplied.
    pub(crate) fn scaled(&self, parameters: f64, gradients: f64) -> Self {
        Self {
            init: self.init.iter().map(|p| p * parameters).collect(),
            gradients: self
                .gradients
                .iter()
                .map(|step| step.iter().map(|g| g * gradients).collect())
                .collect(),
        }
    }

    /// Gradients of zero from step `from` on, counted from 0.
    pub(crate) fn without_gradients_from(mut self, from: usize) -> Self {
        self.gradients[from..].iter_mut().flatten().for_each(|g| g.fill(0.0));
        self
    }

    /// The slices along the first axis in another order.
    pub(crate) fn permuted(&self) -> Self {
        Self {
            init: self.init.iter().map(permuted).collect(),
            gradients: self.gradients.iter().map(|step| step.iter().map(permuted).collect()).collect(),
        }
    }
}

/// The slices along the first axis in another order, in which none stays where it was.
pub(crate) fn permuted(a: &ArrayD<f64>) -> ArrayD<f64> {
    let n = a.len_of(Axis(0));
    let order: Vec<usize> = (0..n).rev().map(|i| (i + n / 2) % n).collect();
    a.select(Axis(0), &order)
}

/// A chain at work on a problem.
pub(crate) struct Running<T: Real, E> {
    pub(crate) optimizer: Optimizer<T>,
    pub(crate) values: Vec<ArrayD<E>>,
}

impl<T: Real, E: Stored> Running<T, E> {
    pub(crate) fn new(chain: Boxed<T>, lr: f64, problem: &Problem) -> Self {
        let parameters = problem.init.iter().enumerate().map(|(i, start)| (i.to_string(), start.shape()));
        let mut optimizer = Optimizer::new(chain, parameters).unwrap();
        optimizer.set_lr(0, lr).unwrap();
        Self { optimizer, values: problem.init.iter().map(|p| p.mapv(E::of)).collect() }
    }

    /// A group for each of the chains, which share the tensors out.
    pub(crate) fn in_groups(
        chains: Vec<Boxed<T>>,
        split_groups: SplitGroups,
        lr: f64,
        problem: &Problem,
    ) -> Self {
        let size = problem.init.len().div_ceil(chains.len());
        let mut names = (0..).map(|i: usize| i.to_string());
        let groups = chains.into_iter().zip(problem.init.chunks(size)).map(|(chain, init)| {
            let parameters = init.iter().map(|start| (names.next().unwrap(), start.shape()));
            ParameterGroup::new(chain, parameters.collect::<Vec<_>>()).lr(lr)
        });
        let settings = Settings { split_groups, ..Settings::default() };
        let optimizer = Optimizer::with_groups(groups, settings).unwrap();
        Self { optimizer, values: problem.init.iter().map(|p| p.mapv(E::of)).collect() }
    }

    pub(crate) fn step(&mut self, gradients: &[ArrayD<f64>]) {
        let gradients: Vec<ArrayD<E>> = gradients.iter().map(|g| g.mapv(E::of)).collect();
        let mut parameters: Vec<Parameter<'_>> = self
            .values
            .iter_mut()
            .zip(&gradients)
            .map(|(v, g)| Parameter::array(v.view_mut(), Some(g.view())))
            .collect();
        assert_eq!(self.optimizer.step(&mut parameters), Ok(StepOutcome::Done));
    }

    /// A step whose gradients arrive one by one, the last parameter's first.
    pub(crate) fn step_one_by_one(&mut self, gradients: &[ArrayD<f64>]) {
        let mut step = self.optimizer.begin_step().unwrap();
        for (i, (value, gradient)) in self.values.iter_mut().zip(gradients).enumerate().rev() {
            let gradient = gradient.mapv(E::of);
            step.parameter(i, Parameter::array(value.view_mut(), Some(gradient.view()))).unwrap();
        }
        step.end();
    }

    /// Everything there is, to the bit; JSON tells neither -0 from 0 nor one NaN from another, so parameters are bits.
    pub(crate) fn everything(&self) -> (Vec<Vec<u64>>, Snapshot) {
        let bits = self.values.iter().map(|v| v.iter().map(|v| v.bits()).collect()).collect();
        (bits, self.optimizer.snapshot())
    }

    pub(crate) fn wide(&self) -> Vec<ArrayD<f64>> {
        self.values.iter().map(|v| v.mapv(E::f64)).collect()
    }
}

/// The parameters after every step.
pub(crate) fn trajectory<T: Real, E: Stored>(chain: Boxed<T>, lr: f64, problem: &Problem) -> Trajectory {
    let mut running = Running::<T, E>::new(chain, lr, problem);
    let steps = problem.gradients.iter().map(|gradients| {
        running.step(gradients);
        running.wide()
    });
    steps.collect()
}

/// Where two trajectories are furthest apart.
pub(crate) struct Deviation {
    pub(crate) step: usize,
    pub(crate) tensor: usize,
    /// How far the two are apart, relative to how far the second has come, after the parameter's own rounding is
    /// taken off.
    pub(crate) relative: f64,
}

fn norm(a: &ArrayD<f64>) -> f64 {
    a.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// Where two trajectories differ most. A parameter is rounded once or twice a step, to half of `2 * unit` of its
/// size; that much isn't the transform's.
pub(crate) fn deviation(a: &Trajectory, b: &Trajectory, init: &[ArrayD<f64>], unit: f64) -> Deviation {
    let mut worst = Deviation { step: 0, tensor: 0, relative: 0.0 };
    assert_eq!(a.len(), b.len());
    for (step, (a, b)) in a.iter().zip(b).enumerate() {
        for (tensor, (a, b)) in a.iter().zip(b).enumerate() {
            let way = norm(&(b - &init[tensor]));
            let rounding = 2.0 * (step + 1) as f64 * unit * norm(b);
            let off = norm(&(a - b)) - rounding;
            // Where nothing has moved, nothing but rounding may.
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
