use gradient_transform::{
    Backend, Context, DType, ElementOf, Error, Moment, MomentElement, MomentScale, Num, Result, fields,
    transform,
};
use serde::{Deserialize, Serialize};

use crate::division::{Division, FORMULAS, divide};

/// The full second moment: `v <- beta2 r^2 v + (1 - beta2) g^2`, `u = g / (sqrt(v) + eps)`, with `r = d_prev/d`
/// (1 without an estimator); or another [`MomentScale`].
///
/// There is no bias correction unless [`crate::Rectify`] is in the chain, so the first update is `1/sqrt(1 - beta2)` times
/// the sign of the gradient. Only a moment that joins a tensor that was trained without it starts with the
/// square of that first gradient as it is, because d has grown by then and the step would be ten times too
/// long.
///
/// A map: no cut in the chain. Keeps one value per element, in the parameter's type.
///
/// ```
/// use factored_moment::DenseMoment;
/// use gradient_transform::{Descent, Optimizer, Parameter};
/// let mut optimizer: Optimizer<f64> = Optimizer::new_in((DenseMoment::new(0.99), Descent::default()), [("w", &[2][..])])?;
/// let mut w = [1.0_f64, 1.0];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[3.0, -0.5]))])?;
/// assert!((w[0] + 9.0).abs() < 1e-5 && (w[1] - 11.0).abs() < 1e-5); // a step of 10 against the gradient's sign
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DenseMoment {
    /// Decay of the moment, in [0, 1).
    pub beta2: f64,
    /// How the update is divided by the moment's root.
    pub division: Division,
    /// How the moment follows d. Default: rescaled.
    pub scale: MomentScale,
    /// The quantity that is squared. Default: the update.
    pub of: Squared,
    /// Reference 2.0.1, with [`MomentScale::Weighted`]: the state is of d g, and is read as if it were of g.
    pub reads_weighted: bool,
    /// Reference 1.9.2: a bfloat16 moment is rounded to the nearest twice a step, after the decay and after the
    /// addition. Otherwise once, as parameters are.
    pub round_twice: bool,
}

impl Default for DenseMoment {
    fn default() -> Self {
        Self::new(0.99)
    }
}

impl DenseMoment {
    /// A second moment with the default division.
    pub fn new(beta2: f64) -> Self {
        Self {
            beta2,
            division: Division::default(),
            scale: MomentScale::Rescaled,
            of: Squared::Update,
            reads_weighted: false,
            round_twice: false,
        }
    }
}

/// The quantity that a second moment averages the square of.
///
/// ```
/// use factored_moment::{DenseMoment, Squared};
/// use gradient_transform::{Descent, Optimizer, map};
///
/// // Adam's order: after a first moment, the average is divided, and the gradient is squared.
/// let first = map!("half", |u| 0.5 * u);
/// let second = DenseMoment { of: Squared::Gradient, ..DenseMoment::new(0.99) };
/// let optimizer = Optimizer::new((first, second, Descent::default()), [("w", [2])])?;
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Squared {
    /// The update from the transforms before this one.
    #[default]
    Update,
    /// The raw gradient: for a second moment after a first one, which is then divided.
    Gradient,
}

impl Squared {
    #[inline(always)]
    pub(crate) fn of<B: Backend, S, K, A>(self, e: &ElementOf<B, S, K, A>) -> Num<B> {
        match self {
            Self::Update => e.update,
            Self::Gradient => e.gradient,
        }
    }
}

pub(crate) fn check_beta2(beta2: f64) -> Result<()> {
    Error::check("beta2", beta2, (0.0..1.0).contains(&beta2), "at least 0 and below 1")
}

/// State of an element.
///
/// ```
/// use factored_moment::{FactoredMoment, Second};
/// use gradient_transform::{Column, DType, Moment, TensorInfo};
///
/// let tensor = |shape| TensorInfo { name: "w".into(), shape, dtype: DType::F32, updates: 0 };
/// let moment = FactoredMoment::new(0.99);
/// assert_eq!(Moment::columns(&moment, &tensor(vec![64])), Second { v: Column::ZEROS });
/// assert_eq!(Moment::columns(&moment, &tensor(vec![64, 48])), Second { v: Column::ABSENT }); // factored
/// ```
#[fields]
pub struct Second<V> {
    /// The second moment.
    pub v: V,
}

/// Numbers of a tensor and step.
///
/// ```
/// use factored_moment::{DenseMoment, Weights};
/// use gradient_transform::{Context, DType, Fields, Moment, StepContext, TensorInfo};
///
/// let tensor = TensorInfo { name: "w".into(), shape: vec![2], dtype: DType::F32, updates: 0 };
/// let step = StepContext::new(1, 0.5);
/// let cx = Context::new(&step, &tensor);
/// let mut weights = Weights::from_fn(|_| 0.0);
/// Moment::begin(&DenseMoment::new(0.75), &cx, &mut weights);
/// assert_eq!((weights.decay, weights.weight, weights.division), (0.75, 0.25, 1e-8));
/// ```
#[fields]
pub struct Weights<V> {
    /// Weight of the old moment.
    pub decay: V,
    /// Weight of the squared gradient.
    pub weight: V,
    /// eps, or atan2's b.
    pub division: V,
    /// Factor of the arctangent.
    pub outer: V,
    /// Factor of the moment's root when it is read.
    pub read: V,
    /// 1 where the roots of a factored moment are inverted.
    pub inverted: V,
}

/// Variants of a formula that round to bfloat16 between operations.
const ROUNDING: u32 = FORMULAS;

#[transform]
impl Moment for DenseMoment {
    type State<V: Copy> = Second<V>;
    type Scalars<V: Copy> = Weights<V>;

    fn name(&self) -> &str {
        self.scale.name("dense-moment", "weighted-dense-moment")
    }

    fn validate(&self) -> Result<()> {
        check_beta2(self.beta2)?;
        self.division.validate()
    }

    fn begin(&self, cx: &Context<'_>, scalars: &mut Weights<f64>) {
        *scalars = weights(cx, self.beta2, self.reading(), self.division);
    }

    fn variant(&self, cx: &Context<'_>, _scalars: &Weights<f64>) -> u32 {
        let rounds = self.round_twice && cx.tensor.dtype == DType::Bf16;
        self.division.formula(cx.step) + if rounds { ROUNDING } else { 0 }
    }

    fn variants(&self) -> u32 {
        2 * ROUNDING
    }

    fn accumulate<B: Backend>(&self, e: &mut MomentElement<B, Self>) {
        e.state.v = next(e.state.v, self.of.of(e), &e.scalars, e.variant >= ROUNDING);
    }

    fn divide<B: Backend>(&self, e: &mut MomentElement<B, Self>) {
        let root = self.reading().root(e.state.v, e.scalars.read);
        e.update = divide(e.variant % ROUNDING, e.update, root, e.scalars.division, e.scalars.outer);
    }
}

/// How a moment follows d, and whether reading ignores that.
#[derive(Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) scale: MomentScale,
    pub(crate) reads_weighted: bool,
}

impl Reading {
    /// The root of a moment, as the divisor.
    #[inline(always)]
    pub(crate) fn root<B: Backend>(self, v: Num<B>, read: Num<B>) -> Num<B> {
        if self.scale == MomentScale::Weighted { v.sqrt() * read } else { v.sqrt() }
    }

    /// Factors of the moment's root and of eps.
    pub(crate) fn factors(self, cx: &Context<'_>) -> (f64, f64) {
        let unit = self.scale.unit(cx);
        if self.reads_weighted { (1.0, unit) } else { (1.0 / unit, 1.0) }
    }
}

impl DenseMoment {
    #[inline(always)]
    fn reading(&self) -> Reading {
        Reading { scale: self.scale, reads_weighted: self.reads_weighted }
    }
}

/// The numbers of a step.
pub(crate) fn weights(cx: &Context<'_>, beta2: f64, reading: Reading, division: Division) -> Weights<f64> {
    let (decay, weight) = reading.scale.second_moment_weights(cx, beta2);
    let (read, of_eps) = reading.factors(cx);
    let (division, outer) = division.numbers(cx, of_eps);
    Weights { decay, weight, division, outer, read, inverted: 0.0 }
}

/// The next second moment of an element.
#[inline(always)]
pub(crate) fn next<B: Backend>(v: Num<B>, g: Num<B>, weights: &Weights<Num<B>>, rounds: bool) -> Num<B> {
    let (kept, entering) = (v * weights.decay, weights.weight * (g * g));
    if rounds { (kept.round_bf16() + entering).round_bf16() } else { kept + entering }
}
