//! Loops over tiles, compared with the traced formula one element at a time.

use super::*;
use crate::TILE;
use crate::author::{Element, fields, kind, transform};
use crate::memory::element::DType;
use crate::memory::number::{Backend, Graph, Input, Num};

/// Every operation, every input, two arrays of state, two numbers, two sums.
#[derive(Clone, Debug)]
struct Everything;

#[fields]
struct Two<V> {
    first: V,
    second: V,
}

#[transform("everything")]
impl GradientTransform for Everything {
    type State<V: Copy> = Two<V>;
    type Scalars<V: Copy> = Two<V>;
    type Sums<V: Copy> = Two<V>;
    type Kind = kind::Update;

    fn measure<B: Backend>(&self, e: &Element<B, Self>) -> Two<Num<B>> {
        Two { first: e.update.squared(), second: e.state.first * e.parameter - e.gradient.abs() }
    }

    fn finalize(&self, _cx: &Context<'_>, sums: Two<f64>, scalars: &mut Two<f64>) {
        *scalars = Two { first: 1.0 / (1.0 + sums.first.sqrt()), second: sums.second.tanh() };
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        let (u, g, y, k) = (e.update, e.gradient, e.parameter, e.scalars);
        e.state.first = 0.9 * e.state.first + k.first * (u - e.base);
        e.state.second = e.state.second.max(u.abs()).mul_add(k.second, 0.01 * g);
        let size = (e.state.second.squared() + 1e-3).sqrt();
        let angle = e.state.first.atan2(size) * y.sign();
        e.update = ((u * g).gt(0.0) | y.lt(-1.0)).select(angle, (u / size).min(3.0).round_bf16())
            - e.direction.tanh();
    }
}

fn values<T: Real>(n: usize, phase: f64) -> Vec<T> {
    (0..n).map(|i| T::of((i as f64 * 0.7 + phase).sin() * 2.0)).collect()
}

fn check<T: Real>(n: usize) {
    let tensor = TensorInfo { name: "w".into(), shape: vec![n], dtype: DType::F32, updates: 0 };
    let step = StepContext::new(1, 1.0);
    let cx = Context::new(&step, &tensor);
    let [u, g, y, z, d, mut m, mut v] = [0, 1, 2, 3, 4, 5, 6].map(|i| values::<T>(n, f64::from(i)));
    let (before, mut out) = ([m.clone(), v.clone()], u.clone());
    let mut scratch = vec![vec![T::of(0.3), T::of(0.4), T::zero()]];
    let [mut m_slice, mut v_slice] = [&mut m[..], &mut v[..]];
    let mut columns = [&mut *m_slice, &mut *v_slice];
    let mut tile = Tile {
        update: crate::link::update::Update::new(&mut out),
        direction: &d,
        gradient: &g,
        parameter: &y,
        base: &z,
        columns: &mut columns,
        scratch: &scratch,
        offset: 0,
    };
    let mut sums = [0.0; 2];
    let into = Sums { scalars: &mut sums, vectors: &mut [] };
    Link::observe(&Everything, &cx, &mut tile.reborrow(), into);
    let mut again = tile.reborrow();
    Link::emit(&Everything, &cx, &mut again);
    let emitted = again.update.values().to_vec();
    again.update.values_mut().copy_from_slice(&u);
    assert_eq!((&*again.columns[0], &*again.columns[1]), (&*before[0], &*before[1]), "emit keeps no state");
    Link::commit(&Everything, &cx, &mut again, Sums { scalars: &mut [], vectors: &mut [] });
    (m_slice, v_slice) = (&mut m, &mut v);

    let graph = Graph::new();
    let mut e = crate::author::trace::symbolic::<Everything>(&graph, 0);
    let measured = Everything.measure(&e);
    Everything.update(&mut e);
    let value = |number, i: usize| {
        graph.value(number, |input| match input {
            Input::Update => u[i],
            Input::Gradient => g[i],
            Input::Parameter => y[i],
            Input::Base => z[i],
            Input::Direction => d[i],
            Input::State(k) => before[k][i],
            Input::Scalar(k) => scratch[0][k],
            Input::Along(_) => T::zero(),
        })
    };
    for i in 0..n {
        assert_eq!(out[i], value(e.update, i), "{n} {i}");
        assert_eq!((m_slice[i], v_slice[i]), (value(e.state.first, i), value(e.state.second, i)), "{n} {i}");
    }
    assert_eq!(emitted, out);
    // The sums: 32 lanes, and the rest one by one.
    for (sum, number) in sums.into_iter().zip([measured.first, measured.second]) {
        let full = n / 32 * 32;
        let mut lanes = [T::zero(); 32];
        (0..full).for_each(|i| lanes[i % 32] += value(number, i));
        let rest = (full..n).fold(T::zero(), |sum, i| sum + value(number, i));
        assert_eq!(sum, (crate::memory::kernel::total(lanes) + rest).f64(), "{n}");
    }
    scratch.clear();
}

#[test]
fn loops_over_tiles_give_the_bits_of_the_traced_formula_for_every_length() {
    for n in (1..70).chain([255, 256, 257, TILE - 1, TILE]) {
        check::<f32>(n);
        check::<f64>(n);
    }
}

/// Subtracts the mean over an axis.
#[derive(Clone, Debug)]
struct Centred {
    axis: usize,
}

#[fields]
struct Mean<V> {
    mean: V,
}

#[transform("centred")]
impl GradientTransform for Centred {
    type Along<V: Copy> = Mean<V>;

    fn along(&self, _tensor: &TensorInfo) -> Option<Mean<usize>> {
        Some(Mean { mean: self.axis })
    }

    fn measure_along<B: Backend>(&self, e: &Element<B, Self>) -> Mean<Num<B>> {
        Mean { mean: e.update }
    }

    fn finalize_along<T: Real>(
        &self,
        cx: &Context<'_>,
        along: AlongState<'_, T>,
        _scalars: &mut crate::author::Nothing<f64>,
    ) {
        let count = T::of(cx.tensor.shape[self.axis] as f64);
        for (mean, &sum) in along.values[0].iter_mut().zip(along.sums[0].values()) {
            *mean = sum / count;
        }
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.update = e.update - e.along.mean;
    }
}

#[test]
fn an_array_may_lack_any_axis_of_a_tensor_of_any_rank() {
    for (shape, axis) in [
        (vec![7], 0),
        (vec![5, 3], 0),
        (vec![5, 3], 1),
        (vec![40, 70], 0),
        (vec![40, 70], 1),
        (vec![2, 40, 3], 1),
        (vec![30, 2, 50], 2),
    ] {
        let n: usize = shape.iter().product();
        let gradient = values::<f64>(n, 0.3);
        let chain = (Centred { axis }, crate::Descent::default());
        let mut optimizer = crate::Optimizer::<f64>::new_in(chain, [("w", &shape[..])]).unwrap();
        let mut w = vec![0.0; n];
        optimizer.step(&mut [crate::Parameter::slice(&mut w, Some(&gradient))]).unwrap();
        let (behind, count) = (shape[axis + 1..].iter().product::<usize>(), shape[axis]);
        for (i, w) in w.iter().enumerate() {
            let (outer, inner) = (i / (behind * count), i % behind);
            let line = (0..count).map(|k| gradient[(outer * count + k) * behind + inner]);
            let expected = line.sum::<f64>() / count as f64 - gradient[i];
            assert!((w - expected).abs() < 1e-12, "{shape:?} {axis} {i}");
        }
    }
}

#[test]
fn what_a_transform_reads_is_found_by_tracing() {
    let reads = Link::<f32>::reads(&Everything);
    assert!(reads.gradient && reads.parameter && reads.base);
    assert!(Link::<f32>::changes_displacement(&Everything));
    let tensor = TensorInfo { name: "w".into(), shape: vec![2], dtype: DType::F32, updates: 0 };
    assert!(Link::<f32>::sums_show_unusable(&Everything, &tensor));
    let descent = crate::Descent::default();
    assert_eq!(Link::<f32>::reads(&descent), Reads { parameter: true, ..Reads::UPDATE });
    assert_eq!(Link::<f32>::scales(&descent), None);
}

/// `u <- (steps so far) u`, with a number that advances without sums.
#[derive(Clone, Debug)]
struct Counting;

#[fields]
struct Count<V> {
    count: V,
}

#[transform("counting")]
impl GradientTransform for Counting {
    type Scalars<V: Copy> = Count<V>;

    fn kept(&self) -> Count<bool> {
        Count { count: true }
    }

    fn begin(&self, _cx: &Context<'_>, scalars: &mut Count<f64>) {
        scalars.count += 1.0;
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.update = e.scalars.count * e.update;
    }
}

/// `u <- u + |u|_1 of the step before`.
#[derive(Clone, Debug)]
struct Lagging;

#[transform("lagging")]
impl GradientTransform for Lagging {
    type Scalars<V: Copy> = Count<V>;
    type Sums<V: Copy> = Count<V>;
    type Kind = kind::Lagged;

    fn kept(&self) -> Count<bool> {
        Count { count: true }
    }

    fn measure<B: Backend>(&self, e: &Element<B, Self>) -> Count<Num<B>> {
        Count { count: e.update.abs() }
    }

    fn finalize(&self, _cx: &Context<'_>, sums: Count<f64>, scalars: &mut Count<f64>) {
        scalars.count = sums.count;
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.update = e.update + e.scalars.count;
    }
}

#[test]
fn numbers_that_are_kept_move_on_once_in_a_step_and_are_saved() {
    use crate::{Descent, Optimizer, Parameter, fused};
    let chains: [Box<dyn Link<f32>>; 2] = [
        Box::new((Counting, Lagging, Descent::default())),
        Box::new(fused((Counting, Lagging, Descent::default()))),
    ];
    for chain in chains {
        let mut optimizer = Optimizer::new(chain, [("w", [2]), ("still", [1])]).unwrap();
        let (mut w, mut still) = ([0.0_f32, 0.0], [0.0_f32]);
        let mut step = |optimizer: &mut Optimizer, gradient: f32| {
            optimizer.step(&mut [
                Parameter::slice(&mut w, Some(&[gradient, -gradient])),
                Parameter::slice(&mut still, None),
            ])
        };
        step(&mut optimizer, 1.0).unwrap();
        step(&mut optimizer, f32::NAN).unwrap_err();
        step(&mut optimizer, 1.0).unwrap();
        // Again from bytes.
        let saved = optimizer.snapshot();
        let count = |key: &str| saved.tensors["w"].arrays[key].get::<f64>(0);
        assert_eq!((count("counting/count"), count("lagging/count")), (2.0, 4.0));
        let restored = optimizer.restore(saved).unwrap();
        assert!(restored.missing.is_empty() && restored.surplus.is_empty(), "{restored:?}");
        step(&mut optimizer, 1.0).unwrap();
        // 1, 2 and 3 times the gradient, and 0, 2 and 4.
        assert_eq!(w, [-6.0 - 6.0, 6.0 - 6.0]);
    }
}

/// A number of the same name as an array.
#[derive(Clone, Debug)]
struct Ambiguous;

#[transform("ambiguous")]
impl GradientTransform for Ambiguous {
    type State<V: Copy> = Count<V>;
    type Scalars<V: Copy> = Count<V>;

    fn kept(&self) -> Count<bool> {
        Count { count: true }
    }

    fn update<B: Backend>(&self, _e: &mut Element<B, Self>) {}
}

#[test]
fn a_number_and_an_array_of_one_name_are_refused() {
    let chain = (Ambiguous, crate::Descent::default());
    let refused = crate::Optimizer::new(chain, [("w", [2])]);
    assert!(matches!(refused, Err(Error::InvalidChain { .. })), "{refused:?}");
}

/// Twice what is left of two numbers that nearly cancel each other.
#[derive(Clone, Debug)]
struct Nearly;

#[fields]
struct Rest<V> {
    rest: V,
}

#[transform("nearly")]
impl GradientTransform for Nearly {
    type Sums<V: Copy> = Rest<V>;
    type Scalars<V: Copy> = Rest<V>;
    const SUMS_IN_FLOAT64: bool = true;

    fn measure<B: Backend>(&self, e: &Element<B, Self>) -> Rest<Num<B>> {
        Rest { rest: e.update * e.parameter - e.gradient * e.base }
    }

    fn finalize(&self, _cx: &Context<'_>, sums: Rest<f64>, scalars: &mut Rest<f64>) {
        *scalars = sums;
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.update = e.scalars.rest * e.update;
    }
}

#[test]
fn sums_in_float64_are_of_exact_products() {
    let tensor = TensorInfo { name: "w".into(), shape: vec![TILE], dtype: DType::F32, updates: 0 };
    let step = StepContext::new(1, 1.0);
    let cx = Context::new(&step, &tensor);
    for n in [0, 1, 31, 32, 37, TILE] {
        let [mut u, y, g] = [1, 2, 3].map(|i| values::<f32>(n, f64::from(i)));
        let z: Vec<f32> =
            (0..n).map(|i| (f64::from(u[i]) * f64::from(y[i]) / f64::from(g[i])) as f32).collect();
        let product = |a: &[f32], b: &[f32], i: usize| f64::from(a[i]) * f64::from(b[i]);
        let exact: f64 = (0..n).map(|i| product(&u, &y, i) - product(&g, &z, i)).sum();
        let mut tile = Tile {
            update: crate::link::update::Update::new(&mut u),
            direction: &[],
            gradient: &g,
            parameter: &y,
            base: &z,
            columns: &mut [],
            scratch: &[vec![0.0; 2]],
            offset: 0,
        };
        let mut sums = [0.0];
        Link::observe(&Nearly, &cx, &mut tile, Sums { scalars: &mut sums, vectors: &mut [] });
        assert!((sums[0] - exact).abs() <= 1e-14 * n as f64, "{n}: {} and not {exact}", sums[0]);
        assert!(n == 0 || exact.abs() > 1e-10 && exact.abs() < 1e-6 * n as f64, "terms cancel: {exact}");
    }
}
