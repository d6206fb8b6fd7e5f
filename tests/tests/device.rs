//! Chains on a device: the interpreter of their formulas gives the engine's bits.

use conformance::device::{Types, compare, rows};
use gradient_transform::device::{Interpreter, OnDevice};
use gradient_transform::{Descent, Error, Optimizer};
use muon_pp::Muon;

const SHAPES: [&[usize]; 6] = [&[40, 33], &[33], &[3], &[64, 64], &[3, 5, 64], &[2, 1100]];

#[test]
fn every_chain_has_the_engines_bits() {
    for row in rows() {
        compare(&row, Types::F32, &SHAPES, 8, Interpreter).unwrap();
    }
}

#[test]
fn every_chain_has_the_engines_bits_in_bfloat16() {
    for row in rows() {
        for types in [Types::Bf16, Types::Bf16Nearest] {
            compare(&row, types, &SHAPES, 8, Interpreter).unwrap();
        }
    }
}

#[test]
fn sums_of_several_chunks_have_the_engines_bits() {
    let wanted = ["default", "dense", "adopt", "lars"];
    for row in rows().iter().filter(|row| wanted.contains(&row.name)) {
        compare(row, Types::F32, &[&[800, 700], &[3, 200_000], &[600_000]], 3, Interpreter).unwrap();
    }
}

#[test]
fn what_works_on_tiles_is_refused_by_name() {
    let optimizer = Optimizer::new((Muon::default(), Descent::default()), [("w", [2, 2])]).unwrap();
    let refused = OnDevice::new(optimizer, Interpreter).unwrap_err();
    assert_eq!(refused, Error::NoFormula { transform: "muon".into() });
}
