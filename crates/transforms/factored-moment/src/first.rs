use gradient_transform::{
    Backend, Context, DType, Element, Error, GradientTransform, MomentScale, Num, Result, fields, transform,
};
use serde::{Deserialize, Serialize};

/// The first moment: a moving average of the updates.
///
/// ```text
/// m <- beta1 (d_prev/d) m + (1 - beta1) u,   u <- m      rescaled
/// m <- beta1 m + (1 - beta1) d u,            u <- m/d    weighted
/// m <- beta1 m + (1 - beta1) u,              u <- m      fixed
/// ```
///
/// Adam's (Kingma and Ba, 1412.6980, Algorithm 1) in the form of Prodigy (2306.06101, Algorithm 4), without bias correction. Belongs at the
/// head of a chain, before a second moment of the raw gradient ([`Squared::Gradient`](crate::Squared::Gradient)); or after one that
/// has divided already, as in ADOPT, and is [fixed](MomentScale::Fixed) then. Keeps one value per element, in the parameter's type.
///
/// Schedule-Free needs none, because its average replaces the first moment. `elementary::Ema` has bias
/// correction, but no `scale`.
///
/// ```
/// use factored_moment::{DenseMoment, FirstMoment, Squared};
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// // Adam without bias correction.
/// let second = DenseMoment { of: Squared::Gradient, ..DenseMoment::new(0.75) };
/// let chain = (FirstMoment::new(0.5), second, Descent::default());
/// let mut optimizer: Optimizer<f64> = Optimizer::new_in(chain, [("w", [1])])?;
/// let mut w = [0.0_f64];
/// for expected in [-1.0, -1.0 - 1.5 / 1.75_f64.sqrt()] {
///     optimizer.step(&mut [Parameter::slice(&mut w, Some(&[2.0]))])?;
///     assert!((w[0] - expected).abs() < 1e-6);
/// }
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FirstMoment {
    /// Decay of the moment, in [0, 1).
    pub beta1: f64,
    /// How the moment follows d. Default: rescaled.
    pub scale: MomentScale,
    /// Reference 2.0.1, with [`MomentScale::Weighted`]: the state is of d g, and is read as if it were of g.
    pub reads_weighted: bool,
    /// Reference 2.0.1 with Cautious: the update is the moment times the incoming update, instead of the
    /// masked moment.
    pub times_update: bool,
    /// Reference 2.0.1: a bfloat16 moment is rounded to the nearest twice a step. Otherwise once, as parameters are.
    pub round_twice: bool,
}

impl Default for FirstMoment {
    fn default() -> Self {
        Self::new(0.9)
    }
}

impl FirstMoment {
    /// A first moment that is rescaled as d moves.
    pub fn new(beta1: f64) -> Self {
        Self {
            beta1,
            scale: MomentScale::Rescaled,
            reads_weighted: false,
            times_update: false,
            round_twice: false,
        }
    }
}

/// State of an element.
///
/// ```
/// use factored_moment::First;
/// use gradient_transform::Fields;
///
/// assert_eq!(<First<f64> as Fields<f64>>::NAMES, ["m"]); // `first-moment/m` in checkpoints
/// ```
#[fields]
pub struct First<V> {
    /// The first moment.
    pub m: V,
}

/// Numbers of a tensor and step.
///
/// ```
/// use factored_moment::{FirstMoment, FirstWeights};
/// use gradient_transform::{Context, DType, Fields, GradientTransform, StepContext, TensorInfo};
///
/// let tensor = TensorInfo { name: "w".into(), shape: vec![2], dtype: DType::F32, updates: 0 };
/// let step = StepContext::new(1, 0.5);
/// let mut weights = FirstWeights::from_fn(|_| 0.0);
/// FirstMoment::new(0.75).begin(&Context::new(&step, &tensor), &mut weights);
/// assert_eq!((weights.old, weights.new, weights.read), (0.75, 0.25, 1.0));
/// ```
#[fields]
pub struct FirstWeights<V> {
    /// Weight of the old moment.
    pub old: V,
    /// Weight of the update.
    pub new: V,
    /// Factor of the moment when it is read.
    pub read: V,
}

#[transform]
impl GradientTransform for FirstMoment {
    type State<V: Copy> = First<V>;
    type Scalars<V: Copy> = FirstWeights<V>;

    fn name(&self) -> &str {
        self.scale.name("first-moment", "weighted-first-moment")
    }

    fn validate(&self) -> Result<()> {
        Error::check("beta1", self.beta1, (0.0..1.0).contains(&self.beta1), "at least 0 and below 1")
    }

    fn begin(&self, cx: &Context<'_>, scalars: &mut FirstWeights<f64>) {
        let (old, new) = self.scale.first_moment_weights(cx, self.beta1);
        let unit = if self.reads_weighted { 1.0 } else { self.scale.unit(cx) };
        *scalars = FirstWeights { old, new, read: 1.0 / unit };
    }

    fn variant(&self, cx: &Context<'_>, _scalars: &FirstWeights<f64>) -> u32 {
        u32::from(self.round_twice && cx.tensor.dtype == DType::Bf16)
    }

    fn variants(&self) -> u32 {
        2
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        let u = e.update;
        e.state.m = next(e.state.m, u, &e.scalars, e.variant == ROUNDING);
        e.update = e.state.m * if self.times_update { e.scalars.read * u } else { e.scalars.read };
    }
}

const ROUNDING: u32 = 1;

#[inline(always)]
fn next<B: Backend>(m: Num<B>, u: Num<B>, weights: &FirstWeights<Num<B>>, rounds: bool) -> Num<B> {
    let (kept, entering) = (m * weights.old, weights.new * u);
    if rounds { (kept.round_bf16() + entering).round_bf16() } else { kept + entering }
}
