use gradient_transform::{
    Backend, Context, DType, Error, Moment, MomentElement, Num, Result, fields, transform,
};

use crate::division::{Division, FORMULAS, divide};

/// The full second moment: `v <- beta2 r^2 v + (1 - beta2) g^2`, `u = g / (sqrt(v) + eps)`, with `r = d_prev/d`
/// (1 without an estimator).
///
/// There is no bias correction unless [`crate::Rectify`] is in the chain, so the first update is `1/sqrt(1 - beta2)` times
/// the sign of the gradient. Only a moment that joins a tensor that was trained without it takes that first gradient's square as it
/// is: d has grown by then, and the step would be ten times too long.
///
/// A map: no cut in the chain. Keeps one value per element, in the parameter's type.
///
/// ```
/// use factored_moment::DenseMoment;
/// use gradient_transform::{Descent, Optimizer, Parameter};
/// let mut optimizer: Optimizer<f64> = Optimizer::new((DenseMoment::new(0.99), Descent::default()), [("w", &[2][..])])?;
/// let mut w = [1.0_f64, 1.0];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[3.0, -0.5]))])?;
/// assert!((w[0] + 9.0).abs() < 1e-5 && (w[1] - 11.0).abs() < 1e-5); // a step of 10 against the gradient's sign
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DenseMoment {
    /// Decay of the moment, in [0, 1).
    pub beta2: f64,
    /// How the update is divided by the moment's root.
    pub division: Division,
    /// Reference 1.9.2: a bfloat16 moment is rounded to the nearest twice a step, after the decay and after the
    /// addition. Otherwise once, as parameters are.
    pub round_twice: bool,
}

impl DenseMoment {
    /// A second moment with the default division.
    pub fn new(beta2: f64) -> Self {
        Self { beta2, division: Division::default(), round_twice: false }
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
    /// Of what the moment was.
    pub decay: V,
    /// Of the squared gradient.
    pub weight: V,
    /// eps, or atan2's b.
    pub division: V,
    /// 1 where the roots of a factored moment are inverted.
    pub inverted: V,
}

/// Variants of a formula that round to bfloat16 between operations.
const ROUNDING: u32 = FORMULAS;

#[transform("dense-moment")]
impl Moment for DenseMoment {
    type State<V: Copy> = Second<V>;
    type Scalars<V: Copy> = Weights<V>;

    fn validate(&self) -> Result<()> {
        check_beta2(self.beta2)?;
        self.division.validate()
    }

    fn begin(&self, cx: &Context<'_>, scalars: &mut Weights<f64>) {
        *scalars = weights(cx, self.beta2, self.division);
    }

    fn variant(&self, cx: &Context<'_>, _scalars: &Weights<f64>) -> u32 {
        let rounds = self.round_twice && cx.tensor.dtype == DType::Bf16;
        self.division.formula(cx.step) + if rounds { ROUNDING } else { 0 }
    }

    fn variants(&self) -> u32 {
        2 * ROUNDING
    }

    fn accumulate<B: Backend>(&self, e: &mut MomentElement<B, Self>) {
        e.state.v = next(e.state.v, e.update, &e.scalars, e.variant >= ROUNDING);
    }

    fn divide<B: Backend>(&self, e: &mut MomentElement<B, Self>) {
        e.update = divide(e.variant % ROUNDING, e.update, e.state.v.sqrt(), e.scalars.division);
    }
}

/// The numbers of a step.
pub(crate) fn weights(cx: &Context<'_>, beta2: f64, division: Division) -> Weights<f64> {
    let (decay, weight) = cx.second_moment_weights(beta2);
    Weights { decay, weight, division: division.number(cx), inverted: 0.0 }
}

/// The next second moment of an element.
#[inline(always)]
pub(crate) fn next<B: Backend>(v: Num<B>, g: Num<B>, weights: &Weights<Num<B>>, rounds: bool) -> Num<B> {
    let (kept, entering) = (v * weights.decay, weights.weight * (g * g));
    if rounds { (kept.round_bf16() + entering).round_bf16() } else { kept + entering }
}
