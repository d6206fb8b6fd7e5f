//! The text of WGSL is valid, of every chain.

use std::collections::HashSet;

use conformance::device::{random_row, rows};
use elementary::Adam;
use gradient_transform::{DType, Descent, Link, Optimizer, Rounding, map};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use sweep_kernels::wgsl::{self, Bindings};
use sweep_kernels::{Types, USABLE, product};

const SHAPES: [&[usize]; 4] = [&[40, 33], &[33], &[3, 5, 64], &[800, 700]];

/// Checks a shader as every implementation of WebGPU does before it is compiled, and gives the names of its kernels.
fn check(text: &str) -> Vec<String> {
    let module = naga::front::wgsl::parse_str(text)
        .unwrap_or_else(|error| panic!("{}\n{text}", error.emit_to_string(text)));
    // Nothing beyond WebGPU's own features.
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::empty());
    validator.validate(&module).unwrap_or_else(|error| panic!("{}\n{text}", error.emit_to_string(text)));
    module.entry_points.iter().map(|entry| entry.name.clone()).collect()
}

/// Checks all sweeps of a chain, with arrays in one buffer and in three, in both types, unless their text is known.
fn check_chain(chain: impl Fn() -> Box<dyn Link<f32>>, known: &mut HashSet<String>) {
    for shape in SHAPES {
        let optimizer: Optimizer = Optimizer::new(chain(), [("w", shape)]).unwrap();
        for sweep in optimizer.formulas(0, shape).unwrap() {
            let columns = sweep.columns.len();
            for (dtype, rounding) in [
                (DType::F32, Rounding::Nearest),
                (DType::Bf16, Rounding::Nearest),
                (DType::Bf16, Rounding::Stochastic),
            ] {
                let columns_of = |dtype| vec![Some(dtype); columns];
                let types = Types { gradient: dtype, parameter: dtype, columns: columns_of(dtype), rounding };
                let mixed = Types { gradient: DType::F32, columns: columns_of(DType::F32), ..types.clone() };
                let apart = Bindings { gradient: 0, parameter: 1, columns: vec![2; columns] };
                let together = Bindings { gradient: 0, parameter: 0, columns: vec![0; columns] };
                for (types, bindings) in [(&types, &apart), (&types, &together), (&mixed, &together)] {
                    if known.insert(wgsl::kernels(&sweep, types, bindings)) {
                        check(&wgsl::shader(&sweep, types, bindings));
                    }
                }
            }
        }
    }
}

#[test]
fn the_text_of_every_chain_is_valid() {
    let mut known = HashSet::new();
    rows().iter().for_each(|row| check_chain(|| row.chain(), &mut known));
    assert!(known.len() > 9 * 62, "{}", known.len());
}

#[test]
fn the_text_of_random_chains_is_valid() {
    let mut known = HashSet::new();
    for seed in 0..40 {
        let row = random_row(seed);
        check_chain(|| row.chain(), &mut known);
    }
    assert!(known.len() > 9 * 40, "{}", known.len());
}

#[test]
fn the_check_of_gradients_is_valid() {
    assert_eq!(check(wgsl::USABLE), ["usable"]);
    assert!(USABLE.contains("KERNEL usable"));
}

#[test]
fn the_books_kernel_is_what_the_example_prints() {
    let optimizer: Optimizer =
        Optimizer::new((Adam::default(), Descent::default()), [("w", [64, 64])]).unwrap();
    let types = Types {
        gradient: DType::F32,
        parameter: DType::F32,
        columns: vec![Some(DType::F32); 2],
        rounding: Rounding::Stochastic,
    };
    let sweeps = optimizer.formulas(0, &[64, 64]).unwrap();
    let bindings = Bindings { gradient: 0, parameter: 1, columns: vec![2, 2] };
    let text: String = sweeps.iter().map(|sweep| wgsl::kernels(sweep, &types, &bindings)).collect();
    assert_eq!(text, include_str!("../examples/adam.wgsl"));
}

#[test]
fn the_text_of_a_closure_with_constants_that_are_no_numbers_or_overflow_is_valid() {
    let mut known = HashSet::new();
    check_chain(
        || {
            let literals = map!("literals", |u, g, y| {
                let gone = g.equals(0.0).select(f64::NAN, y);
                u + g.gt(1e38).select(f64::INFINITY, gone) + u.lt(-1e38).select(f64::NEG_INFINITY, 1e39 * u)
            });
            let folded = map!("folded", |u| {
                let (large, zero) = (u.constant(1e30), u.constant(0.0));
                let parts = large * large + zero / zero - (zero - large).sqrt()
                    + zero.ln()
                    + large.mul_add(large, zero);
                u.equals(zero).select(parts, u) + large.lt(zero).select(large * large, zero)
            });
            Box::new((literals, folded, Descent::default()))
        },
        &mut known,
    );
}

#[test]
fn products_are_valid_wherever_their_arrays_are() {
    for buffers in [[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 2, 3], [0, 1, 0, 1], [0, 0, 1, 2]] {
        let text = product::shader(buffers);
        assert_eq!(check(&text), ["multiply"], "{text}");
    }
}
