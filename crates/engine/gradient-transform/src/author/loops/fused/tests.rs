//! Fused chains against the same chains run link by link.

use super::fused;
use crate::author::{
    AlongState, Column, Element, GradientTransform, Nothing, Writer, fields, kind, transform,
};
use crate::error::Error;
use crate::link::context::{Context, TensorInfo};
use crate::link::state::{StateSpec, Storage, Sums};
use crate::link::tile::Tile;
use crate::link::{Link, Reads, Role};
use crate::memory::element::{Real, Scalar};
use crate::memory::number::{Backend, Num};
use crate::memory::rounding::Rounding;
use crate::optimizer::Optimizer;
use crate::optimizer::group::{ParameterGroup, Settings};
use crate::optimizer::parameter::Parameter;

#[fields]
struct One<V> {
    value: V,
}

#[fields]
struct Sides<V> {
    row: V,
    col: V,
}

/// Division by the roots of running sums over two axes, or of a second moment if a tensor has one axis.
#[derive(Clone, Debug)]
struct Scaled;

#[transform("scaled")]
impl GradientTransform for Scaled {
    type State<V: Copy> = One<V>;
    type Along<V: Copy> = Sides<V>;

    fn columns(&self, tensor: &TensorInfo) -> One<Column> {
        One { value: if tensor.shape.len() > 1 { Column::ABSENT } else { Column::ZEROS } }
    }

    fn along(&self, tensor: &TensorInfo) -> Option<Sides<usize>> {
        (tensor.shape.len() > 1).then(|| Sides { row: tensor.shape.len() - 1, col: 0 })
    }

    fn vectors(&self, tensor: &TensorInfo) -> Vec<(&'static str, usize, Storage)> {
        let Some(lacking) = self.along(tensor) else { return Vec::new() };
        let len = |axis: usize| tensor.len() / tensor.shape[axis];
        vec![("row", len(lacking.row), Storage::Compute), ("col", len(lacking.col), Storage::Compute)]
    }

    fn measure_along<B: Backend>(&self, e: &Element<B, Self>) -> Sides<Num<B>> {
        Sides { row: e.update.squared(), col: e.update.abs() }
    }

    fn finalize_along<T: Real>(
        &self,
        _cx: &Context<'_>,
        along: AlongState<'_, T>,
        _scalars: &mut Nothing<f64>,
    ) {
        for ((kept, sums), values) in along.kept.iter_mut().zip(along.sums).zip(along.values) {
            kept.update(sums.values(), |kept: T, sum| T::of(0.5) * kept + sum);
            kept.load(values);
        }
    }

    fn variant(&self, cx: &Context<'_>, _scalars: &Nothing<f64>) -> u32 {
        u32::from(cx.tensor.shape.len() == 1)
    }

    fn variants(&self) -> u32 {
        2
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        if e.variant == 1 {
            e.state.value = 0.5 * e.state.value + e.update.squared();
            e.update = e.update / (e.state.value + 1e-3).sqrt();
        } else {
            e.update = e.update / (e.along.row + e.along.col + 1e-3).sqrt();
        }
    }
}

/// `u / max(1, |u|)`.
#[derive(Clone, Debug)]
struct Clip;

#[transform("clip")]
impl GradientTransform for Clip {
    type Sums<V: Copy> = One<V>;
    type Scalars<V: Copy> = One<V>;

    fn measure<B: Backend>(&self, e: &Element<B, Self>) -> One<Num<B>> {
        One { value: e.update.squared() }
    }

    fn finalize(&self, _cx: &Context<'_>, sums: One<f64>, scalars: &mut One<f64>) {
        scalars.value = 1.0 / sums.value.sqrt().max(1.0);
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.update = e.scalars.value * e.update;
    }
}

/// Division by the norm of the update before, which it measures in the last sweep. Holds the first step.
#[derive(Clone, Debug)]
struct ByLast;

#[transform("by-last")]
impl GradientTransform for ByLast {
    type State<V: Copy> = One<V>;
    type Along<V: Copy> = One<V>;
    type Kind = kind::Lagged;

    fn along(&self, tensor: &TensorInfo) -> Option<One<usize>> {
        // Not of one of the shapes of which `Scaled` has arrays within runs of whole blocks.
        (tensor.shape != [64, 96]).then_some(One { value: 0 })
    }

    fn vectors(&self, tensor: &TensorInfo) -> Vec<(&'static str, usize, Storage)> {
        vec![("last", tensor.shape[1..].iter().product(), Storage::Compute)]
    }

    fn holds(&self, cx: &Context<'_>) -> bool {
        cx.fresh
    }

    fn begin_along<T: Real>(&self, _cx: &Context<'_>, along: AlongState<'_, T>, _scalars: &mut Nothing<f64>) {
        along.kept[0].load(&mut along.values[0]);
    }

    fn measure_along<B: Backend>(&self, e: &Element<B, Self>) -> One<Num<B>> {
        One { value: e.update.squared() }
    }

    fn finalize_along<T: Real>(
        &self,
        _cx: &Context<'_>,
        along: AlongState<'_, T>,
        _scalars: &mut Nothing<f64>,
    ) {
        along.kept[0].update(along.sums[0].values(), |_, sum: T| sum.sqrt());
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.state.value = 0.9 * e.state.value + e.update;
        e.update = e.state.value / (e.along.value + 1.0);
    }
}

/// A writer with a base iterate and weight decay.
#[derive(Clone, Debug)]
struct Averaged {
    decay: f64,
}

#[transform("averaged")]
impl GradientTransform for Averaged {
    type State<V: Copy> = One<V>;
    type Kind = kind::Writer;

    fn columns(&self, _tensor: &TensorInfo) -> One<Column> {
        One { value: Column::COPY }
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.update = e.update + self.decay * e.parameter;
    }
}

#[transform]
impl Writer for Averaged {
    fn base(&self) -> Option<usize> {
        Some(0)
    }

    fn directs(&self) -> bool {
        self.decay != 0.0
    }

    fn displace<B: Backend>(&self, e: &Element<B, Self>) -> Num<B> {
        0.25 * (e.parameter - e.state.value) + 0.05 * e.update
    }

    fn write<B: Backend>(&self, e: &mut Element<B, Self>, displacement: Option<Num<B>>) {
        let displacement = displacement.unwrap_or(self.displace(e));
        e.state.value = e.state.value - 0.1 * e.update;
        e.parameter = e.parameter - displacement;
    }
}

/// The part of a displacement that has the sign of the direction, scaled by its share; else a step towards
/// the base iterate.
#[derive(Clone, Debug)]
struct Agreeing;

#[transform("agreeing")]
impl GradientTransform for Agreeing {
    type Sums<V: Copy> = One<V>;
    type Scalars<V: Copy> = One<V>;

    fn measure<B: Backend>(&self, e: &Element<B, Self>) -> One<Num<B>> {
        let agrees = (e.update * e.direction).gt(0.0);
        One { value: agrees.select(e.update.constant(1.0), e.update.constant(0.0)) }
    }

    fn finalize(&self, cx: &Context<'_>, sums: One<f64>, scalars: &mut One<f64>) {
        scalars.value = cx.tensor.len() as f64 / sums.value.max(1.0);
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        let agrees = (e.update * e.direction).gt(0.0);
        e.update = agrees.select(e.scalars.value * e.update, 0.01 * (e.parameter - e.base));
    }
}

/// Shorter and longer than a vector, a block, a tile and a chunk, with runs that blocks do not divide.
const SHAPES: [&[usize]; 14] = [
    &[1],
    &[31],
    &[33],
    &[1024],
    &[2500],
    &[3, 5],
    &[64, 96],
    &[40, 33],
    &[3, 2048],
    &[1500, 7],
    &[5, 3, 3, 3],
    &[64, 2, 48],
    &[0],
    &[530, 1000],
];

/// Six steps of all shapes with both chains, which must agree to the bit in parameters and state.
fn check<T: Real, P: Scalar + PartialEq>(
    one_by_one: impl Link<T> + 'static,
    in_one_loop: impl Link<T> + 'static,
    is_fused: impl Fn(&[usize]) -> bool,
    stored: impl Fn(f64) -> P,
) {
    let names: Vec<String> = SHAPES.iter().map(|shape| format!("{shape:?}")).collect();
    let parameters = || names.iter().cloned().zip(SHAPES);
    let optimizer = |group: ParameterGroup<T>| {
        let group = group.lr(0.1).rounding(Rounding::Stochastic);
        Optimizer::with_groups([group], Settings::default()).unwrap()
    };
    let expected = optimizer(ParameterGroup::new(one_by_one, parameters()));
    let fused = optimizer(ParameterGroup::new(in_one_loop, parameters()));
    let array = |shape: &&[usize], phase: f64| -> Vec<P> {
        let n = shape.iter().product::<usize>();
        (0..n).map(|i| stored((i as f64 * 0.7 + phase).sin() * 1.5)).collect()
    };
    let mut runs = [expected, fused]
        .map(|optimizer| (optimizer, SHAPES.iter().map(|shape| array(shape, 0.3)).collect::<Vec<_>>()));
    for step in 0..6 {
        let gradients: Vec<Vec<P>> =
            SHAPES.iter().map(|shape| array(shape, 1.0 + f64::from(step) * 1.7)).collect();
        for (optimizer, weights) in &mut runs {
            let both = weights.iter_mut().zip(&gradients);
            let mut parameters: Vec<_> = both.map(|(w, g)| Parameter::slice(w, Some(g))).collect();
            optimizer.step(&mut parameters).unwrap();
        }
        for (i, name) in names.iter().enumerate() {
            assert!(runs[0].1[i] == runs[1].1[i], "{name} in step {step}");
        }
    }
    assert_eq!(runs[0].0.snapshot(), runs[1].0.snapshot());
    for (i, shape) in SHAPES.into_iter().enumerate() {
        assert_eq!([0, 1].map(|k| runs[k].0.tensors[i].is_fused()), [false, is_fused(shape)], "{shape:?}");
    }
}

macro_rules! agree {
    ($name:ident, $($transform:expr),+) => {
        #[test]
        fn $name() {
            let chain = || ($($transform,)+);
            check::<f32, f32>(chain(), fused(chain()), |_| true, |x| x as f32);
            check::<f64, f64>(chain(), fused(chain()), |_| true, |x| x);
            check::<f32, half::bf16>(chain(), fused(chain()), |_| true, half::bf16::from_f64);
        }
    };
}

agree!(two_reductions_agree, Scaled, Clip, Averaged { decay: 0.0 });
agree!(two_transforms_with_arrays_along_different_axes_agree, Scaled, ByLast, Averaged { decay: 0.0 });
agree!(a_transform_behind_the_writer_agrees, Clip, Averaged { decay: 0.1 }, Agreeing);
agree!(a_transform_behind_a_writer_without_state_agrees, Clip, crate::Descent::default(), Agreeing);
agree!(everything_at_once_agrees, Clip, ByLast, Scaled, Clip2, Averaged { decay: 0.1 }, Agreeing);

/// [`Clip`] with another name, so that a chain can have it twice.
#[derive(Clone, Debug)]
struct Clip2;

#[transform("clip-again")]
impl GradientTransform for Clip2 {
    type Sums<V: Copy> = One<V>;
    type Scalars<V: Copy> = One<V>;

    fn measure<B: Backend>(&self, e: &Element<B, Self>) -> One<Num<B>> {
        One { value: e.update.squared() }
    }

    fn finalize(&self, cx: &Context<'_>, sums: One<f64>, scalars: &mut One<f64>) {
        Clip.finalize(cx, sums, scalars);
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.update = e.scalars.value * e.update;
    }
}

#[test]
fn a_gradient_that_is_not_finite_moves_nothing() {
    let chain = fused((Scaled, Clip, Averaged { decay: 0.0 }));
    let mut optimizer = Optimizer::new(chain, [("w", &[64, 64][..])]).unwrap();
    let (mut w, mut gradient) = (vec![0.5_f32; 4096], vec![0.1_f32; 4096]);
    optimizer.step(&mut [Parameter::slice(&mut w, Some(&gradient))]).unwrap();
    let (before, snapshot) = (w.clone(), optimizer.snapshot());
    gradient[4000] = f32::NAN;
    let error = optimizer.step(&mut [Parameter::slice(&mut w, Some(&gradient))]).unwrap_err();
    assert!(matches!(error, Error::NonFiniteGradient { .. }), "{error}");
    assert_eq!((w, optimizer.snapshot()), (before, snapshot));
}

/// Subtracts the base iterate.
#[derive(Clone, Debug)]
struct FromBase;

#[transform("from-base")]
impl GradientTransform for FromBase {
    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.update = e.update + 0.1 * (e.parameter - e.base);
    }
}

/// Takes the part along the base iterate off.
#[derive(Clone, Debug)]
struct Across;

#[fields]
struct Products<V> {
    ub: V,
    bb: V,
}

#[transform("across")]
impl GradientTransform for Across {
    type Sums<V: Copy> = Products<V>;
    type Scalars<V: Copy> = One<V>;
    const SUMS_IN_FLOAT64: bool = true;

    fn measure<B: Backend>(&self, e: &Element<B, Self>) -> Products<Num<B>> {
        Products { ub: e.update * e.base, bb: e.base * e.base }
    }

    fn finalize(&self, _cx: &Context<'_>, sums: Products<f64>, scalars: &mut One<f64>) {
        scalars.value = sums.ub / (sums.bb + 1e-30);
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.update = e.update - e.scalars.value * e.base;
    }
}

/// An observer of the update.
#[derive(Debug)]
struct Witness {
    reads: Reads,
}

impl<T: Real> Link<T> for Witness {
    fn name(&self) -> &str {
        "witness"
    }

    fn role(&self, _tensor: &TensorInfo) -> Role {
        Role::Observer
    }

    fn reads(&self) -> Reads {
        self.reads
    }

    fn state(&self, _tensor: &TensorInfo) -> StateSpec {
        StateSpec::new().sums(1, 0)
    }

    fn observe(&self, _cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, sums: Sums<'_, T>) {
        sums.scalars[0] += tile.gradient.len() as f64;
    }
}

#[test]
fn expressions_are_transforms_like_any_other() {
    let bend = crate::map!("bend", |cx| { by: 0.1 * cx.step.k as f64 }, |u, g, y| u + by * g * y);
    let unit = crate::rescale!("unit", |u| u * u, |sum, n| (n / sum.max(1e-30)).sqrt());
    let flip = crate::map!("flip", |u| -u);
    let chain = (bend, unit, flip, Averaged { decay: 0.0 });
    check::<f32, f32>(chain.clone(), fused(chain.clone()), |_| true, |x| x as f32);
    check::<f64, f64>(chain.clone(), fused(chain), |_| true, |x| x);
}

#[test]
fn a_chain_that_the_loops_are_not_for_runs_link_by_link() {
    let writer = Averaged { decay: 0.0 };
    // A transform that is not among the types.
    let chain = || (crate::rescale!("half", |u| 1.0 + 0.0 * u, |_, _| 0.5), Clip, writer.clone());
    let other = super::Fused::new(chain()).with(super::loops::<(Clip, Averaged), _>());
    check::<f32, f32>(chain(), other, |_| false, |x| x as f32);
    // A transform that does not apply to some tensors.
    let chain = || (crate::only_for(|tensor| tensor.shape.len() == 2, Clip), writer.clone());
    let other = super::Fused::new(chain()).with(super::loops::<(Clip, Averaged), _>());
    check::<f32, f32>(chain(), other, |shape| shape.len() == 2, |x| x as f32);
}

#[test]
fn transforms_before_the_writer_read_its_base_iterate_or_the_parameter() {
    let writer = Averaged { decay: 0.01 };
    let chain = || (FromBase, writer.clone());
    check::<f32, f32>(chain(), fused(chain()), |_| true, |x| x as f32);
    let chain = || (FromBase, Clip, crate::Descent::default());
    check::<f32, f32>(chain(), fused(chain()), |_| true, |x| x as f32);
    // In sweeps without the writer, with it, and with the parameter written.
    let chain = || (Across, FromBase, writer.clone(), Agreeing);
    check::<f32, f32>(chain(), fused(chain()), |_| true, |x| x as f32);
    check::<f32, half::bf16>(chain(), fused(chain()), |_| true, half::bf16::from_f64);
}

#[test]
fn an_observer_stands_beside_the_loops_unless_it_looks_at_the_update() {
    for reads in [Reads::GRADIENT_AND_PARAMETER_ALONE, Reads::GRADIENT_AND_PARAMETER] {
        let chain = || (Clip, Witness { reads }, Averaged { decay: 0.0 });
        let other = super::Fused::new(chain()).with(super::loops::<(Clip, Averaged), _>());
        check::<f32, f32>(chain(), other, |_| !reads.update, |x| x as f32);
    }
}

#[test]
fn a_fused_chain_without_a_writer_or_in_the_wrong_order_is_refused_like_any_other() {
    let parameters = || [("w", &[2][..])];
    let without = Optimizer::new(fused((Clip, Clip2)), parameters());
    let behind = Optimizer::new(fused((Averaged { decay: 0.0 }, Clip)), parameters());
    let before = Optimizer::new(fused((Agreeing, Averaged { decay: 0.0 })), parameters());
    for refused in [without, behind, before] {
        assert!(matches!(refused, Err(Error::InvalidChain { .. })), "{refused:?}");
    }
}
