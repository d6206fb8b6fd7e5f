#![doc = include_str!("../README.md")]

use gradient_transform::{
    Backend, Context, DType, Error, Moment, MomentElement, MomentScale, Num, Rectification, Result, fields,
    transform,
};
use serde::{Deserialize, Serialize};

/// Sign descent that is attracted to the average of the weights; replaces a second moment.
///
/// ```text
/// m <- beta2 r^2 m + (1 - beta2) y
/// u = sign(g) + gamma sign(y - m)
/// ```
///
/// with `r = d_prev/d` (1 without an estimator), or another [`MomentScale`]; [`MomentScale::Fixed`] is the paper's.
///
/// Liu et al., 2501.12243. There the first sign is of the gradient's moving average, and the average of the
/// weights is debiased; here, as in the reference, it starts at 0 and shrinks when d moves, so that at first
/// the attraction pushes every weight towards 0. In a tensor that was trained without it, the average starts
/// at the weights.
///
/// Stands in the place of a second moment; excludes second moments and atan2. A map. Keeps one value per
/// element.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Focus {
    /// Decay of the average of the weights, in [0, 1).
    pub beta2: f64,
    /// Strength of the attraction, at least 0. Default 0.1.
    pub gamma: f64,
    /// How the average follows d. Default: rescaled.
    pub scale: MomentScale,
    /// The weights that are averaged, and attracted to their average. Default: the parameter.
    pub of: Weight,
    /// Reference 2.0.1, with [`MomentScale::Weighted`]: the average of `d^2 y` is read as if it were of y, so it is near 0 and
    /// every weight is drawn to 0.
    pub reads_weighted: bool,
    /// Reference 1.9.2: a bfloat16 average is rounded to the nearest twice a step. Otherwise once, as parameters are.
    pub round_twice: bool,
}

impl Default for Focus {
    fn default() -> Self {
        Self::new(0.99)
    }
}

impl Focus {
    /// FOCUS with the default attraction.
    pub fn new(beta2: f64) -> Self {
        Self {
            beta2,
            gamma: 0.1,
            scale: MomentScale::Rescaled,
            of: Weight::Parameter,
            reads_weighted: false,
            round_twice: false,
        }
    }
}

/// The weights that FOCUS averages.
///
/// ```
/// use focus::{Focus, Weight};
///
/// let focus = Focus { of: Weight::Base, ..Focus::new(0.99) };
/// assert_eq!(serde_json::to_string(&focus.of).unwrap(), "\"base\"");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// The parameter y, where gradients are taken.
    #[default]
    Parameter,
    /// The writer's base iterate: Schedule-Free's z.
    Base,
}

const ONE_PRECONDITIONER: &str = "both turn the gradient into a direction; keep one";

/// State of an element.
///
/// ```
/// use focus::Average;
/// use gradient_transform::Fields;
///
/// assert_eq!(<Average<f64> as Fields<f64>>::NAMES, ["average"]); // `focus/average` in checkpoints
/// ```
#[fields]
pub struct Average<V> {
    /// The average of the weight.
    pub average: V,
}

/// Numbers of a step.
///
/// ```
/// use focus::{Focus, Weights};
/// use gradient_transform::{Context, DType, Moment, StepContext, TensorInfo};
///
/// let tensor = TensorInfo { name: "w".into(), shape: vec![2], dtype: DType::F32, updates: 0 };
/// let step = StepContext::new(1, 0.5);
/// let cx = Context::new(&step, &tensor);
/// let mut weights = Weights { decay: 0.0, weight: 0.0, read: 0.0 };
/// Moment::begin(&Focus::new(0.75), &cx, &mut weights);
/// assert_eq!((weights.decay, weights.weight, weights.read), (0.75, 0.25, 1.0));
/// ```
#[fields]
pub struct Weights<V> {
    /// Weight of the old average.
    pub decay: V,
    /// Weight of the parameter.
    pub weight: V,
    /// Factor of the average when it is read.
    pub read: V,
}

impl Focus {
    #[inline(always)]
    fn weight_of<B: Backend>(&self, e: &MomentElement<B, Self>) -> Num<B> {
        match self.of {
            Weight::Parameter => e.parameter,
            Weight::Base => e.base,
        }
    }
}

/// Variants: bits.
const UNDIVIDED: u32 = 1;
const ROUNDING: u32 = 2;

#[transform]
impl Moment for Focus {
    type State<V: Copy> = Average<V>;
    type Scalars<V: Copy> = Weights<V>;

    fn name(&self) -> &str {
        self.scale.name("focus", "weighted-focus")
    }

    fn validate(&self) -> Result<()> {
        Error::check("beta2", self.beta2, (0.0..1.0).contains(&self.beta2), "at least 0 and below 1")?;
        Error::check(
            "gamma",
            self.gamma,
            self.gamma.is_finite() && self.gamma >= 0.0,
            "finite and at least 0",
        )
    }

    fn excludes(&self) -> &[(&'static str, &'static str)] {
        &[
            ("factored-moment", ONE_PRECONDITIONER),
            ("weighted-factored-moment", ONE_PRECONDITIONER),
            ("dense-moment", ONE_PRECONDITIONER),
            ("weighted-dense-moment", ONE_PRECONDITIONER),
            ("muon", ONE_PRECONDITIONER),
        ]
    }

    fn begin(&self, cx: &Context<'_>, scalars: &mut Weights<f64>) {
        (scalars.decay, scalars.weight) = self.scale.second_moment_weights(cx, self.beta2);
        let unit = if self.reads_weighted { 1.0 } else { self.scale.unit(cx) };
        scalars.read = 1.0 / (unit * unit);
    }

    fn variant(&self, cx: &Context<'_>, _scalars: &Weights<f64>) -> u32 {
        let undivided =
            if cx.step.published::<Rectification>().is_some_and(|r| !r.tractable) { UNDIVIDED } else { 0 };
        undivided | if self.round_twice && cx.tensor.dtype == DType::Bf16 { ROUNDING } else { 0 }
    }

    fn variants(&self) -> u32 {
        4
    }

    fn accumulate<B: Backend>(&self, e: &mut MomentElement<B, Self>) {
        let (y, Weights { decay, weight, .. }) = (self.weight_of(e), e.scalars);
        let kept = e.state.average * decay;
        // One rounding for the product and the sum: while a weight does not move, the sign of y - m is that
        // of the // rounding errors, and this makes them as small as possible.
        e.state.average = if e.variant & ROUNDING != 0 {
            y.mul_add(weight, kept.round_bf16()).round_bf16()
        } else {
            y.mul_add(weight, kept)
        };
    }

    fn divide<B: Backend>(&self, e: &mut MomentElement<B, Self>) {
        if e.variant & UNDIVIDED == 0 {
            let away = self.weight_of(e) - e.state.average * e.scalars.read;
            e.update = e.update.sign() + self.gamma * away.sign();
        }
    }
}
