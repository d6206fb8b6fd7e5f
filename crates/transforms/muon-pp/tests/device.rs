//! Muon on a device, beside the processor and a naive formula.

use std::convert::Infallible;

use elementary::{Adam, WeightDecay};
use gradient_transform::device::{
    DeviceParameter, Executor, Interpreter, OnDevice, Product, ProductArrays, SweepBatch,
};
use gradient_transform::{
    Buffer, DType, Descent, Error, Link, NonFinite, Optimizer, Parameter, ParameterGroup, Real, Settings,
};
use muon_pp::{Coefficients, Muon, Normalisation, Precision, Scale};

/// Square, tall, wide, of one row and of one column, larger than a tile of 16, and of three axes; two of one shape; vectors.
const SHAPES: [&[usize]; 11] =
    [&[12, 12], &[40, 7], &[7, 40], &[1, 9], &[9, 1], &[70, 130], &[3, 5, 4], &[7, 40], &[9], &[1], &[1, 1]];

fn wave(seed: usize, n: usize) -> impl Iterator<Item = f64> {
    (0..n).map(move |i| ((i * i * 7 + i * 31 + seed * 13) % 101) as f64 / 101.0 - 0.5)
}

fn len(shape: &[usize]) -> usize {
    shape.iter().product()
}

fn options() -> Vec<(&'static str, Muon)> {
    let default = Muon::default();
    vec![
        ("default", default),
        ("of the gradient", Muon { momentum: 0.0, ..default }),
        ("heavy ball, matched to Adam", Muon { nesterov: false, scale: Scale::MatchAdam, ..default }),
        (
            "Polar Express",
            Muon {
                coefficients: Coefficients::PolarExpress,
                iterations: 8,
                scale: Scale::Spectral,
                ..default
            },
        ),
        (
            "one iteration",
            Muon { iterations: 1, coefficients: Coefficients::Constant([1.5, -0.5, 0.0]), ..default },
        ),
        ("neurons", Muon { normalisation: Normalisation::Neurons, ..default }),
        ("reference", Muon::new(0.9)),
        ("reference, with SPEED", Muon { normalisation: Normalisation::FirstUpdate, ..Muon::new(0.9) }),
        ("reference, narrow", Muon { narrow_mean_square: true, ..Muon::new(0.9) }),
    ]
}

fn chain<T: Real>(muon: Muon) -> impl Link<T> {
    (
        muon,
        muon.auxiliary(Adam::default()),
        WeightDecay { rate: 0.1, ..WeightDecay::default() },
        Descent::default(),
    )
}

fn names(shapes: &[&[usize]]) -> Vec<(String, Vec<usize>)> {
    shapes.iter().enumerate().map(|(i, shape)| (format!("w{i}"), shape.to_vec())).collect()
}

/// Steps on the interpreter and on the processor, which the state visits in between. Some gradients are missing. The largest difference between
/// elements of a parameter, where its largest counts as 1.
fn apart<T: Real>(muon: Muon, from: fn(Vec<T>) -> Buffer) -> f64 {
    let make = || Optimizer::<T>::new_in(chain(muon), names(&SHAPES)).unwrap();
    let values = |seed: usize, shape: &[usize]| wave(seed, len(shape)).map(T::of).collect::<Vec<T>>();
    let mut here = make();
    let mut there = OnDevice::new(make(), Interpreter).unwrap();
    let mut w: Vec<Vec<T>> = (0..).zip(SHAPES).map(|(i, shape)| values(i, shape)).collect();
    let mut arrays: Vec<Buffer> = w.iter().cloned().map(from).collect();
    for step in 1..7 {
        let gradients: Vec<Option<Vec<T>>> = (0..)
            .zip(SHAPES)
            .map(|(i, shape)| ((step + i) % 5 != 3).then(|| values(100 * step + i, shape)))
            .collect();
        let parameters = w.iter_mut().zip(&gradients);
        let mut parameters: Vec<Parameter<'_>> =
            parameters.map(|(w, g)| Parameter::slice(&mut w[..], g.as_deref())).collect();
        here.step(&mut parameters).unwrap();
        let gradients: Vec<Option<Buffer>> = gradients.into_iter().map(|g| g.map(from)).collect();
        let parameters = arrays.iter_mut().zip(&gradients);
        let mut parameters: Vec<DeviceParameter<'_, Buffer>> =
            parameters.map(|(value, g)| DeviceParameter { value, gradient: g.as_ref() }).collect();
        there.step(&mut parameters).unwrap();
        if step == 3 {
            let (optimizer, device) = there.into_parts().unwrap();
            let snapshot = optimizer.snapshot();
            assert!(snapshot.tensors["w0"].arrays.keys().all(|key| key.starts_with("muon/")));
            assert!(snapshot.tensors["w8"].arrays.keys().eq(["adam/m", "adam/v"]));
            let mut restored = make();
            restored.restore(snapshot).unwrap();
            there = OnDevice::new(restored, device).unwrap();
        }
    }
    let (ours, theirs) = (here.snapshot(), there.snapshot().unwrap());
    let kept = |arrays: &gradient_transform::Snapshot| -> Vec<Vec<String>> {
        arrays.tensors.values().map(|tensor| tensor.arrays.keys().cloned().collect()).collect()
    };
    assert_eq!(kept(&ours), kept(&theirs));
    let states = ours.tensors.values().zip(theirs.tensors.values());
    let states = states.flat_map(|(a, b)| a.arrays.values().zip(b.arrays.values()));
    let states = states.map(|(a, b)| distance(a, b));
    w.into_iter().map(from).zip(&arrays).map(|(a, b)| distance(&a, b)).chain(states).fold(0.0, f64::max)
}

fn distance(a: &Buffer, b: &Buffer) -> f64 {
    assert_eq!((a.len(), a.dtype()), (b.len(), b.dtype()));
    let element = |array: &Buffer, i| array.get::<f64>(i);
    let largest = (0..a.len()).map(|i| element(a, i).abs()).fold(f64::MIN_POSITIVE, f64::max);
    let apart = (0..a.len()).map(|i| (element(a, i) - element(b, i)).abs() / largest);
    apart.fold(0.0, |most, apart| if apart <= most { most } else { apart })
}

#[test]
fn every_option_is_the_processors_in_float32_but_for_rounding() {
    for (name, muon) in options() {
        let apart = apart::<f32>(muon, Buffer::F32);
        assert!(apart < 1e-5, "{name}: {apart:e}");
    }
}

#[test]
fn every_option_is_the_processors_in_float64_but_for_rounding() {
    for (name, muon) in options().into_iter().filter(|(_, muon)| !muon.narrow_mean_square) {
        let apart = apart::<f64>(muon, Buffer::F64);
        assert!(apart < 1e-13, "{name}: {apart:e}");
    }
}

/// `X <- a X + (b A + c A A) X` with `A = X X'`, as it is written.
fn orthogonalised(g: &[f64], rows: usize, [a, b, c]: [f64; 3], iterations: usize, eps: f64) -> Vec<f64> {
    let cols = g.len() / rows;
    let length = g.iter().map(|g| g * g).sum::<f64>().sqrt() + eps;
    let mut x: Vec<f64> = g.iter().map(|g| g / length).collect();
    let product = |l: &[f64], r: &[f64], n: usize| -> Vec<f64> {
        let (m, k) = (r.len() / n, l.len() * n / r.len());
        let element = |i: usize, j: usize| (0..m).map(|k| l[i * m + k] * r[k * n + j]).sum();
        (0..k * n).map(|at| element(at / n, at % n)).collect()
    };
    for _ in 0..iterations {
        let transposed: Vec<f64> = (0..g.len()).map(|at| x[at % rows * cols + at / rows]).collect();
        let square = product(&x, &transposed, rows);
        let fourth = product(&square, &square, rows);
        let polynomial: Vec<f64> = square.iter().zip(&fourth).map(|(s, f)| b * s + c * f).collect();
        let added = product(&polynomial, &x, cols);
        x = x.iter().zip(&added).map(|(x, added)| a * x + added).collect();
    }
    x
}

#[test]
fn a_step_on_the_interpreter_is_the_naive_formula_in_float64() {
    let muon = Muon { momentum: 0.0, scale: Scale::None, ..Muon::default() };
    for shape in SHAPES.into_iter().filter(|shape| shape.len() > 1) {
        let optimizer = Optimizer::<f64>::new_in((muon, Descent::default()), [("w", shape)]).unwrap();
        let mut optimizer = OnDevice::new(optimizer, Interpreter).unwrap();
        let g: Vec<f64> = wave(5, len(shape)).collect();
        let (mut w, gradient) = (Buffer::F64(vec![0.0; g.len()]), Buffer::F64(g.clone()));
        optimizer.step(&mut [DeviceParameter { value: &mut w, gradient: Some(&gradient) }]).unwrap();
        let expected = orthogonalised(&g, shape[0], [3.4445, -4.7750, 2.0315], 5, 1e-7);
        let expected = Buffer::F64(expected.into_iter().map(|o| -o).collect());
        let apart = distance(&expected, &w);
        assert!(apart < 1e-11, "{shape:?}: {apart:e}");
    }
}

/// The interpreter, with its launches counted, and with or without products.
#[derive(Debug, Default)]
struct Counting {
    multiplies: bool,
    sweeps: usize,
    products: usize,
}

impl Executor for Counting {
    type Array = Buffer;
    type Error = Infallible;

    fn len(array: &Buffer) -> usize {
        array.len()
    }

    fn dtype(array: &Buffer) -> DType {
        array.dtype()
    }

    fn upload(&mut self, values: Buffer) -> Result<Buffer, Infallible> {
        Ok(values)
    }

    fn zeros(&mut self, dtype: DType, len: usize) -> Result<Buffer, Infallible> {
        // What is not written before it is read shows.
        Ok(Buffer::F32(vec![if dtype == DType::F32 { f32::NAN } else { 0.0 }; len]))
    }

    fn download(&mut self, array: &Buffer) -> Result<Buffer, Infallible> {
        Ok(array.clone())
    }

    fn usable(&mut self, gradients: &[&Buffer], limit: f64) -> Result<Vec<bool>, Infallible> {
        Executor::<f32>::usable(&mut Interpreter, gradients, limit)
    }

    fn sweep(&mut self, batches: &mut [SweepBatch<'_, f32, Buffer>]) -> Result<(), Infallible> {
        self.sweeps += batches.len();
        Interpreter.sweep(batches)
    }

    fn multiply(
        &mut self,
        product: &Product,
        tensors: &mut [ProductArrays<'_, Buffer>],
    ) -> Option<Result<(), Infallible>> {
        self.products += usize::from(!tensors.is_empty());
        self.multiplies.then(|| Executor::<f32>::multiply(&mut Interpreter, product, tensors)).flatten()
    }
}

/// Sweeps and products of a step.
fn launches(shapes: &[&[usize]]) -> [usize; 2] {
    let muon = Muon { momentum: 0.0, ..Muon::default() };
    let optimizer = Optimizer::new((muon, Descent::default()), names(shapes)).unwrap();
    let executor = Counting { multiplies: true, ..Counting::default() };
    let mut optimizer = OnDevice::new(optimizer, executor).unwrap();
    let mut w: Vec<Buffer> = shapes.iter().map(|shape| Buffer::F32(vec![0.0; len(shape)])).collect();
    let g: Vec<Buffer> =
        shapes.iter().map(|shape| Buffer::F32(wave(1, len(shape)).map(|x| x as f32).collect())).collect();
    let mut parameters: Vec<DeviceParameter<'_, Buffer>> =
        w.iter_mut().zip(&g).map(|(value, g)| DeviceParameter { value, gradient: Some(g) }).collect();
    optimizer.step(&mut parameters).unwrap();
    let launches = [optimizer.executor().sweeps, optimizer.executor().products];
    let finite = |w: &Buffer| (0..w.len()).all(|i| w.get::<f32>(i).is_finite());
    assert!(w.iter().all(finite), "what was not written was read");
    launches
}

#[test]
fn launches_depend_on_the_number_of_shapes_and_not_on_that_of_matrices() {
    // Of the chain: two. Of Muon: the sum of squares, the division, and the scale. Of five iterations in groups of 3 and 2: for each group
    // A, its polynomial and X, and four more for each iteration after the first.
    let one = launches(&[&[6, 4]]);
    assert_eq!(one, [2 + 3, 2 * 3 + 3 * 4]);
    assert_eq!(launches(&[&[6, 4][..]; 20]), one);
    let two = launches(&[&[6, 4], &[4, 6], &[6, 4], &[4, 6]]);
    assert_eq!(two, [2 + 2 * 3, 2 * one[1]]);
}

#[test]
fn groups_with_other_options_do_their_own_work() {
    let groups = || {
        let of = |muon: Muon, name: &str| ParameterGroup::new((muon, Descent::default()), [(name, [6, 4])]);
        let other = Muon { iterations: 2, momentum: 0.5, ..Muon::default() };
        Optimizer::<f32>::with_groups([of(Muon::default(), "a"), of(other, "b")], Settings::default())
            .unwrap()
    };
    let g: Vec<f32> = wave(3, 24).map(|x| x as f32).collect();
    let (mut here, mut there) = (groups(), OnDevice::new(groups(), Interpreter).unwrap());
    let mut w = [(); 2].map(|()| vec![0.0_f32; 24]);
    let [mut a, mut b] = w.clone().map(Buffer::F32);
    let gradient = Buffer::F32(g.clone());
    for _ in 0..2 {
        let mut parameters: Vec<Parameter<'_>> =
            w.iter_mut().map(|w| Parameter::slice(w, Some(&g))).collect();
        here.step(&mut parameters).unwrap();
        let mut parameters =
            [&mut a, &mut b].map(|value| DeviceParameter { value, gradient: Some(&gradient) });
        there.step(&mut parameters).unwrap();
    }
    let [first, second] = w.map(Buffer::F32);
    assert!(distance(&first, &a) < 1e-5 && distance(&second, &b) < 1e-5);
    assert!(distance(&first, &second) > 0.01);
}

#[test]
fn a_group_that_stands_still_one_that_comes_late_and_a_gradient_that_is_not_finite_are_the_processors() {
    let optimizer = |non_finite| {
        let of = |name: &str| ParameterGroup::new((Muon::default(), Descent::default()), [(name, [6, 4])]);
        let settings = Settings { non_finite, ..Settings::default() };
        Optimizer::<f32>::with_groups(["still", "late", "other"].map(of), settings).unwrap()
    };
    let mut here = optimizer(NonFinite::SkipTensor);
    let mut there = OnDevice::new(optimizer(NonFinite::SkipTensor), Interpreter).unwrap();
    let first: Vec<f32> = wave(1, 24).map(|x| x as f32).collect();
    let mut w = [(); 3].map(|()| first.clone());
    let mut arrays = w.clone().map(Buffer::F32);
    for step in 1..7 {
        let rate = if step < 4 { 0.0 } else { 0.5 };
        here.set_lr(0, rate).unwrap();
        there.set_lr(0, rate).unwrap();
        let mut gradients = [2, 3, 4].map(|seed| {
            Some(wave(seed * step, 24).map(|x| x as f32).collect::<Vec<f32>>())
                .filter(|_| seed != 3 || step > 3)
        });
        if let (5, [_, _, Some(other)]) = (step, &mut gradients) {
            other[7] = f32::NAN;
        }
        let parameters = w.iter_mut().zip(&gradients);
        let mut parameters: Vec<Parameter<'_>> =
            parameters.map(|(w, g)| Parameter::slice(&mut w[..], g.as_deref())).collect();
        let before = arrays.clone();
        here.step(&mut parameters).unwrap();
        let on_device = gradients.map(|g| g.map(Buffer::F32));
        let parameters = arrays.iter_mut().zip(&on_device);
        let mut parameters: Vec<DeviceParameter<'_, Buffer>> =
            parameters.map(|(value, g)| DeviceParameter { value, gradient: g.as_ref() }).collect();
        there.step(&mut parameters).unwrap();
        let moved = [step > 3, step > 3, step != 5];
        assert_eq!([0, 1, 2].map(|i| arrays[i] != before[i]), moved, "step {step}");
    }
    for (w, array) in w.into_iter().zip(&arrays) {
        assert!(distance(&Buffer::F32(w), array) < 1e-5);
    }
    // By default such a gradient is an error, and nothing moves.
    let mut there = OnDevice::new(optimizer(NonFinite::default()), Interpreter).unwrap();
    let (state, before) = (there.snapshot().unwrap(), arrays.clone());
    let bad = Buffer::F32([&first[..23], &[f32::INFINITY][..]].concat());
    let mut parameters = arrays.each_mut().map(|value| DeviceParameter { value, gradient: Some(&bad) });
    let error = there.step(&mut parameters).unwrap_err();
    assert!(matches!(&error, Error::NonFiniteGradient { name, index: 23, .. } if name == "still"), "{error}");
    assert_eq!((there.snapshot().unwrap(), arrays), (state, before));
}

#[test]
fn a_device_without_products_and_iterations_in_bfloat16_are_refused_by_name() {
    let refused = |muon: Muon, shape: &[usize], multiplies| {
        let optimizer = Optimizer::new((muon, Descent::default()), [("w", shape)]).unwrap();
        OnDevice::new(optimizer, Counting { multiplies, ..Counting::default() }).err()
    };
    let muon = Muon::default();
    let transform = || "muon".to_owned();
    assert_eq!(refused(muon, &[2, 2], false), Some(Error::NoProducts { transform: transform() }));
    assert_eq!(refused(muon, &[2, 2], true), None);
    assert_eq!(refused(muon, &[2], false), None); // which it leaves alone
    let narrow = Muon { precision: Precision::Bf16, ..muon };
    assert_eq!(refused(narrow, &[2, 2], true), Some(Error::NoFormula { transform: transform() }));
}
