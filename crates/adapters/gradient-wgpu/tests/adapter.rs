//! Chains on wgpu beside the engine. Where there is no adapter, each test says so and ends; Mesa's `lavapipe` is one on any machine.

#[path = "book/lion.rs"]
#[allow(unreachable_pub)] // as the book has it
mod lion;

use std::io::Write;
use std::path::Path;

use conformance::device::{Types, distance, matrix_rows, rows, rows_in_float64};
use conformance::device_loop::compare_loop;
use conformance::products::products_apart;
use elementary::{Adam, ClipByNorm, Momentum};
use gradient_transform::device::{DeviceParameter, Executor, OnDevice};
use gradient_transform::{
    Buffer, DType, Descent, Error, Link, NonFinite, Optimizer, Parameter, ParameterGroup, Settings,
    StepOutcome, TrainingPoint, map,
};
use gradient_wgpu::{Wgpu, WgpuArray, WgpuError};
use lion::Lion;
use muon_pp::Muon;
use prodigy_plus::ProdigyPlus;

const SHAPES: [&[usize]; 6] = [&[40, 33], &[33], &[3], &[64, 64], &[3, 5, 64], &[2, 1100]];

/// Differences between parameters, state and estimates after a few steps, relative to the largest element of an array.
const TOLERANCE: f64 = 1e-5;
/// The same where the last step may be rounded to the other of two bfloat16 numbers.
const TOLERANCE_BF16: f64 = 1.0 / 128.0;

/// A line that no test harness holds back.
fn say(line: &str) {
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// The device, or a line that says that there is none.
fn device(test: &str) -> Option<Wgpu> {
    match Wgpu::new() {
        Ok(wgpu) => Some(wgpu),
        Err(error) => {
            say(&format!("skipped: {test}: {error}\n"));
            None
        }
    }
}

fn ran(what: &str, wgpu: &Wgpu) {
    say(&format!("ran: {what}, on {}\n", wgpu.device().adapter_info().name));
}

fn all(
    test: &str,
    types: Types,
    shapes: &[&[usize]],
    steps: u64,
    tolerance: f64,
    wanted: impl Fn(usize, &str) -> bool,
) {
    let Some(mut wgpu) = device(test) else { return };
    let (mut to_the_bit, mut count, mut largest) = (0, 0, 0.0_f64);
    for (i, row) in rows().iter().enumerate().filter(|(i, row)| wanted(*i, row.name)) {
        let apart;
        (wgpu, apart) = distance(row, types, shapes, steps, wgpu).unwrap();
        assert!(apart <= tolerance, "{} ({i}): {apart:e}", row.name);
        (count, largest) = (count + 1, largest.max(apart));
        to_the_bit += usize::from(apart == 0.0);
    }
    ran(
        &format!("{types:?}, {count} chains, {to_the_bit} to the bit, the others within {largest:.1e}"),
        &wgpu,
    );
}

#[test]
fn every_chain_is_within_the_tolerance_of_the_engine() {
    all("every chain", Types::F32, &SHAPES, 5, TOLERANCE, |_, _| true);
}

#[test]
fn every_third_chain_is_within_the_tolerance_in_bfloat16() {
    all("bfloat16", Types::Bf16, &SHAPES, 5, TOLERANCE_BF16, |i, _| i % 3 == 0);
    all("bfloat16, to the nearest", Types::Bf16Nearest, &SHAPES, 3, TOLERANCE_BF16, |i, _| i % 9 == 1);
}

#[test]
fn sums_of_several_chunks_are_within_the_tolerance() {
    let wanted = ["default", "dense", "adopt", "lars"];
    let shapes: [&[usize]; 3] = [&[800, 700], &[3, 200_000], &[600_000]];
    all("sums of chunks", Types::F32, &shapes, 3, TOLERANCE, |_, name| wanted.contains(&name));
}

#[test]
fn products_and_chains_of_them_are_within_the_tolerance() {
    let Some(mut wgpu) = device("products") else { return };
    let of_products = products_apart(&mut wgpu).unwrap();
    assert!(of_products <= 1e-6, "{of_products:e}");
    let mut largest = 0.0_f64;
    let shapes: [&[usize]; 8] =
        [&[40, 33], &[33], &[3, 5, 64], &[70, 130], &[130, 70], &[1, 300], &[40, 33], &[300, 1]];
    for row in matrix_rows() {
        let apart;
        (wgpu, apart) = distance(&row, Types::F32, &shapes, 5, wgpu).unwrap();
        assert!(apart <= TOLERANCE, "{}: {apart:e}", row.name);
        largest = largest.max(apart);
    }
    ran(&format!("products within {of_products:.1e}, chains of them within {largest:.1e}"), &wgpu);
}

#[test]
fn sums_in_float64_are_refused_by_name() {
    let Some(wgpu) = device("sums in float64") else { return };
    let optimizer = Optimizer::new(rows_in_float64()[0].chain(), [("w", [40, 33])]).unwrap();
    let refused = OnDevice::new(optimizer, wgpu).unwrap_err();
    assert_eq!(refused, Error::NoFloat64 { transform: "orthograd".into() });
}

fn wave(seed: usize, n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7 + seed * 13) % 101) as f32 / 101.0 - 0.5).collect()
}

fn floats(buffer: Buffer) -> Vec<f32> {
    let Buffer::F32(values) = buffer else { panic!("{buffer:?}") };
    values
}

/// Steps a chain on both sides, and gives the largest difference.
fn apart(chain: impl Fn() -> Box<dyn Link<f32>>, wgpu: Wgpu) -> f32 {
    let n = 40 * 33;
    let make = || Optimizer::new(chain(), [("w", [40, 33])]).unwrap();
    let (mut here, mut there) = (make(), OnDevice::new(make(), wgpu).unwrap());
    let mut w = wave(0, n);
    let mut array = there.executor().upload(Buffer::F32(w.clone())).unwrap();
    for step in 1..=10 {
        let gradient = wave(step, n);
        here.step(&mut [Parameter::slice(&mut w, Some(&gradient))]).unwrap();
        let gradient = there.executor().upload(Buffer::F32(gradient)).unwrap();
        there.step(&mut [DeviceParameter { value: &mut array, gradient: Some(&gradient) }]).unwrap();
    }
    assert_ne!(w, wave(0, n));
    let device = floats(there.executor().download(&array).unwrap());
    w.iter().zip(&device).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn a_closure_and_the_books_lion_run_unchanged() {
    let Some(wgpu) = device("a closure") else { return };
    let soften = || map!("soften", |u, g, y| u / (1.0 + u * u).sqrt() + 0.1 * g.abs().gt(0.2).select(y, 0.0));
    assert!(apart(|| Box::new((soften(), Momentum::default(), Descent::default())), wgpu) <= 1e-5);
    let Some(wgpu) = device("the book's Lion") else { return };
    let lion = Lion { beta1: 0.9, beta2: 0.99 };
    assert!(apart(|| Box::new((lion, Descent::default())), wgpu) <= 1e-5);
}

#[test]
fn lion_is_the_books() {
    let source = include_str!("book/lion.rs");
    let (_, lion) = source.split_once("};\n\n").unwrap();
    let page = "../../../book/src/tutorial/own-transform.md";
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
    assert!(lion.contains("impl GradientTransform for Lion") && page.contains(lion));
}

/// Steps `tensors` matrices and as many vectors once more after a first step; launches and sweeps of that step.
fn launches_of_a_step(chain: impl Link<f32> + 'static, tensors: usize, wgpu: Wgpu) -> (u64, u64) {
    let shapes = || (0..2 * tensors).map(|i| if i < tensors { vec![40, 33] } else { vec![1000 + i] });
    let names: Vec<(String, Vec<usize>)> =
        shapes().enumerate().map(|(i, shape)| (format!("w{i}"), shape)).collect();
    let optimizer = Optimizer::new(chain, names).unwrap();
    let sweeps = optimizer.formulas(0, &[40, 33]).unwrap().len() as u64;
    let mut optimizer = OnDevice::new(optimizer, wgpu).unwrap();
    let mut arrays = |seed| -> Vec<WgpuArray> {
        let values = shapes().map(|shape| Buffer::F32(wave(seed, shape.iter().product())));
        values.map(|values| optimizer.executor().upload(values).unwrap()).collect()
    };
    let (mut weights, gradients) = (arrays(0), arrays(1));
    let mut before = 0;
    for _ in 0..2 {
        before = optimizer.executor().launches();
        let parameters = weights.iter_mut().zip(&gradients);
        let mut parameters: Vec<DeviceParameter<'_, WgpuArray>> =
            parameters.map(|(value, gradient)| DeviceParameter { value, gradient: Some(gradient) }).collect();
        optimizer.step(&mut parameters).unwrap();
    }
    (optimizer.executor().launches() - before, sweeps)
}

#[test]
fn a_step_has_a_launch_for_each_sweep_whatever_the_number_of_tensors() {
    for tensors in [1, 3, 200] {
        let Some(wgpu) = device("launches") else { return };
        let (launches, sweeps) = launches_of_a_step((Adam::default(), Descent::default()), tensors, wgpu);
        // One beside them looks at the gradients.
        assert_eq!((launches, sweeps), (1 + 1, 1), "{tensors}");
        let Some(wgpu) = device("launches") else { return };
        let chain = (ClipByNorm::default(), Adam::default(), Descent::default());
        assert_eq!(launches_of_a_step(chain, tensors, wgpu), (1 + 2, 2), "{tensors}");
    }
}

/// An array in a buffer of its own.
fn in_own_buffer(wgpu: &Wgpu, values: &[f32]) -> WgpuArray {
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let buffer = wgpu.device().create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: size_of_val(values) as u64,
        usage,
        mapped_at_creation: false,
    });
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    wgpu.queue().write_buffer(&buffer, 0, &bytes);
    WgpuArray::in_buffer(&buffer, 0, DType::F32, values.len()).unwrap()
}

#[test]
fn a_step_waits_once_for_each_sweep_also_where_every_tensor_is_in_a_buffer_of_its_own() {
    let shapes: Vec<Vec<usize>> =
        (0..12).map(|i| [vec![40, 33 + i], vec![1000 + i]][i % 2].clone()).collect();
    let names = || shapes.iter().enumerate().map(|(i, shape)| (format!("w{i}"), shape.clone()));
    let len = |shape: &Vec<usize>| shape.iter().product::<usize>();
    let mut results = Vec::new();
    for own_buffers in [false, true] {
        let Some(mut wgpu) = device("waits") else { return };
        let mut arrays = |seed: usize| -> Vec<WgpuArray> {
            let waves = shapes.iter().map(|shape| wave(seed, len(shape)));
            waves
                .map(|values| match own_buffers {
                    true => in_own_buffer(&wgpu, &values),
                    false => wgpu.upload(Buffer::F32(values)).unwrap(),
                })
                .collect()
        };
        let (mut weights, gradients) = (arrays(0), arrays(1));
        let optimizer = ProdigyPlus::builder().build(names()).unwrap();
        let sweeps = optimizer.formulas(0, &shapes[0]).unwrap().len() as u64;
        assert!(optimizer.formulas(0, &shapes[1]).unwrap().len() as u64 <= sweeps);
        let mut optimizer = OnDevice::new(optimizer, wgpu).unwrap();
        for step in 0..3 {
            let before = optimizer.executor().waits();
            let parameters = weights.iter_mut().zip(&gradients);
            let mut parameters: Vec<DeviceParameter<'_, WgpuArray>> = parameters
                .map(|(value, gradient)| DeviceParameter { value, gradient: Some(gradient) })
                .collect();
            optimizer.step(&mut parameters).unwrap();
            // One is for the check of the gradients.
            let waits = optimizer.executor().waits() - before;
            assert!(step == 0 || waits == 1 + sweeps, "step {step}: {waits} waits, {sweeps} sweeps");
        }
        let values = weights.iter().map(|array| optimizer.executor().download(array).unwrap());
        results.push(values.collect::<Vec<Buffer>>());
    }
    assert_eq!(results[0], results[1]);
}

#[test]
fn a_step_with_row_and_column_sums_has_as_many_launches_whatever_the_number_of_tensors() {
    let mut counts = Vec::new();
    for tensors in [1, 3, 200] {
        let Some(wgpu) = device("launches") else { return };
        let chain = prodigy_plus::Options::default().transforms::<f32>().unwrap();
        counts.push(launches_of_a_step(chain, tensors, wgpu).0);
    }
    assert!(counts[0] > 4 && counts.iter().all(|count| *count == counts[0]), "{counts:?}");
}

#[test]
fn products_have_as_many_launches_whatever_the_number_of_matrices_of_a_shape() {
    let Some(wgpu) = device("launches of products") else { return };
    let chain = || (Muon::default(), Descent::default());
    let (one, _) = launches_of_a_step(chain(), 1, wgpu);
    let Some(wgpu) = device("launches of products") else { return };
    let (many, _) = launches_of_a_step(chain(), 100, wgpu);
    assert_eq!(one, many);
    // One looks at the gradients. Vectors have a launch of their own in each of the chain's sweeps; Muon has three, and 18 products.
    assert_eq!(one, 1 + 2 + 1 + 3 + 18);
}

#[test]
fn a_run_changes_sides_with_all_its_state() {
    let Some(wgpu) = device("a change of sides") else { return };
    let n = 64 * 33;
    let gradient = |step| wave(step, n);
    let make = || ProdigyPlus::builder().build([("w", [64, 33])]).unwrap();
    let (mut straight, mut moving) = (make(), make());
    let (mut w, mut v) = (wave(0, n), wave(0, n));
    for step in 1..=3 {
        straight.step(&mut [Parameter::slice(&mut w, Some(&gradient(step)))]).unwrap();
        moving.step(&mut [Parameter::slice(&mut v, Some(&gradient(step)))]).unwrap();
    }
    let before = moving.snapshot();
    let mut moving = OnDevice::new(moving, wgpu).unwrap();
    assert_eq!(moving.snapshot().unwrap(), before);
    let mut array = moving.executor().upload(Buffer::F32(v)).unwrap();
    for step in 4..=6 {
        straight.step(&mut [Parameter::slice(&mut w, Some(&gradient(step)))]).unwrap();
        let gradient = moving.executor().upload(Buffer::F32(gradient(step))).unwrap();
        moving.step(&mut [DeviceParameter { value: &mut array, gradient: Some(&gradient) }]).unwrap();
    }
    let on_device = moving.snapshot().unwrap();
    let (mut moving, mut wgpu) = moving.into_parts().unwrap();
    assert_eq!(moving.snapshot(), on_device);
    let mut v = floats(wgpu.download(&array).unwrap());
    for step in 7..=9 {
        straight.step(&mut [Parameter::slice(&mut w, Some(&gradient(step)))]).unwrap();
        moving.step(&mut [Parameter::slice(&mut v, Some(&gradient(step)))]).unwrap();
    }
    let apart = w.iter().zip(&v).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
    assert!(apart <= TOLERANCE && w != wave(0, n), "{apart}");
    // And a checkpoint of the device's goes into a new optimizer on the host.
    let mut resumed = make();
    resumed.restore(moving.snapshot()).unwrap();
    assert_eq!(resumed.steps(0).unwrap(), 9);
}

#[test]
fn parameters_and_gradients_in_buffers_of_the_callers_are_stepped_in_place() {
    let Some(wgpu) = device("buffers of the caller's") else { return };
    let (device, queue) = (wgpu.device().clone(), wgpu.queue().clone());
    let buffer = || {
        device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: 4 * 1000,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    };
    let (weights, gradients) = (buffer(), buffer());
    let bytes = |values: Vec<f32>| -> Vec<u8> { values.iter().flat_map(|x| x.to_le_bytes()).collect() };
    queue.write_buffer(&weights, 0, &bytes(wave(0, 1000)));
    queue.write_buffer(&gradients, 0, &bytes(wave(1, 1000)));
    // Two tensors with 100 numbers between them and behind them, which are not to change.
    let array = |buffer, first: u64, len| WgpuArray::in_buffer(buffer, 4 * first, DType::F32, len).unwrap();
    let mut values = [array(&weights, 0, 400), array(&weights, 500, 400)];
    let slopes = [array(&gradients, 0, 400), array(&gradients, 500, 400)];
    assert_eq!((values[1].offset(), values[1].buffer()), (2000, &weights));
    let names = [("a", [400]), ("b", [400])];
    let optimizer = Optimizer::new((Momentum::default(), Descent::default()), names).unwrap();
    let mut optimizer = OnDevice::new(optimizer, wgpu).unwrap();
    let before = optimizer.executor().launches();
    let mut parameters: Vec<DeviceParameter<'_, WgpuArray>> = values
        .iter_mut()
        .zip(&slopes)
        .map(|(value, gradient)| DeviceParameter { value, gradient: Some(gradient) })
        .collect();
    optimizer.step(&mut parameters).unwrap();
    assert_eq!(optimizer.executor().launches() - before, 2);
    let after = floats(optimizer.executor().download(&array(&weights, 0, 1000)).unwrap());
    let (w, g) = (wave(0, 1000), wave(1, 1000));
    let moved = |i: usize| i < 400 || (500..900).contains(&i);
    let expected: Vec<f32> = (0..1000).map(|i| if moved(i) { w[i] - g[i] } else { w[i] }).collect();
    assert_eq!(after, expected);
}

#[test]
fn a_gradient_that_is_not_finite_moves_nothing() {
    for wrong in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3e38] {
        let Some(wgpu) = device("a gradient that is not finite") else { return };
        let names = [("a", [2000]), ("b", [3000])];
        let optimizer = Optimizer::new((Adam::default(), Descent::default()), names).unwrap();
        let mut optimizer = OnDevice::new(optimizer, wgpu).unwrap();
        let mut upload = |values: Vec<f32>| optimizer.executor().upload(Buffer::F32(values)).unwrap();
        let (mut a, mut b) = (upload(wave(0, 2000)), upload(wave(0, 3000)));
        let (good, mut spoilt) = (upload(wave(1, 2000)), wave(1, 3000));
        spoilt[2999] = wrong;
        let bad = upload(spoilt);
        let step =
            |a: &mut WgpuArray, b: &mut WgpuArray, gradient: &WgpuArray, optimizer: &mut OnDevice<Wgpu>| {
                optimizer.step(&mut [
                    DeviceParameter { value: a, gradient: Some(&good) },
                    DeviceParameter { value: b, gradient: Some(gradient) },
                ])
            };
        let error = step(&mut a, &mut b, &bad, &mut optimizer).unwrap_err();
        match error {
            Error::NonFiniteGradient { name, index, .. } => assert_eq!((&*name, index), ("b", 2999)),
            Error::GradientTooLarge { name, index, .. } => {
                assert_eq!((&*name, index, wrong), ("b", 2999, 3e38))
            }
            error => panic!("{error}"),
        }
        assert_eq!(floats(optimizer.executor().download(&a).unwrap()), wave(0, 2000));
        assert_eq!(floats(optimizer.executor().download(&b).unwrap()), wave(0, 3000));
        assert_eq!(optimizer.snapshot().unwrap().groups[0].k, 0);
        // The device is as good as before.
        let fine = optimizer.executor().upload(Buffer::F32(wave(1, 3000))).unwrap();
        assert_eq!(step(&mut a, &mut b, &fine, &mut optimizer).unwrap(), StepOutcome::Done);
        assert_ne!(floats(optimizer.executor().download(&b).unwrap()), wave(0, 3000));
    }
}

#[test]
fn groups_a_refused_tensor_and_one_without_elements_step_as_on_the_processor() {
    let Some(wgpu) = device("groups") else { return };
    let make = || {
        let first = ParameterGroup::new((Adam::default(), Descent::default()), [("a", [40]), ("none", [0])]);
        let second =
            ParameterGroup::new((Momentum::default(), Descent::default()), [("b", [40]), ("c", [40])]);
        let settings = Settings { non_finite: NonFinite::SkipTensor, ..Settings::default() };
        Optimizer::<f32>::with_groups([first.lr(0.1), second.lr(0.5)], settings).unwrap()
    };
    let (mut here, mut there) = (make(), OnDevice::new(make(), wgpu).unwrap());
    let lens = [40, 0, 40, 40];
    let mut weights = lens.map(|n| wave(0, n));
    let mut arrays = weights.clone().map(|w| there.executor().upload(Buffer::F32(w)).unwrap());
    for step in 1..=3 {
        let mut gradients = lens.map(|n| wave(step, n));
        if step == 2 {
            gradients[3][7] = f32::NAN;
        }
        let mut parameters: Vec<Parameter<'_>> =
            weights.iter_mut().zip(&gradients).map(|(w, g)| Parameter::slice(w, Some(g))).collect();
        here.step(&mut parameters).unwrap();
        let gradients = gradients.map(|g| there.executor().upload(Buffer::F32(g)).unwrap());
        let mut parameters: Vec<DeviceParameter<'_, WgpuArray>> = arrays
            .iter_mut()
            .zip(&gradients)
            .map(|(value, gradient)| DeviceParameter { value, gradient: Some(gradient) })
            .collect();
        there.step(&mut parameters).unwrap();
    }
    for (w, array) in weights.iter().zip(&arrays) {
        let device = floats(there.executor().download(array).unwrap());
        assert_eq!(device.len(), w.len());
        assert!(w.iter().zip(&device).all(|(a, b)| (a - b).abs() <= 1e-5), "{w:?} {device:?}");
    }
    let updates = |snapshot: &gradient_transform::Snapshot| -> Vec<u64> {
        snapshot.tensors.values().map(|tensor| tensor.updates).collect()
    };
    let (ours, theirs) = (here.snapshot(), there.snapshot().unwrap());
    assert_eq!(updates(&theirs), updates(&ours));
    assert_eq!(theirs.tensors["c"].updates, 2);
}

#[test]
fn a_device_that_is_lost_is_an_error_of_its_own() {
    let Some(wgpu) = device("a device that is lost") else { return };
    let optimizer = Optimizer::new(Descent::default(), [("w", [2])]).unwrap();
    let mut optimizer = OnDevice::new(optimizer, wgpu).unwrap();
    let mut w = optimizer.executor().upload(Buffer::F32(vec![1.0, 2.0])).unwrap();
    let g = optimizer.executor().upload(Buffer::F32(vec![0.5, 0.5])).unwrap();
    optimizer.executor().device().destroy();
    let stepped = optimizer.step(&mut [DeviceParameter { value: &mut w, gradient: Some(&g) }]);
    assert!(matches!(stepped, Err(Error::Device { .. })), "{stepped:?}");
    assert!(matches!(optimizer.executor().upload(Buffer::F32(vec![1.0])), Err(WgpuError::Lost { .. })));
    assert!(matches!(optimizer.executor().download(&w), Err(WgpuError::Lost { .. })));
}

#[test]
fn what_no_kernel_can_be_given_is_refused_with_its_reason() {
    let Some(mut wgpu) = device("what is refused") else { return };
    assert!(matches!(wgpu.upload(Buffer::F64(vec![1.0])), Err(WgpuError::Float64)));
    assert!(matches!(wgpu.zeros(DType::F64, 1), Err(WgpuError::Float64)));
    assert!(matches!(wgpu.reserve(1 << 40), Err(WgpuError::TooLarge { bytes, .. }) if bytes == 1 << 42));
    assert!(matches!(wgpu.zeros(DType::F32, 1 << 40), Err(WgpuError::TooLarge { .. })));
    let buffer = |usage| {
        wgpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: 16,
            usage,
            mapped_at_creation: false,
        })
    };
    let storage = buffer(wgpu::BufferUsages::STORAGE);
    let copied = buffer(wgpu::BufferUsages::COPY_DST);
    let reason = |buffer, offset, dtype, len| match WgpuArray::in_buffer(buffer, offset, dtype, len) {
        Err(WgpuError::Buffer { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    assert!(reason(&copied, 0, DType::F32, 4).contains("STORAGE"));
    assert!(reason(&storage, 2, DType::Bf16, 4).contains("multiple of 4"));
    assert!(reason(&storage, 4, DType::F32, 4).contains("within"));
    assert!(reason(&storage, 12, DType::Bf16, 3).contains("within"));
    assert!(reason(&storage, 20, DType::F32, 0).contains("within"));
    assert!(matches!(WgpuArray::in_buffer(&storage, 0, DType::F64, 1), Err(WgpuError::Float64)));
    let unread = WgpuArray::in_buffer(&storage, 0, DType::F32, 4).unwrap();
    let error = wgpu.download(&unread).unwrap_err();
    assert!(error.to_string().contains("COPY_SRC"), "{error}");
}

#[test]
fn memory_of_arrays_that_are_gone_is_used_again() {
    let Some(mut wgpu) = device("memory") else { return };
    let first = wgpu.upload(Buffer::F32(wave(0, 1000))).unwrap();
    let place = (first.buffer().clone(), first.offset());
    drop(first);
    let zeros = wgpu.zeros(DType::F32, 1000).unwrap();
    assert_eq!((zeros.buffer().clone(), zeros.offset()), place);
    assert_eq!(floats(wgpu.download(&zeros).unwrap()), vec![0.0; 1000]);
    let odd = Buffer::Bf16([1.0, 2.0, 3.0].map(half::bf16::from_f32).to_vec());
    let array = wgpu.upload(odd.clone()).unwrap();
    assert_eq!(wgpu.download(&array).unwrap(), odd);
}

#[test]
fn state_that_begins_as_a_copy_of_the_parameter_is_copied_on_the_device() {
    let Some(mut wgpu) = device("copies") else { return };
    let values = wave(0, 1000);
    let array = wgpu.upload(Buffer::F32(values.clone())).unwrap();
    // In a buffer with its copy, and in one of its own.
    let own = wgpu.device().create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: 4100,
        usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    wgpu.queue().write_buffer(&own, 100, &bytes);
    let apart = WgpuArray::in_buffer(&own, 100, DType::F32, 1000).unwrap();
    let before = wgpu.transferred_bytes();
    let mut copies = Vec::new();
    for every in [1, 11] {
        let expected: Vec<f32> = values.iter().copied().step_by(every).collect();
        for array in [&array, &apart] {
            copies.push((wgpu.sample(array, every, DType::F32).unwrap().unwrap(), expected.clone()));
        }
    }
    assert_eq!(wgpu.transferred_bytes(), before);
    for (copy, expected) in copies {
        assert_eq!(wgpu.download(&copy).unwrap(), Buffer::F32(expected));
    }
    assert!(wgpu.sample(&array, 1, DType::Bf16).unwrap().is_none());
}

#[test]
fn a_training_loop_that_changes_sides_is_within_the_tolerance() {
    let Some(mut wgpu) = device("a training loop") else { return };
    for (types, tolerance) in [(Types::F32, TOLERANCE), (Types::Bf16, TOLERANCE_BF16)] {
        for training_point in [TrainingPoint::Kept, TrainingPoint::Recomputed] {
            let apart;
            (wgpu, apart) = compare_loop(types, training_point, false, wgpu).unwrap();
            assert!(apart <= tolerance, "{types:?}, {training_point:?}: {apart:e}");
            ran(&format!("a training loop in {types:?}, y {training_point:?}, within {apart:.1e}"), &wgpu);
        }
    }
}

/// Launches and bytes of some work of an optimizer.
fn cost(optimizer: &mut OnDevice<Wgpu>, work: impl FnOnce(&mut OnDevice<Wgpu>)) -> [u64; 2] {
    let counts = |optimizer: &mut OnDevice<Wgpu>| {
        let wgpu = optimizer.executor();
        [wgpu.launches(), wgpu.transferred_bytes()]
    };
    let before = counts(optimizer);
    work(optimizer);
    let after = counts(optimizer);
    [after[0] - before[0], after[1] - before[1]]
}

#[test]
fn evaluation_and_accumulation_have_a_launch_whatever_the_number_of_tensors_and_move_no_parameter_to_the_host()
 {
    for tensors in [1, 3, 200] {
        let Some(wgpu) = device("launches of an evaluation") else { return };
        let n = 40 * 33;
        let names = (0..tensors).map(|i| (format!("w{i}"), [40, 33]));
        let optimizer = ProdigyPlus::builder().build(names).unwrap();
        let mut optimizer = OnDevice::new(optimizer, wgpu).unwrap();
        let mut arrays = |seed| -> Vec<WgpuArray> {
            (0..tensors).map(|_| optimizer.executor().upload(Buffer::F32(wave(seed, n))).unwrap()).collect()
        };
        let (mut weights, gradients) = (arrays(0), arrays(1));
        let mut parameters: Vec<DeviceParameter<'_, WgpuArray>> = weights
            .iter_mut()
            .zip(&gradients)
            .map(|(value, gradient)| DeviceParameter { value, gradient: Some(gradient) })
            .collect();
        for _ in 0..3 {
            optimizer.step(&mut parameters).unwrap();
        }
        let parameter_bytes = 4 * (tensors * n) as u64;
        let eval = cost(&mut optimizer, |optimizer| optimizer.eval(&mut parameters).unwrap());
        let train = cost(&mut optimizer, |optimizer| optimizer.train(&mut parameters).unwrap());
        let accumulate = cost(&mut optimizer, |optimizer| {
            optimizer.accumulate(&parameters).unwrap();
        });
        let skipped = cost(&mut optimizer, |optimizer| {
            assert_eq!(optimizer.step_if(|_| false, &mut parameters).unwrap(), StepOutcome::Skipped);
        });
        // One of two looks at the gradients.
        assert_eq!(
            [eval, train, accumulate, skipped].map(|[launches, _]| launches),
            [1, 1, 2, 1],
            "{tensors}"
        );
        for [_, bytes] in [eval, train, accumulate, skipped] {
            assert!(bytes < parameter_bytes / 20, "{bytes} of {parameter_bytes}");
        }
    }
}

#[test]
fn a_rule_sees_the_norm_that_the_processor_has() {
    let Some(wgpu) = device("the norm") else { return };
    let names = || [("a", [3000]), ("b", [70])];
    let make = || Optimizer::new(Descent::default(), names()).unwrap();
    let (mut here, mut there) = (make(), OnDevice::new(make(), wgpu).unwrap());
    let lens = [3000, 70];
    let mut weights = lens.map(|n| wave(0, n));
    let mut arrays = weights.clone().map(|w| there.executor().upload(Buffer::F32(w)).unwrap());
    let norms = |with: &[Option<usize>; 2]| {
        let gradients: Vec<Option<Vec<f32>>> =
            (0..2).map(|i| with[i].map(|seed| wave(seed, lens[i]))).collect();
        let on_device: Vec<Option<WgpuArray>> = gradients
            .iter()
            .map(|g| g.as_ref().map(|g| there.executor().upload(Buffer::F32(g.clone())).unwrap()))
            .collect();
        let mut seen = [0.0; 2];
        let mut parameters: Vec<Parameter<'_>> =
            weights.iter_mut().zip(&gradients).map(|(w, g)| Parameter::slice(w, g.as_deref())).collect();
        here.accumulate(&parameters).unwrap();
        let keep = |seen: &mut f64, norm| {
            *seen = norm;
            true
        };
        here.step_if(|norm| keep(&mut seen[0], norm), &mut parameters).unwrap();
        let mut parameters: Vec<DeviceParameter<'_, WgpuArray>> = arrays
            .iter_mut()
            .zip(&on_device)
            .map(|(value, gradient)| DeviceParameter { value, gradient: gradient.as_ref() })
            .collect();
        there.accumulate(&parameters).unwrap();
        there.step_if(|norm| keep(&mut seen[1], norm), &mut parameters).unwrap();
        seen
    };
    for seen in [[Some(1), Some(2)], [Some(3), None], [None, Some(4)]].iter().map(norms) {
        assert!(seen[0] > 0.0 && (seen[0] - seen[1]).abs() <= 1e-6 * seen[0], "{seen:?}");
    }
}

#[test]
fn arrays_that_overlap_in_a_buffer_of_the_callers_are_refused_before_anything_moves() {
    let Some(wgpu) = device("arrays that overlap") else { return };
    let buffer = |wgpu: &Wgpu| {
        wgpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: 4000,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    };
    let (weights, gradients) = (buffer(&wgpu), buffer(&wgpu));
    let array = |buffer, first: u64, dtype, len| WgpuArray::in_buffer(buffer, 4 * first, dtype, len).unwrap();
    let make = || Optimizer::new((Adam::default(), Descent::default()), [("a", [9]), ("b", [9])]).unwrap();
    let mut optimizer = OnDevice::new(make(), wgpu).unwrap();
    // Where the second parameter and the gradients begin, and the second's type: whether that is refused.
    let overlap =
        |names: [&str; 2]| Some(Error::Overlap { first: names[0].to_owned(), second: names[1].to_owned() });
    for (second, dtype, of_a, of_b, expected) in [
        ((&weights, 8), DType::F32, (&gradients, 0), (&gradients, 9), overlap(["a", "b"])),
        ((&weights, 0), DType::F32, (&gradients, 0), (&gradients, 9), overlap(["a", "b"])),
        ((&weights, 20), DType::F32, (&weights, 28), (&gradients, 9), overlap(["a", "b"])),
        ((&weights, 20), DType::F32, (&weights, 3), (&gradients, 9), overlap(["a", "a"])),
        // The last word of an odd number of bfloat16 is the array's as a whole.
        ((&gradients, 100), DType::Bf16, (&weights, 9), (&gradients, 104), overlap(["b", "b"])),
        // Gradients may: they are only read. So may numbers at the same place of two buffers.
        ((&weights, 9), DType::F32, (&gradients, 0), (&gradients, 4), None),
    ] {
        let mut a = array(&weights, 0, DType::F32, 9);
        let mut b = array(second.0, second.1, dtype, 9);
        let (of_a, of_b) = (array(of_a.0, of_a.1, DType::F32, 9), array(of_b.0, of_b.1, DType::F32, 9));
        let stepped = optimizer.step(&mut [
            DeviceParameter { value: &mut a, gradient: Some(&of_a) },
            DeviceParameter { value: &mut b, gradient: Some(&of_b) },
        ]);
        assert_eq!(stepped.err(), expected);
    }
    // In a step without its gradient a parameter is not touched.
    let [mut a, mut b] = [0, 8].map(|first| array(&weights, first, DType::F32, 9));
    let of_a = array(&gradients, 0, DType::F32, 9);
    optimizer
        .step(&mut [
            DeviceParameter { value: &mut a, gradient: Some(&of_a) },
            DeviceParameter { value: &mut b, gradient: None },
        ])
        .unwrap();
    assert_eq!(optimizer.snapshot().unwrap().groups[0].k, 2);
}

#[test]
fn constants_that_are_no_numbers_are_those_of_the_processor() {
    let Some(wgpu) = device("constants that are no numbers") else { return };
    let chain = || {
        // Of every element one of the values, and then numbers that show which one it was.
        let constants = map!("constants", |u, g, y| {
            let large = u.constant(1e30);
            let value = g.lt(-0.25).select(f64::NAN, g.lt(0.0).select(f64::NEG_INFINITY, large * large));
            let is_number = value.equals(value);
            let finite = value.abs().lt(f64::INFINITY);
            (!is_number).select(1.0, finite.select(2.0, value.lt(0.0).select(3.0, 4.0))) + 0.0 * y
        });
        (constants, Descent::default())
    };
    assert_eq!(apart(|| Box::new(chain()), wgpu), 0.0);
}
