//! Chains on a device: the interpreter of their formulas gives the engine's bits.

use conformance::counting::Counting;
use conformance::device::{Types, compare, distance, matrix_rows, random_row, rows, rows_in_float64};
use conformance::device_loop::compare_loop;
use elementary::{Adam, ClipByNorm, Sophia};
use gradient_transform::device::{DeviceParameter, Interpreter, OnDevice};
use gradient_transform::{
    Buffer, Descent, Error, Link, NonFinite, Optimizer, Parameter, ParameterGroup, Settings, StepOutcome,
    TrainingPoint,
};
use muon_pp::{Muon, Precision};
use prodigy_plus::Options;

const SHAPES: [&[usize]; 6] = [&[40, 33], &[33], &[3], &[64, 64], &[3, 5, 64], &[2, 1100]];

#[test]
fn every_chain_has_the_engines_bits() {
    for row in rows().into_iter().chain(rows_in_float64()) {
        compare(&row, Types::F32, &SHAPES, 8, Interpreter).unwrap();
    }
}

#[test]
fn every_chain_has_the_engines_bits_in_bfloat16() {
    for row in rows().into_iter().chain(rows_in_float64()) {
        for types in [Types::Bf16, Types::Bf16Nearest] {
            compare(&row, types, &SHAPES, 8, Interpreter).unwrap();
        }
    }
}

#[test]
fn two_hundred_random_chains_have_the_engines_bits() {
    for seed in 0..200 {
        let types = [Types::F32, Types::Bf16, Types::Bf16Nearest][seed as usize % 3];
        compare(&random_row(seed), types, &[&[40, 33], &[33], &[3, 5, 64]], 2, Interpreter)
            .unwrap_or_else(|difference| panic!("{seed}, {types:?}: {difference}"));
    }
}

#[test]
fn sums_of_several_chunks_have_the_engines_bits() {
    let wanted = ["default", "dense", "adopt", "lars", "orthograd"];
    for row in rows().iter().chain(&rows_in_float64()).filter(|row| wanted.contains(&row.name)) {
        compare(row, Types::F32, &[&[800, 700], &[3, 200_000], &[600_000]], 3, Interpreter).unwrap();
    }
}

#[test]
fn every_chain_of_whole_matrices_is_the_engines_but_for_rounding() {
    for row in matrix_rows() {
        let (_, apart) = distance(&row, Types::F32, &SHAPES, 4, Interpreter).unwrap();
        assert!(apart <= 1e-5, "{}: {apart:e}", row.name);
    }
}

#[test]
fn what_has_no_form_on_a_device_is_refused_by_name() {
    // Iterations that round every operation to bfloat16.
    let muon = Muon { precision: Precision::Bf16, ..Muon::default() };
    let optimizer = Optimizer::new((muon, Descent::default()), [("w", [2, 2])]).unwrap();
    let refused = OnDevice::new(optimizer, Interpreter).unwrap_err();
    assert_eq!(refused, Error::NoFormula { transform: "muon".into() });
}

#[test]
fn an_array_that_is_given_has_the_engines_bits_and_counts_for_one_step() {
    let make = || Optimizer::new((Sophia::default(), Descent::default()), [("w", [40, 33])]).unwrap();
    let wave = |step: usize, i: usize| ((i * 7 + step * 13) % 101) as f32 / 101.0;
    let (mut plain, mut device) = (make(), OnDevice::new(make(), Interpreter).unwrap());
    let mut w: Vec<f32> = (0..40 * 33).map(|i| wave(0, i)).collect();
    let mut array = Buffer::F32(w.clone());
    for step in 0..7 {
        let gradient: Vec<f32> = (0..w.len()).map(|i| wave(step, i) - 0.4).collect();
        if step % 3 == 1 {
            let curvature: Vec<f32> = (0..w.len()).map(|i| 50.0 * wave(step + 50, i)).collect();
            plain.give_array(0, &curvature).unwrap();
            device.give_array(0, &curvature).unwrap();
        }
        plain.step(&mut [Parameter::slice(&mut w, Some(&gradient))]).unwrap();
        let gradient = Buffer::F32(gradient);
        device.step(&mut [DeviceParameter { value: &mut array, gradient: Some(&gradient) }]).unwrap();
        assert!(array == Buffer::F32(w.clone()), "step {step}");
    }
    assert_eq!(device.snapshot().unwrap(), plain.snapshot());
    assert!(plain.snapshot().tensors["w"].arrays.keys().eq(["sophia/h", "sophia/m"]));
}

#[test]
fn a_training_loop_that_changes_sides_has_the_engines_bits() {
    for types in [Types::F32, Types::Bf16] {
        for training_point in [TrainingPoint::Kept, TrainingPoint::Recomputed] {
            compare_loop(types, training_point, true, Interpreter)
                .unwrap_or_else(|difference| panic!("{types:?}, {training_point:?}: {difference}"));
        }
    }
}

type MakeChain = fn() -> Box<dyn Link<f32>>;

/// Chains whose first sweep shows an invalid element in its sums, and others.
fn checked_chains() -> [(&'static str, MakeChain); 5] {
    fn boxed(options: Options) -> Box<dyn Link<f32>> {
        Box::new(options.transforms().unwrap())
    }
    [
        ("default", || boxed(Options::default())),
        ("dense", || boxed(Options::default().factored(false))),
        ("adopt", || boxed(Options::default().use_adopt(true))),
        ("clipped", || Box::new((ClipByNorm::default(), Adam::default(), Descent::default()))),
        ("adam", || Box::new((Adam::default(), Descent::default()))),
    ]
}

#[test]
fn invalid_gradients_are_treated_as_on_the_processor_by_every_policy() {
    const SHAPES: [&[usize]; 3] = [&[40, 33], &[50], &[64, 32]];
    let wave = |seed: usize, len: usize| -> Vec<f32> {
        (0..len).map(|i| ((i * i * 7 + i * 31 + seed * 13) % 101) as f32 / 101.0 - 0.5).collect()
    };
    let too_large = 2.0_f32.powi(60);
    for ((name, chain), policy) in checked_chains().iter().flat_map(|row| {
        [NonFinite::Error, NonFinite::Skip, NonFinite::SkipTensor].map(|policy| (row, policy))
    }) {
        let make = || {
            let names = SHAPES.iter().enumerate().map(|(i, shape)| (format!("w{i}"), shape.to_vec()));
            let settings = Settings { non_finite: policy, ..Settings::default() };
            let group = ParameterGroup::new(chain(), names);
            Optimizer::<f32>::with_groups([group], settings).unwrap()
        };
        let (mut here, mut there) = (make(), OnDevice::new(make(), Counting::default()).unwrap());
        let mut w: Vec<Vec<f32>> = SHAPES.iter().map(|shape| wave(0, shape.iter().product())).collect();
        let mut arrays: Vec<Buffer> = w.iter().cloned().map(Buffer::F32).collect();
        let mut outcomes = Vec::new();
        for step in 1..9 {
            let mut gradients: Vec<Vec<f32>> = w.iter().map(|w| wave(step, w.len())).collect();
            match step {
                1 => gradients[2][5] = f32::NAN, // before there is a plan
                3 => gradients[0][700] = f32::NAN,
                4 => gradients[1][49] = f32::NEG_INFINITY,
                5 => gradients[2][2047] = too_large,
                // Sums of squares as large as that of one that is too large, and every element valid.
                6 => gradients[0].iter_mut().for_each(|g| *g *= 2.0_f32.powi(43)),
                _ => {}
            }
            let mut parameters: Vec<Parameter<'_>> =
                w.iter_mut().zip(&gradients).map(|(w, g)| Parameter::slice(&mut w[..], Some(g))).collect();
            let expected = here.step(&mut parameters);
            let gradients: Vec<Buffer> = gradients.into_iter().map(Buffer::F32).collect();
            let parameters = arrays.iter_mut().zip(&gradients);
            let mut parameters: Vec<DeviceParameter<'_, Buffer>> =
                parameters.map(|(value, g)| DeviceParameter { value, gradient: Some(g) }).collect();
            assert_eq!(there.step(&mut parameters), expected, "{name}, {policy:?}, step {step}");
            let w: Vec<Buffer> = w.iter().cloned().map(Buffer::F32).collect();
            assert!(arrays == w, "{name}, {policy:?}, step {step}");
            outcomes.push(expected);
        }
        assert_eq!(there.snapshot().unwrap(), here.snapshot(), "{name}, {policy:?}");
        let invalid = match policy {
            NonFinite::Error => outcomes.iter().filter(|outcome| outcome.is_err()).count(),
            NonFinite::Skip => {
                outcomes.iter().filter(|outcome| **outcome == Ok(StepOutcome::Skipped)).count()
            }
            _ => here.skipped_tensors() as usize,
        };
        assert_eq!(invalid, 4, "{name}, {policy:?}");
    }
}

#[test]
fn gradients_whose_first_sweep_shows_invalid_elements_are_not_read_again_to_be_checked() {
    let mut examined = Vec::new();
    for (name, chain) in checked_chains() {
        let optimizer = Optimizer::new(chain(), [("matrix", vec![40, 33]), ("vector", vec![50])]).unwrap();
        let mut optimizer = OnDevice::new(optimizer, Counting::default()).unwrap();
        let [mut matrix, mut vector] = [40 * 33, 50].map(|len| Buffer::F32(vec![0.5; len]));
        let gradients = [40 * 33, 50].map(|len| Buffer::F32(vec![0.25; len]));
        let mut step = || {
            let before = optimizer.executor().examined;
            let mut parameters = [(&mut matrix, &gradients[0]), (&mut vector, &gradients[1])]
                .map(|(value, gradient)| DeviceParameter { value, gradient: Some(gradient) });
            optimizer.step(&mut parameters).unwrap();
            optimizer.executor().examined - before
        };
        // In the first step there is no plan yet.
        examined.push((name, [step(), step(), step()]));
    }
    let all = 40 * 33 + 50;
    let expected = [
        ("default", [all, 50, 50]),
        ("dense", [all; 3]),
        ("adopt", [all; 3]),
        ("clipped", [all, 0, 0]),
        ("adam", [all; 3]),
    ];
    assert_eq!(examined, expected);
}
