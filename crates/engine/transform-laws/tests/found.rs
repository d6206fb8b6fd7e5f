//! Every law can be broken: transforms that break one each, and rows that say what isn't so.

use std::sync::atomic::{AtomicU64, Ordering};

use gradient_transform::prelude::author::*;
use gradient_transform::{
    Descent, Estimate, Estimator, Link, Real, Role, StepContext, TensorInfo, Tile, rescale,
};
use transform_laws::{Joins, Law, Laws, Permutation, Row, Scale, Training, Zero, check, formula, row};

/// A function of an element's update.
#[derive(Debug)]
struct Elementwise(fn(f64) -> f64);

impl<T: Real> Link<T> for Elementwise {
    fn name(&self) -> &str {
        "elementwise"
    }

    fn emit(&self, _cx: &Context<'_>, tile: &mut Tile<'_, '_, T>) {
        tile.update.map(|u| T::of((self.0)(u.f64())));
    }
}

/// A factor that depends on a value that a transform must not read.
#[derive(Debug)]
struct Factor {
    name: String,
    seen: AtomicU64,
    of: fn(&AtomicU64) -> f64,
}

impl Factor {
    fn new(of: fn(&AtomicU64) -> f64) -> Self {
        Self { name: "factor".to_owned(), seen: AtomicU64::new(0), of }
    }
}

impl<T: Real> Link<T> for Factor {
    fn name(&self) -> &str {
        &self.name
    }

    fn role(&self, _tensor: &TensorInfo) -> Role {
        Role::Map
    }

    fn emit(&self, _cx: &Context<'_>, tile: &mut Tile<'_, '_, T>) {
        let factor = T::of((self.of)(&self.seen));
        tile.update.map(|u| factor * u);
    }
}

/// One that forgets what it is called.
fn of_many_names() -> Factor {
    static MADE: AtomicU64 = AtomicU64::new(0);
    Factor { name: format!("factor-{}", MADE.fetch_add(1, Ordering::Relaxed)), ..Factor::new(|_| 2.0) }
}

fn breaks(row: &Row, laws: &[Law]) {
    for law in laws {
        assert_eq!(law.check(row).map_err(|broken| broken.law), Err(*law), "{}", row.name);
    }
}

/// A row of a transform before descent, whose formula is a function of elements.
macro_rules! of {
    ($transform:expr, $laws:expr, $formula:expr) => {
        row!(row {
            transform: $transform,
            after: [Descent::default()],
            laws: $laws,
            formula: |problem, lr| formula::descent(problem, lr, 0.0, || {
                formula::elementwise(|_, u, _, []| $formula(u))
            }),
        })
    };
}

fn halved(u: f64) -> f64 {
    u / 2.0
}

#[test]
fn half_of_the_gradient_keeps_all_laws() {
    let laws = Laws { training: Training::at(2.0), ..Laws::default() };
    assert_eq!(check(&of!(Elementwise(halved), laws, halved)), Ok(()));
}

#[test]
fn one_with_a_direction_of_its_own_is_neither_odd_nor_linear_nor_still() {
    let row = of!(Elementwise(|u| u + 1.0), Laws::default(), |u| u + 1.0);
    breaks(&row, &[Law::Odd, Law::Scale, Law::Zero]);
}

#[test]
fn one_that_makes_nan_of_zero_is_found() {
    breaks(&of!(Elementwise(|u| u / u.abs()), Laws::default(), formula::sign), &[Law::Zero]);
}

/// `u <- min(1, |y|/(50 |u|)) u`, which is not a number where both norms are 0.
#[derive(Clone, Debug)]
struct Capped;

#[fields]
struct Norms<V> {
    parameter: V,
    update: V,
}

#[fields]
struct Cap<V> {
    factor: V,
}

#[transform("capped")]
impl GradientTransform for Capped {
    type Sums<V: Copy> = Norms<V>;
    type Scalars<V: Copy> = Cap<V>;

    fn measure<B: Backend>(&self, e: &Element<B, Self>) -> Norms<Num<B>> {
        Norms { parameter: e.parameter.abs(), update: e.update.abs() }
    }

    fn finalize(&self, _cx: &Context<'_>, sums: Norms<f64>, scalars: &mut Cap<f64>) {
        scalars.factor = (0.02 * sums.parameter / sums.update).clamp(0.0, 1.0);
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.update = e.scalars.factor * e.update;
    }
}

#[test]
fn a_quotient_of_norms_that_is_nan_for_weights_of_zero_is_found() {
    let broken = how(&of!(Capped, Laws::default(), |u| u), Law::Zero);
    assert!(broken.contains("not finite"), "{broken}");
}

#[test]
fn another_formula_is_found() {
    breaks(&of!(Elementwise(halved), Laws::default(), |u| 0.5001 * u), &[Law::Formula]);
}

#[test]
fn one_that_loses_digits_in_float32_is_found() {
    #[derive(Debug)]
    struct Lossy;
    impl<T: Real> Link<T> for Lossy {
        fn name(&self) -> &str {
            "lossy"
        }
        fn emit(&self, _cx: &Context<'_>, tile: &mut Tile<'_, '_, T>) {
            tile.update.map(|u| (u / T::of(3.0) + T::of(1024.0)) - T::of(1024.0));
        }
    }
    breaks(&of!(Lossy, Laws::default(), |u| u / 3.0), &[Law::Float32]);
}

#[test]
fn one_that_changes_nothing_is_found() {
    breaks(&of!(Elementwise(|u| u), Laws::default(), |u| u), &[Law::None]);
}

#[test]
fn one_that_climbs_does_not_train() {
    breaks(&of!(Elementwise(|u| -u), Laws::default(), |u: f64| -u), &[Law::Training]);
}

/// An average that is debiased by a number of steps.
#[derive(Clone, Debug)]
struct Debiased {
    /// Whether that counts what the tensor has had before the average was there.
    by_the_tensor: bool,
    /// Whether the average follows d.
    follows: bool,
}

#[fields]
struct Average<V> {
    m: V,
}

#[fields]
struct Weights<V> {
    old: V,
    new: V,
}

#[transform("debiased")]
impl GradientTransform for Debiased {
    type State<V: Copy> = Average<V>;
    type Scalars<V: Copy> = Weights<V>;

    fn begin(&self, cx: &Context<'_>, scalars: &mut Weights<f64>) {
        let t = (cx.tensor.updates + 1) as f64;
        let old = |t: f64| 0.75 * (1.0 - 0.75_f64.powf(t - 1.0)) / (1.0 - 0.75_f64.powf(t));
        let Estimate { d, d_prev, .. } = cx.step.estimate;
        let new = 0.25 / (1.0 - 0.75_f64.powf(t));
        (scalars.old, scalars.new) = match (self.by_the_tensor, cx.fill) {
            (false, true) => (0.0, 1.0),
            _ => (old(t), new),
        };
        if self.follows {
            scalars.old *= d_prev / d;
        }
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.state.m = e.scalars.old * e.state.m + e.scalars.new * e.update;
        e.update = e.state.m;
    }
}

fn how(row: &Row, law: Law) -> String {
    law.check(row).unwrap_err().how
}

#[test]
fn one_that_counts_steps_in_which_it_was_not_there_is_found() {
    let laws = Laws { joins: Joins::AsInTheLongRun, ..Laws::default() };
    let right = of!(Debiased { by_the_tensor: false, follows: true }, laws, |u| u);
    assert_eq!(Law::Late.check(&right), Ok(()));
    assert_eq!(Law::Estimate.check(&right), Ok(()));
    let wrong = of!(Debiased { by_the_tensor: true, follows: true }, laws, |u| u);
    assert_eq!(how(&wrong, Law::Late), "the row has `joins: AsInTheLongRun`, and `joins: Otherwise` fits");
}

#[test]
fn an_average_that_ignores_d_is_found() {
    let wrong = of!(Debiased { by_the_tensor: false, follows: false }, Laws::default(), |u| u);
    assert_eq!(how(&wrong, Law::Estimate), "the row has `follows_d: true`, and `follows_d: false` fits");
}

#[test]
fn rows_that_say_what_is_not_so_are_found() {
    let said = |laws| of!(Elementwise(halved), laws, halved);
    let laws = Laws::default();
    breaks(&said(Laws { scale: Scale::Invariant, ..laws }), &[Law::Scale]);
    breaks(&said(Laws { odd: false, ..laws }), &[Law::Odd]);
    breaks(&said(Laws { permutation: Permutation::Changes, ..laws }), &[Law::Permutation]);
    for zero in [Zero::Averages, Zero::Moves, Zero::MovesOn, Zero::Rebounds] {
        breaks(&said(Laws { zero, ..laws }), &[Law::Zero]);
        let how = how(&said(Laws { zero, ..laws }), Law::Zero);
        assert!(how.ends_with("; `zero: StandsStill` fits"), "{how}");
    }
    for joins in [Joins::AsInTheLongRun, Joins::Otherwise] {
        breaks(&said(Laws { joins, ..laws }), &[Law::Late]);
    }
    breaks(&said(Laws { follows_d: false, ..laws }), &[Law::Estimate]);
    let how_of_scale = how(&said(Laws { scale: Scale::Invariant, ..laws }), Law::Scale);
    assert!(how_of_scale.starts_with("`scale: Linear` fits: "), "{how_of_scale}");
}

#[test]
fn a_sum_whose_row_says_that_order_does_not_matter_is_found() {
    let clip = |permutation| {
        row!(clip {
            transform: rescale!("clip", |u| u * u, |sum, n| (0.5 / (sum / n).sqrt()).min(1.0)),
            after: [Descent::default()],
            laws: Laws { permutation, ..Laws::default() },
            formula: |problem, lr| formula::descent(problem, lr, 0.0, formula::gradient),
        })
    };
    let how = how(&clip(Permutation::Exact), Law::Permutation);
    assert!(how.starts_with("`permutation: Within("), "{how}");
    assert_eq!(Law::Permutation.check(&clip(Permutation::Within(1e-6))), Ok(()));
}

/// An estimator that counts steps, if it is eager also those at learning rate 0.
#[derive(Debug)]
struct Counting {
    eager: bool,
}

impl<T: Real> Link<T> for Counting {
    fn name(&self) -> &str {
        "counting"
    }

    fn role(&self, _tensor: &TensorInfo) -> Role {
        Role::Observer
    }

    fn estimator(&self) -> Option<&dyn Estimator> {
        Some(self)
    }
}

impl Estimator for Counting {
    fn initial(&self) -> Estimate {
        Estimate::new(1.0)
    }

    fn learns(&self, step: &StepContext) -> bool {
        step.informs_estimate || self.eager
    }

    fn contribution(&self, _cx: &Context<'_>, _scalar_sums: &[f64]) -> [f64; 2] {
        [0.0, 1.0]
    }

    fn conclude(&self, _step: &StepContext, [_, count]: [f64; 2], estimate: &mut Estimate) {
        estimate.denominator += count;
    }
}

#[test]
fn an_estimate_that_moves_at_learning_rate_0_is_found() {
    let right = of!(Counting { eager: false }, Laws::default(), |u| u);
    assert_eq!(Law::Frozen.check(&right), Ok(()));
    let wrong = of!(Counting { eager: true }, Laws::default(), |u| u);
    assert!(how(&wrong, Law::Frozen).ends_with("goes from [1.0, 0.0, 0.0] to [1.0, 0.0, 6.0]"));
}

#[test]
fn state_that_is_not_in_the_snapshot_is_found() {
    let row =
        of!(Factor::new(|seen| 1.0 + seen.fetch_add(1, Ordering::Relaxed) as f64), Laws::default(), |u| u);
    breaks(&row, &[Law::BytesInFloat32, Law::BytesInBfloat16, Law::BytesInFloat64]);
}

#[test]
fn one_that_depends_on_the_order_of_calls_is_found() {
    let row = of!(
        Factor::new(|seen| (1 + seen.fetch_add(1, Ordering::Relaxed) % 7) as f64),
        Laws::default(),
        |u| u
    );
    breaks(&row, &[Law::OneByOneInFloat32, Law::OneByOneInBfloat16]);
    // And on the number of sweeps, which an identity makes more.
    breaks(&row, &[Law::Identity]);
}

#[test]
fn one_whose_name_changes_may_occur_twice_and_is_found() {
    breaks(&of!(of_many_names(), Laws::default(), |u| u), &[Law::Once]);
}

#[test]
fn every_law_has_a_test_in_the_macro() {
    let macros = include_str!("../src/macros.rs");
    for law in Law::ALL {
        assert!(macros.contains(&format!("assert_holds($crate::Law::{law:?});")), "{law:?}: {law}");
    }
}
