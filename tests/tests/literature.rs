//! Fixed values of papers' authors and peers: `golden/literature.json`, made by `golden/literature.py`.
//!
//! | Peer | Coincides with | Under these settings |
//! | --- | --- | --- |
//! | optax, `scale_by_factored_rms` | `FactoredMoment` | constant decay; epsilons too small to act |
//! | PyTorch, `Adafactor` | `FactoredMoment` | matrices; decay 1 - t^-0.8; before its clipping and its parameter scale |
//! | adam-atan2-pytorch, `AdamAtan2` | `DenseMoment` with atan2 | beta1 = 0; a = b; decay debiased |
//! | schedulefree, `SGDScheduleFree` | `ScheduleFree` | r = 0, weight_lr_power = 2, no falling learning rate |
//! | schedulefree, `AdamWScheduleFree` | `DenseMoment`, `ScheduleFree` | the same; decay debiased |
//! | schedulefree, `RAdamScheduleFree` | `Rectify`, `DenseMoment`, `ScheduleFree` | the same; silent_sgd_phase |
//! | prodigyopt, `Prodigy` | `DenseMoment`, `Prodigy`, `Descent` | see the tests: as long as d has not moved twice |
//! | Jordan's `zeropower_via_newtonschulz5` | `muon_pp::Muon::orthogonalise` | six iterations; before the factor <G, X> |
//!
//! A second moment of this project isn't debiased by itself. Dividing by `1 - beta2^t` is the same as a decay of
//! `(beta2 - beta2^t)/(1 - beta2^t)` at step t, so the tests give the chain that decay.

use std::collections::BTreeMap;

use factored_moment::{DenseMoment, Division, FactoredMoment, Rectify};
use gradient_transform::{Descent, Link, Optimizer, Parameter, StepOutcome};
use muon_pp::{Muon, Precision};
use ndarray::{Array2, ArrayViewMut2};
use prodigy_core::{Prodigy, Samples};
use schedule_free::ScheduleFree;
use serde::Deserialize;

type Boxed = Box<dyn Link<f64>>;

/// Values of one step, tensor by tensor.
type Tensors = Vec<Vec<f64>>;

#[derive(Deserialize)]
struct Trajectory {
    shapes: Vec<Vec<usize>>,
    init: Tensors,
    gradients: Vec<Tensors>,
    #[serde(default)]
    y: Vec<Tensors>,
    #[serde(default)]
    x: Vec<Tensors>,
    #[serde(default)]
    updates: Vec<Tensors>,
    #[serde(default)]
    d: Vec<f64>,
    #[serde(default)]
    numerator: Vec<f64>,
    #[serde(default)]
    denominator: Vec<f64>,
    #[serde(flatten)]
    settings: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct Orthogonalised {
    rows: usize,
    cols: usize,
    given: Vec<f64>,
    orthogonalised: Vec<f64>,
    singular_given: Vec<f64>,
    singular_orthogonalised: Vec<f64>,
}

fn section<D: serde::de::DeserializeOwned>(name: &str) -> D {
    let text = include_str!("../golden/literature.json");
    let mut sections: serde_json::Value = serde_json::from_str(text).unwrap();
    serde_json::from_value(sections[name].take()).unwrap_or_else(|e| panic!("{name}: {e}"))
}

impl Trajectory {
    fn setting(&self, name: &str) -> f64 {
        self.settings[name].as_f64().unwrap()
    }

    /// The learning rate of step `t` under a linear warm-up.
    fn warmed_up(&self, t: usize) -> f64 {
        let warmup = self.setting("warmup");
        self.setting("lr") * if (t as f64) < warmup { t as f64 / warmup } else { 1.0 }
    }

    /// The decay at step `t` that makes a moment without debiasing the same as one with it.
    fn debiased_decay(&self, t: usize) -> f64 {
        let beta2 = self.setting("beta2");
        let power = beta2.powi(t as i32);
        (beta2 - power) / (1.0 - power)
    }

    fn optimizer(&self, chain: impl Link<f64> + 'static) -> Optimizer<f64> {
        let names = (0..self.shapes.len()).map(|i| format!("p{i}"));
        Optimizer::new_in(chain, names.zip(self.shapes.iter().map(Vec::as_slice))).unwrap()
    }

    /// The parameters after every step, with the chain and learning rate of each.
    fn replay(&self, chain: impl Fn(usize) -> Boxed, lr: impl Fn(usize) -> f64) -> Replayed {
        let mut optimizer = self.optimizer(chain(1));
        let mut values = self.init.clone();
        let mut replayed = Replayed::default();
        for (t, gradients) in (1..).zip(&self.gradients) {
            optimizer.replace_chain(0, chain(t)).unwrap();
            optimizer.set_lr(0, lr(t)).unwrap();
            step(&mut optimizer, &mut values, gradients);
            let x = values.iter().enumerate().map(|(i, value)| {
                let mut x = vec![0.0; value.len()];
                optimizer.evaluation_point(i, value, &mut x).unwrap();
                x
            });
            replayed.x.push(x.collect());
            replayed.y.push(values.clone());
            replayed.estimates.push(optimizer.estimate(0).unwrap());
        }
        replayed
    }

    /// The update of every step: how far a parameter at 0 moves under plain descent at learning rate 1.
    fn updates_of<M: Link<f64> + 'static>(&self, moment: impl Fn(usize) -> M) -> Vec<Tensors> {
        let chain = |t| (moment(t), Descent::default());
        let mut optimizer = self.optimizer(chain(1));
        let mut updates = Vec::new();
        for (t, gradients) in (1..).zip(&self.gradients) {
            optimizer.replace_chain(0, chain(t)).unwrap();
            let mut values: Tensors = self.init.iter().map(|v| vec![0.0; v.len()]).collect();
            step(&mut optimizer, &mut values, gradients);
            updates.push(values.iter().map(|v| v.iter().map(|v| -v).collect()).collect());
        }
        updates
    }
}

#[derive(Default)]
struct Replayed {
    y: Vec<Tensors>,
    x: Vec<Tensors>,
    estimates: Vec<gradient_transform::Estimate>,
}

fn step(optimizer: &mut Optimizer<f64>, values: &mut Tensors, gradients: &Tensors) {
    let mut parameters: Vec<Parameter<'_>> =
        values.iter_mut().zip(gradients).map(|(v, g)| Parameter::slice(v, Some(g))).collect();
    assert_eq!(optimizer.step(&mut parameters), Ok(StepOutcome::Done));
}

/// The largest difference of two numbers, relative to the largest number of the two tensors' step.
fn worst(ours: &[Tensors], theirs: &[Tensors]) -> f64 {
    assert_eq!(ours.len(), theirs.len(), "steps");
    assert!(!theirs.is_empty());
    let mut worst = 0.0_f64;
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert_eq!(ours.len(), theirs.len(), "tensors");
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert_eq!(ours.len(), theirs.len(), "elements");
            let size = theirs.iter().fold(0.0_f64, |m, x| m.max(x.abs()));
            assert!(size > 0.0);
            for (ours, theirs) in ours.iter().zip(theirs) {
                let difference = (ours - theirs).abs() / size;
                worst = if difference.is_nan() { f64::NAN } else { worst.max(difference) };
            }
        }
    }
    worst
}

/// Both sides compute in float64, in another order: a few units in the last place, which is 2e-16.
const ROUNDING: f64 = 1e-14;

#[track_caller]
fn assert_agree(what: &str, ours: &[Tensors], theirs: &[Tensors]) {
    let worst = worst(ours, theirs);
    assert!(worst < ROUNDING, "{what}: off by {worst:e}");
}

/// Too small to act, as gradients are of the order of 1.
const NO_EPSILON: Division = Division::Epsilon(1e-300);

#[test]
fn the_factored_moment_is_that_of_optax() {
    let golden: Trajectory = section("factored_optax");
    let beta2 = golden.setting("beta2");
    let ours = golden.updates_of(|_| FactoredMoment { division: NO_EPSILON, ..FactoredMoment::new(beta2) });
    assert_agree("updates", &ours, &golden.updates);
}

#[test]
fn the_factored_moment_of_the_reference_is_not_that_of_optax_where_the_longer_axis_comes_first() {
    let golden: Trajectory = section("factored_optax");
    let beta2 = golden.setting("beta2");
    let ours = golden.updates_of(|_| FactoredMoment {
        division: NO_EPSILON,
        wrong_row_mean: true,
        ..FactoredMoment::new(beta2)
    });
    let of = |updates: &[Tensors], i: usize| -> Vec<Tensors> {
        updates.iter().map(|step| vec![step[i].clone()]).collect()
    };
    assert_eq!(golden.shapes, [vec![33, 3], vec![3, 33], vec![2, 33, 4]]);
    let off = |i: usize| worst(&of(&ours, i), &of(&golden.updates, i));
    assert!(off(0) > 0.02, "[33, 3]: {:e}", off(0));
    assert!(off(1) < ROUNDING, "[3, 33]: {:e}", off(1));
    // Axis 2 is the second largest and comes after the largest, axis 1.
    assert!(off(2) > 0.02, "[2, 33, 4]: {:e}", off(2));
}

#[test]
fn the_factored_moment_is_that_of_pytorchs_adafactor() {
    let golden: Trajectory = section("factored_adafactor");
    let decay = golden.setting("beta2_decay");
    let ours = golden.updates_of(|t| FactoredMoment {
        division: NO_EPSILON,
        ..FactoredMoment::new(1.0 - (t as f64).powf(decay))
    });
    // The update is divided by a step size of 1e-3 again, and comes from a difference of parameters.
    let worst = worst(&ours, &golden.updates);
    assert!(worst < 1e-12, "off by {worst:e}");
}

fn atan2_moment(golden: &Trajectory, t: usize) -> DenseMoment {
    DenseMoment { division: Division::Atan2, ..DenseMoment::new(golden.debiased_decay(t)) }
}

#[test]
fn atan2_is_that_of_adam_atan2_with_both_constants_1() {
    let golden: Trajectory = section("adam_atan2");
    assert_eq!((golden.setting("a"), golden.setting("b")), (1.0, 1.0));
    let ours =
        golden.replay(|t| Box::new((atan2_moment(&golden, t), Descent::default())), |_| golden.setting("lr"));
    assert_agree("y", &ours.y, &golden.y);
}

#[test]
fn before_d_moves_atan2_is_that_of_adam_atan2_with_both_constants_50() {
    let golden: Trajectory = section("adam_atan2_of_50");
    assert_eq!((golden.setting("a"), golden.setting("b")), (50.0, 50.0));
    // At this d_coef, d stays at d0.
    let prodigy = Prodigy { d0: 1.0, d_coef: 1e-12, ..Prodigy::new(0.9) };
    let ours = golden.replay(
        |t| Box::new((atan2_moment(&golden, t), prodigy, Descent::default())),
        |_| golden.setting("lr"),
    );
    assert!(ours.estimates.iter().all(|e| e.d == 1.0));
    assert_agree("y", &ours.y, &golden.y);
}

fn schedule_free(golden: &Trajectory) -> ScheduleFree {
    ScheduleFree {
        weight_decay: golden.setting("weight_decay"),
        ..ScheduleFree::new(golden.setting("beta1"))
    }
}

fn debiased_moment(golden: &Trajectory, t: usize) -> DenseMoment {
    let division = Division::Epsilon(golden.setting("eps"));
    DenseMoment { division, ..DenseMoment::new(golden.debiased_decay(t)) }
}

#[test]
fn schedule_free_is_sgd_schedule_free_with_a_warm_up_and_weight_decay() {
    let golden: Trajectory = section("sgd_schedule_free");
    let ours = golden.replay(|_| Box::new(schedule_free(&golden)), |t| golden.warmed_up(t));
    assert_agree("y", &ours.y, &golden.y);
    assert_agree("x", &ours.x, &golden.x);
}

#[test]
fn schedule_free_is_adamw_schedule_free_behind_a_debiased_second_moment() {
    let golden: Trajectory = section("adamw_schedule_free");
    let ours = golden
        .replay(|t| Box::new((debiased_moment(&golden, t), schedule_free(&golden))), |t| golden.warmed_up(t));
    assert_agree("y", &ours.y, &golden.y);
    assert_agree("x", &ours.x, &golden.x);
}

#[test]
fn rectify_debiases_and_warms_up_as_radam_schedule_free_does() {
    let golden: Trajectory = section("radam_schedule_free");
    let beta2 = golden.setting("beta2");
    let division = Division::Epsilon(golden.setting("eps"));
    let ours = golden.replay(
        |_| {
            let moment = DenseMoment { division, ..DenseMoment::new(beta2) };
            Box::new((Rectify::new(beta2), moment, schedule_free(&golden)))
        },
        |_| golden.setting("lr"),
    );
    assert_agree("y", &ours.y, &golden.y);
    assert_agree("x", &ours.x, &golden.x);
    let moved = (0..golden.y.len()).find(|&t| golden.y[t] != golden.init).unwrap();
    assert_eq!(moved, 4, "the fifth step is the first with a tractable variance, and moves");
}

/// `DenseMoment | Prodigy | Descent` with prodigyopt's settings.
fn prodigy_chain(golden: &Trajectory, prodigy: impl Fn(Prodigy) -> Prodigy) -> Boxed {
    let beta2 = golden.setting("beta2");
    let plain = Prodigy {
        samples: Samples { every: 1, ..Samples::new(beta2.sqrt()) },
        d0: golden.setting("d0"),
        ..Prodigy::new(beta2.sqrt())
    };
    let moment = DenseMoment { division: NO_EPSILON, ..DenseMoment::new(beta2) };
    Box::new((moment, prodigy(plain), Descent::default()))
}

fn assert_close(what: &str, ours: f64, theirs: f64, tolerance: f64) {
    assert!(
        (ours - theirs).abs() <= tolerance * theirs.abs(),
        "{what}: {ours:e} instead of {theirs:e}, off by {:e}",
        (ours - theirs).abs() / theirs.abs()
    );
}

#[test]
fn while_d_stands_at_d0_prodigy_gathers_what_prodigyopt_does_on_its_own_scale() {
    let golden: Trajectory = section("prodigy_standing");
    let (lr, d0) = (golden.setting("lr"), golden.setting("d0"));
    let ours = golden.replay(|_| prodigy_chain(&golden, |p| p), |_| lr);
    assert_agree("y", &ours.y, &golden.y);
    // prodigyopt weighs a step's terms by lr d^2/d0, and this project, as its reference, by the root of d.
    let scale = d0.sqrt() / (lr * d0);
    for (t, estimate) in ours.estimates.iter().enumerate() {
        assert_eq!((estimate.d, golden.d[t]), (d0, d0), "step {}", t + 1);
        // <g, p0 - y> is of differences of parameters, which are a few 1e-5 apart, so it has five digits fewer.
        assert_close("numerator", estimate.numerator, scale * golden.numerator[t], 1e-12);
        assert_close("denominator", estimate.denominator, scale * golden.denominator[t], ROUNDING);
    }
}

#[test]
fn prodigy_follows_prodigyopt_until_d_has_moved_once_and_then_differs_by_its_weights_alone() {
    let golden: Trajectory = section("prodigy_moving");
    let (d0, beta3) = (golden.setting("d0"), golden.setting("beta2").sqrt());
    let ours = golden.replay(|_| prodigy_chain(&golden, |p| p), |_| golden.setting("lr"));
    // The third step is taken with the d that the second one left.
    assert_agree("y", &ours.y[..3], &golden.y[..3]);
    assert_eq!(ours.estimates[0].d, d0);
    assert_eq!(golden.d[0], d0);
    // The first distances are of 1e-6 and come from parameters of 1, whence ten digits fewer. The arctangent that is taken of
    // the ratio here is 1e-12 off it.
    assert_close("d after step 2", ours.estimates[1].d, golden.d[1], 1e-10);
    assert!(golden.d[1] > 1.4 * d0);

    // From then on d is another: the terms of the numerator and of s weigh sqrt(d) here, and d^2/d0 there. prodigyopt's terms,
    // taken apart and put together with this project's weights, give this project's d.
    let weights = [d0, golden.d[1]];
    let theirs = weights.map(|d| d * d / d0);
    let here = weights.map(f64::sqrt);
    let terms =
        [golden.numerator[1] / theirs[0], (golden.numerator[2] - beta3 * golden.numerator[1]) / theirs[1]];
    let numerator = beta3 * here[0] * terms[0] + here[1] * terms[1];
    let mut denominator = 0.0;
    for tensor in 0..golden.shapes.len() {
        for e in 0..golden.init[tensor].len() {
            let g = |t: usize| golden.gradients[t][tensor][e];
            denominator += (here[0] * (beta3 * beta3 * g(0) + beta3 * g(1)) + here[1] * g(2)).abs();
        }
    }
    assert_close("d after step 3", ours.estimates[2].d, numerator / denominator, 1e-10);
    let (ours, theirs) = (ours.estimates[2].d, golden.d[2]);
    assert!((ours / theirs - 1.0).abs() > 0.01, "{ours:e} and {theirs:e} no longer differ");
}

#[test]
fn the_moment_that_is_rescaled_when_d_moves_is_prodigyopts_moment_of_d_times_the_gradient() {
    // In both, d moves in the second step and then stands still.
    let golden: Trajectory = section("prodigy_stopped");
    assert!(golden.d[1] > golden.d[0] && golden.d[2..].iter().all(|&d| d == golden.d[1]));
    let ours = golden
        .replay(|_| prodigy_chain(&golden, |p| Prodigy { prodigy_steps: 3, ..p }), |_| golden.setting("lr"));
    // d agrees to ten digits (see above), and so do the distances.
    let moved = |steps: &[Tensors]| -> Vec<Tensors> {
        steps
            .iter()
            .map(|step| {
                let way =
                    |(y, init): (&Vec<f64>, &Vec<f64>)| y.iter().zip(init).map(|(y, p)| y - p).collect();
                step.iter().zip(&golden.init).map(way).collect()
            })
            .collect()
    };
    let worst = worst(&moved(&ours.y), &moved(&golden.y));
    assert!(worst < 1e-10, "off by {worst:e}");
}

/// Jordan's quintic, six times: what the iterations do to every singular value of a matrix of norm 1.
fn six_times(s: f64) -> f64 {
    let (a, b, c) = (3.4445, -4.7750, 2.0315);
    (0..6).fold(s, |s, _| a * s + b * s.powi(3) + c * s.powi(5))
}

fn view<T>(matrix: &mut [T], rows: usize, cols: usize) -> ArrayViewMut2<'_, T> {
    ArrayViewMut2::from_shape((rows, cols), matrix).unwrap()
}

#[test]
fn muons_iterations_are_jordans_published_ones() {
    for golden in section::<Vec<Orthogonalised>>("muon") {
        let mut ours = golden.given.clone();
        Muon::new(0.0).orthogonalise(view(&mut ours, golden.rows, golden.cols));
        let shape = (golden.rows, golden.cols);
        // <G, X> is the sum of products of singular values, far above 1 here, so the factor is 1.
        let alignment: f64 = golden.given.iter().zip(&golden.orthogonalised).map(|(g, x)| g * x).sum();
        assert!(alignment > 1.0, "{shape:?}");
        let worst = worst(&[vec![ours]], &[vec![golden.orthogonalised]]);
        assert!(worst < 1e-12, "{shape:?}: off by {worst:e}");

        // numpy's singular values of what went in and of what came out are related by the quintic.
        let norm = golden.singular_given.iter().map(|s| s * s).sum::<f64>().sqrt() + 1e-7;
        let mut expected: Vec<f64> = golden.singular_given.iter().map(|s| six_times(s / norm)).collect();
        expected.sort_by(|a, b| b.total_cmp(a));
        for (expected, found) in expected.iter().zip(&golden.singular_orthogonalised) {
            assert!((expected - found).abs() < 1e-11, "{shape:?}: {found} instead of {expected}");
        }
    }
}

#[test]
fn six_iterations_bring_every_singular_value_above_a_thousandth_of_the_norm_near_1() {
    let grid = (0..=60_000).map(|i| 10.0_f64.powf(-3.0 + 3.0 * f64::from(i) / 60_000.0));
    let (least, most) = grid.map(six_times).fold((f64::MAX, f64::MIN), |(l, m), s| (l.min(s), m.max(s)));
    assert!(least > 0.68 && most < 1.21, "[{least}, {most}]");
    // The bounds are no wider than they have to be.
    assert!(least < 0.69 && most > 1.20, "[{least}, {most}]");
    // Below, a step is at most a gain of 3.4445, so what is tiny stays small.
    assert!(six_times(1e-6) < 1.1e-6 * 3.4445_f64.powi(6));
}

/// `I - 2 v v' / <v, v>`: an orthogonal matrix without a zero.
fn reflection(n: usize, seed: f64) -> Array2<f64> {
    let v: Vec<f64> = (0..n).map(|i| 1.0 + (seed + 2.3 * i as f64).sin() / 2.0).collect();
    let square: f64 = v.iter().map(|v| v * v).sum();
    Array2::from_shape_fn((n, n), |(i, j)| f64::from(u8::from(i == j)) - 2.0 * v[i] * v[j] / square)
}

/// A matrix with the given singular values, and what orthogonalisation has to make of it.
fn with_singular_values(rows: usize, cols: usize, singular: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let (left, right) = (reflection(rows, 1.0), reflection(cols, 2.0));
    let product = |singular: &[f64]| {
        let middle = Array2::from_shape_fn((rows, cols), |(i, j)| if i == j { singular[i] } else { 0.0 });
        left.dot(&middle).dot(&right).iter().copied().collect::<Vec<f64>>()
    };
    let norm = singular.iter().map(|s| s * s).sum::<f64>().sqrt() + 1e-7;
    let mapped: Vec<f64> = singular.iter().map(|s| six_times(s / norm)).collect();
    let alignment: f64 = singular.iter().zip(&mapped).map(|(s, m)| s * m).sum();
    let factor = alignment.clamp(-1.0, 1.0);
    (product(singular), product(&mapped.iter().map(|m| factor * m).collect::<Vec<_>>()))
}

#[test]
fn orthogonalisation_maps_singular_values_and_keeps_singular_vectors_for_every_shape() {
    for (rows, cols) in [(1, 1), (1, 40), (40, 1), (2, 2), (16, 16), (64, 48), (48, 64), (100, 7), (7, 100)] {
        let n = rows.min(cols);
        for condition in [1.0_f64, 10.0, 1e3, 1e6] {
            // The scale of the matrix matters only to the factor <G, X>, which is below 1 for the smallest of these.
            for scale in [1e-3, 1.0, 1e3] {
                let singular: Vec<f64> =
                    (0..n).map(|i| scale * condition.powf(-(i as f64) / n as f64)).collect();
                let (mut ours, expected) = with_singular_values(rows, cols, &singular);
                Muon::new(0.0).orthogonalise(view(&mut ours, rows, cols));
                let what = format!("{rows}x{cols}, condition {condition:e}, scale {scale:e}");
                // The iterations amplify the rounding of small singular values up to 3.4445^6 = 1670 times.
                let worst = worst(&[vec![ours]], &[vec![expected]]);
                assert!(worst < 1e-12, "{what}: off by {worst:e}");
            }
        }
    }
}

#[test]
fn float32_and_bfloat16_iterations_stay_near_the_exact_result() {
    let distance = |ours: &[f32], expected: &[f64]| {
        let square = |x: f64| x * x;
        let off: f64 = ours.iter().zip(expected).map(|(&x, e)| square(f64::from(x) - e)).sum();
        (off / expected.iter().map(|&e| square(e)).sum::<f64>()).sqrt()
    };
    for (rows, cols) in [(16, 16), (64, 48), (7, 100)] {
        let n = rows.min(cols);
        let singular: Vec<f64> = (0..n).map(|i| 30.0_f64.powf(1.0 - i as f64 / n as f64)).collect();
        let (given, expected) = with_singular_values(rows, cols, &singular);
        // Rounding errors grow with the iterations, as the singular values do: six times 3.4 at most.
        for (precision, tolerance) in [(Precision::Full, 1e-5), (Precision::Bf16, 0.1)] {
            let mut ours: Vec<f32> = given.iter().map(|&g| g as f32).collect();
            Muon { precision, ..Muon::new(0.0) }.orthogonalise(view(&mut ours, rows, cols));
            let distance = distance(&ours, &expected);
            assert!(distance < tolerance, "{rows}x{cols}, {precision:?}: {distance:e}");
        }
    }
}
