//! Trajectories of PyTorch's own Muon, and matrices by their singular values: `tests/golden/muon.json`, made by `muon.py` beside it.

use std::collections::BTreeMap;

use elementary::WeightDecay;
use gradient_transform::{Descent, Error, Optimizer, Parameter};
use muon_pp::{Coefficients, Muon, Normalisation, Precision, Scale};
use ndarray::ArrayViewMut2;
use serde::Deserialize;

type Tensors = Vec<Vec<f64>>;

#[derive(Deserialize)]
struct Golden {
    shapes: Vec<Vec<usize>>,
    init: Tensors,
    gradients: Vec<Tensors>,
    y: BTreeMap<String, Vec<Tensors>>,
    neurons: Vec<Tensors>,
    matrices: Vec<OfTorch>,
    exact: Vec<Exact>,
}

#[derive(Deserialize)]
struct OfTorch {
    rows: usize,
    cols: usize,
    given: Vec<f64>,
    float64: Vec<f64>,
    float32: Vec<f64>,
    bfloat16: Vec<f64>,
}

#[derive(Deserialize)]
struct Exact {
    rows: usize,
    cols: usize,
    iterations: usize,
    given: Vec<f64>,
    result: Vec<f64>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../../../tests/golden/muon.json")).unwrap()
}

fn view<T>(matrix: &mut [T], rows: usize, cols: usize) -> ArrayViewMut2<'_, T> {
    ArrayViewMut2::from_shape((rows, cols), matrix).unwrap()
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0.0, |off, (a, b)| off.max((a - b).abs()))
}

/// The largest distance from the recorded trajectory, relative to the distance covered.
fn deviation(expected: &[Tensors], muon: Muon, weight_decay: f64) -> f64 {
    let golden = golden();
    let decay = WeightDecay { rate: weight_decay, ..WeightDecay::default() };
    let names = (0..golden.shapes.len()).map(|i| format!("p{i}"));
    let shapes = golden.shapes.iter().map(Vec::as_slice);
    let chain = (muon, decay, Descent::default());
    let mut optimizer: Optimizer<f64> = Optimizer::new_in(chain, names.zip(shapes)).unwrap();
    optimizer.set_lr(0, 0.1).unwrap();
    let mut values = golden.init.clone();
    let mut worst = 0.0_f64;
    for (gradients, expected) in golden.gradients.iter().zip(expected) {
        let mut parameters: Vec<Parameter<'_>> =
            values.iter_mut().zip(gradients).map(|(v, g)| Parameter::slice(v, Some(g))).collect();
        optimizer.step(&mut parameters).unwrap();
        for ((ours, theirs), start) in values.iter().zip(expected).zip(&golden.init) {
            worst = worst.max(distance(ours, theirs) / distance(theirs, start));
        }
    }
    worst
}

/// PyTorch's `eps` is the least that the norm is divided by, ours is added to it. With none they agree.
fn without_eps() -> Muon {
    Muon { eps: 1e-30, ..Muon::default() }
}

fn is_torchs(case: &str, muon: Muon, weight_decay: f64, tolerance: f64) {
    let off = deviation(&golden().y[case], muon, weight_decay);
    assert!(off <= tolerance, "{case}: off by {off:e}");
}

#[test]
fn the_default_is_pytorchs_with_its_nesterov_momentum() {
    is_torchs("nesterov", without_eps(), 0.0, 1e-12);
}

/// PyTorch divides by the larger of the norm and eps, and this by their sum: norms are above 0.1 here, so what is divided by is
/// up to 1e-6 larger.
#[test]
fn with_the_default_eps_it_is_pytorchs_but_for_how_eps_is_added() {
    is_torchs("default_eps", Muon::default(), 0.0, 1e-6);
}

#[test]
fn heavy_ball_is_pytorchs_without_nesterov() {
    is_torchs("heavy_ball", Muon { momentum: 0.9, nesterov: false, ..without_eps() }, 0.0, 1e-12);
}

#[test]
fn weight_decay_behind_it_is_pytorchs() {
    is_torchs("weight_decay", without_eps(), 0.1, 1e-12);
}

#[test]
fn scales_are_pytorchs_adjusted_learning_rates() {
    is_torchs("match_rms_adamw", Muon { scale: Scale::MatchAdam, ..without_eps() }, 0.0, 1e-12);
    is_torchs("spectral_unclamped", Muon { scale: Scale::Spectral, ..without_eps() }, 0.0, 1e-12);
}

#[test]
fn numbers_of_iterations_and_coefficients_are_pytorchs() {
    is_torchs("eight_iterations", Muon { iterations: 8, ..without_eps() }, 0.0, 1e-12);
    is_torchs("one_iteration", Muon { iterations: 1, ..without_eps() }, 0.0, 1e-12);
    let coefficients = Coefficients::Constant([2.0, -1.5, 0.5]);
    is_torchs("other_coefficients", Muon { coefficients, ..without_eps() }, 0.0, 1e-12);
}

/// PyTorch's iterations are in bfloat16, with 8 significant bits, and five of them multiply small singular values by up to 485.
#[test]
fn as_it_is_shipped_pytorchs_differs_by_the_rounding_of_bfloat16() {
    let off = deviation(&golden().y["shipped"], Muon::default(), 0.0);
    assert!((1e-4..0.05).contains(&off), "off by {off:e}");
}

#[test]
fn normalised_neurons_are_normuons() {
    let muon = Muon { normalisation: Normalisation::Neurons, beta2: 0.9, ..without_eps() };
    let off = deviation(&golden().neurons, muon, 0.0);
    assert!(off <= 1e-12, "off by {off:e}");
}

#[test]
fn iterations_are_pytorchs_in_every_type() {
    for OfTorch { rows, cols, given, float64, float32, bfloat16 } in golden().matrices {
        let mut wide = given.clone();
        without_eps().orthogonalise(view(&mut wide, rows, cols));
        let off = distance(&wide, &float64);
        assert!(off < 1e-13, "{rows} x {cols}: off by {off:e} in float64");

        let single = |precision| -> Vec<f64> {
            let mut matrix: Vec<f32> = given.iter().map(|&g| g as f32).collect();
            Muon { precision, ..without_eps() }.orthogonalise(view(&mut matrix, rows, cols));
            matrix.iter().map(|&x| f64::from(x)).collect()
        };
        let off = distance(&single(Precision::Full), &float32);
        assert!(off < 1e-5, "{rows} x {cols}: off by {off:e} in float32");
        // The reference rounds after every operation, and so does this. PyTorch rounds `b A + c A A` as a whole, so it is nearer.
        let (off, theirs) = (distance(&single(Precision::Bf16), &float64), distance(&bfloat16, &float64));
        assert!(
            off < 5.0 * theirs,
            "{rows} x {cols}: off by {off:e} in bfloat16, and PyTorch's by {theirs:e}"
        );
    }
}

#[test]
fn the_polar_express_does_to_every_singular_value_what_its_polynomials_do() {
    for Exact { rows, cols, iterations, given, result } in golden().exact {
        let muon = Muon { iterations, coefficients: Coefficients::PolarExpress, ..without_eps() };
        let mut ours = given;
        muon.orthogonalise(view(&mut ours, rows, cols));
        let off = distance(&ours, &result);
        assert!(off < 1e-13, "{iterations} iterations on {rows} x {cols}: off by {off:e}");
    }
}

/// The least and the largest of what becomes of the singular values from 0.001 to 1 of matrices of norm 1.
fn range(muon: Muon) -> [f64; 2] {
    let becomes = |i: u32| {
        let s = 10.0_f64.powf(-3.0 + f64::from(i) / 1000.0);
        let mut matrix = [s, 0.0, 0.0, (1.0 - s * s).max(0.0).sqrt()];
        muon.orthogonalise(view(&mut matrix, 2, 2));
        matrix[0]
    };
    (0..=3000).map(becomes).fold([f64::MAX, f64::MIN], |[least, most], s| [least.min(s), most.max(s)])
}

#[test]
fn singular_values_come_as_near_to_1_as_the_documentation_says() {
    let ranges = [
        (5, [0.470, 1.203], [0.84, 1.124]),
        (6, [0.681, 1.203], [0.993, 1.002]),
        (8, [0.681, 1.135], [1.0 - 1e-13, 1.0 + 1e-13]),
        (11, [0.681, 1.203], [1.0 - 1e-13, 1.0 + 1e-13]),
    ];
    for (iterations, jordan, polar_express) in ranges {
        for (coefficients, within) in
            [(Coefficients::Jordan, jordan), (Coefficients::PolarExpress, polar_express)]
        {
            let [least, most] = range(Muon { iterations, coefficients, ..without_eps() });
            let what = format!("{iterations} iterations, {coefficients:?}");
            assert!(least >= within[0] && most <= within[1], "{what}: {least} to {most}");
        }
    }
}

/// `X <- a X + (b A + c A A) X` literally.
fn directly(iterations: usize, matrix: &[f64], rows: usize, cols: usize) -> Vec<f64> {
    let (a, b, c) = (3.4445, -4.7750, 2.0315);
    let length = matrix.iter().map(|x| x * x).sum::<f64>().sqrt();
    let mut x: Vec<f64> = matrix.iter().map(|x| x / length).collect();
    for _ in 0..iterations {
        let dot = |i: usize, j: usize| (0..cols).map(|k| x[i * cols + k] * x[j * cols + k]).sum::<f64>();
        let square: Vec<f64> = (0..rows * rows).map(|e| dot(e / rows, e % rows)).collect();
        let polynomial = |i: usize, j: usize| {
            let fourth: f64 = (0..rows).map(|k| square[i * rows + k] * square[k * rows + j]).sum();
            b * square[i * rows + j] + c * fourth
        };
        let polynomial: Vec<f64> = (0..rows * rows).map(|e| polynomial(e / rows, e % rows)).collect();
        let of = |i: usize, k: usize| {
            a * x[i * cols + k] + (0..rows).map(|j| polynomial[i * rows + j] * x[j * cols + k]).sum::<f64>()
        };
        x = (0..rows * cols).map(|e| of(e / cols, e % cols)).collect();
    }
    x
}

/// Squares lose half of the digits of small singular values: here they fall to less than a millionth of the largest.
#[test]
fn the_gram_form_is_the_iteration_itself_but_for_rounding() {
    let (rows, cols) = (12, 40);
    let element = |i: usize| {
        let (row, col) = ((i / cols) as f64, (i % cols) as f64);
        10.0_f64.powf(-0.5 * row) * (1.0 + row + 0.37 * col * (row + 1.3)).sin()
    };
    let given: Vec<f64> = (0..rows * cols).map(element).collect();
    for iterations in 1..=8 {
        let muon = Muon { iterations, ..without_eps() };
        let expected = directly(iterations, &given, rows, cols);
        let mut wide = given.clone();
        muon.orthogonalise(view(&mut wide, rows, cols));
        let mut single: Vec<f32> = given.iter().map(|&g| g as f32).collect();
        muon.orthogonalise(view(&mut single, rows, cols));
        let single: Vec<f64> = single.iter().map(|&x| f64::from(x)).collect();
        let off = [distance(&wide, &expected), distance(&single, &expected)];
        assert!(off[0] < 1e-12 && off[1] < 1e-3, "{iterations} iterations: off by {off:?}");
    }
}

#[test]
fn options_out_of_range_are_named() {
    let refused = |muon: Muon| {
        let chain = (muon, Descent::default());
        match Optimizer::new(chain, [("w", &[2, 2][..])]).err() {
            Some(Error::OptionOutOfRange { option, .. }) => option,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(Muon { momentum: 1.0, ..Muon::default() }), "momentum");
    assert_eq!(refused(Muon { beta2: -0.1, ..Muon::default() }), "beta2");
    assert_eq!(refused(Muon { iterations: 0, ..Muon::default() }), "iterations");
    assert_eq!(refused(Muon { iterations: 100, ..Muon::default() }), "iterations");
    assert_eq!(refused(Muon { eps: 0.0, ..Muon::default() }), "eps");
    let coefficients = Coefficients::Constant([1.5, f64::NAN, 0.0]);
    assert_eq!(refused(Muon { coefficients, ..Muon::default() }), "coefficients");
}
