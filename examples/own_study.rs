//! An ablation study with a custom task and a custom transform: the whole `ablate` program, and two more names that a
//! study file can use.
//!
//! The task is a regression of which some labels are far off; the transform clips the gradient's norm. Does that help an
//! optimizer that clips its updates already, and what if it doesn't?
//!
//! `cargo run --release -p examples --example own_study -- run examples/own_study.toml` answers in `ablation/own_study/report.html`.

use std::process::ExitCode;

use ablate::registry::{Registry, TransformKind};
use ablate_tasks::random::{Purpose, epoch_batch, generator, normal};
use ablate_tasks::{About, Batch, Evaluation, Gradients, InitialParameter, Measure, Split, Task, TaskKind};
use gradient_transform::{Backend, Context, Element, Error, GradientTransform, Num, fields, transform};
use rand::Rng;
use serde::{Deserialize, Serialize};

/// `u <- u * min(1, max_norm / |u|)` for every tensor (Pascanu et al., 1211.5063, section 3.2).
#[derive(Clone, Debug)]
struct ClipNorm {
    max_norm: f64,
}

/// Sum over a tensor.
#[fields]
struct Squares<V> {
    update: V,
}

/// Factor of the update.
#[fields]
struct Factor<V> {
    factor: V,
}

#[transform("clip-norm")]
impl GradientTransform for ClipNorm {
    type Sums<V: Copy> = Squares<V>;
    type Scalars<V: Copy> = Factor<V>;

    fn validate(&self) -> gradient_transform::Result<()> {
        Error::check("max_norm", self.max_norm, self.max_norm > 0.0, "above 0")
    }

    fn measure<B: Backend>(&self, e: &Element<B, Self>) -> Squares<Num<B>> {
        Squares { update: e.update.squared() }
    }

    fn finalize(&self, _cx: &Context<'_>, sums: Squares<f64>, scalars: &mut Factor<f64>) {
        scalars.factor = self.max_norm / sums.update.sqrt().max(self.max_norm);
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.update = e.scalars.factor * e.update;
    }
}

/// Options of a study: `{ transform = "clip-norm", max_norm = 0.5 }`.
#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ClipNormOptions {
    max_norm: f64,
}

impl Default for ClipNormOptions {
    fn default() -> Self {
        Self { max_norm: 1.0 }
    }
}

const FEATURES: usize = 32;
const EXAMPLES: usize = 512;
/// The data are the same for every run.
const DATA_SEED: u64 = 11;

/// Features with a one after them, and labels, of one split.
struct Rows {
    features: Vec<f32>,
    labels: Vec<f32>,
}

/// A linear regression by least squares on labels of which some are far off.
struct Regression {
    train: Rows,
    clean: Rows,
}

/// Options of a study: `{ task = "regression", outliers = 0.1 }`.
#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RegressionOptions {
    /// The share of training labels that are far off.
    outliers: f64,
}

impl Default for RegressionOptions {
    fn default() -> Self {
        Self { outliers: 0.05 }
    }
}

impl Regression {
    fn new(options: RegressionOptions) -> anyhow::Result<Self> {
        let share = options.outliers;
        anyhow::ensure!((0.0..=1.0).contains(&share), "outliers = {share} must be from 0 to 1");
        let mut generator = generator(DATA_SEED, Purpose::Initialisation);
        let solution = normal(&mut generator, FEATURES, 1.0);
        let mut rows = |outliers: f64| {
            let features = normal(&mut generator, EXAMPLES * FEATURES, 1.0);
            let labels = features.chunks_exact(FEATURES).map(|row| {
                let noise = if generator.random_bool(outliers) { 50.0 } else { 0.1 };
                dot(row, &solution) + noise * generator.random_range(-1.0..1.0)
            });
            let labels = labels.collect();
            Rows { features, labels }
        };
        Ok(Self { train: rows(share), clean: rows(0.0) })
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Half the mean squared error at the given rows, and its gradient.
fn least_squares(rows: &Rows, places: &[u32], w: &[f32]) -> (f64, Vec<f32>) {
    let (mut loss, mut gradient) = (0.0, vec![0.0; w.len()]);
    for &place in places {
        let row = &rows.features[place as usize * FEATURES..][..FEATURES];
        let error = (dot(row, w) - rows.labels[place as usize]) / (places.len() as f32).sqrt();
        loss += f64::from(error * error) / 2.0;
        for (g, x) in gradient.iter_mut().zip(row) {
            *g += error * x / (places.len() as f32).sqrt();
        }
    }
    (loss, gradient)
}

impl Task for Regression {
    fn about(&self) -> About {
        About {
            description: format!(
                "Least squares in {FEATURES} dimensions from {EXAMPLES} rows, batches of 16; evaluated on clean labels."
            ),
            reason: "Gradients with heavy tails, which clipping is for.".into(),
            measure: Measure::LogLoss,
            target: 0.05,
            test_examples: None,
            steps: 1500,
        }
    }

    fn initial_parameters(&self, seed: u64) -> Vec<InitialParameter> {
        let w = normal(&mut generator(seed, Purpose::Initialisation), FEATURES, 1.0);
        vec![InitialParameter::new("w", &[FEATURES], w)]
    }

    fn batch(&self, seed: u64, step: usize) -> Batch {
        Batch { seed, step, examples: epoch_batch(seed, step, EXAMPLES, 16) }
    }

    fn gradients(&self, weights: &[&[f32]], batch: &Batch) -> anyhow::Result<Gradients> {
        let (loss, gradient) = least_squares(&self.train, &batch.examples, weights[0]);
        Ok(Gradients { loss, of: vec![Some(gradient)] })
    }

    fn evaluate(&self, weights: &[&[f32]], split: Split) -> anyhow::Result<Evaluation> {
        let rows = if split == Split::Train { &self.train } else { &self.clean };
        let all: Vec<u32> = (0..EXAMPLES as u32).collect();
        Ok(Evaluation { loss: least_squares(rows, &all, weights[0]).0, accuracy: None })
    }
}

/// Everything that ships, and the task and the transform above.
pub(crate) fn registry() -> Registry {
    Registry::shipped()
        .with_task(TaskKind::new("regression", "least squares with labels that are far off", Regression::new))
        .with_transform(TransformKind::new(
            "clip-norm",
            "the gradient's norm clipped",
            |o: ClipNormOptions| ClipNorm { max_norm: o.max_norm },
        ))
        // Runs are stored; change this with the code above, and they are done again.
        .with_version("1")
}

fn main() -> ExitCode {
    ablate::cli::main(&registry())
}
