//! Chains on a device: the interpreter of their formulas gives the engine's bits.

use conformance::device::{Types, compare, distance, matrix_rows, random_row, rows, rows_in_float64};
use conformance::device_loop::compare_loop;
use elementary::Sophia;
use gradient_transform::device::{DeviceParameter, Interpreter, OnDevice};
use gradient_transform::{Buffer, Descent, Error, Optimizer, Parameter, TrainingPoint};
use muon_pp::{Muon, Precision};

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
