//! Training on four small problems, each of which has revealed faults of optimizers.

use anyhow::{Result, ensure};
use gradient_transform::StepContext;
use ndarray::ArrayD;

use crate::law::{Broken, Law};
use crate::problem::{filled, noise};
use crate::row::Row;
use crate::running::Running;

/// Training of a row: the share of the loss that may be left on each of four small problems.
///
/// The problems are a quadratic whose curvatures differ by a factor of 100, softmax regression, Rosenbrock's
/// valley, and linear regression on batches with additional noise. Each has a matrix, and in two it is
/// factored. The learning rate falls linearly to 0.
///
/// ```
/// use gradient_transform::Descent;
/// use transform_laws::{Law, Laws, Training, formula, row};
///
/// let mut row = row!(descent {
///     transform: Descent::with_decay(1e-4),
///     instead: [Descent::default()],
///     laws: Laws { training: Training::at(0.9), ..Laws::default() },
///     formula: |problem, lr| formula::descent(problem, lr, 1e-4, formula::gradient),
/// });
/// Law::Training.check(&row)?;
///
/// row.laws.training.steps = 3;
/// let broken = Law::Training.check(&row).unwrap_err();
/// assert!(broken.how.contains("of the loss is left"), "{broken}");
/// # Ok::<(), transform_laws::Broken>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Training {
    /// The learning rate at the start. Default 1, which suits plain descent: the largest curvature is about 1.
    pub lr: f64,
    /// Steps on each problem. Default 600.
    pub steps: usize,
    /// The share of the loss that may be left. Default 0.05. Allow more for a transform that does not only
    /// minimise the loss: decay, or constant norms.
    pub left: f64,
}

impl Default for Training {
    fn default() -> Self {
        Self { lr: 1.0, steps: 600, left: 0.05 }
    }
}

impl Training {
    /// The default with another learning rate.
    pub fn at(lr: f64) -> Self {
        Self { lr, ..Self::default() }
    }
}

type Tensors = [ArrayD<f64>];

/// The gradients of a step, by its number and the parameters.
type Gradients = dyn Fn(usize, &Tensors) -> Vec<ArrayD<f64>>;

struct Task {
    name: &'static str,
    start: Vec<ArrayD<f64>>,
    loss: Box<dyn Fn(&Tensors) -> f64>,
    /// The gradients of a step, counted from 0.
    gradients: Box<Gradients>,
}

/// `sum a (w - target)^2 / 2` with `a` from 1 down to 1/100.
fn ill_conditioned() -> Task {
    const SHAPES: [&[usize]; 2] = [&[6, 40], &[5]];
    let tensors = |f: fn(usize, usize) -> f64| -> Vec<ArrayD<f64>> {
        SHAPES.iter().enumerate().map(|(i, shape)| filled(shape, |e| f(i, e))).collect()
    };
    let curvatures = tensors(|i, e| 100.0_f64.powf((noise(20 + i, e, 0) - 1.0) / 2.0));
    let targets = tensors(|i, e| noise(22 + i, e, 0));
    let (of_loss, optimum) = (curvatures.clone(), targets.clone());
    Task {
        name: "an ill-conditioned quadratic",
        start: tensors(|i, e| 0.5 * noise(24 + i, e, 0)),
        loss: Box::new(move |w| {
            let each = w.iter().zip(&of_loss).zip(&optimum);
            each.map(|((w, a), target)| (a * (w - target).mapv(|x| x * x)).sum() / 2.0).sum()
        }),
        gradients: Box::new(move |_, w| {
            let each = w.iter().zip(&curvatures).zip(&targets);
            each.map(|((w, a), target)| a * (w - target)).collect()
        }),
    }
}

/// Samples of a linear map: inputs, and the outputs of a map with known weights.
struct Samples {
    features: usize,
    inputs: Vec<Vec<f64>>,
    outputs: Vec<Vec<f64>>,
}

/// `w x + b`, of weights and biases.
fn linear(w: &Tensors, x: &[f64]) -> Vec<f64> {
    let [w, b] = w else { return Vec::new() };
    let rows = w.rows().into_iter().zip(b);
    rows.map(|(row, b)| row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>() + b).collect()
}

impl Samples {
    fn new(seed: usize, [count, features, outputs]: [usize; 3]) -> Self {
        let teacher =
            [filled(&[outputs, features], |e| noise(seed, e, 1)), filled(&[outputs], |e| noise(seed, e, 2))];
        let inputs: Vec<Vec<f64>> = (0..count)
            .map(|sample| (0..features).map(|i| noise(seed, features * sample + i, 3)).collect())
            .collect();
        let outputs = inputs.iter().map(|x| linear(&teacher, x)).collect();
        Self { features, inputs, outputs }
    }

    fn len(&self) -> usize {
        self.inputs.len()
    }

    /// Weights and biases near 0.
    fn start(&self, seed: usize) -> Vec<ArrayD<f64>> {
        let outputs = self.outputs.first().map_or(0, Vec::len);
        let small = |kind| move |e| 0.1 * noise(seed, e, kind);
        vec![filled(&[outputs, self.features], small(4)), filled(&[outputs], small(5))]
    }

    /// The mean over `chosen` samples of the gradient by weights and biases, from that by the map's value, which is a function of
    /// the value and of the sample's output.
    fn gradients(
        &self,
        chosen: &[usize],
        w: &Tensors,
        by_value: fn(&[f64], &[f64]) -> Vec<f64>,
    ) -> Vec<ArrayD<f64>> {
        let mut gradients: Vec<ArrayD<f64>> = w.iter().map(|w| w * 0.0).collect();
        let [of_w, of_b] = &mut gradients[..] else { return gradients };
        for &sample in chosen {
            let (x, output) = (&self.inputs[sample], &self.outputs[sample]);
            let by_value = by_value(&linear(w, x), output);
            for ((mut row, b), by_value) in of_w.rows_mut().into_iter().zip(of_b.iter_mut()).zip(by_value) {
                let by_value = by_value / chosen.len() as f64;
                *b += by_value;
                row.iter_mut().zip(x).for_each(|(w, x)| *w += by_value * x);
            }
        }
        gradients
    }

    fn mean_loss(&self, w: &Tensors, of: fn(&[f64], &[f64]) -> f64) -> f64 {
        let samples = self.inputs.iter().zip(&self.outputs);
        samples.map(|(x, output)| of(&linear(w, x), output)).sum::<f64>() / self.len() as f64
    }
}

/// The index of the largest.
fn class(outputs: &[f64]) -> usize {
    (0..outputs.len()).max_by(|&a, &b| outputs[a].total_cmp(&outputs[b])).unwrap_or(0)
}

fn probabilities(values: &[f64]) -> Vec<f64> {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = values.iter().map(|value| (value - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// Three separable classes.
fn softmax_regression() -> Task {
    let samples = Samples::new(30, [60, 40, 3]);
    let of_loss = Samples::new(30, [60, 40, 3]);
    Task {
        name: "softmax regression",
        start: samples.start(31),
        loss: Box::new(move |w| {
            of_loss.mean_loss(w, |values, outputs| -probabilities(values)[class(outputs)].ln())
        }),
        gradients: Box::new(move |_, w| {
            let all: Vec<usize> = (0..samples.len()).collect();
            samples.gradients(&all, w, |values, outputs| {
                let mut difference = probabilities(values);
                difference[class(outputs)] -= 1.0;
                difference
            })
        }),
    }
}

/// `((1 - x)^2 + 10 (y - x^2)^2) / 100`, from six different starts: the x are the first row, the y the
/// second.
fn rosenbrock() -> Task {
    let pairs = |w: &Tensors| -> Vec<(f64, f64)> {
        let Some(w) = w.first() else { return Vec::new() };
        (0..6).map(|i| (w[[0, i]], w[[1, i]])).collect()
    };
    Task {
        name: "Rosenbrock's valley",
        start: vec![filled(&[2, 6], |e| if e <= 6 { -0.8 + 0.3 * noise(40, e, 0) } else { 0.8 })],
        loss: Box::new(move |w| {
            let each = pairs(w).into_iter();
            each.map(|(x, y)| ((1.0 - x).powi(2) + 10.0 * (y - x * x).powi(2)) / 100.0).sum()
        }),
        gradients: Box::new(move |_, w| {
            let pairs = pairs(w);
            let gradient = |e: usize| {
                let (x, y) = pairs[(e - 1) % 6];
                let off = 20.0 * (y - x * x);
                (if e <= 6 { -2.0 * (1.0 - x) - 2.0 * x * off } else { off }) / 100.0
            };
            vec![filled(&[2, 6], gradient)]
        }),
    }
}

/// Four outputs, on batches of eight samples, with additional noise in every gradient.
fn noisy_regression() -> Task {
    let samples = Samples::new(50, [80, 33, 4]);
    let of_loss = Samples::new(50, [80, 33, 4]);
    Task {
        name: "noisy linear regression",
        start: samples.start(51),
        loss: Box::new(move |w| {
            of_loss.mean_loss(w, |values, outputs| {
                values.iter().zip(outputs).map(|(value, output)| (value - output).powi(2) / 2.0).sum()
            })
        }),
        gradients: Box::new(move |step, w| {
            let any = |i| ((noise(52, i, step) + 1.0) * 64.0) as usize + 128 * step + 31 * i;
            let batch: Vec<usize> = (0..8).map(|i| any(i) % samples.len()).collect();
            let mut gradients = samples.gradients(&batch, w, |values, outputs| {
                values.iter().zip(outputs).map(|(value, output)| value - output).collect()
            });
            for (i, gradient) in gradients.iter_mut().enumerate() {
                let noise = filled(gradient.shape(), |e| 0.1 * noise(53 + i, e, step));
                *gradient += &noise;
            }
            gradients
        }),
    }
}

fn shares(row: &Row, training: Training) -> Result<Vec<(&'static str, f64)>> {
    let tasks = [ill_conditioned(), softmax_regression(), rosenbrock(), noisy_regression()];
    // The loss of all samples takes longer than the gradient of a batch, and few transforms use it.
    let told_nothing = StepContext::new(1, training.lr);
    let needs_loss = row.members::<f32>().iter().any(|member| (**member).check_step(&told_nothing).is_err());
    let run = |task: Task| {
        let mut running = Running::<f32, f32>::new(row.chain(true), training.lr, &task.start)?;
        for step in 0..training.steps {
            let left = 1.0 - step as f64 / training.steps as f64;
            running.optimizer.set_lr(0, training.lr * left)?;
            let w = running.wide();
            let loss = if needs_loss { (task.loss)(&w) } else { 0.0 };
            running.step((&(task.gradients)(step, &w), loss))?;
        }
        Ok((task.name, (task.loss)(&running.wide()) / (task.loss)(&task.start)))
    };
    tasks.into_iter().map(run).collect()
}

/// The share of the loss that is left on each of the four problems, to choose a row's [`Training`].
///
/// ```
/// use gradient_transform::Descent;
/// use transform_laws::{Laws, Training, formula, row, shares_left};
///
/// let row = row!(descent {
///     transform: Descent::with_decay(1e-4),
///     instead: [Descent::default()],
///     laws: Laws::default(),
///     formula: |problem, lr| formula::descent(problem, lr, 1e-4, formula::gradient),
/// });
/// for lr in [0.1, 1.0] {
///     for (problem, share) in shares_left(&row, Training::at(lr))? {
///         println!("lr {lr}, {problem}: {share:.3}");
///     }
/// }
/// # Ok::<(), transform_laws::Broken>(())
/// ```
///
/// # Errors
/// The chain or a step is an error.
pub fn shares_left(row: &Row, training: Training) -> Result<Vec<(&'static str, f64)>, Broken> {
    shares(row, training).map_err(|how| Broken { row: row.name, law: Law::Training, how: format!("{how:#}") })
}

pub(crate) fn trains(row: &Row) -> Result<()> {
    let training = row.laws.training;
    for (problem, share) in shares(row, training)? {
        ensure!(
            share <= training.left,
            "{share:.3} of the loss is left of {problem} after {} steps from a learning rate of {}, not {} or less; \
             `shares_left` shows what another learning rate does",
            training.steps,
            training.lr,
            training.left,
        );
    }
    Ok(())
}
