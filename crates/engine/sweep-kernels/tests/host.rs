//! Kernels, compiled for the host by the C compiler, give the engine's bits.

#[path = "host/mod.rs"]
mod compiled;

use compiled::CompiledForHost;
use conformance::device::{Row, Types, compare, distance, matrix_rows, random_row, rows, rows_in_float64};
use conformance::device_loop::compare_loop;
use conformance::products::products_apart;
use elementary::Adam;
use gradient_transform::{DType, Descent, Optimizer, Rounding, TrainingPoint};

const SHAPES: [&[usize]; 6] = [&[40, 33], &[33], &[3], &[64, 64], &[3, 5, 64], &[2, 1100]];

fn all(rows: &[Row], types: Types, skipping: usize) {
    let Some(mut host) = CompiledForHost::new() else {
        eprintln!("skipped: there is no C compiler (cc)");
        return;
    };
    for row in rows.iter().step_by(skipping) {
        host = compare(row, types, &SHAPES, 5, host).unwrap();
    }
}

#[test]
fn every_chain_has_the_engines_bits() {
    all(&rows(), Types::F32, 1);
}

#[test]
fn every_third_chain_has_the_engines_bits_in_bfloat16() {
    all(&rows(), Types::Bf16, 3);
}

#[test]
fn sums_in_float64_have_the_engines_bits() {
    all(&rows_in_float64(), Types::F32, 1);
    all(&rows_in_float64(), Types::Bf16, 1);
}

#[test]
fn two_hundred_random_chains_have_the_engines_bits() {
    let Some(mut host) = CompiledForHost::new() else {
        eprintln!("skipped: there is no C compiler (cc)");
        return;
    };
    // The interpreter has the same bits: `cargo test -p conformance device`.
    for seed in 0..200 {
        let types = if seed % 3 == 1 { Types::Bf16 } else { Types::F32 };
        let shape: &[usize] = if seed % 4 == 3 { &[1100] } else { &[40, 33] };
        host = compare(&random_row(seed), types, &[shape], 2, host)
            .unwrap_or_else(|difference| panic!("{seed}, {types:?}: {difference}"));
    }
}

#[test]
fn sums_of_several_chunks_have_the_engines_bits() {
    let Some(mut host) = CompiledForHost::new() else {
        eprintln!("skipped: there is no C compiler (cc)");
        return;
    };
    let wanted = ["default", "dense", "adopt", "lars", "orthograd"];
    for row in rows().iter().chain(&rows_in_float64()).filter(|row| wanted.contains(&row.name)) {
        host = compare(row, Types::F32, &[&[800, 700], &[3, 200_000], &[600_000]], 3, host).unwrap();
    }
}

#[test]
fn products_have_the_interpreters_bits() {
    let Some(mut host) = CompiledForHost::new() else {
        eprintln!("skipped: there is no C compiler (cc)");
        return;
    };
    assert_eq!(products_apart(&mut host), Ok(0.0));
}

#[test]
fn chains_of_whole_matrices_are_the_engines_but_for_rounding() {
    let Some(mut host) = CompiledForHost::new() else {
        eprintln!("skipped: there is no C compiler (cc)");
        return;
    };
    for row in matrix_rows() {
        let apart;
        (host, apart) =
            distance(&row, Types::F32, &[&[40, 33], &[33], &[70, 130], &[40, 33]], 4, host).unwrap();
        assert!(apart <= 1e-5, "{}: {apart:e}", row.name);
    }
}

#[test]
fn a_training_loop_that_changes_sides_has_the_engines_bits() {
    let Some(mut host) = CompiledForHost::new() else {
        eprintln!("skipped: there is no C compiler (cc)");
        return;
    };
    for types in [Types::F32, Types::Bf16] {
        for training_point in [TrainingPoint::Kept, TrainingPoint::Recomputed] {
            (host, _) = compare_loop(types, training_point, true, host)
                .unwrap_or_else(|difference| panic!("{types:?}, {training_point:?}: {difference}"));
        }
    }
}

#[test]
fn the_books_kernel_is_what_the_example_prints() {
    let optimizer: Optimizer =
        Optimizer::new((Adam::default(), Descent::default()), [("w", [64, 64])]).unwrap();
    let types = sweep_kernels::Types {
        gradient: DType::F32,
        parameter: DType::F32,
        columns: vec![Some(DType::F32); 2],
        rounding: Rounding::Stochastic,
    };
    let sweeps = optimizer.formulas(0, &[64, 64]).unwrap();
    let text: String = sweeps.iter().map(|sweep| sweep_kernels::kernels(sweep, &types)).collect();
    assert_eq!(text, include_str!("../examples/adam.c"));
}
