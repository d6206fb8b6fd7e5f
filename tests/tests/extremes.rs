//! Finite input never gives a parameter, an evaluation point or an estimate that is not finite: a gradient is stepped with, or
//! it is too large, which is an error that says where.

use conformance::pair::{Run, Stored, Training};
use gradient_transform::{DType, Descent, Error, Link, Optimizer, Parameter, Real, StepOutcome};
use half::bf16;
use ndarray::ArrayD;
use serde_json::{Value, json};

const SHAPES: [&[usize]; 4] = [&[40, 33], &[64], &[], &[8, 4, 3, 3]];
const STEPS: usize = 12;

fn configurations() -> Vec<Value> {
    vec![
        json!({}),
        json!({"factored": false}),
        json!({"use_stableadamw": false}),
        json!({"eps": null}),
        json!({"use_adopt": true}),
        json!({"use_adopt": true, "factored": false}),
        json!({"use_orthograd": true}),
        json!({"use_cautious": true}),
        json!({"use_grams": true}),
        json!({"use_focus": true, "factored": false}),
        json!({"use_speed": true}),
        json!({"use_muon_pp": true}),
        json!({"use_muon_pp": true, "use_speed": true}),
        json!({"use_bias_correction": true}),
        json!({"weight_decay": 0.1}),
        json!({"weight_decay": 0.1, "weight_decay_by_lr": false}),
        json!({"d0": 1.0}),
    ]
}

fn wave(i: usize, t: usize) -> f64 {
    ((i * 7 + t * 13) % 11) as f64 / 11.0 - 0.4
}

/// A gradient: of element `i` at step `t`, for a magnitude.
type Gradient = fn(i: usize, t: usize, magnitude: f64) -> f64;

/// Where the gradients of a run are of the magnitude in question.
const PATTERNS: [(&str, Gradient); 5] = [
    ("everywhere", |i, t, magnitude| magnitude * wave(i, t)),
    ("everywhere with one sign", |_, _, magnitude| magnitude),
    ("in one element", |i, t, magnitude| if i == 3 { magnitude } else { wave(i, t) }),
    ("in every third step", |i, t, magnitude| if t % 3 == 2 { magnitude } else { 1.0 } * wave(i, t)),
    ("once", |i, t, magnitude| if t == 5 { magnitude } else { 1.0 } * wave(i, t)),
];

fn filled<E: Stored>(like: &ArrayD<E>, value: impl Fn(usize) -> f64) -> ArrayD<E> {
    let mut i = 0;
    ArrayD::from_shape_simple_fn(like.raw_dim(), || {
        i += 1;
        E::of(value(i - 1))
    })
}

fn finite<E: Stored>(values: &ArrayD<E>) -> bool {
    values.iter().all(|value| value.f64().is_finite())
}

fn stays_finite<T: Real, E: Stored>(magnitudes: &[f64], weights: &[f64]) {
    for options in configurations() {
        let run = Run::new(options, &SHAPES);
        for (pattern, gradient) in PATTERNS {
            for &magnitude in magnitudes {
                for &weight in weights {
                    let mut training = Training::<T, E>::new(&run).unwrap();
                    for value in &mut training.values {
                        *value = filled(value, |i| if i % 5 == 4 { 0.0 } else { weight * wave(i, 0) });
                    }
                    for t in 1..=STEPS {
                        let one = |value| Some(filled(value, |i| gradient(i, t, magnitude)));
                        let gradients: Vec<Option<ArrayD<E>>> = training.values.iter().map(one).collect();
                        let what = || {
                            format!(
                                "gradients {magnitude:e} {pattern}, weights {weight:e}, step {t} of {run:?}"
                            )
                        };
                        assert_eq!(training.step_with(&gradients), Ok(StepOutcome::Done), "{}", what());
                        for i in 0..SHAPES.len() {
                            let both = finite(&training.values[i]) && finite(&training.x(i).unwrap());
                            assert!(both, "parameter {i}: {}", what());
                        }
                        assert!(training.d().iter().all(|d| d.is_finite()), "{}", what());
                    }
                }
            }
        }
    }
}

#[test]
fn finite_float32_stays_finite() {
    let largest = f32::LARGEST_GRADIENT;
    stays_finite::<f32, f32>(&[largest, 1e10, 1e-20, 1e-40, 0.0], &[1.0, 1e30, 1e38, 1e-30, 0.0]);
}

#[test]
fn finite_bfloat16_stays_finite() {
    let largest = f32::LARGEST_GRADIENT;
    stays_finite::<f32, bf16>(&[largest, 1e10, 1e-20, 1e-40, 0.0], &[1.0, 1e30, 1e38, 1e-30, 0.0]);
}

#[test]
fn finite_float64_stays_finite() {
    let largest = f64::LARGEST_GRADIENT;
    stays_finite::<f64, f64>(&[largest, 1e100, 1e-160, 1e-320, 0.0], &[1.0, 1e200, 1e307, 1e-200, 0.0]);
}

fn too_large_is_refused<T: Real, E: Stored>(largest_of_type: f64) {
    // The next above the limit that bfloat16 has too.
    let beyond = [1.0078125 * T::LARGEST_GRADIENT, largest_of_type];
    for options in configurations() {
        let run = Run::new(options, &SHAPES);
        for value in beyond.into_iter().flat_map(|value| [value, -value]) {
            let mut training = Training::<T, E>::new(&run).unwrap();
            training.steps(3);
            let (bits, state) = (training.bits(), training.optimizer.snapshot());
            let mut gradients = training.gradients(4);
            gradients[3].as_mut().unwrap()[[7, 3, 2, 2]] = E::of(value);
            let result = training.step_with(&gradients);
            let expected = Error::GradientTooLarge {
                name: Run::name(3),
                index: 287,
                value: E::of(value).f64(),
                limit: T::LARGEST_GRADIENT,
                dtype: T::DTYPE,
            };
            assert_eq!(result, Err(expected), "{run:?}");
            assert_eq!(training.bits(), bits);
            assert!(training.optimizer.snapshot() == state);
        }
    }
}

#[test]
fn a_gradient_whose_squares_would_overflow_is_an_error_that_says_where() {
    too_large_is_refused::<f32, f32>(f64::from(f32::MAX));
    too_large_is_refused::<f32, bf16>(bf16::MAX.to_f64());
    too_large_is_refused::<f64, f64>(f64::MAX);
}

#[test]
fn the_error_says_what_to_do() {
    let error = Error::GradientTooLarge {
        name: "head.weight".into(),
        index: 3,
        value: 1e20,
        limit: f32::LARGEST_GRADIENT,
        dtype: DType::F32,
    };
    insta::assert_snapshot!(error);
}

/// An embedding, and the head beside it that always has gradients.
const TABLE: [usize; 2] = [120, 16];
const HEAD: [usize; 2] = [32, 16];

/// Whether element `column` of row `row` of the embedding has a gradient at step `t`.
type Sparse = fn(row: usize, column: usize, t: usize) -> bool;

const SPARSE: [(&str, Sparse); 6] = [
    ("in two rows", |row, _, _| row < 2),
    ("in twelve rows", |row, _, _| row < 12),
    // Row r with a probability that falls as 1/r.
    ("in rows by Zipf's law", |row, _, t| hash(row, t).is_multiple_of(row as u64 + 1)),
    ("in one element", |row, column, _| (row, column) == (3, 5)),
    ("in one row", |row, _, _| row == 3),
    ("not at all for a long time", |_, _, t| t > 30),
];

fn hash(a: usize, b: usize) -> u64 {
    let x = (a as u64 * 1_000_003 + b as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (x ^ x >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32
}

/// In -1 to 1.
fn noise(a: usize, b: usize) -> f64 {
    hash(a, b) as f64 / f64::from(1_u32 << 31) - 1.0
}

/// Trains both towards targets within 0.5. No weight goes beyond `most`.
fn stays_near<T: Real, E: Stored>(what: &str, mut optimizer: Optimizer<T>, sparse: Sparse, most: f64) {
    let mut values = [vec![0.0; 1920], vec![0.0; 512]].map(|v| v.into_iter().map(E::of).collect::<Vec<E>>());
    for t in 1..=60 {
        let gradient = |tensor: usize, values: &[E]| -> Vec<E> {
            let one = |(i, w): (usize, &E)| {
                let has = tensor == 1 || sparse(i / TABLE[1], i % TABLE[1], t);
                let g = w.f64() - 0.5 * noise(i, tensor) + 0.05 * noise(i, 7 * t);
                E::of(if has { g } else { 0.0 })
            };
            values.iter().enumerate().map(one).collect()
        };
        let gradients = [gradient(0, &values[0]), gradient(1, &values[1])];
        let pairs = values.iter_mut().zip(&gradients);
        let mut parameters: Vec<Parameter<'_>> = pairs.map(|(w, g)| Parameter::slice(w, Some(g))).collect();
        assert_eq!(optimizer.step(&mut parameters), Ok(StepOutcome::Done), "{what}, step {t}");
        let largest = values.iter().flatten().map(|w| w.f64().abs()).fold(0.0, f64::max);
        assert!(largest < most, "{what}: a weight of {largest:e} at step {t}");
    }
}

/// What no weight is to come to. Targets are within 0.5, and a first step can be of ten times d.
fn most(options: &prodigy_plus::Options) -> f64 {
    match options {
        _ if options.d0 == 1.0 => 250.0,
        // An element's first update is of its second gradient over its first.
        _ if options.use_adopt => 4.0,
        _ => 2.5,
    }
}

fn sparse_gradients_stay_near<T: Real, E: Stored>() {
    for options in configurations() {
        for (pattern, sparse) in SPARSE {
            for descends in [false, true] {
                let options: prodigy_plus::Options = serde_json::from_value(options.clone()).unwrap();
                let mut chain = options.transforms::<T>().unwrap();
                if descends {
                    let writer = chain.iter().position(|t| t.name() == "schedule-free").unwrap();
                    chain[writer] = Box::new(Descent::with_decay(options.weight_decay));
                }
                let optimizer = Optimizer::new_in(chain, [("table", &TABLE[..]), ("head", &HEAD)]).unwrap();
                let what = format!("gradients {pattern}, {:?}", optimizer.transforms(0).unwrap());
                stays_near::<T, E>(&what, optimizer, sparse, most(&options));
            }
        }
    }
}

// OneTrainer#850, timm#2658: `use_cautious` with embeddings.
#[test]
fn sparse_gradients_leave_float32_weights_where_they_belong() {
    sparse_gradients_stay_near::<f32, f32>();
}

#[test]
fn sparse_gradients_leave_bfloat16_weights_where_they_belong() {
    sparse_gradients_stay_near::<f32, bf16>();
}

#[test]
fn sparse_gradients_leave_float64_weights_where_they_belong() {
    sparse_gradients_stay_near::<f64, f64>();
}

#[test]
fn d_grows_whatever_columns_the_gradients_are_in() {
    for columns in [11, 22, 33, 44] {
        for dead in [0, 11] {
            let mut optimizer: Optimizer<f64> =
                prodigy_plus::ProdigyPlus::builder().build_in([("w", &[40, columns][..])]).unwrap();
            let mut w = vec![0.0; 40 * columns];
            for t in 1..=200 {
                let gradient: Vec<f64> = (0..w.len())
                    .map(|i| if i % columns % 11 == dead % columns { 0.0 } else { w[i] - 0.5 * noise(i, 0) })
                    .collect();
                let step = optimizer.step(&mut [Parameter::slice(&mut w, Some(&gradient))]);
                assert_eq!(step, Ok(StepOutcome::Done), "step {t}");
            }
            let d = optimizer.estimate(0).unwrap().d;
            assert!(d > 1e-3, "{columns} columns, of which every 11th is dead: d is {d:e}");
        }
    }
}
