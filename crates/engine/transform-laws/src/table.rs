//! Readable tables of short trajectories, which show how a change affects a transform.
//!
//! There are two tensors: `w`, 2 x 3, is shown element by element; `f`, 33 x 2, long enough for a moment to
//! be factored, by its norm and, in brackets, its smallest and largest element, like every array of more than
//! six numbers. The gradients of the fourth step have the opposite sign, and in the sixth step `f` has none.
//! Each step shows
//!
//! - the gradient, and the update that the writer gets;
//! - the parameter's displacement from its start, and Schedule-Free's z likewise;
//! - all other state, by its checkpoint key;
//! - of the group: the estimate and the step size.
//!
//! Except for tables in bfloat16, everything is computed in float64 and shown to four digits, so that
//! differences of instruction sets or of the order of summation are not visible.
//!
//! ```
//! use gradient_transform::{Descent, Optimizer};
//! use half::bf16;
//! use transform_laws::table;
//!
//! let of_chain = table::of_chain(0.1, |probe| Box::new((probe, Descent::default())))?;
//! assert!(of_chain.starts_with("step 1\n w\n  gradient"));
//! assert!(of_chain.contains("\n  update "));
//!
//! // An optimizer of any chain and any groups, in any type.
//! let optimizer = Optimizer::new(Descent::default(), table::SHAPES)?;
//! let in_bfloat16 = table::of_optimizer::<f32, bf16>(optimizer)?;
//! assert!(!in_bfloat16.contains("update"));
//! # Ok::<(), gradient_transform::Error>(())
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use gradient_transform::{Buffer, Context, Link, Loss, Optimizer, Parameter, Real, Result, Sums, Tile};

use crate::number::Number;
use crate::row::Boxed;

const STEPS: usize = 6;

/// Start and mean gradient of `w`.
const W: [f64; 6] = [0.7, -1.1, 0.3, -0.4, 1.3, -0.9];
const MEAN: [f64; 6] = [0.9, -0.35, 1.7, -0.13, 0.21, 0.57];

/// The tensors of a table.
pub const SHAPES: [(&str, &[usize]); 2] = [("w", &[2, 3]), ("f", &[33, 2])];

fn init() -> [Vec<f64>; 2] {
    [W.to_vec(), (0..66).map(|i| 0.8 * (1.3 * f64::from(i)).cos()).collect()]
}

/// Gradients at step `t`, from 1: a mean for every element and a wave across them. Those of the fourth step
/// have the opposite sign, and in the sixth `f` has none.
fn gradients(t: usize) -> [Option<Vec<f64>>; 2] {
    let turn = if t == 4 { -0.7 } else { 1.0 };
    let wave = |i: usize| 0.3 * (2.1 * t as f64 + 0.9 * i as f64).sin();
    let w = (0..6).map(|i| turn * MEAN[i] + wave(i)).collect();
    let f = (0..66).map(|i| turn * (0.2 + 0.1 * (i % 7) as f64) + wave(i)).collect();
    [Some(w), (t != 6).then_some(f)]
}

/// The loss at step `t`, from 1, for transforms that need it: it stops falling after the third.
fn loss(t: usize) -> f64 {
    (5.0 - t as f64).max(2.0)
}

/// Four digits, in nine characters.
fn number(x: f64) -> String {
    // A number that should be 0 may be a rounding error; all others are far larger.
    if x.abs() < 1e-14 { format!("{:>10}", 0) } else { format!("{x:>10.3e}") }
}

/// A line of numbers: all of them if there are a few, or else their norm, smallest and largest.
fn line(table: &mut String, name: &str, values: &[f64]) {
    let _ = write!(table, "  {name:<24}");
    if values.is_empty() {
        table.push_str("none");
    } else if values.len() <= 6 {
        values.iter().for_each(|&x| table.push_str(&number(x)));
    } else {
        let norm = values.iter().map(|x| x * x).sum::<f64>().sqrt();
        let (least, most) = values.iter().fold((f64::MAX, f64::MIN), |(l, m), &x| (l.min(x), m.max(x)));
        let _ = write!(table, "{}  in [{}, {}]", number(norm), number(least).trim(), number(most).trim());
    }
    table.push('\n');
}

fn wide(buffer: &Buffer) -> Vec<f64> {
    (0..buffer.len()).map(|i| buffer.get(i)).collect()
}

/// Updates of the last step, by tensor.
#[derive(Clone, Debug, Default)]
struct Updates(Arc<Mutex<BTreeMap<String, Vec<f64>>>>);

impl Updates {
    fn with<R>(&self, f: impl FnOnce(&mut BTreeMap<String, Vec<f64>>) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Reads the update in the last sweep, without changing it.
///
/// ```
/// use gradient_transform::Descent;
/// use transform_laws::table::{Probe, of_chain};
///
/// let table = of_chain(0.1, |probe: Probe| Box::new((probe, Descent::default())))?;
/// assert_eq!(table.matches("  update").count(), 12);
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Debug)]
pub struct Probe(Updates);

impl<T: Real> Link<T> for Probe {
    fn name(&self) -> &str {
        "probe"
    }

    fn commit(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, _sums: Sums<'_, T>) {
        self.0.with(|updates| {
            updates
                .entry(cx.tensor.name.clone())
                .or_default()
                .extend(tile.update.values().iter().map(|u| u.f64()));
        });
    }
}

/// The table of a chain with a probe before the writer.
///
/// # Errors
/// Those of the chain, or of a step.
pub fn of_chain(lr: f64, chain: impl FnOnce(Probe) -> Boxed<f64>) -> Result<String> {
    let updates = Updates::default();
    let mut optimizer = Optimizer::new_in(chain(Probe(updates.clone())), SHAPES)?;
    optimizer.set_lr(0, lr)?;
    table::<f64, f64>(optimizer, Some(&updates))
}

/// The table of an optimizer of [`SHAPES`], with parameters and gradients of type `E`. Without a probe, it has no updates.
///
/// # Errors
/// Those of a step.
pub fn of_optimizer<T: Real, E: Number>(optimizer: Optimizer<T>) -> Result<String> {
    table::<T, E>(optimizer, None)
}

fn table<T: Real, E: Number>(mut optimizer: Optimizer<T>, updates: Option<&Updates>) -> Result<String> {
    let mut table = String::new();
    let stored = |values: &[f64]| values.iter().map(|&x| E::of(x)).collect::<Vec<E>>();
    let start = init().map(|values| stored(&values));
    let mut values = start.clone();
    for t in 1..=STEPS {
        if let Some(updates) = updates {
            updates.with(BTreeMap::clear);
        }
        let gradients = gradients(t).map(|g| g.map(|g| stored(&g)));
        let mut parameters: Vec<Parameter<'_>> =
            values.iter_mut().zip(&gradients).map(|(v, g)| Parameter::slice(v, g.as_deref())).collect();
        optimizer.step_with(Loss(loss(t)), &mut parameters)?;
        let _ = writeln!(table, "step {t}");
        let snapshot = optimizer.snapshot();
        for (((name, _), values), (gradient, start)) in
            SHAPES.iter().zip(&values).zip(gradients.iter().zip(&start))
        {
            let _ = writeln!(table, " {name}");
            let gradient: Vec<f64> = gradient.iter().flatten().map(|&g| E::f64(g)).collect();
            line(&mut table, "gradient", &gradient);
            if let Some(updates) = updates {
                let updates = updates.with(|updates| updates.get(*name).cloned().unwrap_or_default());
                line(&mut table, "update", &updates);
            }
            let way = |values: &[f64]| -> Vec<f64> {
                values.iter().zip(start).map(|(y, &p)| y - E::f64(p)).collect()
            };
            line(&mut table, "y - start", &way(&values.iter().map(|&y| E::f64(y)).collect::<Vec<_>>()));
            for (key, array) in snapshot.tensors.get(*name).iter().flat_map(|saved| &saved.arrays) {
                match key.as_str() {
                    // Some of the start's elements.
                    "prodigy/p0" | "speed/p0" => {}
                    "schedule-free/z" => line(&mut table, "schedule-free/z - start", &way(&wide(array))),
                    _ => line(&mut table, key, &wide(array)),
                }
            }
        }
        for (i, group) in snapshot.groups.iter().enumerate() {
            let _ = writeln!(table, " group {i}");
            let step = optimizer.latest_step(i)?;
            line(&mut table, "step size", &[step.step_size]);
            if let Some(estimate) = group.estimate {
                line(&mut table, "d, next", &[estimate.d]);
                line(&mut table, "numerator, denominator", &[estimate.numerator, estimate.denominator]);
            }
            for (key, &scalar) in &group.scalars {
                line(&mut table, key, &[scalar]);
            }
        }
    }
    Ok(table)
}
