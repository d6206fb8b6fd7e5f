//! The kernels of every chain compile for a GPU where NVRTC is: the toolkit's, or that of PyPI's `nvidia-cuda-nvrtc` with its folder in `LD_LIBRARY_PATH`. It
//! needs neither a GPU nor a driver.

use std::collections::HashSet;
use std::io::Write;
use std::panic::catch_unwind;

use conformance::device::{random_row, rows, rows_in_float64};
use cudarc::nvrtc::{CompileError, CompileOptions, compile_ptx_with_opts};
use gradient_transform::{DType, Optimizer, Rounding};
use sweep_kernels::product::MULTIPLY;
use sweep_kernels::{SUPPORT, Types, USABLE, kernels};

/// The text for NVIDIA's assembler, for GPUs from A100 on.
fn compile(text: &str) -> Result<String, CompileError> {
    let options = vec!["--gpu-architecture=compute_80".to_owned()];
    let options = CompileOptions { fmad: Some(false), options, ..Default::default() };
    compile_ptx_with_opts(format!("{SUPPORT}\n{text}"), options).map(|compiled| compiled.to_src())
}

/// A line that no test harness holds back.
fn say(line: &str) {
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

#[test]
fn the_kernels_of_every_chain_compile_for_a_gpu() {
    // Without the library, the first call panics.
    let Ok(compiled) = catch_unwind(|| compile(USABLE)) else {
        say("skipped: kernels for a GPU: there is no NVRTC\n");
        return;
    };
    assert!(compiled.unwrap().contains(".entry usable"));
    let multiply = compile(MULTIPLY).unwrap();
    assert!(multiply.contains(".entry multiply") && !multiply.contains("fma.rn.f32"), "{multiply}");
    let mut known = HashSet::new();
    for row in rows().into_iter().chain(rows_in_float64()).chain((0..20).map(random_row)) {
        for shape in [&[40, 33][..], &[33]] {
            let optimizer: Optimizer = Optimizer::new(row.chain(), [("w", shape)]).unwrap();
            for sweep in optimizer.formulas(0, shape).unwrap() {
                for dtype in [DType::F32, DType::Bf16] {
                    let columns = vec![Some(dtype); sweep.columns.len()];
                    let rounding = Rounding::Stochastic;
                    let text =
                        kernels(&sweep, &Types { gradient: dtype, parameter: dtype, columns, rounding });
                    if known.contains(&text) {
                        continue;
                    }
                    let compiled = compile(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
                    // What gives the processor's bits: nothing is contracted, quotients and roots are rounded once.
                    assert!(!compiled.contains("div.approx") && !compiled.contains("sqrt.approx"), "{text}");
                    let fuses =
                        ["fmaf(", "expf(", "logf(", "tanhf("].iter().any(|function| text.contains(function));
                    assert!(fuses || !compiled.contains("fma.rn.f32"), "{text}");
                    known.insert(text);
                }
            }
        }
    }
    assert!(known.len() > 2 * 62, "{}", known.len());
    say(&format!("ran: {} texts compiled by NVRTC\n", known.len()));
}
