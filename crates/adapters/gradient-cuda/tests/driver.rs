//! The executor without a GPU: a driver and a compiler of a few lines of C stand in for NVIDIA's. The tests run in a process of their own that
//! finds them. Where there is no C compiler, each says so and ends.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use conformance::device::{Types, compare, distance, matrix_rows, rows, rows_in_float64};
use conformance::products::products_apart;
use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DevicePtr};
use gradient_cuda::{Cuda, CudaArray, CudaError};
use gradient_transform::device::{DeviceParameter, Executor, OnDevice};
use gradient_transform::{Buffer, DType, Descent, Error, Optimizer, Parameter};
use half::bf16;
use muon_pp::Muon;
use prodigy_plus::Options;

const FOLDER: &str = "DRIVER_FOLDER";

/// A line that no test harness holds back.
fn say(line: &str) {
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// Whether this process has the driver. If not, another one is made, in which the test of that name runs.
fn has_driver(test: &str, environment: &[(&str, &str)]) -> bool {
    if std::env::var_os(FOLDER).is_some() {
        return true;
    }
    static MADE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let Some(libraries) = MADE.get_or_init(libraries) else {
        say(&format!("skipped: {test}: there is no C compiler (cc)"));
        return false;
    };
    let kernels = tempfile::tempdir().unwrap();
    let ran = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env("LD_LIBRARY_PATH", libraries)
        .env(FOLDER, kernels.path())
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{out}\n{err}");
    assert!(out.contains("1 passed"), "{out}");
    err.lines().filter(|line| line.starts_with("ran: ")).for_each(say);
    false
}

/// The driver and the compiler, under the names that cudarc looks for.
fn libraries() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("driver");
    std::fs::create_dir_all(&folder).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/driver/driver.c");
    let flags =
        ["-std=gnu11", "-O1", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-o"].map(OsStr::new);
    let library = folder.join("libcuda.so");
    let made = Command::new("cc").args(flags).arg(&library).arg(&source).arg("-ldl").output().ok()?;
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    std::fs::copy(&library, folder.join("libnvrtc.so")).unwrap();
    Some(folder)
}

const SHAPES: [&[usize]; 6] = [&[40, 33], &[33], &[3], &[64, 64], &[3, 5, 64], &[2, 1100]];

#[test]
fn every_fourth_chain_has_the_engines_bits() {
    if !has_driver("every_fourth_chain_has_the_engines_bits", &[]) {
        return;
    }
    let mut cuda = Cuda::new(0).unwrap();
    // The kernels of all of them are tested in sweep-kernels, and compiling takes most of the time.
    for (number, row) in rows().iter().step_by(4).chain(rows_in_float64().first()).enumerate() {
        let types = if number % 2 == 0 { Types::F32 } else { Types::Bf16 };
        cuda = compare(row, types, &SHAPES, 4, cuda).unwrap();
    }
}

#[test]
fn products_have_the_interpreters_bits_and_chains_of_them_are_the_engines_but_for_rounding() {
    if !has_driver(
        "products_have_the_interpreters_bits_and_chains_of_them_are_the_engines_but_for_rounding",
        &[],
    ) {
        return;
    }
    let mut cuda = Cuda::new(0).unwrap();
    assert_eq!(products_apart(&mut cuda), Ok(0.0));
    for row in matrix_rows() {
        let apart;
        (cuda, apart) = distance(&row, Types::F32, &SHAPES, 4, cuda).unwrap();
        assert!(apart <= 1e-5, "{}: {apart:e}", row.name);
    }
}

#[test]
fn launches_of_products_depend_on_the_number_of_shapes_and_not_on_that_of_matrices() {
    if !has_driver("launches_of_products_depend_on_the_number_of_shapes_and_not_on_that_of_matrices", &[]) {
        return;
    }
    let launches = |shapes: &[[usize; 2]]| -> u64 {
        let names = shapes.iter().enumerate().map(|(i, shape)| (format!("w{i}"), *shape));
        let optimizer: Optimizer = Optimizer::new((Muon::default(), Descent::default()), names).unwrap();
        let mut optimizer = OnDevice::new(optimizer, Cuda::new(0).unwrap()).unwrap();
        let upload = |optimizer: &mut OnDevice<Cuda>, shape: &[usize; 2]| {
            let values = (0..shape[0] * shape[1]).map(|i| (i as f32).sin());
            optimizer.executor().upload(Buffer::F32(values.collect())).unwrap()
        };
        let mut w: Vec<CudaArray> = shapes.iter().map(|shape| upload(&mut optimizer, shape)).collect();
        let g: Vec<CudaArray> = shapes.iter().map(|shape| upload(&mut optimizer, shape)).collect();
        let mut parameters: Vec<DeviceParameter<'_, CudaArray>> =
            w.iter_mut().zip(&g).map(|(value, g)| DeviceParameter { value, gradient: Some(g) }).collect();
        optimizer.step(&mut parameters).unwrap();
        optimizer.executor().launches()
    };
    let one = launches(&[[8, 5]]);
    assert_eq!(launches(&[[8, 5]; 30]), one);
    let two = launches(&[[8, 5], [5, 8], [8, 5]]);
    say(&format!("ran: {one} launches for matrices of one shape, {two} for two"));
    assert!(two < 2 * one, "{one}, {two}");
}

#[test]
fn arrays_of_others_on_a_stream_of_theirs_are_stepped_in_place() {
    if !has_driver("arrays_of_others_on_a_stream_of_theirs_are_stepped_in_place", &[]) {
        return;
    }
    let stream: Arc<CudaStream> = CudaContext::new(0).unwrap().new_stream().unwrap();
    // The array begins behind others in its memory.
    let weights: Vec<f32> = (0..1200).map(|i| i as f32 / 600.0).collect();
    let gradients: Vec<f32> = (0..1200).map(|i| ((i * 37) % 100) as f32 / 100.0 - 0.5).collect();
    let (w, g) = (stream.clone_htod(&weights).unwrap(), stream.clone_htod(&gradients).unwrap());
    let lent = |slice: &CudaSlice<f32>| {
        let address = slice.device_ptr(&stream).0 + 4 * 100;
        // SAFETY: the slice is longer, and outlives the array.
        #[allow(unsafe_code)]
        unsafe {
            CudaArray::borrowed(address, DType::F32, 1000)
        }
    };
    let optimizer = || Options::default().d0(1e-3).build([("w", [40, 25])]).unwrap();
    let mut there = OnDevice::new(optimizer(), Cuda::on_stream(Arc::clone(&stream)).unwrap()).unwrap();
    let mut here: Optimizer = optimizer();
    let mut expected = weights.clone();
    for _ in 0..3 {
        let (mut value, gradient) = (lent(&w), lent(&g));
        there.step(&mut [DeviceParameter { value: &mut value, gradient: Some(&gradient) }]).unwrap();
        let inner = &mut expected[100..1100];
        here.step(&mut [Parameter::slice(inner, Some(&gradients[100..1100]))]).unwrap();
        assert_eq!(stream.clone_dtoh(&w).unwrap(), expected);
    }
    assert_eq!(there.snapshot().unwrap(), here.snapshot());
    assert_ne!(expected, weights);
}

#[test]
fn what_goes_between_host_and_device_is_counted() {
    if !has_driver("what_goes_between_host_and_device_is_counted", &[]) {
        return;
    }
    let mut optimizer =
        OnDevice::new(Options::default().build([("w", [512, 512])]).unwrap(), Cuda::new(0).unwrap()).unwrap();
    let bytes = 4 * 512 * 512;
    let mut w = optimizer.executor().upload(Buffer::F32(vec![0.1; 512 * 512])).unwrap();
    assert_eq!(optimizer.executor().transferred_bytes(), bytes);
    let g = optimizer.executor().upload(Buffer::F32(vec![0.01; 512 * 512])).unwrap();
    let mut steps = Vec::new();
    for _ in 0..3 {
        let before = optimizer.executor().transferred_bytes();
        optimizer.step(&mut [DeviceParameter { value: &mut w, gradient: Some(&g) }]).unwrap();
        steps.push(optimizer.executor().transferred_bytes() - before);
    }
    say(&format!("ran: {steps:?} bytes between host and device in steps of {bytes} bytes of parameters"));
    assert!(steps.iter().all(|&step| step > 0 && step < bytes / 20), "{steps:?}");
    let before = optimizer.executor().transferred_bytes();
    assert_eq!(optimizer.executor().download(&w).unwrap().len(), 512 * 512);
    assert_eq!(optimizer.executor().transferred_bytes() - before, bytes);
}

#[test]
fn a_step_waits_once_for_each_sweep_whatever_the_formulas_and_types() {
    if !has_driver("a_step_waits_once_for_each_sweep_whatever_the_formulas_and_types", &[]) {
        return;
    }
    let names = [("a", vec![40, 33]), ("b", vec![33]), ("c", vec![64, 64]), ("d", vec![70])];
    let types = [DType::F32, DType::F32, DType::Bf16, DType::Bf16];
    let optimizer = Options::default().build(names).unwrap();
    let sweeps = optimizer.formulas(0, &[40, 33]).unwrap().len() as u64;
    let mut optimizer = OnDevice::new(optimizer, Cuda::new(0).unwrap()).unwrap();
    let values = |len: usize, dtype| {
        let values = (0..len).map(|i| ((i * 37) % 100) as f32 / 100.0 - 0.5);
        match dtype {
            DType::Bf16 => Buffer::Bf16(values.map(bf16::from_f32).collect()),
            _ => Buffer::F32(values.collect()),
        }
    };
    let mut arrays = || -> Vec<CudaArray> {
        let arrays = [40 * 33, 33, 64 * 64, 70].into_iter().zip(types);
        arrays.map(|(len, dtype)| optimizer.executor().upload(values(len, dtype)).unwrap()).collect()
    };
    let (mut w, g) = (arrays(), arrays());
    let mut waits = Vec::new();
    for _ in 0..3 {
        let before = optimizer.executor().waits();
        let mut parameters: Vec<DeviceParameter<'_, CudaArray>> =
            w.iter_mut().zip(&g).map(|(value, g)| DeviceParameter { value, gradient: Some(g) }).collect();
        optimizer.step(&mut parameters).unwrap();
        waits.push(optimizer.executor().waits() - before);
    }
    say(&format!("ran: {waits:?} waits in steps of {sweeps} sweeps"));
    // One is for the check of the gradients. In the first step, state that begins as a copy of bfloat16 is made on the host.
    assert_eq!(waits[1..], [1 + sweeps; 2]);
}

#[test]
fn a_step_without_gradients_and_one_of_arrays_without_elements_are_no_errors() {
    if !has_driver("a_step_without_gradients_and_one_of_arrays_without_elements_are_no_errors", &[]) {
        return;
    }
    let optimizer = Options::default().build([("none", vec![0, 3]), ("some", vec![2])]).unwrap();
    let mut optimizer = OnDevice::new(optimizer, Cuda::new(0).unwrap()).unwrap();
    let mut arrays =
        [vec![], vec![1.0_f32; 2]].map(|values| optimizer.executor().upload(Buffer::F32(values)).unwrap());
    let gradients =
        [vec![], vec![1.0_f32; 2]].map(|values| optimizer.executor().upload(Buffer::F32(values)).unwrap());
    for given in [false, true] {
        let parameters = arrays.iter_mut().zip(&gradients);
        let mut parameters: Vec<DeviceParameter<'_, CudaArray>> = parameters
            .map(|(value, gradient)| DeviceParameter { value, gradient: given.then_some(gradient) })
            .collect();
        optimizer.step(&mut parameters).unwrap();
        let values = optimizer.executor().download(&arrays[1]).unwrap();
        assert_eq!(values == Buffer::F32(vec![1.0; 2]), !given);
    }
}

#[test]
fn a_device_that_is_not_there_and_float64_are_errors() {
    if !has_driver("a_device_that_is_not_there_and_float64_are_errors", &[]) {
        return;
    }
    assert!(matches!(Cuda::new(7), Err(CudaError::Driver(_))));
    let error = Cuda::new(0).unwrap().upload(Buffer::F64(vec![1.0])).unwrap_err();
    assert!(matches!(error, CudaError::Float64), "{error}");
}

#[test]
fn without_memory_for_the_state_a_step_is_an_error_and_the_optimizer_ends() {
    // There is some for the arrays, and none for moments beside them.
    let limit = [("DRIVER_BYTES", "100000")];
    if !has_driver("without_memory_for_the_state_a_step_is_an_error_and_the_optimizer_ends", &limit) {
        return;
    }
    let chain = (elementary::Adam::default(), Descent::default());
    let optimizer: Optimizer = Optimizer::new(chain, [("w", [10_000])]).unwrap();
    let mut optimizer = OnDevice::new(optimizer, Cuda::new(0).unwrap()).unwrap();
    let mut w = optimizer.executor().upload(Buffer::F32(vec![1.0; 10_000])).unwrap();
    let g = optimizer.executor().upload(Buffer::F32(vec![1.0; 10_000])).unwrap();
    for _ in 0..2 {
        let error = optimizer.step(&mut [DeviceParameter { value: &mut w, gradient: Some(&g) }]).unwrap_err();
        assert!(
            matches!(&error, Error::Device { reason } if reason.contains("out of memory") || reason.contains("OUT_OF_MEMORY")),
            "{error}"
        );
    }
    assert_eq!(optimizer.executor().download(&w).unwrap(), Buffer::F32(vec![1.0; 10_000]));
}
